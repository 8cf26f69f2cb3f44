//! The table against a plain model, and on many threads.

use super::*;
use proptest::prelude::*;
use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Wake, Waker};

const ROOM: Bounds = Bounds { queue_max: 64, waiters_max: 10_000 };

fn key(number: u64) -> LockKey {
    LockKey(Id([number.wrapping_mul(0x9e37_79b9_7f4a_7c15), number]))
}

/// Counts how often it is woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// A waiter and its bell.
struct Waiting {
    wait: Wait,
    bell: Arc<Bell>,
    polled: bool,
}

impl Waiting {
    fn new(wait: Wait) -> Waiting {
        Waiting { wait, bell: Arc::default(), polled: false }
    }

    fn poll(&mut self) -> Option<Lock> {
        self.polled = true;
        let waker = Waker::from(Arc::clone(&self.bell));
        match Pin::new(&mut self.wait).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(lock) => Some(lock),
            Poll::Pending => None,
        }
    }
}

#[track_caller]
fn taken(taking: Result<Taking, Crowded>) -> Lock {
    match taking {
        Ok(Taking::Taken(lock)) => lock,
        other => panic!("not taken: {other:?}"),
    }
}

#[track_caller]
fn queued(taking: Result<Taking, Crowded>) -> Waiting {
    match taking {
        Ok(Taking::Queued(wait)) => Waiting::new(wait),
        other => panic!("not queued: {other:?}"),
    }
}

fn assert_empty(locks: &Locks) {
    assert_eq!((locks.held(), locks.waiters()), (0, 0));
}

#[test]
fn one_holds_and_the_rest_follow_in_order() {
    let locks = Arc::new(Locks::default());
    let first = taken(locks.take(key(1), ROOM));
    let mut rest: Vec<Waiting> = (0..5).map(|_| queued(locks.take(key(1), ROOM))).collect();
    let other = taken(locks.take(key(2), ROOM));
    assert_eq!((locks.held(), locks.waiters()), (2, 5));
    drop(other);
    let mut holder = first;
    for next in 0..rest.len() {
        assert!(rest[next..].iter_mut().all(|waiting| waiting.poll().is_none()));
        drop(holder);
        assert!(rest[next + 1..].iter_mut().all(|waiting| waiting.poll().is_none()), "nobody overtakes");
        assert_eq!(rest[next].bell.0.load(SeqCst), 1);
        holder = rest[next].poll().unwrap();
        assert!(rest[next].poll().is_none(), "never twice");
    }
    drop(holder);
    assert_empty(&locks);
}

#[test]
fn a_newcomer_does_not_overtake_one_who_has_the_lock_and_does_not_know_it() {
    let locks = Arc::new(Locks::default());
    let first = taken(locks.take(key(1), ROOM));
    let mut second = queued(locks.take(key(1), ROOM));
    drop(first);
    let mut third = queued(locks.take(key(1), ROOM));
    assert!(third.poll().is_none());
    drop(second.poll().unwrap());
    drop(third.poll().unwrap());
    assert_empty(&locks);
}

#[test]
fn who_leaves_is_forgotten_wherever_in_the_queue() {
    for leaver in 0..4 {
        let locks = Arc::new(Locks::default());
        let first = taken(locks.take(key(1), ROOM));
        let mut waiting: Vec<Waiting> = (0..4).map(|_| queued(locks.take(key(1), ROOM))).collect();
        drop(waiting.remove(leaver));
        assert_eq!(locks.waiters(), 3);
        waiting.push(queued(locks.take(key(1), ROOM)));
        drop(first);
        for mut next in waiting {
            drop(next.poll().expect("its turn"));
        }
        assert_empty(&locks);
    }
}

#[test]
fn a_lock_given_to_one_who_leaves_passes_on() {
    let locks = Arc::new(Locks::default());
    let first = taken(locks.take(key(1), ROOM));
    let [second, third] = [(); 2].map(|()| queued(locks.take(key(1), ROOM)));
    let mut fourth = queued(locks.take(key(1), ROOM));
    assert!(fourth.poll().is_none());
    drop(first);
    drop(second);
    drop(third);
    assert_eq!(fourth.bell.0.load(SeqCst), 1);
    drop(fourth.poll().unwrap());
    assert_empty(&locks);
    let fifth = taken(locks.take(key(1), ROOM));
    let sixth = queued(locks.take(key(1), ROOM));
    drop(fifth);
    drop(sixth);
    assert_empty(&locks);
}

#[test]
fn queue_and_table_have_bounds() {
    let locks = Arc::new(Locks::default());
    let bounds = Bounds { queue_max: 2, waiters_max: 3 };
    let [one, two] = [1, 2].map(|object| taken(locks.take(key(object), bounds)));
    let mut waiting: Vec<Waiting> = [1, 1, 2].map(|object| queued(locks.take(key(object), bounds))).into();
    assert_eq!(locks.take(key(1), bounds).unwrap_err(), Crowded::Queue);
    assert_eq!(locks.take(key(2), bounds).unwrap_err(), Crowded::Table);
    drop(taken(locks.take(key(3), bounds)));
    drop(waiting.pop());
    let again = queued(locks.take(key(2), bounds));
    let nobody = Bounds { queue_max: 0, ..bounds };
    assert_eq!(locks.take(key(2), nobody).unwrap_err(), Crowded::Queue);
    drop((one, two, waiting, again));
    assert_empty(&locks);
}

#[test]
fn a_panic_frees_the_lock() {
    let locks = Arc::new(Locks::default());
    let inner = Arc::clone(&locks);
    let panicked = std::thread::spawn(move || {
        let _lock = taken(inner.take(key(1), ROOM));
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    assert_empty(&locks);
}

#[test]
fn every_part_of_a_key_counts() {
    let seed = Seed([1, 2]);
    let id = |number: u64| Id([number, !number]);
    let make = |lock, mode, owner: [u64; 2], values: &[u64]| {
        LockKey::new(&seed, id(lock), mode, owner.map(id), values.iter().map(|&value| id(value)))
    };
    let keys = [
        make(1, Mode::Live, [2, 3], &[4]),
        make(1, Mode::Test, [2, 3], &[4]),
        make(5, Mode::Live, [2, 3], &[4]),
        make(1, Mode::Live, [5, 3], &[4]),
        make(1, Mode::Live, [2, 5], &[4]),
        make(1, Mode::Live, [2, 3], &[5]),
        make(1, Mode::Live, [2, 3], &[]),
        make(1, Mode::Live, [2, 3], &[4, 5]),
        make(1, Mode::Live, [2, 3], &[5, 4]),
        make(1, Mode::Live, [2, 3], &[4, 5, 6, 7]),
    ];
    for (place, one) in keys.iter().enumerate() {
        assert!(keys[..place].iter().all(|other| other != one), "{place}");
    }
    assert_eq!(keys[0], make(1, Mode::Live, [2, 3], &[4]));
}

/// What a test does to the table.
#[derive(Clone, Debug)]
enum Deed {
    Take(u64),
    /// Of those who hold, the nth.
    Free(usize),
    /// Of those who wait, the nth.
    Leave(usize),
    Poll(usize),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        4 => (0_u64..4).prop_map(Deed::Take),
        2 => any::<usize>().prop_map(Deed::Free),
        1 => any::<usize>().prop_map(Deed::Leave),
        2 => any::<usize>().prop_map(Deed::Poll),
    ];
    proptest::collection::vec(deed, 1..200)
}

/// The table as anyone would write it: for each object a line of requests, the first of which has the lock.
#[derive(Default)]
struct Model {
    lines: HashMap<u64, VecDeque<usize>>,
    /// Those in a line who have not noticed that they are the first.
    waiters: usize,
}

/// The table, what it has handed out, and the model. Requests are numbered as they come.
struct Compared {
    locks: Arc<Locks>,
    bounds: Bounds,
    model: Model,
    next: usize,
    held: Vec<(u64, usize, Lock)>,
    waiting: Vec<(u64, usize, Waiting)>,
}

impl Compared {
    fn take(&mut self, object: u64) {
        let length = self.model.lines.get(&object).map_or(0, VecDeque::len);
        // One who has the lock and has not noticed is out of the queue, but counts as a waiter of the table.
        let expected = match length {
            0 => None,
            length if length > self.bounds.queue_max as usize => Some(Crowded::Queue),
            _ if self.model.waiters >= self.bounds.waiters_max as usize => Some(Crowded::Table),
            _ => None,
        };
        let number = self.next;
        self.next += 1;
        match self.locks.take(key(object), self.bounds) {
            Err(crowded) => return assert_eq!(Some(crowded), expected),
            Ok(Taking::Taken(lock)) => {
                assert_eq!(length, 0);
                self.held.push((object, number, lock));
            }
            Ok(Taking::Queued(wait)) => {
                assert!(length > 0);
                self.model.waiters += 1;
                self.waiting.push((object, number, Waiting::new(wait)));
            }
        }
        assert_eq!(expected, None);
        self.model.lines.entry(object).or_default().push_back(number);
    }

    fn end(&mut self, object: u64, number: usize) {
        let line = self.model.lines.get_mut(&object).unwrap();
        line.retain(|&other| other != number);
        if line.is_empty() {
            self.model.lines.remove(&object);
        }
    }

    fn free(&mut self, nth: usize) {
        let (object, number, lock) = self.held.swap_remove(nth);
        assert_eq!(self.model.lines[&object].front(), Some(&number), "the holder is the first of its line");
        drop(lock);
        self.end(object, number);
    }

    fn leave(&mut self, nth: usize) {
        let (object, number, waiting) = self.waiting.swap_remove(nth);
        drop(waiting);
        self.model.waiters -= 1;
        self.end(object, number);
    }

    fn poll(&mut self, nth: usize) {
        let (object, number, waiting) = &mut self.waiting[nth];
        let (object, number) = (*object, *number);
        let is_first = self.model.lines[&object].front() == Some(&number);
        let lock = waiting.poll();
        assert_eq!(lock.is_some(), is_first);
        if let Some(lock) = lock {
            self.waiting.swap_remove(nth);
            self.model.waiters -= 1;
            self.held.push((object, number, lock));
        }
    }

    fn check(&self) {
        assert_eq!(self.locks.held(), self.model.lines.len());
        assert_eq!(self.locks.waiters() as usize, self.model.waiters);
        for (object, number, waiting) in &self.waiting {
            let is_first = self.model.lines[object].front() == Some(number);
            let woken = waiting.bell.0.load(SeqCst) > 0;
            assert!(!woken || is_first, "woken out of turn");
            assert!(!is_first || !waiting.polled || woken, "never woken");
        }
    }
}

proptest! {
    #[test]
    fn the_table_does_what_the_model_does(deeds in deeds(), queue_max in 0_u32..5, waiters_max in 0_u32..9) {
        let mut compared = Compared {
            locks: Arc::new(Locks::with_shards(2)),
            bounds: Bounds { queue_max, waiters_max },
            model: Model::default(),
            next: 0,
            held: Vec::new(),
            waiting: Vec::new(),
        };
        for deed in deeds {
            match deed {
                Deed::Take(object) => compared.take(object),
                Deed::Free(nth) if !compared.held.is_empty() => compared.free(nth % compared.held.len()),
                Deed::Leave(nth) if !compared.waiting.is_empty() => compared.leave(nth % compared.waiting.len()),
                Deed::Poll(nth) if !compared.waiting.is_empty() => compared.poll(nth % compared.waiting.len()),
                _ => {}
            }
            compared.check();
        }
        let Compared { locks, held, waiting, .. } = compared;
        drop((held, waiting));
        assert_empty(&locks);
    }
}

/// Runs a future on a thread without a runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Some wait to the end, some leave after one look, some at once.
#[test]
fn on_many_threads_one_holds_and_nothing_is_lost() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 3_000;
    const OBJECTS: usize = 3;
    let locks = Arc::new(Locks::default());
    let inside: Arc<[AtomicUsize; OBJECTS]> = Arc::default();
    let done = Arc::new(AtomicUsize::new(0));
    let work = |thread: usize| {
        let (locks, inside, done) = (Arc::clone(&locks), Arc::clone(&inside), Arc::clone(&done));
        move || {
            for round in 0..ROUNDS {
                let object = (thread + round) % OBJECTS;
                let lock = match (locks.take(key(object as u64), ROOM).unwrap(), round % 5) {
                    (Taking::Taken(lock), _) => lock,
                    (Taking::Queued(_), 0) => continue,
                    (Taking::Queued(wait), 1) => match Waiting::new(wait).poll() {
                        Some(lock) => lock,
                        None => continue,
                    },
                    (Taking::Queued(wait), _) => block_on(wait),
                };
                assert_eq!(inside[object].fetch_add(1, SeqCst), 0, "two hold one object");
                std::hint::spin_loop();
                inside[object].fetch_sub(1, SeqCst);
                drop(lock);
                done.fetch_add(1, SeqCst);
            }
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|thread| drop(scope.spawn(work(thread)))));
    assert!(done.load(SeqCst) >= THREADS * ROUNDS * 3 / 5, "whoever waits to the end gets its turn");
    assert_empty(&locks);
}

#[test]
fn on_many_threads_the_order_is_that_of_arrival() {
    const WAITERS: usize = 60;
    let locks = Arc::new(Locks::default());
    let first = taken(locks.take(key(1), ROOM));
    let order = StdMutex::new(Vec::new());
    let waits: Vec<Wait> = (0..WAITERS).map(|_| queued(locks.take(key(1), ROOM)).wait).collect();
    std::thread::scope(|scope| {
        for (number, wait) in waits.into_iter().enumerate() {
            let order = &order;
            scope.spawn(move || {
                let lock = block_on(wait);
                order.lock().unwrap().push(number);
                drop(lock);
            });
        }
        drop(first);
    });
    assert_eq!(order.into_inner().unwrap(), (0..WAITERS).collect::<Vec<_>>());
    assert_empty(&locks);
}
