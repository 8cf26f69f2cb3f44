//! Metrics of what gateways share besides counts: keys and overrides.

use super::Maker;
use prometheus::IntGauge;

/// What is told of boards in the shared store.
#[derive(Debug)]
pub struct BoardMetrics {
    /// `tollgate_store_boards_up`: 1 while shared keys and overrides can be read, 0 while they stay as last known.
    pub up: IntGauge,
}

impl BoardMetrics {
    pub(super) fn new(make: &Maker) -> Result<BoardMetrics, prometheus::Error> {
        let help =
            "1 while shared keys and overrides can be read, 0 while they stay as last known. 0 without a shared store.";
        Ok(BoardMetrics { up: make.gauge("tollgate_store_boards_up", help)? })
    }
}
