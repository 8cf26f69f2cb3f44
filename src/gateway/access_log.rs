//! The access log: one JSON line a request, written by a thread of its own.
//!
//! The request path never waits for a disk: lines go through a queue of [`QUEUE_LINES`]; what does not fit, or cannot be
//! written, is dropped and counted. Every string field is cut at [`FIELD_BYTES`]. Nor does an end wait for a disk that takes
//! nothing: [`AccessLog::finish`] has a bound.

use super::exchange::{Draft, Exchange};
use super::refusal::LockTimeout;
use crate::engine::Nanos;
use crate::metrics::Metrics;
use prometheus::IntCounter;
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Lines that may wait for the disk.
pub const QUEUE_LINES: usize = 65_536;
/// Lines are written together until they are as long as this.
const BATCH_BYTES: usize = 256 * 1024;
/// Bytes of one string field.
pub const FIELD_BYTES: usize = 2_048;

/// An open access log. Dropping it lets the writer write out what waits, without waiting for it.
#[derive(Debug)]
pub struct AccessLog {
    path: PathBuf,
    /// Which file it is, whatever its name has become. `None` for standard output.
    file: Option<FileId>,
    queue: SyncSender<Message>,
    dropped: IntCounter,
}

/// A file's device and number on it.
type FileId = (u64, u64);

enum Message {
    Line(Vec<u8>),
    /// To be answered when all lines before it are written.
    Finish(SyncSender<()>),
}

impl AccessLog {
    /// Opens the log for appending; `-` is standard output.
    ///
    /// # Errors
    /// When the file cannot be opened or the writer's thread not be started.
    pub fn open(path: &Path, metrics: &Metrics) -> std::io::Result<AccessLog> {
        let (sink, file): (Box<dyn Write + Send>, _) = if path.as_os_str() == "-" {
            (Box::new(std::io::stdout()), None)
        } else {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            let id = file_id(&file.metadata()?);
            (Box::new(file), Some(id))
        };
        let dropped = metrics.log_dropped.clone();
        let queue = start_writer(sink, dropped.clone())?;
        Ok(AccessLog { path: path.into(), file, queue, dropped })
    }

    /// Whether this is what opening `path` would open: the same place, and still the same file there. After a rotation it is
    /// another file or none.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        let there = |file| std::fs::metadata(path).is_ok_and(|metadata| file_id(&metadata) == file);
        self.path == path && self.file.is_none_or(there)
    }

    /// Queues one line; drops and counts it when the queue is full.
    pub fn write(&self, line: &Line<'_>) {
        let Some(bytes) = line.to_json() else { return };
        if self.queue.try_send(Message::Line(bytes)).is_err() {
            self.dropped.inc();
        }
    }

    /// Waits until what was queued is written, for at most `patience`: a reader that has stopped reading keeps nobody alive.
    /// Answers whether all was written.
    pub fn finish(&self, patience: Duration) -> bool {
        const PAUSE: Duration = Duration::from_millis(10);
        let (tell, told) = sync_channel(1);
        let mut message = Message::Finish(tell);
        let mut left = patience;
        loop {
            match self.queue.try_send(message) {
                Ok(()) => return told.recv_timeout(left).is_ok(),
                Err(TrySendError::Full(unsent)) if left >= PAUSE => message = unsent,
                Err(_) => return false,
            }
            std::thread::sleep(PAUSE);
            left -= PAUSE;
        }
    }
}

fn file_id(metadata: &std::fs::Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

fn start_writer(sink: Box<dyn Write + Send>, dropped: IntCounter) -> std::io::Result<SyncSender<Message>> {
    let (queue, messages) = sync_channel(QUEUE_LINES);
    std::thread::Builder::new().name("access-log".into()).spawn(move || write_out(&messages, sink, &dropped))?;
    Ok(queue)
}

/// Writes lines as they come and flushes whenever none waits. What a failing sink does not take is dropped, so that the log
/// goes on with whole lines when it takes some again.
fn write_out(messages: &Receiver<Message>, mut sink: Box<dyn Write + Send>, dropped: &IntCounter) {
    let mut failing = false;
    let mut batch = Vec::with_capacity(BATCH_BYTES);
    while let Ok(first) = messages.recv() {
        let (mut lines, mut finish) = (0, None);
        batch.clear();
        let mut next = Some(first);
        while let Some(message) = next.take() {
            match message {
                Message::Line(line) => {
                    batch.extend_from_slice(&line);
                    lines += 1;
                }
                Message::Finish(tell) => finish = Some(tell),
            }
            if batch.len() < BATCH_BYTES && finish.is_none() {
                next = messages.try_recv().ok();
            }
        }
        match sink.write_all(&batch).and_then(|()| sink.flush()) {
            Ok(()) => failing = false,
            Err(error) => {
                dropped.inc_by(lines);
                if !failing {
                    tracing::error!(%error, "cannot write the access log");
                }
                failing = true;
            }
        }
        if let Some(tell) = finish {
            // Whoever asked may have lost patience.
            let _ = tell.try_send(());
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

impl Line<'_> {
    /// The line as it is written: one JSON object and a line feed, the only one in it. `None` where it cannot be written as
    /// JSON, which no line is known to do.
    #[must_use]
    pub fn to_json(&self) -> Option<Vec<u8>> {
        let mut bytes = serde_json::to_vec(&Record::new(self)).ok()?;
        if bytes.iter().any(|&byte| byte >= 0x7f) {
            bytes = without_breaks(&bytes);
        }
        bytes.push(b'\n');
        Some(bytes)
    }
}

/// JSON with escapes for what JSON allows raw and a terminal or a reader of lines acts upon: DEL, the control characters beyond
/// ASCII, and the line separators of Unicode. They can stand in strings only.
fn without_breaks(json: &[u8]) -> Vec<u8> {
    let mut escaped = String::with_capacity(json.len() + 32);
    for letter in String::from_utf8_lossy(json).chars() {
        if letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}') {
            // Writing to a string does not fail.
            let _ = std::fmt::Write::write_fmt(&mut escaped, format_args!("\\u{:04x}", u32::from(letter)));
        } else {
            escaped.push(letter);
        }
    }
    escaped.into_bytes()
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
    #[serde(skip_serializing_if = "Option::is_none")]
    lock_timeout: Option<&'static str>,
    /// `false`: no limit refused it, and yet it was not forwarded, so that its tokens went back.
    #[serde(skip_serializing_if = "Option::is_none")]
    forwarded: Option<bool>,
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
        let lock_timeout = exchange.lock_timeout().map(LockTimeout::cause);
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
            limit: exchange.rejection().map(|rejection| &*config.policy.limit(rejection.limit).name),
            reason: exchange
                .rejection()
                .map(|rejection| rejection.stage.reason())
                .or(lock_timeout.map(|_| "lock-timeout")),
            lock_timeout,
            forwarded: is_given_up(exchange).then_some(false),
            facts: &draft.facts,
            partition: draft.values.iter().map(|(name, value)| (&**name, cut(value))).collect(),
        }
    }
}

fn is_given_up(exchange: &Exchange) -> bool {
    exchange.endpoint.is_some() && exchange.rejection().is_none() && !exchange.forwarded
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(FIELD_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes nothing for as long as the test holds the other end.
    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn log(sink: impl Write + Send + 'static) -> AccessLog {
        let dropped = Metrics::new().unwrap().log_dropped;
        let queue = start_writer(Box::new(sink), dropped.clone()).unwrap();
        AccessLog { path: "-".into(), file: None, queue, dropped }
    }

    #[test]
    fn an_end_does_not_wait_for_a_sink_that_takes_nothing() {
        let (hold, held) = sync_channel(0);
        let log = log(Stuck(held));
        log.queue.try_send(Message::Line(b"a\n".to_vec())).unwrap();
        assert!(!log.finish(Duration::ZERO));
        drop(hold);
        assert!(log.finish(Duration::from_secs(60)));
    }

    #[test]
    fn lines_that_a_full_disk_does_not_take_are_counted() {
        let log = log(Full);
        for _ in 0..3 {
            log.queue.try_send(Message::Line(b"a\n".to_vec())).unwrap();
        }
        assert!(log.finish(Duration::from_secs(60)));
        assert_eq!(log.dropped.get(), 3);
    }

    #[test]
    fn a_rotated_file_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.jsonl");
        let log = AccessLog::open(&path, &Metrics::new().unwrap()).unwrap();
        assert!(log.is_at(&path) && !log.is_at(&folder.path().join("other")));
        std::fs::rename(&path, folder.path().join("access.jsonl.1")).unwrap();
        assert!(!log.is_at(&path));
        std::fs::write(&path, "").unwrap();
        assert!(!log.is_at(&path));
    }
}
