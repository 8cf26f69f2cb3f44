//! The access log: one JSON line a request, written by a thread of its own.
//!
//! The request path never waits for a disk: lines go through a queue of [`QUEUE_LINES`]; what does not fit is dropped and
//! counted. Every string field is cut at [`FIELD_BYTES`].

use super::exchange::{Draft, Exchange};
use crate::engine::Nanos;
use crate::metrics::Metrics;
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// Lines that may wait for the disk.
pub const QUEUE_LINES: usize = 65_536;
/// Bytes of one string field.
pub const FIELD_BYTES: usize = 2_048;

/// An open access log. Dropping it writes out what waits.
#[derive(Debug)]
pub struct AccessLog {
    path: PathBuf,
    queue: Option<SyncSender<Vec<u8>>>,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl AccessLog {
    /// Opens the log for appending; `-` is standard output.
    ///
    /// # Errors
    /// When the file cannot be opened or the writer's thread not be started.
    pub fn open(path: &Path) -> std::io::Result<AccessLog> {
        let sink: Box<dyn Write + Send> = if path.as_os_str() == "-" {
            Box::new(std::io::stdout())
        } else {
            Box::new(OpenOptions::new().create(true).append(true).open(path)?)
        };
        let (queue, lines) = sync_channel(QUEUE_LINES);
        let writer = std::thread::Builder::new().name("access-log".into()).spawn(move || write_out(&lines, sink))?;
        Ok(AccessLog { path: path.into(), queue: Some(queue), writer: Some(writer) })
    }

    /// Where it goes.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Queues one line; drops and counts it when the queue is full.
    pub fn write(&self, line: &Line<'_>, metrics: &Metrics) {
        let Ok(mut bytes) = serde_json::to_vec(&Record::new(line)) else { return };
        bytes.push(b'\n');
        let sent = self.queue.as_ref().map(|queue| queue.try_send(bytes));
        if let Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) = sent {
            metrics.log_dropped.inc();
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the access log's writer panicked");
        }
    }
}

/// Writes lines as they come and flushes whenever none waits.
fn write_out(lines: &Receiver<Vec<u8>>, sink: Box<dyn Write + Send>) {
    let mut sink = BufWriter::with_capacity(256 * 1024, sink);
    let mut failing = false;
    while let Ok(first) = lines.recv() {
        let mut batch = std::iter::once(first).chain(lines.try_iter().take(QUEUE_LINES));
        let written = batch.try_for_each(|line| sink.write_all(&line)).and_then(|()| sink.flush());
        match written {
            Ok(()) => failing = false,
            Err(error) if !failing => {
                failing = true;
                tracing::error!(%error, "cannot write the access log");
            }
            Err(_) => {}
        }
    }
}

/// What one line is made of.
pub struct Line<'a> {
    /// The request.
    pub exchange: &'a Exchange,
    /// The log's own part of it.
    pub draft: &'a Draft,
    /// When it ended.
    pub ended: Nanos,
}

/// One line as JSON. What `replay` needs, and no secret.
#[derive(Serialize)]
struct Record<'a> {
    ts: String,
    duration_ms: f64,
    request_id: &'a str,
    client: std::net::IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connected_account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    method: &'a str,
    path: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    partition: std::collections::BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    facts: &'a [Box<str>],
}

impl<'a> Record<'a> {
    fn new(line: &Line<'a>) -> Record<'a> {
        let (exchange, draft) = (line.exchange, line.draft);
        let config = &exchange.view.snapshot.config;
        let principal = draft.principal.as_deref();
        Record {
            ts: format!("{:.9}", draft.at),
            duration_ms: (line.ended - exchange.started).as_secs_f64() * 1e3,
            request_id: cut(exchange.request_id.to_str().unwrap_or_default()),
            client: exchange.client,
            account: principal.map(|principal| cut(&principal.account)),
            connected_account: draft.connected.as_deref().map(cut),
            key_id: principal.map(|principal| cut(&principal.id)),
            mode: exchange.mode.map(crate::engine::Mode::as_str),
            access: exchange.access.map(crate::engine::Access::as_str),
            route: exchange.route.and_then(|id| config.routes.get(id.0 as usize)).map(|route| &*route.name),
            endpoint: exchange.endpoint.map(|id| &*config.policy.endpoint(id).name),
            method: cut(draft.method.as_str()),
            path: cut(&draft.path),
            status: exchange.status,
            limit: exchange.rejection.map(|rejection| &*config.policy.limit(rejection.limit).name),
            reason: exchange.rejection.map(|rejection| rejection.stage.reason()),
            facts: &draft.facts,
            partition: draft.values.iter().map(|(name, value)| (&**name, cut(value))).collect(),
        }
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(FIELD_BYTES)]
}
