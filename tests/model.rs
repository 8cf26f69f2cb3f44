//! Model checks: every interleaving of the engine's atomic operations and of the object locks, by loom.
//!
//! `cargo test --release --features model-check --test model`. The map's locks are not loom's, so each model makes its cells
//! before its threads start: then threads only ever read the map, and nothing but the atomics is left to interleave.

#[cfg(test)]
mod tests {
    use loom::thread;
    use std::sync::Arc;
    use std::time::Duration;
    use tollgate::engine::class::MAX_VALUES;
    use tollgate::engine::{
        Access, Concurrency, Condition, EndpointClass, EndpointId, Enforce, Engine, Gcra, Hold, Id, Limit, LimitId,
        Limiter, Mode, Nanos, Outcome, Part, Payers, Policy, ProfileId, Rejection, RequestClass, RouteId, Seed, Stage,
    };

    const NOW: Nanos = Nanos(1_000_000_000);
    const SEED: Seed = Seed([1, 2]);
    const RATE: LimitId = LimitId(0);

    /// One token comes back an hour: what is spent stays spent.
    fn rate(burst: u64) -> Limiter {
        Limiter::Gcra(Gcra::new(1, Duration::from_secs(3_600), burst))
    }

    fn slots(slots: u32) -> Limiter {
        Limiter::Concurrency(Concurrency { slots })
    }

    /// An engine whose cells exist, and its policy.
    struct Gate {
        engine: Arc<Engine>,
        policy: Policy,
    }

    impl Gate {
        /// One account's limits. Those in `closed` apply to the endpoint 1 only.
        fn new(limits: &[(Stage, Limiter)], closed: Option<Limiter>) -> Arc<Gate> {
            let limit = |number: usize, stage, limiter, endpoints| Limit {
                name: number.to_string().into(),
                stage,
                limiter,
                when: Condition { endpoints, ..Condition::default() },
                except: None,
                fallback: false,
                per: [Part::Account].into(),
                enforce: Enforce::Always,
                candidate: None,
                shared: None,
            };
            let mut all: Vec<Limit> =
                limits.iter().zip(0..).map(|(&(stage, limiter), number)| limit(number, stage, limiter, None)).collect();
            let only = Some([EndpointId(1)].into());
            all.extend(closed.map(|limiter| limit(9, Stage::Resource, limiter, only)));
            let endpoints = ["open", "closed"]
                .map(|name| EndpointClass { name: name.into(), cost: 1, extractors: [].into() })
                .into();
            let policy = Policy::new(&SEED, all, endpoints, Vec::new());
            let gate = Arc::new(Gate { engine: Arc::new(Engine::new(SEED, usize::MAX)), policy });
            // Makes the cells; everything goes back.
            gate.request(0).unwrap().cancel(NOW);
            gate
        }

        fn request(&self, endpoint: u32) -> Result<Hold, Rejection> {
            self.engine.walk(&self.policy, &class(endpoint), NOW, &mut ())
        }

        /// Tokens of the first limit, or slots, that are left.
        fn left(&self, limit: LimitId) -> u64 {
            match self.engine.peek(&self.policy, limit, &class(0), NOW) {
                Outcome::Admitted { remaining } => remaining + 1,
                Outcome::Rejected { .. } => 0,
            }
        }
    }

    fn class(endpoint: u32) -> RequestClass {
        RequestClass {
            mode: Mode::Live,
            access: Access::Write,
            endpoint: EndpointId(endpoint),
            route: RouteId(0),
            profile: ProfileId::BASE,
            cost: 1,
            account: Id([3, 4]),
            connected: Id::NONE,
            key: Id::NONE,
            ip: Id::NONE,
            values: [Id::NONE; MAX_VALUES],
            facts: 0,
            payers: Payers::Account,
            lot: 0,
        }
    }

    /// Runs `other` on a thread of its own beside `one`; answers what both say.
    fn beside<T: Send + 'static>(
        gate: &Arc<Gate>,
        one: impl FnOnce(&Gate) -> T,
        other: impl FnOnce(&Gate) -> T + Send + 'static,
    ) -> [T; 2] {
        let theirs = Arc::clone(gate);
        let thread = thread::spawn(move || other(&theirs));
        let mine = one(gate);
        [mine, thread.join().unwrap()]
    }

    fn spend(gate: &Gate) -> bool {
        gate.request(0).map(|mut hold| hold.commit()).is_ok()
    }

    #[test]
    fn the_last_token_goes_to_exactly_one() {
        loom::model(|| {
            let gate = Gate::new(&[(Stage::GlobalRate, rate(1))], None);
            let admitted = beside(&gate, spend, spend);
            assert_eq!(admitted.iter().filter(|&&admitted| admitted).count(), 1);
            assert_eq!(gate.left(RATE), 0);
        });
    }

    #[test]
    fn a_refund_beside_a_draw_loses_and_makes_nothing() {
        loom::model(|| {
            let gate = Gate::new(&[(Stage::GlobalRate, rate(2))], None);
            let mut given_up = gate.request(0).unwrap();
            let admitted = beside(
                &gate,
                |gate| {
                    given_up.cancel(NOW);
                    spend(gate)
                },
                spend,
            );
            assert_eq!(admitted, [true, true], "one token was left, and one came back before it was asked for");
            assert_eq!(gate.left(RATE), 0);
        });
    }

    #[test]
    fn a_slot_is_one_request_s_at_a_time() {
        loom::model(|| {
            let gate = Gate::new(&[(Stage::GlobalConcurrency, slots(1))], None);
            let inside = Arc::new(loom::sync::atomic::AtomicU32::new(0));
            let enter = |inside: &loom::sync::atomic::AtomicU32, gate: &Gate| {
                use loom::sync::atomic::Ordering::SeqCst;
                let Ok(mut hold) = gate.request(0) else { return false };
                hold.commit();
                assert_eq!(inside.fetch_add(1, SeqCst), 0, "nobody else is inside");
                inside.fetch_sub(1, SeqCst);
                drop(hold);
                true
            };
            let theirs = Arc::clone(&inside);
            let admitted = beside(&gate, |gate| enter(&inside, gate), move |gate| enter(&theirs, gate));
            assert!(admitted.contains(&true));
            assert_eq!(gate.left(LimitId(0)), 1);
        });
    }

    #[test]
    fn a_slot_comes_back_once_beside_a_take() {
        loom::model(|| {
            let gate = Gate::new(&[(Stage::GlobalConcurrency, slots(2))], None);
            let first = gate.request(0).unwrap();
            let theirs = Arc::clone(&gate);
            let thread = thread::spawn(move || theirs.request(0).is_ok());
            drop(first);
            assert!(thread.join().unwrap(), "one slot was free all along");
            assert_eq!(gate.left(LimitId(0)), 2);
        });
    }

    /// The refused one may take the token for a moment; then the other is refused too (the sharp edge in the engine's
    /// description). In the end only what was committed is spent.
    #[test]
    fn a_refused_request_beside_another_stage_costs_nothing() {
        loom::model(|| {
            let limits = [(Stage::GlobalRate, rate(2)), (Stage::GlobalConcurrency, slots(2))];
            let gate = Gate::new(&limits, Some(slots(0)));
            let [refused, admitted] = beside(&gate, |gate| gate.request(1).is_ok(), spend);
            assert!(!refused);
            assert!(admitted, "there was room for both");
            assert_eq!(gate.left(RATE), 1);
            assert_eq!(gate.left(LimitId(1)), 2);
        });
    }

    #[test]
    fn committed_tokens_stay_spent_while_slots_come_back() {
        loom::model(|| {
            let limits = [(Stage::GlobalRate, rate(3)), (Stage::GlobalConcurrency, slots(1))];
            let gate = Gate::new(&limits, None);
            let admitted = beside(&gate, spend, spend);
            let spent = admitted.iter().filter(|&&admitted| admitted).count() as u64;
            assert!(spent >= 1);
            assert_eq!(gate.left(RATE), 3 - spent, "who found no slot has its token back");
            assert_eq!(gate.left(LimitId(1)), 1);
        });
    }

    mod locks {
        use super::SEED;
        use loom::sync::atomic::{AtomicU32, Ordering::SeqCst};
        use loom::sync::{Condvar, Mutex};
        use loom::thread;
        use std::future::Future;
        use std::pin::pin;
        use std::sync::Arc;
        use std::task::{Context, Poll, Wake, Waker};
        use tollgate::engine::{Id, Mode};
        use tollgate::locks::{Bounds, Lock, LockKey, Locks, Taking, Wait};

        const ROOM: Bounds = Bounds { queue_max: 8, waiters_max: 8 };

        fn key() -> LockKey {
            LockKey::new(&SEED, Id([1, 1]), Mode::Live, [Id::NONE; 2], [])
        }

        fn table() -> Arc<Locks> {
            Arc::new(Locks::with_shards(1))
        }

        fn take(locks: &Arc<Locks>) -> Taking {
            locks.take(key(), ROOM).unwrap()
        }

        fn held(locks: &Arc<Locks>) -> Lock {
            let Taking::Taken(lock) = take(locks) else { panic!("it is free") };
            lock
        }

        fn queued(locks: &Arc<Locks>) -> Wait {
            let Taking::Queued(wait) = take(locks) else { panic!("it is held") };
            wait
        }

        /// A waker made of loom's parts: a wake-up that is lost is a deadlock, which loom tells. (Its `park` does not keep every
        /// `unpark` that comes before it.)
        struct Bell(Mutex<bool>, Condvar);

        impl Wake for Bell {
            fn wake(self: Arc<Self>) {
                *self.0.lock().unwrap() = true;
                self.1.notify_one();
            }
        }

        fn wait_for(wait: Wait) -> Lock {
            let bell = Arc::new(Bell(Mutex::new(false), Condvar::new()));
            let waker = Waker::from(Arc::clone(&bell));
            let mut wait = pin!(wait);
            loop {
                if let Poll::Ready(lock) = wait.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return lock;
                }
                let mut rung = bell.0.lock().unwrap();
                while !*rung {
                    rung = bell.1.wait(rung).unwrap();
                }
                *rung = false;
            }
        }

        /// Looks once, as a request does that is about to give up.
        fn look(wait: &mut Wait) -> Option<Lock> {
            match std::pin::Pin::new(wait).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(lock) => Some(lock),
                Poll::Pending => None,
            }
        }

        fn assert_empty(locks: &Arc<Locks>) {
            assert_eq!((locks.held(), locks.waiters()), (0, 0));
        }

        #[test]
        fn one_is_inside_at_a_time() {
            loom::model(|| {
                let (locks, inside) = (table(), Arc::new(AtomicU32::new(0)));
                let enter = |locks: &Arc<Locks>, inside: &AtomicU32| {
                    let lock = match take(locks) {
                        Taking::Taken(lock) => lock,
                        Taking::Queued(wait) => wait_for(wait),
                    };
                    assert_eq!(inside.fetch_add(1, SeqCst), 0, "nobody else is inside");
                    inside.fetch_sub(1, SeqCst);
                    drop(lock);
                };
                let theirs = (Arc::clone(&locks), Arc::clone(&inside));
                let thread = thread::spawn(move || enter(&theirs.0, &theirs.1));
                enter(&locks, &inside);
                thread.join().unwrap();
                assert_empty(&locks);
            });
        }

        #[test]
        fn a_lock_that_is_freed_reaches_who_waits() {
            loom::model(|| {
                let locks = table();
                let lock = held(&locks);
                let wait = queued(&locks);
                let thread = thread::spawn(move || drop(wait_for(wait)));
                drop(lock);
                thread.join().unwrap();
                assert_empty(&locks);
            });
        }

        /// The time-out's case: it looks, sees nothing, and leaves while the lock is freed.
        #[test]
        fn a_lock_handed_to_one_who_leaves_is_free() {
            loom::model(|| {
                let locks = table();
                let lock = held(&locks);
                let mut wait = queued(&locks);
                let thread = thread::spawn(move || drop(look(&mut wait)));
                drop(lock);
                thread.join().unwrap();
                assert_empty(&locks);
                drop(held(&locks));
            });
        }

        #[test]
        fn a_lock_handed_to_one_who_leaves_reaches_the_next() {
            loom::model(|| {
                let locks = table();
                let lock = held(&locks);
                let mut leaving = queued(&locks);
                let staying = queued(&locks);
                let leaver = thread::spawn(move || drop(look(&mut leaving)));
                let stayer = thread::spawn(move || drop(wait_for(staying)));
                drop(lock);
                leaver.join().unwrap();
                stayer.join().unwrap();
                assert_empty(&locks);
            });
        }

        #[test]
        fn two_who_leave_and_one_who_comes() {
            loom::model(|| {
                let locks = table();
                let lock = held(&locks);
                let (first, second) = (queued(&locks), queued(&locks));
                let leaver = thread::spawn(move || drop(first));
                let theirs = Arc::clone(&locks);
                let comer = thread::spawn(move || match take(&theirs) {
                    Taking::Taken(lock) => drop(lock),
                    Taking::Queued(wait) => drop(wait_for(wait)),
                });
                drop(second);
                drop(lock);
                leaver.join().unwrap();
                comer.join().unwrap();
                assert_empty(&locks);
            });
        }
    }
}
