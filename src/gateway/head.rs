//! The head of a request, in one place from its first byte on.

use crate::fields::Names;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Uri, Version};
use std::ops::Deref;

/// The head of a request. It is read as the [`Parts`] it is; what it has of well-known names is asked by [`Head::get`] and
/// [`Head::has`], since most are not there.
pub struct Head {
    parts: Parts,
    /// The names of all fields that there are, and perhaps of some that have gone.
    names: Names,
}

impl From<Parts> for Head {
    fn from(parts: Parts) -> Head {
        let names = Names::of(&parts.headers);
        Head { parts, names }
    }
}

impl Default for Head {
    fn default() -> Head {
        Request::new(()).into_parts().0.into()
    }
}

impl Deref for Head {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Head {
    /// The first field of this name.
    #[must_use]
    pub fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        if self.names.may_have(name) { self.parts.headers.get(name) } else { None }
    }

    /// Whether there is a field of this name.
    #[must_use]
    pub fn has(&self, name: &HeaderName) -> bool {
        self.names.may_have(name) && self.parts.headers.contains_key(name)
    }

    /// Adds a field.
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.names.note(&name);
        self.parts.headers.append(name, value);
    }

    /// As new: nothing of a request is left.
    pub(super) fn clear(&mut self) {
        let Parts { method, uri, version, headers, extensions, .. } = &mut self.parts;
        (*method, *uri, *version) = (Method::GET, Uri::default(), Version::default());
        if headers.capacity() > 0 {
            *headers = HeaderMap::new();
        }
        extensions.clear();
        self.names = Names::default();
    }

    /// All of it, to be changed. Fields may be taken away; what is added is not found by name, so that only whoever sends it on
    /// adds any.
    pub fn parts_mut(&mut self) -> &mut Parts {
        &mut self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::super::kept::Kept;
    use super::*;
    use http::header;

    /// What stays of a head is what a new one is.
    #[test]
    fn nothing_is_left_of_a_head_that_has_ended() {
        let fill = |head: &mut Head| {
            head.append(header::HOST, HeaderValue::from_static("a"));
            let parts = head.parts_mut();
            (parts.method, parts.version) = (Method::PUT, Version::HTTP_10);
            parts.uri = Uri::from_static("https://a.test/v1?b");
            parts.extensions.insert(7_u8);
        };
        let mut kept = Kept::<Head>::blank();
        let place = std::ptr::from_ref(&*kept).addr();
        fill(&mut kept);
        drop(kept);
        let (mut blank, new) = (Kept::<Head>::blank(), Head::default());
        assert_eq!(std::ptr::from_ref(&*blank).addr(), place);
        assert_eq!(format!("{:?} {:?}", **blank, blank.names), format!("{:?} {:?}", *new, new.names));
        assert!(blank.extensions.is_empty() && blank.headers.capacity() == 0 && !blank.has(&header::HOST));
        fill(&mut blank);
        assert!(blank.has(&header::HOST));
        drop(blank);
        assert_eq!(Kept::new(Head::default()).method, Method::GET, "one may be put there as well");
    }

    #[test]
    fn a_name_is_found_if_it_is_there() {
        let names = [header::HOST, header::VIA, header::TE, header::AUTHORIZATION, HeaderName::from_static("x-a")];
        for skipped in &names {
            let mut parts = Request::new(()).into_parts().0;
            let value = HeaderValue::from_static("1");
            let others = || names.iter().filter(|name| *name != skipped);
            parts.headers = HeaderMap::from_iter(others().map(|name| (name.clone(), value.clone())));
            let mut head = Head::from(parts);
            assert!(others().all(|name| head.has(name) && head.get(name) == Some(&value)));
            assert!(!head.has(skipped) && head.get(skipped).is_none());
            head.append(skipped.clone(), value.clone());
            assert!(head.has(skipped) && head.get(skipped) == Some(&value));
            head.parts_mut().headers.remove(header::HOST);
            assert!(!head.has(&header::HOST) && head.get(&header::HOST).is_none());
        }
    }
}
