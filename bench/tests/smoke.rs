//! The binary as it is called: every figure is there, positive, and of packets that arrived.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use bench::io::{Direction, Method};
use bench::report::Report;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::{env, fs, process};

struct Files {
    json: PathBuf,
    html: PathBuf,
}

impl Files {
    fn new(name: &str) -> Files {
        let path = |end| env::temp_dir().join(format!("uringcast-bench-{}-{name}.{end}", process::id()));
        Files { json: path("json"), html: path("html") }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = (fs::remove_file(&self.json), fs::remove_file(&self.html));
    }
}

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench")).args(arguments).output().unwrap()
}

fn run(name: &str, arguments: &[&str]) -> (Report, String, String) {
    let files = Files::new(name);
    let (json, html) = (files.json.to_str().unwrap(), files.html.to_str().unwrap());
    let output = bench(&[arguments, &["--quick", "--json", json, "--html", html]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    (report, fs::read_to_string(html).unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn io_quick_times_every_method_in_both_directions() {
    let (report, page, table) = run("io", &["io"]);
    for direction in [Direction::Send, Direction::Receive] {
        for method in [Method::Sendto, Method::Sendmmsg, Method::TokioUring, Method::Driver] {
            let rows =
                report.io.iter().filter(|row| row.way.direction == direction && row.way.method == method);
            assert!(rows.count() > 1, "{direction:?} {method:?}");
            assert!(table.contains(method.name(direction)) && page.contains(method.name(direction)));
        }
    }
    for row in &report.io {
        assert!(
            row.ns.median > 0.0 && row.ns.low <= row.ns.median && row.ns.median <= row.ns.high,
            "{row:?}"
        );
        assert!(row.over_baseline.median > 0.0 && row.delivered > 0.0, "{row:?}");
    }
    assert!(report.egress.is_empty());
}

#[test]
fn egress_quick_puts_the_floors_beside_the_server() {
    let (report, page, table) = run("egress", &["egress", "--viewers", "10,40", "--frames", "1,8"]);
    assert_eq!(report.egress.len(), 2 * 2 * 4);
    for row in &report.egress {
        assert!(row.user_ns.median > 0.0 && row.kernel_ns.median > 0.0 && row.delivered > 0.0, "{row:?}");
        assert!(row.total_ns.median > row.user_ns.median, "{row:?}");
        assert!(table.contains(&row.case) && page.contains(&row.case));
    }
    let floors = report.egress.iter().filter(|row| row.case == "floor: seal and send");
    assert!(floors.clone().count() == 4 && floors.into_iter().all(|row| row.over_floor.median == 1.0));
    assert!(report.io.is_empty());
}

#[test]
fn a_report_that_cannot_be_written_says_which() {
    let output =
        bench(&["egress", "--quick", "--viewers", "1", "--frames", "1", "--json", "/nowhere/report.json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/report.json"));
}

#[test]
fn senseless_arguments_are_refused() {
    for arguments in [
        &[][..],
        &["sing"],
        &["egress", "--viewers", "0"],
        &["egress", "--frames", "x"],
        &["io", "--sinks", "drain"],
    ] {
        assert_eq!(bench(arguments).status.code(), Some(2), "{arguments:?}");
    }
}
