//! Logs go to stderr; stdout is for people.

use crate::config::Config;
use std::io::IsTerminal;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt};

/// Changes what is logged.
#[derive(Clone)]
pub struct LogControl(Handle<EnvFilter, Registry>);

/// Starts to log.
pub fn start(config: &Config) -> LogControl {
    let (filter, handle) = reload::Layer::new(filter(config));
    let stderr = fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    // Fails only if a logger is there already, and then it stays.
    let _ = tracing_subscriber::registry().with(filter).with(stderr).try_init();
    LogControl(handle)
}

impl LogControl {
    /// Logs what the new configuration says from now on.
    pub fn set(&self, config: &Config) {
        let _ = self.0.reload(filter(config));
    }
}

/// `--log`, or else `RUST_LOG`, which every Rust program knows.
fn filter(config: &Config) -> EnvFilter {
    match std::env::var("RUST_LOG") {
        Ok(rust_log) if config.settings.get("log").is_none() => EnvFilter::new(rust_log),
        _ => EnvFilter::new(&config.log),
    }
}
