//! What a run has found: one [`Step`] per number of viewers, as JSON and as words.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::histogram::Histogram;
use crate::received::Worst;

/// A generator thread busier than this may be what limits the figures.
const BUSY_LIMIT: f64 = 0.85;
/// A machine busier than this makes every process on it wait.
const MACHINE_LIMIT_PCT: f64 = 95.0;
/// Share of frames that may leave late: latency counts from when they do leave, so a few disturb nothing.
const LATE_LIMIT: f64 = 0.05;

/// The whole run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub tool: &'static str,
    pub version: &'static str,
    pub mode: &'static str,
    /// Whether viewers took trains whole (UDP_GRO); on loopback that takes work off the server's bill.
    pub gro: bool,
    /// `None` if nothing was published.
    pub stream: Option<Stream>,
    pub publishers: usize,
    pub steps: Vec<Step>,
    /// `None` without `--ramp`.
    pub ramp: Option<Ramp>,
    /// Why there are fewer steps than were asked for.
    pub ended_early: Option<String>,
}

/// What each publisher sends.
#[derive(Debug, Clone, Serialize)]
pub struct Stream {
    pub video: &'static str,
    pub audio: &'static str,
    /// Encodings of the picture; 3 for simulcast.
    pub layers: usize,
    pub width: usize,
    pub height: usize,
    pub fps: u32,
    /// Bits per second of RTP payload, video, as really sent, all layers.
    pub video_bps: f64,
    /// RTP packets per second, video and audio.
    pub packets_per_second: f64,
    pub gop_seconds: f64,
}

/// What was measured with one number of viewers.
#[derive(Debug, Default, Serialize)]
pub struct Step {
    /// Asked for.
    pub viewers: usize,
    /// Watching when the measurement began.
    pub viewers_joined: usize,
    /// Of those, gone before it ended.
    pub viewers_lost: usize,
    /// Sent nothing in the last two seconds: their loss and latency are those of the time before.
    pub viewers_silent: u64,
    pub seconds: f64,
    /// Packets missing for good, of all that should have come; `None` if none came.
    pub lost_pct: Option<f64>,
    pub worst_viewer_lost_pct: Option<f64>,
    /// The viewer that lost most, or with equal loss froze longest.
    pub worst_viewer: Option<WorstViewer>,
    /// `None` in full mode, where SRTP drops them unseen.
    pub duplicate_packets: Option<u64>,
    /// Packets that came after later ones; in full mode retransmitted ones too.
    pub reordered_packets: u64,
    /// Packets that were decrypted and checked.
    pub checked_packets: u64,
    /// Of those, forged or damaged.
    pub bad_packets: u64,
    /// Interarrival jitter of the video (RFC 3550), mean over viewers.
    pub jitter_ms: Option<f64>,
    /// Both of the following, sum over viewers.
    pub layer_switches: u64,
    /// Changes of the video's SSRC.
    pub layer_switches_by_ssrc: u64,
    /// Changes of the picture's size under the same SSRC.
    pub layer_switches_by_size: u64,
    pub delivered_packets: u64,
    pub delivered_packets_per_second: f64,
    pub delivered_mbit_per_second: f64,
    /// Frames that could be shown, sum over viewers.
    pub frames: u64,
    pub freezes: u64,
    pub frozen_seconds: f64,
    /// PLIs that viewers sent.
    pub plis: u64,
    /// PLI and FIR that publishers received.
    pub publisher_key_frame_requests: u64,
    /// `None` without `--adapt`.
    pub adaptation: Option<Adaptation>,
    /// Joins of this step, before it was measured.
    pub joins: Joins,
    /// `None` without `--churn`.
    pub churn: Option<Churn>,
    /// `None` without `--swap-every`.
    pub swaps: Option<Swaps>,
    /// From the publisher's send call to the frame's last packet; `None` if no frame carries a time stamp.
    pub latency_ms: Option<LatencyMs>,
    /// `None` without `--pid`.
    pub server: Option<Server>,
    pub generator: Generator,
}

/// How publishers followed bandwidth feedback.
#[derive(Debug, Default, Serialize)]
pub struct Adaptation {
    /// Times that an encoding changed, sum over publishers.
    pub changes: u64,
    /// About one per second.
    pub over_time: Vec<BitrateAt>,
}

/// The bitrate of publishers at one time, mean of them.
#[derive(Debug, Clone, Serialize)]
pub struct BitrateAt {
    /// Since the step's measurement began.
    pub second: f64,
    /// RTP payload of video since the entry before.
    pub video_mbit_per_second: f64,
    /// What the network is said to carry; `None` if no publisher was told.
    pub estimate_mbit_per_second: Option<f64>,
}

impl Adaptation {
    /// Over the whole step; `None` if nothing was noted.
    pub fn mean_mbit_per_second(&self) -> Option<f64> {
        let count = self.over_time.len() as f64;
        let sum: f64 = self.over_time.iter().map(|at| at.video_mbit_per_second).sum();
        (count > 0.0).then_some(sum / count)
    }
}

/// Viewers that left and joined while the step was measured.
#[derive(Debug, Serialize)]
pub struct Churn {
    pub left: usize,
    pub joins: Joins,
}

/// Publishers that ended and were followed by new ones while the step was measured.
#[derive(Debug, Serialize)]
pub struct Swaps {
    pub swaps: usize,
    /// Longest pause of the picture, of each viewer for each swap.
    pub gap_p50_ms: Option<f64>,
    pub gap_p95_ms: Option<f64>,
    pub gap_max_ms: Option<f64>,
}

impl Swaps {
    /// From pauses in microseconds.
    pub fn of(swaps: usize, gaps: &Histogram) -> Swaps {
        let ms = |share| gaps.quantile(share).map(|micros| micros as f64 / 1000.0);
        Swaps { swaps, gap_p50_ms: ms(0.5), gap_p95_ms: ms(0.95), gap_max_ms: ms(1.0) }
    }
}

/// How far a ramp came.
#[derive(Debug, Serialize)]
pub struct Ramp {
    /// Viewers of the largest step that held; 0 if none did.
    pub held: usize,
    /// Viewers of the step that did not.
    pub broke: Option<usize>,
    /// Why.
    pub reasons: Vec<String>,
}

impl Ramp {
    /// One line.
    pub fn words(&self) -> String {
        let why = self.reasons.join("; ");
        match (self.held, self.broke) {
            (0, _) => format!("ramp: no step held: {why}"),
            (held, Some(broke)) => format!("ramp: {held} viewers held, {broke} did not: {why}"),
            (held, None) if why.is_empty() => format!("ramp: {held} viewers held, the most that are tried"),
            (held, None) => format!("ramp: {held} viewers held, then: {why}"),
        }
    }
}

/// How the worst viewer fared.
#[derive(Debug, Serialize)]
pub struct WorstViewer {
    /// Its number, from 0.
    pub viewer: usize,
    pub lost_pct: f64,
    pub packets: u64,
    pub frames: u64,
    pub freezes: u64,
    pub frozen_seconds: f64,
}

impl WorstViewer {
    /// One that received nothing lost everything.
    pub fn of(worst: &Worst) -> WorstViewer {
        let received = &worst.received;
        WorstViewer {
            viewer: worst.viewer,
            lost_pct: received.lost_pct().unwrap_or(100.0),
            packets: received.packets,
            frames: received.frames,
            freezes: received.freezes,
            frozen_seconds: received.frozen_us as f64 / 1e6,
        }
    }
}

/// Joins of one step. Times are medians from the start of the POST.
#[derive(Debug, Default, Serialize)]
pub struct Joins {
    pub ok: usize,
    pub failed: usize,
    pub failed_by_cause: BTreeMap<String, usize>,
    pub answer_ms: Option<f64>,
    pub connected_ms: Option<f64>,
    pub first_rtp_ms: Option<f64>,
    pub first_rtp_p95_ms: Option<f64>,
    pub first_rtp_p99_ms: Option<f64>,
    pub first_key_frame_ms: Option<f64>,
    pub first_key_frame_p95_ms: Option<f64>,
    pub first_key_frame_p99_ms: Option<f64>,
}

/// Latency of whole frames.
#[derive(Debug, Clone, Serialize)]
pub struct LatencyMs {
    /// Frames measured.
    pub frames: u64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl LatencyMs {
    /// `None` if nothing was recorded.
    pub fn of(histogram: &Histogram) -> Option<LatencyMs> {
        let ms = |share| histogram.quantile(share).map(|micros| micros as f64 / 1000.0);
        Some(LatencyMs {
            frames: histogram.count(),
            p50: ms(0.5)?,
            p95: ms(0.95)?,
            p99: ms(0.99)?,
            max: histogram.max() as f64 / 1000.0,
        })
    }
}

/// What the server's processes used.
#[derive(Debug, Serialize)]
pub struct Server {
    /// CPU time of the processes, all of it, per packet that reached a viewer; `None` if none did.
    pub cpu_ns_per_packet: Option<f64>,
    /// 100 is one core.
    pub cpu_pct_of_core: f64,
    pub rss_kib: u64,
    /// Growth since before the first viewer, per viewer.
    pub rss_kib_per_viewer: Option<f64>,
}

/// How the generator itself did.
#[derive(Debug, Default, Serialize)]
pub struct Generator {
    /// Whether the figures may show its limits rather than the server's.
    pub bottleneck: bool,
    /// Why, in words.
    pub reasons: Vec<String>,
    /// Of the busiest viewer thread, percent of the time not spent waiting.
    pub busy_pct: f64,
    /// All cores of this machine, whoever used them, percent.
    pub machine_busy_pct: f64,
    /// Datagrams that our sockets dropped for want of room.
    pub socket_drops: u64,
    pub frames_sent: u64,
    /// Frames that left over 10 ms late or not at all.
    pub frames_late: u64,
    /// Datagrams that the kernel did not take.
    pub send_errors: u64,
}

impl Generator {
    /// Decides whether the generator was the limit.
    pub fn judge(mut self) -> Self {
        if self.busy_pct > BUSY_LIMIT * 100.0 {
            self.reasons.push(format!(
                "a viewer thread was busy {:.0} % of the time (more --threads?)",
                self.busy_pct
            ));
        }
        if self.machine_busy_pct > MACHINE_LIMIT_PCT {
            self.reasons.push(format!(
                "all cores of this machine were {:.0} % busy (move the generator or the server to another one)",
                self.machine_busy_pct
            ));
        }
        if self.socket_drops > 0 {
            self.reasons.push(format!(
                "{} datagrams overran our socket buffers (more --threads, or raise net.core.rmem_max)",
                self.socket_drops
            ));
        }
        if self.frames_late as f64 > self.frames_sent as f64 * LATE_LIMIT {
            self.reasons.push(format!("{} of {} frames left late", self.frames_late, self.frames_sent));
        }
        self.bottleneck = !self.reasons.is_empty();
        self
    }
}

/// The middle of the values, or any other share of them; `None` if there is none.
pub fn quantile_ms(values: &mut [std::time::Duration], share: f64) -> Option<f64> {
    values.sort_unstable();
    let rank = ((values.len() as f64 * share).ceil() as usize).max(1);
    values.get(rank - 1).map(|value| value.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_json_has_the_names_that_scripts_rely_on() {
        let latency = LatencyMs { frames: 9, p50: 1.0, p95: 2.0, p99: 3.0, max: 4.0 };
        let server = Server {
            cpu_ns_per_packet: Some(5.0),
            cpu_pct_of_core: 6.0,
            rss_kib: 7,
            rss_kib_per_viewer: Some(8.0),
        };
        let step = Step { viewers: 3, latency_ms: Some(latency), server: Some(server), ..Step::default() };
        let json = serde_json::to_value(&step).unwrap();
        for pointer in [
            "/viewers",
            "/lost_pct",
            "/delivered_packets",
            "/joins/failed",
            "/joins/first_rtp_ms",
            "/latency_ms/p50",
            "/latency_ms/p95",
            "/latency_ms/p99",
            "/latency_ms/max",
            "/server/cpu_ns_per_packet",
            "/server/cpu_pct_of_core",
            "/server/rss_kib_per_viewer",
            "/generator/bottleneck",
        ] {
            assert!(json.pointer(pointer).is_some(), "{pointer}");
        }
    }

    #[test]
    fn the_generator_says_when_it_is_the_limit() {
        let fine = Generator { busy_pct: 50.0, frames_sent: 1000, frames_late: 5, ..Generator::default() };
        assert!(!fine.judge().bottleneck);
        let busy = Generator { busy_pct: 90.0, ..Generator::default() };
        let overrun = Generator { socket_drops: 1, ..Generator::default() };
        let late = Generator { frames_sent: 100, frames_late: 6, ..Generator::default() };
        let full = Generator { machine_busy_pct: 99.0, ..Generator::default() };
        for bad in [busy, overrun, late, full] {
            let judged = bad.judge();
            assert!(judged.bottleneck && judged.reasons.len() == 1, "{judged:?}");
        }
    }

    #[test]
    fn quantiles_of_few_values() {
        let mut values = [3, 1, 2].map(Duration::from_millis);
        assert_eq!(quantile_ms(&mut values, 0.5), Some(2.0));
        assert_eq!(quantile_ms(&mut values, 0.95), Some(3.0));
        assert_eq!(quantile_ms(&mut [], 0.5), None);
    }
}
