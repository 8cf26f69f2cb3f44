//! What one line of a trace says, as far as a replay needs it; and what can be wrong with a line.

use crate::engine::Mode;
use std::borrow::Cow;

/// One request as a trace has it. Times are nanoseconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// When its head was there.
    pub at: u64,
    /// How long it took to its last byte, in nanoseconds; at most [`MAX_DURATION_NS`]. `None` where the trace does not say.
    pub duration: Option<u64>,
    /// The account that the key belongs to. `None`: it never came as far as the limits.
    pub account: Option<Cow<'a, str>>,
    /// The account acted for.
    pub connected: Option<Cow<'a, str>>,
    /// The key's id.
    pub key: Option<Cow<'a, str>>,
    /// Live or test; live where the trace does not say.
    pub mode: Option<Mode>,
    /// The method.
    pub method: Cow<'a, str>,
    /// The path, with or without a query.
    pub path: Cow<'a, str>,
    /// The host it was for.
    pub host: Option<Cow<'a, str>>,
    /// The name of the route that took it.
    pub route: Option<Cow<'a, str>>,
    /// The name of the endpoint it was for. `None` in a trace of the gateway's own: refused before it had a class.
    pub endpoint: Option<Cow<'a, str>>,
    /// The client's address.
    pub client: Option<Cow<'a, str>>,
    /// The status answered.
    pub status: u16,
    /// The limit that refused it.
    pub limit: Option<Cow<'a, str>>,
    /// No limit refused it, and yet it was not forwarded: its tokens went back when it ended.
    pub given_up: bool,
    /// The values that limits count by, by the names they are written with.
    pub partition: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// What conditions asked of its body and found there.
    pub facts: Vec<Cow<'a, str>>,
}

/// Nothing lasts longer: a duration beyond it is a fault of the trace.
pub const MAX_DURATION_NS: u64 = 7 * 24 * 3_600 * 1_000_000_000;

/// What is wrong with a line, or with what it is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// It ends in the middle.
    Truncated,
    /// It is not of the format.
    Malformed,
    /// A field that is needed is missing or of another type.
    Field,
    /// Its time cannot be read, or lies before 1970.
    Time,
    /// It is longer than [`MAX_LINE_BYTES`](super::lines::MAX_LINE_BYTES).
    Long,
    /// It is not UTF-8 text, or has a NUL.
    Binary,
    /// Its path is none that the gateway would take.
    Path,
    /// It is older than what was replayed before it, beyond what is put in order again. It is replayed all the same.
    Late,
    /// The file's compression is broken, or it cannot be read on.
    Unreadable,
}

impl Fault {
    /// All faults, in the order of reports.
    pub const ALL: [Fault; 9] = [
        Fault::Truncated,
        Fault::Malformed,
        Fault::Field,
        Fault::Time,
        Fault::Long,
        Fault::Binary,
        Fault::Path,
        Fault::Late,
        Fault::Unreadable,
    ];

    /// Its name in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Truncated => "truncated",
            Fault::Malformed => "malformed",
            Fault::Field => "field",
            Fault::Time => "time",
            Fault::Long => "long",
            Fault::Binary => "binary",
            Fault::Path => "path",
            Fault::Late => "late",
            Fault::Unreadable => "unreadable",
        }
    }

    /// What it is, for people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Fault::Truncated => "ends in the middle",
            Fault::Malformed => "is not of the format",
            Fault::Field => "lacks a field, or a value of the right type in it",
            Fault::Time => "has no time that can be read",
            Fault::Long => "is longer than 1 MiB",
            Fault::Binary => "is not text",
            Fault::Path => "has a path that the gateway refuses",
            Fault::Late => "is older than what was replayed before it",
            Fault::Unreadable => "cannot be read on",
        }
    }
}
