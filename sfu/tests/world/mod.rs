//! A world of workers and clients with virtual time. Clients are str0m in the other role, behind perfect or lossy links.

#![allow(dead_code, reason = "each test binary uses its part")]

use crate::plans::{MID_ID, PT, RTX_PT};
use sfu::control::protocol::{RequestId, SessionId, WorkerIndex};
use sfu::core::demux::DatagramKind;
use sfu::core::egress::{TrainLimits, Trains};
use sfu::core::forwarder::Forwarder;
use sfu::core::identity::Identity;
use sfu::core::ntp::NtpClock;
use sfu::core::outbox::{Crossing, SessionEvent, Transmit};
use sfu::core::plan::{DtlsRole, RemoteTransport, Role, SessionPlan};
use sfu::mesh::{MeshPacket, WorkerSet};
use sfu::stats::{DropReason, WorkerSnapshot};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, UNIX_EPOCH};
use str0m::config::Fingerprint;
use str0m::format::{Codec as Str0mCodec, FormatParams};
use str0m::ice::{IceCreds, StunMessageBuilder, TransId};
use str0m::media::{Frequency, MediaKind as Str0mKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{Extension as Str0mExtension, ExtensionMap, RtpPacket, RtpWrite};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

const STEP: Duration = Duration::from_millis(5);
/// Workers have one UDP socket; that of TCP comes after it.
const UDP: usize = 0;
const TCP: usize = 1;

/// A browser's part, played by str0m.
pub struct Client {
    rtc: Rtc,
    protocol: Protocol,
    local_ufrag: String,
    address: SocketAddr,
    server: SocketAddr,
    now: Instant,
    outgoing: Vec<Vec<u8>>,
    received: Vec<RtpPacket>,
    keyframe_requests: u32,
    rtx: bool,
}

impl Client {
    fn new(now: Instant, protocol: Protocol, address: SocketAddr, server: SocketAddr, rtx: bool) -> Client {
        let mut extensions = ExtensionMap::empty();
        extensions.set(MID_ID, Str0mExtension::RtpMid);
        let mut config = RtcConfig::new().set_rtp_mode(true).clear_codecs().set_extension_map(extensions);
        config.codec_config().add_config(
            PT.into(),
            rtx.then(|| RTX_PT.into()),
            Str0mCodec::H264,
            Frequency::NINETY_KHZ,
            None,
            FormatParams::default(),
        );
        let mut rtc = config.build(now);
        rtc.add_local_candidate(Candidate::host(address, protocol).unwrap());
        rtc.add_remote_candidate(Candidate::host(server, protocol).unwrap());
        rtc.direct_api().set_ice_controlling(true);
        let local_ufrag = rtc.direct_api().local_ice_credentials().ufrag;
        Client {
            rtc,
            protocol,
            local_ufrag,
            address,
            server,
            now,
            outgoing: vec![],
            received: vec![],
            keyframe_requests: 0,
            rtx,
        }
    }

    fn transport(&mut self) -> RemoteTransport {
        let api = self.rtc.direct_api();
        let creds = api.local_ice_credentials();
        RemoteTransport {
            ice_ufrag: creds.ufrag,
            ice_pwd: creds.pass,
            fingerprint: api.local_dtls_fingerprint().bytes.clone().try_into().unwrap(),
            dtls_role: DtlsRole::Passive,
        }
    }

    fn connect(&mut self, role: Role, ufrag: &str, pwd: &str, fingerprint: [u8; 32]) {
        let mid = Mid::from("0");
        let mut api = self.rtc.direct_api();
        api.set_remote_ice_credentials(IceCreds { ufrag: ufrag.into(), pass: pwd.into() });
        api.set_remote_fingerprint(Fingerprint { hash_func: "sha-256".into(), bytes: fingerprint.into() });
        api.declare_media(mid, Str0mKind::Video);
        match role {
            Role::Publisher => {
                api.declare_stream_tx(1000.into(), Some(1001.into()), mid, None);
            }
            Role::Viewer => {
                let rtx = self.rtx.then(|| 1001.into());
                // str0m asks for nothing again without RTX, unless it is told to.
                api.expect_stream_rx(1000.into(), rtx, mid, None).suppress_nack(false);
            }
        }
        api.start_dtls(true).unwrap();
        self.advance(self.now);
    }

    /// Publishes a one-packet frame at 30 a second.
    pub fn send_video(&mut self, frame: u64, payload: &[u8]) {
        self.send_packet(20_000 + frame, frame as u32, payload);
    }

    /// Publishes one packet.
    pub fn send_packet(&mut self, sequence: u64, frame: u32, payload: &[u8]) {
        let now = self.now;
        let mut api = self.rtc.direct_api();
        let stream = api.stream_tx(&1000.into()).unwrap();
        let timestamp = frame.wrapping_mul(3_000);
        let write = RtpWrite::new(PT.into(), sequence.into(), timestamp, now, payload);
        stream.write_rtp(write.marker(true).nackable(true));
        self.advance(now);
    }

    /// Says goodbye with BYE and close_notify.
    pub fn close(&mut self) {
        self.rtc.close().unwrap();
        self.advance(self.now);
    }

    /// Media received so far, in order of arrival.
    pub fn received(&self) -> &[RtpPacket] {
        &self.received
    }

    /// PLIs heard since the last call.
    pub fn take_keyframe_requests(&mut self) -> u32 {
        std::mem::take(&mut self.keyframe_requests)
    }

    /// Whether DTLS has not been closed.
    pub fn is_alive(&self) -> bool {
        self.rtc.is_alive()
    }

    /// A STUN Binding request whose MESSAGE-INTEGRITY was made with a guess.
    pub fn forged_binding_request(username: &str) -> Vec<u8> {
        Client::binding_request(username, "guess")
    }

    fn binding_request(username: &str, password: &str) -> Vec<u8> {
        let message =
            StunMessageBuilder::new().binding().request().username(username).prio(1).ice_controlling(1);
        let provider = str0m_aws_lc_rs::default_provider().sha1_hmac_provider;
        let mut bytes = vec![0; 500];
        let built = message.build(TransId::new());
        let length = built
            .to_bytes(Some(password.as_bytes()), &mut bytes, |key, parts| provider.sha1_hmac(key, parts));
        bytes.truncate(length.unwrap());
        bytes
    }

    /// An RTP packet of the video's mid and payload type, made without the keys.
    pub fn forged_rtp(ssrc: u32) -> Vec<u8> {
        let mut packet = vec![0x90, PT, 0, 1, 0, 0, 0, 1];
        packet.extend(ssrc.to_be_bytes());
        packet.extend([0xbe, 0xde, 0, 1, MID_ID << 4, b'0', 0, 0]);
        packet.extend([0x41; 100]);
        packet
    }

    fn receive(&mut self, now: Instant, datagram: &[u8]) {
        let receive = Receive::new(self.protocol, self.server, self.address, datagram).unwrap();
        self.rtc.handle_input(Input::Receive(now, receive)).unwrap();
        self.drain();
    }

    fn advance(&mut self, now: Instant) {
        self.now = now;
        self.rtc.handle_input(Input::Timeout(now)).unwrap();
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Transmit(transmit) => self.outgoing.push(Vec::from(transmit.contents)),
                Output::Event(Event::RtpPacket(packet)) => self.received.push(packet),
                Output::Event(Event::KeyframeRequest(_)) => self.keyframe_requests += 1,
                Output::Event(_) => {}
                Output::Timeout(_) => return,
            }
        }
    }
}

/// A client's place in the world.
#[derive(Clone, Copy)]
pub struct ClientIndex(usize);

struct Seat {
    client: Client,
    worker: usize,
    socket: usize,
    /// Bytes that its way takes in a turn.
    room: usize,
    session: SessionId,
    ufrag: String,
    password: String,
    muted: bool,
    lose_from: bool,
    lose_to: bool,
    wire: Vec<Vec<u8>>,
    last_rtcp: Vec<u8>,
}

/// Workers, clients and the network between them.
pub struct World {
    now: Instant,
    workers: Vec<Forwarder>,
    seats: Vec<Seat>,
    events: Vec<SessionEvent>,
    to_stranger: Vec<Transmit>,
    lost: u32,
    signals_held: bool,
    fingerprint: [u8; 32],
}

impl World {
    /// Workers without sessions.
    pub fn new(count: u16) -> World {
        let identity = Identity::generate().unwrap();
        let now = Instant::now();
        let clock = NtpClock::new(now, UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let worker = |index: u16| {
            let mut others = WorkerSet::default();
            (0..count).filter(|other| *other != index).for_each(|other| others.insert(WorkerIndex(other)));
            let mut state = u64::from(index) + 1;
            let random = move |bytes: &mut [u8]| {
                for byte in bytes {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    *byte = (state >> 56) as u8;
                }
            };
            let socket = server_address(usize::from(index));
            let mut worker = Forwarder::new(
                WorkerIndex(index),
                others,
                vec![socket],
                identity.clone(),
                Box::new(random),
                clock,
            );
            worker.listen_tcp(&[tcp_address()]);
            worker
        };
        World {
            now,
            workers: (0..count).map(worker).collect(),
            seats: vec![],
            events: vec![],
            to_stranger: vec![],
            lost: 0,
            signals_held: false,
            fingerprint: identity.fingerprint,
        }
    }

    /// Creates a session on a worker and a client that connects to it.
    pub fn join(&mut self, worker: usize, plan: SessionPlan) -> ClientIndex {
        self.join_over(Protocol::Udp, worker, plan)
    }

    /// The same for a client whose UDP is blocked.
    pub fn join_tcp(&mut self, worker: usize, plan: SessionPlan) -> ClientIndex {
        self.join_over(Protocol::Tcp, worker, plan)
    }

    fn join_over(&mut self, protocol: Protocol, worker: usize, mut plan: SessionPlan) -> ClientIndex {
        let index = self.seats.len();
        let address = SocketAddr::from(([10, 0, 0, 1], 5_000 + index as u16));
        let is_tcp = protocol == Protocol::Tcp;
        let mut client = Client::new(
            self.now,
            protocol,
            address,
            if is_tcp { tcp_address() } else { server_address(worker) },
            plan.sections[0].payloads[0].rtx.is_some(),
        );
        plan.remote = client.transport();
        let role = plan.role;
        self.workers[worker].create(self.now, RequestId(index as u64), plan);
        let created = match self.workers[worker].out.events.pop_front() {
            Some(SessionEvent::Created { result: Ok(created), .. }) => created,
            other => panic!("not created: {other:?}"),
        };
        client.connect(role, &created.ice_ufrag, &created.ice_pwd, self.fingerprint);
        self.seats.push(Seat {
            client,
            worker,
            socket: if is_tcp { TCP } else { UDP },
            room: usize::MAX - usize::from(is_tcp),
            session: created.session,
            ufrag: created.ice_ufrag,
            password: created.ice_pwd,
            muted: false,
            lose_from: false,
            lose_to: false,
            wire: vec![],
            last_rtcp: vec![],
        });
        ClientIndex(index)
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
            for datagram in seat.client.outgoing.drain(..) {
                let media = is_media(&datagram);
                if DatagramKind::of(&datagram) == Some(DatagramKind::Rtcp) {
                    seat.last_rtcp.clone_from(&datagram);
                }
                if media && std::mem::take(&mut seat.lose_from) {
                    self.lost += 1;
                } else if !seat.muted {
                    let worker = &mut self.workers[seat.worker];
                    worker.handle_datagram(self.now, seat.socket, seat.client.address, &datagram);
                }
            }
        }
    }

    fn turn(&mut self) {
        for worker in &mut self.workers {
            worker.handle_timeout(self.now, usize::MAX);
            let rooms = self.seats.iter().map(|seat| (seat.client.address, seat.room)).collect();
            let mut ways = Ways { transmits: vec![], rooms };
            worker.fan_out(self.now, &mut ways);
            worker.out.transmits.extend(ways.transmits);
            self.events.extend(worker.out.events.drain(..));
        }
    }

    fn mesh(&mut self) {
        for from in 0..self.workers.len() {
            let packets: Vec<_> = self.workers[from].out.packets.drain(..).collect();
            for Crossing { to, packet, is_earlier } in packets {
                let copy = MeshPacket::copy_of(&packet, is_earlier).unwrap();
                for to in to.iter() {
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

    fn workers_to_clients(&mut self) {
        for worker in &mut self.workers {
            for transmit in worker.out.transmits.drain(..) {
                let seat = self.seats.iter_mut().find(|seat| seat.client.address == transmit.to);
                let Some(seat) = seat else {
                    self.to_stranger.push(transmit);
                    continue;
                };
                if DatagramKind::of(&transmit.contents) == Some(DatagramKind::Rtp) {
                    seat.wire.push(transmit.contents.clone());
                }
                if is_media(&transmit.contents) && std::mem::take(&mut seat.lose_to) {
                    self.lost += 1;
                } else if !seat.muted {
                    seat.client.receive(self.now, &transmit.contents);
                }
            }
        }
    }

    /// The client.
    pub fn client(&mut self, index: ClientIndex) -> &mut Client {
        &mut self.seats[index.0].client
    }

    /// The RTP datagrams sent to it, lost ones among them, as they are on the wire.
    pub fn wire(&self, index: ClientIndex) -> &[Vec<u8>] {
        &self.seats[index.0].wire
    }

    /// The last RTCP that it sent.
    pub fn last_rtcp_from(&self, index: ClientIndex) -> Vec<u8> {
        self.seats[index.0].last_rtcp.clone()
    }

    /// Its session.
    pub fn session(&self, index: ClientIndex) -> SessionId {
        self.seats[index.0].session
    }

    /// The server's ufrag for it.
    pub fn ufrag(&self, index: ClientIndex) -> String {
        self.seats[index.0].ufrag.clone()
    }

    /// Signals between workers wait, as they do before a full inbox.
    pub fn hold_signals(&mut self, hold: bool) {
        self.signals_held = hold;
    }

    /// The client makes a good check from another port; whether it was answered.
    pub fn check_from(&mut self, index: ClientIndex, port: u16) -> bool {
        let seat = &self.seats[index.0];
        let address = SocketAddr::from(([10, 0, 0, 1], port));
        let username = format!("{}:{}", seat.ufrag, seat.client.local_ufrag);
        let check = Client::binding_request(&username, &seat.password);
        let worker = &mut self.workers[seat.worker];
        worker.handle_datagram(self.now, 0, address, &check);
        worker.out.transmits.iter().any(|transmit| transmit.to == address)
    }

    /// The client reads so slowly that its connection takes only so many bytes from now on.
    pub fn set_room(&mut self, index: ClientIndex, bytes: usize) {
        self.seats[index.0].room = bytes;
    }

    /// The TCP connection of the client is gone, and it goes on over a new one from this port.
    pub fn reconnect(&mut self, index: ClientIndex, port: u16) {
        let seat = &mut self.seats[index.0];
        let worker = &mut self.workers[seat.worker];
        worker.disconnected(seat.socket, seat.client.address);
        assert!(!worker.knows(seat.socket, seat.client.address));
        seat.client.address.set_port(port);
        let address = seat.client.address;
        seat.client.rtc.add_local_candidate(Candidate::host(address, seat.client.protocol).unwrap());
        seat.client.advance(self.now);
    }

    /// The address of a client, and the number of the socket on which its worker hears it.
    pub fn way(&self, index: ClientIndex) -> (usize, SocketAddr) {
        let seat = &self.seats[index.0];
        (seat.socket, seat.client.address)
    }

    /// Nothing passes between this client and the workers from now on.
    pub fn mute(&mut self, index: ClientIndex) {
        self.seats[index.0].muted = true;
    }

    /// Loses the next media packet that the client sends.
    pub fn lose_next_from(&mut self, index: ClientIndex, lose: bool) {
        self.seats[index.0].lose_from = lose;
    }

    /// Loses the next media packet on its way to the client.
    pub fn lose_next_to(&mut self, index: ClientIndex, lose: bool) {
        self.seats[index.0].lose_to = lose;
    }

    /// Deletes a session.
    pub fn delete(&mut self, worker: usize, session: SessionId) {
        self.workers[worker].delete(self.now, session);
    }

    /// A datagram from an address that belongs to nobody.
    pub fn inject(&mut self, worker: usize, datagram: &[u8]) {
        let stranger = SocketAddr::from(([10, 0, 0, 66], 6_666));
        self.workers[worker].handle_datagram(self.now, 0, stranger, datagram);
    }

    /// A datagram that claims to come from this client.
    pub fn inject_as(&mut self, index: ClientIndex, datagram: &[u8]) {
        let seat = &self.seats[index.0];
        self.workers[seat.worker].handle_datagram(self.now, 0, seat.client.address, datagram);
    }

    /// Bytes that went to addresses of nobody.
    pub fn sent_to_stranger(&self) -> usize {
        self.to_stranger.iter().map(|transmit| transmit.contents.len()).sum()
    }

    /// Media packets lost on the way so far.
    pub fn lost(&self) -> u32 {
        self.lost
    }

    /// What happened to sessions so far.
    pub fn events(&self) -> &[SessionEvent] {
        &self.events
    }

    /// How often a worker dropped for a reason.
    pub fn dropped(&self, worker: usize, reason: DropReason) -> u64 {
        self.snapshot(worker).dropped[reason as usize]
    }

    /// A worker's core.
    pub fn worker(&mut self, worker: usize) -> &mut Forwarder {
        &mut self.workers[worker]
    }

    /// The virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// A worker's counters.
    pub fn snapshot(&self, worker: usize) -> WorkerSnapshot {
        self.workers[worker].snapshot()
    }
}

fn server_address(worker: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], 8_200 + worker as u16))
}

/// One port for all workers, with the number of the first UDP port.
fn tcp_address() -> SocketAddr {
    server_address(0)
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
        self.rooms.get(&to).copied().unwrap_or(0)
    }
}

fn is_media(datagram: &[u8]) -> bool {
    datagram.len() > 12 && (128..192).contains(&datagram[0]) && datagram[1] & 0x7f == PT
}
