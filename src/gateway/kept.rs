//! The large parts of a request, in memory that is used again: through the layers they move as one pointer, and no request
//! allocates for them once a thread has had as many at a time.

use super::body::{Own, Rest};
use super::context::Held;
use super::exchange::Exchange;
use super::head::Head;
use crate::engine::RequestClass;
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::thread::LocalKey;

/// Empty places that a thread keeps of each kind. More are made while more requests are in flight, and freed after.
const MOST: usize = 256;

/// What is [`Kept`].
pub trait Keep: Sized + 'static {
    /// Where the thread keeps places for it.
    fn shelf() -> &'static LocalKey<Shelf<Self>>;

    /// Lets go of all that it holds. It may stay itself, as it was made, for [`Kept::blank`] to find.
    fn end(place: &mut Option<Self>) {
        *place = None;
    }
}

/// A thread's empty places for one kind of thing.
pub struct Shelf<T>(RefCell<Vec<Box<Option<T>>>>);

impl<T> Default for Shelf<T> {
    fn default() -> Shelf<T> {
        Shelf(RefCell::default())
    }
}

/// A thing in a place that is used again when it has ended.
pub struct Kept<T: Keep>(Option<Box<Option<T>>>);

impl<T: Keep> Kept<T> {
    /// Puts a thing into an empty place.
    ///
    /// Taken in where it is called: there the thing is made, and copied into its place once.
    #[must_use]
    #[inline(always)]
    pub fn new(thing: T) -> Kept<T> {
        let mut place = Kept::place();
        // A place on the shelf is mostly empty. Told apart all the same: nothing has to end before the thing is put there, which is copied once then.
        match &mut *place {
            Some(there) => *there = thing,
            empty => *empty = Some(thing),
        }
        Kept(Some(place))
    }

    fn place() -> Box<Option<T>> {
        // A thread that ends has no shelf any more.
        let empty = T::shelf().try_with(|shelf| shelf.0.borrow_mut().pop()).ok().flatten();
        empty.unwrap_or_default()
    }
}

impl<T: Keep + Default> Kept<T> {
    /// A thing as it was made, to be filled where it lies: one that ended and [stayed](Keep::end), or a new one.
    #[must_use]
    pub fn blank() -> Kept<T> {
        let mut place = Kept::place();
        place.get_or_insert_default();
        Kept(Some(place))
    }
}

impl<T: Keep> Kept<T> {
    /// The thing itself; its place is empty from here on.
    #[must_use]
    pub fn into_inner(mut self) -> T {
        match self.0.as_deref_mut().and_then(Option::take) {
            Some(thing) => thing,
            None => unreachable!("a place is emptied only when its thing goes"),
        }
    }
}

impl<T: Keep> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self.0.as_deref() {
            Some(Some(thing)) => thing,
            _ => unreachable!("a place is emptied only when it is dropped"),
        }
    }
}

impl<T: Keep> DerefMut for Kept<T> {
    fn deref_mut(&mut self) -> &mut T {
        match self.0.as_deref_mut() {
            Some(Some(thing)) => thing,
            _ => unreachable!("a place is emptied only when it is dropped"),
        }
    }
}

impl<T: Keep> Drop for Kept<T> {
    fn drop(&mut self) {
        let Some(mut place) = self.0.take() else { return };
        // What it holds ends before the shelf is touched: it may hold things of the same kind.
        T::end(&mut place);
        // Without a shelf it is freed.
        let _ = T::shelf().try_with(|shelf| {
            let mut places = shelf.0.borrow_mut();
            if places.len() < MOST {
                places.push(place);
            }
        });
    }
}

macro_rules! shelf {
    ($thing:ty) => {
        fn shelf() -> &'static LocalKey<Shelf<$thing>> {
            thread_local!(static SHELF: Shelf<$thing> = Shelf::default());
            &SHELF
        }
    };
}

macro_rules! keep {
    ($($thing:ty),*) => {$(
        impl Keep for $thing {
            shelf!($thing);
        }
    )*};
}

keep!(Exchange, RequestClass, Held, Rest, Own);

impl Keep for Head {
    shelf!(Head);

    fn end(place: &mut Option<Head>) {
        if let Some(head) = place {
            head.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[expect(dead_code, reason = "held for what their drops do")]
    struct Thing(Rc<()>, Option<Kept<Thing>>);
    keep!(Thing);

    #[test]
    fn a_place_is_used_again_once_its_thing_has_ended() {
        let end = Rc::new(());
        let first = Kept::new(Thing(Rc::clone(&end), None));
        let place = std::ptr::from_ref(&*first).addr();
        let second = Kept::new(Thing(Rc::clone(&end), Some(first)));
        assert_eq!((Rc::strong_count(&end), std::ptr::from_ref(&*second).addr() == place), (3, false));
        drop(second);
        assert_eq!(Rc::strong_count(&end), 1, "what was kept has ended, the inner one too");
        let again: Vec<_> = (0..2).map(|_| Kept::new(Thing(Rc::clone(&end), None))).collect();
        assert!(again.iter().any(|kept| std::ptr::from_ref(&**kept).addr() == place));
        let many: Vec<_> = (0..2 * MOST).map(|_| Kept::new(Thing(Rc::clone(&end), None))).collect();
        drop((again, many));
        assert_eq!(Thing::shelf().with(|shelf| shelf.0.borrow().len()), MOST);
        let taken = Kept::new(Thing(Rc::clone(&end), None)).into_inner();
        assert_eq!(Thing::shelf().with(|shelf| shelf.0.borrow().len()), MOST, "its place came back without it");
        assert_eq!(Rc::strong_count(&end), 2);
        drop(taken);
        assert_eq!(Rc::strong_count(&end), 1);
    }
}
