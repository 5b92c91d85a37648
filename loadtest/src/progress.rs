//! The line per second in the terminal.

use std::time::Instant;

use crate::engine::Collected;
use crate::report::{BitrateAt, LatencyMs};

/// What the line before said, to tell what has come since.
pub struct Progress {
    began: Instant,
    at: Instant,
    delivered: u64,
    bytes: u64,
    sent: u64,
    frames: u64,
    video_bytes: u64,
    /// What publishers that follow feedback sent, line by line.
    pub bitrates: Vec<BitrateAt>,
}

impl Progress {
    /// At the start of a measured window.
    pub fn new(began: Instant) -> Progress {
        Progress {
            began,
            at: began,
            delivered: 0,
            bytes: 0,
            sent: 0,
            frames: 0,
            video_bytes: 0,
            bitrates: Vec::new(),
        }
    }

    /// The next line: what `watching` viewers received since the last one, or without viewers what publishers
    /// sent.
    pub fn line(&mut self, now: Instant, watching: usize, received: &Collected, sent: &Collected) -> String {
        let seconds = (now - self.at).as_secs_f64();
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let head = format!("{:>4.0} s: ", (now - self.began).as_secs_f64());
        let counts = &received.received;
        let line = if watching == 0 {
            let (frames, packets) = (rate(sent.sent.frames, self.frames), rate(sent.sent.packets, self.sent));
            format!("{head}no viewers, {frames:.0} frames/s and {packets:.0} packets/s sent")
        } else {
            let (packets, mbit) =
                (rate(counts.packets, self.delivered), rate(counts.bytes, self.bytes) * 8.0 / 1e6);
            let (loss, busy) = (counts.lost_pct().unwrap_or(0.0), received.busy * 100.0);
            let latency = latency(received);
            format!(
                "{head}{watching} viewers, {packets:.0} packets/s, {mbit:.1} Mbit/s, \
                 loss {loss:.3} %{latency}, generator {busy:.0} % busy"
            )
        };
        *self = Progress {
            began: self.began,
            at: now,
            delivered: counts.packets,
            bytes: counts.bytes,
            sent: sent.sent.packets,
            frames: sent.sent.frames,
            video_bytes: sent.sent.video_bytes,
            bitrates: std::mem::take(&mut self.bitrates),
        };
        line
    }

    /// Notes what `publishers` that follow feedback have sent since the last line; returns the end of the next one.
    pub fn bitrate(&mut self, now: Instant, publishers: usize, sent: &Collected) -> String {
        let bits = sent.sent.video_bytes.saturating_sub(self.video_bytes) as f64 * 8.0;
        let sent_mbit = bits / (now - self.at).as_secs_f64() / publishers.max(1) as f64 / 1e6;
        let estimates = sent.sent.estimates;
        let estimate = (estimates > 0).then(|| sent.sent.estimate_bps as f64 / estimates as f64 / 1e6);
        self.bitrates.push(BitrateAt {
            second: (now - self.began).as_secs_f64(),
            video_mbit_per_second: sent_mbit,
            estimate_mbit_per_second: estimate,
        });
        let told = estimate.map_or("no estimate".into(), |estimate| format!("estimate {estimate:.2}"));
        format!(", publisher {sent_mbit:.2} Mbit/s ({told})")
    }
}

fn latency(received: &Collected) -> String {
    LatencyMs::of(&received.latency).map_or(String::new(), |latency| {
        format!(", latency p50 {:.1} p99 {:.1} ms", latency.p50, latency.p99)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_line_tells_the_rate_since_the_one_before() {
        let began = Instant::now();
        let mut progress = Progress::new(began);
        let (mut received, sent) = (Collected::default(), Collected::default());
        received.received.packets = 500;
        progress.line(began + Duration::from_secs(1), 2, &received, &sent);
        received.received.packets = 2500;
        received.received.bytes = 2_000_000;
        received.latency.record(1500);
        let line = progress.line(began + Duration::from_secs(3), 2, &received, &sent);
        assert!(
            line.starts_with("   3 s: 2 viewers, 1000 packets/s, 8.0 Mbit/s, loss 0.000 %, latency p50 1.5"),
            "{line}"
        );
    }

    #[test]
    fn the_bitrate_of_publishers_is_noted_with_what_they_were_told() {
        let began = Instant::now();
        let (mut progress, mut sent) = (Progress::new(began), Collected::default());
        sent.sent.video_bytes = 250_000;
        let (now, received) = (began + Duration::from_secs(1), Collected::default());
        assert_eq!(progress.bitrate(now, 2, &sent), ", publisher 1.00 Mbit/s (no estimate)");
        progress.line(now, 0, &received, &sent);
        (sent.sent.video_bytes, sent.sent.estimate_bps, sent.sent.estimates) = (500_000, 2_400_000, 2);
        let now = began + Duration::from_secs(3);
        assert_eq!(progress.bitrate(now, 2, &sent), ", publisher 0.50 Mbit/s (estimate 1.20)");
        let noted: Vec<_> =
            progress.bitrates.iter().map(|at| (at.second, at.video_mbit_per_second)).collect();
        assert_eq!(noted, [(1.0, 1.0), (3.0, 0.5)]);
    }

    #[test]
    fn without_viewers_it_tells_what_is_sent() {
        let began = Instant::now();
        let mut sent = Collected::default();
        (sent.sent.frames, sent.sent.packets) = (60, 700);
        let line = Progress::new(began).line(began + Duration::from_secs(2), 0, &Collected::default(), &sent);
        assert_eq!(line, "   2 s: no viewers, 30 frames/s and 350 packets/s sent");
    }
}
