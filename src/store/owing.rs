//! What was spent while Redis could not be asked, by partition: it is told with the next question about the partition, so that an
//! outage is no free burst.
//!
//! At most [`MOST`] partitions are remembered; beyond, an outage's spending of further ones is not told.

use crate::engine::PartitionKey;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Partitions remembered.
const MOST: usize = 100_000;

/// Tokens by partition. Looked at under its lock only while somebody owes something.
#[derive(Debug, Default)]
pub(super) struct Owing {
    tokens: Mutex<HashMap<[u8; 16], u64>>,
    partitions: AtomicUsize,
}

impl Owing {
    pub(super) fn add(&self, keys: impl Iterator<Item = (PartitionKey, u64)>) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, more) in keys {
            if let Some(owed) = tokens.get_mut(&key.0) {
                *owed = owed.saturating_add(more);
            } else if tokens.len() < MOST {
                tokens.insert(key.0, more);
            }
        }
        self.partitions.store(tokens.len(), Relaxed);
    }

    /// What each owes; none of it is owed afterwards.
    pub(super) fn take(&self, keys: impl Iterator<Item = PartitionKey>) -> Vec<u64> {
        if self.partitions.load(Relaxed) == 0 {
            return keys.map(|_| 0).collect();
        }
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = keys.map(|key| tokens.remove(&key.0).unwrap_or(0)).collect();
        self.partitions.store(tokens.len(), Relaxed);
        taken
    }
}
