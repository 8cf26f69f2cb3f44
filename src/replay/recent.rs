//! Requests that were classified lately: a trace asks for the same few paths over and over.
//!
//! What is remembered is what classification said, never made up here; a place that is taken is written over.

use super::arrival::{Brief, MAX_CONFIGS};
use super::record::Record;
use crate::endpoints::fold_bytes;
use std::borrow::Cow;

/// Requests remembered.
const PLACES: usize = 256;
/// Longer ones are not remembered, so that they hold no memory.
const MAX_BYTES: usize = 256;

/// What some requests were classified as.
#[derive(Debug)]
pub(super) struct Recent {
    known: Box<[Known]>,
}

/// One of them. All that classification went by where a request has nothing else.
#[derive(Clone, Debug, Default)]
struct Known {
    method: String,
    path: String,
    /// The host and the route, where they are named.
    named: [Option<String>; 2],
    /// Whether the path was canonical already.
    own: bool,
    briefs: Option<[Option<Brief>; MAX_CONFIGS]>,
}

impl Recent {
    /// Nothing yet.
    pub(super) fn new() -> Recent {
        Recent { known: vec![Known::default(); PLACES].into() }
    }

    /// What such a request was classified as, if it is remembered.
    pub(super) fn get(&self, record: &Record<'_>) -> Option<[Option<Brief>; MAX_CONFIGS]> {
        let known = self.known.get(place(record)?)?;
        let same = known.path == *record.path
            && known.method == *record.method
            && known.own == record.endpoint.is_some()
            && known.named.iter().map(Option::as_deref).eq(named(record));
        known.briefs.filter(|_| same)
    }

    /// Remembers what a request was classified as whose briefs tell all: it has no class of its own, as it would where its key or
    /// its address counts.
    pub(super) fn note(&mut self, record: &Record<'_>, briefs: [Option<Brief>; MAX_CONFIGS]) {
        let Some(known) = place(record).and_then(|place| self.known.get_mut(place)) else { return };
        (*record.method).clone_into(&mut known.method);
        (*record.path).clone_into(&mut known.path);
        for (known, name) in known.named.iter_mut().zip(named(record)) {
            match (&mut *known, name) {
                (Some(known), Some(name)) => name.clone_into(known),
                (known, name) => *known = name.map(str::to_owned),
            }
        }
        (known.own, known.briefs) = (record.endpoint.is_some(), Some(briefs));
    }
}

/// Whether nothing else of a request can count but what is remembered.
fn is_plain(record: &Record<'_>) -> bool {
    record.connected.is_none() && record.partition.is_empty() && record.facts.is_empty()
}

fn named<'r>(record: &'r Record<'_>) -> impl Iterator<Item = Option<&'r str>> {
    [&record.host, &record.route].into_iter().map(Option::<Cow<'_, str>>::as_deref)
}

/// Where a request is remembered, if it can be.
fn place(record: &Record<'_>) -> Option<usize> {
    let bytes = record.method.len() + record.path.len() + named(record).flatten().map(str::len).sum::<usize>();
    if !is_plain(record) || bytes > MAX_BYTES {
        return None;
    }
    let mixed = fold_bytes(record.path.as_bytes()).rotate_left(1) ^ fold_bytes(record.method.as_bytes());
    Some(mixed as usize >> 16 & (PLACES - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{EndpointId, RouteId};

    fn briefs(endpoint: u32) -> [Option<Brief>; MAX_CONFIGS] {
        [Some(Brief { endpoint: EndpointId(endpoint), route: RouteId(0) }), None]
    }

    fn record(path: &str) -> Record<'_> {
        Record { method: "GET".into(), path: path.into(), ..Record::default() }
    }

    #[test]
    fn only_the_same_request_is_remembered() {
        let mut recent = Recent::new();
        let known = Record { host: Some("a.test".into()), endpoint: Some("c".into()), ..record("/v1/charges") };
        recent.note(&known, briefs(1));
        assert_eq!(recent.get(&known), Some(briefs(1)));
        let same = Record { endpoint: Some("d".into()), account: Some("b".into()), status: 429, ..known.clone() };
        assert_eq!(recent.get(&same), Some(briefs(1)), "by what was found then nothing goes");
        let others = [
            Record { method: "POST".into(), ..known.clone() },
            Record { method: "get".into(), ..known.clone() },
            Record { path: "/v1/Charges".into(), ..known.clone() },
            Record { host: None, ..known.clone() },
            Record { host: None, route: Some("a.test".into()), ..known.clone() },
            Record { host: Some("b.test".into()), ..known.clone() },
            Record { route: Some("r".into()), ..known.clone() },
            Record { endpoint: None, ..known.clone() },
            Record { connected: Some("acct_1".into()), ..known.clone() },
            Record { partition: vec![("path.id".into(), "1".into())], ..known.clone() },
            Record { facts: vec!["form.a".into()], ..known.clone() },
        ];
        for other in others {
            assert_eq!(recent.get(&other), None, "{other:?}");
            let mut only = Recent::new();
            only.note(&other, briefs(2));
            assert_eq!(only.get(&known), None, "{other:?}");
        }
    }

    #[test]
    fn of_many_each_is_remembered_as_itself_or_not_at_all() {
        let mut recent = Recent::new();
        let paths: Vec<String> = (0..2_000).map(|number| format!("/v1/charges/ch_{number}")).collect();
        let mut remembered = 0;
        for (number, path) in (0..).zip(&paths) {
            recent.note(&record(path), briefs(number));
        }
        for (number, path) in (0..).zip(&paths) {
            let known = recent.get(&record(path));
            assert!(known.is_none_or(|known| known == briefs(number)), "{path}");
            remembered += usize::from(known.is_some());
        }
        // Of so many that each falls on a place, a place keeps the last.
        assert!((200..=PLACES).contains(&remembered), "{remembered}");
        let long = format!("/{}", "a".repeat(MAX_BYTES));
        recent.note(&record(&long), briefs(1));
        assert_eq!(recent.get(&record(&long)), None);
    }
}
