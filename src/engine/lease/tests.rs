mod simulation;
mod single;
mod store;
