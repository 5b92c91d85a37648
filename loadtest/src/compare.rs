//! Two results side by side, for the question whether a change made things better.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

/// A figure: its name, where it stands in a step, and whether more is better.
const FIGURES: &[(&str, &str, bool)] = &[
    ("packets/s delivered", "/delivered_packets_per_second", true),
    ("Mbit/s delivered", "/delivered_mbit_per_second", true),
    ("loss %", "/lost_pct", false),
    ("latency p50 ms", "/latency_ms/p50", false),
    ("latency p95 ms", "/latency_ms/p95", false),
    ("latency p99 ms", "/latency_ms/p99", false),
    ("latency max ms", "/latency_ms/max", false),
    ("jitter ms", "/jitter_ms", false),
    ("freezes", "/freezes", false),
    ("joins failed", "/joins/failed", false),
    ("join: first RTP ms", "/joins/first_rtp_ms", false),
    ("join: first RTP p99 ms", "/joins/first_rtp_p99_ms", false),
    ("join: key frame ms", "/joins/first_key_frame_ms", false),
    ("server CPU % of a core", "/server/cpu_pct_of_core", false),
    ("server CPU ns/packet", "/server/cpu_ns_per_packet", false),
    ("server KiB/viewer", "/server/rss_kib_per_viewer", false),
];
/// Changes below this share are noise on any machine.
const NOISE: f64 = 0.02;

/// Reads two files that `--json` wrote and says how the second differs.
pub fn files(left: &Path, right: &Path) -> Result<String, String> {
    Ok(tables(&read(left)?, &read(right)?))
}

fn read(path: &Path) -> Result<Value, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| format!("{} is no JSON of this tool: {error}", path.display()))?;
    match value.pointer("/steps") {
        Some(Value::Array(_)) => Ok(value),
        _ => Err(format!("{} is no JSON of this tool: it has no \"steps\"", path.display())),
    }
}

/// A table for each number of viewers that both have.
fn tables(left: &Value, right: &Value) -> String {
    let mut text = String::new();
    for key in ["/mode", "/gro", "/publishers", "/stream/video_bps"] {
        if let (Some(before), Some(after)) = (left.pointer(key), right.pointer(key))
            && before != after
        {
            let name = key.trim_start_matches('/');
            // Writing to a String cannot fail.
            let _ = writeln!(text, "CAREFUL: {name} differs, {before} and {after}");
        }
    }
    for (viewers, before, after) in pairs(left, right) {
        let _ = writeln!(text, "{viewers} viewers");
        for (name, pointer, more_is_better) in FIGURES {
            let number = |step: &Value| step.pointer(pointer).and_then(Value::as_f64);
            if let (Some(before), Some(after)) = (number(before), number(after)) {
                let change = change(before, after, *more_is_better);
                let _ = writeln!(text, "  {name:<24}{before:>14.3}{after:>14.3}  {change}");
            }
        }
        for (side, step) in [("first", before), ("second", after)] {
            if step.pointer("/generator/bottleneck").and_then(Value::as_bool) == Some(true) {
                let _ = writeln!(text, "  CAREFUL: in the {side} the generator was a limit");
            }
        }
    }
    if text.is_empty() { "the two have no number of viewers in common\n".into() } else { text }
}

fn pairs<'a>(left: &'a Value, right: &'a Value) -> Vec<(u64, &'a Value, &'a Value)> {
    let steps = |value: &'a Value| value.pointer("/steps").and_then(Value::as_array).into_iter().flatten();
    let viewers = |step: &Value| step.pointer("/viewers").and_then(Value::as_u64);
    let pair = |before: &'a Value| {
        let count = viewers(before)?;
        let after = steps(right).find(|after| viewers(after) == Some(count))?;
        Some((count, before, after))
    };
    steps(left).filter_map(pair).collect()
}

fn change(before: f64, after: f64, more_is_better: bool) -> String {
    if before == after {
        return "same".into();
    }
    if before == 0.0 {
        return if more_is_better { "better".into() } else { "WORSE".into() };
    }
    let share = after / before - 1.0;
    let word = match (share.abs() < NOISE, (share > 0.0) == more_is_better) {
        (true, _) => "about the same",
        (false, true) => "better",
        (false, false) => "WORSE",
    };
    format!("{:+.1} % {word}", share * 100.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_figure_that_both_have_is_judged_by_its_direction() {
        let run = |p50: f64, mbit: f64, gro: bool| {
            json!({"gro": gro, "steps": [{"viewers": 10, "latency_ms": {"p50": p50},
                "delivered_mbit_per_second": mbit, "generator": {"bottleneck": !gro}}]})
        };
        let text = tables(&run(2.0, 10.0, true), &run(1.0, 5.0, false));
        let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap_or_default();
        assert!(line("latency p50").ends_with("-50.0 % better"), "{text}");
        assert!(line("Mbit/s").ends_with("-50.0 % WORSE"), "{text}");
        assert!(text.contains("CAREFUL: gro differs, true and false"), "{text}");
        assert!(text.contains("in the second the generator was a limit"), "{text}");
        assert!(!text.contains("p99"), "{text}");
    }

    #[test]
    fn runs_without_a_common_step_and_files_that_are_none_are_told() {
        let none = json!({"steps": []});
        assert!(tables(&none, &none).contains("no number of viewers in common"));
        let missing = Path::new("/nonexistent.json");
        assert!(files(missing, missing).is_err_and(|error| error.contains("cannot read")));
    }
}
