//! FLOOR 4: threads, listeners and connections.
//!
//! One single-threaded runtime a core, each with its own `SO_REUSEPORT` listeners and its own upstream connections; only the
//! limits' state is shared. A connection lives and dies on the thread that accepted it.

mod connection;
mod guests;
mod http1;
mod http2;
mod listen;
mod sniff;
pub mod wire;

pub use listen::{bind, is_free};

use crate::gateway::{Home, Shared};
use connection::Door;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;

/// Where in its life the gateway is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Accepts and serves.
    Serving,
    /// Accepts nothing new; what is in flight may end.
    Draining,
    /// Ends at once.
    Stopping,
}

/// The threads that serve.
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts one thread for each set of listeners.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be made.
    pub fn start(
        shared: &Arc<Shared>,
        listeners: Vec<Vec<TcpListener>>,
        phase: &watch::Receiver<Phase>,
    ) -> io::Result<Workers> {
        let start = |(index, listeners): (usize, Vec<TcpListener>)| {
            let (shared, phase) = (Arc::clone(shared), phase.clone());
            let (tell, told) = std::sync::mpsc::sync_channel(1);
            let name = format!("worker-{index}");
            let thread = std::thread::Builder::new().name(name).spawn(move || {
                // A local runtime cannot leave its thread, so it is made here and only its failure goes back.
                let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
                let (runtime, outcome) = match runtime {
                    Ok(runtime) => (Some(runtime), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                let listened = tell.send(outcome);
                if let (Some(runtime), Ok(())) = (runtime, listened) {
                    runtime.block_on(work(shared, listeners, phase));
                }
            })?;
            told.recv().map_err(io::Error::other)??;
            Ok(thread)
        };
        let threads = listeners.into_iter().enumerate().map(start).collect::<io::Result<_>>()?;
        Ok(Workers { threads })
    }

    /// Waits until all threads have ended, which they do after the phase has left [`Phase::Serving`].
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

/// One thread: accepts until told to drain, then waits for its connections.
async fn work(shared: Arc<Shared>, listeners: Vec<TcpListener>, mut phase: watch::Receiver<Phase>) {
    let home = Home::new(shared);
    let door = Rc::new(Door::new(Rc::clone(&home), phase.clone()));
    for listener in listeners {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => drop(tokio::task::spawn_local(listen::accept(listener, Rc::clone(&door)))),
            Err(error) => tracing::error!(%error, "cannot listen"),
        }
    }
    tokio::task::spawn_local(expire_idle(home));
    tokio::task::spawn_local(dismiss_idle(Rc::clone(&door)));
    // An error means that nobody can tell us to go on serving.
    let _ = phase.wait_for(|phase| *phase != Phase::Serving).await;
    door.guests.close();
    tokio::select! {
        () = door.emptied() => {}
        _ = phase.wait_for(|phase| *phase == Phase::Stopping) => {}
    }
}

/// Closes upstream connections that nobody used for their upstream's `idle_timeout`.
async fn expire_idle(home: Rc<Home>) {
    const EVERY: Duration = Duration::from_secs(5);
    loop {
        tokio::time::sleep(EVERY).await;
        let longest = home.view().snapshot.config.upstreams.iter().map(|upstream| upstream.idle_timeout).max();
        home.pool.expire(longest.unwrap_or_default());
    }
}

/// Closes client connections that have had no request for `idle_timeout`, at most an eighth of it or a second late.
async fn dismiss_idle(door: Rc<Door>) {
    const OFTEN: Duration = Duration::from_millis(10);
    const SELDOM: Duration = Duration::from_secs(1);
    loop {
        let idle_timeout = door.home.view().snapshot.config.server.idle_timeout;
        tokio::time::sleep((idle_timeout / 8).clamp(OFTEN, SELDOM)).await;
        door.guests.dismiss_idle(door.home.now(), idle_timeout);
    }
}
