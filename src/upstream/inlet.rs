//! A request's body between the connection that it comes in on and whoever reads it, on one thread and without a task between.
//!
//! The connection puts in what has come, one piece at a time, and its reader takes it out. So at most one piece, of at most one
//! read, waits here, and a reader that does not read holds the client back. Each side wakes the other only when the other waits
//! for it and is not running already: mostly both are one task.

use super::http2::StreamFault;
use crate::wire_fault::WireFault;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Why a client's body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ClientFault {
    /// Its framing is bad.
    #[error("the body's framing is bad")]
    Framing(#[source] WireFault),
    /// The client left before its end.
    #[error("the client left before its body's end")]
    Gone,
    /// Its stream was reset, or has not the length that its head says.
    #[error("the body's stream broke off")]
    Stream(#[source] h2::Error),
}

impl From<StreamFault> for ClientFault {
    fn from(fault: StreamFault) -> ClientFault {
        match fault {
            StreamFault::Broken(error) => ClientFault::Stream(error),
            StreamFault::Trailers(fault) => ClientFault::Framing(fault),
        }
    }
}

/// How far a body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Ended,
    Bad(WireFault),
    Gone,
}

/// A body on its way in. The connection has one end, [`Outlet`] is the other.
pub struct Inlet {
    phase: Cell<Phase>,
    /// What has come and nobody has taken yet.
    piece: RefCell<Option<Bytes>>,
    trailers: RefCell<Option<HeaderMap>>,
    /// Bytes that the reader has yet to get, where the head says how many.
    left: Cell<Option<u64>>,
    /// Whether anybody has asked for it.
    is_asked: Cell<bool>,
    /// Whether there is still somebody who could.
    is_wanted: Cell<bool>,
    /// Whether the reader has done anything that the connection has not seen.
    has_news: Cell<bool>,
    /// Whether the connection is running, so that it sees for itself.
    is_watched: Cell<bool>,
    connection: RefCell<Option<Waker>>,
    reader: RefCell<Option<Waker>>,
}

impl Inlet {
    /// A body of which nothing has come, of `length` bytes or in chunks, and the end to read it from.
    #[must_use]
    pub fn new(length: Option<u64>) -> (Rc<Inlet>, Outlet) {
        let inlet = Rc::new(Inlet {
            phase: Cell::new(Phase::Open),
            piece: RefCell::default(),
            trailers: RefCell::default(),
            left: Cell::new(length),
            is_asked: Cell::new(false),
            is_wanted: Cell::new(true),
            has_news: Cell::new(false),
            is_watched: Cell::new(false),
            connection: RefCell::default(),
            reader: RefCell::default(),
        });
        (Rc::clone(&inlet), Outlet(inlet))
    }

    /// Whether all of it has come, or none of the rest will.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase.get() != Phase::Open
    }

    /// Whether all of it has come.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.phase.get() == Phase::Ended
    }

    /// Whether the next piece may be put in.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.piece.borrow().is_none()
    }

    /// Bytes that have come and nobody has taken yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.piece.borrow().as_ref().map_or(0, Bytes::len)
    }

    /// Whether anybody has asked for it yet.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.is_asked.get()
    }

    /// Whether anybody could still ask for it.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.is_wanted.get()
    }

    /// Bytes that the reader has not got yet, where it is known.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        self.left.get()
    }

    /// Puts the next piece in. Only where there is room.
    pub fn put(&self, piece: Bytes) {
        self.piece.replace(Some(piece));
    }

    /// It ended, perhaps with trailers.
    pub fn end(&self, trailers: Option<HeaderMap>) {
        self.trailers.replace(trailers);
        self.phase.set(Phase::Ended);
    }

    /// The rest is bad.
    pub fn fail(&self, fault: WireFault) {
        self.phase.set(Phase::Bad(fault));
    }

    /// The client left.
    pub fn break_off(&self) {
        self.phase.set(Phase::Gone);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Takes out what nobody reads. Bytes taken.
    pub fn discard(&self) -> usize {
        self.piece.take().map_or(0, |piece| piece.len())
    }

    /// Wakes a reader that waits, unless it is the caller's own task that waits with it: that one looks for itself.
    pub fn wake_reader(&self, cx: &Context<'_>) {
        let mut reader = self.reader.borrow_mut();
        if reader.as_ref().is_some_and(|reader| !reader.will_wake(cx.waker()))
            && let Some(reader) = reader.take()
        {
            reader.wake();
        }
    }

    /// Runs what may read the body. A reader that `cx` would wake is not woken apart: whether it has done something says
    /// [`Inlet::has_news`].
    pub fn watching<T>(&self, cx: &mut Context<'_>, run: impl FnOnce(&mut Context<'_>) -> T) -> T {
        let mut connection = self.connection.borrow_mut();
        if !connection.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *connection = Some(cx.waker().clone());
        }
        drop(connection);
        self.is_watched.set(true);
        let result = run(cx);
        self.is_watched.set(false);
        result
    }

    /// Whether the reader has taken, asked for the first time, or gone since the last call.
    pub fn has_news(&self) -> bool {
        self.has_news.replace(false)
    }

    /// Tells a connection that still feeds the body.
    fn tell(&self) {
        if self.is_over() {
            return;
        }
        self.has_news.set(true);
        if !self.is_watched.get()
            && let Some(connection) = &*self.connection.borrow()
        {
            connection.wake_by_ref();
        }
    }
}

/// The end of an [`Inlet`] that is read from. Dropped, nobody wants the rest.
pub struct Outlet(Rc<Inlet>);

impl Outlet {
    /// The next piece or the trailers; `None` at the end.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientFault>>> {
        let inlet = &*self.0;
        if let Some(piece) = inlet.piece.take() {
            inlet.left.set(inlet.left.get().map(|left| left.saturating_sub(piece.len() as u64)));
            inlet.is_asked.set(true);
            inlet.tell();
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match inlet.phase.get() {
            Phase::Ended => Poll::Ready(inlet.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
            Phase::Bad(fault) => Poll::Ready(Some(Err(ClientFault::Framing(fault)))),
            Phase::Gone => Poll::Ready(Some(Err(ClientFault::Gone))),
            Phase::Open => {
                let mut reader = inlet.reader.borrow_mut();
                if !reader.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                    *reader = Some(cx.waker().clone());
                }
                if !inlet.is_asked.replace(true) {
                    inlet.tell();
                }
                Poll::Pending
            }
        }
    }

    /// Whether nothing more will come.
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        self.0.is_whole() && self.0.has_room() && self.0.trailers.borrow().is_none()
    }

    /// How many bytes will come.
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        self.0.left.get().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.0.is_wanted.set(false);
        self.0.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Woken {
        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn pieces_go_through_one_by_one_and_each_side_is_woken_once() {
        let (connection, reader) = (Arc::<Woken>::default(), Arc::<Woken>::default());
        let (connection_waker, reader_waker) = (Waker::from(Arc::clone(&connection)), Waker::from(Arc::clone(&reader)));
        let (inlet, mut outlet) = Inlet::new(Some(5));
        inlet.watching(&mut Context::from_waker(&connection_waker), |_| {});
        let mut cx = Context::from_waker(&reader_waker);
        assert!(outlet.poll_frame(&mut cx).is_pending());
        assert!(outlet.poll_frame(&mut cx).is_pending());
        assert!(inlet.is_asked() && inlet.has_news() && !inlet.has_news());
        assert_eq!((connection.count(), reader.count()), (1, 0));
        inlet.put(Bytes::from_static(b"abcde"));
        inlet.wake_reader(&Context::from_waker(&reader_waker));
        assert_eq!(reader.count(), 0, "it is running");
        inlet.wake_reader(&Context::from_waker(&connection_waker));
        inlet.wake_reader(&Context::from_waker(&connection_waker));
        assert!(!inlet.has_room() && !outlet.is_end_stream());
        assert_eq!((reader.count(), outlet.size_hint().exact()), (1, Some(5)));
        inlet.end(None);
        assert!(outlet.poll_frame(&mut cx).is_ready());
        assert!(outlet.is_end_stream());
        assert_eq!((connection.count(), outlet.size_hint().exact()), (1, Some(0)));
        drop(outlet);
        assert!(!inlet.is_wanted());
    }

    #[test]
    fn who_runs_in_the_connection_does_not_wake_it() {
        let connection = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&connection));
        let mut cx = Context::from_waker(&waker);
        let (inlet, mut outlet) = Inlet::new(None);
        inlet.watching(&mut cx, |cx| assert!(outlet.poll_frame(cx).is_pending()));
        assert!(inlet.has_news());
        assert_eq!(connection.count(), 0);
        inlet.fail(WireFault::ChunkSize);
        let Poll::Ready(Some(Err(error))) = outlet.poll_frame(&mut cx) else { panic!("the fault is told") };
        assert_eq!(crate::wire_fault::fault_of(&error), Some(WireFault::ChunkSize));
    }
}
