//! A method and a path template, as an endpoint's `match` is written.

use crate::path::{self, PathError};
use http::Method;
use std::fmt;
use std::str::FromStr;

/// The most segments a template may have: twice what the deepest known API needs, and the depth that a look-up may recurse.
pub const MAX_TEMPLATE_SEGMENTS: usize = 32;

/// The most parameters a template may have, so that a look-up keeps their values without allocating.
pub const MAX_PARAMETERS: usize = 8;

/// A method and a path template: `POST /v1/payouts/{payout}/cancel`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    method: Method,
    /// As it was written, which is how it is shown.
    path: Box<str>,
    segments: Box<[Segment]>,
    names: Box<[Box<str>]>,
}

/// One segment of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// The very segment, percent-decoded.
    Static(Box<[u8]>),
    /// Any one segment.
    Parameter,
}

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// There are not exactly a method and a path.
    #[error("expected a method and a path template, such as \"POST /v1/payouts/{{payout}}\"")]
    Shape,
    /// The method is none, or not in upper case.
    #[error("\"{0}\" is not an HTTP method; write it in upper case, such as GET or POST")]
    Method(Box<str>),
    /// The path does not begin with a slash.
    #[error("the path \"{0}\" must begin with a slash")]
    Relative(Box<str>),
    /// A query or a fragment in the path.
    #[error("a template has no query or fragment; leave out everything from \"{0}\" on")]
    Query(char),
    /// A segment that is empty, or a dot segment.
    #[error("the segment \"{0}\" can never be matched: repeated slashes, \".\" and \"..\" are gone before matching")]
    Vanishing(Box<str>),
    /// A `;` in a segment.
    #[error("the segment \"{0}\" can never be matched: what follows a \";\" is ignored in matching")]
    Matrix(Box<str>),
    /// A brace where it does not enclose a whole segment.
    #[error("the segment \"{0}\" mixes text and a parameter; a parameter is a whole segment, such as \"{{payout}}\"")]
    PartialParameter(Box<str>),
    /// A `*`, which is taken for a mistake.
    #[error("the segment \"{0}\" has a \"*\"; write \"{{name}}\" for any one segment")]
    Wildcard(Box<str>),
    /// The name of a parameter is empty or has other characters than letters, digits, `_` and `-`.
    #[error("\"{{{0}}}\" is not a parameter's name; use letters, digits, \"_\" and \"-\"")]
    Name(Box<str>),
    /// Two parameters of one name.
    #[error("the parameter \"{{{0}}}\" is there twice; every parameter needs a name of its own")]
    DuplicateName(Box<str>),
    /// Too many segments.
    #[error("there are more than {MAX_TEMPLATE_SEGMENTS} segments")]
    TooManySegments,
    /// Too many parameters.
    #[error("there are more than {MAX_PARAMETERS} parameters")]
    TooManyParameters,
    /// A segment that no request's path can have.
    #[error("the segment \"{0}\" can never be matched: requests with such a path are refused ({1})")]
    Refused(Box<str>, PathError),
}

impl Template {
    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The path with its parameters, as it was written.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The names of the parameters, in the order of the path: [`Found::param`](super::Found::param) counts them so.
    #[must_use]
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Adds a segment as written.
    fn push(segments: &mut Vec<Segment>, names: &mut Vec<Box<str>>, written: &str) -> Result<(), TemplateError> {
        if segments.len() == MAX_TEMPLATE_SEGMENTS {
            return Err(TemplateError::TooManySegments);
        }
        let Some(name) = written.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            segments.push(Segment::Static(static_segment(written)?));
            return Ok(());
        };
        if names.len() == MAX_PARAMETERS {
            return Err(TemplateError::TooManyParameters);
        }
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
            return Err(TemplateError::Name(name.into()));
        }
        if names.iter().any(|known| **known == *name) {
            return Err(TemplateError::DuplicateName(name.into()));
        }
        names.push(name.into());
        segments.push(Segment::Parameter);
        Ok(())
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    /// Reads `METHOD PATH`. A trailing slash makes no difference, as in matching.
    fn from_str(text: &str) -> Result<Template, TemplateError> {
        let mut words = text.split_whitespace();
        let (Some(method), Some(path), None) = (words.next(), words.next(), words.next()) else {
            return Err(TemplateError::Shape);
        };
        let bad_method = || TemplateError::Method(method.into());
        if method.bytes().any(|byte| byte.is_ascii_lowercase() || byte == b'*') {
            return Err(bad_method());
        }
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| bad_method())?;
        if let Some(sign) = path.chars().find(|sign| matches!(sign, '?' | '#')) {
            return Err(TemplateError::Query(sign));
        }
        let inner = path.strip_prefix('/').ok_or_else(|| TemplateError::Relative(path.into()))?;
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        let (mut segments, mut names) = (Vec::new(), Vec::new());
        if !inner.is_empty() {
            for written in inner.split('/') {
                Template::push(&mut segments, &mut names, written)?;
            }
        }
        Ok(Template { method, path: path.into(), segments: segments.into(), names: names.into() })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// The bytes that a static segment stands for, if a request's path can have it at all.
fn static_segment(written: &str) -> Result<Box<[u8]>, TemplateError> {
    if written.contains(['{', '}']) {
        return Err(TemplateError::PartialParameter(written.into()));
    }
    if written.contains('*') {
        return Err(TemplateError::Wildcard(written.into()));
    }
    if written.contains(';') {
        return Err(TemplateError::Matrix(written.into()));
    }
    let path = format!("/{written}");
    let canonical = path::canonical(path.as_bytes()).map_err(|error| TemplateError::Refused(written.into(), error))?;
    let mut segments = canonical.segments();
    match (segments.next(), segments.next()) {
        (Some(segment), None) => Ok(path::decoded(segment).collect()),
        _ => Err(TemplateError::Vanishing(written.into())),
    }
}
