//! What came out of a replay. The structs are the JSON report; [`text`] writes the same for people.

mod make;
pub mod text;

pub(super) use make::make;

use crate::config::WrittenFigures;
use serde::Serialize;

/// A replay's report: of one configuration, or of two and what differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// What was read.
    pub trace: TraceReport,
    /// Under the configuration.
    #[serde(flatten)]
    pub report: Report,
    /// Under the other one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<Report>,
    /// What changes from the one to the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TraceReport {
    /// The files, as they were named.
    pub files: Vec<String>,
    /// Lines.
    pub lines: u64,
    /// Requests replayed.
    pub requests: u64,
    /// Requests that never came to the limits: without a key, an account or a route.
    pub elsewhere: u64,
    /// When the first began; RFC 3339.
    pub from: Option<String>,
    /// When the last began.
    pub to: Option<String>,
    /// Accounts.
    pub accounts: u64,
    /// Lines that something is wrong with, those that were late among them.
    pub faults: Vec<FaultReport>,
}

/// Lines that one thing is wrong with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FaultReport {
    /// What; see [`Fault`](super::record::Fault).
    pub kind: &'static str,
    /// In words.
    pub message: &'static str,
    /// How many.
    pub count: u64,
    /// Where the first of them are: `file:line`.
    pub first: Vec<String>,
}

/// What one configuration does with the traffic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Admitted.
    pub admitted: u64,
    /// Refused.
    pub refused: u64,
    /// Admitted, but a limit that is not enforced would have refused.
    pub would_refuse: u64,
    /// The busiest second.
    pub peak: Option<PeakReport>,
    /// Against the verdicts that were recorded.
    pub recorded: RecordedReport,
    /// Requests that ended earlier than recorded, since too many were in flight.
    pub cut_short: u64,
    /// Refusals by reason, in the order of the stages.
    pub reasons: Vec<ReasonReport>,
    /// By limit, in the order of the configuration.
    pub limits: Vec<LimitReport>,
    /// By endpoint: those that had requests, the most refused first.
    pub endpoints: Vec<CountReport>,
    /// By account.
    pub accounts: AccountsReport,
    /// Over time.
    pub timeline: TimelineReport,
}

/// The most within one second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeakReport {
    /// Which second.
    pub at: String,
    /// How many.
    pub requests: u64,
}

/// Against what was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RecordedReport {
    /// Refused when they were recorded.
    pub refused: u64,
    /// Served then, refused now.
    pub newly_refused: u64,
    /// Refused then, admitted now.
    pub newly_admitted: u64,
}

/// Refusals of one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReasonReport {
    /// As the reason header has it.
    pub reason: &'static str,
    /// How many.
    pub refused: u64,
}

/// What one limit did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LimitReport {
    /// Its name.
    pub name: Box<str>,
    /// The reason its refusals have.
    pub reason: &'static str,
    /// Its figures.
    pub figures: WrittenFigures,
    /// The share of accounts that it refuses: 1 is all, 0 none.
    pub enforced: f64,
    /// Requests it had room for.
    pub admitted: u64,
    /// Requests it refused.
    pub refused: u64,
    /// Requests it would have refused if it were enforced for their accounts.
    pub would_refuse: u64,
    /// What its candidate did beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<CandidateReport>,
    /// Accounts it refused, or would have.
    pub accounts: u64,
    /// The busiest second of what it was asked for.
    pub peak: Option<PeakReport>,
    /// The second with most of its refusals.
    pub refused_peak: Option<PeakReport>,
    /// When it refused first.
    pub first: Option<String>,
    /// The smallest figures that would have refused nobody, and 0.1 % of accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggested: Option<Suggested>,
}

/// Figures on trial.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CandidateReport {
    /// The figures.
    pub figures: WrittenFigures,
    /// Requests they had room for.
    pub admitted: u64,
    /// Requests they would have refused.
    pub would_refuse: u64,
}

/// Figures that would have done.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Suggested {
    /// The smallest that would have refused nobody.
    pub refuses_nobody: Option<WrittenFigures>,
    /// The smallest that would have refused at most 0.1 % of accounts.
    pub refuses_one_in_1000: Option<WrittenFigures>,
}

/// Counts of one endpoint or account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CountReport {
    /// Its name.
    pub name: Box<str>,
    /// Admitted.
    pub admitted: u64,
    /// Refused.
    pub refused: u64,
    /// Would have been refused by limits that are not enforced.
    pub would_refuse: u64,
    /// Refusals by limit, where they are told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by_limit: Vec<(Box<str>, u64)>,
}

/// Accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountsReport {
    /// How many had at least one request refused.
    pub refused: u64,
    /// The accounts with the most refusals; among equals those with the most requests, then by name.
    pub top: Vec<CountReport>,
    /// All accounts beyond the first 1,000,000 together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others: Option<CountReport>,
}

/// Requests over time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TimelineReport {
    /// When the first bucket begins: a multiple of `bucket_seconds` where these are more than one.
    pub from: Option<String>,
    /// Seconds of a bucket.
    pub bucket_seconds: u64,
    /// Requests of the busiest second, by bucket.
    pub busiest_second: Vec<u64>,
    /// Admitted, by bucket.
    pub admitted: Vec<u64>,
    /// Refused, by limit and bucket; limits that refused something.
    pub refused: Vec<(Box<str>, Vec<u64>)>,
}

/// What changes from one configuration to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Requests.
    #[serde(flatten)]
    pub all: ChangeReport,
    /// By the limits of the configuration: requests it refuses that the other admits.
    pub no_longer_refused_by: Vec<(Box<str>, u64)>,
    /// By the limits of the other: requests it refuses that the first admits.
    pub newly_refused_by: Vec<(Box<str>, u64)>,
    /// By endpoint, the most changed first.
    pub endpoints: Vec<ChangeReport>,
    /// How many accounts have a request with another verdict.
    pub accounts_changed: u64,
    /// The most changed accounts.
    pub accounts: Vec<ChangeReport>,
}

/// Requests with another verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangeReport {
    /// Of what.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: Box<str>,
    /// Admitted by the first, refused by the other.
    pub newly_refused: u64,
    /// Refused by the first, admitted by the other.
    pub newly_admitted: u64,
    /// Refused by both, by limits of different names.
    pub refused_elsewhere: u64,
}

impl Comparison {
    /// The report as JSON, indented, with a line feed at its end.
    ///
    /// # Errors
    /// It cannot be written as JSON, which no report is known for.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}
