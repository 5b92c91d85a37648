//! What a run found, as a table, as JSON and as a page.

mod html;
mod plot;
mod table;

use crate::egress;
use crate::error::Error;
use crate::io;
use crate::machine::Machine;
use serde::{Deserialize, Serialize};
use std::fs;

pub use html::html;
pub use table::table;

/// Everything that one run found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Where and when.
    pub machine: Machine,
    /// What could not be measured or must be known beside the figures.
    pub notes: Vec<String>,
    /// The I/O table; empty if it was not asked for.
    pub io: Vec<io::Row>,
    /// The egress table; empty if it was not asked for.
    pub egress: Vec<egress::Row>,
}

impl Report {
    /// For programs. Every field is described where it is declared.
    pub fn json(&self) -> Result<String, Error> {
        serde_json::to_string_pretty(self).map_err(|error| Error::Io(error.into()))
    }
}

/// Writes a report to a file.
pub fn write(path: &str, contents: &str) -> Result<(), Error> {
    fs::write(path, contents).map_err(|source| Error::Report { path: path.into(), source })
}

/// Nanoseconds with as many digits as they deserve.
fn nanoseconds(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::io::{Direction, Method, Way};
    use crate::sink::SinkKind;
    use crate::stats::Figure;

    /// In eighths, which decimals hold exactly.
    fn figure(median: f64) -> Figure {
        Figure { median, low: median * 0.75, high: median * 1.25 }
    }

    pub(crate) fn report() -> Report {
        let way = |method, train| Way {
            direction: Direction::Send,
            sink: SinkKind::Loopback,
            method,
            connected: false,
            train,
            zero_copy: false,
        };
        let io = |method, train, ns| io::Row {
            way: way(method, train),
            ns: figure(ns),
            over_baseline: figure((ns / 1_898.0 * 32.0).ceil() / 32.0),
            delivered: 1.0,
        };
        let egress = |case: &str, viewers, ns: f64| egress::Row {
            case: case.into(),
            sink: SinkKind::Loopback,
            viewers,
            frame_packets: 8,
            datagram_bytes: 1_200,
            total_ns: figure(ns),
            user_ns: figure(ns * 0.25),
            kernel_ns: figure(ns * 0.75),
            over_floor: figure((ns / 256.0).ceil() / 8.0),
            over_train_floor: figure((ns / 64.0).ceil() / 8.0),
            viewers_per_core: 1_234.5,
            delivered: 0.875,
        };
        Report {
            machine: Machine { cpu: "A <fast> CPU".into(), ..Machine::look() },
            notes: vec!["no sink: it is \"forbidden\"".into()],
            io: vec![io(Method::Sendto, 1, 1_898.0), io(Method::Ring, 40, 83.25)],
            egress: vec![
                egress("floor: seal and send", 10, 2_100.0),
                egress("str0m per viewer", 10, 3_456.0),
                egress("floor: seal and send", 1_000, 2_222.0),
                egress("str0m per viewer", 1_000, 6_543.0),
            ],
        }
    }

    #[test]
    fn json_comes_back_as_the_same_report() {
        let json = report().json().expect("json");
        assert_eq!(serde_json::from_str::<Report>(&json).expect("valid"), report());
    }

    #[test]
    fn json_has_flat_rows_with_plain_names() {
        let value: serde_json::Value = serde_json::from_str(&report().json().expect("json")).expect("valid");
        assert_eq!(value["io"][1]["method"], "ring");
        assert_eq!(value["io"][1]["train"], 40);
        assert_eq!(value["io"][0]["ns"]["median"], 1_898.0);
        assert_eq!(value["egress"][1]["over_floor"]["median"], 1.75);
    }

    #[test]
    fn small_figures_keep_a_digit_and_large_ones_do_not() {
        assert_eq!((nanoseconds(83.21), nanoseconds(1_898.4)), ("83.2".into(), "1898".into()));
    }
}
