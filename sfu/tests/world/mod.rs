//! A world of workers and clients with virtual time. Clients are str0m in the other role, behind perfect or lossy links.
//!
//! Here: how they meet, and how time passes. `client.rs`: one client. `done.rs`: what tests do to the world. `seen.rs`: what they see of it.

#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]

mod client;
mod done;
mod seen;

pub use client::{Client, Credentials};

use sfu::control::protocol::{RequestId, SessionId, WorkerIndex};
use sfu::core::demux::DatagramKind;
use sfu::core::egress::{TrainLimits, Trains};
use sfu::core::forwarder::Forwarder;
use sfu::core::identity::Identity;
use sfu::core::layers::LayerIndex;
use sfu::core::ntp::NtpClock;
use sfu::core::outbox::{Crossing, SessionEvent, Transmit};
use sfu::core::plan::{DtlsRole, RemoteTransport, SessionPlan};
use sfu::core::stun::{Class, Message};
use sfu::mesh::{MeshPacket, WorkerSet};
use std::collections::HashMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::plans::PT;

const STEP: Duration = Duration::from_millis(5);
/// Workers have a UDP socket of each family; that of TCP comes after them.
const TCP: usize = 2;

/// A client's place in the world.
#[derive(Clone, Copy)]
pub struct ClientIndex(usize);

struct Seat {
    client: Client,
    worker: usize,
    session: SessionId,
    ufrag: String,
    password: String,
    muted: bool,
    stun_muted: bool,
    heard: Instant,
    last_to: SocketAddr,
    lose_from: bool,
    lose_to: bool,
    /// The DTLS datagrams that are lost, counted from the first between the two in either direction.
    lost_dtls: Range<u32>,
    dtls: u32,
    wire: Vec<Vec<u8>>,
    last_rtcp: Vec<u8>,
    client_hello: Vec<u8>,
}

/// Workers, clients and the network between them.
pub struct World {
    now: Instant,
    workers: Vec<Forwarder>,
    seats: Vec<Seat>,
    /// Bytes that the way to a client takes in a turn; other ways take any number.
    rooms: HashMap<SocketAddr, usize>,
    events: Vec<SessionEvent>,
    to_stranger: Vec<Transmit>,
    checks_lost: bool,
    sent_to: HashMap<SocketAddr, usize>,
    lost: u32,
    signals_held: bool,
    crossed: Vec<(usize, LayerIndex)>,
    /// All workers have one port, and the kernel gives a client's datagrams to the worker that its port's number says.
    shares_port: bool,
    handed_over: usize,
    identity: Identity,
}

impl World {
    /// Workers without sessions.
    pub fn new(count: u16) -> World {
        World::build(count, false)
    }

    /// The same behind one UDP port.
    pub fn behind_one_port(count: u16) -> World {
        World::build(count, true)
    }

    fn build(count: u16, shares_port: bool) -> World {
        let identity = Identity::generate().unwrap();
        let now = Instant::now();
        World {
            now,
            workers: (0..count).map(|index| new_worker(now, &identity, index, count, shares_port)).collect(),
            seats: vec![],
            rooms: HashMap::new(),
            events: vec![],
            to_stranger: vec![],
            checks_lost: false,
            sent_to: HashMap::new(),
            lost: 0,
            signals_held: false,
            crossed: vec![],
            shares_port,
            handed_over: 0,
            identity,
        }
    }

    /// Creates a session on a worker and a client that connects to it.
    pub fn join(&mut self, worker: usize, plan: SessionPlan) -> ClientIndex {
        let address = SocketAddr::from(([10, 0, 0, 1], 5_000 + self.seats.len() as u16));
        self.join_from(worker, plan, address)
    }

    /// The same for a client whose UDP is blocked.
    pub fn join_tcp(&mut self, worker: usize, plan: SessionPlan) -> ClientIndex {
        let address = SocketAddr::from(([10, 0, 1, 1], 5_000 + self.seats.len() as u16));
        self.join_from(worker, plan, address)
    }

    /// The same for a client at this address.
    pub fn join_from(&mut self, worker: usize, plan: SessionPlan, address: SocketAddr) -> ClientIndex {
        self.join_as(worker, plan, address, None)
    }

    /// The same for a client with a certificate of its own. Of the plan's transport the DTLS role and the kind of certificate
    /// count.
    pub fn join_with(
        &mut self,
        worker: usize,
        plan: SessionPlan,
        credentials: Option<Credentials>,
    ) -> ClientIndex {
        let address = SocketAddr::from(([10, 0, 0, 1], 5_000 + self.seats.len() as u16));
        self.join_as(worker, plan, address, credentials)
    }

    fn join_as(
        &mut self,
        worker: usize,
        mut plan: SessionPlan,
        address: SocketAddr,
        credentials: Option<Credentials>,
    ) -> ClientIndex {
        let index = self.seats.len();
        let mut client = Client::new(self.now, address, self.server_addresses(worker), &plan, credentials);
        let (dtls_role, certificate) = (plan.remote.dtls_role, plan.remote.certificate);
        plan.remote = RemoteTransport { dtls_role, certificate, ..client.transport() };
        let role = plan.role;
        self.workers[worker].create(self.now, RequestId(index as u64), plan);
        let created = match self.workers[worker].out.events.pop_front() {
            Some(SessionEvent::Created { result: Ok(created), .. }) => created,
            other => panic!("not created: {other:?}"),
        };
        let active = dtls_role == DtlsRole::Passive;
        client.connect(role, active, &created.ice_ufrag, &created.ice_pwd, self.identity.fingerprint);
        self.seats.push(Seat {
            client,
            worker,
            session: created.session,
            ufrag: created.ice_ufrag,
            password: created.ice_pwd,
            muted: false,
            stun_muted: false,
            heard: self.now,
            last_to: address,
            lose_from: false,
            lose_to: false,
            lost_dtls: 0..0,
            dtls: 0,
            wire: vec![],
            last_rtcp: vec![],
            client_hello: vec![],
        });
        ClientIndex(index)
    }

    /// A worker's sockets: IPv4, IPv6.
    fn server_addresses(&self, worker: usize) -> [SocketAddr; 2] {
        let port = 8_200 + if self.shares_port { 0 } else { worker as u16 };
        [
            SocketAddr::from(([10, 0, 0, 2], port)),
            SocketAddr::from((Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2), port)),
        ]
    }

    /// Lets virtual time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            // Twice, so that what is answered at once arrives at once.
            for _ in 0..2 {
                self.clients_to_workers();
                self.turn();
                self.mesh();
                self.turn();
                self.workers_to_clients();
            }
            self.now += STEP;
            self.seats.iter_mut().filter(|seat| !seat.muted).for_each(|seat| seat.client.advance(self.now));
        }
    }

    fn clients_to_workers(&mut self) {
        for seat in &mut self.seats {
            for (from, datagram) in seat.client.outgoing.drain(..) {
                let media = is_media(&datagram);
                if DatagramKind::of(&datagram) == Some(DatagramKind::Rtcp) {
                    seat.last_rtcp.clone_from(&datagram);
                }
                if seat.client_hello.is_empty() && DatagramKind::of(&datagram) == Some(DatagramKind::Dtls) {
                    seat.client_hello.clone_from(&datagram);
                }
                if media && std::mem::take(&mut seat.lose_from)
                    || loses_dtls(&mut seat.dtls, &seat.lost_dtls, &datagram)
                {
                    self.lost += 1;
                } else if !(seat.muted || seat.stun_muted && is_stun(&datagram)) {
                    seat.heard = self.now;
                    let count = self.shares_port.then_some(self.workers.len());
                    let worker = &mut self.workers[landing(count, seat.worker, from)];
                    worker.handle_datagram(self.now, socket_of(from), from, &datagram);
                }
            }
        }
    }

    fn turn(&mut self) {
        for worker in &mut self.workers {
            worker.handle_timeout(self.now, usize::MAX);
            let mut ways = Ways { transmits: vec![], rooms: std::mem::take(&mut self.rooms) };
            worker.fan_out(self.now, &mut ways);
            self.rooms = ways.rooms;
            worker.out.transmits.extend(ways.transmits);
            self.events.extend(worker.out.events.drain(..));
        }
    }

    fn mesh(&mut self) {
        // First, because what these claim must be known before the client is answered, as in a worker's turn.
        self.hand_over();
        for from in 0..self.workers.len() {
            let packets: Vec<_> = self.workers[from].out.packets.drain(..).collect();
            for Crossing { to, packet, is_earlier } in packets {
                let copy = MeshPacket::copy_of(&packet, is_earlier).unwrap();
                for to in to.iter() {
                    self.crossed.push((usize::from(to.0), packet.header.source.layer));
                    self.workers[usize::from(to.0)].handle_packet(copy.to_packet(), copy.is_earlier);
                }
            }
            if self.signals_held {
                continue;
            }
            let signals: Vec<_> = self.workers[from].out.signals.drain(..).collect();
            for (to, signal) in signals {
                let from = WorkerIndex(from as u16);
                self.workers[usize::from(to.0)].handle_signal(self.now, from, signal);
            }
        }
    }

    fn hand_over(&mut self) {
        for from in 0..self.workers.len() {
            let handovers: Vec<_> = self.workers[from].out.handovers.drain(..).collect();
            for (to, handover) in handovers {
                self.handed_over += 1;
                let worker = &mut self.workers[usize::from(to.0)];
                worker.handle_from(self.now, handover.origin, handover.datagram());
            }
        }
    }

    fn workers_to_clients(&mut self) {
        for worker in &mut self.workers {
            for transmit in worker.out.transmits.drain(..) {
                assert_eq!(transmit.socket, socket_of(transmit.to), "it leaves by the socket it came in on");
                *self.sent_to.entry(transmit.to).or_default() += 1;
                let is_there = |seat: &Seat| seat.client.addresses.contains(&transmit.to);
                // Of two at one address, the later one has it.
                let seat = self.seats.iter_mut().rev().find(|seat| is_there(seat));
                let Some(seat) = seat else {
                    self.to_stranger.push(transmit);
                    continue;
                };
                if DatagramKind::of(&transmit.contents) == Some(DatagramKind::Rtp) {
                    seat.wire.push(transmit.contents.clone());
                    seat.last_to = transmit.to;
                }
                if is_media(&transmit.contents) && std::mem::take(&mut seat.lose_to)
                    || loses_dtls(&mut seat.dtls, &seat.lost_dtls, &transmit.contents)
                {
                    self.lost += 1;
                    continue;
                }
                let lost = self.checks_lost && is_check(&transmit.contents);
                if !(seat.muted || lost) {
                    seat.client.receive(self.now, transmit.to, &transmit.contents);
                }
            }
        }
    }
}

fn new_worker(now: Instant, identity: &Identity, index: u16, count: u16, shares_port: bool) -> Forwarder {
    let mut others = WorkerSet::default();
    (0..count).filter(|other| *other != index).for_each(|other| others.insert(WorkerIndex(other)));
    let mut state = u64::from(index) + 1;
    let random = move |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 56) as u8;
        }
    };
    let clock = NtpClock::new(now, UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let mut worker = Forwarder::new(WorkerIndex(index), others, identity.clone(), Box::new(random), clock);
    if shares_port {
        worker.share_port(TCP);
    }
    worker
}

/// The worker that the kernel gives a client's datagrams to: that of its session, or any of so many.
fn landing(shared_by: Option<usize>, own: usize, from: SocketAddr) -> usize {
    match shared_by.filter(|_| !is_behind_tcp(from)) {
        Some(workers) => usize::from(from.port()) % workers,
        None => own,
    }
}

/// The socket that an address can reach.
fn socket_of(address: SocketAddr) -> usize {
    if is_behind_tcp(address) { TCP } else { usize::from(address.is_ipv6()) }
}

/// Clients whose UDP is blocked are on a network of their own.
fn is_behind_tcp(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V4(v4) if v4.ip().octets()[2] == 1)
}

/// Takes trains apart, and has room where the clients have.
struct Ways {
    transmits: Vec<Transmit>,
    rooms: HashMap<SocketAddr, usize>,
}

impl Trains for Ways {
    fn limits(&self) -> TrainLimits {
        self.transmits.limits()
    }

    fn buffer(&mut self) -> Vec<u8> {
        self.transmits.buffer()
    }

    fn send(&mut self, socket: usize, to: SocketAddr, segment: usize, datagrams: Vec<u8>) {
        self.transmits.send(socket, to, segment, datagrams);
    }

    fn room(&self, _socket: usize, to: SocketAddr) -> usize {
        let of_protocol = usize::MAX - usize::from(is_behind_tcp(to));
        self.rooms.get(&to).copied().unwrap_or(of_protocol)
    }
}

fn is_stun(datagram: &[u8]) -> bool {
    DatagramKind::of(datagram) == Some(DatagramKind::Stun)
}

fn is_check(datagram: &[u8]) -> bool {
    Message::parse(datagram).is_some_and(|message| message.class == Class::Request)
}

fn is_media(datagram: &[u8]) -> bool {
    datagram.len() > 12 && (128..192).contains(&datagram[0]) && datagram[1] & 0x7f == PT
}

/// Counts a DTLS datagram; whether it is one of those that are lost.
fn loses_dtls(count: &mut u32, lost: &Range<u32>, datagram: &[u8]) -> bool {
    let is_dtls = DatagramKind::of(datagram) == Some(DatagramKind::Dtls);
    *count += u32::from(is_dtls);
    is_dtls && lost.contains(&(*count - 1))
}
