//! Maps a publisher's RTP timestamps to our clock, so that its audio and video stay in step for viewers.
//!
//! Sender reports tie each track's timestamps to the publisher's wall clock (RFC 3550 §6.4.1); the smallest transit
//! seen ties that wall clock to ours. Viewers' sender reports are then made from the common time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How fast the mapping may follow a publisher's clock that runs slower than ours: 1 ms a second covers the 100 ppm
/// of bad crystals ten times.
const DRIFT_US_PER_SECOND: i64 = 1_000;
/// A capture time further than this before its arrival is a broken report, not a slow network.
const TRANSIT_MAX: Duration = Duration::from_secs(10);

/// A wall-clock time and the RTP timestamp of the same moment.
#[derive(Debug, Clone, Copy)]
pub struct SenderReport {
    /// The sender's wall clock.
    pub wall: SystemTime,
    /// The track's RTP timestamp at that time.
    pub timestamp: u32,
}

/// One publisher's clock. All its tracks share it.
#[derive(Debug)]
pub struct CaptureClock {
    origin: Instant,
    /// Our microseconds since `origin` minus the publisher's since 1970, at the smallest transit seen.
    offset_us: Option<(i64, Instant)>,
}

impl CaptureClock {
    /// A clock that knows nothing yet.
    pub fn new(now: Instant) -> CaptureClock {
        CaptureClock { origin: now, offset_us: None }
    }

    /// When the packet with `timestamp` was captured. Without a report it is the arrival.
    pub fn captured(
        &mut self,
        now: Instant,
        report: Option<SenderReport>,
        timestamp: u32,
        clock_rate: u32,
    ) -> Instant {
        let Some(wall_us) = report.and_then(|report| wall_us(report, timestamp, clock_rate)) else {
            return now;
        };
        let now_us = self.since_origin_us(now);
        let offset = self.follow(now, now_us - wall_us);
        let captured_us = wall_us + offset;
        let transit = u64::try_from(now_us - captured_us).map(Duration::from_micros).unwrap_or_default();
        if transit > TRANSIT_MAX {
            self.offset_us = None;
            return now;
        }
        now - transit
    }

    fn follow(&mut self, now: Instant, observed: i64) -> i64 {
        let offset = match self.offset_us {
            None => observed,
            Some((offset, at)) => {
                let elapsed_us = now.saturating_duration_since(at).as_micros() as i64;
                observed.min(offset + elapsed_us * DRIFT_US_PER_SECOND / 1_000_000)
            }
        };
        self.offset_us = Some((offset, now));
        offset
    }

    fn since_origin_us(&self, now: Instant) -> i64 {
        now.saturating_duration_since(self.origin).as_micros() as i64
    }
}

/// The publisher's wall clock at `timestamp`, in microseconds since 1970.
fn wall_us(report: SenderReport, timestamp: u32, clock_rate: u32) -> Option<i64> {
    let at_report = i64::try_from(report.wall.duration_since(UNIX_EPOCH).ok()?.as_micros()).ok()?;
    let ticks = i64::from(timestamp.wrapping_sub(report.timestamp) as i32);
    Some(at_report + ticks * 1_000_000 / i64::from(clock_rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audio_and_video_of_one_moment_get_one_time_despite_different_transit() {
        let start = Instant::now();
        let wall = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let mut clock = CaptureClock::new(start);
        let video = SenderReport { wall, timestamp: 90_000 };
        let audio = SenderReport { wall, timestamp: 4_294_967_000 }; // about to wrap
        let fast = start + Duration::from_millis(20);
        let slow = start + Duration::from_millis(75);
        let heard = clock.captured(fast, Some(audio), 4_294_967_000, 48_000);
        let seen = clock.captured(slow, Some(video), 90_000, 90_000);
        assert!(seen.saturating_duration_since(heard) < Duration::from_millis(1));
        let later = clock.captured(slow + Duration::from_secs(1), Some(audio), 47_704, 48_000);
        let step = later.saturating_duration_since(heard);
        assert!((Duration::from_millis(999)..=Duration::from_millis(1_002)).contains(&step), "{step:?}");
    }

    #[test]
    fn without_a_report_the_arrival_counts() {
        let now = Instant::now();
        assert_eq!(CaptureClock::new(now).captured(now, None, 7, 90_000), now);
    }

    #[test]
    fn a_broken_report_is_not_believed() {
        let now = Instant::now();
        let mut clock = CaptureClock::new(now);
        let good = SenderReport { wall: UNIX_EPOCH + Duration::from_secs(100), timestamp: 0 };
        let bad = SenderReport { wall: UNIX_EPOCH + Duration::from_secs(1), timestamp: 0 };
        clock.captured(now, Some(good), 0, 90_000);
        assert_eq!(clock.captured(now, Some(bad), 0, 90_000), now);
    }
}
