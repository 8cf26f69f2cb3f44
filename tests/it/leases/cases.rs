//! Every case through an engine that is lent what it spends, by a real Redis on virtual time: a gateway that is alone answers as one
//! that counts for itself.

use crate::support::cases::{Admit, Case, Entry, Expected, Refused, cases, classified, written};
use crate::support::redis::Redis;
use crate::support::seed;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tollgate::config::{self, Config};
use tollgate::engine::{Ask, Due, Engine, Hold, MAX_ROUNDS, Manner, Nanos, Partition, Terms, Wanted};
use tollgate::store::lending::{Speaker, answers, in_full};

/// What is lent overflows at once: then a gateway that is alone has what its bucket has.
const TERMS: Terms = Terms { ttl_ns: 0, slot_ttl_ns: 3_600_000_000_000, gateways: 1 };

/// A quota is counted in Redis in microseconds, so that its slices begin a little later.
const CLOSE: Duration = Duration::from_millis(1);

#[test]
fn a_lone_gateway_answers_every_case_as_expected() {
    let redis = Redis::start();
    let client = redis::Client::open(redis.url()).unwrap();
    for (file, case) in cases() {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let run = Run {
            engine: Arc::new(Engine::new(seed(), usize::MAX)),
            config: shared(&case.policy),
            connection: client.get_connection().unwrap(),
            watched: Vec::new(),
            holds: HashMap::new(),
            prefix: name.clone(),
        };
        run.through(&name, &case);
    }
}

/// The configuration of a case, whose limits count in Redis.
fn shared(policy: &str) -> Config {
    let rest = "\n[auth]\nmode = 'passthrough'\n[upstreams.api]\nservers = ['http://127.0.0.1:9']\n\
                [store]\nkind = 'redis'\nurls = 'redis://127.0.0.1:9'\n";
    config::parse(&format!("{policy}{rest}"), Path::new("case.toml"), &seed())
        .unwrap_or_else(|errors| panic!("{errors}"))
}

struct Run {
    engine: Arc<Engine>,
    config: Config,
    connection: redis::Connection,
    watched: Vec<Partition>,
    holds: HashMap<String, Hold>,
    prefix: String,
}

impl Run {
    fn through(mut self, name: &str, case: &Case) {
        self.engine.set_terms(TERMS);
        for (number, entry) in (1..).zip(&case.timeline) {
            let place = format!("{name}, entry {number}: {}", entry.request.as_deref().unwrap_or_default());
            // Nothing has happened before the first moment of a gateway.
            let now = entry.at().saturating_add(1_000_000_000);
            self.look_after(now);
            self.happen(&place, entry, now);
        }
    }

    fn happen(&mut self, place: &str, entry: &Entry, now: Nanos) {
        if let Some(policy) = &entry.reload {
            self.config = shared(policy);
        } else if entry.sweep {
            self.engine.sweep(now);
        } else if let Some(name) = &entry.end {
            drop(self.holds.remove(name).unwrap());
        } else if let Some(name) = &entry.cancel {
            self.holds.remove(name).unwrap().cancel(now);
        } else {
            for time in 1..=entry.times.unwrap_or(1) {
                self.arrive(&format!("{place}, time {time}"), entry, now);
            }
        }
    }

    fn arrive(&mut self, place: &str, entry: &Entry, now: Nanos) {
        let class = classified(entry, &self.config, &seed());
        for round in 0..MAX_ROUNDS {
            let mut wanted: Vec<Wanted> = Vec::new();
            self.engine.consult(&self.config.policy, &class, now, round > 0, &mut wanted);
            wanted.iter().for_each(|wanted| self.ask(wanted.partition, &wanted.ask.unwrap(), now));
        }
        assert_eq!(self.engine.manner(), Manner::Lent);
        let policy = &self.config.policy;
        let verdict = self.engine.walk(policy, &class, now, &mut ());
        let got = match &verdict {
            Ok(_) => Expected::Word(Admit::Admit),
            Err(rejection) => Expected::Reject(Refused {
                limit: policy.limit(rejection.limit).name.to_string(),
                reason: rejection.stage.reason().to_owned(),
                retry_after: rejection.retry_at.map(|at| written(at - now)),
            }),
        };
        assert_same(place, &got, entry.expect.as_ref().unwrap());
        let Ok(mut hold) = verdict else { return };
        match &entry.hold {
            Some(name) => assert!(self.holds.insert(name.clone(), hold).is_none()),
            None => hold.commit(),
        }
    }

    fn ask(&mut self, partition: Partition, ask: &Ask, now: Nanos) {
        let asks = [(partition, *ask)];
        let speaker = Speaker {
            gateway: "alone",
            prefix: &self.prefix,
            since_us: 0,
            slot_ttl_ms: 3_600_000,
            now_us: Some(now.0 / 1_000),
        };
        let numbers: Vec<i64> = in_full(&speaker, &asks).query(&mut self.connection).unwrap();
        if self.engine.lend(&partition, ask, answers(&asks, &numbers).first(), now) {
            self.watched.push(partition);
        }
    }

    fn look_after(&mut self, now: Nanos) {
        for partition in std::mem::take(&mut self.watched) {
            match self.engine.look_after(&partition, now) {
                Due::Done => {}
                Due::Later(_) => self.watched.push(partition),
                Due::Tell(ask) => {
                    self.watched.push(partition);
                    self.ask(partition, &ask, now);
                }
            }
        }
    }
}

/// The same verdict, and a time to come back that is at most a moment later.
#[track_caller]
fn assert_same(place: &str, got: &Expected, expected: &Expected) {
    let (Expected::Reject(got), Expected::Reject(expected)) = (got, expected) else {
        return assert_eq!(got, expected, "{place}");
    };
    assert_eq!((&got.limit, &got.reason), (&expected.limit, &expected.reason), "{place}");
    let [one, other] = [got, expected].map(|refused| refused.retry_after.as_deref().map(parsed));
    let close = match (one, other) {
        (Some(one), Some(other)) => one.abs_diff(other) <= CLOSE || other < ASKED_AGAIN && one <= ASKED_AGAIN,
        (one, other) => one == other,
    };
    assert!(close, "{place}: {one:?} for {other:?}");
}

/// A gateway that is alone asks for nothing more within such a time after an ask that found too little, and some microseconds: each
/// ask counts as later than the one before, though here they are made in the same moment.
const ASKED_AGAIN: Duration = Duration::from_millis(11);

fn parsed(text: &str) -> Duration {
    humantime::parse_duration(text).unwrap()
}
