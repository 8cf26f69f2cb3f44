//! What object locks cost: time, allocations, memory. `cargo bench --bench locks` prints a table; dated runs are kept in
//! `benches/runs`. Without `--bench` (as `cargo test --all-targets` calls it) it does a small round only, so that it cannot rot.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tollgate::engine::{Id, Mode, Seed};
use tollgate::locks::{Bounds, Lock, LockKey, Locks, Taking, Wait};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SEED: Seed = Seed([0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03]);
const BOUNDS: Bounds = Bounds { queue_max: 64, waiters_max: 10_000 };
const CONTENDED: u64 = 10_000;

fn main() {
    let measure = std::env::args().any(|argument| argument == "--bench");
    let (rounds, each) = if measure { (201, 20_000) } else { (3, 1_000) };
    println!("{:<52} {:>12} {:>12} {:>10}", "", "median", "best", "target");
    uncontended(rounds, each);
    handed_over(rounds, each);
    contended();
}

fn key(object: u64) -> LockKey {
    LockKey::new(&SEED, Id([1, 1]), Mode::Live, [Id([2, 2]), Id::NONE], [Id([object, !object])])
}

fn uncontended(rounds: usize, each: u64) {
    for objects in [1, 100_000] {
        let locks = Arc::new(Locks::default());
        let mut next = 0_u64;
        let mut go = |each: u64| {
            for _ in 0..each {
                next = (next + 1) % objects;
                drop(black_box(take(&locks, key(next))));
            }
        };
        go(each);
        let region = Region::new(ALLOCATOR);
        let times = (0..rounds).map(|_| per_one(each, || go(each))).collect();
        let allocations = region.change().allocations + region.change().reallocations;
        row(&format!("key, take, free; {objects} objects"), &nanoseconds(times), "");
        // The list of times is one of them.
        row("  allocations in all of them", &[allocations.saturating_sub(1).to_string(), String::new()], "0");
    }
    let other = key(u64::MAX);
    let times =
        (0..rounds).map(|_| per_one(each, || (0..each).for_each(|object| assert_ne!(black_box(key(object)), other))));
    row("  of which the key", &nanoseconds(times.collect()), "");
}

/// One holds, one comes, the first goes, the second has it.
fn handed_over(rounds: usize, each: u64) {
    let locks = Arc::new(Locks::default());
    let mut holder = Some(take(&locks, key(1)));
    let mut go = |each: u64| {
        for _ in 0..each {
            let mut wait = queue(&locks, key(1));
            assert!(poll(&mut wait).is_none());
            holder = None;
            holder = poll(&mut wait);
            assert!(holder.is_some(), "its turn");
        }
    };
    go(each);
    let times = (0..rounds).map(|_| per_one(each, || go(each))).collect();
    row("queue, free, wake, take over", &nanoseconds(times), "");
}

fn contended() {
    let locks = Arc::new(Locks::default());
    let mut held: Vec<Lock> = Vec::with_capacity(CONTENDED as usize);
    let mut waiting: Vec<Wait> = Vec::with_capacity(CONTENDED as usize);
    let region = Region::new(ALLOCATOR);
    let live = || region.change().bytes_allocated as i64 - region.change().bytes_deallocated as i64;
    held.extend((0..CONTENDED).map(|object| take(&locks, key(object))));
    let entries = live();
    row("bytes a held lock", &[per_lock(entries), String::new()], "");
    waiting.extend((0..CONTENDED).map(|object| queue(&locks, key(object))));
    waiting.iter_mut().for_each(|wait| assert!(poll(wait).is_none()));
    row("bytes more where one waits for it", &[per_lock(live() - entries), String::new()], "");
    drop(waiting);
    drop(held);
    assert_eq!((locks.held(), locks.waiters()), (0, 0));
    row("bytes left when all are gone", &[format!("{} B", live()), String::new()], "");
}

fn per_lock(bytes: i64) -> String {
    format!("{:.1} B", bytes as f64 / CONTENDED as f64)
}

fn take(locks: &Arc<Locks>, key: LockKey) -> Lock {
    match locks.take(key, BOUNDS) {
        Ok(Taking::Taken(lock)) => lock,
        _ => unreachable!("nobody holds it"),
    }
}

fn queue(locks: &Arc<Locks>, key: LockKey) -> Wait {
    match locks.take(key, BOUNDS) {
        Ok(Taking::Queued(wait)) => wait,
        _ => unreachable!("somebody holds it, and few wait"),
    }
}

fn poll(wait: &mut Wait) -> Option<Lock> {
    match Pin::new(wait).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(lock) => Some(lock),
        Poll::Pending => None,
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn per_one(each: u64, work: impl FnOnce()) -> f64 {
    timed(work).as_nanos() as f64 / each as f64
}

fn nanoseconds(mut rounds: Vec<f64>) -> [String; 2] {
    rounds.sort_by(f64::total_cmp);
    let middle = rounds.get(rounds.len() / 2).copied().unwrap_or_default();
    let best = rounds.first().copied().unwrap_or_default();
    [middle, best].map(|figure| format!("{figure:.0} ns"))
}

fn row(name: &str, [median, best]: &[String; 2], target: &str) {
    println!("{name:<52} {median:>12} {best:>12} {target:>10}");
}
