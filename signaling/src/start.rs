//! The start of signaling, its life until a signal, and its end.

use crate::auth::Access;
use crate::auth::token::ApiToken;
use crate::config::{self, Config, ConfigError, Mode};
use crate::error::StartError;
use crate::first_screen;
use crate::http::limits::event_streams_max;
use crate::http::server::{self, Listener};
use crate::http::tls::Tls;
use crate::http::{App, Audience, CounterOffers, ToldServers};
use crate::lock;
use crate::logging::LogControl;
use crate::media::{Launcher, Supervisor};
use crate::metrics::Metrics;
use crate::shutdown;
use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;

/// Listeners, the control socket, the log, files that are read, and room.
const DESCRIPTORS_BESIDE_CONNECTIONS: usize = 32;

/// At shutdown those who listen to events get this long to take the last one.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs signaling until a signal ends it.
///
/// # Errors
/// It could not start; the error names the cure.
pub fn run(mut config: Config, mode: Mode, log: LogControl) -> Result<(), StartError> {
    // Each connection is a file descriptor. With fewer of them than hoped for, fewer connections are taken, so that the limit
    // on connections, which closes idle ones, comes before the kernel's, which closes none.
    let descriptors = sfu::driver::raise_descriptor_limit(0)?;
    let room =
        usize::try_from(descriptors).unwrap_or(usize::MAX).saturating_sub(DESCRIPTORS_BESIDE_CONNECTIONS);
    config.limits.connections = config.limits.connections.min(room.max(1));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Runtime)?;
    runtime.block_on(live(config, mode, log))
}

/// The lock and the listeners come first: if another server of this configuration runs, the start fails here and that
/// one's media process is left alone.
async fn live(config: Config, mode: Mode, log: LogControl) -> Result<(), StartError> {
    let signals = Signals::catch().map_err(StartError::Runtime)?;
    make_state_dir(&config.state_dir)?;
    let _lock = lock::take(&config.control)?;
    let token = ApiToken::find(&config.token, &config.state_dir)?;
    let (listeners, tls) = listen(&config).await?;
    let metrics = Arc::new(Metrics::new().map_err(|error| StartError::Media(error.to_string()))?);
    let (stop, shutdown) = shutdown::channel();
    let launcher = if mode == Mode::Serve { Some(Launcher::new(&config)?) } else { None };
    let (control, hash) = (config.control.clone(), config.media_hash());
    let (mut supervisor, media) = Supervisor::new(control, hash, launcher, metrics.clone(), shutdown.clone());
    let first = supervisor.first().await?;
    let addresses: Vec<SocketAddr> = listeners.iter().filter_map(Listener::address).collect();
    first_screen::print(&config, &addresses, first.as_ref().map(|(_, hello)| hello.workers.as_slice()));
    let (leave, leaving) = shutdown::channel();
    let app = Arc::new(App {
        access: Access::new(token, config.open),
        ice_servers: ToldServers::new(config.ice_servers.clone()),
        events: Arc::new(Semaphore::new(event_streams_max(config.limits))),
        leaving,
        ends_sessions: mode == Mode::Serve,
        config,
        media,
        counter_offers: CounterOffers::new(metrics.clone()),
        metrics,
    });
    let supervising = tokio::spawn(supervisor.run(first));
    let serving = tokio::spawn(server::serve(app.clone(), listeners, shutdown));
    tell_service_manager();
    signals.until_end(|| reload(&app, tls.as_deref(), &log)).await;
    tracing::info!("shutting down");
    leave.stop();
    say_goodbye(&app).await;
    stop.stop();
    let _ = serving.await;
    let _ = supervising.await;
    Ok(())
}

/// Waits until every event stream has ended with its last words: viewers that are told to come again before their sessions
/// end do so at once.
async fn say_goodbye(app: &App) {
    let all = u32::try_from(event_streams_max(app.config.limits)).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(GOODBYE_TIMEOUT, app.events.acquire_many(all)).await;
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn until_end(mut self, mut on_hangup: impl FnMut()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => on_hangup(),
            }
        }
    }
}

/// SIGHUP: certificates and the reloadable keys. Whatever is wrong stays as it was.
fn reload(app: &App, tls: Option<&Tls>, log: &LogControl) {
    let fresh = match config::load_process() {
        Ok((_, fresh)) => fresh,
        Err(errors) => return report(&errors),
    };
    tracing::info!("reading the configuration again");
    log.set(&fresh);
    for key in app.config.settings.changed(&fresh.settings).filter(|key| !key.reloadable) {
        tracing::warn!(key = key.name, "changed, but is only read at start");
    }
    match ApiToken::find(&fresh.token, &fresh.state_dir) {
        Ok(token) => app.access.set_token(token),
        Err(error) => tracing::error!(%error, "the API token stays as it was"),
    }
    app.ice_servers.set(fresh.ice_servers);
    let source = fresh.https.as_ref().map(|(_, source)| source);
    match tls.zip(source).map(|(tls, source)| tls.reload(source)) {
        Some(Err(error)) => tracing::error!(%error, "the certificate stays as it was"),
        Some(Ok(())) => tracing::info!("reloaded the certificate"),
        None => {}
    }
}

fn report(errors: &[ConfigError]) {
    for error in errors {
        tracing::error!(%error, "the configuration stays as it was");
    }
}

/// Creates the state directory for this user alone: it holds the API token and the control socket.
pub fn make_state_dir(path: &Path) -> Result<(), StartError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|cause| StartError::StateDir { path: path.to_owned(), cause })
}

async fn listen(config: &Config) -> Result<(Vec<Listener>, Option<Arc<Tls>>), StartError> {
    let mut listeners = vec![Listener::bind(config.http, "--http", Audience::Everyone).await?];
    let mut certificate = None;
    if let Some((address, source)) = &config.https {
        let mut listener = Listener::bind(*address, "--https", Audience::Everyone).await?;
        let names = certificate_names(config, *address)?;
        let tls = Arc::new(Tls::load(source, &config.state_dir, names)?);
        listener.tls = Some(tls.clone());
        certificate = Some(tls);
        listeners.push(listener);
    }
    if let Some(address) = config.metrics {
        listeners.push(Listener::bind(address, "--metrics", Audience::Operators).await?);
    }
    Ok((listeners, certificate))
}

/// What a self-signed certificate must be valid for: every address that leads to the listener, and its names.
pub fn certificate_names(config: &Config, https: SocketAddr) -> Result<Vec<String>, StartError> {
    let mut names = vec!["localhost".to_owned()];
    let host = config.public_url.as_ref().and_then(|url| url.parse::<hyper::Uri>().ok());
    names.extend(host.and_then(|uri| uri.host().map(|host| host.trim_matches(['[', ']']).to_owned())));
    let addresses = match https.ip() {
        ip if ip.is_unspecified() => {
            config::interfaces::usable_addresses(true).map_err(StartError::Interfaces)?
        }
        ip => vec![ip],
    };
    names.extend(addresses.iter().chain(&config.public_ip).map(ToString::to_string));
    names.sort();
    names.dedup();
    Ok(names)
}

/// READY=1 to systemd. Without systemd there is no socket to tell, which is no error.
pub fn tell_service_manager() {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}
