//! The client connections of one thread, and how they are asked to leave: those that are idle for too long one by one, all of
//! them when the gateway drains.
//!
//! A timer and a channel for each connection would be touched by every request. Instead one task a thread looks at all its
//! connections now and then ([`Guests::dismiss_idle`]), and a connection looks at one flag of its own when it is polled.

use crate::engine::Nanos;
use crate::gateway::Peer;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

/// One connection.
pub(super) struct Guest {
    peer: Rc<Peer>,
    asked: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Guest {
    /// Whether it has been asked to leave. If not, `cx` is woken when it is.
    pub(super) fn is_asked(&self, cx: &Context<'_>) -> bool {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.asked.get()
    }

    fn ask(&self) {
        self.asked.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// All connections of a thread that speak HTTP. As many as there are.
#[derive(Default)]
pub(super) struct Guests {
    inside: RefCell<HashMap<u64, Rc<Guest>>>,
    count: Cell<u64>,
    closing: Cell<bool>,
}

/// A guest's entry, which ends with this.
pub(super) struct Entry<'a> {
    guests: &'a Guests,
    number: u64,
    pub(super) guest: Rc<Guest>,
}

impl Guests {
    /// Lets a connection in at `now`.
    pub(super) fn enter(&self, peer: &Rc<Peer>, now: Nanos) -> Entry<'_> {
        peer.rest_from(now);
        let number = self.count.get();
        self.count.set(number.wrapping_add(1));
        let asked = Cell::new(self.closing.get());
        let guest = Rc::new(Guest { peer: Rc::clone(peer), asked, waker: RefCell::default() });
        self.inside.borrow_mut().insert(number, Rc::clone(&guest));
        Entry { guests: self, number, guest }
    }

    /// Asks those that have had no request for `idle_timeout` to leave.
    pub(super) fn dismiss_idle(&self, now: Nanos, idle_timeout: Duration) {
        let is_idle = |guest: &&Rc<Guest>| guest.peer.idle_since().is_some_and(|since| now - since >= idle_timeout);
        self.inside.borrow().values().filter(is_idle).for_each(|guest| guest.ask());
    }

    /// Asks everybody to leave, and whoever comes yet.
    pub(super) fn close(&self) {
        self.closing.set(true);
        self.inside.borrow().values().for_each(|guest| guest.ask());
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.guests.inside.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn peer() -> Rc<Peer> {
        Rc::new(Peer::new([127, 0, 0, 1].into(), false))
    }

    #[test]
    fn who_is_idle_for_too_long_is_asked_to_leave() {
        let (guests, timeout, cx) = (Guests::default(), Duration::from_nanos(10), Context::from_waker(Waker::noop()));
        let (early, late) = (guests.enter(&peer(), Nanos(5)), guests.enter(&peer(), Nanos(6)));
        guests.dismiss_idle(Nanos(14), timeout);
        assert!(!early.guest.is_asked(&cx));
        guests.dismiss_idle(Nanos(15), timeout);
        assert!(early.guest.is_asked(&cx));
        assert!(!late.guest.is_asked(&cx));
    }

    #[test]
    fn closing_asks_those_inside_and_those_to_come() {
        let (guests, cx) = (Guests::default(), Context::from_waker(Waker::noop()));
        let inside = guests.enter(&peer(), Nanos(0));
        drop(guests.enter(&peer(), Nanos(0)));
        assert_eq!(guests.inside.borrow().len(), 1);
        guests.close();
        assert!(inside.guest.is_asked(&cx));
        assert!(guests.enter(&peer(), Nanos(0)).guest.is_asked(&cx));
    }
}
