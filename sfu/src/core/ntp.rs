//! Wall-clock time in the formats of RTCP and RTP header extensions.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds from 1900, where NTP counts from, to 1970.
const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;

/// Ties the monotonic clock to wall-clock time, once: a step of the system's clock would tear audio and video apart.
#[derive(Debug, Clone, Copy)]
pub struct NtpClock {
    origin: Instant,
    since_1970: Duration,
}

/// 32 bits of seconds since 1900 and 32 of their fraction (RFC 3550 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NtpTime(pub u64);

/// The moment of a turn, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// Monotonic.
    pub now: Instant,
    /// Wall-clock.
    pub time: NtpTime,
}

impl NtpClock {
    /// A clock that shows `wall` at `origin`.
    pub fn new(origin: Instant, wall: SystemTime) -> NtpClock {
        NtpClock { origin, since_1970: wall.duration_since(UNIX_EPOCH).unwrap_or_default() }
    }

    /// What it shows at `at`, which must not lie before the origin.
    pub fn at(&self, at: Instant) -> NtpTime {
        let since_1970 = self.since_1970 + at.saturating_duration_since(self.origin);
        let seconds = since_1970.as_secs().wrapping_add(NTP_TO_UNIX_SECONDS);
        let fraction = (u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000;
        NtpTime(seconds << 32 | fraction)
    }
}

impl NtpTime {
    /// `abs-send-time`: 6 bits of seconds and 18 of their fraction.
    pub fn abs_send_time(self) -> [u8; 3] {
        let [_, high, middle, low] = ((self.0 >> 14) as u32).to_be_bytes();
        [high, middle, low]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_in_rfc_3550_and_as_abs_send_time() {
        let origin = Instant::now();
        let clock = NtpClock::new(origin, UNIX_EPOCH + Duration::from_secs(1));
        let time = clock.at(origin + Duration::from_millis(500));
        assert_eq!(time.0 >> 32, NTP_TO_UNIX_SECONDS + 1);
        assert_eq!(time.0 as u32, 1 << 31);
        let seconds = (NTP_TO_UNIX_SECONDS + 1) as u32 & 0x3f;
        assert_eq!(time.abs_send_time(), [(seconds << 2 | 2) as u8, 0, 0]);
    }
}
