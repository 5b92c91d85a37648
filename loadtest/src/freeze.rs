//! Freezes, as WebRTC statistics define them (webrtc-stats, freezeCount): a pause between two shown frames
//! that is both three times the usual one and 150 ms longer.

use std::time::{Duration, Instant};

const LONGER: Duration = Duration::from_millis(150);
/// Weight of one interval in the running mean, 1/30 as for a mean over 30 frames.
const MEAN_OVER: u32 = 30;

/// Watches when frames are shown.
#[derive(Default)]
pub struct FreezeMeter {
    last: Option<Instant>,
    mean: Option<Duration>,
    /// Longest pause since [`FreezeMeter::take_longest`].
    longest: Duration,
}

impl FreezeMeter {
    /// A frame is shown; returns the pause before it if that was a freeze.
    pub fn shown(&mut self, now: Instant) -> Option<Duration> {
        let pause = now.saturating_duration_since(self.last.replace(now)?);
        self.longest = self.longest.max(pause);
        let mean = *self.mean.get_or_insert(pause);
        self.mean = Some((mean * (MEAN_OVER - 1) + pause) / MEAN_OVER);
        (pause >= (mean * 3).max(mean + LONGER)).then_some(pause)
    }

    /// The longest pause since this was last asked, the present one included; `None` before the first frame.
    pub fn take_longest(&mut self, now: Instant) -> Option<Duration> {
        let present = now.saturating_duration_since(self.last?);
        Some(std::mem::take(&mut self.longest).max(present))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pause_counts_until_it_is_asked_for_and_a_standing_picture_is_one() {
        let (mut meter, start) = (FreezeMeter::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(meter.take_longest(at(0)), None);
        for ms in [0, 33, 133, 166] {
            meter.shown(at(ms));
        }
        assert_eq!(meter.take_longest(at(170)), Some(Duration::from_millis(100)));
        assert_eq!(meter.take_longest(at(666)), Some(Duration::from_millis(500)));
    }

    #[test]
    fn a_pause_of_200_ms_at_30_frames_a_second_is_a_freeze_and_jitter_is_not() {
        let (mut meter, mut now) = (FreezeMeter::default(), Instant::now());
        let mut show = |ms| {
            now += Duration::from_millis(ms);
            meter.shown(now)
        };
        for _ in 0..60 {
            assert_eq!(show(33), None);
        }
        assert_eq!(show(90), None);
        assert_eq!(show(200), Some(Duration::from_millis(200)));
    }
}
