//! Every fuzz target against its corpus and a fixed number of mutations of it: what a change breaks at once is found at once.
//! `scripts/fuzz` looks for the rest.

#[path = "../../fuzz/src/targets/mod.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use targets::{TARGETS, Target};

/// Mutations of one target; of those that compile a configuration fewer, as each takes milliseconds.
const MUTATIONS: usize = 3_000;
const FEW_MUTATIONS: usize = 300;
/// Bytes of a mutated input at most.
const MAX_INPUT: usize = 4_096;
/// Bytes of all corpora together.
const MAX_CORPORA: u64 = 200 * 1024;

fn corpus_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name)
}

/// A target's inputs by file name, in that order.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = corpus_folder(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<(String, Vec<u8>)> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

/// The same numbers every time (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound.max(1) as u64) as usize
    }

    /// Where a piece of `bytes` may begin and end.
    fn piece<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let start = self.below(bytes.len() + 1);
        let length = self.below((bytes.len() - start).min(40) + 1);
        &bytes[start..start + length]
    }

    /// One of the inputs, changed in one to four places.
    fn mutation(&mut self, inputs: &[(String, Vec<u8>)]) -> Vec<u8> {
        const LETTERS: &[u8] = b"\0\t\n\r \"#%&'+,-./0129:;<=>?@AZ[\\]_az{|}~\x7f\x80\xc2\xe2\xff";
        let mut bytes = inputs[self.below(inputs.len())].1.clone();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let end = at + self.below((bytes.len() - at).min(8) + 1);
            let fresh = match self.below(4) {
                0 => vec![LETTERS[self.below(LETTERS.len())]],
                1 => vec![self.below(256) as u8],
                2 => {
                    let other = self.below(inputs.len());
                    self.piece(&inputs[other].1).to_vec()
                }
                _ => Vec::new(),
            };
            let end = if self.below(2) == 0 { at } else { end };
            bytes.splice(at..end, fresh);
        }
        bytes.truncate(MAX_INPUT);
        bytes
    }
}

#[track_caller]
fn check(target: &Target, what: &str, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (target.1)(input))).is_err() {
        panic!("{}: {what} breaks it: b\"{}\"", target.0, input.escape_ascii());
    }
}

fn hold(name: &str) {
    let target = TARGETS.iter().find(|target| target.0 == name).unwrap();
    let inputs = corpus(name);
    assert!(inputs.len() >= 3, "{name}: a corpus of {} inputs", inputs.len());
    for (file, input) in &inputs {
        check(target, file, input);
    }
    let mut numbers = Numbers(0x0070_116a_7e00);
    let mutations = if matches!(name, "config" | "answers") { FEW_MUTATIONS } else { MUTATIONS };
    for nth in 0..mutations {
        check(target, &format!("mutation {nth}"), &numbers.mutation(&inputs));
    }
}

/// One test each, so that they run side by side.
macro_rules! hold_each {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                hold(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_held_and_every_corpus_is_small() {
            let held = [$(stringify!($name)),*];
            assert_eq!(TARGETS.iter().map(|target| target.0).collect::<Vec<_>>(), held);
            let sizes = held.iter().flat_map(|name| corpus(name)).map(|(_, input)| input.len() as u64);
            assert!(sizes.sum::<u64>() < MAX_CORPORA);
        }
    };
}

hold_each!(access_log, answers, body, config, key, keys_file, path, proxy_protocol, trace, wire);
