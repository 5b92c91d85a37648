//! A publisher that follows bandwidth feedback, as a browser does: str0m estimates from transport-cc (the delay and loss
//! of libwebrtc's GCC) or is told by REMB, and this chooses among encodings.

use std::time::{Duration, Instant};

use str0m::Rtc;
use str0m::bwe::{Bitrate, BweKind};

/// Encodings of the picture, as shares of the bitrate that was asked for, rising.
pub const SHARES: [f64; 3] = [0.25, 0.5, 1.0];
/// What a stream takes beside its video payload: RTP headers and tags, and sound.
const OVERHEAD: f64 = 1.05;
const AUDIO_BPS: f64 = 64_000.0;
/// A better encoding is chosen only if the estimate has so much to spare, and not soon after a change: the estimate swings by
/// about as much around what the network carries.
const SPARE: f64 = 1.1;
const PATIENCE: Duration = Duration::from_secs(2);

/// Follows the estimates of one publisher.
pub struct Adapter {
    /// Bits per second of RTP payload of each encoding, rising.
    bitrates: Vec<f64>,
    at: usize,
    changed: Option<Instant>,
    /// By transport-cc.
    measured: Option<f64>,
    /// By REMB.
    told: Option<f64>,
    /// What str0m is to be told, when it may be.
    order: Option<Order>,
}

enum Order {
    /// Look for as much as the best encoding takes.
    Desire(Bitrate),
    /// Without transport-cc the estimate is what REMB says.
    Believe(Bitrate),
}

impl Adapter {
    /// Starts with the cheapest of the encodings, of which there is at least one.
    pub fn new(bitrates: Vec<f64>) -> Adapter {
        let desire = bitrates.last().map(|best| Order::Desire(rate(needed(*best) * SPARE)));
        Adapter { bitrates, at: 0, changed: None, measured: None, told: None, order: desire }
    }

    /// What the estimate starts from, bits per second: the cheapest encoding fits, so that nothing is overrun at the start.
    pub fn first_estimate(bitrates: &[f64]) -> Bitrate {
        rate(bitrates.first().copied().map_or(AUDIO_BPS, needed))
    }

    /// Takes an estimate; returns the encoding to use from now on.
    pub fn hear(&mut self, kind: &BweKind, now: Instant) -> usize {
        match kind {
            BweKind::Twcc { estimate, can_probe: true } => self.measured = Some(estimate.as_f64()),
            BweKind::Twcc { .. } => self.measured = None,
            BweKind::Remb { estimate, .. } => {
                self.told = Some(estimate.as_f64());
                if self.measured.is_none() {
                    self.order = Some(Order::Believe(*estimate));
                }
            }
            _ => {}
        }
        self.choose(now)
    }

    fn choose(&mut self, now: Instant) -> usize {
        let Some(estimate) = self.estimate() else { return self.at };
        let best_within = |bps: f64| self.bitrates.iter().rposition(|bitrate| needed(*bitrate) <= bps);
        let fits = best_within(estimate).unwrap_or(0);
        let fits_well = best_within(estimate / SPARE).unwrap_or(0);
        let patient = self.changed.is_none_or(|changed| now.saturating_duration_since(changed) >= PATIENCE);
        let next = match fits < self.at {
            true => fits,
            false if patient => fits_well.max(self.at),
            false => self.at,
        };
        if next != self.at {
            (self.at, self.changed) = (next, Some(now));
        }
        self.at
    }

    /// Bits per second that the network is said to carry; `None` before anything was said.
    pub fn estimate(&self) -> Option<f64> {
        [self.measured, self.told].into_iter().flatten().reduce(f64::min)
    }

    /// Tells str0m what it has to know; says whether there was anything.
    pub fn act(&mut self, rtc: &mut Rtc) -> bool {
        match self.order.take() {
            Some(Order::Desire(bitrate)) => rtc.bwe().set_bitrate(Bitrate::ZERO, bitrate),
            Some(Order::Believe(bitrate)) => rtc.bwe().reset(bitrate),
            None => return false,
        }
        true
    }
}

/// Bits per second on the wire, without IP and UDP, of a stream with so much video.
fn needed(video_bps: f64) -> f64 {
    video_bps * OVERHEAD + AUDIO_BPS
}

fn rate(bps: f64) -> Bitrate {
    Bitrate::bps(bps as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BITRATES: [f64; 3] = [250_000.0, 500_000.0, 1_000_000.0];

    fn measured(kbps: u64) -> BweKind {
        BweKind::Twcc { estimate: Bitrate::kbps(kbps), can_probe: true }
    }

    fn told(kbps: u64) -> BweKind {
        BweKind::Remb { estimate: Bitrate::kbps(kbps), mid: "0".into() }
    }

    #[test]
    fn it_rises_with_patience_and_falls_at_once() {
        let (mut adapter, start) = (Adapter::new(BITRATES.into()), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(adapter.hear(&measured(300), at(0)), 0);
        assert_eq!(adapter.hear(&measured(700), at(100)), 1);
        assert_eq!(adapter.hear(&measured(2_000), at(200)), 1);
        assert_eq!(adapter.hear(&measured(2_000), at(2_200)), 2);
        assert_eq!(adapter.hear(&measured(400), at(2_300)), 0);
    }

    #[test]
    fn an_estimate_that_swings_about_the_edge_changes_nothing() {
        let (mut adapter, start) = (Adapter::new(BITRATES.into()), Instant::now());
        let edge = needed(BITRATES[1]) as u64 / 1_000 + 1;
        assert_eq!(adapter.hear(&measured(edge), start), 0);
        assert_eq!(adapter.hear(&measured(edge + 80), start), 1);
        for second in 1..20 {
            let now = start + Duration::from_secs(second);
            assert_eq!(adapter.hear(&measured(edge + second % 2 * 80), now), 1);
        }
    }

    #[test]
    fn the_lower_of_both_estimates_counts_and_remb_alone_does_too() {
        let (mut adapter, now) = (Adapter::new(BITRATES.into()), Instant::now());
        assert_eq!(adapter.estimate(), None);
        assert_eq!(adapter.hear(&told(5_000), now), 2);
        assert!(matches!(adapter.order, Some(Order::Believe(_))));
        assert_eq!(adapter.hear(&measured(650), now), 1);
        assert_eq!(adapter.hear(&told(100), now), 0);
        assert_eq!(adapter.estimate(), Some(100_000.0));
    }
}
