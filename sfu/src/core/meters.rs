//! The counters of a worker while it runs. Plain fields, no atomics: only the worker touches them.

use crate::stats::{DropReason, HistogramSnapshot, JoinPhase, WorkerSnapshot};
use std::time::Duration;

/// Seconds; forwarding takes microseconds when idle and must not take tens of milliseconds.
const FORWARD_BOUNDS: &[f64] =
    &[0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5];
/// Seconds; a join takes milliseconds on a LAN and seconds when something is wrong.
const JOIN_BOUNDS: &[f64] = &[0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0];

/// A histogram with fixed bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Histogram {
        Histogram { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Adds an observation.
    pub fn observe(&mut self, value: Duration) {
        let seconds = value.as_secs_f64();
        self.counts[self.bounds.partition_point(|bound| *bound < seconds)] += 1;
        self.sum += seconds;
    }

    fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot { bounds: self.bounds.into(), counts: self.counts.clone(), sum: self.sum }
    }
}

/// What the core counts. The worker adds what only the driver and the loop know.
#[derive(Debug)]
pub struct Meters {
    /// See [`WorkerSnapshot`] for these.
    pub rtp_packets_in: u64,
    /// Bytes of the same, header and payload.
    pub rtp_bytes_in: u64,
    /// RTP to viewers, retransmissions included.
    pub rtp_packets_out: u64,
    /// Bytes of the same.
    pub rtp_bytes_out: u64,
    /// Published packets that never came.
    pub rtp_lost_packets: u64,
    /// Packets sent again.
    pub retransmitted_packets: u64,
    /// PLI and FIR sent to publishers.
    pub keyframe_requests: u64,
    /// Packets that found a full inbox.
    pub mesh_dropped_packets: u64,
    dropped: [u64; DropReason::ALL.len()],
    /// Datagram in → last copy handed to the kernel.
    pub forward_latency: Histogram,
    join: [Histogram; JoinPhase::ALL.len()],
}

impl Meters {
    /// All zero.
    pub fn new() -> Meters {
        Meters {
            rtp_packets_in: 0,
            rtp_bytes_in: 0,
            rtp_packets_out: 0,
            rtp_bytes_out: 0,
            rtp_lost_packets: 0,
            retransmitted_packets: 0,
            keyframe_requests: 0,
            mesh_dropped_packets: 0,
            dropped: [0; DropReason::ALL.len()],
            forward_latency: Histogram::new(FORWARD_BOUNDS),
            join: std::array::from_fn(|_| Histogram::new(JOIN_BOUNDS)),
        }
    }

    /// Counts a drop.
    pub fn dropped(&mut self, reason: DropReason, count: u64) {
        self.dropped[reason as usize] += count;
    }

    /// How often `reason` was counted.
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// A viewer reached a phase of its join.
    pub fn joined(&mut self, phase: JoinPhase, after: Duration) {
        self.join[phase as usize].observe(after);
    }

    /// The counters as they cross to signaling; sessions and loop times are the caller's.
    pub fn snapshot(&self) -> WorkerSnapshot {
        WorkerSnapshot {
            rtp_packets_in: self.rtp_packets_in,
            rtp_bytes_in: self.rtp_bytes_in,
            rtp_packets_out: self.rtp_packets_out,
            rtp_bytes_out: self.rtp_bytes_out,
            rtp_lost_packets: self.rtp_lost_packets,
            retransmitted_packets: self.retransmitted_packets,
            keyframe_requests: self.keyframe_requests,
            mesh_dropped_packets: self.mesh_dropped_packets,
            dropped: self.dropped,
            forward_latency: self.forward_latency.snapshot(),
            join: std::array::from_fn(|phase| self.join[phase].snapshot()),
            ..WorkerSnapshot::default()
        }
    }
}

impl Default for Meters {
    fn default() -> Meters {
        Meters::new()
    }
}
