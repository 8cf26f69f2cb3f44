//! Whole populations: accounts whose traffic falls off as 1/rank, each costing what an account of its traffic costs.

use crate::account::Scene;

/// Requests a second of one gateway.
const PER_GATEWAY: f64 = 1_000.0;
/// Calls a second that one Redis shard is given here: a third of what one of these scripts was measured to do on one core.
const PER_SHARD: f64 = 20_000.0;
/// A partition's bytes in Redis, its key included.
const BYTES: f64 = 250.0;
/// Calls of one gateway that are not for limits: two boards looked at every 400 ms.
const BOARDS: f64 = 5.0;
/// Traffic at which accounts are played.
const OFFERED: [f64; 6] = [0.1, 1.0, 10.0, 50.0, 100.0, 300.0];

const ACCOUNTS: [f64; 6] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8];

pub(crate) fn print(gateways: &[u32]) {
    println!("\n## Populations: {PER_GATEWAY} requests/s a gateway, 100/s and a burst of 100 an account\n");
    println!(
        "| gateways | accounts | requests/s | calls/s leased | calls/request | calls/s exact | shards leased | shards exact | boards/s | MiB in Redis |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for &count in gateways {
        let costs = OFFERED.map(|offered| {
            let scene = Scene { gateways: count, offered, rate: 100, burst: 100, seconds: 20, skew: false };
            scene.play().calls as f64 / f64::from(scene.seconds)
        });
        for accounts in ACCOUNTS {
            row(count, accounts, &costs);
        }
    }
}

fn row(gateways: u32, accounts: f64, costs: &[f64; OFFERED.len()]) {
    let requests = f64::from(gateways) * PER_GATEWAY;
    let first = requests / (accounts.ln() + 0.577);
    // Ranks in steps of a tenth: accounts within one have much the same traffic.
    let (mut calls, mut active, mut from) = (0.0, 0.0, 1.0_f64);
    while from <= accounts {
        let to = (from * 1.1).max(from + 1.0).min(accounts + 1.0);
        let (many, offered) = (to - from, first / ((from + to - 1.0) / 2.0));
        calls += many * calls_at(offered, costs);
        // One whose bucket is not full again: it lasts a second at the most.
        active += many * (1.0 - (-offered).exp());
        from = to;
    }
    println!(
        "| {gateways} | {accounts:.0e} | {requests:.0} | {calls:.0} | {:.3} | {requests:.0} | {:.0} | {:.0} | {:.0} | {:.1} |",
        calls / requests,
        (calls / PER_SHARD).ceil(),
        (requests / PER_SHARD).ceil(),
        f64::from(gateways) * BOARDS,
        active * BYTES / 1_048_576.0,
    );
}

/// Calls a second of one account with so much traffic: between what was played, on logarithmic axes.
fn calls_at(offered: f64, costs: &[f64; OFFERED.len()]) -> f64 {
    let (Some(&least), Some(&most)) = (OFFERED.first(), OFFERED.last()) else { return 0.0 };
    if offered <= least {
        return offered * costs[0] / least;
    }
    if offered >= most {
        // A bucket that is empty lends so often and not more often.
        return costs[OFFERED.len() - 1];
    }
    let above = OFFERED.iter().position(|&played| played > offered).unwrap_or(OFFERED.len() - 1);
    let (low, high) = (OFFERED[above - 1], OFFERED[above]);
    let share = (offered / low).ln() / (high / low).ln();
    let (low, high) = (costs[above - 1].max(1e-9), costs[above].max(1e-9));
    (low.ln() + share * (high / low).ln()).exp()
}
