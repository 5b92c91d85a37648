//! The report for a terminal, and for a README: Markdown tables, aligned.

use super::{Report, nanoseconds};
use crate::egress;
use crate::io::{Direction, Row};
use crate::machine::Machine;
use crate::sink::SinkKind;
use crate::stats::Figure;

/// The whole report as text.
pub fn table(report: &Report) -> String {
    let mut text = head(report);
    for (direction, title) in [(Direction::Send, "Send"), (Direction::Receive, "Receive")] {
        for sink in [SinkKind::Loopback, SinkKind::LoopbackGro, SinkKind::Dropped] {
            let rows = io_rows(report, direction, sink);
            if !rows.is_empty() {
                text += &format!("\n{title}, {}\n\n", place(direction, sink));
                text += &aligned(&IO_HEAD, &rows.into_iter().map(io_cells).collect::<Vec<_>>());
            }
        }
    }
    for sink in [SinkKind::Loopback, SinkKind::LoopbackGro, SinkKind::Dropped] {
        let rows: Vec<_> = report.egress.iter().filter(|row| row.sink == sink).map(egress_cells).collect();
        if !rows.is_empty() {
            text += &format!("\nEgress, {sink}\n\n{}", aligned(&EGRESS_HEAD, &rows));
        }
    }
    text
}

/// The rows of one part of the I/O table.
pub(super) fn io_rows(report: &Report, direction: Direction, sink: SinkKind) -> Vec<&Row> {
    report.io.iter().filter(|row| row.way.direction == direction && row.way.sink == sink).collect()
}

/// What a sink is called: on the way in there is only the receiver's GRO.
pub(super) fn place(direction: Direction, sink: SinkKind) -> String {
    match (direction, sink) {
        (Direction::Receive, SinkKind::LoopbackGro) => "socket with GRO".into(),
        (Direction::Receive, _) => "socket without GRO".into(),
        (Direction::Send, sink) => sink.to_string(),
    }
}

pub(super) const IO_HEAD: [&str; 6] = ["method", "train", "ns/datagram", "±", "× baseline", "delivered"];

pub(super) fn io_cells(row: &Row) -> Vec<String> {
    vec![
        row.way.to_string(),
        row.way.train.to_string(),
        nanoseconds(row.ns.median),
        spread(row.ns),
        format!("{:.3}", row.over_baseline.median),
        percent(row.delivered),
    ]
}

pub(super) const EGRESS_HEAD: [&str; 11] = [
    "viewers",
    "frame",
    "case",
    "ns/packet",
    "±",
    "user",
    "kernel",
    "× floor",
    "× train floor",
    "viewers/core",
    "delivered",
];

pub(super) fn egress_cells(row: &egress::Row) -> Vec<String> {
    vec![
        row.viewers.to_string(),
        row.frame_packets.to_string(),
        row.case.clone(),
        nanoseconds(row.total_ns.median),
        spread(row.total_ns),
        nanoseconds(row.user_ns.median),
        nanoseconds(row.kernel_ns.median),
        format!("{:.2}", row.over_floor.median),
        format!("{:.2}", row.over_train_floor.median),
        format!("{:.0}", row.viewers_per_core),
        percent(row.delivered),
    ]
}

/// Half the distance between the quartiles.
fn spread(figure: Figure) -> String {
    format!("{:.0} %", figure.spread() * 50.0)
}

fn percent(part: f64) -> String {
    if part == 1.0 { "all".into() } else { format!("{:.1} %", part * 100.0) }
}

fn head(report: &Report) -> String {
    let mut text = machine_line(&report.machine) + "\n";
    for note in &report.notes {
        text += &format!("note: {note}\n");
    }
    text
}

/// The machine in one line.
pub(super) fn machine_line(machine: &Machine) -> String {
    let pinned = machine.pinned_to.map_or("not pinned".into(), |core| format!("pinned to core {core}"));
    format!(
        "{} · {} CPUs, {pinned} · {} MiB · Linux {} · {} · version {} · load {:.1}",
        machine.cpu,
        machine.cpus,
        machine.memory_mib,
        machine.kernel,
        machine.date,
        machine.version,
        machine.load
    )
}

/// Columns as wide as their widest cell; words to the left, numbers to the right.
fn aligned(head: &[&str], rows: &[Vec<String>]) -> String {
    let count = |text: &str| text.chars().count();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| count(&row[column]));
        cells.chain([count(head[column])]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let numeric = |column: usize| {
        rows.iter().all(|row| !row[column].starts_with(char::is_alphabetic) || row[column] == "all")
    };
    let cell = |column: usize, text: &str| {
        let room = " ".repeat(widths[column] - count(text));
        if numeric(column) { format!(" {room}{text} |") } else { format!(" {text}{room} |") }
    };
    let line = |cells: Vec<&str>| {
        let cells = cells.into_iter().enumerate().map(|(column, text)| cell(column, text));
        format!("|{}\n", cells.collect::<String>())
    };
    let rule = |column: usize| {
        let dashes = "-".repeat(widths[column] + 1);
        if numeric(column) { format!("{dashes}:|") } else { format!("{dashes}-|") }
    };
    let mut text = line(head.to_vec());
    text += &format!("|{}\n", (0..head.len()).map(rule).collect::<String>());
    text.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn every_line_of_a_table_has_the_same_width_and_the_figures() {
        let text = table(&report());
        for figure in
            ["1898", "83.2", "0.062", "bare ring", "str0m per viewer", "6543", "3.25", "87.5 %", "forbidden"]
        {
            assert!(text.contains(figure), "{figure} in\n{text}");
        }
        for part in text.split("\n\n").filter(|part| part.starts_with('|')) {
            let widths: Vec<_> = part.trim_end().lines().map(|line| line.chars().count()).collect();
            assert!(widths.iter().all(|width| *width == widths[0]), "{part}");
        }
    }

    #[test]
    fn what_was_not_asked_for_has_no_table() {
        let text = table(&Report { io: vec![], ..report() });
        assert!(!text.contains("Send") && text.contains("Egress"));
    }
}
