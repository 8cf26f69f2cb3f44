//! Many gateways on one store, on virtual time: calls take a while, answers come later.

use super::store::Central;
use crate::engine::lease::{Answer, Ask, Drawn, Due, Lease, MAX_ROUNDS, Need, Terms};
use crate::engine::limiter::gcra::Draw;
use crate::engine::limiter::{Concurrency, Gcra, Limiter, SlidingWindow};
use crate::engine::time::Nanos;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;
const ONE_WAY_NS: u64 = 150_000;

enum Event {
    Arrives { gateway: usize },
    Reaches { gateway: usize, ask: Ask },
    Answers { gateway: usize, ask: Ask, answer: Answer },
    LooksAfter { gateway: usize },
    Ends { gateway: usize },
}

struct World {
    limiter: Limiter,
    terms: Terms,
    central: Central,
    leases: Vec<Lease>,
    waiting: Vec<Vec<u32>>,
    /// Requests a second of each gateway.
    demand: Vec<f64>,
    /// How long a request holds its slot.
    work_ns: u64,
    events: BTreeMap<(Nanos, Reverse<u64>), Event>,
    number: u64,
    random: u64,
    arrived: Vec<Nanos>,
    admitted: Vec<Nanos>,
    in_flight: u64,
    most_in_flight: u64,
}

impl World {
    fn new(limiter: Limiter, demand: &[f64]) -> World {
        let gateways = demand.len();
        let terms = Terms { ttl_ns: SECOND, slot_ttl_ns: 10 * SECOND, gateways: gateways as u32 };
        let mut world = World {
            limiter,
            terms,
            central: Central::new(limiter, terms.slot_ttl_ns),
            leases: (0..gateways).map(|_| Lease::new(&limiter, 0)).collect(),
            waiting: vec![Vec::new(); gateways],
            demand: demand.to_vec(),
            work_ns: 20 * MILLISECOND,
            events: BTreeMap::new(),
            number: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            arrived: Vec::new(),
            admitted: Vec::new(),
            in_flight: 0,
            most_in_flight: 0,
        };
        (0..gateways).for_each(|gateway| world.arrive_later(gateway, Nanos(SECOND)));
        world
    }

    fn random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn at(&mut self, when: Nanos, event: Event) {
        self.number += 1;
        self.events.insert((when, Reverse(self.number)), event);
    }

    /// Arrivals are Poisson's.
    fn arrive_later(&mut self, gateway: usize, now: Nanos) {
        if self.demand[gateway] > 0.0 {
            let wait = -(1.0 - self.random()).ln() / self.demand[gateway];
            self.at(now.saturating_add((wait * SECOND as f64) as u64), Event::Arrives { gateway });
        }
    }

    fn run(&mut self, seconds: u64) {
        let end = Nanos((seconds + 1) * SECOND);
        while let Some(((now, _), event)) = self.events.pop_first() {
            if now >= end {
                return;
            }
            self.happen(now, event);
        }
    }

    fn happen(&mut self, now: Nanos, event: Event) {
        match event {
            Event::Arrives { gateway } => {
                self.arrived.push(now);
                self.arrive_later(gateway, now);
                self.decide(gateway, now, 0);
            }
            Event::Reaches { gateway, ask } => {
                let answer = self.central.ask(gateway, &ask, now);
                self.at(now.saturating_add(ONE_WAY_NS), Event::Answers { gateway, ask, answer });
            }
            Event::Answers { gateway, ask, answer } => {
                let lease = &mut self.leases[gateway];
                if lease.answered(&self.limiter, &ask, &answer, now, &self.terms) {
                    self.at(now.saturating_add(self.terms.ttl_ns), Event::LooksAfter { gateway });
                }
                for round in std::mem::take(&mut self.waiting[gateway]) {
                    self.decide(gateway, now, round);
                }
            }
            Event::LooksAfter { gateway } => match self.leases[gateway].due(&self.limiter, now, &self.terms) {
                Due::Later(when) => self.at(when, Event::LooksAfter { gateway }),
                Due::Done => {}
                Due::Tell(ask) => {
                    self.at(now.saturating_add(ONE_WAY_NS), Event::Reaches { gateway, ask });
                    self.at(now.saturating_add(self.terms.ttl_ns / 5), Event::LooksAfter { gateway });
                }
            },
            Event::Ends { gateway } => {
                self.in_flight -= 1;
                self.leases[gateway].release();
            }
        }
    }

    fn decide(&mut self, gateway: usize, now: Nanos, round: u32) {
        let need = self.leases[gateway].need(&self.limiter, now, 1, round > 0, &self.terms);
        if let Need::Now(ask) | Need::Soon(ask) = need {
            self.at(now.saturating_add(ONE_WAY_NS), Event::Reaches { gateway, ask });
        }
        if round < MAX_ROUNDS && matches!(need, Need::Now(_) | Need::Asked) {
            return self.waiting[gateway].push(round + 1);
        }
        if let Drawn::Taken { .. } = self.leases[gateway].draw(&self.limiter, now, 1, &self.terms) {
            self.admitted.push(now);
            if let Limiter::Concurrency(_) = self.limiter {
                self.in_flight += 1;
                self.most_in_flight = self.most_in_flight.max(self.in_flight);
                let work_ns = (self.random() * 2.0 * self.work_ns as f64) as u64;
                self.at(now.saturating_add(work_ns), Event::Ends { gateway });
            }
        }
    }

    fn calls_a_request(&self) -> f64 {
        self.central.calls as f64 / self.arrived.len() as f64
    }

    /// What a bucket that nobody has to share would have admitted of the same requests.
    fn admitted_by_one(&self, figures: &Gcra) -> usize {
        let mut bucket = Nanos::ZERO;
        let mut admits = |at: &&Nanos| match figures.draw(bucket, **at, 1) {
            Draw::Taken { tat } => {
                bucket = tat;
                true
            }
            Draw::Refused { .. } => false,
        };
        self.arrived.iter().filter(&mut admits).count()
    }

    /// The most that any span admits above `rate * t + burst`.
    fn overshoot(&self, figures: &Gcra) -> f64 {
        let per_second = SECOND as f64 / figures.emission_ns().get() as f64;
        let mut lowest = f64::MAX;
        let mut most = f64::MIN;
        for (number, at) in self.admitted.iter().enumerate() {
            let due = at.0 as f64 / SECOND as f64 * per_second;
            lowest = lowest.min(number as f64 - due);
            most = most.max((number + 1) as f64 - due - lowest);
        }
        most - figures.burst() as f64
    }
}

fn rate(count: u64) -> (Gcra, Limiter) {
    let figures = Gcra::new(count, Duration::from_secs(1), count);
    (figures, Limiter::Gcra(figures))
}

fn even(gateways: usize, total: f64) -> Vec<f64> {
    vec![total / gateways as f64; gateways]
}

fn skewed(gateways: usize, total: f64) -> Vec<f64> {
    let mut demand = vec![0.1 * total / (gateways - 1) as f64; gateways];
    demand[0] = 0.9 * total;
    demand
}

#[test]
fn eight_gateways_admit_what_one_would_and_no_more_than_the_bound() {
    for count in [100, 25, 1] {
        let times = |factor: u64| (factor * count) as f64;
        let demands = [even(8, times(2)), even(8, times(10)), skewed(8, times(2)), skewed(8, times(10))];
        for demand in demands.into_iter().chain([even(8, 8_000.0), skewed(8, 8_000.0)]) {
            let (figures, limiter) = rate(count);
            let mut world = World::new(limiter, &demand);
            world.run(60);
            let (admitted, alone) = (world.admitted.len() as f64, world.admitted_by_one(&figures) as f64);
            assert!(admitted >= 0.95 * alone, "{count}/s of {demand:?}: {admitted} of {alone}");
            let over = world.overshoot(&figures);
            assert!(over <= (8 * world.terms.share(figures.burst())) as f64, "{count}/s of {demand:?}: {over}");
        }
    }
}

#[test]
fn sixteen_gateways_leave_little_of_one_a_second() {
    for total in [2.0, 5.0, 16.0, 200.0] {
        for demand in [even(16, total), skewed(16, total)] {
            let (figures, limiter) = rate(1);
            let mut world = World::new(limiter, &demand);
            world.run(600);
            let (admitted, alone) = (world.admitted.len() as f64, world.admitted_by_one(&figures) as f64);
            assert!(admitted >= 0.9 * alone, "{demand:?}: {admitted} of {alone}");
        }
    }
}

#[test]
fn hot_accounts_and_floods_cost_few_calls() {
    let accounts = [(100_000, 40_000.0), (10_000, 5_000.0), (1_000, 20_000.0), (100, 8_000.0), (1, 8_000.0)];
    let alone = accounts.map(|(count, total)| (count, total, even(1, total)));
    // Three times as much as a limit allows is the hardest: nearly every answer is short.
    let shared = accounts.into_iter().chain([(100, 300.0)]);
    let shared = shared.flat_map(|(count, total)| [(count, total, even(8, total)), (count, total, skewed(8, total))]);
    for (count, total, demand) in alone.into_iter().chain(shared) {
        let mut world = World::new(rate(count).1, &demand);
        world.run(if total < 1_000.0 { 60 } else { 10 });
        let calls = world.calls_a_request();
        let most = if total < 1_000.0 { 0.075 } else { 0.1 };
        assert!(calls <= most, "{count}/s of {demand:?}: {calls}");
        let waiting: usize = world.waiting.iter().map(Vec::len).sum();
        if total < count as f64 {
            assert_eq!(world.admitted.len() + waiting, world.arrived.len(), "{count}/s of {demand:?}");
        }
    }
}

#[test]
fn moderate_accounts_cost_a_fraction_of_a_call_and_rare_ones_one() {
    for (total, gateways, most) in [(1.0, 8, 1.01), (10.0, 8, 0.75), (50.0, 8, 0.22), (90.0, 8, 0.13), (50.0, 100, 1.2)]
    {
        let mut world = World::new(rate(100).1, &even(gateways, total));
        world.run(120);
        let calls = world.calls_a_request();
        assert!(calls <= most, "{total}/s over {gateways}: {calls}");
    }
}

#[test]
fn slots_in_flight_are_never_more_and_most_are_used() {
    for demand in [even(8, 3_000.0), even(8, 8_000.0), skewed(8, 3_000.0), even(1, 3_000.0)] {
        let mut world = World::new(Limiter::Concurrency(Concurrency { slots: 30 }), &demand);
        world.run(10);
        assert_eq!(world.most_in_flight, 30, "{demand:?}");
        // 30 slots of 20 ms each, all the time. Slots that are spread serve less than those in one place.
        assert!(world.admitted.len() > 15_000 * 80 / 100, "{demand:?}: {}", world.admitted.len());
        assert!(world.calls_a_request() <= 0.1, "{demand:?}: {}", world.calls_a_request());
    }
}

#[test]
fn windows_hold_their_quota_and_what_is_lent() {
    for demand in [even(8, 100.0), skewed(8, 1_000.0)] {
        let figures = SlidingWindow::new(100, Duration::from_secs(10));
        let mut world = World::new(Limiter::SlidingWindow(figures), &demand);
        world.run(100);
        let admitted = &world.admitted;
        let within =
            |from: usize| admitted[from..].iter().take_while(|at| at.since(admitted[from]) < 10 * SECOND).count();
        let most = (0..admitted.len()).map(within).max().unwrap();
        assert!(most as u64 <= 100 + 8 * world.terms.share(100), "{most}");
        assert!(admitted.len() > 950, "{}", admitted.len());
    }
}
