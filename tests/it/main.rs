//! The one integration test binary: everything below is linked once. `support` holds what the modules share.

#[cfg(test)]
mod admin;
#[cfg(test)]
mod architecture;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod gateway;
#[cfg(test)]
mod hardening;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod material;
#[cfg(test)]
mod process;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod shared;
#[cfg(test)]
mod state;
#[cfg(test)]
mod support;
