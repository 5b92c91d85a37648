//! Signaling of uringcast, and the start of media. The binary calls [`main`]; benchmarks reach what they measure.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "tests"))]

mod auth;
mod candidates;
mod check;
mod config;
mod error;
mod first_screen;
mod http;
mod lock;
mod logging;
mod media;
mod metrics;
mod pages;
mod random;
mod registry;
pub mod sdp;
mod shutdown;
mod start;
mod time;

#[cfg(fuzzing)]
pub use http::fuzz_fragment;

use config::{Config, Mode};
use error::StartError;
use std::process::ExitCode;

/// Could not start, or failed.
const FAILED: u8 = 1;
/// The command line or the configuration is wrong.
const USAGE: u8 = 2;

/// The whole program: command line in, exit code out.
pub fn main() -> ExitCode {
    let (mode, config) = match config::load_process() {
        Ok(loaded) => loaded,
        Err(errors) => return complain(&errors),
    };
    match run(mode, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("uringcast: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn complain(errors: &[config::ConfigError]) -> ExitCode {
    for error in errors {
        eprintln!("uringcast: {error}");
    }
    ExitCode::from(USAGE)
}

fn run(mode: Mode, config: Config) -> Result<(), StartError> {
    match mode {
        Mode::Serve | Mode::Signaling => {
            let log = logging::start(&config);
            for variable in config::unknown_variables() {
                tracing::warn!("{variable}");
            }
            start::run(config, mode, log)
        }
        Mode::Media => {
            logging::start(&config);
            if config.control.starts_with(&config.state_dir) {
                start::make_state_dir(&config.state_dir)?;
            }
            let media = config.media().map_err(StartError::Interfaces)?;
            let ready = first_screen::media_listens(&media);
            Ok(sfu::run(media, move || {
                tracing::info!("media is ready: {ready}");
                start::tell_service_manager();
            })?)
        }
        Mode::Check => check::run(&config),
        Mode::Keys => {
            first_screen::say(&config::keys::markdown());
            Ok(())
        }
    }
}
