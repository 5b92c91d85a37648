//! The line per second in the terminal.

use std::time::Instant;

use crate::engine::Collected;
use crate::report::LatencyMs;

/// What the line before said, to tell what has come since.
pub struct Progress {
    began: Instant,
    at: Instant,
    delivered: u64,
    bytes: u64,
    sent: u64,
    frames: u64,
}

impl Progress {
    /// At the start of a measured window.
    pub fn new(began: Instant) -> Progress {
        Progress { began, at: began, delivered: 0, bytes: 0, sent: 0, frames: 0 }
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
        };
        line
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
    fn without_viewers_it_tells_what_is_sent() {
        let began = Instant::now();
        let mut sent = Collected::default();
        (sent.sent.frames, sent.sent.packets) = (60, 700);
        let line = Progress::new(began).line(began + Duration::from_secs(2), 0, &Collected::default(), &sent);
        assert_eq!(line, "   2 s: no viewers, 30 frames/s and 350 packets/s sent");
    }
}
