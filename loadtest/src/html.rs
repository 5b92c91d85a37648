//! The report as one HTML file that needs nothing else: a table, and charts as inline SVG.

use std::fmt::Write as _;

use crate::report::{Report, Step};
use crate::table::rows;

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 220.0;
/// Around the plot: left for the scale, below for the numbers of viewers.
const LEFT: f64 = 60.0;
const BELOW: f64 = 28.0;
const ABOVE: f64 = 12.0;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;\
color:#1b1f24;background:#fff}h1{font-size:1.4rem}h2{font-size:1rem;margin:.2rem 0}table{border-collapse:collapse;\
width:100%}th,td{text-align:right;padding:.2rem .6rem;border-bottom:1px solid #8884}th:first-child{text-align:left}\
.charts{display:flex;flex-wrap:wrap;gap:1rem;margin:1.5rem 0}svg text{font-size:11px;fill:currentColor}\
.warn{color:#b42318;font-weight:600}@media(prefers-color-scheme:dark){body{color:#e6e8eb;background:#14171b}}";

/// One line of a chart: its name, colour, and value in each step.
type Series<'a> = (&'a str, &'a str, fn(&Step) -> Option<f64>);

/// The whole page.
pub fn page(report: &Report) -> String {
    let charts = [
        chart(
            report,
            "Latency of whole frames, ms",
            &[
                ("p50", "#2563eb", |s| s.latency_ms.as_ref().map(|l| l.p50)),
                ("p95", "#d97706", |s| s.latency_ms.as_ref().map(|l| l.p95)),
                ("p99", "#dc2626", |s| s.latency_ms.as_ref().map(|l| l.p99)),
            ],
        ),
        chart(
            report,
            "Delivered, Mbit/s",
            &[("all viewers", "#2563eb", |s| Some(s.delivered_mbit_per_second))],
        ),
        chart(
            report,
            "Loss, %",
            &[
                ("all viewers", "#2563eb", |s| s.lost_pct),
                ("worst viewer", "#dc2626", |s| s.worst_viewer_lost_pct),
            ],
        ),
        chart(
            report,
            "Join: first RTP packet, ms",
            &[
                ("p50", "#2563eb", |s| s.joins.first_rtp_ms),
                ("p95", "#d97706", |s| s.joins.first_rtp_p95_ms),
                ("p99", "#dc2626", |s| s.joins.first_rtp_p99_ms),
            ],
        ),
        chart(
            report,
            "Server CPU, ns per delivered packet",
            &[("server", "#2563eb", |s| s.server.as_ref().and_then(|server| server.cpu_ns_per_packet))],
        ),
        chart(
            report,
            "Busy, %",
            &[
                ("generator thread", "#2563eb", |s| Some(s.generator.busy_pct)),
                ("machine", "#d97706", |s| Some(s.generator.machine_busy_pct)),
            ],
        ),
    ];
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{tool}</title><style>{STYLE}</style>\
         <h1>{tool} {version}</h1><p>{head}</p>{warnings}<div class=\"charts\">{charts}</div>{table}</html>\n",
        tool = escaped(report.tool),
        version = escaped(report.version),
        head = escaped(&head(report)),
        warnings = warnings(report),
        charts = charts.concat(),
        table = table(report),
    )
}

fn head(report: &Report) -> String {
    let gro = if report.gro { "on" } else { "off" };
    let stream = report.stream.as_ref().map_or(String::new(), |stream| {
        format!(
            "; each sends {} {}x{} {}/s, {:.2} Mbit/s in {} layers, and {}",
            stream.video,
            stream.width,
            stream.height,
            stream.fps,
            stream.video_bps / 1e6,
            stream.layers,
            stream.audio
        )
    });
    format!("mode {}, gro {gro}, {} publishers{stream}", report.mode, report.publishers)
}

fn warnings(report: &Report) -> String {
    let limits = report.steps.iter().flat_map(|step| {
        let line =
            move |reason: &String| format!("{} viewers: the generator is a limit: {reason}", step.viewers);
        step.generator.reasons.iter().map(line)
    });
    let ramp = report.ramp.iter().map(|ramp| ramp.words());
    let lines = limits.chain(ramp).chain(report.ended_early.clone());
    lines.map(|line| format!("<p class=\"warn\">{}</p>", escaped(&line))).collect()
}

fn table(report: &Report) -> String {
    let mut html = String::from("<table>");
    for (name, cell) in rows() {
        let cells: String =
            report.steps.iter().map(|step| format!("<td>{}</td>", escaped(&cell(step)))).collect();
        // Writing to a String cannot fail.
        let _ = write!(html, "<tr><th>{}</th>{cells}</tr>", escaped(name));
    }
    html + "</table>"
}

/// Empty if nothing of it was measured.
fn chart(report: &Report, title: &str, series: &[Series<'_>]) -> String {
    let values = || report.steps.iter().flat_map(|step| series.iter().filter_map(|(.., value)| value(step)));
    let most = values().fold(0.0, f64::max);
    if values().next().is_none() {
        return String::new();
    }
    let top = if most > 0.0 { most * 1.1 } else { 1.0 };
    let mut svg = axes(report, top);
    for (i, (name, colour, value)) in series.iter().enumerate() {
        let points: Vec<(f64, f64)> = report
            .steps
            .iter()
            .enumerate()
            .filter_map(|(at, step)| Some((x_of(at, report.steps.len()), y_of(value(step)?, top))))
            .collect();
        let line: String = points.iter().map(|(x, y)| format!("{x:.1},{y:.1} ")).collect();
        let _ =
            write!(svg, "<polyline points=\"{line}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
        for (x, y) in points {
            let _ = write!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let x = LEFT + 8.0 + 110.0 * i as f64;
        let _ = write!(svg, "<text x=\"{x}\" y=\"10\" style=\"fill:{colour}\">{}</text>", escaped(name));
    }
    format!(
        "<figure><h2>{}</h2><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" role=\"img\">{svg}</svg></figure>",
        escaped(title)
    )
}

fn axes(report: &Report, top: f64) -> String {
    let mut svg = String::new();
    for part in 0..=4 {
        let value = top * f64::from(part) / 4.0;
        let (y, label) = (y_of(value, top), number(value));
        let (end, text) = (WIDTH - 8.0, LEFT - 6.0);
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{end}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#8886\"/>\
             <text x=\"{text}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            y + 4.0
        );
    }
    for (at, step) in report.steps.iter().enumerate() {
        let (x, y) = (x_of(at, report.steps.len()), HEIGHT - 10.0);
        let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>", step.viewers);
    }
    svg
}

/// Steps stand at equal distances: a ramp's numbers double.
fn x_of(at: usize, steps: usize) -> f64 {
    LEFT + (at as f64 + 0.5) * (WIDTH - LEFT - 8.0) / steps as f64
}

fn y_of(value: f64, top: f64) -> f64 {
    HEIGHT - BELOW - value / top * (HEIGHT - BELOW - ABOVE)
}

fn number(value: f64) -> String {
    match value {
        10_000.0.. => format!("{:.0}k", value / 1000.0),
        100.0.. => format!("{value:.0}"),
        1.0.. => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::LatencyMs;

    #[test]
    fn the_page_stands_alone_and_charts_what_was_measured() {
        let latency = LatencyMs { frames: 9, p50: 1.0, p95: 2.0, p99: 3.0, max: 4.0 };
        let step = |viewers| Step { viewers, latency_ms: Some(latency.clone()), ..Step::default() };
        let steps = vec![step(10), step(20)];
        let report = Report { steps, ended_early: Some("a <b> & c".into()), ..Report::default() };
        let page = page(&report);
        for foreign in ["http:", "https:", "src=", "href="] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.contains("a &lt;b&gt; &amp; c"));
        // Latency, delivered and busy; loss, joins and the server were not measured.
        assert_eq!(page.matches("<svg").count(), 3);
        assert_eq!(page.matches("<polyline").count(), 3 + 1 + 2);
    }
}
