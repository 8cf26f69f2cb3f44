//! FLOOR 4: threads, listeners and connections.
//!
//! One single-threaded runtime a core, each with its own `SO_REUSEPORT` listeners and its own upstream connections; only the
//! limits' state is shared. A connection lives and dies on the thread that accepted it.

mod connection;
mod crowd;
mod descriptors;
mod door;
mod guests;
mod http1;
mod http2;
mod inherited;
mod listen;
pub mod proxy_protocol;
mod sniff;
pub mod wire;

pub use descriptors::{raise_limit, room_for_clients};
pub use inherited::Inherited;
pub use listen::{bind, is_free};

use crate::gateway::{Home, Shared};
use crate::store::Lender;
use crate::upstream::rest;
use crowd::Crowd;
use door::Door;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::watch;

/// Where in its life the gateway is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Accepts and serves.
    Serving,
    /// The same, but says that it is not ready any more: balancers have `drain_delay` to notice.
    Leaving,
    /// Accepts nothing new; what is in flight may end.
    Draining,
    /// Ends at once.
    Stopping,
}

impl Phase {
    /// Whether new connections are accepted.
    #[must_use]
    pub fn accepts(self) -> bool {
        matches!(self, Phase::Serving | Phase::Leaving)
    }
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
        let crowd = Arc::new(Crowd::new(room_for_clients()));
        let start = |(index, listeners): (usize, Vec<TcpListener>)| {
            let (shared, phase, crowd) = (Arc::clone(shared), phase.clone(), Arc::clone(&crowd));
            let (tell, told) = std::sync::mpsc::sync_channel(1);
            let name = format!("worker-{index}");
            let thread = std::thread::Builder::new().name(name).spawn(move || {
                // A local runtime cannot leave its thread, so it is made here and only its failure goes back.
                let runtime = runtime();
                let (runtime, outcome) = match runtime {
                    Ok(runtime) => (Some(runtime), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                let listened = tell.send(outcome);
                if let (Some(runtime), Ok(())) = (runtime, listened) {
                    runtime.block_on(work(shared, crowd, listeners, phase));
                }
            })?;
            told.recv().map_err(io::Error::other)??;
            Ok(thread)
        };
        let threads = listeners.into_iter().enumerate().map(start).collect::<io::Result<_>>()?;
        Ok(Workers { threads })
    }

    /// Waits until all threads have ended, which they do after the phase is [`Phase::Draining`].
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

/// What a thread runs on. It tells when it has been through everything that was ready, which [`Turn`](crate::upstream::Turn)s go by.
fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_all().on_thread_park(rest).build_local(LocalOptions::default())
}

/// One thread: accepts until told to drain, then waits for its connections.
async fn work(shared: Arc<Shared>, crowd: Arc<Crowd>, listeners: Vec<TcpListener>, mut phase: watch::Receiver<Phase>) {
    let home = Home::new(shared);
    let door = Rc::new(Door::new(Rc::clone(&home), phase.clone(), crowd));
    let mut accepting = Vec::new();
    for listener in listeners {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => accepting.push(tokio::task::spawn_local(listen::accept(listener, Rc::clone(&door)))),
            Err(error) => tracing::error!(%error, "cannot listen"),
        }
    }
    if let Some(lender) = home.lender.clone() {
        tokio::task::spawn_local(lender.attend());
    }
    tokio::task::spawn_local(expire_idle(Rc::clone(&home)));
    tokio::task::spawn_local(dismiss_idle(Rc::clone(&door)));
    // An error means that nobody can tell us to go on serving.
    let _ = phase.wait_for(|phase| !phase.accepts()).await;
    door.guests.close();
    // Others may need it while what is in flight here ends.
    home.lender.iter().for_each(Lender::give_back);
    let emptied = async {
        for accepting in accepting {
            // They end by themselves now, and whom they let in before is inside. A panic has been told of.
            let _ = accepting.await;
        }
        door.emptied().await;
    };
    tokio::select! {
        () = emptied => {}
        _ = phase.wait_for(|phase| *phase == Phase::Stopping) => cut_off(&door).await,
    }
    if let Some(lender) = &home.lender {
        tokio::select! {
            () = lender.leave() => {}
            () = stopped_for_long(&mut phase) => {}
        }
    }
}

/// Ends when nobody is to wait for Redis any longer.
async fn stopped_for_long(phase: &mut watch::Receiver<Phase>) {
    const PATIENCE: Duration = Duration::from_millis(500);
    let _ = phase.wait_for(|phase| *phase == Phase::Stopping).await;
    tokio::time::sleep(PATIENCE).await;
}

/// Ends what is in flight: with a 503 where the answer has not begun, else by breaking off.
async fn cut_off(door: &Door) {
    /// For the last answers to be taken by the system.
    const PATIENCE: Duration = Duration::from_millis(500);
    door.home.cut();
    door.guests.expel();
    // Who does not take its answer in time goes without.
    let _ = tokio::time::timeout(PATIENCE, door.emptied()).await;
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

/// Closes client connections that have had no request for `idle_timeout`, at most an eighth of it or a second late. While the
/// gateway drains they get at most a second: long enough for who is about to send a request, since the answer will say that
/// it was the connection's last; so no request meets a connection that is being closed.
async fn dismiss_idle(door: Rc<Door>) {
    const OFTEN: Duration = Duration::from_millis(10);
    const SELDOM: Duration = Duration::from_secs(1);
    loop {
        let server = door.home.view();
        let server = &server.snapshot.config.server;
        let patience = if door.guests.is_closing() {
            server.idle_timeout.min(SELDOM).min(server.drain_timeout / 2)
        } else {
            server.idle_timeout
        };
        tokio::select! {
            () = tokio::time::sleep((patience / 8).clamp(OFTEN, SELDOM)) => {}
            () = door.closes(), if !door.guests.is_closing() => continue,
        }
        door.guests.dismiss_idle(door.home.now(), patience);
        door.make_room_if_waited_for();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Turn, crowd};
    use std::future::poll_fn;

    #[test]
    fn a_thread_that_had_nothing_to_do_keeps_no_write_waiting() {
        let waits = async || {
            let (mut turn, mut polls) = (Turn::new(true), 0);
            poll_fn(|cx| {
                polls += 1;
                turn.poll(cx)
            })
            .await;
            polls > 1
        };
        runtime().unwrap().block_on(async {
            crowd();
            assert!(waits().await);
            for _ in 0..2 {
                // There is nothing to do meanwhile.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(!waits().await);
        });
    }
}
