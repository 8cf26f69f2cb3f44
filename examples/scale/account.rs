//! One account's traffic over many gateways, on virtual time.

use crate::store::Store;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tollgate::engine::class::MAX_VALUES;
use tollgate::engine::{
    Access, Ask, Condition, Due, EndpointClass, EndpointId, Enforce, Engine, Gcra, Id, Limit, Limiter, MAX_ROUNDS,
    Mode, Nanos, Part, Partition, Payers, Policy, ProfileId, RequestClass, RouteId, Seed, Stage, Terms, Wanted,
    WithoutStore,
};

const SEED: Seed = Seed([0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03]);
/// From a gateway to the store, and as long back.
const WAY_NS: u64 = 500_000;
const SECOND_NS: u64 = 1_000_000_000;
/// A lease's, as the gateway has it by default.
const TTL_NS: u64 = SECOND_NS;

/// What is played.
pub(crate) struct Scene {
    pub(crate) gateways: u32,
    /// Requests a second, at random moments.
    pub(crate) offered: f64,
    pub(crate) rate: u32,
    pub(crate) burst: u64,
    pub(crate) seconds: u32,
    /// Nine tenths come to one gateway, otherwise each comes to any.
    pub(crate) skew: bool,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) admitted: u64,
    /// What one bucket would have admitted of the same requests.
    pub(crate) due: u64,
    /// Requests that waited for the store.
    pub(crate) waited: u64,
    pub(crate) calls: u64,
    /// The most tokens that were lent and not spent.
    pub(crate) stranded: f64,
    /// The most that any span of time admitted beyond rate x time + burst.
    pub(crate) beyond: f64,
}

enum Event {
    Request {
        gateway: u32,
    },
    /// The store has got it.
    Asked {
        gateway: u32,
        partition: Partition,
        ask: Ask,
        tells: bool,
    },
    Answered {
        gateway: u32,
        partition: Partition,
        ask: Ask,
        answer: tollgate::engine::Answer,
    },
    LookAfter {
        gateway: u32,
        partition: Partition,
    },
}

impl Scene {
    pub(crate) fn play(&self) -> Outcome {
        let mut play = Play::new(self);
        play.schedule();
        while let Some(Reverse((at, number))) = play.queue.pop() {
            if let Some(event) = play.events.remove(&number) {
                play.step(event, Nanos(at));
            }
        }
        play.outcome.calls = play.store.calls;
        play.outcome.beyond = (play.highest - self.burst as f64).max(0.0);
        play.outcome
    }
}

struct Play<'s> {
    scene: &'s Scene,
    policy: Policy,
    class: RequestClass,
    store: Store,
    figures: Gcra,
    /// When one bucket for all gateways would be full.
    full_at: Nanos,
    engines: HashMap<u32, Arc<Engine>>,
    /// Requests that wait for an answer, and how often they have.
    waiting: HashMap<u32, Vec<u32>>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: HashMap<u64, Event>,
    number: u64,
    random: u64,
    lent: f64,
    /// Admitted less what the rate gives, and the least of it so far.
    level: f64,
    lowest: f64,
    highest: f64,
    last: Nanos,
    outcome: Outcome,
}

impl<'s> Play<'s> {
    fn new(scene: &'s Scene) -> Play<'s> {
        let figures = Gcra::new(scene.rate.into(), Duration::from_secs(1), scene.burst);
        let limit = Limit {
            name: "account".into(),
            stage: Stage::GlobalRate,
            limiter: Limiter::Gcra(figures),
            when: Condition::default(),
            except: None,
            fallback: false,
            per: [Part::Account].into(),
            enforce: Enforce::Always,
            candidate: None,
            shared: Some(WithoutStore::Share),
        };
        let endpoints = vec![EndpointClass { name: "any".into(), cost: 1, extractors: [].into() }];
        Play {
            scene,
            policy: Policy::new(&SEED, vec![limit], endpoints, Vec::new()),
            class: class(),
            store: Store::new(figures),
            figures,
            full_at: Nanos::ZERO,
            engines: HashMap::new(),
            waiting: HashMap::new(),
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            number: 0,
            random: 0x2545_f491_4f6c_dd1d,
            lent: 0.0,
            level: 0.0,
            lowest: 0.0,
            highest: 0.0,
            last: Nanos::ZERO,
            outcome: Outcome::default(),
        }
    }

    fn schedule(&mut self) {
        let end_ns = u64::from(self.scene.seconds) * SECOND_NS;
        // After the beginning, so that nothing is at the very first moment.
        let mut at = SECOND_NS;
        loop {
            let gap_ns = -(1.0 - self.unit()).ln() / self.scene.offered * 1e9;
            at += gap_ns as u64;
            if at >= end_ns + SECOND_NS {
                return;
            }
            let lacks_ns = self.full_at.since(Nanos(at)) + self.figures.emission_ns().get();
            if lacks_ns <= self.figures.depth_ns() {
                self.full_at = Nanos(at + lacks_ns);
                self.outcome.due += 1;
            }
            let gateway = self.choose();
            self.outcome.requests += 1;
            self.at(at, Event::Request { gateway });
        }
    }

    fn at(&mut self, at: u64, event: Event) {
        self.number += 1;
        self.queue.push(Reverse((at, self.number)));
        self.events.insert(self.number, event);
    }

    fn unit(&mut self) -> f64 {
        // xorshift64*: the same in every run.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn choose(&mut self) -> u32 {
        if self.scene.skew && self.unit() < 0.9 {
            return 0;
        }
        (self.unit() * f64::from(self.scene.gateways)) as u32
    }

    fn engine(&mut self, gateway: u32) -> Arc<Engine> {
        let gateways = self.scene.gateways;
        let made = self.engines.entry(gateway).or_insert_with(|| {
            let engine = Engine::new(SEED, 16);
            engine.set_terms(Terms { ttl_ns: TTL_NS, slot_ttl_ns: 15 * SECOND_NS, gateways });
            Arc::new(engine)
        });
        Arc::clone(made)
    }

    fn step(&mut self, event: Event, now: Nanos) {
        match event {
            Event::Request { gateway } => self.request(gateway, 0, now),
            Event::Asked { gateway, partition, ask, tells } => {
                let answer = self.store.ask(&ask, now);
                self.lent += answer.lent as f64;
                self.lent -= ask.back as f64 / SECOND_NS as f64 * f64::from(self.scene.rate);
                self.outcome.stranded = self.outcome.stranded.max(self.lent);
                let back = now.0 + WAY_NS;
                if tells {
                    self.at(back, Event::LookAfter { gateway, partition });
                }
                self.at(back, Event::Answered { gateway, partition, ask, answer });
            }
            Event::Answered { gateway, partition, ask, answer } => {
                let engine = self.engine(gateway);
                if engine.lend(&partition, &ask, Some(&answer), now) {
                    self.at(now.0 + TTL_NS, Event::LookAfter { gateway, partition });
                }
                self.lent -= engine.take_stranded(&partition) as f64;
                for rounds in self.waiting.remove(&gateway).unwrap_or_default() {
                    self.request(gateway, rounds, now);
                }
            }
            Event::LookAfter { gateway, partition } => match self.engine(gateway).look_after(&partition, now) {
                Due::Later(at) => self.at(at.0.max(now.0 + 1), Event::LookAfter { gateway, partition }),
                Due::Done => self.lent -= self.engine(gateway).take_stranded(&partition) as f64,
                Due::Tell(ask) => self.at(now.0 + WAY_NS, Event::Asked { gateway, partition, ask, tells: true }),
            },
        }
    }

    /// A request that has waited so often.
    fn request(&mut self, gateway: u32, rounds: u32, now: Nanos) {
        let engine = self.engine(gateway);
        let mut wanted: Vec<Wanted> = Vec::new();
        engine.consult(&self.policy, &self.class, now, rounds > 0, &mut wanted);
        let mut waits = false;
        for Wanted { partition, ask, waits: must } in wanted {
            waits |= must;
            if let Some(ask) = ask {
                self.at(now.0 + WAY_NS, Event::Asked { gateway, partition, ask, tells: false });
            }
        }
        if waits && rounds < MAX_ROUNDS {
            self.outcome.waited += u64::from(rounds == 0);
            self.waiting.entry(gateway).or_default().push(rounds + 1);
            return;
        }
        if let Ok(mut hold) = engine.walk(&self.policy, &self.class, now, &mut ()) {
            hold.commit();
            self.admit(now);
        }
    }

    fn admit(&mut self, now: Nanos) {
        self.outcome.admitted += 1;
        self.lent -= 1.0;
        self.level -= now.since(self.last) as f64 / SECOND_NS as f64 * f64::from(self.scene.rate);
        self.last = now;
        self.lowest = self.lowest.min(self.level);
        self.level += 1.0;
        self.highest = self.highest.max(self.level - self.lowest);
    }
}

fn class() -> RequestClass {
    RequestClass {
        mode: Mode::Live,
        access: Access::Write,
        endpoint: EndpointId(0),
        route: RouteId(0),
        profile: ProfileId::BASE,
        cost: 1,
        account: Id([7, 7]),
        connected: Id::NONE,
        key: Id([1, 1]),
        ip: Id([2, 2]),
        values: [Id::NONE; MAX_VALUES],
        facts: 0,
        payers: Payers::Account,
        lot: 0,
    }
}
