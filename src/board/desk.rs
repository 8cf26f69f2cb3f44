//! Where the rest of a gateway leaves changes of a board: one thread has the connection, and says how each change went.

use super::{Expected, WriteError};
use tokio::sync::{mpsc, oneshot};

/// Changes that may wait; they come from people.
const QUEUE: usize = 64;

/// One change of the board of overrides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// This entry is to be this text, whatever it was.
    Put(String, String),
    /// This entry is to go.
    Remove(String),
}

/// A change, and who waits for it.
#[derive(Debug)]
pub struct Job {
    /// What is to be done.
    pub work: Work,
    /// Where to say how it went.
    pub done: oneshot::Sender<Result<(), WriteError>>,
}

impl Work {
    /// The entry's field.
    #[must_use]
    pub fn field(&self) -> &str {
        match self {
            Work::Put(field, _) | Work::Remove(field) => field,
        }
    }

    /// Does it. An entry that is gone already has been removed well enough.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn carry_out(
        &self,
        board: &super::Board,
        store: &mut impl redis::aio::ConnectionLike,
    ) -> Result<(), WriteError> {
        let field = self.field();
        let done = match self {
            Work::Put(_, text) => board.put(store, field, field, text, Expected::Anything).await,
            Work::Remove(_) => board.remove(store, field, field, Expected::Anything).await,
        };
        match (self, done) {
            (Work::Remove(_), Err(WriteError::Conflict)) | (_, Ok(_)) => Ok(()),
            (_, Err(error)) => Err(error),
        }
    }
}

/// Why nobody can tell how a change went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody takes changes for the shared store at the moment")]
pub struct Closed;

/// Takes changes; clones take them for the same thread.
#[derive(Clone, Debug)]
pub struct Desk(mpsc::Sender<Job>);

impl Desk {
    /// A desk, and where its changes come out.
    #[must_use]
    pub fn new() -> (Desk, mpsc::Receiver<Job>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Desk(sender), receiver)
    }

    /// Leaves a change and waits until it is made and in force here, which takes as long as its thread has patience with the
    /// store. Not to be called where waiting holds others up.
    ///
    /// # Errors
    /// Nobody is there.
    pub fn leave(&self, work: Work) -> Result<Result<(), WriteError>, Closed> {
        let (done, how) = oneshot::channel();
        self.0.try_send(Job { work, done }).map_err(|_| Closed)?;
        how.blocking_recv().map_err(|_| Closed)
    }
}
