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
}

impl FreezeMeter {
    /// A frame is shown; returns the pause before it if that was a freeze.
    pub fn shown(&mut self, now: Instant) -> Option<Duration> {
        let pause = now.saturating_duration_since(self.last.replace(now)?);
        let mean = *self.mean.get_or_insert(pause);
        self.mean = Some((mean * (MEAN_OVER - 1) + pause) / MEAN_OVER);
        (pause >= (mean * 3).max(mean + LONGER)).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
