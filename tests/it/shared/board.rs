//! Boards against a real Redis: changes in order, what was missed, and a store that has lost some.

use crate::support::redis::{Redis, Reply};
use redis::aio::MultiplexedConnection;
use std::collections::BTreeMap;
use tollgate::board::{Board, Change, Expected, LOG_LENGTH, Position, WriteError};

struct Bench {
    redis: Redis,
    runtime: tokio::runtime::Runtime,
    store: MultiplexedConnection,
    board: Board,
}

impl Bench {
    fn new(capacity: usize) -> Bench {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let redis = Redis::start();
        let store = runtime.block_on(connect(&redis));
        Bench { redis, runtime, store, board: Board::new("tollgate", "test", capacity) }
    }

    fn put(&mut self, field: &str, text: &str, expected: Expected<'_>) -> Result<Position, WriteError> {
        self.runtime.block_on(self.board.put(&mut self.store, field, &format!("name-{field}"), text, expected))
    }

    fn position(&mut self) -> Option<Position> {
        self.runtime.block_on(self.board.position(&mut self.store)).unwrap()
    }

    fn since(&mut self, known: &Position) -> Option<Vec<Change>> {
        let newest = self.position().unwrap();
        self.runtime.block_on(self.board.since(&mut self.store, known, &newest)).unwrap()
    }

    fn all(&mut self) -> BTreeMap<String, String> {
        let (mut all, mut next) = (BTreeMap::new(), Some(0));
        while let Some(from) = next {
            let page = self.runtime.block_on(self.board.page(&mut self.store, from)).unwrap();
            all.extend(page.entries);
            next = page.next;
        }
        all
    }
}

async fn connect(redis: &Redis) -> MultiplexedConnection {
    redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap()
}

fn put(field: &str, text: &str) -> Change {
    Change::Put(field.to_owned(), text.to_owned())
}

#[test]
fn what_was_missed_is_told_once_and_as_it_is_now() {
    let mut bench = Bench::new(10);
    assert_eq!(bench.position(), None);
    let first = bench.put("a", "1", Expected::Absent).unwrap();
    assert_eq!(bench.since(&first), Some(Vec::new()));
    bench.put("b", "1", Expected::Anything).unwrap();
    bench.put("b", "2", Expected::Exactly("1")).unwrap();
    bench.put("c", "1", Expected::Anything).unwrap();
    bench.runtime.block_on(bench.board.remove(&mut bench.store, "c", "name-c", Expected::Exactly("1"))).unwrap();
    assert_eq!(bench.since(&first), Some(vec![put("b", "2"), Change::Removed("c".to_owned())]));
    let expected = [("a", "1"), ("b", "2")].map(|(field, text)| (field.to_owned(), text.to_owned()));
    assert_eq!(bench.all(), BTreeMap::from(expected));
    let found = bench.runtime.block_on(bench.board.named(&mut bench.store, "name-b")).unwrap();
    assert_eq!(found, Some(("b".to_owned(), "2".to_owned())));
    assert_eq!(bench.runtime.block_on(bench.board.named(&mut bench.store, "name-c")).unwrap(), None);
}

#[test]
fn who_is_late_changes_nothing() {
    let mut bench = Bench::new(2);
    let first = bench.put("a", "1", Expected::Absent).unwrap();
    assert!(matches!(bench.put("a", "2", Expected::Absent), Err(WriteError::Conflict)));
    assert!(matches!(bench.put("a", "2", Expected::Exactly("x")), Err(WriteError::Conflict)));
    assert!(matches!(bench.put("b", "2", Expected::Exactly("x")), Err(WriteError::Conflict)));
    let taken = bench.runtime.block_on(bench.board.put(&mut bench.store, "b", "name-a", "1", Expected::Absent));
    assert!(matches!(taken, Err(WriteError::NameTaken)));
    let absent = bench.runtime.block_on(bench.board.remove(&mut bench.store, "b", "name-b", Expected::Anything));
    assert!(matches!(absent, Err(WriteError::Conflict)));
    assert_eq!(bench.position(), Some(first));
    bench.put("b", "1", Expected::Absent).unwrap();
    assert!(matches!(bench.put("c", "1", Expected::Absent), Err(WriteError::Full)));
    bench.put("b", "2", Expected::Anything).unwrap();
}

#[test]
fn a_store_that_lost_changes_is_read_anew() {
    let mut bench = Bench::new(10);
    bench.put("a", "1", Expected::Absent).unwrap();
    let known = bench.put("a", "2", Expected::Anything).unwrap();
    // As a replica that takes over without the last change, and is written again: the number comes twice.
    let log = "{tollgate:board:test}:log";
    let newest = bench.redis.command(&["LPOP", log]);
    assert!(matches!(newest, Reply::Text(_)));
    assert_eq!(bench.since(&known), None);
    let again = bench.put("b", "1", Expected::Absent).unwrap();
    assert_ne!(again, known);
    assert_eq!(bench.since(&known), None);
    bench.put("c", "1", Expected::Absent).unwrap();
    assert_eq!(bench.since(&known), None);
    bench.redis.command(&["FLUSHALL"]);
    assert_eq!(bench.position(), None);
}

#[test]
fn who_has_missed_more_than_the_log_reads_everything() {
    let mut bench = Bench::new(10);
    let first = bench.put("a", "0", Expected::Anything).unwrap();
    let second = bench.put("a", "1", Expected::Anything).unwrap();
    let (board, store) = (bench.board.clone(), bench.store.clone());
    bench.runtime.block_on(async {
        for number in 2..=LOG_LENGTH {
            let (text, mut store) = (number.to_string(), store.clone());
            board.put(&mut store, "a", "name-a", &text, Expected::Anything).await.unwrap();
        }
    });
    assert_eq!(bench.redis.command(&["LLEN", "{tollgate:board:test}:log"]).number(), LOG_LENGTH as i64);
    assert_eq!(bench.since(&first), None);
    let last = LOG_LENGTH.to_string();
    assert_eq!(bench.since(&second), Some(vec![put("a", &last)]));
}
