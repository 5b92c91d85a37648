//! The counters of a worker while it runs. Plain fields, no atomics: only the worker touches them.

use super::egress::Sent;
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
    /// Empty.
    pub fn new(bounds: &'static [f64]) -> Histogram {
        Histogram { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Adds an observation.
    pub fn observe(&mut self, value: Duration) {
        let seconds = value.as_secs_f64();
        self.counts[self.bounds.partition_point(|bound| *bound < seconds)] += 1;
        self.sum += seconds;
    }

    /// As it crosses to signaling.
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot { bounds: self.bounds.into(), counts: self.counts.clone(), sum: self.sum }
    }
}

/// What the core counts. The worker adds what only the driver and the loop know.
#[derive(Debug)]
pub struct Meters {
    /// Everything that is a plain number.
    pub counters: WorkerSnapshot,
    /// Datagram in → last copy handed to the kernel.
    pub forward_latency: Histogram,
    join: [Histogram; JoinPhase::ALL.len()],
}

impl Meters {
    /// All zero.
    pub fn new() -> Meters {
        Meters {
            counters: WorkerSnapshot::default(),
            forward_latency: Histogram::new(FORWARD_BOUNDS),
            join: std::array::from_fn(|_| Histogram::new(JOIN_BOUNDS)),
        }
    }

    /// Counts a drop.
    pub fn dropped(&mut self, reason: DropReason, count: u64) {
        self.counters.dropped[reason as usize] += count;
    }

    /// Counts what was sent to a viewer.
    pub fn sent(&mut self, sent: Sent) {
        self.counters.rtp_packets_out += sent.packets;
        self.counters.rtp_bytes_out += sent.bytes;
        self.dropped(DropReason::SendFailed, sent.unsealed);
    }

    /// A viewer reached a phase of its join.
    pub fn joined(&mut self, phase: JoinPhase, after: Duration) {
        self.join[phase as usize].observe(after);
    }

    /// The counters as they cross to signaling, but for the loop's times.
    pub fn snapshot(&self) -> WorkerSnapshot {
        WorkerSnapshot {
            forward_latency: self.forward_latency.snapshot(),
            join: std::array::from_fn(|phase| self.join[phase].snapshot()),
            ..self.counters.clone()
        }
    }
}

impl Default for Meters {
    fn default() -> Meters {
        Meters::new()
    }
}
