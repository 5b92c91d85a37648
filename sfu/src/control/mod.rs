//! The control thread: starts the workers, keeps the list of sessions, and speaks with signaling.
//!
//! Signaling may come and go; the sessions stay. Each new signaling process is told all of them.

pub mod frame;
pub mod listener;
mod load;
pub mod protocol;
mod restart;
mod thread;

use self::listener::{Connection, ConnectionId, FromSignaling};
use self::load::{LoadMeter, Purpose, Round};
use self::protocol::{
    CreateError, EndReason, Event, Hello, LOAD_INTERVAL_MS, PROTOCOL_VERSION, Request, RequestId, SessionId,
    SessionInfo, WorkerIndex, WorkerInfo,
};
use self::restart::Restarts;
use self::thread::{WorkerFactory, WorkerHandle, open_udp};
use crate::config::{MediaConfig, ORPHAN_SECONDS, PROCESS_SESSIONS_MAX};
use crate::core::identity::Identity;
use crate::core::ntp::NtpClock;
use crate::core::outbox::SessionEvent;
use crate::core::plan::SessionPlan;
use crate::door::Door;
use crate::driver::{Waker, probe};
use crate::error::StartError;
use crate::mesh::Inbox;
use crate::stats::{StreamEnd, WorkerSnapshot};
use crate::worker::{Command, FromWorker, Mesh};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// Events that may wait for the control thread; a worker keeps what does not fit.
const EVENTS_MAX: usize = 16_384;
/// After a fault a worker is started again at once, and if that fails every so often.
const RESTART_RETRY: Duration = Duration::from_secs(1);

/// Runs the media process on the calling thread until it is told to shut down or is orphaned. Calls `on_ready` once
/// sessions can be created.
pub fn run(config: MediaConfig, on_ready: impl FnOnce()) -> Result<(), StartError> {
    if config.bind.is_empty() {
        return Err(StartError::NoAddress);
    }
    let descriptors = probe(config.descriptors_needed())?.descriptors;
    tokio_uring::start(async {
        let listener = listener::bind(&config.control)?;
        let (to_control, requests) = listener::channel();
        let (events, reports) = mpsc::channel(EVENTS_MAX);
        let mut control = Control::start(config, events, descriptors)?;
        on_ready();
        let accepting = tokio_uring::spawn(listener::accept(listener, to_control));
        let served = control.serve(requests, reports).await;
        accepting.abort();
        // Its end drops the listener, which removes the socket.
        let _ = accepting.await;
        served
    })
}

/// A create that waits for its worker.
struct Pending {
    connection: ConnectionId,
    request: RequestId,
    plan: SessionPlan,
}

/// The control thread's state.
struct Control {
    factory: WorkerFactory,
    /// Closed with this.
    door: Option<Door>,
    /// What it had refused when the first worker began to count.
    refused_before: [u64; StreamEnd::ALL.len()],
    workers: Vec<Option<WorkerHandle>>,
    info: Vec<WorkerInfo>,
    sessions: HashMap<SessionId, SessionInfo>,
    pending: HashMap<RequestId, (WorkerIndex, Pending)>,
    restarts: Restarts,
    next_request: u64,
    connection: Option<Connection>,
    round: Option<Round>,
    load: LoadMeter,
    alone_since: Instant,
    shutting_down: bool,
}

impl Control {
    fn start(
        config: MediaConfig,
        events: mpsc::Sender<(WorkerIndex, FromWorker)>,
        descriptors: u64,
    ) -> Result<Control, StartError> {
        let count = config.cores.len();
        let wakers = (0..count).map(|_| Waker::new()).collect::<Result<_, _>>()?;
        let inboxes = (0..count)
            .map(|_| if config.udp_mux { Inbox::behind_shared_port() } else { Inbox::new() })
            .collect();
        let mesh = Arc::new(Mesh { inboxes, wakers });
        let door =
            config.tcp_port.map(|port| Door::open(&config.bind, port, Arc::clone(&mesh))).transpose()?;
        let tcp_addresses = door.as_ref().map(|door| door.addresses.clone()).unwrap_or_default();
        let factory = WorkerFactory {
            tcp_connections: if door.is_some() { config.tcp_connections(descriptors) } else { 0 },
            sockets: open_udp(&config)?,
            config,
            identity: Identity::generate()?,
            clock: NtpClock::new(Instant::now(), SystemTime::now()),
            mesh,
            events,
        };
        let indices = (0..count as u16).map(WorkerIndex);
        let workers: Vec<WorkerHandle> =
            indices.map(|index| factory.start(index, false)).collect::<Result<_, _>>()?;
        let info = workers
            .iter()
            .map(|WorkerHandle { core, addresses, .. }| (*core, addresses.clone(), tcp_addresses.clone()))
            .map(|(core, addresses, tcp_addresses)| WorkerInfo { core, addresses, tcp_addresses });
        Ok(Control {
            info: info.collect(),
            workers: workers.into_iter().map(Some).collect(),
            factory,
            door,
            refused_before: Default::default(),
            sessions: HashMap::new(),
            pending: HashMap::new(),
            restarts: Restarts::default(),
            next_request: 0,
            connection: None,
            round: None,
            load: LoadMeter::new(count),
            alone_since: Instant::now(),
            shutting_down: false,
        })
    }

    async fn serve(
        &mut self,
        mut requests: mpsc::Receiver<FromSignaling>,
        mut reports: mpsc::Receiver<(WorkerIndex, FromWorker)>,
    ) -> Result<(), StartError> {
        let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Thread)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Thread)?;
        // The reload of signaling's certificates, which often goes to every process of our name, is not the end of media.
        let mut hang_up = signal(SignalKind::hangup()).map_err(StartError::Thread)?;
        let mut tick = tokio::time::interval(RESTART_RETRY);
        let mut load = tokio::time::interval(Duration::from_millis(LOAD_INTERVAL_MS));
        // After a pause of the whole process one report says as much as the missed ones.
        load.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.is_over() {
            tokio::select! {
                Some(message) = requests.recv() => self.handle_signaling(message),
                Some((worker, report)) = reports.recv() => self.handle_worker(worker, report),
                _ = terminate.recv() => self.shut_down(),
                _ = interrupt.recv() => self.shut_down(),
                _ = hang_up.recv() => {}
                _ = tick.tick() => self.tick(),
                _ = load.tick(), if self.connection.is_some() => self.ask_workers(Purpose::Load),
            }
        }
        // Let the last events leave.
        self.connection = None;
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(())
    }

    fn is_over(&self) -> bool {
        let orphaned = self.alone_since.elapsed() >= Duration::from_secs(ORPHAN_SECONDS);
        let stopped = self.shutting_down && self.workers.iter().all(Option::is_none);
        stopped || (orphaned && self.connection.is_none() && self.sessions.is_empty())
    }

    fn tick(&mut self) {
        if self.connection.is_some() || !self.sessions.is_empty() {
            self.alone_since = Instant::now();
        }
        if !self.shutting_down {
            let missing = (0..self.workers.len()).filter(|index| self.workers[*index].is_none());
            missing.collect::<Vec<_>>().into_iter().for_each(|index| self.restart(WorkerIndex(index as u16)));
        }
    }

    fn handle_signaling(&mut self, message: FromSignaling) {
        match message {
            FromSignaling::Opened(connection) => {
                let hello = Event::Hello(self.hello());
                connection.send(&hello);
                if self.connection.replace(connection).is_some() {
                    tracing::warn!("a new signaling process took the place of the old one");
                }
            }
            FromSignaling::Closed(id) => {
                if self.connection.as_ref().is_some_and(|connection| connection.id == id) {
                    self.connection = None;
                    self.alone_since = Instant::now();
                    tracing::info!("signaling is gone; {} sessions go on without it", self.sessions.len());
                }
            }
            FromSignaling::Request(id, request) => {
                if self.connection.as_ref().is_some_and(|connection| connection.id == id) {
                    self.request(id, request);
                }
            }
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL_VERSION,
            config_hash: self.factory.config.config_hash,
            fingerprint: self.factory.identity.fingerprint,
            workers: self.info.clone(),
            sessions: self.sessions.values().cloned().collect(),
        }
    }

    fn request(&mut self, connection: ConnectionId, request: Request) {
        match request {
            Request::Create { request, worker, plan } => {
                self.create(worker, Pending { connection, request, plan });
            }
            Request::Delete { session } => {
                self.command(session.worker, Command::Delete(session));
            }
            Request::RestartIce { request, session, remote, blob } => {
                self.restart_ice(connection, request, session, (remote, blob));
            }
            Request::SelectLayer { session, choice } => {
                self.command(session.worker, Command::SelectLayer(session, choice.into()));
            }
            Request::Stats => self.ask_workers(Purpose::Stats),
            Request::Shutdown => self.shut_down(),
        }
    }

    fn create(&mut self, worker: WorkerIndex, pending: Pending) {
        if self.sessions.len() + self.pending.len() >= PROCESS_SESSIONS_MAX {
            return self.tell(&Event::Created { request: pending.request, result: Err(CreateError::Full) });
        }
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let plan = pending.plan.clone();
        let asked = pending.request;
        self.pending.insert(request, (worker, pending));
        if !self.command(worker, Command::Create { request, plan }) {
            self.pending.remove(&request);
            self.tell(&Event::Created { request: asked, result: Err(CreateError::NoWorker) });
        }
    }

    /// Asks every worker for its counters, unless they are being asked.
    fn ask_workers(&mut self, purpose: Purpose) {
        if self.round.as_ref().is_some_and(Round::is_overdue) {
            self.close_round();
        }
        if self.round.is_none() {
            let mut round = Round::new(self.workers.len());
            for index in (0..self.workers.len() as u16).map(WorkerIndex) {
                if !self.command(index, Command::Stats) {
                    round.answer(index, WorkerSnapshot::default());
                }
            }
            self.round = Some(round);
        }
        if let Some(round) = &mut self.round {
            round.want(purpose);
        }
        self.close_complete_round();
    }

    /// Puts a command into a worker's mailbox; false if there is no such worker.
    fn command(&self, worker: WorkerIndex, command: Command) -> bool {
        let index = usize::from(worker.0);
        let Some(Some(handle)) = self.workers.get(index) else { return false };
        handle.mailbox.push(command);
        self.factory.mesh.wakers[index].wake();
        true
    }

    fn tell(&mut self, event: &Event) {
        if self.connection.as_ref().is_some_and(|connection| !connection.send(event)) {
            tracing::error!("signaling does not read its events and is cut off");
            self.connection = None;
        }
    }

    fn handle_worker(&mut self, worker: WorkerIndex, report: FromWorker) {
        match report {
            FromWorker::Session(event) => self.session_event(worker, event),
            FromWorker::Stats(snapshot) => self.stats(worker, *snapshot),
            FromWorker::Stopped(fault) => self.stopped(worker, fault),
        }
    }

    fn session_event(&mut self, worker: WorkerIndex, event: SessionEvent) {
        match event {
            SessionEvent::Created { request, result } => {
                let Some((_, pending)) = self.pending.remove(&request) else { return };
                if let Ok(created) = &result {
                    let session = created.session;
                    let silent = false;
                    let info = SessionInfo {
                        session,
                        plan: pending.plan,
                        connected: false,
                        silent,
                        codecs: vec![],
                        layers: vec![],
                    };
                    self.sessions.insert(session, info);
                }
                if self.connection.as_ref().is_some_and(|connection| connection.id == pending.connection) {
                    self.tell(&Event::Created { request: pending.request, result });
                }
            }
            SessionEvent::IceRestarted { request, result } => self.ice_restarted(worker, request, result),
            SessionEvent::Connected(session) => {
                self.update(session, |info| info.connected = true);
                self.tell(&Event::Connected { session });
            }
            SessionEvent::Silence(session, silent) => {
                self.update(session, |info| info.silent = silent);
                self.tell(&Event::Silence { session, silent });
            }
            SessionEvent::Track(session, codec) => {
                self.update(session, |info| {
                    info.codecs.retain(|known| known.kind() != codec.kind());
                    info.codecs.push(codec);
                });
                if let Some(stream) = self.sessions.get(&session).map(|info| info.plan.stream) {
                    self.tell(&Event::Track { session, stream, codec });
                }
            }
            SessionEvent::Layers(session, layers) => {
                self.update(session, |info| info.layers.clone_from(&layers));
                self.tell(&Event::Layers { session, layers });
            }
            SessionEvent::Ended(session, reason) => self.ended(session, reason),
        }
    }

    fn update(&mut self, session: SessionId, change: impl FnOnce(&mut SessionInfo)) {
        if let Some(info) = self.sessions.get_mut(&session) {
            change(info);
        }
    }

    fn ended(&mut self, session: SessionId, reason: EndReason) {
        if self.sessions.remove(&session).is_some() {
            self.tell(&Event::Ended { session, reason });
        }
    }

    fn stats(&mut self, worker: WorkerIndex, snapshot: WorkerSnapshot) {
        if let Some(round) = &mut self.round {
            round.answer(worker, snapshot);
            self.close_complete_round();
        }
    }

    fn close_complete_round(&mut self) {
        if self.round.as_ref().is_some_and(Round::is_complete) {
            self.close_round();
        }
    }

    /// Tells signaling what the workers answered. Of one that hangs it learns by the load; counters with a gap would look as
    /// if that worker had started anew.
    fn close_round(&mut self) {
        let Some(round) = self.round.take() else { return };
        if round.is_wanted(Purpose::Load) {
            let loads = self.load.measure(round.answers());
            self.tell(&Event::Load(loads));
        }
        if round.is_wanted(Purpose::Stats) && round.is_complete() {
            let mut snapshots = round.into_snapshots();
            self.count_refused(&mut snapshots);
            self.tell(&Event::Stats(snapshots));
        }
    }

    /// The door has no snapshot of its own: what it refused is told with what the first worker did.
    fn count_refused(&self, snapshots: &mut [WorkerSnapshot]) {
        if let (Some(door), Some(first)) = (&self.door, snapshots.first_mut()) {
            let refused = door.refused().into_iter().zip(self.refused_before);
            first.tcp_ended.iter_mut().zip(refused).for_each(|(ended, (now, before))| *ended += now - before);
        }
    }

    fn stopped(&mut self, worker: WorkerIndex, fault: Option<String>) {
        self.workers[usize::from(worker.0)] = None;
        if worker == WorkerIndex(0) {
            self.refused_before = self.door.as_ref().map(Door::refused).unwrap_or_default();
        }
        self.stats(worker, WorkerSnapshot::default());
        if let Some(fault) = fault {
            tracing::error!("worker {} failed: {fault}", worker.0);
            self.bury(worker);
            if !self.shutting_down {
                self.restart(worker);
            }
        }
    }

    /// Reports everything that went down with a worker.
    fn bury(&mut self, worker: WorkerIndex) {
        let lost: Vec<SessionId> = self.sessions.keys().filter(|s| s.worker == worker).copied().collect();
        lost.into_iter().for_each(|session| self.ended(session, EndReason::WorkerFault));
        let waiting: Vec<RequestId> =
            self.pending.iter().filter(|(_, (at, _))| *at == worker).map(|(id, _)| *id).collect();
        self.bury_restarts(worker);
        for id in waiting {
            if let Some((_, pending)) = self.pending.remove(&id) {
                let result = Err(CreateError::NoWorker);
                self.tell(&Event::Created { request: pending.request, result });
            }
        }
    }

    fn restart(&mut self, worker: WorkerIndex) {
        match self.factory.start(worker, true) {
            Ok(handle) => {
                tracing::warn!("worker {} runs again", worker.0);
                self.workers[usize::from(worker.0)] = Some(handle);
            }
            Err(error) => tracing::error!("worker {} cannot be started again yet: {error}", worker.0),
        }
    }

    fn shut_down(&mut self) {
        if !std::mem::replace(&mut self.shutting_down, true) {
            (0..self.workers.len() as u16).for_each(|index| {
                self.command(WorkerIndex(index), Command::ShutDown);
            });
        }
    }
}
