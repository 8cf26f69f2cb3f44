//! What one decision costs: time, allocations, memory. `cargo bench --bench decide` prints a table; dated runs are kept in
//! `benches/runs`. Without `--bench` (as `cargo test --all-targets` calls it) it does a small round only, so that it cannot rot.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tollgate::engine::class::MAX_VALUES;
use tollgate::engine::{
    Access, Concurrency, Condition, EndpointClass, EndpointId, Enforce, Engine, Gcra, Hold, Id, Limit, Limiter, Mode,
    Nanos, Part, Payers, Policy, ProfileId, RequestClass, RouteId, Seed, SlidingWindow, Stage,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SEED: Seed = Seed([0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03]);
/// Mean time between two requests of a round.
const STEP_NS: u64 = 1_000;

/// How much to do. Rounds are short, so that some of them meet no other process.
struct Scale {
    accounts: u64,
    rounds: usize,
    decisions: u64,
}

fn main() {
    let measure = std::env::args().any(|argument| argument == "--bench");
    let scale = match measure {
        true => Scale { accounts: 1_000_000, rounds: 201, decisions: 20_000 },
        false => Scale { accounts: 1_000, rounds: 3, decisions: 1_000 },
    };
    println!("{:<52} {:>12} {:>12} {:>10}", "", "median", "best", "target");
    decisions(&scale);
    partitions(&scale);
    windows(&scale);
}

/// A whole decision, at one account and at many.
fn decisions(scale: &Scale) {
    for limits in [0, 1, 5] {
        let policy = policy(limits);
        for accounts in [1, scale.accounts] {
            let engine = Arc::new(Engine::new(SEED, usize::MAX));
            let mut traffic = Traffic::new(accounts);
            for account in 0..accounts {
                decide(&engine, &policy, &class(account), traffic.now);
            }
            let rounds = (0..scale.rounds).map(|_| round(&engine, &policy, &mut traffic, scale.decisions)).collect();
            let target = match (limits, accounts) {
                (5, 1) => "< 400 ns",
                (5, _) => "< 1000 ns",
                _ => "",
            };
            let name = format!("decision, {limits} limits, {accounts} accounts");
            row(&name, &nanoseconds(rounds), target);
            if limits == 5 {
                allocations(&engine, &policy, &mut traffic, scale.decisions);
            }
        }
    }
}

/// Nanoseconds a decision, over one round.
fn round(engine: &Arc<Engine>, policy: &Policy, traffic: &mut Traffic, decisions: u64) -> f64 {
    let took = timed(|| {
        for _ in 0..decisions {
            traffic.go_on();
            assert!(decide(engine, policy, &traffic.class, traffic.now), "the figures admit all");
        }
    });
    took.as_nanos() as f64 / decisions as f64
}

fn allocations(engine: &Arc<Engine>, policy: &Policy, traffic: &mut Traffic, decisions: u64) {
    let region = Region::new(ALLOCATOR);
    for _ in 0..decisions {
        traffic.go_on();
        decide(engine, policy, &traffic.class, traffic.now);
    }
    let change = region.change();
    let count = change.allocations + change.reallocations;
    row(&format!("  allocations in {decisions} of them"), &[count.to_string(), String::new()], "0");
}

/// Memory and the sweep, with partitions of one limit.
fn partitions(scale: &Scale) {
    let policy = policy(1);
    let engine = Arc::new(Engine::new(SEED, usize::MAX));
    let region = Region::new(ALLOCATOR);
    let live = || region.change().bytes_allocated as i64 - region.change().bytes_deallocated as i64;
    let made = timed(|| {
        for account in 0..scale.accounts {
            decide(&engine, &policy, &class(account), Nanos::ZERO);
        }
    });
    assert_eq!(engine.partitions() as u64, scale.accounts);
    let bytes = live() as f64 / scale.accounts as f64;
    row(&format!("bytes a partition, at {}", scale.accounts), &[format!("{bytes:.1} B"), String::new()], "<= 100 B");
    row("making them", &[format!("{:.0} ms", made.as_secs_f64() * 1e3), String::new()], "");

    let nothing = timed(|| assert_eq!(engine.sweep(Nanos::ZERO), 0));
    row("sweep that forgets none", &[format!("{:.1} ms", nothing.as_secs_f64() * 1e3), String::new()], "");
    let later = Nanos(3_600_000_000_000);
    let all = timed(|| assert_eq!(engine.sweep(later) as u64, scale.accounts));
    row("sweep that forgets all", &[format!("{:.1} ms", all.as_secs_f64() * 1e3), String::new()], "");
    assert_eq!(engine.partitions(), 0);
    row("bytes left", &[format!("{} B", live()), String::new()], "");
}

/// Memory of sliding windows that all count something, as a preset's `1000/h` does, by the allocator and by the machine.
fn windows(scale: &Scale) {
    let policy = compiled([(Stage::GlobalRate, Limiter::SlidingWindow(SlidingWindow::new(1_000, HOUR)))]);
    let engine = Arc::new(Engine::new(SEED, usize::MAX));
    let (region, resident) = (Region::new(ALLOCATOR), resident_bytes());
    let megabytes = |bytes: i64| [format!("{:.0} MB", bytes as f64 / 1e6), String::new()];
    let mut now = Nanos::ZERO;
    for spent in 0..3 {
        let spending = timed(|| {
            for account in 0..scale.accounts {
                assert!(decide(&engine, &policy, &class(account), now));
            }
        });
        let each = spending.as_secs_f64() * 1e9 / scale.accounts as f64;
        row(&format!("spending from windows, time {}", spent + 1), &[format!("{each:.0} ns"), String::new()], "");
        now = Nanos(now.0 + 600_000_000_000);
    }
    assert_eq!(engine.partitions() as u64, scale.accounts);
    let live = region.change().bytes_allocated as i64 - region.change().bytes_deallocated as i64;
    row(&format!("{} windows, allocated", scale.accounts), &megabytes(live), "< 250 MB");
    row("the same, resident", &megabytes(resident_bytes() - resident), "< 250 MB");
}

const HOUR: Duration = Duration::from_secs(3_600);

/// Memory of this process that lies in the machine's, 0 where the kernel does not tell.
fn resident_bytes() -> i64 {
    const PAGE_BYTES: i64 = 4_096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<i64>().ok()).unwrap_or(0) * PAGE_BYTES
}

/// What the gateway does with a request that is forwarded.
fn decide(engine: &Arc<Engine>, policy: &Policy, class: &RequestClass, now: Nanos) -> bool {
    let mut hold = Hold::new(Arc::clone(engine));
    for stage in Stage::ALL {
        if engine.stage(policy, stage, black_box(class), now, &mut hold, &mut ()).is_err() {
            return false;
        }
    }
    hold.commit();
    drop(black_box(hold));
    true
}

/// Requests of accounts in random order.
struct Traffic {
    accounts: u64,
    random: u64,
    now: Nanos,
    class: RequestClass,
}

impl Traffic {
    fn new(accounts: u64) -> Traffic {
        Traffic { accounts, random: 1, now: Nanos::ZERO, class: class(0) }
    }

    fn go_on(&mut self) {
        self.random = mixed(self.random);
        self.now = self.now.saturating_add(STEP_NS);
        self.class.account = account(self.random % self.accounts);
    }
}

/// The step of the SplitMix64 generator (Steele, Lea and Flood, 2014).
fn mixed(number: u64) -> u64 {
    let step = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let step = (step ^ (step >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let step = (step ^ (step >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    step ^ (step >> 31)
}

fn account(number: u64) -> Id {
    Id([mixed(number), mixed(!number)])
}

fn class(number: u64) -> RequestClass {
    RequestClass {
        mode: Mode::Live,
        access: Access::Write,
        endpoint: EndpointId(300),
        route: RouteId(0),
        profile: ProfileId::BASE,
        cost: 1,
        account: account(number),
        connected: Id::NONE,
        key: Id([1, 1]),
        ip: Id([2, 2]),
        values: [Id::NONE; MAX_VALUES],
        facts: 0,
        payers: Payers::Account,
        lot: 0,
    }
}

/// One limit a stage, as the `stripe` preset has them, over 600 endpoints.
fn policy(limits: usize) -> Policy {
    // Never refuses: a token a microsecond for each account.
    let rate = Limiter::Gcra(Gcra::new(1_000_000, Duration::from_secs(1), 1_000_000));
    let slots = Limiter::Concurrency(Concurrency { slots: 100 });
    let limiters = [rate, slots, rate, slots, rate];
    compiled(Stage::ALL.into_iter().zip(limiters).take(limits))
}

/// Limits that apply to every live request.
fn compiled(limits: impl IntoIterator<Item = (Stage, Limiter)>) -> Policy {
    let all = limits.into_iter().map(|(stage, limiter)| Limit {
        name: stage.reason().into(),
        stage,
        limiter,
        when: Condition { mode: Some(Mode::Live), ..Condition::default() },
        except: None,
        fallback: false,
        per: match stage {
            Stage::GlobalRate | Stage::GlobalConcurrency => [Part::Account].into(),
            _ => [Part::Account, Part::Endpoint].into(),
        },
        enforce: Enforce::Always,
        candidate: None,
        shared: None,
    });
    let endpoints = (0..600)
        .map(|number| EndpointClass { name: format!("endpoint-{number}").into(), cost: 1, extractors: [].into() })
        .collect();
    Policy::new(&SEED, all.collect(), endpoints, Vec::new())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn nanoseconds(mut rounds: Vec<f64>) -> [String; 2] {
    rounds.sort_by(f64::total_cmp);
    let middle = rounds.get(rounds.len() / 2).copied().unwrap_or_default();
    let best = rounds.first().copied().unwrap_or_default();
    [format!("{middle:.0} ns"), format!("{best:.0} ns")]
}

fn row(name: &str, figures: &[String; 2], target: &str) {
    println!("{name:<52} {:>12} {:>12} {target:>10}", figures[0], figures[1]);
}
