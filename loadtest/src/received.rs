//! What viewers count.

use std::time::{Duration, Instant};

/// Counters of one viewer, or of several together, since the start of the measured window.
#[derive(Debug, Clone, Copy, Default)]
pub struct Received {
    /// RTP packets, each counted once.
    pub packets: u64,
    /// RTP payload bytes; light viewers include padding.
    pub bytes: u64,
    /// Packets missing for good.
    pub lost: u64,
    /// Packets that should have come.
    pub expected: u64,
    /// Packets that came again; only light viewers see them, a full one's SRTP drops them first.
    pub duplicates: u64,
    /// Packets that came after later ones: overtaken, or for full viewers also sent again.
    pub reordered: u64,
    /// Frames that could be shown; for light viewers, frames that came whole and in order.
    pub frames: u64,
    /// Frames that carried no time stamp.
    pub unstamped: u64,
    /// Times that the picture stood still.
    pub freezes: u64,
    /// Microseconds for which it did.
    pub frozen_us: u64,
    /// PLIs sent.
    pub plis: u64,
    /// Times that the video's SSRC changed.
    pub ssrc_switches: u64,
    /// Times that the picture's size changed under the same SSRC.
    pub size_switches: u64,
    /// Packets that were decrypted and checked.
    pub checked: u64,
    /// Of those, packets that were forged or damaged.
    pub bad: u64,
    /// Interarrival jitter of the video (RFC 3550 section 6.4.1), sum over streams, microseconds.
    pub jitter_us: u64,
    /// How many streams are in that sum.
    pub jitter_streams: u64,
    /// Viewers that were sent nothing in the last [`SILENT_AFTER`].
    pub silent: u64,
}

/// A pause that is no jitter any more: the server, or the publisher, has ended.
pub const SILENT_AFTER: Duration = Duration::from_secs(2);

/// Whether a viewer whose last packet came then is sent nothing any more.
pub fn is_silent(last_rtp: Option<Instant>, now: Instant) -> bool {
    last_rtp.is_none_or(|last| now.saturating_duration_since(last) >= SILENT_AFTER)
}

impl std::ops::AddAssign for Received {
    fn add_assign(&mut self, other: Received) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.lost += other.lost;
        self.expected += other.expected;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        self.frames += other.frames;
        self.unstamped += other.unstamped;
        self.freezes += other.freezes;
        self.frozen_us += other.frozen_us;
        self.plis += other.plis;
        self.ssrc_switches += other.ssrc_switches;
        self.size_switches += other.size_switches;
        self.checked += other.checked;
        self.bad += other.bad;
        self.jitter_us += other.jitter_us;
        self.jitter_streams += other.jitter_streams;
        self.silent += other.silent;
    }
}

impl Received {
    /// Percent of the expected packets that are missing; `None` if none was expected.
    pub fn lost_pct(&self) -> Option<f64> {
        (self.expected > 0).then(|| self.lost as f64 * 100.0 / self.expected as f64)
    }

    /// Mean over streams, milliseconds; `None` if there is no video.
    pub fn jitter_ms(&self) -> Option<f64> {
        (self.jitter_streams > 0).then(|| self.jitter_us as f64 / self.jitter_streams as f64 / 1000.0)
    }
}

/// The viewer that fared worst.
#[derive(Debug, Clone, Copy)]
pub struct Worst {
    /// Its number, from 0.
    pub viewer: usize,
    pub received: Received,
}

impl Worst {
    /// The one that lost more, or with equal loss saw less.
    pub fn of(left: Option<Worst>, right: Option<Worst>) -> Option<Worst> {
        let (Some(left), Some(right)) = (left, right) else { return left.or(right) };
        let badness =
            |worst: &Worst| (worst.received.lost_pct().unwrap_or(100.0), worst.received.frozen_us as f64);
        Some(if badness(&right) > badness(&left) { right } else { left })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_viewer_lost_most_or_froze_longest() {
        let viewer = |viewer, lost, frozen_us| {
            Some(Worst {
                viewer,
                received: Received { lost, frozen_us, expected: 100, ..Received::default() },
            })
        };
        let worst = |left, right| Worst::of(left, right).map(|worst| worst.viewer);
        assert_eq!(worst(viewer(0, 1, 9), viewer(1, 2, 0)), Some(1));
        assert_eq!(worst(viewer(0, 1, 9), viewer(1, 1, 0)), Some(0));
        assert_eq!(worst(None, viewer(1, 0, 0)), Some(1));
        assert_eq!(
            worst(viewer(0, 99, 0), Some(Worst { viewer: 1, received: Received::default() })),
            Some(1)
        );
    }
}
