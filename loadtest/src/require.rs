//! Bars that a run must clear, for use in CI: `loss<0.1%`, `p99<50ms`.

use std::str::FromStr;

use crate::report::Step;

/// A figure that can be barred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Figure {
    Loss,
    WorstLoss,
    P50,
    P95,
    P99,
    Max,
    FirstRtp,
    FirstKeyFrame,
    FailedJoins,
    Freezes,
    CpuPerPacket,
}

const FIGURES: &[(&str, Figure, &str)] = &[
    ("loss", Figure::Loss, "%"),
    ("worst_loss", Figure::WorstLoss, "%"),
    ("p50", Figure::P50, "ms"),
    ("p95", Figure::P95, "ms"),
    ("p99", Figure::P99, "ms"),
    ("max", Figure::Max, "ms"),
    ("first_rtp", Figure::FirstRtp, "ms"),
    ("first_key_frame", Figure::FirstKeyFrame, "ms"),
    ("failed", Figure::FailedJoins, ""),
    ("freezes", Figure::Freezes, ""),
    ("cpu_per_packet", Figure::CpuPerPacket, "ns"),
];

/// One bar: a figure that must stay below a limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    text: String,
    figure: Figure,
    limit: f64,
    /// `<=` rather than `<`.
    inclusive: bool,
}

impl FromStr for Bar {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || FIGURES.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ");
        let (name, rest) =
            text.split_once('<').ok_or(format!("\"{text}\" has no <; write such as p99<50ms"))?;
        let (inclusive, rest) = match rest.strip_prefix('=') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let (_, figure, unit) = FIGURES
            .iter()
            .find(|(known, ..)| *known == name.trim())
            .ok_or(format!("no figure \"{name}\"; there are {}", names()))?;
        let number = rest.trim().trim_end_matches(unit);
        let limit = number.parse().map_err(|_| format!("\"{rest}\" is no number in {unit:?} for {name}"))?;
        Ok(Bar { text: text.to_string(), figure: *figure, limit, inclusive })
    }
}

impl Bar {
    /// What was missed in this step, in words; `None` if the bar is cleared. Viewers that are sent nothing any more miss every bar. A figure that was not measured
    /// misses its bar.
    pub fn missed_by(&self, step: &Step) -> Option<String> {
        if step.viewers_silent > 0 {
            let silent = step.viewers_silent;
            return Some(format!(
                "{}: {silent} of {} viewers were sent nothing at the end",
                self.text, step.viewers
            ));
        }
        let Some(value) = self.value(step) else {
            return Some(format!("{}: not measured with {} viewers", self.text, step.viewers));
        };
        let held = if self.inclusive { value <= self.limit } else { value < self.limit };
        (!held).then(|| format!("{}: it was {value:.3} with {} viewers", self.text, step.viewers))
    }

    fn value(&self, step: &Step) -> Option<f64> {
        let latency = step.latency_ms.as_ref();
        match self.figure {
            Figure::Loss => step.lost_pct,
            Figure::WorstLoss => step.worst_viewer_lost_pct,
            Figure::P50 => latency.map(|latency| latency.p50),
            Figure::P95 => latency.map(|latency| latency.p95),
            Figure::P99 => latency.map(|latency| latency.p99),
            Figure::Max => latency.map(|latency| latency.max),
            Figure::FirstRtp => step.joins.first_rtp_ms,
            Figure::FirstKeyFrame => step.joins.first_key_frame_ms,
            Figure::FailedJoins => Some(step.joins.failed as f64),
            Figure::Freezes => Some(step.freezes as f64),
            Figure::CpuPerPacket => step.server.as_ref().and_then(|server| server.cpu_ns_per_packet),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::report::LatencyMs;

    fn step() -> Step {
        let latency = LatencyMs { frames: 9, p50: 3.0, p95: 9.0, p99: 50.0, max: 80.0 };
        Step { viewers: 10, lost_pct: Some(0.05), latency_ms: Some(latency), ..Step::default() }
    }

    fn missed(bar: &str) -> Option<String> {
        bar.parse::<Bar>().unwrap().missed_by(&step())
    }

    #[test]
    fn bars_are_cleared_or_missed_exactly_at_their_limit() {
        assert_eq!(missed("loss<0.1%"), None);
        assert_eq!(missed("p99<=50ms"), None);
        assert_eq!(missed("p99<50ms").unwrap(), "p99<50ms: it was 50.000 with 10 viewers");
        assert_eq!(missed("failed<1"), None);
    }

    #[test]
    fn what_was_not_measured_is_missed() {
        assert!(missed("cpu_per_packet<500ns").unwrap().contains("not measured"));
    }

    #[test]
    fn nonsense_is_refused_with_the_known_names() {
        assert!("speed<3".parse::<Bar>().unwrap_err().contains("worst_loss"));
        assert!("loss>3".parse::<Bar>().unwrap_err().contains("p99<50ms"));
        assert!("p99<5%".parse::<Bar>().unwrap_err().contains("no number"));
    }

    #[test]
    fn viewers_that_are_sent_nothing_any_more_miss_every_bar() {
        let bar: Bar = "loss<0.1%".parse().unwrap();
        let step = Step { viewers: 20, lost_pct: Some(0.0), ..Step::default() };
        assert_eq!(bar.missed_by(&step), None);
        let dead = Step { viewers_silent: 20, ..step };
        assert_eq!(bar.missed_by(&dead).unwrap(), "loss<0.1%: 20 of 20 viewers were sent nothing at the end");
    }
}
