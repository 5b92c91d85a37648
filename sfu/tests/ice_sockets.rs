//! A media process and clients on real sockets of both address families.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod media;
mod plans;
mod world;

use media::{PATIENCE, Signaling, config, start_with};
use plans::plan_h264;
use sfu::config::MediaConfig;
use sfu::control::protocol::{Hello, IceCredentials, Request, SessionId};
use sfu::core::plan::{Epoch, Role};
use sfu::stats::DropReason;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use world::Client;

const IDR: &[u8] = &[0x65, 0x88, 0x84, 0x00];

/// A client with sockets.
struct Wired {
    client: Client,
    sockets: Vec<UdpSocket>,
    servers: Vec<SocketAddr>,
    session: SessionId,
    /// At which of its sockets the last datagram came.
    heard_at: usize,
}

impl Wired {
    fn join(host: IpAddr, role: Role, signaling: &mut Signaling, hello: &Hello, worker: u16) -> Wired {
        let servers = &hello.workers[usize::from(worker)].addresses;
        let socket = bind(host);
        let mut plan = plan_h264(role, Epoch(u64::from(role == Role::Publisher)));
        let both = [servers[0], servers[servers.len() - 1]];
        let mut client = Client::new(Instant::now(), socket.local_addr().unwrap(), both, &plan, None);
        plan.remote = client.transport();
        let created = signaling.create_session(worker, plan).unwrap();
        client.connect(role, true, &created.ice_ufrag, &created.ice_pwd, hello.fingerprint);
        let (sockets, servers) = (vec![socket], servers.to_vec());
        Wired { client, sockets, servers, session: created.session, heard_at: 0 }
    }

    fn turn(&mut self) {
        self.client.advance(Instant::now());
        for (from, datagram) in self.client.take_outgoing() {
            let is_here = |socket: &&UdpSocket| socket.local_addr().unwrap() == from;
            let server = self.servers.iter().find(|server| server.is_ipv4() == from.is_ipv4()).unwrap();
            self.sockets.iter().find(is_here).unwrap().send_to(&datagram, server).unwrap();
        }
        let mut buffer = [0; 2048];
        for (at, socket) in self.sockets.iter().enumerate() {
            while let Ok((bytes, _)) = socket.recv_from(&mut buffer) {
                self.heard_at = at;
                self.client.receive(Instant::now(), socket.local_addr().unwrap(), &buffer[..bytes]);
            }
        }
    }

    fn move_to(&mut self, host: IpAddr) {
        let socket = bind(host);
        self.client.move_to(socket.local_addr().unwrap());
        self.sockets.push(socket);
    }
}

fn bind(host: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((host, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
    socket
}

/// Publishes until the viewer has been sent what `is_done` waits for.
fn play(publisher: &mut Wired, viewer: &mut Wired, frame: &mut u64, is_done: impl Fn(&Wired, usize) -> bool) {
    let started = Instant::now();
    let before = viewer.client.received().len();
    while !is_done(viewer, viewer.client.received().len() - before) {
        assert!(started.elapsed() < PATIENCE, "no picture");
        publisher.client.send_video(*frame, IDR);
        *frame += 1;
        publisher.turn();
        viewer.turn();
    }
}

/// Publishes and watches over one address family, moves to the other one with an ICE restart, and leaves.
fn show(name: &str, host: IpAddr, other: IpAddr) {
    let hosts = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let media = start_with(MediaConfig { bind: hosts, ..config(name) });
    let (mut signaling, hello) = Signaling::connect(&media.control);
    let mut publisher = Wired::join(host, Role::Publisher, &mut signaling, &hello, 0);
    let mut viewer = Wired::join(host, Role::Viewer, &mut signaling, &hello, 0);
    let mut frame = 0;
    play(&mut publisher, &mut viewer, &mut frame, |_, received| received >= 10);
    let local = IceCredentials { ufrag: "fresh".into(), pwd: "0123456789012345678901".into() };
    let remote = signaling.restart_ice(viewer.session, &local, b"new").unwrap().local;
    viewer.move_to(other);
    viewer.client.restart_ice(&local, &remote);
    play(&mut publisher, &mut viewer, &mut frame, |viewer, received| viewer.heard_at == 1 && received >= 50);
    drop(signaling);
    let (mut next, hello) = Signaling::connect(&media.control);
    let known = hello.sessions.iter().find(|known| known.session == viewer.session).unwrap();
    assert_eq!(known.plan.blob, b"new");
    assert_eq!(known.plan.remote.ice_ufrag, local.ufrag);
    next.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
}

#[test]
fn a_show_over_ipv4_goes_on_over_ipv6_after_a_restart() {
    show("ipv4", Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
}

#[test]
fn a_show_over_ipv6_goes_on_over_ipv4_after_a_restart() {
    show("ipv6", Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into());
}

/// The kernel chooses the worker by the client's port: of twelve viewers all would find their own by chance once in 4,000 runs.
#[test]
fn clients_of_every_worker_are_served_behind_one_port() {
    let media = start_with(MediaConfig { udp_mux: true, ..config("one-port-sockets") });
    let (mut signaling, hello) = Signaling::connect(&media.control);
    let host = IpAddr::from(Ipv4Addr::LOCALHOST);
    let workers = hello.workers.len() as u16;
    let mut publisher = Wired::join(host, Role::Publisher, &mut signaling, &hello, workers - 1);
    let mut frame = 0;
    for number in 0..12 {
        let mut viewer = Wired::join(host, Role::Viewer, &mut signaling, &hello, number % workers);
        play(&mut publisher, &mut viewer, &mut frame, |_, received| received >= 10);
    }
    let dropped: u64 =
        signaling.stats().iter().map(|at| at.dropped[DropReason::UnknownAddress as usize]).sum();
    assert_eq!(dropped, 0, "what came after an answer found the claim that left before it");
    signaling.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
}
