//! The client connections of one thread, and how they are asked to leave: those that are idle for too long, those that are idle
//! while others wait, all of them when the gateway ends.
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
        let asked = Cell::new(self.closing.get() && peer.is_http2);
        let guest = Rc::new(Guest { peer: Rc::clone(peer), asked, waker: RefCell::default() });
        self.inside.borrow_mut().insert(number, Rc::clone(&guest));
        Entry { guests: self, number, guest }
    }

    /// Asks those that have had no request for `idle_timeout` to leave.
    pub(super) fn dismiss_idle(&self, now: Nanos, idle_timeout: Duration) {
        let is_idle = |guest: &&Rc<Guest>| guest.peer.idle_since().is_some_and(|since| now - since >= idle_timeout);
        self.inside.borrow().values().filter(is_idle).for_each(|guest| guest.ask());
    }

    /// From now on every answer is its connection's last, and who asks for nothing leaves soon: see [`Guests::is_closing`].
    pub(super) fn close(&self) {
        self.closing.set(true);
        // HTTP/2 has a way to say so that no request is lost by, and sooner is better.
        self.inside.borrow().values().filter(|guest| guest.peer.is_http2).for_each(|guest| guest.ask());
    }

    /// Whether the answers given now should be the last of their connections.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Asks everybody to leave, and wakes those with a request in flight.
    pub(super) fn expel(&self) {
        self.inside.borrow().values().for_each(|guest| guest.ask());
    }

    /// Asks those to leave that have been without a request for longest, since others wait for a place: a sixteenth of all,
    /// and at least one, but none that has not had a second.
    pub(super) fn press(&self, now: Nanos) {
        const DUE: Duration = Duration::from_secs(1);
        let inside = self.inside.borrow();
        let idle = inside.values().filter(|guest| !guest.asked.get());
        let idle = idle.filter_map(|guest| guest.peer.idle_since().map(|since| (since, guest)));
        let mut idle: Vec<_> = idle.filter(|(since, _)| now - *since >= DUE).collect();
        let share = inside.len() / 16;
        if idle.len() > share + 1 {
            idle.select_nth_unstable_by_key(share, |(since, _)| *since);
            idle.truncate(share + 1);
        }
        idle.iter().for_each(|(_, guest)| guest.ask());
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
    fn closing_lets_those_inside_finish_and_expelling_does_not() {
        let (guests, cx) = (Guests::default(), Context::from_waker(Waker::noop()));
        let inside = guests.enter(&peer(), Nanos(0));
        drop(guests.enter(&peer(), Nanos(0)));
        assert_eq!(guests.inside.borrow().len(), 1);
        guests.close();
        assert!(guests.is_closing() && !inside.guest.is_asked(&cx));
        assert!(!guests.enter(&peer(), Nanos(0)).guest.is_asked(&cx), "it may have sent a request already");
        guests.expel();
        assert!(inside.guest.is_asked(&cx));
    }

    #[test]
    fn who_has_been_idle_for_longest_makes_room() {
        const SECOND: u64 = 1_000_000_000;
        let (guests, cx) = (Guests::default(), Context::from_waker(Waker::noop()));
        let entries: Vec<_> = (0..32).map(|nth| guests.enter(&peer(), Nanos(nth * SECOND))).collect();
        let asked = || entries.iter().filter(|entry| entry.guest.is_asked(&cx)).count();
        guests.press(Nanos(SECOND - 1));
        assert_eq!(asked(), 0, "everybody has a second");
        guests.press(Nanos(100 * SECOND));
        assert_eq!(asked(), 3);
        assert!(entries[..3].iter().all(|entry| entry.guest.is_asked(&cx)));
        guests.press(Nanos(100 * SECOND));
        assert_eq!(asked(), 6, "those that were asked already do not count");
    }
}
