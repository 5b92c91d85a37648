//! The table at the end of a run, and the rows that the HTML report shares with it.

use std::fmt::Write as _;

use crate::report::{Report, Step};

/// What a step shows in one row of a table.
pub type Cell = fn(&Step) -> String;

/// The rows of every table of a report.
pub fn rows() -> &'static [(&'static str, Cell)] {
    &[
        ("viewers", |s| format!("{}", s.viewers)),
        ("joined / failed / lost", |s| {
            format!("{} / {} / {}", s.viewers_joined, s.joins.failed, s.viewers_lost)
        }),
        ("packets/s delivered", |s| format!("{:.0}", s.delivered_packets_per_second)),
        ("Mbit/s delivered", |s| format!("{:.1}", s.delivered_mbit_per_second)),
        ("duplicates / reordered", |s| {
            format!("{} / {}", shown(s.duplicate_packets.map(|count| count as f64), 0), s.reordered_packets)
        }),
        ("checked / bad packets", |s| format!("{} / {}", s.checked_packets, s.bad_packets)),
        ("loss % (worst viewer)", |s| {
            format!("{} ({})", shown(s.lost_pct, 3), shown(s.worst_viewer_lost_pct, 3))
        }),
        ("latency p50 ms", |s| shown(s.latency_ms.as_ref().map(|l| l.p50), 2)),
        ("latency p95 ms", |s| shown(s.latency_ms.as_ref().map(|l| l.p95), 2)),
        ("latency p99 ms", |s| shown(s.latency_ms.as_ref().map(|l| l.p99), 2)),
        ("latency max ms", |s| shown(s.latency_ms.as_ref().map(|l| l.max), 2)),
        ("jitter ms", |s| shown(s.jitter_ms, 2)),
        ("layer switches: SSRC / size", |s| {
            format!("{} / {}", s.layer_switches_by_ssrc, s.layer_switches_by_size)
        }),
        ("publisher Mbit/s (changes)", |s| {
            s.adaptation.as_ref().map_or("-".into(), |adaptation| {
                format!("{} ({})", shown(adaptation.mean_mbit_per_second(), 2), adaptation.changes)
            })
        }),
        ("freezes (seconds)", |s| format!("{} ({:.1})", s.freezes, s.frozen_seconds)),
        ("join: answer ms", |s| shown(s.joins.answer_ms, 1)),
        ("join: connected ms", |s| shown(s.joins.connected_ms, 1)),
        ("join: first RTP p50/95/99", |s| {
            let joins = &s.joins;
            [joins.first_rtp_ms, joins.first_rtp_p95_ms, joins.first_rtp_p99_ms]
                .map(|ms| shown(ms, 0))
                .join(" / ")
        }),
        ("join: key frame p50/95/99", |s| {
            let joins = &s.joins;
            [joins.first_key_frame_ms, joins.first_key_frame_p95_ms, joins.first_key_frame_p99_ms]
                .map(|ms| shown(ms, 0))
                .join(" / ")
        }),
        ("churn: left / joined / failed", |s| {
            s.churn.as_ref().map_or("-".into(), |churn| {
                format!("{} / {} / {}", churn.left, churn.joins.ok, churn.joins.failed)
            })
        }),
        ("swap: gap ms p50 (max)", |s| {
            s.swaps.as_ref().map_or("-".into(), |swaps| {
                format!("{} ({})", shown(swaps.gap_p50_ms, 0), shown(swaps.gap_max_ms, 0))
            })
        }),
        ("server CPU % of a core", |s| shown(s.server.as_ref().map(|s| s.cpu_pct_of_core), 1)),
        ("server CPU ns/packet", |s| shown(s.server.as_ref().and_then(|s| s.cpu_ns_per_packet), 0)),
        ("server KiB/viewer", |s| shown(s.server.as_ref().and_then(|s| s.rss_kib_per_viewer), 1)),
        ("machine busy %", |s| format!("{:.0}", s.generator.machine_busy_pct)),
        ("generator busy %", |s| {
            format!("{:.0}{}", s.generator.busy_pct, if s.generator.bottleneck { " LIMIT" } else { "" })
        }),
    ]
}

/// The table at the end: a column per step.
pub fn table(report: &Report) -> String {
    let Report { mode, gro, steps, .. } = report;
    let mut text = format!("mode {mode}, gro {}\n", if *gro { "on" } else { "off" });
    for (name, cell) in rows() {
        let cells: String = steps.iter().map(|step| format!("{:>20}", cell(step))).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<29}{cells}");
    }
    text
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_table_has_a_column_per_step_and_dashes_for_what_was_not_measured() {
        let steps = vec![Step { viewers: 10, ..Step::default() }, Step { viewers: 20, ..Step::default() }];
        let report = Report {
            tool: "t",
            version: "v",
            mode: "full",
            gro: true,
            stream: None,
            publishers: 1,
            steps,
            ramp: None,
            ended_early: None,
        };
        let table = table(&report);
        assert!(table.starts_with("mode full, gro on\n"));
        let first = table.lines().nth(1).unwrap();
        assert_eq!(first.split_whitespace().collect::<Vec<_>>(), ["viewers", "10", "20"]);
        assert!(table.contains("server CPU ns/packet                            -                   -"));
    }
}
