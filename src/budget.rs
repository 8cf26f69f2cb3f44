//! FLOOR 1: how much memory the buffers of client connections may take, all together.
//!
//! What a connection holds is bounded by itself, but thousands of them at their bound are more than a machine has. So whoever
//! buffers for a client takes the bytes from the process's [`Budget`] by a [`Charge`]: half-sent heads, bodies that are looked
//! into, sent to a slow server or kept for another try, responses that a client does not read. At the bound nothing waits for
//! memory: connections are not accepted, idle ones are asked to leave, and what needs more is refused with 503.
//!
//! Nothing is charged on the way of a request that comes in one piece and whose response the client takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of memory taken for granted where the machine does not tell: 512 MiB.
const UNTOLD_BYTES: u64 = 512 << 20;
/// The share of the memory there is that buffers may take.
const SHARE: u64 = 4;

/// Bytes that may be held in buffers.
#[derive(Debug)]
pub struct Budget {
    most: usize,
    used: AtomicUsize,
}

impl Budget {
    /// `most` bytes; 0: a quarter of the memory that this process may use.
    #[must_use]
    pub fn new(most: usize) -> Arc<Budget> {
        let share = || usize::try_from(memory_bytes().unwrap_or(UNTOLD_BYTES) / SHARE).unwrap_or(usize::MAX);
        let most = if most == 0 { share() } else { most };
        Arc::new(Budget { most, used: AtomicUsize::new(0) })
    }

    /// The bound, in bytes.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most
    }

    /// Bytes held now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether the bound is reached.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.used() >= self.most
    }

    fn try_take(&self, bytes: usize) -> bool {
        let room = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= self.most);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
    }

    fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What one holder of bytes has taken. They go back when it is dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    /// Nothing yet.
    #[must_use]
    pub fn none(budget: &Arc<Budget>) -> Charge {
        Charge { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Takes what is missing to `bytes`, or gives back what is more. False, and nothing changes, where the budget has no room.
    #[must_use]
    pub fn try_set(&mut self, bytes: usize) -> bool {
        let has_room = match bytes.checked_sub(self.bytes) {
            Some(0) => true,
            Some(more) => self.budget.try_take(more),
            None => {
                self.budget.give_back(self.bytes - bytes);
                true
            }
        };
        if has_room {
            self.bytes = bytes;
        }
        has_room
    }

    /// Holds `bytes` whether there is room or not: for what is there already, and bounded by its holder.
    pub fn set(&mut self, bytes: usize) {
        if bytes == self.bytes {
            return;
        }
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.budget.take(more),
            None => self.budget.give_back(self.bytes - bytes),
        }
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// Bytes of memory that this process may use: what its control group admits, else what the machine has. `None` where neither
/// can be read.
fn memory_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let group = groups.into_iter().find_map(|path| read(path)?.trim().parse::<u64>().ok());
    let machine = read("/proc/meminfo").and_then(|text| total_bytes(&text));
    [group, machine].into_iter().flatten().min()
}

/// What `/proc/meminfo` says of the whole machine.
fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_everything_comes_back() {
        let budget = Budget::new(100);
        let (mut one, mut other) = (Charge::none(&budget), Charge::none(&budget));
        assert!(one.try_set(60));
        assert!(!other.try_set(41));
        assert!(other.try_set(40));
        assert!(budget.is_short());
        assert!(!one.try_set(61));
        assert!(one.try_set(10));
        assert_eq!(budget.used(), 50);
        other.set(1000);
        assert_eq!(budget.used(), 1010);
        assert!(one.try_set(10) && !one.try_set(11));
        drop((one, other));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_machine_tells_its_memory() {
        assert_eq!(total_bytes("MemTotal:        2048 kB\nMemFree: 5 kB\n"), Some(2 << 20));
        assert_eq!(total_bytes("MemFree: 5 kB\n"), None);
        assert_eq!(total_bytes("MemTotal: many kB\n"), None);
        assert!(Budget::new(0).most() > 1 << 20);
    }
}
