use super::*;
use sfu::stats::{LOOP_SECONDS_BOUNDS, TRAIN_PACKETS_BOUNDS};

fn text(metrics: &Metrics) -> String {
    String::from_utf8(metrics.render(Counts::default(), true).expect("render")).expect("text")
}

fn snapshot(elapsed_ns: u64, packets: u64) -> WorkerSnapshot {
    let forward_latency =
        HistogramSnapshot { bounds: vec![0.001, 0.01], counts: vec![packets, 1, 0], sum: 0.5 };
    WorkerSnapshot { elapsed_ns, rtp_packets_out: packets, forward_latency, ..WorkerSnapshot::default() }
}

#[test]
fn workers_are_added_up_and_histograms_cumulated() {
    let metrics = Metrics::new().expect("metrics");
    metrics.report(&[snapshot(1, 10), snapshot(1, 5)]);
    let text = text(&metrics);
    assert!(text.contains("uringcast_rtp_packets_total{direction=\"out\"} 15\n"), "{text}");
    assert!(text.contains("uringcast_forward_latency_seconds_bucket{le=\"0.001\"} 15\n"), "{text}");
    assert!(text.contains("uringcast_forward_latency_seconds_bucket{le=\"+Inf\"} 17\n"), "{text}");
    assert!(text.contains("uringcast_worker_sessions{worker=\"1\"} 0\n"), "{text}");
}

#[test]
fn trains_are_added_up_and_loops_told_apart_by_worker() {
    let worker = |trains_refused, turns| WorkerSnapshot {
        elapsed_ns: 1,
        egress_trains_refused: trains_refused,
        train_packets: histogram_of(TRAIN_PACKETS_BOUNDS, 3, 8.0 * turns as f64, turns),
        loop_seconds: histogram_of(LOOP_SECONDS_BOUNDS, 0, 0.0, turns),
        ..WorkerSnapshot::default()
    };
    let metrics = Metrics::new().expect("metrics");
    metrics.report(&[worker(2, 30), worker(5, 12)]);
    let text = text(&metrics);
    for line in [
        "uringcast_egress_trains_refused_total 7",
        "uringcast_egress_train_packets_bucket{le=\"4\"} 0",
        "uringcast_egress_train_packets_bucket{le=\"8\"} 42",
        "uringcast_egress_train_packets_bucket{le=\"128\"} 42",
        "uringcast_egress_train_packets_sum 336",
        "uringcast_worker_loop_seconds_count{worker=\"0\"} 30",
        "uringcast_worker_loop_seconds_bucket{worker=\"1\",le=\"0.00001\"} 12",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} in {text}");
    }
}

/// `count` observations in the bucket of this index.
fn histogram_of(bounds: &[f64], bucket: usize, sum: f64, count: u64) -> HistogramSnapshot {
    let mut counts = vec![0; bounds.len() + 1];
    counts[bucket] = count;
    HistogramSnapshot { bounds: bounds.into(), counts, sum }
}

#[test]
fn every_reason_of_a_drop_has_its_own_line() {
    let metrics = Metrics::new().expect("metrics");
    let dropped = std::array::from_fn(|reason| reason as u64 + 1);
    metrics.report(&[WorkerSnapshot { elapsed_ns: 1, dropped, ..WorkerSnapshot::default() }]);
    let text = text(&metrics);
    for (reason, count) in DropReason::ALL.iter().zip(dropped) {
        let line = format!("uringcast_dropped_packets_total{{reason=\"{}\"}} {count}\n", reason.label());
        assert!(text.contains(&line), "{line} in {text}");
    }
}

#[test]
fn counters_do_not_go_back_when_a_worker_or_media_starts_anew() {
    let metrics = Metrics::new().expect("metrics");
    metrics.report(&[snapshot(10, 100), snapshot(10, 50)]);
    metrics.report(&[snapshot(11, 110), snapshot(1, 1)]);
    assert!(text(&metrics).contains("uringcast_rtp_packets_total{direction=\"out\"} 161\n"));
    metrics.media_connected([1; 32]);
    assert!(text(&metrics).contains("uringcast_rtp_packets_total{direction=\"out\"} 161\n"));
    metrics.report(&[snapshot(20, 2)]);
    assert!(text(&metrics).contains("uringcast_rtp_packets_total{direction=\"out\"} 163\n"));
}

#[test]
fn a_signaling_process_that_meets_the_same_media_again_counts_once() {
    let metrics = Metrics::new().expect("metrics");
    for elapsed in [10, 20] {
        metrics.media_connected([1; 32]);
        metrics.report(&[snapshot(elapsed, 100)]);
        assert!(text(&metrics).contains("uringcast_rtp_packets_total{direction=\"out\"} 100\n"));
    }
}

#[test]
fn own_counters_carry_only_closed_labels() {
    let metrics = Metrics::new().expect("metrics");
    metrics.http_request("whip", 201);
    metrics.session_ended(Some(Role::Viewer), EndReason::ConsentExpired);
    metrics.answered(Duration::from_millis(3));
    let text = text(&metrics);
    assert!(text.contains("uringcast_http_requests_total{code=\"201\",route=\"whip\"} 1\n"), "{text}");
    assert!(text.contains("uringcast_sessions_ended_total{reason=\"consent_expired\",role=\"viewer\"} 1\n"));
    assert!(text.contains("uringcast_join_seconds_bucket{phase=\"answer\",le=\"0.005\"} 1\n"), "{text}");
}
