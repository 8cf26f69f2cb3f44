//! What Redis lends to gateways: the script against a real server, and whole gateways that share it.

mod cases;
mod ends;
mod gateways;
mod standing;
