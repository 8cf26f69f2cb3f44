//! `[replay.format]`: how traces are written that are not the gateway's own log.
//!
//! One struct for what is written and for what it means: [`TraceFormat::checked`] puts in what a kind of log has by default.

use schemars::JsonSchema;
use serde::Deserialize;

/// A `[replay.format]` table: where the fields of a foreign trace are.
///
/// Fields of JSON lines are named by their ways (`request.headers.Stripe-Account`); those of combined lines by their names
/// (`client`, `ident`, `user`, `time`, `request`, `status`, `bytes`, `referer`, `agent`), and what a log has after these by
/// number, from `"10"` on.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct TraceFormat {
    /// What the lines look like; it also gives every other field its default.
    pub kind: TraceKind,
    /// The time of the request.
    pub time: Option<String>,
    /// How times are written: "rfc3339", "unix", "unix_ms", "unix_us", "unix_ns", or a pattern as `strptime` has it.
    pub time_format: Option<String>,
    /// Whether that is when the request began or when it ended.
    pub time_is: Option<TraceTimeIs>,
    /// How long it took.
    pub duration: Option<String>,
    /// What durations are counted in.
    pub duration_unit: Option<TraceUnit>,
    /// The method and the path together, as in `GET /x HTTP/1.1`.
    pub request: Option<String>,
    /// The method.
    pub method: Option<String>,
    /// The path, with or without a query.
    pub path: Option<String>,
    /// The host.
    pub host: Option<String>,
    /// The status answered.
    pub status: Option<String>,
    /// The account: the first of these fields that has a value.
    pub account: Option<TraceFields>,
    /// The account acted for.
    pub connected_account: Option<String>,
    /// The key's id.
    pub key: Option<String>,
    /// "live" or "test".
    pub mode: Option<String>,
    /// The client's address.
    pub client: Option<String>,
}

/// What lines look like.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum TraceKind {
    /// The gateway's own access log. Its fields need no mapping and take none.
    Tollgate,
    /// The combined format of nginx and Apache, and logs that begin as it does.
    Combined,
    /// One JSON object a line; no field has a default.
    Json,
    /// JSON as Caddy writes it.
    Caddy,
    /// JSON as Envoy writes it by default.
    Envoy,
}

/// Which end of a request a log's time is.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum TraceTimeIs {
    /// Its head had come.
    Start,
    /// Its answer had gone.
    End,
}

/// What durations are counted in.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum TraceUnit {
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Microseconds.
    #[serde(rename = "us")]
    Microseconds,
    /// Nanoseconds.
    #[serde(rename = "ns")]
    Nanoseconds,
}

/// One name or several.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum TraceFields {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl TraceFields {
    /// Their names.
    #[must_use]
    pub fn names(&self) -> &[String] {
        match self {
            TraceFields::One(name) => std::slice::from_ref(name),
            TraceFields::Many(names) => names,
        }
    }
}

impl TraceUnit {
    /// One of it in nanoseconds.
    #[must_use]
    pub fn in_ns(self) -> f64 {
        match self {
            TraceUnit::Seconds => 1e9,
            TraceUnit::Milliseconds => 1e6,
            TraceUnit::Microseconds => 1e3,
            TraceUnit::Nanoseconds => 1.0,
        }
    }
}

impl TraceFormat {
    /// The fields that lines of a kind have where nothing else is said.
    #[must_use]
    pub fn of(kind: TraceKind) -> TraceFormat {
        let field = |name: &str| Some(name.to_owned());
        let none = TraceFormat {
            kind,
            time: None,
            time_format: None,
            time_is: None,
            duration: None,
            duration_unit: None,
            request: None,
            method: None,
            path: None,
            host: None,
            status: None,
            account: None,
            connected_account: None,
            key: None,
            mode: None,
            client: None,
        };
        match kind {
            TraceKind::Tollgate | TraceKind::Json => none,
            TraceKind::Combined => TraceFormat {
                time: field("time"),
                time_format: field("%d/%b/%Y:%H:%M:%S %z"),
                time_is: Some(TraceTimeIs::End),
                duration_unit: Some(TraceUnit::Seconds),
                request: field("request"),
                status: field("status"),
                account: Some(TraceFields::Many(vec!["user".to_owned(), "client".to_owned()])),
                client: field("client"),
                ..none
            },
            TraceKind::Caddy => TraceFormat {
                time: field("ts"),
                time_format: field("unix"),
                time_is: Some(TraceTimeIs::End),
                duration: field("duration"),
                duration_unit: Some(TraceUnit::Seconds),
                method: field("request.method"),
                path: field("request.uri"),
                host: field("request.host"),
                status: field("status"),
                account: Some(TraceFields::Many(vec!["user_id".to_owned(), "request.client_ip".to_owned()])),
                client: field("request.client_ip"),
                ..none
            },
            TraceKind::Envoy => TraceFormat {
                time: field("start_time"),
                time_format: field("rfc3339"),
                time_is: Some(TraceTimeIs::Start),
                duration: field("duration"),
                duration_unit: Some(TraceUnit::Milliseconds),
                method: field("method"),
                path: field("path"),
                host: field("authority"),
                status: field("response_code"),
                account: Some(TraceFields::One("downstream_remote_address".to_owned())),
                client: field("downstream_remote_address"),
                ..none
            },
        }
    }

    /// With the defaults of its kind, if then everything is there that a request needs.
    ///
    /// # Errors
    /// What is missing, in words.
    pub fn checked(self) -> Result<TraceFormat, String> {
        if self.kind == TraceKind::Tollgate {
            let bare = self == TraceFormat::of(TraceKind::Tollgate);
            return if bare { Ok(self) } else { Err("the kind `tollgate` takes no fields".to_owned()) };
        }
        let of = TraceFormat::of(self.kind);
        let mapping = TraceFormat {
            kind: self.kind,
            time: self.time.or(of.time),
            time_format: self.time_format.or(of.time_format).or_else(|| Some("rfc3339".to_owned())),
            time_is: self.time_is.or(of.time_is).or(Some(TraceTimeIs::End)),
            duration: self.duration.or(of.duration),
            duration_unit: self.duration_unit.or(of.duration_unit).or(Some(TraceUnit::Seconds)),
            request: self.request.or(of.request),
            method: self.method.or(of.method),
            path: self.path.or(of.path),
            host: self.host.or(of.host),
            status: self.status.or(of.status),
            account: self.account.or(of.account),
            connected_account: self.connected_account.or(of.connected_account),
            key: self.key.or(of.key),
            mode: self.mode.or(of.mode),
            client: self.client.or(of.client),
        };
        let has_line = mapping.request.is_some() || (mapping.method.is_some() && mapping.path.is_some());
        for (name, there) in [
            ("time", mapping.time.is_some()),
            ("request, or method and path", has_line),
            ("account", mapping.account.is_some()),
        ] {
            if !there {
                return Err(format!("`format` must say where to find: {name}"));
            }
        }
        Ok(mapping)
    }
}
