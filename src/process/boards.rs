//! Keys and overrides that all gateways share: one thread that reads their boards, and writes what the admin API leaves at its
//! desk.
//!
//! - Every [`POLL`] it asks whether a board has changed: one small call for each. A change is in force in all gateways within that
//!   time and a round trip or two.
//! - While the store is out of order, everything stays as it was last known, for as long as that lasts. A store without a board, as
//!   one that was emptied, is out of order in this sense: it revokes no key and ends no override. The next change makes a new
//!   board, and what is on that is all there is from then on.
//! - Nothing waits for this thread but whoever changes an override.

mod keys;
mod overrides;

use super::Control;
use crate::board::{Board, Change, Expected, Job, Position, WriteError};
use crate::config::Redis;
use crate::server::Phase;
use crate::store::{Connection, Dialer};
use redis::RedisError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

pub use keys::board as keys_board;

/// Time between two looks at the boards.
const POLL: Duration = Duration::from_millis(400);

/// Time for one call: far longer than a request may wait, since none does.
const PATIENCE: Duration = Duration::from_secs(3);

/// Entries that are removed in one look: others wait for the next.
const MOST_REMOVED: usize = 100;

/// What a gateway makes of a board. What [`take`](Copy::take) is given shows once [`show`](Copy::show) is called.
trait Copy: Send {
    fn board(&self) -> &Board;
    /// Begins anew, from an empty board.
    fn clear(&mut self);
    fn take(&mut self, changes: Vec<Change>);
    /// Puts it in force.
    fn show(&mut self);
    /// Forgets what was taken since it was last shown.
    fn discard(&mut self);
    /// Entries, with their texts, whose time is over.
    fn over(&self) -> Vec<(String, String)>;
}

/// Why a board could not be read.
#[derive(Debug)]
enum Trouble {
    Store(RedisError),
    Dial(crate::store::Fault),
    Slow,
    NoBoard,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Store(error) => error.fmt(f),
            Trouble::Dial(fault) => fault.fmt(f),
            Trouble::Slow => f.write_str("no answer in time"),
            Trouble::NoBoard => f.write_str("there is nothing under this prefix any more"),
        }
    }
}

/// One board as it is known here.
struct Known {
    copy: Box<dyn Copy>,
    position: Option<Position>,
}

/// The thread's own.
struct Boards {
    control: Arc<Control>,
    dialer: Dialer,
    connection: Option<Connection>,
    known: Vec<Known>,
    overrides: Board,
    /// Whether the last look found everything in order.
    in_order: bool,
}

/// Starts the thread. It ends with the gateway.
pub(super) fn start(
    control: &Arc<Control>,
    settings: &Redis,
    with_keys: bool,
    jobs: mpsc::Receiver<Job>,
    phase: watch::Receiver<Phase>,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut copies: Vec<Box<dyn Copy>> = vec![Box::new(overrides::Copied::new(control, &settings.prefix))];
    if with_keys {
        copies.push(Box::new(keys::Copied::new(control, &settings.prefix)));
    }
    let boards = Boards {
        control: Arc::clone(control),
        dialer: Dialer::new(settings.clone()),
        connection: None,
        known: copies.into_iter().map(|copy| Known { copy, position: None }).collect(),
        overrides: overrides::board(&settings.prefix),
        in_order: true,
    };
    std::thread::Builder::new()
        .name("boards".to_owned())
        .spawn(move || runtime.block_on(tokio::task::LocalSet::new().run_until(boards.follow(jobs, phase))))
}

impl Boards {
    async fn follow(mut self, mut jobs: mpsc::Receiver<Job>, mut phase: watch::Receiver<Phase>) {
        loop {
            self.look().await;
            tokio::select! {
                // An error means that the gateway is gone without a word.
                _ = phase.wait_for(|phase| *phase == Phase::Stopping) => return,
                Some(job) = jobs.recv() => self.carry_out(job).await,
                () = sleep(POLL) => {}
            }
        }
    }

    async fn look(&mut self) {
        let looked = self.look_at_all().await;
        let metrics = &self.control.shared.metrics.boards;
        metrics.up.set(looked.is_ok().into());
        match (looked, self.in_order) {
            (Ok(()), true) => {}
            (Ok(()), false) => tracing::info!("shared keys and overrides are read again"),
            (Err(trouble), was) => {
                // A connection that is good for nothing else is not good for this either.
                if !matches!(trouble, Trouble::NoBoard) {
                    self.connection = None;
                }
                if was {
                    tracing::warn!(%trouble, "shared keys and overrides cannot be read: they stay as last known");
                }
                self.in_order = false;
                return;
            }
        }
        self.in_order = true;
    }

    async fn look_at_all(&mut self) -> Result<(), Trouble> {
        let mut connection = self.connected().await?;
        let mut lost = false;
        for known in &mut self.known {
            let caught_up = catch_up(known, &mut connection).await;
            if caught_up.is_err() {
                known.copy.discard();
            }
            lost |= matches!(caught_up, Err(Trouble::NoBoard));
            match caught_up {
                Ok(()) => remove_old(known.copy.as_ref(), &mut connection).await?,
                Err(Trouble::NoBoard) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        if lost { Err(Trouble::NoBoard) } else { Ok(()) }
    }

    async fn connected(&mut self) -> Result<Connection, Trouble> {
        if let Some(connection) = &self.connection {
            return Ok(connection.clone());
        }
        let connection = self.dialer.dial().await.map_err(Trouble::Dial)?;
        Ok(self.connection.insert(connection).clone())
    }

    async fn carry_out(&mut self, job: Job) {
        let done = match self.connected().await {
            Ok(mut connection) => match timeout(PATIENCE, job.work.carry_out(&self.overrides, &mut connection)).await {
                Ok(done) => done,
                Err(_) => Err(unanswered(Trouble::Slow)),
            },
            Err(trouble) => Err(unanswered(trouble)),
        };
        match &done {
            // Whoever made the change finds it in force here. Should the store fail just now, it is once the store is back.
            Ok(()) => self.look().await,
            Err(WriteError::Store(_)) => self.connection = None,
            Err(_) => {}
        }
        // Whoever asked may have left.
        let _ = job.done.send(done);
    }
}

fn unanswered(trouble: Trouble) -> WriteError {
    WriteError::Store(RedisError::from((redis::ErrorKind::Io, "it cannot be reached", trouble.to_string())))
}

async fn bounded<T>(call: impl Future<Output = Result<T, RedisError>>) -> Result<T, Trouble> {
    timeout(PATIENCE, call).await.map_err(|_| Trouble::Slow)?.map_err(Trouble::Store)
}

/// Brings what is known of a board up to date.
async fn catch_up(known: &mut Known, store: &mut Connection) -> Result<(), Trouble> {
    let Known { copy, position } = known;
    let Some(newest) = bounded(copy.board().position(store)).await? else {
        // A board that was never written is no trouble, and says nothing.
        return if position.is_some() { Err(Trouble::NoBoard) } else { Ok(()) };
    };
    if position.as_ref() == Some(&newest) {
        return Ok(());
    }
    let missed = match &*position {
        Some(old) => bounded(copy.board().since(store, old, &newest)).await?,
        None => None,
    };
    match missed {
        Some(changes) => copy.take(changes),
        None => read_whole(copy.as_mut(), store, &newest).await?,
    }
    copy.show();
    *position = Some(newest);
    Ok(())
}

/// Takes from the board what has ended by itself. All gateways do; the first one finds it.
async fn remove_old(copy: &dyn Copy, store: &mut Connection) -> Result<(), Trouble> {
    for (field, text) in copy.over().into_iter().take(MOST_REMOVED) {
        let removing = copy.board().remove(store, &field, &field, Expected::Exactly(&text));
        match timeout(PATIENCE, removing).await.map_err(|_| Trouble::Slow)? {
            Err(WriteError::Store(error)) => return Err(Trouble::Store(error)),
            Ok(_) | Err(WriteError::Conflict | WriteError::Full | WriteError::NameTaken) => {}
        }
    }
    Ok(())
}

/// Reads a board that was at `newest` when this began. Entries that change while it is read are read again at the next look.
async fn read_whole(copy: &mut dyn Copy, store: &mut Connection, newest: &Position) -> Result<(), Trouble> {
    copy.clear();
    let mut next = Some(0);
    while let Some(from) = next {
        let page = bounded(copy.board().page(store, from)).await?;
        copy.take(page.entries.into_iter().map(|(field, text)| Change::Put(field, text)).collect());
        next = page.next;
    }
    // A store that was emptied or replaced in the midst of it has given half of something.
    let now = bounded(copy.board().position(store)).await?;
    let Some(now) = now else { return Err(Trouble::NoBoard) };
    match bounded(copy.board().since(store, newest, &now)).await? {
        Some(changes) => copy.take(changes),
        None => return Err(Trouble::NoBoard),
    }
    Ok(())
}
