//! `bench count`: instructions of each small piece, which do not move with the neighbours of a shared machine.
//!
//! Valgrind runs this program again for each piece, once with few and once with many calls; the difference belongs to the
//! calls. It simulates a plain x86-64: AES-GCM takes its AVX path there, not the wider one that a new CPU has.

use crate::error::Error;
use crate::pieces;
use serde::{Deserialize, Serialize};
use std::env;
use std::process::Command;

/// Calls of the shorter run: past what only the first calls do.
const CALLS_FEW: u64 = 1_000;
/// Calls of the longer run; 10,000 more are enough for a tenth of an instruction.
const CALLS_MANY: u64 = 11_000;
/// The hidden subcommand that Valgrind is given.
pub const CALL: &str = "call";

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The piece.
    pub piece: String,
    /// Instructions of one call, in user space.
    pub instructions: f64,
}

/// Counts all pieces. `progress` hears what comes next.
pub fn run(mut progress: impl FnMut(&str)) -> Result<Vec<Row>, Error> {
    let row = |(index, (name, _)): (usize, (&str, pieces::Piece))| {
        progress(&format!("count: {name}"));
        let (few, many) = (under_valgrind(index, CALLS_FEW)?, under_valgrind(index, CALLS_MANY)?);
        let instructions = many.saturating_sub(few) as f64 / (CALLS_MANY - CALLS_FEW) as f64;
        Ok(Row { piece: name.into(), instructions })
    };
    pieces::all()?.into_iter().enumerate().map(row).collect()
}

/// Calls the piece of that number so many times: what Valgrind looks at.
pub fn call(index: usize, times: u64) -> Result<(), Error> {
    if let Some((_, piece)) = pieces::all()?.get_mut(index) {
        (0..times).for_each(|_| piece());
    }
    Ok(())
}

fn under_valgrind(index: usize, times: u64) -> Result<u64, Error> {
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args([CALL, &index.to_string(), &times.to_string()])
        .output()
        .map_err(|error| Error::Valgrind(error.to_string()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    instructions(&said).ok_or_else(|| Error::Valgrind(said.lines().last().unwrap_or("silence").into()))
}

/// Reads "I   refs:      1,234,567".
fn instructions(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("refs:") && line.contains("I "))?;
    line.rsplit(':').next()?.trim().replace(',', "").parse().ok()
}

/// The rows as a table.
pub fn table(rows: &[Row]) -> String {
    let line = |row: &Row| format!("| {:<55} | {:>12.1} |\n", row.piece, row.instructions);
    let head =
        format!("| {:<55} | {:>12} |\n|{}|{}:|\n", "piece", "instructions", "-".repeat(57), "-".repeat(13));
    head + &rows.iter().map(line).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_what_valgrind_says() {
        let said = "==7== Cachegrind, a cache profiler\n==7== \n==7== I   refs:      12,345,678\n";
        assert_eq!(instructions(said), Some(12_345_678));
        assert_eq!(instructions("==7== I refs:        9"), Some(9));
        assert_eq!(instructions("valgrind: no such tool"), None);
    }

    #[test]
    fn a_table_has_a_line_for_each_piece() {
        let row = Row { piece: "a piece".into(), instructions: 12.34 };
        let table = table(&[row]);
        assert_eq!(table.lines().count(), 3);
        assert!(table.contains("a piece") && table.contains("12.3"));
        assert!(table.lines().all(|line| line.len() == table.lines().next().map_or(0, str::len)));
    }
}
