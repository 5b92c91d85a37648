//! A worker on real sockets whose loop fails.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod plans;
mod world;

use crossbeam::queue::SegQueue;
use plans::plan_h264;
use sfu::control::protocol::{RequestId, WorkerIndex};
use sfu::core::forwarder::Forwarder;
use sfu::core::identity::Identity;
use sfu::core::ntp::NtpClock;
use sfu::core::outbox::SessionEvent;
use sfu::core::plan::{Epoch, Role};
use sfu::driver::{Driver, DriverConfig, Waker, open_sockets};
use sfu::mesh::{Inbox, WorkerSet};
use sfu::worker::{Command, FromWorker, Mesh, Worker};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;
use world::Client;

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PATIENCE: Duration = Duration::from_secs(10);

/// A worker, and what the control thread has of it.
struct Stage {
    identity: Identity,
    server: SocketAddr,
    mesh: Arc<Mesh>,
    mailbox: Arc<SegQueue<Command>>,
    events: mpsc::Receiver<(WorkerIndex, FromWorker)>,
    /// Its source of randomness panics from now on, outside of any session.
    fails: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Stage {
    fn open() -> Stage {
        let identity = Identity::generate().unwrap();
        let sockets = open_sockets(&[HOST], 0).unwrap();
        let server = sockets[0].local_addr().unwrap();
        let mesh = Arc::new(Mesh { inboxes: vec![Inbox::new()], wakers: vec![Waker::new().unwrap()] });
        let mailbox = Arc::new(SegQueue::new());
        let (to_control, events) = mpsc::channel(64);
        let fails = Arc::new(AtomicBool::new(false));
        let theirs =
            (identity.clone(), Arc::clone(&mesh), Arc::clone(&mailbox), to_control, Arc::clone(&fails));
        let thread = thread::spawn(move || {
            let (identity, mesh, mailbox, events, fails) = theirs;
            let driver = Driver::new(sockets, &mesh.wakers[0], DriverConfig::default()).unwrap();
            let random = Box::new(move |bytes: &mut [u8]| {
                assert!(!fails.load(Ordering::SeqCst), "the fault of this test");
                getrandom::fill(bytes).unwrap();
            });
            let clock = NtpClock::new(Instant::now(), SystemTime::now());
            let index = WorkerIndex(0);
            let forwarder = Forwarder::new(index, WorkerSet::default(), identity, random, clock);
            Worker::new(index, forwarder, driver, mesh, mailbox, events).run().unwrap();
        });
        Stage { identity, server, mesh, mailbox, events, fails, thread }
    }

    fn command(&self, command: Command) {
        self.mailbox.push(command);
        self.mesh.wakers[0].wake();
    }

    fn event(&mut self) -> Option<SessionEvent> {
        match self.events.try_recv() {
            Ok((_, FromWorker::Session(event))) => Some(event),
            _ => None,
        }
    }
}

/// Lets the client and the worker talk until something is so.
fn talk(client: &mut Client, socket: &UdpSocket, server: SocketAddr, mut until: impl FnMut(&Client) -> bool) {
    let started = Instant::now();
    let mut buffer = [0; 2048];
    while !until(client) {
        assert!(started.elapsed() < PATIENCE, "it never came");
        client.advance(Instant::now());
        for (_, datagram) in client.take_outgoing() {
            socket.send_to(&datagram, server).unwrap();
        }
        while let Ok((bytes, _)) = socket.recv_from(&mut buffer) {
            client.receive(Instant::now(), socket.local_addr().unwrap(), &buffer[..bytes]);
        }
    }
}

#[test]
fn clients_of_a_worker_that_fails_are_told_goodbye() {
    let mut stage = Stage::open();
    let socket = UdpSocket::bind((HOST, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
    let mut plan = plan_h264(Role::Viewer, Epoch(0));
    let servers = [stage.server, "[::1]:9".parse().unwrap()];
    let mut client = Client::new(Instant::now(), socket.local_addr().unwrap(), servers, &plan, None);
    plan.remote = client.transport();
    stage.command(Command::Create { request: RequestId(1), plan: plan.clone() });
    let started = Instant::now();
    let created = loop {
        assert!(started.elapsed() < PATIENCE);
        if let Some(SessionEvent::Created { result, .. }) = stage.event() {
            break result.unwrap();
        }
        thread::sleep(Duration::from_millis(1));
    };
    client.connect(Role::Viewer, true, &created.ice_ufrag, &created.ice_pwd, stage.identity.fingerprint);
    let server = stage.server;
    talk(&mut client, &socket, server, |_| matches!(stage.event(), Some(SessionEvent::Connected(_))));
    assert!(client.is_alive());
    stage.fails.store(true, Ordering::SeqCst);
    stage.command(Command::Create { request: RequestId(2), plan });
    talk(&mut client, &socket, server, |client| !client.is_alive());
    assert!(stage.thread.join().is_err(), "the fault is not hidden");
}
