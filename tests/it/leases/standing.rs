//! What gateways would go on with if Redis failed: the script by which they tell each other, in a real Redis.

use crate::support::redis::Redis;

const SCRIPT: &str = include_str!("../../../src/store/scripts/tend.lua");

struct Hall {
    _redis: Redis,
    connection: redis::Connection,
    script: redis::Script,
}

impl Hall {
    fn new() -> Hall {
        let redis = Redis::start();
        let connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
        Hall { _redis: redis, connection, script: redis::Script::new(SCRIPT) }
    }

    /// A gateway with so many parts says that it is there, and hears its parts, its place and how many there are.
    fn seen(&mut self, name: &str, parts: u32, more: bool) -> [u32; 3] {
        let mut call = self.script.key("{hall}:gateways");
        call.key("{hall}:parts").arg("").arg("seen").arg(600_000_000_000_u64).arg(name).arg(parts).arg(u32::from(more));
        call.invoke(&mut self.connection).unwrap()
    }

    fn gone(&mut self, name: &str) {
        let mut call = self.script.key("{hall}:gateways");
        call.key("{hall}:parts").arg("").arg("gone").arg(name);
        call.invoke::<()>(&mut self.connection).unwrap();
    }
}

#[test]
fn the_first_has_the_whole_and_who_comes_later_waits_for_room() {
    let mut hall = Hall::new();
    assert_eq!(hall.seen("a", 0, true), [1, 0, 1]);
    assert_eq!(hall.seen("b", 0, true), [0, 1, 2], "a still has the whole");
    assert_eq!(hall.seen("a", 1, true), [2, 0, 2]);
    assert_eq!(hall.seen("b", 0, true), [0, 1, 2], "perhaps a has not heard the answer");
    assert_eq!(hall.seen("a", 2, true), [2, 0, 2]);
    assert_eq!(hall.seen("b", 0, true), [2, 1, 2]);
    // Nobody takes more because of a Redis that has been emptied, as it may have forgotten somebody.
    hall.gone("b");
    assert_eq!(hall.seen("a", 2, false), [2, 0, 1]);
    assert_eq!(hall.seen("a", 2, true), [1, 0, 1]);
}

/// Gateways come, go and hear in any order, and some answers are lost: at no moment do the parts add up to more than the whole.
#[test]
fn parts_never_add_up_to_more_than_the_whole() {
    let mut hall = Hall::new();
    let mut random = 0x9e37_79b9_u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    let mut there: Vec<(String, u32)> = Vec::new();
    let mut whole = 0;
    for moment in 0..8_000 {
        match next(30) {
            0 if there.len() < 7 => there.push((format!("gateway-{:04}", (moment * 7_919) % 10_000), 0)),
            1 if there.len() > 1 => {
                let (name, _) = there.remove(next(there.len()));
                hall.gone(&name);
            }
            _ if there.is_empty() => {}
            kind => {
                let one = next(there.len());
                let [parts, ..] = hall.seen(&there[one].0, there[one].1, true);
                if kind > 3 {
                    there[one].1 = parts;
                }
            }
        }
        let parts: Vec<_> = there.iter().map(|(_, parts)| *parts).filter(|parts| *parts > 0).collect();
        let sum: f64 = parts.iter().map(|parts| 1.0 / f64::from(*parts)).sum();
        assert!(sum <= 1.0 + 1e-9, "{there:?} at {moment}");
        whole += usize::from(parts.len() > 3 && sum > 0.999);
    }
    assert!(whole > 100, "they do take all of it: {whole}");
}
