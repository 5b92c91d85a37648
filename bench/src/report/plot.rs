//! Two kinds of plot as inline SVG: bars for methods, lines over the number of viewers.

use super::html::escape;
use std::fmt::Write;

const WIDTH: f64 = 720.0;
const BAR_HEIGHT: f64 = 20.0;
const LABEL_WIDTH: f64 = 260.0;
const LINES_HEIGHT: f64 = 320.0;
const MARGIN: f64 = 48.0;
/// Told apart with the common colour blindnesses too (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// A horizontal bar with its spread.
pub(super) struct Bar {
    /// Left of the bar.
    pub label: String,
    /// Its length.
    pub value: f64,
    /// The quartiles, drawn as a thin line.
    pub spread: (f64, f64),
}

/// Bars on a logarithmic scale from 10: trains are 30 times cheaper than single datagrams, and both must be seen.
pub(super) fn bars(title: &str, unit: &str, bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.value.max(bar.spread.1)).fold(100.0, f64::max);
    let scale =
        |value: f64| (value.max(10.0).log10() - 1.0) / (most.log10() - 1.0) * (WIDTH - LABEL_WIDTH - 90.0);
    let height = BAR_HEIGHT * (bars.len() as f64 + 1.0);
    let mut svg = open(title, height);
    for (index, bar) in bars.iter().enumerate() {
        let (y, length) = (BAR_HEIGHT * (index as f64 + 0.5), scale(bar.value));
        let (low, high) = (LABEL_WIDTH + scale(bar.spread.0), LABEL_WIDTH + scale(bar.spread.1));
        let (middle, text) = (y + BAR_HEIGHT / 2.0, y + BAR_HEIGHT * 0.7);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABEL_WIDTH}\" y=\"{y}\" width=\"{length:.1}\" height=\"{}\" fill=\"{}\"/>\
             <line x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"currentColor\"/>\
             <text x=\"{:.1}\" y=\"{text}\">{} {}</text>",
            LABEL_WIDTH - 8.0,
            escape(&bar.label),
            BAR_HEIGHT - 4.0,
            COLOURS[0],
            high.max(LABEL_WIDTH + length) + 6.0,
            super::nanoseconds(bar.value),
            escape(unit),
        );
    }
    svg + "</svg>"
}

/// One line of points (x, y).
pub(super) struct Line {
    /// In the legend.
    pub label: String,
    /// In order of x, which is above 0.
    pub points: Vec<(f64, f64)>,
}

/// Lines from zero over a logarithmic x.
pub(super) fn lines(title: &str, x_unit: &str, y_unit: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let (first, last) = points().fold((f64::MAX, 1.0), |(low, high), (x, _)| (low.min(*x), x.max(high)));
    let top = points().map(|(_, y)| *y).fold(1.0, f64::max) * 1.1;
    let width = (last / first).max(1.000_1).ln();
    let x = |value: f64| MARGIN * 1.5 + (value / first).ln() / width * (WIDTH - MARGIN * 2.5);
    let y = |value: f64| LINES_HEIGHT - MARGIN - value / top * (LINES_HEIGHT - MARGIN * 1.5);
    let mut svg = open(title, LINES_HEIGHT + 18.0 * lines.len() as f64);
    svg += &axes(x_unit, y_unit, top, &x_marks(lines), x, y);
    for (index, line) in lines.iter().enumerate() {
        let (colour, below) = (COLOURS[index % COLOURS.len()], LINES_HEIGHT + 18.0 * index as f64);
        let path: String =
            line.points.iter().map(|&(at, value)| format!("{:.1},{:.1} ", x(at), y(value))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <rect x=\"{MARGIN}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"{below}\">{}</text>",
            below - 11.0,
            MARGIN + 20.0,
            escape(&line.label),
        );
        for &(at, value) in &line.points {
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"><title>{at}: {}</title></circle>",
                x(at),
                y(value),
                super::nanoseconds(value),
            );
        }
    }
    svg + "</svg>"
}

fn x_marks(lines: &[Line]) -> Vec<f64> {
    let mut marks: Vec<f64> = lines.iter().flat_map(|line| line.points.iter().map(|(x, _)| *x)).collect();
    marks.sort_by(f64::total_cmp);
    marks.dedup();
    marks
}

fn axes(
    x_unit: &str,
    y_unit: &str,
    top: f64,
    marks: &[f64],
    x: impl Fn(f64) -> f64,
    y: impl Fn(f64) -> f64,
) -> String {
    let mut svg = String::new();
    let step = round_step(top / 4.0);
    for value in (0..).map(|mark| f64::from(mark) * step).take_while(|value| *value <= top) {
        let (at, left, right) = (y(value), MARGIN * 1.5, WIDTH - MARGIN);
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"currentColor\" opacity=\".2\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            at + 4.0,
            value,
        );
    }
    let below = LINES_HEIGHT - MARGIN + 16.0;
    for &mark in marks {
        let _ =
            writeln!(svg, "<text x=\"{:.1}\" y=\"{below}\" text-anchor=\"middle\">{mark}</text>", x(mark));
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text><text x=\"4\" y=\"12\">{}</text>",
        WIDTH - MARGIN,
        below + 16.0,
        escape(x_unit),
        escape(y_unit),
    );
    svg
}

/// The largest of 1, 2 and 5 times a power of ten that is not above `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [5.0, 2.0].into_iter().map(|times| times * power).find(|round| *round <= step).unwrap_or(power)
}

fn open(title: &str, height: f64) -> String {
    let title = escape(title);
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\" xmlns=\"http://www.w3.org/2000/svg\">\
         <title>{title}</title>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_bar_is_drawn_for_a_larger_value() {
        let bar = |label: &str, value| Bar { label: label.into(), value, spread: (value, value) };
        let svg = bars("b", "ns", &[bar("a & b", 100.0), bar("c", 1_000.0)]);
        let widths: Vec<f64> =
            svg.split("width=\"").skip(1).filter_map(|rest| rest.split('"').next()?.parse().ok()).collect();
        assert_eq!(widths.len(), 2);
        assert!(widths[1] > widths[0] * 1.9, "{widths:?}");
        assert!(svg.contains("a &amp; b"));
    }

    #[test]
    fn each_point_of_a_line_is_on_the_plot() {
        let line = Line { label: "l".into(), points: vec![(10.0, 5.0), (3_000.0, 700.0)] };
        let svg = lines("l", "viewers", "ns", &[line]);
        let points =
            svg.split("points=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a polyline");
        for point in points.split_whitespace() {
            let (x, y) = point.split_once(',').expect("a pair");
            let (x, y): (f64, f64) = (x.parse().expect("a number"), y.parse().expect("a number"));
            assert!((0.0..=WIDTH).contains(&x) && (0.0..=LINES_HEIGHT).contains(&y), "{point}");
        }
        assert_eq!(svg.matches("<circle").count(), 2);
    }

    #[test]
    fn the_marks_of_an_axis_are_round() {
        assert_eq!([0.3, 1.0, 730.0, 2_400.0].map(round_step), [0.2, 1.0, 500.0, 2_000.0]);
    }

    #[test]
    fn a_single_point_has_a_place_too() {
        let line = Line { label: "l".into(), points: vec![(10.0, 5.0)] };
        assert!(!lines("l", "viewers", "ns", &[line]).contains("NaN"));
    }
}
