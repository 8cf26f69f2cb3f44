//! What can go wrong in an exchange with an upstream server.

use crate::upstream::BodyFault;
use http::Request;
use std::io;

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeFault {
    /// The request's own body failed: it is not the server's fault.
    #[error("the request's body could not be sent on")]
    Request(#[source] BodyFault),
    /// The request's body was longer or shorter than its length.
    #[error("the request's body has not the length that it was announced with")]
    RequestLength,
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// The connection ended before the answer did.
    #[error("the server closed the connection before its answer was whole")]
    Closed,
    /// The stream or its connection failed, or what came was not HTTP/2.
    #[error("the stream failed")]
    Stream(#[source] h2::Error),
    /// The answer cannot be read, or not in one way only.
    #[error("the server's answer cannot be read: {0}")]
    Malformed(#[from] Malformed),
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not begin as HTTP/1.0 or HTTP/1.1 does.
    #[error("it is not HTTP/1")]
    NotHttp,
    /// The status line has no status from 100 to 599, or bytes that may not be there.
    #[error("its status line is bad")]
    StatusLine,
    /// A line ends in LF without CR.
    #[error("a line of it ends without CR")]
    BareLineFeed,
    /// A field's name or value has bytes that may not be there, or the line is folded.
    #[error("a header field of it is bad")]
    Field,
    /// More than the bounds for heads or trailers.
    #[error("its head or its trailers are too large")]
    TooLarge,
    /// More than the bound for interim answers.
    #[error("it comes after too many interim answers")]
    TooManyInterim,
    /// `Content-Length` is no number, too large a number, or there twice.
    #[error("its Content-Length is bad")]
    ContentLength,
    /// `Transfer-Encoding` is not one `chunked`, comes with `Content-Length`, or in HTTP/1.0.
    #[error("its Transfer-Encoding is bad")]
    TransferEncoding,
    /// A switch of protocols that was not asked for.
    #[error("it switches protocols unasked")]
    Unasked,
    /// A chunk's size, extensions or end.
    #[error("a chunk of it is bad")]
    Chunk,
}

/// A request that got no answer.
#[derive(Debug)]
pub struct Failure<B> {
    /// The request, where all of its body is there: only then can it be sent again.
    pub unsent: Option<Box<Request<B>>>,
    /// What went wrong.
    pub error: ExchangeFault,
    /// Whether the server may have got any byte of the request.
    pub written: bool,
    /// Whether any byte of an answer came.
    pub answered: bool,
}
