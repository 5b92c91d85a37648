//! `uringcast-loadtest`: synthetic publishers and viewers for any WHIP/WHEP server. It knows the protocols
//! and nothing of the server, so what it measures is what viewers get.

mod adapt;
mod args;
mod audio;
mod clock;
mod compare;
mod dtls;
mod engine;
mod failure;
mod frames;
mod freeze;
mod histogram;
mod html;
mod http;
mod impair;
mod inbox;
mod jitter;
mod join;
mod joining;
mod layers;
mod light;
mod local;
mod negotiation;
mod packet;
mod peer;
mod picture;
mod plan;
mod proc;
mod progress;
mod publisher;
mod ramp;
mod reading;
mod received;
mod report;
mod require;
mod role;
mod run;
mod selftest;
mod seq;
mod srtp;
mod stage;
mod table;
mod tally;
#[cfg(test)]
mod testing;
mod track;
mod upheaval;
mod video;
mod viewer;
mod vp8_loop;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;

use crate::args::{Args, Other, Switch};
use crate::plan::Plan;
use crate::report::Report;
use crate::selftest::SelfTest;
use crate::table::table;

/// A figure missed its bar, or the run could not be done.
const FAILED: u8 = 1;
/// The command line is wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut args = Args::parse();
    if let Some(other) = args.command.take() {
        return finish(do_other(other).map(|()| ExitCode::SUCCESS));
    }
    let plan = match args.into_plan() {
        Ok(plan) => plan,
        Err(faults) => {
            faults.iter().for_each(|fault| complain(fault));
            return USAGE.into();
        }
    };
    finish(
        run::run(&plan, &mut io::stdout(), &until_interrupted()).and_then(|report| conclude(&plan, &report)),
    )
}

fn finish(outcome: Result<ExitCode, String>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        complain(&error);
        FAILED.into()
    })
}

fn do_other(other: Other) -> Result<(), String> {
    match other {
        Other::SelfTest { viewers, gro, sample } => {
            let test = SelfTest { viewers: viewers.max(1), gro: gro == Switch::On, sample: sample.max(1) };
            test.run(&mut io::stdout())
        }
        Other::Compare { before, after } => {
            let text = compare::files(&before, &after)?;
            // A closed pipe has read enough.
            let _ = write!(io::stdout(), "{text}");
            Ok(())
        }
    }
}

/// Becomes true on Ctrl-C or SIGTERM.
fn until_interrupted() -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let set = interrupted.clone();
    // Without a handler a signal just ends the process; the server then notices by lost consent.
    let _ = ctrlc::set_handler(move || set.store(true, Ordering::Relaxed));
    interrupted
}

fn complain(line: &str) {
    // Without stderr there is nobody to tell; the exit code still does.
    let _ = writeln!(io::stderr(), "uringcast-loadtest: {line}");
}

fn save(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn conclude(plan: &Plan, report: &Report) -> Result<ExitCode, String> {
    // A closed pipe does not keep the JSON from being written.
    let _ = write!(io::stdout(), "\n{}", table(report));
    if let Some(path) = &plan.json {
        let json = serde_json::to_string_pretty(report).map_err(|error| error.to_string())?;
        save(path, &(json + "\n"))?;
    }
    if let Some(path) = &plan.html {
        save(path, &html::page(report))?;
    }
    if let Some(ramp) = &report.ramp {
        let _ = writeln!(io::stdout(), "\n{}", ramp.words());
    }
    // A ramp is meant to miss its bars in the end; it must have held at all.
    let bars = if plan.ramp && report.ramp.as_ref().is_some_and(|ramp| ramp.held > 0) {
        &[]
    } else {
        &plan.bars[..]
    };
    let misses: Vec<String> =
        bars.iter().flat_map(|bar| report.steps.iter().filter_map(|step| bar.missed_by(step))).collect();
    misses.iter().for_each(|miss| complain(&format!("missed {miss}")));
    report.ended_early.iter().for_each(|reason| complain(&format!("ended early: {reason}")));
    let fine = misses.is_empty() && report.ended_early.is_none();
    Ok(if fine { ExitCode::SUCCESS } else { FAILED.into() })
}
