//! Every answer the gateway makes itself, as one closed type. Adding a kind does not compile until its status, its words and
//! its metric label exist.

use crate::engine::{Nanos, Rejection};
use crate::metrics::AddressMetrics;
use crate::upstream::OwnFields;
use bytes::Bytes;
use http::StatusCode;
use std::rc::Rc;

/// An answer that is the gateway's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its address has had its share.
    Address(AddressRejection),
    /// It has been here before.
    Loop,
    /// No key, or one that is not good.
    Unauthenticated(Unauthenticated),
    /// A good key that may not do this.
    Forbidden(Forbidden),
    /// No route takes this host and path.
    NoRoute {
        /// For the message, as Stripe words it.
        method: Box<str>,
        /// The canonical path.
        path: Box<str>,
    },
    /// A limit has no room.
    Rejected(Rejected),
    /// Its object is in use, and its turn did not come.
    LockTimeout(LockTimeout),
    /// The request is malformed, ambiguous or too large.
    BadRequest(BadRequest),
    /// The upstream gave no usable answer.
    Upstream(UpstreamFailure),
    /// The keys have not come from the shared store yet: nobody can be told whether a key is good.
    NoKeysYet,
    /// Buffers hold all the memory they may, and this request needs some.
    Overloaded,
    /// A defect of the gateway: a panic was caught.
    Internal,
}

/// A request that was refused by a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The limit and when to come back.
    pub rejection: Rejection,
    /// The answer's fields, but for the request's id.
    pub fields: Rc<OwnFields>,
    /// The answer's body, which says for whom: written while the request was still at hand.
    pub body: Bytes,
}

/// A request that was refused by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRejection {
    /// What there were too many of.
    pub cause: AddressCause,
    /// When there is room again.
    pub retry_at: Nanos,
}

/// What one address, or all of them, sent too many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressCause {
    /// Requests.
    Requests,
    /// Requests whose key was not good.
    FailedAuthentications,
    /// The same of all addresses together.
    AllFailedAuthentications,
}

impl AddressCause {
    /// The `cause` label of `tollgate_address_rejections_total`, as its place among the labels.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The label itself, which is the configuration's key too.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        AddressMetrics::CAUSES[self as usize]
    }
}

/// Why a key is not good. Keys appear masked only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unauthenticated {
    /// No `Authorization` header.
    NoKey,
    /// An `Authorization` header that holds no key.
    Malformed,
    /// A key nobody issued.
    Unknown {
        /// The key, masked.
        masked: Box<str>,
    },
    /// A key past its `expires_at`.
    Expired {
        /// The key, masked.
        masked: Box<str>,
    },
    /// A key that was revoked.
    Revoked {
        /// The key, masked.
        masked: Box<str>,
    },
}

/// What a good key may not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// Its `allow` list lacks the endpoint.
    Endpoint {
        /// The key's id.
        key_id: Box<str>,
        /// The endpoint's name.
        endpoint: Box<str>,
        /// The account it belongs to.
        account: Box<str>,
    },
    /// It may not act for this account.
    Account {
        /// The key's id.
        key_id: Box<str>,
        /// The account asked for.
        connected: Box<str>,
    },
}

/// Why a request did not get its turn at an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockTimeout {
    /// It waited as long as its endpoint lets it.
    Waited,
    /// `lock_queue_max` requests wait for this object already.
    QueueFull,
    /// `lock_waiters_max` requests wait for objects already.
    TooManyWaiters,
}

impl LockTimeout {
    /// The `cause` label of `tollgate_lock_timeouts_total`.
    #[must_use]
    pub fn cause(self) -> &'static str {
        match self {
            LockTimeout::Waited => "waited",
            LockTimeout::QueueFull => "queue_full",
            LockTimeout::TooManyWaiters => "too_many_waiters",
        }
    }
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRequest {
    /// 4xx, or 501 and 505.
    pub status: StatusCode,
    /// For the client, in words.
    pub message: &'static str,
}

impl BadRequest {
    /// A body whose framing is bad, or that broke off.
    pub const BROKEN_BODY: BadRequest = BadRequest::new("The body of this request could not be read.");
    /// A body that the client does not send.
    pub const LATE_BODY: BadRequest =
        BadRequest { status: StatusCode::REQUEST_TIMEOUT, message: "The body of this request did not come in time." };

    /// A body longer than `max_body_bytes`.
    pub const LONG_BODY: BadRequest =
        BadRequest { status: StatusCode::PAYLOAD_TOO_LARGE, message: "The body of this request is too large." };

    /// A plain 400.
    #[must_use]
    pub const fn new(message: &'static str) -> BadRequest {
        BadRequest { status: StatusCode::BAD_REQUEST, message }
    }
}

/// How an upstream failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFailure {
    /// No server could be connected to: nothing was sent.
    Unreachable,
    /// No server took the connection within `connect_timeout`: nothing was sent.
    ConnectTimedOut,
    /// No server took the request, which may have been sent: a connection ended, or a stream was refused, before anything of it
    /// was acted on.
    Untaken,
    /// It takes no more: `max_in_flight`, `max_pending` or `max_connections` is reached. Nothing was sent.
    Overloaded,
    /// The connection broke, or what came was not HTTP: whether the request took effect is unknown.
    Broken,
    /// No answer within `response_timeout`: whether the request took effect is unknown.
    TimedOut,
    /// The gateway ends before the answer came: whether the request took effect is unknown.
    CutOff,
}

impl UpstreamFailure {
    /// 502 where the upstream is down or broke off, 503 where it takes no more or the gateway does not wait for it, 504 where it
    /// was too slow.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            UpstreamFailure::Unreachable | UpstreamFailure::Untaken | UpstreamFailure::Broken => {
                StatusCode::BAD_GATEWAY
            }
            UpstreamFailure::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            UpstreamFailure::ConnectTimedOut | UpstreamFailure::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            UpstreamFailure::CutOff => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Whether the request may have taken effect all the same.
    #[must_use]
    pub fn outcome_is_unknown(self) -> bool {
        matches!(self, UpstreamFailure::Broken | UpstreamFailure::TimedOut | UpstreamFailure::CutOff)
    }
}

impl Refusal {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Refusal::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Refusal::Forbidden(_) => StatusCode::FORBIDDEN,
            Refusal::NoRoute { .. } => StatusCode::NOT_FOUND,
            Refusal::Address(_) | Refusal::Rejected(_) | Refusal::LockTimeout(_) => StatusCode::TOO_MANY_REQUESTS,
            Refusal::Loop => StatusCode::LOOP_DETECTED,
            Refusal::BadRequest(bad) => bad.status,
            Refusal::Upstream(failure) => failure.status(),
            Refusal::Overloaded | Refusal::NoKeysYet => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The `cause` label of `tollgate_auth_failures_total`, for refusals that are about the key.
    #[must_use]
    pub fn auth_failure(&self) -> Option<&'static str> {
        match self {
            Refusal::Unauthenticated(cause) => Some(match cause {
                Unauthenticated::NoKey => "no_key",
                Unauthenticated::Malformed => "malformed",
                Unauthenticated::Unknown { .. } => "unknown",
                Unauthenticated::Expired { .. } => "expired",
                Unauthenticated::Revoked { .. } => "revoked",
            }),
            Refusal::Forbidden(Forbidden::Endpoint { .. }) => Some("endpoint"),
            Refusal::Forbidden(Forbidden::Account { .. }) => Some("account"),
            Refusal::Address(_)
            | Refusal::Loop
            | Refusal::NoRoute { .. }
            | Refusal::Rejected(_)
            | Refusal::LockTimeout(_)
            | Refusal::BadRequest(_)
            | Refusal::Upstream(_)
            | Refusal::NoKeysYet
            | Refusal::Overloaded
            | Refusal::Internal => None,
        }
    }
}
