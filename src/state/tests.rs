//! Whole directories: written, killed, damaged, opened again.

use super::*;
use crate::clock::{Marks, Time};
use crate::engine::{Clock, Engine, Nanos, PartitionKey, SavedWindow};
use crate::metrics::Metrics;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

const SEED: Seed = Seed([3, 4]);
const MINUTE: Duration = Duration::from_secs(60);

fn settings() -> Settings {
    Settings { interval: Duration::from_secs(3600), min_window: MINUTE }
}

fn open(path: &Path) -> Directory {
    Directory::open(path, || SEED).unwrap()
}

/// A window of an hour that has counted `count` in its newest slice.
fn window(count: u32) -> SavedWindow {
    let slice_ns = NonZeroU64::new(3_600_000_000_000 / 63 + 1).unwrap();
    SavedWindow { tag: 9, slice_ns, newest: 0, counts: vec![(0, count)] }
}

fn key(nth: u32) -> PartitionKey {
    PartitionKey(u128::from(nth).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes())
}

/// What an engine has, by key.
fn all(engine: &Engine) -> BTreeMap<PartitionKey, SavedWindow> {
    engine.export_all_next();
    let mut windows = BTreeMap::new();
    engine.export(|key, window| drop(windows.insert(key, window.unwrap().clone())));
    windows
}

struct Life {
    engine: Arc<Engine>,
    restored: usize,
    start: Nanos,
    metrics: Arc<Metrics>,
    keeper: Option<Keeper>,
    _directory: Directory,
}

/// Opens the directory, `marks` being the time.
fn begin(path: &Path, marks: &Marks) -> Life {
    let directory = open(path);
    let engine = Arc::new(Engine::new(directory.seed(), 100_000));
    let mut keeper = Keeper::open(&directory);
    let start = keeper.resume(marks);
    let restored = keeper.restore(&engine, &settings(), start);
    Life { engine, restored, start, metrics: Arc::default_metrics(), keeper: Some(keeper), _directory: directory }
}

trait DefaultMetrics {
    fn default_metrics() -> Self;
}

impl DefaultMetrics for Arc<Metrics> {
    fn default_metrics() -> Self {
        Arc::new(Metrics::new().unwrap())
    }
}

impl Life {
    /// Writes everything and ends, on a clock that stands at `start`.
    fn end(mut self) -> Arc<Metrics> {
        let (time, hand) = Time::manual();
        hand.set(self.start);
        let (engine, metrics) = (Arc::clone(&self.engine), Arc::clone(&self.metrics));
        let writer = self.keeper.take().unwrap().start(engine, time, metrics, settings().interval).unwrap();
        writer.finish();
        self.metrics
    }
}

fn at_epoch() -> Marks {
    Marks { wall: jiff::Timestamp::UNIX_EPOCH, boot: None }
}

/// A directory with `count` windows in it.
fn filled(path: &Path, count: u32) -> BTreeMap<PartitionKey, SavedWindow> {
    let life = begin(path, &at_epoch());
    for nth in 0..count {
        assert!(life.engine.import(key(nth), &window(nth + 1), Nanos::ZERO));
    }
    let windows = all(&life.engine);
    life.engine.export_all_next();
    assert_eq!(life.end().state.windows.get(), i64::from(count));
    windows
}

#[test]
fn what_was_counted_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/state");
    let before = filled(&path, 1_000);
    let life = begin(&path, &at_epoch());
    assert_eq!(life.restored, 1_000);
    assert_eq!(all(&life.engine), before);
    assert_eq!(life.metrics.state.damaged.get(), 0);
}

#[test]
fn what_has_aged_out_meanwhile_is_gone_from_the_file_too() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 10);
    let later = Marks { wall: jiff::Timestamp::from_second(7_200).unwrap(), boot: None };
    let life = begin(folder.path(), &later);
    assert_eq!((life.restored, life.start), (0, Nanos(7_200_000_000_000)));
    assert_eq!(life.end().state.windows.get(), 0);
}

#[test]
fn a_wall_clock_that_went_back_frees_nothing() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 10);
    let earlier = Marks { wall: jiff::Timestamp::from_second(-1_000_000).unwrap(), boot: None };
    let life = begin(folder.path(), &earlier);
    assert_eq!((life.restored, life.start), (10, Nanos::ZERO));
}

#[test]
fn shorter_windows_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let life = begin(folder.path(), &at_epoch());
    let short = SavedWindow { slice_ns: NonZeroU64::new(900_000_000).unwrap(), ..window(5) };
    assert!(life.engine.import(key(1), &short, Nanos::ZERO));
    life.engine.export_all_next();
    assert!(!life.engine.has_changes());
}

#[test]
fn a_directory_serves_one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let second = Directory::open(folder.path(), || SEED).unwrap_err();
    assert!(second.to_string().contains("another process uses this state directory"), "{second}");
    drop(first);
    drop(open(folder.path()));
}

#[test]
fn the_seed_is_made_once_and_for_this_user_only() {
    let folder = tempfile::tempdir().unwrap();
    let made = open(folder.path()).seed();
    let again = Directory::open(folder.path(), || Seed([8, 8])).unwrap();
    assert_eq!((made.0, again.seed().0), (SEED.0, SEED.0));
    let mode = std::fs::metadata(again.file("seed")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_damaged_seed_begins_anew_and_so_do_the_counts() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 10);
    std::fs::write(folder.path().join("seed"), "not a seed").unwrap();
    let directory = Directory::open(folder.path(), || Seed([8, 8])).unwrap();
    assert_eq!(directory.seed().0, [8, 8]);
    let mut keeper = Keeper::open(&directory);
    let engine = Engine::new(directory.seed(), 100);
    assert_eq!(keeper.restore(&engine, &settings(), Nanos::ZERO), 0);
    for name in ["seed.damaged-1", "windows.redb.damaged-1"] {
        assert!(directory.file(name).exists(), "{name}");
    }
}

#[test]
fn a_directory_that_cannot_be_made_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Directory::open(&file.join("state"), || SEED).unwrap_err();
    assert!(error.to_string().contains("cannot be used"), "{error}");
}

/// Opens a damaged copy: whatever comes back is what was written, and the next life has all of it.
fn survives(bytes: &[u8], before: &BTreeMap<PartitionKey, SavedWindow>) -> bool {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    std::fs::write(folder.path().join("windows.redb"), bytes).unwrap();
    let life = begin(folder.path(), &at_epoch());
    let restored = all(&life.engine);
    assert!(restored.iter().all(|(key, window)| before.get(key) == Some(window)), "something else came back");
    let damaged = folder.path().join("windows.redb.damaged-1").exists();
    assert!(damaged || restored.len() == before.len(), "counts are lost in silence");
    life.engine.export_all_next();
    let metrics = life.end();
    assert_eq!(metrics.state.damaged.get(), u64::from(damaged));
    let next = begin(folder.path(), &at_epoch());
    assert_eq!(all(&next.engine), restored, "what was saved of it is written again");
    damaged
}

#[test]
fn a_damaged_store_is_set_aside_and_what_can_be_read_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let before = filled(folder.path(), 200);
    let whole = std::fs::read(folder.path().join("windows.redb")).unwrap();
    assert!(!survives(&whole, &before));
    for at in [0, 1, 9, 512, 4_096, whole.len() / 2, whole.len() - 1] {
        survives(&whole[..at], &before);
    }
    assert!(survives(b"this is no store at all, and never was one", &before));
    let mut zero_tail = whole.clone();
    let half = zero_tail.len() / 8;
    zero_tail[half..].fill(0);
    survives(&zero_tail, &before);
    // Every part of the file, one bit at a time: most of it is free pages, where damage does not matter.
    let found = (0..24).filter(|nth| {
        let mut flipped = whole.clone();
        let at = nth * 1_361 % whole.len().min(48 << 10);
        flipped[at] ^= 1 << (nth % 8);
        survives(&flipped, &before)
    });
    assert!(found.count() > 0);
}

#[test]
fn three_damaged_files_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    for nth in 0..5 {
        std::fs::write(&path, nth.to_string()).unwrap();
        set_aside(&path).unwrap();
    }
    let kept = |nth: u32| std::fs::read_to_string(folder.path().join(format!("x.damaged-{nth}"))).ok();
    assert_eq!([kept(1), kept(2), kept(3), kept(4)].map(Option::unwrap_or_default), ["4", "3", "2", ""]);
}

#[test]
fn a_write_that_fails_is_told_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    // In the place of the file is a directory: it can be opened by nobody.
    let place = folder.path().join("windows.redb");
    std::fs::create_dir(&place).unwrap();
    std::fs::write(place.join("in-the-way"), "").unwrap();
    let mut life = begin(folder.path(), &at_epoch());
    assert!(life.engine.import(key(1), &window(5), Nanos::ZERO));
    let (time, hand) = Time::manual();
    hand.advance(Duration::from_secs(1));
    let metrics = Arc::clone(&life.metrics);
    let keeper = life.keeper.take().unwrap();
    let writer =
        keeper.start(Arc::clone(&life.engine), time.clone(), Arc::clone(&metrics), Duration::from_millis(1)).unwrap();
    let written = || metrics.text().unwrap().contains("tollgate_state_writes_total{result=\"success\"}");
    for _ in 0..200_000 {
        if written() {
            break;
        }
        std::thread::yield_now();
    }
    writer.finish();
    assert!(written(), "{}", metrics.text().unwrap());
    assert_eq!(time.now(), Nanos(1_000_000_000));
    drop(life);
    assert_eq!(begin(folder.path(), &at_epoch()).restored, 1);
}
