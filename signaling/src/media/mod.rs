//! Signaling's side of the media process: a handle for the HTTP handlers, and the supervisor that keeps the connection,
//! and under `serve` the process, alive.

mod child;
mod connection;
mod frame;
mod restart;
#[cfg(test)]
mod tests;

pub use child::Launcher;
pub use restart::{RestartFailure, Restarted};

use crate::error::StartError;
use crate::metrics::Metrics;
use crate::registry::{Admission, Registry, Restart, UrlId};
use crate::shutdown::Shutdown;
use connection::Context;
use restart::RestartReply;
use sfu::control::protocol::{
    CreateError, Created, Event, Hello, IceCredentials, LayerChoice, PROTOCOL_VERSION, Request, SessionId,
    WorkerInfo,
};
use sfu::core::plan::Role;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

/// OBS gives up its POST after 8 s; the answer must be there before. A restart is as quick as a create.
const CREATE_TIMEOUT: Duration = Duration::from_secs(5);
/// A scrape waits so long for fresh numbers, then takes those of the last second.
const STATS_TIMEOUT: Duration = Duration::from_secs(1);
/// Commands on their way to the connection; more waiting ones would time out anyway.
const COMMANDS_MAX: usize = 1024;
/// A media process opens its socket and greets within this, even with many workers.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A media process of another configuration or version gets this long to say goodbye to its clients.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_RETRY: Duration = Duration::from_millis(20);
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A connection that lasted so long was a good one.
const STABLE: Duration = Duration::from_secs(10);

/// The registry as handlers and the connection share it. Never held across an await.
#[derive(Clone, Default)]
pub struct SharedRegistry(Arc<Mutex<Registry>>);

impl SharedRegistry {
    /// Exclusive access.
    pub fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What media says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// SHA-256 of its certificate.
    pub fingerprint: [u8; 32],
    /// Its workers by index.
    pub workers: Vec<WorkerInfo>,
}

/// Why media has no session for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is its message")]
pub enum CreateFailure {
    #[error("The media process is not connected. Try again in a few seconds.")]
    Unavailable,
    #[error(
        "The media process has not reported for {} s: it is stopped or hangs. Try again in a few seconds; if that lasts, look at the process.",
        connection::SILENT_AFTER.as_secs()
    )]
    Silent,
    #[error("The media process did not answer in time. Try again in a few seconds.")]
    Timeout,
    #[error("The media process refused the session: {0}.")]
    Refused(CreateError),
}

/// Media's facts, or why it takes no sessions now.
type Readiness = Result<Arc<Ready>, CreateFailure>;

type Reply = oneshot::Sender<Result<Claim, CreateFailure>>;

enum Command {
    Create { admission: Admission, reply: Reply },
    Delete(SessionId),
    RestartIce { restart: Restart, reply: RestartReply },
    SelectLayer(SessionId, LayerChoice),
    Stats(oneshot::Sender<()>),
}

/// Where sessions can be ended from: the registry forgets them, media ends them.
#[derive(Clone)]
pub struct Place {
    commands: mpsc::Sender<Command>,
    registry: SharedRegistry,
}

impl Place {
    /// Ends the session behind a URL, if it is not among those that ended last; whose it was.
    pub fn end(&self, url: UrlId) -> Option<Role> {
        let deleted = self.registry.lock().delete(url)?;
        if let Some(session) = deleted.session
            && self.commands.try_send(Command::Delete(session)).is_err()
        {
            // Media ends a session by itself when its client goes silent.
            tracing::warn!(%session, "media takes no commands; the session ends when its client is silent");
        }
        Some(deleted.role)
    }

    fn claim(&self, created: Created, url: UrlId) -> Claim {
        Claim { created, kept: false, url, place: self.clone() }
    }
}

/// A new session that ends again unless somebody keeps it: a client that leaves while media works takes its session
/// with it, wherever the request was at that moment.
pub struct Claim {
    created: Created,
    kept: bool,
    url: UrlId,
    place: Place,
}

impl Claim {
    /// What the answer needs. Dropping the claim still ends the session.
    pub fn created(&self) -> &Created {
        &self.created
    }

    /// The session stays.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.kept {
            self.place.end(self.url);
        }
    }
}

/// The handlers' handle.
#[derive(Clone)]
pub struct Media {
    place: Place,
    ready: watch::Receiver<Readiness>,
}

impl Media {
    /// Media's facts, while it is connected and reports.
    ///
    /// # Errors
    /// It takes no sessions now, and why.
    pub fn ready(&self) -> Readiness {
        self.ready.borrow().clone()
    }

    /// The registry.
    pub fn registry(&self) -> MutexGuard<'_, Registry> {
        self.place.registry.lock()
    }

    /// Lets media create what the registry admitted.
    ///
    /// # Errors
    /// It does not; the registry knows.
    pub async fn create(&self, admission: Admission) -> Result<Claim, CreateFailure> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Create { admission, reply };
        if let Err(refused) = self.place.commands.try_send(command) {
            let (mpsc::error::TrySendError::Full(command) | mpsc::error::TrySendError::Closed(command)) =
                refused;
            if let Command::Create { admission, .. } = command {
                self.registry().failed(&admission);
            }
            return Err(CreateFailure::Unavailable);
        }
        match timeout(CREATE_TIMEOUT, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(CreateFailure::Unavailable),
            Err(_) => Err(CreateFailure::Timeout),
        }
    }

    /// Ends the session behind a URL, if it is not among those that ended last; whose it was.
    pub fn end(&self, url: UrlId) -> Option<Role> {
        self.place.end(url)
    }

    /// Lets media restart the ICE of the session behind a URL; `etag` will name the new ICE session.
    ///
    /// # Errors
    /// It does not, and the old ICE session lives on. After [`CreateFailure::Timeout`] either may; another restart tells.
    pub async fn restart_ice(
        &self,
        url: UrlId,
        remote: IceCredentials,
        etag: u64,
    ) -> Result<Restarted, RestartFailure> {
        self.ready()?;
        let restart = self.registry().restart(url, remote, etag)?;
        let session = restart.session;
        let (reply, answer) = oneshot::channel();
        if self.place.commands.try_send(Command::RestartIce { restart, reply }).is_err() {
            self.registry().not_restarted(session);
            return Err(CreateFailure::Unavailable.into());
        }
        match timeout(CREATE_TIMEOUT, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(CreateFailure::Unavailable.into()),
            Err(_) => Err(CreateFailure::Timeout.into()),
        }
    }

    /// Tells media what a viewer wishes to be sent.
    ///
    /// # Errors
    /// It takes no commands now.
    pub fn select_layer(&self, session: SessionId, choice: LayerChoice) -> Result<(), CreateFailure> {
        self.ready()?;
        let sent = self.place.commands.try_send(Command::SelectLayer(session, choice));
        sent.map_err(|_| CreateFailure::Unavailable)
    }

    /// Asks for fresh counters, which reach the metrics on their way. Gives up after a second.
    pub async fn refresh_stats(&self) {
        let (reply, answer) = oneshot::channel();
        if self.ready().is_ok() && self.place.commands.try_send(Command::Stats(reply)).is_ok() {
            let _ = timeout(STATS_TIMEOUT, answer).await;
        }
    }
}

/// Keeps media connected.
pub struct Supervisor {
    control: PathBuf,
    config_hash: u64,
    launcher: Option<Launcher>,
    commands: mpsc::Receiver<Command>,
    context: Context,
    /// Why media was not there at the last try, as it was logged.
    complaint: Option<String>,
}

impl Supervisor {
    /// A supervisor and its handle. With a launcher it starts media when none is there.
    pub fn new(
        control: PathBuf,
        config_hash: u64,
        launcher: Option<Launcher>,
        metrics: Arc<Metrics>,
        shutdown: Shutdown,
    ) -> (Supervisor, Media) {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let (ready, facts) = watch::channel(Err(CreateFailure::Unavailable));
        let registry = SharedRegistry::default();
        let place = Place { commands: sender, registry: registry.clone() };
        let owns_media = launcher.is_some();
        let context = Context { place: place.clone(), registry, metrics, shutdown, owns_media, ready };
        let supervisor = Supervisor { control, config_hash, launcher, commands, context, complaint: None };
        (supervisor, Media { place, ready: facts })
    }

    /// Connects for the first time, and starts media if that is ours to do.
    ///
    /// # Errors
    /// Media cannot be started. Without a launcher it may come later, so that is only logged.
    pub async fn first(&mut self) -> Result<Option<(UnixStream, Hello)>, StartError> {
        match self.establish().await {
            Ok(connection) => Ok(Some(connection)),
            Err(error) if self.launcher.is_none() => {
                self.complain(&error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Talks, reconnects and restarts until shutdown.
    pub async fn run(mut self, mut connection: Option<(UnixStream, Hello)>) {
        let mut backoff = BACKOFF_MIN;
        let mut shutdown = self.context.shutdown.clone();
        loop {
            let since = Instant::now();
            if let Some((stream, hello)) = connection.take() {
                self.converse(stream, hello).await;
            }
            if shutdown.is_over() {
                break;
            }
            backoff = if since.elapsed() > STABLE { BACKOFF_MIN } else { BACKOFF_MAX.min(backoff * 2) };
            tokio::select! {
                () = sleep(backoff) => {}
                () = shutdown.over() => break,
            }
            connection = match self.establish().await {
                Ok(connection) => Some(connection),
                Err(error) => {
                    self.complain(&error);
                    None
                }
            };
        }
        if let Some(launcher) = &mut self.launcher {
            launcher.stop().await;
        }
    }

    /// Logs why media is not there, once per cause: it is tried again every few seconds.
    fn complain(&mut self, error: &StartError) {
        let cause = error.to_string();
        if self.complaint.as_ref() == Some(&cause) {
            return;
        }
        match error {
            StartError::MediaSilent { path, .. } if self.launcher.is_none() => {
                tracing::info!(control = %path.display(), "no media process there yet; waiting for it");
            }
            _ => tracing::error!("{cause}"),
        }
        self.complaint = Some(cause);
    }

    async fn converse(&mut self, stream: UnixStream, hello: Hello) {
        self.complaint = None;
        let (workers, sessions) = (hello.workers.len(), hello.sessions.len());
        tracing::info!(workers, sessions, "connected to media");
        self.context.metrics.media_connected(hello.fingerprint);
        let result = connection::converse(stream, hello, &mut self.commands, &self.context).await;
        self.context.tell(Err(CreateFailure::Unavailable));
        while self.commands.try_recv().is_ok() {}
        if !self.context.shutdown.is_over() {
            let cause =
                result.err().map_or_else(|| "it closed the connection".to_owned(), |error| error.to_string());
            tracing::error!("lost the media process ({cause}); its sessions are gone unless it comes back");
        }
    }

    /// A connection to a media process that fits: the one that runs, or a new one.
    async fn establish(&mut self) -> Result<(UnixStream, Hello), StartError> {
        if let Some(connection) = self.adopt().await? {
            return Ok(connection);
        }
        let silent = StartError::MediaSilent { path: self.control.clone(), seconds: HELLO_TIMEOUT.as_secs() };
        let Some(launcher) = &mut self.launcher else { return Err(silent) };
        launcher.start()?;
        let deadline = Instant::now() + HELLO_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(connection) = self.adopt().await? {
                return Ok(connection);
            }
            if let Some(status) = self.launcher.as_mut().and_then(Launcher::exit_status) {
                return Err(StartError::MediaEnded(status));
            }
            sleep(CONNECT_RETRY).await;
        }
        Err(silent)
    }

    /// `None` if nobody listens, or nobody has the time to.
    async fn connect(&self) -> Result<Option<UnixStream>, StartError> {
        use io::ErrorKind::{ConnectionRefused, NotFound, WouldBlock};
        match UnixStream::connect(&self.control).await {
            Ok(stream) => Ok(Some(stream)),
            Err(cause) if matches!(cause.kind(), NotFound | ConnectionRefused | WouldBlock) => Ok(None),
            Err(cause) => Err(StartError::MediaUnreachable { path: self.control.clone(), cause }),
        }
    }

    /// The running media process, if there is one and it fits. One that does not fit is drained.
    async fn adopt(&mut self) -> Result<Option<(UnixStream, Hello)>, StartError> {
        let Some(mut stream) = self.connect().await? else { return Ok(None) };
        let ours = nix::unistd::geteuid().as_raw();
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == ours) {
            return Err(StartError::Media(format!(
                "another user's process listens on {}. Choose another path with --control",
                self.control.display()
            )));
        }
        let Ok(Ok(frame)) = timeout(HELLO_TIMEOUT, frame::read(&mut stream)).await else { return Ok(None) };
        match judge(&frame) {
            Ok(hello) if hello.config_hash == self.config_hash => Ok(Some((stream, hello))),
            Ok(hello) if self.launcher.is_none() => {
                tracing::warn!(
                    "media runs with other addresses, ports or cores than this configuration says"
                );
                Ok(Some((stream, hello)))
            }
            Ok(_) => drain(stream).await.map(|()| None).map_err(|_| StartError::MediaStuck(PROTOCOL_VERSION)),
            Err(version) => drain(stream).await.map(|()| None).map_err(|_| StartError::MediaStuck(version)),
        }
    }
}

/// The hello of a media process that speaks our protocol, or else its version.
fn judge(frame: &[u8]) -> Result<Hello, u32> {
    // An event's number, then the hello's first field: the part that every version can read.
    let version = postcard::take_from_bytes::<(u32, u32)>(frame).map_or(0, |((_, version), _)| version);
    match postcard::from_bytes(frame) {
        Ok(Event::Hello(hello)) if version == PROTOCOL_VERSION => Ok(hello),
        _ => Err(version),
    }
}

/// Asks a media process to end, and waits until it did: its successor needs the socket and the ports.
async fn drain(mut stream: UnixStream) -> io::Result<()> {
    tracing::warn!("the running media process has another version or configuration; draining it");
    let pid = stream.peer_cred()?.pid();
    frame::write(&mut stream, &Request::Shutdown).await?;
    let ended = async {
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
        while pid.is_some_and(is_alive) {
            sleep(CONNECT_RETRY).await;
        }
        Ok(())
    };
    timeout(DRAIN_TIMEOUT, ended).await?
}

/// Whether a process still holds its files. One that ended and waits for its parent to ask (proc(5), state Z) does not,
/// and in a container nobody may ever ask.
fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}
