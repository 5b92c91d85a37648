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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;
    use std::io::Read;
    use std::sync::Mutex;

    #[test]
    fn by_default_strangers_cannot_make_the_http2_library_talk() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let layer = fmt::layer().with_ansi(false).with_writer(Mutex::new(writer));
        let subscriber = tracing_subscriber::registry().with(EnvFilter::new(keys::LOG)).with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "h2::proto::streams::streams", "too many resets");
            tracing::error!(target: "h2::proto::connection", "broken");
            tracing::info!(target: "uringcast", "ours");
            tracing::debug!(target: "uringcast", "detail");
        });
        let mut log = String::new();
        reader.read_to_string(&mut log).expect("a log");
        assert!(log.contains("ours") && log.contains("broken"), "{log}");
        assert!(!log.contains("resets") && !log.contains("detail"), "{log}");
    }
}
