//! FLOOR 3: recorded traffic through the engine on virtual time.
//!
//! In the order of reading: [`input`] opens traces, [`lines`] cuts them, [`mod@format`] reads a line into a [`record`],
//! [`arrival`] classifies it with the classification of live traffic and keeps what decides, [`order`] puts requests into the
//! order in which they began ([`trace`] does all of this for many files), [`simulation`] lets them meet the engine, `search`
//! asks it for better figures, and [`report`] says what came out.
//!
//! Invariants:
//! - Every decision is the engine's. Nothing here knows what a token or a slot is.
//! - Two replays of the same input give the same bytes: no wall clock, no random seed, nothing in the order of a hash.
//! - Memory is bounded whatever the trace is: lines, requests held back, requests in flight and accounts each have a bound.
//! - A bad line is counted, and never ends a replay that was not asked to be strict.

pub mod arrival;
pub mod figures;
pub mod flight;
pub mod format;
pub mod html;
pub mod input;
pub mod lines;
pub mod order;
mod recent;
pub mod record;
pub mod report;
mod search;
pub mod simulation;
pub mod tally;
pub mod trace;

pub use report::{Comparison, Report};
pub use trace::{Traces, Turns, Watch};

use crate::config::Config;
use crate::engine::{Nanos, Seed};
use arrival::{Accounts, Arrival, Classes};
use record::Fault;
use simulation::{Changes, Simulation};

/// What all ids of a replay are made with. Nobody guards anything here: it is the same everywhere, so that results are.
pub const SEED: Seed = Seed([0x746f_6c6c_6761_7465, 0x7265_706c_6179_2e31]);

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A trace cannot be read at all.
    #[error("{file}: cannot be read: {error}")]
    Input {
        /// Its name.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// There is no configuration to replay under.
    #[error("there is no configuration")]
    NoConfiguration,
    /// A bad line, where that was asked to be an error.
    #[error("{place}: the line {}", fault.words())]
    Fault {
        /// File and line.
        place: String,
        /// What is wrong.
        fault: Fault,
    },
}

/// What a replay is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Rows of the list of accounts.
    pub top: usize,
    /// Whether to look for the figures that would have refused nobody, in further passes over the traces.
    pub figures: bool,
}

/// Replays `traces` under one configuration, or under two side by side. The configurations must have been compiled with
/// [`SEED`].
///
/// # Errors
/// A trace cannot be read, or has a fault where that is asked to be one.
pub fn run<W: Watch>(
    traces: &Traces,
    configs: (&Config, Option<&Config>),
    options: Options,
    watch: &mut W,
) -> Result<Comparison, ReplayError> {
    let (first, second) = configs;
    let all: Vec<&Config> = std::iter::once(first).chain(second).collect();
    let mut classes = Classes::new(SEED, &all);
    let mut simulations: Vec<Simulation<'_>> =
        all.iter().enumerate().map(|(number, config)| Simulation::new(number, config)).collect();
    let mut changes = Changes::default();
    let sides = Sides { configs: &all, simulations: &mut simulations, changes: &mut changes };
    let tally = traces.pass("replaying", &mut classes, watch, sides)?;
    let mut figures = Vec::new();
    for number in 0..all.len() {
        figures.push(match options.figures {
            true => Some(search::figures(traces, number, &all, &tally, watch)?),
            false => None,
        });
    }
    report::make(traces, &tally, classes.accounts(), &simulations, &figures, &changes, options.top)
        .ok_or(ReplayError::NoConfiguration)
}

/// The configurations side by side.
struct Sides<'s, 'c> {
    configs: &'s [&'c Config],
    simulations: &'s mut [Simulation<'c>],
    changes: &'s mut Changes,
}

impl Turns for Sides<'_, '_> {
    fn ahead(&mut self, next: &[(u64, Arrival)], accounts: &Accounts) {
        self.simulations.iter().for_each(|simulation| simulation.ahead(next, accounts));
    }

    fn take(&mut self, at: Nanos, arrival: &Arrival, accounts: &Accounts) {
        let mut verdicts = [None; arrival::MAX_CONFIGS];
        for (verdict, simulation) in verdicts.iter_mut().zip(&mut *self.simulations) {
            *verdict = simulation.arrive(at, arrival, accounts);
        }
        if let [Some(before), Some(after)] = verdicts {
            self.changes.note(self.configs, arrival, before, after);
        }
    }
}
