//! Diagnostics on standard error, written by a thread of their own: whoever reads them slowly, or not at all, keeps no request
//! waiting. Beyond [`MAX_WAITING`] lines are dropped and counted.

use crate::config::{Level, LogFormat};
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Lines that may wait to be written.
const MAX_WAITING: usize = 4_096;
/// Time for the last lines to be written at the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends diagnostics to standard error. The environment variable `TOLLGATE_LOG` overrides the level, also per module. The
/// last lines are written when the result is dropped.
pub(super) fn log_to_stderr(level: Level, format: LogFormat) -> LastLines {
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    let filter = EnvFilter::try_from_env("TOLLGATE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let (lines, last) = start(io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_ansi(io::stderr().is_terminal())
        .with_writer(move || lines.clone())
        .with_env_filter(filter);
    // Fails only when somebody has set a logger before, who then gets the events.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    last
}

enum Entry {
    Line(Vec<u8>),
    /// The end: whoever waits for it is told when this is dropped.
    End(SyncSender<()>),
}

/// Takes lines and never waits.
#[derive(Clone)]
struct Lines {
    queue: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

/// Waits for the last lines when it is dropped, within bounds.
pub(super) struct LastLines(SyncSender<Entry>);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Entry::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LastLines {
    fn drop(&mut self) {
        let (tell, told) = sync_channel(0);
        // A full queue is one that nobody reads: its lines are lost.
        if let Ok(()) | Err(TrySendError::Disconnected(_)) = self.0.try_send(Entry::End(tell)) {
            let _ = told.recv_timeout(PATIENCE);
        }
    }
}

fn start(out: impl Write + Send + 'static) -> (Lines, LastLines) {
    let (queue, entries) = sync_channel(MAX_WAITING);
    let dropped = Arc::new(AtomicU64::new(0));
    let lines = Lines { queue: queue.clone(), dropped: Arc::clone(&dropped) };
    let writer = std::thread::Builder::new().name("diagnostics".to_owned());
    // Without the thread the queue has no reader, and lines are dropped: no reason not to serve.
    let _ = writer.spawn(move || write(&entries, &dropped, out));
    (lines, LastLines(queue))
}

/// Writes until nobody can send any more. What cannot be written is lost.
fn write(entries: &Receiver<Entry>, dropped: &AtomicU64, mut out: impl Write) {
    while let Ok(entry) = entries.recv() {
        match entry {
            Entry::Line(line) => {
                let _ = out.write_all(&line);
            }
            Entry::End(tell) => drop(tell),
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(out, "{lost} lines were dropped: standard error takes them too slowly");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    /// Writes wait for a word each.
    struct Slow(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_is_stuck_keeps_nobody_waiting() {
        let (go, told) = channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut lines, last) = start(Slow(told, Arc::clone(&written)));
        for nth in 0..MAX_WAITING + 100 {
            lines.write_all(format!("line {nth}\n").as_bytes()).unwrap();
        }
        drop(go);
        let text = || String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let kept = format!("line {}\n", MAX_WAITING - 1);
        // Until then the queue may be full, and the end finds no room in it.
        while !(text().contains("lines were dropped") && text().contains(&kept)) {
            std::thread::yield_now();
        }
        drop(last);
        assert!(text().starts_with("line 0\n"));
    }
}
