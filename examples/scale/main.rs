//! What it takes to hold one limit over many gateways: `cargo run --release --example scale` prints the tables of `docs/scale.md`.
//!
//! The gateways are the engine itself, each with leases of its own, on virtual time; the store is the bucket of the scripts in a few
//! lines. First one account at a time: accounts share nothing, so what one costs at a given traffic is what each such account costs.
//! Then whole populations, by adding up accounts whose traffic falls off as 1/rank.

#![expect(clippy::print_stdout, reason = "the tables are what it is for")]

mod account;
mod population;
mod store;

use account::{Outcome, Scene};

/// Gateways that are looked at.
const GATEWAYS: [u32; 4] = [10, 100, 1_000, 10_000];

fn main() {
    println!("## One account with 100/s and a burst of 100\n");
    println!(
        "| gateways | offered/s | admitted of due | calls/s | calls/request | waited | stranded, most | beyond rate x t + burst |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|");
    for gateways in GATEWAYS {
        for offered in [1.0, 10.0, 50.0, 100.0, 300.0] {
            let scene = Scene { gateways, offered, rate: 100, burst: 100, seconds: 20, skew: false };
            row(&scene, &scene.play());
        }
    }
    println!("\n## Nine tenths of it at one gateway\n");
    println!(
        "| gateways | offered/s | admitted of due | calls/s | calls/request | waited | stranded, most | beyond rate x t + burst |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|");
    for (gateways, rate) in [(8, 100), (8, 25), (8, 1), (16, 1), (100, 100)] {
        let offered = f64::from(rate) * 3.0;
        let scene = Scene { gateways, offered, rate, burst: rate.into(), seconds: 60, skew: true };
        row(&scene, &scene.play());
    }
    population::print(&GATEWAYS);
}

fn row(scene: &Scene, outcome: &Outcome) {
    println!(
        "| {} | {} | {:.1} % | {:.1} | {:.3} | {:.1} % | {:.0} | {:.0} |",
        scene.gateways,
        scene.offered,
        outcome.admitted as f64 / outcome.due as f64 * 100.0,
        outcome.calls as f64 / f64::from(scene.seconds),
        outcome.calls as f64 / outcome.requests as f64,
        outcome.waited as f64 / outcome.requests as f64 * 100.0,
        outcome.stranded,
        outcome.beyond,
    );
}
