//! What is wrong with a request on the wire, as one closed enum.

use http::StatusCode;
use std::error::Error;
use std::{fmt, io};

/// Why the bytes of a connection are refused. The connection is closed after any of them: what follows cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WireFault {
    /// The first byte begins no request: a TLS handshake on the plain port, a binary protocol.
    NotHttp,
    /// More blank lines before a request than are forgiven.
    LeadingLines,
    /// A line of the head or the trailers ends in LF without CR.
    BareLineFeed,
    /// The request line is not `method SP target SP version`.
    RequestLine,
    /// The method has a byte that no token has.
    MethodByte,
    /// The method is longer than any that exists.
    MethodTooLong,
    /// CONNECT or TRACE, which no API needs.
    MethodRefused,
    /// `HTTP/x.y` that is neither 1.0 nor 1.1.
    Version,
    /// The target is longer than the limit, or the request line than the whole head may be.
    TargetTooLong,
    /// The target is in authority-form, or nothing that a target can be.
    TargetForm,
    /// The target holds a byte that must be percent-encoded.
    TargetByte,
    /// The target carries a `#fragment`, which belongs to the client alone.
    TargetFragment,
    /// The target carries a user name or password.
    TargetUserInfo,
    /// The head is longer than the limit.
    HeadTooLarge,
    /// More headers, or trailers, than the limit.
    TooManyHeaders,
    /// A line begins with a blank: a folded header, or a blank before the first one.
    Folded,
    /// A header without a colon or a name, or with a name that is no token.
    HeaderName,
    /// A header value with a control byte.
    HeaderValue,
    /// A name with underscores that some upstreams read as a header that decides something.
    HeaderShadow,
    /// A header that decides something comes twice.
    HeaderRepeated,
    /// HTTP/1.1 without `Host`.
    HostMissing,
    /// `Host`, or the authority of an absolute target, is not `host[:port]`.
    HostInvalid,
    /// The authority of an absolute target differs from `Host`.
    HostContradicts,
    /// `Content-Length` is not one plain number.
    ContentLength,
    /// `Transfer-Encoding` is not one `chunked`.
    TransferEncoding,
    /// `Transfer-Encoding` names a coding besides `chunked`.
    TransferCoding,
    /// `Transfer-Encoding` in HTTP/1.0.
    TransferEncodingHttp10,
    /// Both `Content-Length` and `Transfer-Encoding`.
    TwoLengths,
    /// `Expect` other than `100-continue`.
    Expectation,
    /// A chunk's size is not 1 to 16 hexadecimal digits.
    ChunkSize,
    /// Chunk extensions with a control byte, or longer than the limit.
    ChunkExtension,
    /// A chunk's line or data does not end in CR LF.
    ChunkEnd,
    /// A trailer that would frame, route or authenticate a message already on its way.
    TrailerName,
    /// The trailers are longer than the limit.
    TrailersTooLarge,
}

impl WireFault {
    /// The status that answers it.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        self.answer().0
    }

    /// The metric label: kebab-case, never anything a client sent.
    #[must_use]
    pub const fn label(self) -> &'static str {
        self.answer().1
    }

    /// The sentence for the answer's body: what is wrong and what to send instead, never anything a client sent.
    #[must_use]
    pub const fn message(self) -> &'static str {
        self.answer().2
    }

    const fn answer(self) -> (StatusCode, &'static str, &'static str) {
        const BAD: StatusCode = StatusCode::BAD_REQUEST;
        match self {
            WireFault::NotHttp => (BAD, "not-http", "This port speaks HTTP/1.1, and what arrived is not HTTP."),
            WireFault::LeadingLines => (BAD, "leading-lines", "Too many blank lines before the request."),
            WireFault::BareLineFeed => (BAD, "bare-line-feed", "Every line of a request must end in CR LF."),
            WireFault::RequestLine => {
                (BAD, "request-line", "The request line must be a method, a target and a version, one space apart.")
            }
            WireFault::MethodByte => (BAD, "method-byte", "The request method must be a token."),
            WireFault::MethodTooLong => {
                (StatusCode::NOT_IMPLEMENTED, "method-too-long", "The request method is not one that exists.")
            }
            WireFault::MethodRefused => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-refused", "CONNECT and TRACE are not served here.")
            }
            WireFault::Version => {
                (StatusCode::HTTP_VERSION_NOT_SUPPORTED, "version", "Use HTTP/1.1 or HTTP/1.0 on this connection.")
            }
            WireFault::TargetTooLong => (StatusCode::URI_TOO_LONG, "target-too-long", "The request URL is too long."),
            WireFault::TargetForm => {
                (BAD, "target-form", "The request target must be a path that begins with a slash, or a whole http URL.")
            }
            WireFault::TargetByte => {
                (BAD, "target-byte", "The request URL holds a character that must be percent-encoded.")
            }
            WireFault::TargetFragment => {
                (BAD, "target-fragment", "The request URL holds a '#'. Percent-encode it, or leave the fragment out.")
            }
            WireFault::TargetUserInfo => {
                (BAD, "target-user-info", "The request URL must not hold a user name or password.")
            }
            WireFault::HeadTooLarge => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", "The request headers are too large.")
            }
            WireFault::TooManyHeaders => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too-many-headers", "The request has too many headers.")
            }
            WireFault::Folded => (BAD, "folded", "A header line must not begin with a space or a tab."),
            WireFault::HeaderName => {
                (BAD, "header-name", "A header must be a name, a colon and a value, with no space before the colon.")
            }
            WireFault::HeaderValue => (BAD, "header-value", "A header value holds a control character."),
            WireFault::HeaderShadow => {
                (BAD, "header-shadow", "A header name is spelled with underscores where dashes belong.")
            }
            WireFault::HeaderRepeated => (BAD, "header-repeated", "A header that may come only once was sent twice."),
            WireFault::HostMissing => (BAD, "host-missing", "The Host header is missing."),
            WireFault::HostInvalid => (BAD, "host-invalid", "The Host header must be a host name and perhaps a port."),
            WireFault::HostContradicts => {
                (BAD, "host-contradicts", "The Host header and the request URL name different hosts.")
            }
            WireFault::ContentLength => {
                (BAD, "content-length", "The Content-Length header must be one decimal number.")
            }
            WireFault::TransferEncoding => {
                (BAD, "transfer-encoding", "The Transfer-Encoding header must be 'chunked', once.")
            }
            WireFault::TransferCoding => {
                (StatusCode::NOT_IMPLEMENTED, "transfer-coding", "No transfer coding but 'chunked' is supported.")
            }
            WireFault::TransferEncodingHttp10 => {
                (BAD, "transfer-encoding-http10", "HTTP/1.0 has no Transfer-Encoding. Use HTTP/1.1.")
            }
            WireFault::TwoLengths => {
                (BAD, "two-lengths", "Send either Content-Length or Transfer-Encoding, never both.")
            }
            WireFault::Expectation => {
                (StatusCode::EXPECTATION_FAILED, "expectation", "The only expectation met here is '100-continue'.")
            }
            WireFault::ChunkSize => (BAD, "chunk-size", "A chunk of the request body has an invalid size."),
            WireFault::ChunkExtension => {
                (BAD, "chunk-extension", "A chunk of the request body has invalid or oversized extensions.")
            }
            WireFault::ChunkEnd => (BAD, "chunk-end", "A chunk of the request body does not end in CR LF."),
            WireFault::TrailerName => (BAD, "trailer-name", "A header was sent as a trailer that must come first."),
            WireFault::TrailersTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "trailers-too-large",
                "The request trailers are too large.",
            ),
        }
    }
}

impl fmt::Display for WireFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl Error for WireFault {}

/// The fault behind an error of a request body, however deep: hyper wraps what the guard's reader answered. `None` when the
/// body failed for another reason, such as a client that went away.
#[must_use]
pub fn fault_of(error: &(dyn Error + 'static)) -> Option<WireFault> {
    let mut next = Some(error);
    while let Some(error) = next {
        // What an `io::Error` wraps is not its source: the source is one deeper.
        let wrapped = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
        if let Some(fault) = wrapped.and_then(|wrapped| wrapped.downcast_ref::<WireFault>()) {
            return Some(*fault);
        }
        if let Some(fault) = error.downcast_ref::<WireFault>() {
            return Some(*fault);
        }
        next = error.source();
    }
    None
}
