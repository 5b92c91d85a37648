//! The two ends of a measured window, and the figures between them.

use std::time::Instant;

use crate::args::Mode;
use crate::engine::Collected;
use crate::plan::Plan;
use crate::proc::{MachineTime, Usage};
use crate::report::{Generator, LatencyMs, Server, Step, WorstViewer};

/// What `/proc` says at one end of a measured window.
pub struct Reading {
    pub drops: u64,
    pub usage: Usage,
    pub machine: MachineTime,
    pub at: Instant,
}

/// What was measured between two readings.
pub fn step_of(
    plan: &Plan,
    before: &Reading,
    after: &Reading,
    received: &Collected,
    sent: &Collected,
) -> Step {
    let seconds = (after.at - before.at).as_secs_f64();
    let counts = &received.received;
    let generator = Generator {
        busy_pct: received.busy * 100.0,
        machine_busy_pct: after.machine.busy_pct_since(before.machine),
        socket_drops: after.drops.saturating_sub(before.drops),
        frames_sent: sent.sent.frames,
        frames_late: sent.sent.late + sent.sent.skipped,
        send_errors: received.send_errors + sent.send_errors,
        ..Generator::default()
    };
    Step {
        seconds,
        viewers_silent: counts.silent,
        lost_pct: counts.lost_pct(),
        worst_viewer_lost_pct: received.worst.and_then(|worst| worst.received.lost_pct()),
        worst_viewer: received.worst.as_ref().map(WorstViewer::of),
        duplicate_packets: (plan.mode == Mode::Light).then_some(counts.duplicates),
        reordered_packets: counts.reordered,
        checked_packets: counts.checked,
        bad_packets: counts.bad,
        jitter_ms: counts.jitter_ms(),
        layer_switches: counts.ssrc_switches + counts.size_switches,
        layer_switches_by_ssrc: counts.ssrc_switches,
        layer_switches_by_size: counts.size_switches,
        delivered_packets: counts.packets,
        delivered_packets_per_second: counts.packets as f64 / seconds,
        delivered_mbit_per_second: counts.bytes as f64 * 8.0 / 1e6 / seconds,
        frames: counts.frames,
        freezes: counts.freezes,
        frozen_seconds: counts.frozen_us as f64 / 1e6,
        plis: counts.plis,
        publisher_key_frame_requests: sent.sent.key_frame_requests,
        latency_ms: LatencyMs::of(&received.latency),
        generator: generator.judge(),
        ..Step::default()
    }
}

/// What the server used between two readings, per packet and viewer.
pub fn server_of(before: &Reading, after: &Reading, packets: u64, rss_before: u64, viewers: usize) -> Server {
    let seconds = (after.at - before.at).as_secs_f64();
    let cpu_ns = after.usage.cpu_ns.saturating_sub(before.usage.cpu_ns) as f64;
    let grown = after.usage.rss_kib.saturating_sub(rss_before) as f64;
    Server {
        cpu_ns_per_packet: (packets > 0).then(|| cpu_ns / packets as f64),
        cpu_pct_of_core: cpu_ns / seconds / 1e7,
        rss_kib: after.usage.rss_kib,
        rss_kib_per_viewer: (viewers > 0).then(|| grown / viewers as f64),
    }
}
