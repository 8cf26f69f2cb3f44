//! The request's target: one canonical path to classify, to limit, to log and to forward.

use super::refusal::BadRequest;
use crate::path::{self, PathError};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{StatusCode, Uri};

/// Puts the canonical path in place of the one that came, and leaves the query as it is. Absolute-form becomes origin-form,
/// with its authority kept for routing in the URI.
///
/// # Errors
/// When the path cannot be made canonical.
pub fn make_canonical(parts: &mut Parts) -> Result<(), BadRequest> {
    let raw = parts.uri.path();
    if raw.is_empty() && parts.uri.scheme().is_none() {
        return Err(BadRequest::new("The request target must be a path."));
    }
    let raw = if raw.is_empty() { "/" } else { raw };
    let canonical = path::canonical_text(raw).map_err(|error| bad_path(&error))?;
    if canonical.as_str() == parts.uri.path() {
        return Ok(());
    }
    let target = match parts.uri.query() {
        Some(query) => format!("{}?{query}", canonical.as_str()),
        None => canonical.as_str().to_owned(),
    };
    let unfit = |_| BadRequest::new("The request target is not valid.");
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.path_and_query = Some(PathAndQuery::try_from(target).map_err(unfit)?);
    parts.uri = Uri::from_parts(uri).map_err(|_| BadRequest::new("The request target is not valid."))?;
    Ok(())
}

fn bad_path(error: &PathError) -> BadRequest {
    match error {
        PathError::TooLong => {
            BadRequest { status: StatusCode::URI_TOO_LONG, message: "The path of this request is too long." }
        }
        PathError::BadEscape => BadRequest::new("The path holds a percent sign that starts no escape."),
        PathError::EncodedSlash => BadRequest::new("The path holds an encoded slash or backslash."),
        PathError::Backslash => BadRequest::new("The path holds a backslash."),
        PathError::Control => BadRequest::new("The path holds a control character."),
        PathError::NotUtf8 => BadRequest::new("The path is not valid UTF-8."),
        PathError::Fragment => BadRequest::new("The path holds a fragment."),
        PathError::Empty | PathError::NotAbsolute => BadRequest::new("The request target must be a path."),
    }
}
