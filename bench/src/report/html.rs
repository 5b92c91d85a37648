//! The report as one page that needs nothing else: style and plots are inside.

use super::Report;
use super::plot::{Bar, Line, bars, lines};
use super::table::{EGRESS_HEAD, IO_HEAD, egress_cells, io_cells, io_rows, machine_line, place};
use crate::egress;
use crate::io::Direction;
use crate::sink::SinkKind;
use std::collections::BTreeSet;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px;margin:1rem 0}\
th,td{padding:.15rem .6rem;text-align:right;border-bottom:1px solid #8884}th:first-child,td.word{text-align:left}\
svg{width:100%;height:auto;font:11px system-ui,sans-serif}svg text{fill:currentColor}details{margin:1rem 0}.note{color:#b35c00}";

const SINKS: [SinkKind; 3] = [SinkKind::Loopback, SinkKind::LoopbackGro, SinkKind::Dropped];

/// The whole report as a page.
pub fn html(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>uringcast bench {}</title><style>{STYLE}</style>\
         <h1>uringcast bench</h1><p>{}</p>",
        escape(&report.machine.date),
        escape(&machine_line(&report.machine)),
    );
    page += "<p>Nanoseconds of CPU time of the measuring thread, medians; the spread is between the quartiles. Only ratios \
             within this run are claims.</p>";
    for note in &report.notes {
        page += &format!("<p class=\"note\">{}</p>", escape(note));
    }
    for sink in SINKS {
        page += &egress_part(report, sink);
    }
    for direction in [Direction::Send, Direction::Receive] {
        for sink in SINKS {
            page += &io_part(report, direction, sink);
        }
    }
    page + "</html>\n"
}

fn io_part(report: &Report, direction: Direction, sink: SinkKind) -> String {
    let rows = io_rows(report, direction, sink);
    if rows.is_empty() {
        return String::new();
    }
    let verb = if direction == Direction::Send { "Send" } else { "Receive" };
    let title = format!("{verb}, {}", place(direction, sink));
    let bar = |row: &&crate::io::Row| Bar {
        label: if row.way.train > 1 {
            format!("{}, train of {}", row.way, row.way.train)
        } else {
            row.way.to_string()
        },
        value: row.ns.median,
        spread: (row.ns.low, row.ns.high),
    };
    let plot = bars(&title, "ns", &rows.iter().map(bar).collect::<Vec<_>>());
    part(&title, &plot, &IO_HEAD, &rows.into_iter().map(io_cells).collect::<Vec<_>>())
}

fn egress_part(report: &Report, sink: SinkKind) -> String {
    let rows: Vec<_> = report.egress.iter().filter(|row| row.sink == sink).collect();
    let frames: BTreeSet<usize> = rows.iter().map(|row| row.frame_packets).collect();
    if rows.is_empty() {
        return String::new();
    }
    let plot = |&frame: &usize| {
        let of_frame: Vec<_> = rows.iter().copied().filter(|row| row.frame_packets == frame).collect();
        let title = format!("Frames of {frame}: CPU per viewer-packet");
        format!("<h3>{title}</h3>{}", lines(&title, "viewers", "ns", &by_case(&of_frame)))
    };
    let plots: String = frames.iter().map(plot).collect();
    let cells: Vec<_> = rows.iter().map(|row| egress_cells(row)).collect();
    part(&format!("Egress, {sink}"), &plots, &EGRESS_HEAD, &cells)
}

/// One line for each case, in the order of the table.
fn by_case(rows: &[&egress::Row]) -> Vec<Line> {
    let mut lines: Vec<Line> = vec![];
    for row in rows {
        let point = (row.viewers as f64, row.total_ns.median);
        match lines.iter_mut().find(|line| line.label == row.case) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { label: row.case.clone(), points: vec![point] }),
        }
    }
    lines
}

fn part(title: &str, plots: &str, head: &[&str], rows: &[Vec<String>]) -> String {
    let heads: String = head.iter().map(|word| format!("<th>{word}</th>")).collect();
    let cell = |text: &String| {
        let class =
            if text.starts_with(char::is_alphabetic) && text != "all" { " class=\"word\"" } else { "" };
        format!("<td{class}>{}</td>", escape(text))
    };
    let line = |row: &Vec<String>| format!("<tr>{}</tr>", row.iter().map(cell).collect::<String>());
    let lines: String = rows.iter().map(line).collect();
    format!(
        "<h2>{}</h2>{plots}<details><summary>Table</summary><table><tr>{heads}</tr>{lines}</table></details>",
        escape(title)
    )
}

/// Text that is safe inside an element or an attribute.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn the_page_has_the_machine_the_notes_and_the_figures() {
        let page = html(&report());
        let kernel = report().machine.kernel;
        for text in
            ["A &lt;fast&gt; CPU", &kernel, "&quot;forbidden&quot;", "83.2", "6543", "3.25", "bare ring"]
        {
            assert!(page.contains(text), "{text}");
        }
    }

    #[test]
    fn the_page_loads_nothing_and_closes_what_it_opens() {
        let page = html(&report());
        let linked = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!linked.contains("http") && !page.contains("<script") && !page.contains("NaN"));
        for tag in ["svg", "table", "tr", "td", "h2", "details", "circle"] {
            let opened =
                page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
            assert!(opened > 0, "{tag}");
        }
    }

    #[test]
    fn each_case_is_one_line_over_the_viewers() {
        let report = report();
        let lines = by_case(&report.egress.iter().collect::<Vec<_>>());
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1].points, vec![(10.0, 3_456.0), (1_000.0, 6_543.0)]);
    }
}
