//! Wall time that never steps during a run: read once, then carried by the monotonic clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Ties the monotonic clock to wall time.
#[derive(Debug, Clone, Copy)]
pub struct WallClock {
    base: Instant,
    base_us: u64,
}

impl WallClock {
    /// Reads both clocks.
    pub fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallClock { base: Instant::now(), base_us: since_epoch.as_micros() as u64 }
    }

    /// Microseconds since the Unix epoch at `now`.
    pub fn micros(&self, now: Instant) -> u64 {
        self.base_us + now.saturating_duration_since(self.base).as_micros() as u64
    }
}
