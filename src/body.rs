//! FLOOR 1: what a request says in its body and its query: values to count by, and facts that limits depend on.
//!
//! The sender is not trusted. A limit that counts by a field must see the field that the upstream will see, so whatever two
//! readers could read differently is *unclear*: a key twice, a key in a spelling that a lenient reader folds into the one that
//! counts (`a[]`, `A`, ` a`, `a=1;b=2`), a bad escape, bytes that are not UTF-8, a form's key in the query as well, a body of
//! another type, compressed or too long to look into. An unclear body yields no value, so that all unclear bodies share one
//! partition of each limit, and it leaves every fact at what is strict: `when` holds, `except` does not.
//!
//! Nothing recurses with the input: forms are scanned once, and of JSON only the members on a configured path are entered.
//! Values that need no decoding are borrowed; a form without escapes in what counts is read without allocating.

mod form;
mod json;
mod kind;

pub use form::{FormKey, KeyError};
pub use json::JsonPath;
pub use kind::Kind;

use crate::engine::class::MAX_VALUES;
use std::borrow::Cow;

/// How many keys and tests may be asked of one endpoint's requests, in each of query, form and JSON.
pub const MAX_ASKED: usize = 128;
/// How many facts one endpoint may have: the bits of [`RequestClass::facts`](crate::engine::RequestClass::facts).
pub const MAX_FACTS: usize = 64;

/// What to look for in one endpoint's requests.
#[derive(Clone, Debug)]
pub struct Inspection {
    query: Box<[Field]>,
    form: Box<[Field]>,
    json: Box<[(JsonPath, usize)]>,
    tests: Box<[Test]>,
    facts: Box<[Bit]>,
    /// The bits of facts that hold of an unclear body.
    if_unclear: u64,
}

/// One key of a form or a query.
#[derive(Clone, Debug)]
struct Field {
    key: FormKey,
    /// Where its value goes, if limits count by it.
    slot: Option<usize>,
    /// The places of its tests.
    tests: Vec<usize>,
}

/// A fact with its tests by place.
#[derive(Clone, Debug)]
struct Bit {
    mask: u64,
    any: Box<[usize]>,
    if_unclear: bool,
}

/// What a condition asks of one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Test {
    /// The key; `*` in its brackets stands for any index.
    pub key: FormKey,
    /// What is asked of it.
    pub wanted: Wanted,
}

/// What is asked of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// It is there.
    Present,
    /// It is not there.
    Absent,
    /// It has this value.
    Equals(Box<str>),
}

/// One bit of [`RequestClass::facts`](crate::engine::RequestClass::facts): at least one of some tests holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fact {
    /// The tests, at least one.
    pub any: Box<[Test]>,
    /// Whether it counts as holding where that cannot be told: so in `when`, not so in `except`.
    pub if_unclear: bool,
}

impl Test {
    /// As it is written, for logs.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.wanted {
            Wanted::Present => format!("form.{}", self.key),
            Wanted::Absent => format!("!form.{}", self.key),
            Wanted::Equals(value) => format!("form.{}={value}", self.key),
        }
    }
}

/// Where a value to count by is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A key of the query.
    Query(FormKey),
    /// A key of the form in the body.
    Form(FormKey),
    /// A member of the JSON in the body.
    Json(JsonPath),
}

/// A body, as far as it could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'b> {
    /// None, or one of no bytes.
    Empty,
    /// All of a form.
    Form(&'b [u8]),
    /// All of a JSON text.
    Json(&'b [u8]),
    /// Anything else.
    Unclear,
}

/// What a request said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings<'b> {
    /// A bit for each fact that holds.
    pub facts: u64,
    /// The values that were asked for, by slot.
    pub values: Values<'b>,
}

/// A value for each slot that has one.
pub type Values<'b> = [Option<Cow<'b, str>>; MAX_VALUES];

impl Inspection {
    /// `values` are slots with what goes into them; `facts` are bits with what they stand for.
    ///
    /// `None` where there is more than [`MAX_ASKED`] of one kind, or a slot or bit that does not exist.
    #[must_use]
    pub fn new(values: &[(usize, Source)], facts: &[(u32, Fact)]) -> Option<Inspection> {
        let (mut query, mut form, mut json) = (Vec::new(), Vec::new(), Vec::new());
        let (mut tests, mut bits, mut if_unclear) = (Vec::new(), Vec::new(), 0);
        for (slot, source) in values {
            match source {
                Source::Query(key) => note(&mut query, key).slot = Some(*slot),
                Source::Form(key) => note(&mut form, key).slot = Some(*slot),
                Source::Json(path) => json.push((path.clone(), *slot)),
            }
        }
        for (bit, fact) in facts {
            let any = fact.any.iter().map(|test| place(&mut tests, &mut form, test)).collect();
            let mask = 1_u64.checked_shl(*bit)?;
            if_unclear |= if fact.if_unclear { mask } else { 0 };
            bits.push(Bit { mask, any, if_unclear: fact.if_unclear });
        }
        let fits = values.iter().all(|(slot, _)| *slot < MAX_VALUES)
            && [query.len(), form.len(), json.len(), tests.len()].iter().all(|&count| count <= MAX_ASKED);
        let (query, form, json, tests) = (query.into(), form.into(), json.into(), tests.into());
        fits.then(|| Inspection { query, form, json, tests, facts: bits.into(), if_unclear })
    }

    /// Whether any of it is in the body.
    #[must_use]
    pub fn wants_body(&self) -> bool {
        !self.form.is_empty() || !self.json.is_empty()
    }

    /// Whether a body of this kind could say anything: no other need be waited for.
    #[must_use]
    pub fn reads(&self, kind: Kind) -> bool {
        match kind {
            Kind::Form => !self.form.is_empty(),
            Kind::Json => !self.json.is_empty(),
            Kind::Unclear => false,
        }
    }

    /// Looks for everything. Takes time in proportion to the length of the input times the number of keys asked for.
    #[must_use]
    pub fn read<'b>(&self, body: Body<'b>, query: &'b str) -> Findings<'b> {
        let mut findings = Findings::default();
        if let Some(scan) = form::scan(&self.query, &[], query.as_bytes()).filter(|_| !self.query.is_empty()) {
            findings.take(scan.values);
        }
        let form = match body {
            Body::Form(bytes) => Some(bytes),
            Body::Empty => Some(&[][..]),
            Body::Json(_) | Body::Unclear => None,
        };
        // Some servers read the query and the form as one.
        let form = form.filter(|_| query.is_empty() || !form::mentions(&self.form, query.as_bytes()));
        match form.and_then(|bytes| form::scan(&self.form, &self.tests, bytes)) {
            Some(scan) => {
                findings.facts = self.facts_of(&scan);
                findings.take(scan.values);
            }
            None => findings.facts = self.if_unclear,
        }
        if let Body::Json(text) = body
            && let Some(values) = json::read(&self.json, text)
        {
            findings.take(values);
        }
        findings
    }

    /// The tests that hold where nothing is unclear, for logs: see [`Test::name`].
    pub fn holding(&self, facts: u64) -> impl Iterator<Item = &Test> {
        let bits = self.facts.iter().filter(move |bit| bit.mask & facts != 0);
        bits.flat_map(|bit| bit.any.iter().filter_map(|&place| self.tests.get(place)))
    }

    /// The facts one of whose tests has a name for which `is_named` holds: the way back from [`Inspection::holding`].
    pub fn facts_named(&self, mut is_named: impl FnMut(&str) -> bool) -> u64 {
        let mut named = |&place: &usize| self.tests.get(place).is_some_and(|test| is_named(&test.name()));
        let bits = self.facts.iter().filter(|bit| bit.any.iter().any(&mut named));
        bits.fold(0, |facts, bit| facts | bit.mask)
    }

    fn facts_of(&self, scan: &form::Scan<'_>) -> u64 {
        let holds = |bit: &&Bit| {
            let verdicts = || bit.any.iter().map(|&place| scan.verdict(place));
            let unclear = verdicts().any(|verdict| verdict.is_none());
            verdicts().any(|verdict| verdict == Some(true)) || (unclear && bit.if_unclear)
        };
        self.facts.iter().filter(holds).fold(0, |facts, bit| facts | bit.mask)
    }
}

impl<'b> Findings<'b> {
    fn take(&mut self, values: Values<'b>) {
        for (own, value) in self.values.iter_mut().zip(values) {
            if value.is_some() {
                *own = value;
            }
        }
    }
}

/// The field of this key, added where there is none.
fn note<'f>(fields: &'f mut Vec<Field>, key: &FormKey) -> &'f mut Field {
    let place = fields.iter().position(|field| field.key == *key).unwrap_or(fields.len());
    if place == fields.len() {
        fields.push(Field { key: key.clone(), slot: None, tests: Vec::new() });
    }
    &mut fields[place]
}

/// The place of a test, added where there is none.
fn place(tests: &mut Vec<Test>, form: &mut Vec<Field>, test: &Test) -> usize {
    let place = tests.iter().position(|known| known == test).unwrap_or(tests.len());
    if place == tests.len() {
        note(form, &test.key).tests.push(place);
        tests.push(test.clone());
    }
    place
}

#[cfg(test)]
mod tests;
