//! FLOOR 1: what is wrong with a request on the wire, as one closed enum. The wire guard finds it; who answers words it.

use http::StatusCode;
use std::error::Error;
use std::{fmt, io};

/// Why the bytes of a connection are refused. The connection is closed after any of them: what follows cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WireFault {
    /// The first byte begins no request: a TLS handshake on the plain port, a binary protocol.
    NotHttp,
    /// HTTP without TLS on a port that speaks TLS.
    PlainHttp,
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
    /// A header value that begins or ends with a blank, which HTTP/2 forbids and other readers would take off.
    HeaderBlanks,
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
    /// A head began to arrive and was not whole in time.
    HeadTimedOut,
    /// Buffers hold all the memory they may, and the rest of a head would need more.
    Overloaded,
}

impl WireFault {
    /// The status that answers it.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            WireFault::MethodTooLong | WireFault::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            WireFault::MethodRefused => StatusCode::METHOD_NOT_ALLOWED,
            WireFault::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            WireFault::TargetTooLong => StatusCode::URI_TOO_LONG,
            WireFault::HeadTooLarge | WireFault::TooManyHeaders | WireFault::TrailersTooLarge => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            WireFault::Expectation => StatusCode::EXPECTATION_FAILED,
            WireFault::HeadTimedOut => StatusCode::REQUEST_TIMEOUT,
            WireFault::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            WireFault::NotHttp
            | WireFault::PlainHttp
            | WireFault::LeadingLines
            | WireFault::BareLineFeed
            | WireFault::RequestLine
            | WireFault::MethodByte
            | WireFault::TargetForm
            | WireFault::TargetByte
            | WireFault::TargetFragment
            | WireFault::TargetUserInfo
            | WireFault::Folded
            | WireFault::HeaderName
            | WireFault::HeaderValue
            | WireFault::HeaderBlanks
            | WireFault::HeaderShadow
            | WireFault::HeaderRepeated
            | WireFault::HostMissing
            | WireFault::HostInvalid
            | WireFault::HostContradicts
            | WireFault::ContentLength
            | WireFault::TransferEncoding
            | WireFault::TransferEncodingHttp10
            | WireFault::TwoLengths
            | WireFault::ChunkSize
            | WireFault::ChunkExtension
            | WireFault::ChunkEnd
            | WireFault::TrailerName => StatusCode::BAD_REQUEST,
        }
    }

    /// The metric label: kebab-case, never anything a client sent.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            WireFault::NotHttp => "not-http",
            WireFault::PlainHttp => "plain-http",
            WireFault::LeadingLines => "leading-lines",
            WireFault::BareLineFeed => "bare-line-feed",
            WireFault::RequestLine => "request-line",
            WireFault::MethodByte => "method-byte",
            WireFault::MethodTooLong => "method-too-long",
            WireFault::MethodRefused => "method-refused",
            WireFault::Version => "version",
            WireFault::TargetTooLong => "target-too-long",
            WireFault::TargetForm => "target-form",
            WireFault::TargetByte => "target-byte",
            WireFault::TargetFragment => "target-fragment",
            WireFault::TargetUserInfo => "target-user-info",
            WireFault::HeadTooLarge => "head-too-large",
            WireFault::TooManyHeaders => "too-many-headers",
            WireFault::Folded => "folded",
            WireFault::HeaderName => "header-name",
            WireFault::HeaderValue => "header-value",
            WireFault::HeaderBlanks => "header-blanks",
            WireFault::HeaderShadow => "header-shadow",
            WireFault::HeaderRepeated => "header-repeated",
            WireFault::HostMissing => "host-missing",
            WireFault::HostInvalid => "host-invalid",
            WireFault::HostContradicts => "host-contradicts",
            WireFault::ContentLength => "content-length",
            WireFault::TransferEncoding => "transfer-encoding",
            WireFault::TransferCoding => "transfer-coding",
            WireFault::TransferEncodingHttp10 => "transfer-encoding-http10",
            WireFault::TwoLengths => "two-lengths",
            WireFault::Expectation => "expectation",
            WireFault::ChunkSize => "chunk-size",
            WireFault::ChunkExtension => "chunk-extension",
            WireFault::ChunkEnd => "chunk-end",
            WireFault::TrailerName => "trailer-name",
            WireFault::TrailersTooLarge => "trailers-too-large",
            WireFault::HeadTimedOut => "head-timed-out",
            WireFault::Overloaded => "overloaded",
        }
    }

    /// The sentence for the answer's body: what is wrong and what to send instead, never anything a client sent.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            WireFault::NotHttp => "This port speaks HTTP/1.1, and what arrived is not HTTP.",
            WireFault::PlainHttp => "This port speaks TLS: use https.",
            WireFault::LeadingLines => "Too many blank lines before the request.",
            WireFault::BareLineFeed => "Every line of a request must end in CR LF.",
            WireFault::RequestLine => "The request line must be a method, a target and a version, one space apart.",
            WireFault::MethodByte => "The request method must be a token.",
            WireFault::MethodTooLong => "The request method is not one that exists.",
            WireFault::MethodRefused => "CONNECT and TRACE are not served here.",
            WireFault::Version => "Use HTTP/1.1 or HTTP/1.0 on this connection.",
            WireFault::TargetTooLong => "The request URL is too long.",
            WireFault::TargetForm => "The request target must be a path that begins with a slash, or a whole http URL.",
            WireFault::TargetByte => "The request URL holds a character that must be percent-encoded.",
            WireFault::TargetFragment => "The request URL holds a '#'. Percent-encode it, or leave the fragment out.",
            WireFault::TargetUserInfo => "The request URL must not hold a user name or password.",
            WireFault::HeadTooLarge => "The request headers are too large.",
            WireFault::TooManyHeaders => "The request has too many headers.",
            WireFault::Folded => "A header line must not begin with a space or a tab.",
            WireFault::HeaderName => "A header must be a name, a colon and a value, with no space before the colon.",
            WireFault::HeaderValue => "A header value holds a control character.",
            WireFault::HeaderBlanks => "A header value must not begin or end with a space or a tab.",
            WireFault::HeaderShadow => "A header name is spelled with underscores where dashes belong.",
            WireFault::HeaderRepeated => "A header that may come only once was sent twice.",
            WireFault::HostMissing => "The Host header is missing.",
            WireFault::HostInvalid => "The Host header must be a host name and perhaps a port.",
            WireFault::HostContradicts => "The Host header and the request URL name different hosts.",
            WireFault::ContentLength => "The Content-Length header must be one decimal number.",
            WireFault::TransferEncoding => "The Transfer-Encoding header must be 'chunked', once.",
            WireFault::TransferCoding => "No transfer coding but 'chunked' is supported.",
            WireFault::TransferEncodingHttp10 => "HTTP/1.0 has no Transfer-Encoding. Use HTTP/1.1.",
            WireFault::TwoLengths => "Send either Content-Length or Transfer-Encoding, never both.",
            WireFault::Expectation => "The only expectation met here is '100-continue'.",
            WireFault::ChunkSize => "A chunk of the request body has an invalid size.",
            WireFault::ChunkExtension => "A chunk of the request body has invalid or oversized extensions.",
            WireFault::ChunkEnd => "A chunk of the request body does not end in CR LF.",
            WireFault::TrailerName => "A header was sent as a trailer that must come first.",
            WireFault::TrailersTooLarge => "The request trailers are too large.",
            WireFault::HeadTimedOut => "The request did not arrive in time.",
            WireFault::Overloaded => "This gateway is short of memory. Try again in a moment.",
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
