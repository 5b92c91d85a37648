//! One connection to media: requests go out, events come in, until it breaks.

use super::{Command, CreateFailure, Place, Readiness, Ready, Reply, SharedRegistry};
use crate::metrics::Metrics;
use crate::registry::Admission;
use crate::shutdown::Shutdown;
use sfu::control::protocol::{
    CreateError, Created, Event, Hello, LOAD_INTERVAL_MS, Request, RequestId, SessionId, WorkerLoad,
};
use sfu::stats::WorkerSnapshot;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

/// A scrape wants recent numbers even when media is slow to answer.
const STATS_INTERVAL: Duration = Duration::from_secs(1);
/// A media process that does not drain its socket for so long is stuck.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Media that has not reported its load for so long is stopped or hangs: six reports are missing, more than any pause of a
/// loaded host explains, and clients that wait hear of it before the five seconds of a create are over.
pub(super) const SILENT_AFTER: Duration = Duration::from_millis(6 * LOAD_INTERVAL_MS);
/// Media closes the connection when it has said goodbye to every client.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);
/// Events read ahead of their handling; the socket's own buffer holds the rest.
const EVENTS_AHEAD: usize = 256;

/// What a conversation needs from around it.
pub(super) struct Context {
    pub place: Place,
    pub registry: SharedRegistry,
    pub metrics: Arc<Metrics>,
    pub shutdown: Shutdown,
    /// Media ends with signaling, because signaling started it.
    pub owns_media: bool,
    /// What the handlers are told of media.
    pub ready: watch::Sender<Readiness>,
}

impl Context {
    /// Tells the handlers what media is good for now.
    pub fn tell(&self, readiness: Readiness) {
        // The one before says nothing any more.
        let _ = self.ready.send_replace(readiness);
    }
}

/// The state of one connection.
struct Conversation<'a> {
    context: &'a Context,
    ready: Arc<Ready>,
    /// When the last load came.
    heard: Instant,
    /// It is too long ago.
    silent: bool,
    writer: OwnedWriteHalf,
    pending: HashMap<RequestId, (Admission, Reply)>,
    scrapes: Vec<oneshot::Sender<()>>,
    next_request: u64,
}

/// Talks until the connection breaks. Returns with every waiting request answered.
pub(super) async fn converse(
    stream: UnixStream,
    hello: Hello,
    commands: &mut mpsc::Receiver<Command>,
    context: &Context,
) -> io::Result<()> {
    let (reader, writer) = stream.into_split();
    let (sender, mut events) = mpsc::channel(EVENTS_AHEAD);
    let reading = tokio::spawn(read_events(reader, sender));
    let mut conversation = Conversation {
        context,
        ready: Arc::new(Ready { fingerprint: hello.fingerprint, workers: hello.workers.clone() }),
        heard: Instant::now(),
        silent: false,
        writer,
        pending: HashMap::new(),
        scrapes: Vec::new(),
        next_request: 0,
    };
    let result = conversation.run(hello, &mut events, commands).await;
    reading.abort();
    conversation.give_up();
    result
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn read_events(mut reader: OwnedReadHalf, events: mpsc::Sender<io::Result<Event>>) {
    loop {
        let frame = super::frame::read(&mut reader).await;
        let event = frame.and_then(|frame| postcard::from_bytes(&frame).map_err(io::Error::other));
        let last = event.is_err();
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}

impl Conversation<'_> {
    async fn run(
        &mut self,
        hello: Hello,
        events: &mut mpsc::Receiver<io::Result<Event>>,
        commands: &mut mpsc::Receiver<Command>,
    ) -> io::Result<()> {
        self.greet(hello).await?;
        let mut shutdown = self.context.shutdown.clone();
        let mut goodbye_until = None;
        let mut tick = interval(STATS_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.on_event(event?).await?,
                    None => return Ok(()),
                },
                Some(command) = commands.recv() => self.on_command(command).await?,
                _ = tick.tick(), if !self.silent => self.send(&Request::Stats).await?,
                () = sleep_until(self.heard + SILENT_AFTER), if !self.silent => self.fall_silent(),
                () = shutdown.over(), if goodbye_until.is_none() => {
                    if !self.context.owns_media {
                        return Ok(());
                    }
                    self.send(&Request::Shutdown).await?;
                    goodbye_until = Some(Instant::now() + GOODBYE_TIMEOUT);
                }
                () = until(goodbye_until) => return Ok(()),
            }
        }
    }

    /// Takes over what lives in media, and ends what signaling cannot name.
    async fn greet(&mut self, hello: Hello) -> io::Result<()> {
        let unwanted = self.context.registry.lock().rebuild(hello.workers.len(), hello.sessions);
        for session in unwanted {
            tracing::warn!(%session, "ending a session that was replaced, or whose facts cannot be read");
            self.send(&Request::Delete { session }).await?;
        }
        self.context.tell(Ok(Arc::clone(&self.ready)));
        Ok(())
    }

    /// Media reports no more. Its sessions may well live, so nothing is ended; but nobody is kept waiting for it.
    fn fall_silent(&mut self) {
        tracing::error!("the media process does not report; no new sessions until it does");
        self.silent = true;
        self.context.tell(Err(CreateFailure::Silent));
        self.scrapes.clear();
        self.fail_pending(CreateFailure::Silent);
    }

    fn on_load(&mut self, loads: &[WorkerLoad]) {
        self.context.registry.lock().report(loads);
        self.heard = Instant::now();
        if std::mem::take(&mut self.silent) {
            tracing::info!("the media process reports again");
            self.context.tell(Ok(Arc::clone(&self.ready)));
        }
    }

    /// What media creates for them all the same is ended when it says so.
    fn fail_pending(&mut self, failure: CreateFailure) {
        let mut registry = self.context.registry.lock();
        for (_, (admission, reply)) in self.pending.drain() {
            registry.failed(&admission);
            let _ = reply.send(Err(failure));
        }
    }

    async fn send(&mut self, request: &Request) -> io::Result<()> {
        timeout(WRITE_TIMEOUT, super::frame::write(&mut self.writer, request)).await?
    }

    async fn on_command(&mut self, command: Command) -> io::Result<()> {
        match command {
            Command::Create { admission, reply } => self.create(admission, reply).await,
            Command::Delete(session) => self.send(&Request::Delete { session }).await,
            // Dropped: who asks takes the numbers that there are.
            Command::Stats(_) if self.silent => Ok(()),
            Command::Stats(reply) => {
                self.scrapes.retain(|scrape| !scrape.is_closed());
                self.scrapes.push(reply);
                self.send(&Request::Stats).await
            }
        }
    }

    async fn create(&mut self, admission: Admission, reply: Reply) -> io::Result<()> {
        if reply.is_closed() {
            self.context.registry.lock().failed(&admission);
            return Ok(());
        }
        if self.silent {
            self.context.registry.lock().failed(&admission);
            let _ = reply.send(Err(CreateFailure::Silent));
            return Ok(());
        }
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let create = Request::Create { request, worker: admission.worker, plan: admission.plan.clone() };
        self.pending.insert(request, (admission, reply));
        self.send(&create).await
    }

    async fn on_event(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Created { request, result } => self.on_created(request, result).await?,
            Event::Connected { session } => {
                let replaced = self.context.registry.lock().connected(session);
                for session in replaced {
                    self.send(&Request::Delete { session }).await?;
                }
            }
            Event::Track { session, codec, .. } => self.context.registry.lock().track(session, codec),
            Event::Silence { session, silent } => self.context.registry.lock().silence(session, silent),
            // Nothing here chooses among layers yet.
            Event::Layers { .. } => {}
            Event::Ended { session, reason } => {
                let role = self.context.registry.lock().ended(session);
                tracing::debug!(%session, reason = reason.label(), "session ended");
                self.context.metrics.session_ended(role, reason);
            }
            Event::Stats(snapshots) => self.on_stats(&snapshots),
            Event::Load(loads) => self.on_load(&loads),
            Event::Hello(_) => return Err(io::Error::other("media greeted twice")),
        }
        Ok(())
    }

    async fn on_created(
        &mut self,
        request: RequestId,
        result: Result<Created, CreateError>,
    ) -> io::Result<()> {
        let Some((admission, reply)) = self.pending.remove(&request) else {
            return self.end_unknown(result.ok().map(|created| created.session)).await;
        };
        match result {
            Ok(created) => {
                let url = admission.blob.url;
                self.context.registry.lock().created(admission, created.session);
                // Nobody listens any more: the claim in the value that comes back ends the session.
                let _ = reply.send(Ok(self.context.place.claim(created, url)));
            }
            Err(cause) => {
                let mut registry = self.context.registry.lock();
                registry.failed(&admission);
                if cause == CreateError::NoWorker {
                    registry.worker_down(admission.worker);
                }
                drop(registry);
                let _ = reply.send(Err(CreateFailure::Refused(cause)));
            }
        }
        Ok(())
    }

    async fn end_unknown(&mut self, session: Option<SessionId>) -> io::Result<()> {
        match session {
            Some(session) => self.send(&Request::Delete { session }).await,
            None => Ok(()),
        }
    }

    /// Media gives one answer to requests that meet in it, so this one is for everybody who waits.
    fn on_stats(&mut self, snapshots: &[WorkerSnapshot]) {
        self.context.metrics.report(snapshots);
        for scrape in self.scrapes.drain(..) {
            let _ = scrape.send(());
        }
    }

    /// The connection is gone, and with it all that media may have done: the next hello tells.
    fn give_up(&mut self) {
        self.fail_pending(CreateFailure::Unavailable);
        self.context.registry.lock().rebuild(0, Vec::new());
    }
}
