//! OpenSSL's retransmission timer, followed by str0m's time.

use std::time::{Duration, Instant};

/// After so long OpenSSL sends a flight again, and then after twice as long each time (RFC 6347 §4.2.4.1).
const RETRANSMISSION_TIMEOUT: Duration = Duration::from_secs(1);
/// When OpenSSL's clock was behind ours it is asked again after this time.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// When OpenSSL's retransmission timer runs out.
#[derive(Debug)]
pub(super) struct Timer {
    timeout: Duration,
    /// `None` after a new flight, until we are told the time.
    pub due: Option<Instant>,
}

impl Default for Timer {
    fn default() -> Timer {
        Timer { timeout: RETRANSMISSION_TIMEOUT, due: None }
    }
}

impl Timer {
    /// Whether it has run out at `now`.
    pub fn has_run_out(&mut self, now: Instant) -> bool {
        *self.due.get_or_insert(now + self.timeout) <= now
    }

    /// OpenSSL was asked at `now`, and has retransmitted or not.
    pub fn asked(&mut self, now: Instant, has_retransmitted: bool) {
        if has_retransmitted {
            self.timeout *= 2;
        }
        self.due = Some(now + if has_retransmitted { self.timeout } else { RETRY_INTERVAL });
    }
}
