//! Short buffers to write from that a thread uses again for connections of both sides, so that idle ones hold none.

use std::cell::RefCell;

/// Buffers that a thread keeps: three for each request that is on its way, mostly, of 64 that come at a time.
const MAX_KEPT: usize = 192;
/// A buffer that has grown beyond this is not kept.
const MAX_KEPT_BYTES: usize = 32 * 1024;

thread_local! {
    static SPARES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer.
#[must_use]
pub fn take() -> Vec<u8> {
    // A thread that ends has none any more.
    SPARES.try_with(|spares| spares.borrow_mut().pop()).ok().flatten().unwrap_or_default()
}

/// Takes a buffer back.
pub fn keep(mut buffer: Vec<u8>) {
    if (1..=MAX_KEPT_BYTES).contains(&buffer.capacity()) {
        buffer.clear();
        let _ = SPARES.try_with(|spares| {
            let mut spares = spares.borrow_mut();
            if spares.len() < MAX_KEPT {
                spares.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_buffers_come_back_empty_and_only_so_many() {
        let mut buffer = Vec::with_capacity(100);
        buffer.push(7);
        let place = buffer.as_ptr();
        keep(buffer);
        let again = take();
        assert_eq!((again.as_ptr(), again.len(), again.capacity()), (place, 0, 100));
        keep(Vec::with_capacity(MAX_KEPT_BYTES + 1));
        keep(Vec::new());
        assert_eq!(take().capacity(), 0, "neither is worth keeping");
        (0..2 * MAX_KEPT).for_each(|_| keep(Vec::with_capacity(1)));
        assert_eq!(std::iter::repeat_with(take).take_while(|buffer| buffer.capacity() > 0).count(), MAX_KEPT);
    }
}
