//! A worker: one core, one loop, everything it needs.
//!
//! wait → signals → reap → newcomers → mailbox → mesh in → timers → mesh out → fan out → hand over. Every phase is bounded; what
//! is left over makes the next wait return at once.

use crate::control::protocol::{IceCredentials, RequestId, SessionId, WorkerIndex};
use crate::core::egress::{TrainLimits, Trains};
use crate::core::forwarder::{Forwarder, GROUP_PACKETS_MAX};
use crate::core::framing;
use crate::core::layers::Wish;
use crate::core::meters::Histogram;
use crate::core::outbox::{Crossing, SessionEvent, Transmit};
use crate::core::plan::SessionPlan;
use crate::driver::{Driver, DriverError, SocketIndex, TrainSizes, Waker};
use crate::mesh::{Inbox, MeshPacket, Newcomer, WorkerSet};
use crate::stats::{
    DropReason, HistogramSnapshot, LOOP_SECONDS_BOUNDS, StreamEnd, TRAIN_PACKETS_BOUNDS, WorkerSnapshot,
};
use crossbeam::queue::SegQueue;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Commands taken per turn: 64 session builds of some 20 µs (`cargo bench -p bench`, "session: build a viewer") are 1.3 ms.
const COMMANDS_PER_TURN: usize = 64;
/// Signals taken per turn: 256 of at most some µs, a viewer's first subscription, which is answered with a group of pictures, apart.
const SIGNALS_PER_TURN: usize = 256;
/// Packets taken from other workers per turn: a whole group of pictures, so that viewers start with all of it.
const PACKETS_PER_TURN: usize = GROUP_PACKETS_MAX;
/// Datagrams taken per turn that other workers received behind the shared port: as many as one reap takes at least.
const HANDOVERS_PER_TURN: usize = 128;
/// TCP connections taken per turn: 16 of some 10 µs each, most of it the kernel's work of closing one that is nobody's.
const NEWCOMERS_PER_TURN: usize = 16;
/// Sessions whose timers run per turn: 256 at about 5 µs each are 1.3 ms.
const TIMERS_PER_TURN: usize = 256;
/// Over this time the busy ratio is taken.
const BUSY_PERIOD: Duration = Duration::from_secs(1);
/// What a full event channel is retried after.
const RETRY: Duration = Duration::from_millis(5);

/// What the control thread asks of a worker.
#[derive(Debug)]
pub enum Command {
    /// Build a session; answered by [`SessionEvent::Created`].
    Create {
        /// Comes back in the answer.
        request: RequestId,
        /// What to build.
        plan: SessionPlan,
    },
    /// End a session.
    Delete(SessionId),
    /// Restart a session's ICE; answered by [`SessionEvent::IceRestarted`].
    RestartIce {
        /// Comes back in the answer.
        request: RequestId,
        /// Which.
        session: SessionId,
        /// The client's new credentials.
        remote: IceCredentials,
    },
    /// A viewer wants this simulcast layer.
    SelectLayer(SessionId, Wish),
    /// Answered by [`FromWorker::Stats`].
    Stats,
    /// End all sessions, then the worker.
    ShutDown,
}

/// What a worker tells the control thread.
#[derive(Debug)]
pub enum FromWorker {
    /// Something happened to a session.
    Session(SessionEvent),
    /// The counters.
    Stats(Box<WorkerSnapshot>),
    /// The worker has ended: after [`Command::ShutDown`], or because of a fault, whose words these are.
    Stopped(Option<String>),
}

/// A worker's place among the others: everybody's inboxes and wakers, by index.
#[derive(Debug)]
pub struct Mesh {
    /// Where packets and signals for each worker go.
    pub inboxes: Vec<Inbox>,
    /// Ends each worker's wait.
    pub wakers: Vec<Waker>,
}

/// A worker on its thread.
pub struct Worker {
    index: WorkerIndex,
    forwarder: Forwarder,
    driver: Driver,
    mesh: Arc<Mesh>,
    mailbox: Arc<SegQueue<Command>>,
    events: mpsc::Sender<(WorkerIndex, FromWorker)>,
    loop_meter: LoopMeter,
    /// TCP connections that asked for a session and were closed.
    refused_newcomers: u64,
}

impl Worker {
    /// Puts a worker together. Must be called on its thread, because of the driver.
    pub fn new(
        index: WorkerIndex,
        forwarder: Forwarder,
        driver: Driver,
        mesh: Arc<Mesh>,
        mailbox: Arc<SegQueue<Command>>,
        events: mpsc::Sender<(WorkerIndex, FromWorker)>,
    ) -> Worker {
        let loop_meter = LoopMeter::new(Instant::now());
        Worker { index, forwarder, driver, mesh, mailbox, events, loop_meter, refused_newcomers: 0 }
    }

    /// Runs until told to shut down. An error means that the kernel refuses the ring. After that, and after a panic, which goes on,
    /// the clients are told that their sessions have ended.
    pub fn run(mut self) -> Result<(), DriverError> {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.serve()));
        if !matches!(outcome, Ok(Ok(()))) {
            // If this panics too, clients notice when their checks are not answered.
            let _ = catch_unwind(AssertUnwindSafe(|| self.say_goodbye()));
        }
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// By plain system calls, because the ring may be what has failed. A client behind TCP sees its connection closed.
    fn say_goodbye(&mut self) {
        self.forwarder.fail(Instant::now());
        for Transmit { socket, to, contents } in self.forwarder.out.transmits.drain(..) {
            let socket = self.driver.sockets().get(socket);
            // What cannot be sent is like what is lost on its way.
            let _ = socket.map(|socket| socket.send_to(&contents, to));
        }
    }

    fn serve(&mut self) -> Result<(), DriverError> {
        loop {
            self.wait()?;
            let now = Instant::now();
            self.loop_meter.woke(now);
            // Before the datagrams: what a client sends after our answer is to find the claim that left before the answer did.
            self.signals(now);
            self.reap(now);
            self.newcomers(now);
            self.mailbox(now);
            self.mesh_in(now);
            self.forwarder.handle_timeout(now, TIMERS_PER_TURN);
            // Before the fan-out, which may take long: other workers' viewers wait too, and clients for their STUN and DTLS.
            self.hand_to_mesh();
            self.hand_to_driver();
            self.forwarder.fan_out(now, &mut DriverTrains(&mut self.driver));
            self.hand_over()?;
            if self.forwarder.is_shut_down() && self.forwarder.out.events.is_empty() {
                return Ok(());
            }
        }
    }

    fn wait(&mut self) -> Result<(), DriverError> {
        let now = Instant::now();
        self.loop_meter.sleeps(now);
        let inbox = &self.mesh.inboxes[usize::from(self.index.0)];
        let left_over = !inbox.is_empty() || !self.mailbox.is_empty();
        let undelivered = !self.forwarder.out.events.is_empty() || !self.forwarder.out.signals.is_empty();
        let timers = self.forwarder.deadline().map(|at| at.saturating_duration_since(now));
        let timeout = match (left_over, undelivered) {
            (true, _) => Some(Duration::ZERO),
            (false, true) => Some(timers.map_or(RETRY, |timers| timers.min(RETRY))),
            (false, false) => timers,
        };
        self.driver.wait(timeout)
    }

    fn reap(&mut self, now: Instant) {
        let forwarder = &mut self.forwarder;
        self.driver.reap(|datagram| {
            let socket = usize::from(datagram.socket.get());
            forwarder.handle_datagram(now, socket, datagram.from, datagram.payload);
        });
        while let Some((socket, from)) = self.driver.next_ended() {
            self.forwarder.disconnected(now, usize::from(socket.get()), from);
        }
    }

    fn newcomers(&mut self, now: Instant) {
        let mesh = Arc::clone(&self.mesh);
        let inbox = &mesh.inboxes[usize::from(self.index.0)];
        for _ in 0..NEWCOMERS_PER_TURN {
            let Some(newcomer) = inbox.newcomers.pop() else { return };
            self.newcomer(now, newcomer);
        }
    }

    /// A TCP connection: it is kept if its first datagram is a request with good integrity, else closed by its drop.
    fn newcomer(&mut self, now: Instant, newcomer: Newcomer) {
        let Newcomer { listener, stream, peer, bytes } = newcomer;
        let forwarder = &mut self.forwarder;
        let socket = self.driver.sockets().len() + usize::from(listener);
        let Ok(Some((first, end))) = framing::first(&bytes) else { return };
        if !forwarder.connected(now, socket, peer, first) {
            self.refused_newcomers += 1;
            return;
        }
        let index = SocketIndex::new(socket as u16);
        let adopted = self.driver.adopt(stream, index, peer, &bytes[end..], |datagram| {
            forwarder.handle_datagram(now, socket, peer, datagram.payload);
        });
        if adopted.is_err() {
            forwarder.disconnected(now, socket, peer);
        }
    }

    fn mailbox(&mut self, now: Instant) {
        for _ in 0..COMMANDS_PER_TURN {
            match self.mailbox.pop() {
                Some(Command::Create { request, plan }) => self.forwarder.create(now, request, plan),
                Some(Command::Delete(session)) => self.forwarder.delete(now, session),
                Some(Command::RestartIce { request, session, remote }) => {
                    self.forwarder.restart_ice(request, session, remote);
                }
                Some(Command::SelectLayer(session, wish)) => {
                    self.forwarder.select_layer(now, session, wish);
                }
                Some(Command::Stats) => self.report(),
                Some(Command::ShutDown) => self.forwarder.shut_down(now),
                None => return,
            }
        }
    }

    fn report(&mut self) {
        let driver = self.driver.counters();
        let mut snapshot = self.forwarder.snapshot();
        let mut add = |reason: DropReason, count| snapshot.dropped[reason as usize] += count;
        add(DropReason::SendFailed, driver.send_failed);
        add(DropReason::SendQueueFull, driver.send_queue_full);
        add(DropReason::ReceiveBuffersExhausted, driver.receive_buffers_exhausted);
        add(DropReason::SocketBufferFull, self.driver.dropped_by_kernel());
        add(DropReason::NotMedia, driver.receive_malformed);
        add(DropReason::TcpQueueFull, driver.stream_dropped);
        snapshot.tcp_connections = driver.connections;
        snapshot.tcp_ended = driver.connections_ended;
        snapshot.tcp_ended[StreamEnd::Rejected as usize] += self.refused_newcomers;
        snapshot.egress_trains_refused = driver.trains_refused;
        snapshot.train_packets = train_packets(&driver.train_datagrams);
        self.loop_meter.fill(&mut snapshot);
        // A full channel means that the control thread has not read for 16,384 events; it will ask again.
        let _ = self.events.try_send((self.index, FromWorker::Stats(Box::new(snapshot))));
    }

    fn signals(&mut self, now: Instant) {
        let inbox = &self.mesh.inboxes[usize::from(self.index.0)];
        for _ in 0..SIGNALS_PER_TURN {
            let Some((from, signal)) = inbox.signals.pop() else { return };
            self.forwarder.handle_signal(now, from, signal);
        }
    }

    fn mesh_in(&mut self, now: Instant) {
        let inbox = &self.mesh.inboxes[usize::from(self.index.0)];
        for _ in 0..HANDOVERS_PER_TURN {
            let Some(handover) = inbox.handovers.pop() else { break };
            self.forwarder.handle_from(now, handover.origin, handover.datagram());
        }
        for _ in 0..PACKETS_PER_TURN {
            let Some(packet) = inbox.packets.pop() else { break };
            self.forwarder.handle_packet(packet.to_packet(), packet.is_earlier);
        }
    }

    /// Gives everything that this turn produced to the kernel, the other workers and the control thread.
    fn hand_over(&mut self) -> Result<(), DriverError> {
        self.hand_to_mesh();
        self.hand_to_control();
        self.hand_to_driver();
        // No system call if nothing is queued.
        self.driver.wait(Some(Duration::ZERO))?;
        if self.forwarder.forwarded.is_empty() {
            return Ok(());
        }
        let sent = Instant::now();
        for received in self.forwarder.forwarded.drain(..) {
            self.forwarder.meters.forward_latency.observe(sent.saturating_duration_since(received));
        }
        Ok(())
    }

    fn hand_to_driver(&mut self) {
        for transmit in self.forwarder.out.transmits.drain(..) {
            let socket = SocketIndex::new(transmit.socket as u16);
            // A datagram that found no slot is counted by the driver.
            let _ = self.driver.send(socket, transmit.to, transmit.contents);
        }
        for (socket, to) in self.forwarder.out.closes.drain(..) {
            self.driver.close(SocketIndex::new(socket as u16), to);
        }
    }

    fn hand_to_mesh(&mut self) {
        let (mesh, out) = (&self.mesh, &mut self.forwarder.out);
        let mut wake = WorkerSet::default();
        for Crossing { to, packet, is_earlier } in out.packets.drain(..) {
            let Some(copy) = MeshPacket::copy_of(&packet, is_earlier) else {
                self.forwarder.meters.dropped(DropReason::Oversize, 1);
                continue;
            };
            for worker in to.iter() {
                match mesh.inboxes[usize::from(worker.0)].packets.push(copy) {
                    Ok(()) => wake.insert(worker),
                    Err(_) => self.forwarder.meters.counters.mesh_dropped_packets += 1,
                }
            }
        }
        for (worker, handover) in out.handovers.drain(..) {
            if mesh.inboxes[usize::from(worker.0)].hand_over(handover) {
                self.forwarder.meters.counters.handed_over += 1;
                wake.insert(worker);
            } else {
                self.forwarder.meters.dropped(DropReason::HandoverFull, 1);
            }
        }
        let mut full = WorkerSet::default();
        for _ in 0..out.signals.len() {
            let Some((worker, signal)) = out.signals.pop_front() else { break };
            // In order for each worker, whatever becomes of the others'.
            let unsent = match full.contains(worker) {
                true => Err((self.index, signal)),
                false => mesh.inboxes[usize::from(worker.0)].signals.push((self.index, signal)),
            };
            match unsent {
                Ok(()) => wake.insert(worker),
                Err((_, signal)) => {
                    full.insert(worker);
                    out.signals.push_back((worker, signal));
                }
            }
        }
        wake.iter().for_each(|worker| mesh.wakers[usize::from(worker.0)].wake());
    }

    fn hand_to_control(&mut self) {
        while let Some(event) = self.forwarder.out.events.front() {
            if self.events.try_send((self.index, FromWorker::Session(event.clone()))).is_err() {
                break;
            }
            self.forwarder.out.events.pop_front();
        }
    }
}

/// The way of trains to the kernel.
struct DriverTrains<'a>(&'a mut Driver);

impl Trains for DriverTrains<'_> {
    fn limits(&self) -> TrainLimits {
        self.0.train_limits()
    }

    fn buffer(&mut self) -> Vec<u8> {
        self.0.buffer()
    }

    fn send(&mut self, socket: usize, to: SocketAddr, segment: usize, datagrams: Vec<u8>) {
        // What found no slot is counted by the driver.
        if let Err(buffer) = self.0.send_train(SocketIndex::new(socket as u16), to, segment, datagrams) {
            self.0.give_back(buffer);
        }
    }

    fn room(&self, socket: usize, to: SocketAddr) -> usize {
        self.0.room(SocketIndex::new(socket as u16), to)
    }
}

/// The driver has no bucket beyond the longest train that the kernel takes.
fn train_packets(sizes: &TrainSizes) -> HistogramSnapshot {
    HistogramSnapshot {
        bounds: TRAIN_PACKETS_BOUNDS.into(),
        counts: sizes.counts.into_iter().chain([0]).collect(),
        sum: sizes.sum as f64,
    }
}

const _: () = assert!(TRAIN_PACKETS_BOUNDS.len() == TrainSizes::BOUNDS.len());

/// How much of its time the loop spends outside the wait, and how long its turns are.
#[derive(Debug)]
struct LoopMeter {
    turns: Histogram,
    started: Instant,
    woke: Instant,
    busy: Duration,
    period_start: Instant,
    period_busy: Duration,
    ratio: f64,
}

impl LoopMeter {
    fn new(now: Instant) -> LoopMeter {
        LoopMeter {
            turns: Histogram::new(LOOP_SECONDS_BOUNDS),
            started: now,
            woke: now,
            busy: Duration::ZERO,
            period_start: now,
            period_busy: Duration::ZERO,
            ratio: 0.0,
        }
    }

    fn woke(&mut self, now: Instant) {
        self.woke = now;
    }

    fn sleeps(&mut self, now: Instant) {
        let busy = now.saturating_duration_since(self.woke);
        self.turns.observe(busy);
        self.busy += busy;
        self.period_busy += busy;
        self.close_period(now);
    }

    fn close_period(&mut self, now: Instant) {
        let period = now.saturating_duration_since(self.period_start);
        if period >= BUSY_PERIOD {
            self.ratio = self.period_busy.as_secs_f64() / period.as_secs_f64();
            (self.period_start, self.period_busy) = (now, Duration::ZERO);
        }
    }

    fn fill(&mut self, snapshot: &mut WorkerSnapshot) {
        let now = Instant::now();
        self.close_period(now);
        snapshot.busy_ns = self.busy.as_nanos() as u64;
        snapshot.elapsed_ns = now.saturating_duration_since(self.started).as_nanos() as u64;
        snapshot.busy_ratio = self.ratio;
        snapshot.loop_seconds = self.turns.snapshot();
    }
}
