//! Requests in flight on virtual time: when they end, and what they give back then.

use super::arrival::Arrival;
use crate::config::Server;
use crate::engine::time::nanos_of;
use crate::engine::{Alone, EndpointId, Engine, Hold, Nanos, Policy, RequestClass};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// Requests with slots that may be in flight at once. Beyond, the one that would end first ends early.
pub const MAX_IN_FLIGHT: usize = 131_072;
/// An engine, and the requests that hold something of it.
#[derive(Debug)]
pub struct Flight {
    engine: Arc<Engine<Alone>>,
    sweep_ns: u64,
    next_sweep: u64,
    /// When each ends; those of one moment in the order in which they began.
    ends: BinaryHeap<Reverse<End>>,
    begun: u64,
    /// Of the request that meets the limits next.
    next: Box<Hold<Alone>>,
    held: Vec<Held>,
    vacant: Vec<u32>,
    /// Requests that ended early, see [`MAX_IN_FLIGHT`].
    pub cut_short: u64,
}

/// A request in flight. Holds stay where they are and are used again: to move one costs as much as a limit's decision.
#[derive(Debug)]
struct Held {
    hold: Box<Hold<Alone>>,
    then: Then,
}

/// When a request ends, how many began before it, and its place: one number in this order, so that the heap compares one. From
/// 2^40 requests on, those that end in the same nanosecond may do so in another order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct End(u128);

/// Bits of a place.
const PLACE_BITS: u32 = 24;
const _: () = assert!(MAX_IN_FLIGHT < 1 << PLACE_BITS);

impl End {
    fn new(at: Nanos, begun: u64, place: u32) -> End {
        End(u128::from(at.0) << 64 | u128::from(begun << PLACE_BITS | u64::from(place)))
    }

    fn at(self) -> Nanos {
        Nanos((self.0 >> 64) as u64)
    }

    fn place(self) -> u32 {
        self.0 as u32 & ((1 << PLACE_BITS) - 1)
    }
}

/// What happens when a request ends.
#[derive(Debug)]
pub enum Then {
    /// Its slots come back.
    Nothing,
    /// It was never forwarded: its tokens come back as well.
    GivenUp,
    /// It was a success, which earns allocations.
    Earns(Box<RequestClass>),
}

impl Flight {
    /// The engine of a configuration, with nothing in flight.
    pub fn new(server: &Server) -> Flight {
        #[expect(clippy::arc_with_non_send_sync, reason = "a hold knows its engine in this way, whatever map it has")]
        let engine = Arc::new(Engine::for_one_thread(super::SEED, server.max_partitions));
        Flight {
            next: Box::new(Hold::new(Arc::clone(&engine))),
            engine,
            sweep_ns: nanos_of(server.sweep_interval).max(1),
            next_sweep: 0,
            ends: BinaryHeap::new(),
            begun: 0,
            held: Vec::new(),
            vacant: Vec::new(),
            cut_short: 0,
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine<Alone> {
        &self.engine
    }

    /// Ends every request that ends up to `now`, the earliest first.
    pub fn advance(&mut self, now: Nanos, policy: &Policy) {
        while self.ends.peek().is_some_and(|Reverse(end)| end.at() <= now) {
            self.end_first(now, policy);
        }
        self.sweep(now);
    }

    /// Sweeps when the gateway would.
    fn sweep(&mut self, now: Nanos) {
        if now.0 >= self.next_sweep {
            self.engine.sweep(now);
            self.next_sweep = now.0.saturating_add(self.sweep_ns);
        }
    }

    /// What the next request meets: the engine, and a hold on nothing yet. [`depart`](Flight::depart) or
    /// [`leave`](Flight::leave) says what became of it.
    pub fn meet(&mut self) -> (&Engine<Alone>, &mut Hold<Alone>) {
        (&self.engine, &mut self.next)
    }

    /// The next request was refused: it has given back what it took.
    pub fn leave(&mut self) {
        self.next.renew();
    }

    /// Lets the next request go, which was admitted at `now`. What it holds comes back when it ends.
    pub fn depart(&mut self, now: Nanos, duration: u64, then: Then, policy: &Policy) {
        if !matches!(then, Then::GivenUp) {
            self.next.commit();
        }
        if matches!(then, Then::Nothing) && self.next.slots() == 0 {
            return self.leave();
        }
        if self.ends.len() >= MAX_IN_FLIGHT {
            self.cut_short += 1;
            self.end_first(now, policy);
        }
        let place = self.vacant.pop().unwrap_or_else(|| {
            let hold = Box::new(Hold::new(Arc::clone(&self.engine)));
            self.held.push(Held { hold, then: Then::Nothing });
            u32::try_from(self.held.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(held) = self.held.get_mut(place as usize) {
            held.then = then;
            std::mem::swap(&mut held.hold, &mut self.next);
        }
        self.begun += 1;
        self.ends.push(Reverse(End::new(now.saturating_add(duration), self.begun, place)));
    }

    /// Ends the request that ends first: at `now`, where it would do so later.
    fn end_first(&mut self, now: Nanos, policy: &Policy) {
        let Some(Reverse(end)) = self.ends.pop() else { return };
        let at = end.at().min(now);
        let Some(held) = self.held.get_mut(end.place() as usize) else { return };
        self.vacant.push(end.place());
        match std::mem::replace(&mut held.then, Then::Nothing) {
            Then::Nothing => {}
            Then::GivenUp => held.hold.cancel(at),
            Then::Earns(class) => {
                self.engine.credit(policy, &class, at);
            }
        }
        held.hold.renew();
    }
}

/// How long requests take that the trace does not tell of: the median of what their endpoint's requests took so far.
#[derive(Debug, Default)]
pub struct Durations {
    by_endpoint: Vec<Option<Box<Histogram>>>,
    all: Histogram,
}

impl Durations {
    /// How long a request takes that is admitted now. One that was served took as long as it did. What one that was refused
    /// would have taken, nobody knows; and where a trace has no durations, requests take no time.
    pub fn of(&mut self, arrival: &Arrival, endpoint: EndpointId) -> u64 {
        if !arrival.was_refused {
            let duration = arrival.duration_ns;
            let place = endpoint.0 as usize;
            if self.by_endpoint.len() <= place {
                self.by_endpoint.resize_with(place + 1, || None);
            }
            if let Some(own) = self.by_endpoint.get_mut(place) {
                own.get_or_insert_default().note(duration);
            }
            self.all.note(duration);
            return duration;
        }
        let own = self.by_endpoint.get(endpoint.0 as usize).and_then(Option::as_ref);
        own.and_then(|own| own.median()).or_else(|| self.all.median()).unwrap_or(0)
    }
}

/// Counts by size, four for each power of two: a median of it is at most an eighth off.
#[derive(Debug)]
struct Histogram {
    counts: [u64; 256],
    total: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: [0; 256], total: 0 }
    }
}

impl Histogram {
    fn note(&mut self, value: u64) {
        let octave = value.max(4).ilog2();
        let quarter = value.max(4) >> (octave - 2) & 3;
        let place = u64::from(octave) * 4 + quarter;
        if let Some(count) = usize::try_from(place).ok().and_then(|place| self.counts.get_mut(place)) {
            *count += 1;
            self.total += 1;
        }
    }

    /// The middle of the quarter that the median lies in.
    fn median(&self) -> Option<u64> {
        let mut left = self.total.div_ceil(2);
        let (octave, quarter) = self.counts.iter().enumerate().find_map(|(place, &count)| {
            left = left.saturating_sub(count);
            (left == 0 && count > 0).then_some((place as u64 / 4, place as u64 % 4))
        })?;
        let step = 1_u64 << (octave.saturating_sub(2));
        Some((4 + quarter) * step + step / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{IdKind, Mode, RouteId, Stage};
    use crate::replay::SEED;
    use crate::replay::arrival::{Brief, plain_class};
    use std::path::Path;

    #[test]
    fn the_earliest_ends_first_and_of_one_moment_who_began_first() {
        let ends = [(5, 9, 0), (5, 10, 131_071), (5, 11, 3), (6, 1, 16_777_215), (u64::MAX, 1 << 39, 7)];
        let made = ends.map(|(at, begun, place)| End::new(Nanos(at), begun, place));
        assert!(made.is_sorted());
        assert_eq!(made.map(|end| (end.at().0, end.place())), ends.map(|(at, _, place)| (at, place)));
    }

    #[test]
    fn who_ends_early_does_so_now() {
        const HOUR_NS: u64 = 3_600_000_000_000;
        let text = "auth.mode = \"passthrough\"\n[upstreams.api]\nservers = [\"http://127.0.0.1:9\"]\n\
                    [[limits]]\nname = \"rate\"\nstage = \"global\"\nrate = \"1/h\"\nburst = 1\n\
                    [[limits]]\nname = \"earned\"\nstage = \"resource\"\nper = [\"account\"]\n\
                    allocation = { per_transaction = 1, at_least = 1000, window = \"30d\" }\n";
        let config = crate::config::parse(text, Path::new("t"), &SEED).unwrap();
        let policy = &config.policy;
        let brief = Brief { endpoint: EndpointId(0), route: RouteId(0) };
        let id = |account: u64| SEED.id(IdKind::Account, &account.to_le_bytes());
        let class = |account| plain_class(brief, &config, Mode::Live, id(account));
        let now = Nanos(1);
        let mut flight = Flight::new(&config.server);
        let mut admits = |account, then| {
            flight.advance(now, policy);
            let (engine, hold) = flight.meet();
            let mut stages = Stage::ALL.into_iter();
            let met = stages.try_for_each(|stage| engine.stage(policy, stage, &class(account), now, hold, &mut ()));
            if met.is_ok() {
                flight.depart(now, 2 * HOUR_NS, then, policy)
            } else {
                flight.leave()
            }
            met.is_ok()
        };
        assert!((0..1_000).all(|account| admits(account, Then::Nothing)));
        // The last of these are more than may be in flight. Each earns something at the moment it ends.
        let others = 1_000..MAX_IN_FLIGHT as u64 + 5_000;
        assert!(others.into_iter().all(|account| admits(account, Then::Earns(Box::new(class(account))))));
        assert!(!(0..1_000).any(|account| admits(account, Then::Nothing)), "they have spent what they have in an hour");
        assert_eq!(flight.cut_short, 4_000);
    }

    #[test]
    fn a_median_is_at_most_an_eighth_off() {
        assert_eq!(Histogram::default().median(), None);
        for middle in [5, 100, 12_345_678, 86_400_000_000_000] {
            let mut histogram = Histogram::default();
            for value in [middle / 2, middle / 3, middle, middle * 2, middle * 5] {
                histogram.note(value);
            }
            let found = histogram.median().unwrap();
            assert!(found.abs_diff(middle) <= middle / 8 + 1, "{middle}: {found}");
        }
    }
}
