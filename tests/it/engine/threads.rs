//! On real threads and in real time: limits hold whatever the interleaving. Each test ends by itself in well under two seconds.

use crate::support::{LimitSpec, PartSpec, RealClock, RequestSpec, class, policy, rate, seed, slots};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use tollgate::engine::{Clock, Engine, LimitId, Nanos, Outcome, Policy, Stage};

const THREADS: usize = 8;
const SECOND_NS: u64 = 1_000_000_000;

fn engine() -> Arc<Engine> {
    Arc::new(Engine::new(seed(), usize::MAX))
}

/// What one or more threads saw of a bucket.
#[derive(Clone, Copy, Debug)]
struct Seen {
    admitted: u64,
    first_ns: u64,
    last_ns: u64,
}

impl Seen {
    const NOTHING: Seen = Seen { admitted: 0, first_ns: u64::MAX, last_ns: 0 };

    fn and(self, other: Seen) -> Seen {
        Seen {
            admitted: self.admitted + other.admitted,
            first_ns: self.first_ns.min(other.first_ns),
            last_ns: self.last_ns.max(other.last_ns),
        }
    }

    /// Never more than `rate * time + burst`, and at least three quarters of it.
    fn check(&self, per_second: u64, burst: u64) {
        let elapsed_ns = self.last_ns - self.first_ns;
        let most = burst + per_second * elapsed_ns / SECOND_NS;
        assert!(self.admitted <= most, "{self:?}: more than {most}");
        assert!(self.admitted >= most * 3 / 4, "{self:?}: far less than {most}");
    }
}

/// Hammers one bucket for `length_ns`, counting from outside what is admitted.
fn hammer(engine: &Arc<Engine>, policy: impl Fn() -> Arc<Policy>, clock: RealClock, length_ns: u64) -> Seen {
    let class = class(&RequestSpec::of("acct_1"));
    let mut seen = Seen::NOTHING;
    let until_ns = clock.now().0 + length_ns;
    loop {
        let now = clock.now();
        if now.0 >= until_ns {
            return seen;
        }
        let admitted = engine.walk(&policy(), &class, now, &mut ()).is_ok();
        seen = seen.and(Seen { admitted: u64::from(admitted), first_ns: now.0, last_ns: now.0 });
    }
}

#[test]
fn eight_threads_on_one_bucket_never_admit_more_than_it_says() {
    let (engine, clock, start) = (engine(), RealClock::start(), Barrier::new(THREADS));
    let policy = Arc::new(policy(&[LimitSpec::new("rate", Stage::GlobalRate, rate(20_000, 2_000))]));
    let seen = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    hammer(&engine, || Arc::clone(&policy), clock, SECOND_NS / 2)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).fold(Seen::NOTHING, Seen::and)
    });
    seen.check(20_000, 2_000);
}

#[test]
fn concurrency_never_exceeds_its_figure() {
    const SLOTS: u32 = 5;
    let engine = engine();
    let policy = policy(&[LimitSpec::new("slots", Stage::GlobalConcurrency, slots(SLOTS))]);
    let class = class(&RequestSpec::of("acct_1"));
    let (inside, high_water, admitted) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let Ok(mut hold) = engine.walk(&policy, &class, Nanos::ZERO, &mut ()) else { continue };
                    hold.commit();
                    admitted.fetch_add(1, SeqCst);
                    high_water.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                    thread::yield_now();
                    inside.fetch_sub(1, SeqCst);
                    drop(hold);
                }
            });
        }
    });
    assert!(high_water.into_inner() <= SLOTS);
    assert!(admitted.into_inner() >= 5_000, "slots come back");
    assert_eq!(engine.census(&policy)[&LimitId(0)].in_flight, 0);
}

#[test]
fn a_refused_request_costs_nothing_under_contention() {
    const BURST: u64 = 100_000;
    const COMMITTED: u64 = 300;
    let mut closed = LimitSpec::new("closed", Stage::EndpointConcurrency, slots(0));
    closed.when.endpoints = Some(vec!["payouts.create"]);
    let (engine, policy) = (
        engine(),
        policy(&[
            LimitSpec::new("global", Stage::GlobalRate, rate(1, BURST)),
            LimitSpec::new("in-flight", Stage::GlobalConcurrency, slots(1_000)),
            closed,
        ]),
    );
    let open = class(&RequestSpec::of("acct_1"));
    let refused = class(&RequestSpec { endpoint: "payouts.create", ..RequestSpec::of("acct_1") });
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for round in 0..5_000 {
                    let rejection = engine.walk(&policy, &refused, Nanos::ZERO, &mut ()).unwrap_err();
                    assert_eq!(rejection.limit, LimitId(2));
                    if round < COMMITTED {
                        engine.walk(&policy, &open, Nanos::ZERO, &mut ()).unwrap().commit();
                    }
                }
            });
        }
    });
    let left = BURST - THREADS as u64 * COMMITTED;
    let outcome = engine.peek(&policy, LimitId(0), &open, Nanos::ZERO);
    assert_eq!(outcome, Outcome::Admitted { remaining: left - 1 });
    assert_eq!(engine.census(&policy)[&LimitId(1)].in_flight, 0);
}

/// A reload that changes another limit, and a sweep, both as fast as they can.
#[test]
fn sweeps_and_reloads_loosen_nothing() {
    let (engine, clock, done) = (engine(), RealClock::start(), AtomicBool::new(false));
    let unchanged = LimitSpec::new("unchanged", Stage::GlobalRate, rate(20_000, 2_000));
    let policies: Vec<Arc<Policy>> = [rate(1_000_000, 900_000), rate(2_000_000, 900_000)]
        .map(|figures| {
            let mut changed = LimitSpec::new("changed", Stage::EndpointRate, figures);
            changed.per = vec![PartSpec::Account, PartSpec::Endpoint];
            Arc::new(policy(&[unchanged.clone(), changed]))
        })
        .into();
    let (current, reloads, sweeps) = (Mutex::new(Arc::clone(&policies[0])), AtomicU64::new(0), AtomicU64::new(0));
    let seen = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(SeqCst) {
                let turn = usize::try_from(reloads.fetch_add(1, SeqCst)).unwrap();
                *current.lock().unwrap() = Arc::clone(&policies[turn % policies.len()]);
                thread::yield_now();
            }
        });
        scope.spawn(|| {
            while !done.load(SeqCst) {
                engine.sweep(clock.now());
                sweeps.fetch_add(1, SeqCst);
            }
        });
        let hammers: Vec<_> = (0..THREADS - 2)
            .map(|_| scope.spawn(|| hammer(&engine, || Arc::clone(&current.lock().unwrap()), clock, SECOND_NS / 2)))
            .collect();
        let seen = hammers.into_iter().map(|thread| thread.join().unwrap()).fold(Seen::NOTHING, Seen::and);
        done.store(true, SeqCst);
        seen
    });
    seen.check(20_000, 2_000);
    assert!(reloads.into_inner() > 1);
    assert!(sweeps.into_inner() > 1);
}

/// Row 111 of the catalogue of hostile inputs. At one moment nothing refills, so the count is exact.
#[test]
fn sixty_four_threads_on_one_bucket_admit_its_burst() {
    const CROWD: usize = 64;
    let (engine, start) = (engine(), Barrier::new(CROWD));
    let policy = policy(&[LimitSpec::new("rate", Stage::GlobalRate, rate(1, 1_000))]);
    let class = class(&RequestSpec::of("acct_1"));
    let admitted: usize = thread::scope(|scope| {
        let one = || {
            start.wait();
            let tries = (0..100).filter_map(|_| engine.walk(&policy, &class, Nanos::ZERO, &mut ()).ok());
            tries.map(|mut hold| hold.commit()).count()
        };
        let threads: Vec<_> = (0..CROWD).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(admitted, 1_000);
}
