//! A world of workers and clients with virtual time. Clients are str0m in the other role, behind perfect or lossy links.

#![allow(dead_code, reason = "each test binary uses its part")]

use crate::plans::{MID_ID, PT, REPAIRED_RID_ID, RID_ID, RTX_PT};
use sfu::control::protocol::{
    EndReason, IceCredentials, LayerChoice, RequestId, RestartError, SessionId, WorkerIndex,
};
use sfu::core::demux::DatagramKind;
use sfu::core::dtls::HandshakeError;
use sfu::core::egress::{TrainLimits, Trains};
use sfu::core::forwarder::Forwarder;
use sfu::core::identity::Identity;
use sfu::core::layers::LayerIndex;
use sfu::core::ntp::NtpClock;
use sfu::core::outbox::{Crossing, SessionEvent, Transmit};
use sfu::core::plan::{DtlsRole, PeerCertificate, RemoteTransport, Role, SessionPlan};
use sfu::core::srtp::MasterKeys;
use sfu::core::stun::{Class, Message, Request as StunRequest, TransactionId};
use sfu::mesh::{MeshPacket, WorkerSet};
use sfu::stats::{DropReason, WorkerSnapshot};
use std::collections::HashMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};
use str0m::config::{CryptoProvider, DtlsCert, Fingerprint};
use str0m::format::{Codec as Str0mCodec, FormatParams};
use str0m::ice::{IceCreds, StunMessageBuilder, TransId};
use str0m::media::{Frequency, MediaKind as Str0mKind, Mid, Rid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{Extension as Str0mExtension, ExtensionMap, RtpPacket, RtpWrite};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig, RtcError};

const STEP: Duration = Duration::from_millis(5);
/// Workers have a UDP socket of each family; that of TCP comes after them.
const TCP: usize = 2;

/// A browser's part, played by str0m.
pub struct Client {
    rtc: Rtc,
    /// Where it is; the last one is where it wants to be.
    addresses: Vec<SocketAddr>,
    servers: [SocketAddr; 2],
    now: Instant,
    outgoing: Vec<(SocketAddr, Vec<u8>)>,
    received: Vec<RtpPacket>,
    /// By rid, `None` without simulcast.
    keyframe_requests: Vec<Option<Rid>>,
    rtx: bool,
    may_fail: bool,
    rids: Vec<Rid>,
}

/// A client's certificate, with the DTLS that can show it.
pub type Credentials = (DtlsCert, CryptoProvider);

impl Client {
    /// A client at `address` of servers of IPv4 and IPv6.
    pub fn new(
        now: Instant,
        address: SocketAddr,
        servers: [SocketAddr; 2],
        plan: &SessionPlan,
        credentials: Option<Credentials>,
    ) -> Client {
        let section = &plan.sections[0];
        let rtx = section.payloads[0].rtx.is_some();
        let rids: Vec<Rid> = section.rids.iter().map(|rid| Rid::from(rid.as_str())).collect();
        let mut extensions = ExtensionMap::empty();
        extensions.set(MID_ID, Str0mExtension::RtpMid);
        if !rids.is_empty() {
            extensions.set(RID_ID, Str0mExtension::RtpStreamId);
            extensions.set(REPAIRED_RID_ID, Str0mExtension::RepairedRtpStreamId);
        }
        let mut config = RtcConfig::new().set_rtp_mode(true).clear_codecs().set_extension_map(extensions);
        config.codec_config().add_config(
            PT.into(),
            rtx.then(|| RTX_PT.into()),
            Str0mCodec::H264,
            Frequency::NINETY_KHZ,
            None,
            FormatParams::default(),
        );
        let may_fail = credentials.is_some();
        if let Some((certificate, provider)) = credentials {
            config = config.set_dtls_cert(certificate).set_crypto_provider(Arc::new(provider));
        }
        let mut rtc = config.build(now);
        rtc.add_local_candidate(Candidate::host(address, "udp").unwrap());
        for server in servers {
            rtc.add_remote_candidate(Candidate::host(server, "udp").unwrap());
        }
        rtc.direct_api().set_ice_controlling(true);
        Client {
            rtc,
            addresses: vec![address],
            servers,
            now,
            outgoing: vec![],
            received: vec![],
            keyframe_requests: vec![],
            rtx,
            may_fail,
            rids,
        }
    }

    /// Its half of the transport.
    pub fn transport(&mut self) -> RemoteTransport {
        let api = self.rtc.direct_api();
        let creds = api.local_ice_credentials();
        RemoteTransport {
            ice_ufrag: creds.ufrag,
            ice_pwd: creds.pass,
            fingerprint: api.local_dtls_fingerprint().bytes.clone().try_into().unwrap(),
            dtls_role: DtlsRole::Passive,
            certificate: PeerCertificate::Ecdsa,
        }
    }

    /// It has the answer, and connects.
    pub fn connect(&mut self, role: Role, active: bool, ufrag: &str, pwd: &str, fingerprint: [u8; 32]) {
        let mid = Mid::from("0");
        let mut api = self.rtc.direct_api();
        api.set_remote_ice_credentials(IceCreds { ufrag: ufrag.into(), pass: pwd.into() });
        api.set_remote_fingerprint(Fingerprint { hash_func: "sha-256".into(), bytes: fingerprint.into() });
        api.declare_media(mid, Str0mKind::Video);
        match role {
            Role::Publisher if self.rids.is_empty() => {
                api.declare_stream_tx(1000.into(), Some(1001.into()), mid, None);
            }
            Role::Publisher => {
                for (layer, rid) in self.rids.iter().enumerate() {
                    let (ssrc, rtx) = layer_ssrcs(layer);
                    let rtx = self.rtx.then(|| rtx.into());
                    api.declare_stream_tx(ssrc.into(), rtx, mid, Some(*rid));
                }
            }
            Role::Viewer => {
                let rtx = self.rtx.then(|| 1001.into());
                // str0m asks for nothing again without RTX, unless it is told to.
                api.expect_stream_rx(1000.into(), rtx, mid, None).suppress_nack(false);
            }
        }
        api.start_dtls(active).unwrap();
        self.advance(self.now);
    }

    /// Publishes a one-packet frame at 30 a second.
    pub fn send_video(&mut self, frame: u64, payload: &[u8]) {
        self.send_packet(20_000 + frame, frame as u32, payload);
    }

    /// Publishes one packet.
    pub fn send_packet(&mut self, sequence: u64, frame: u32, payload: &[u8]) {
        self.send_on(1000, sequence, frame.wrapping_mul(3_000), payload);
    }

    /// Publishes a one-packet frame of a layer, its `sequence`th packet. Layers count and tell the time each from another
    /// beginning.
    pub fn send_layer(&mut self, layer: usize, sequence: u64, frame: u64, payload: &[u8]) {
        let timestamp = (frame as u32 * 3_000).wrapping_sub(layer as u32 * 1_000_000);
        self.send_on(layer_ssrcs(layer).0, 20_000 + 5_000 * layer as u64 + sequence, timestamp, payload);
    }

    fn send_on(&mut self, ssrc: u32, sequence: u64, timestamp: u32, payload: &[u8]) {
        let now = self.now;
        let mut api = self.rtc.direct_api();
        let stream = api.stream_tx(&ssrc.into()).unwrap();
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
        self.take_requested_rids().len() as u32
    }

    /// The rids of which a key frame was asked for since the last call.
    pub fn take_requested_rids(&mut self) -> Vec<Option<Rid>> {
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

    /// What it wants sent, each from which of its addresses.
    pub fn take_outgoing(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        std::mem::take(&mut self.outgoing)
    }

    /// Leaves its address for another one, as from one network to the next.
    pub fn move_to(&mut self, address: SocketAddr) {
        let old = Candidate::host(self.address(), "udp").unwrap();
        self.rtc.direct_api().invalidate_candidate(&old);
        self.rtc.add_local_candidate(Candidate::host(address, "udp").unwrap());
        self.addresses.push(address);
        self.advance(self.now);
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        *self.addresses.last().unwrap()
    }

    /// Its ICE credentials.
    pub fn credentials(&mut self) -> IceCredentials {
        let creds = self.rtc.direct_api().local_ice_credentials();
        IceCredentials { ufrag: creds.ufrag, pwd: creds.pass }
    }

    /// The credentials of an ICE restart, its own and the server's.
    pub fn restart_ice(&mut self, local: &IceCredentials, remote: &IceCredentials) {
        let creds = |from: &IceCredentials| IceCreds { ufrag: from.ufrag.clone(), pass: from.pwd.clone() };
        self.rtc.direct_api().set_local_ice_credentials(creds(local));
        self.rtc.direct_api().set_remote_ice_credentials(creds(remote));
        self.advance(self.now);
    }

    /// Believes that the server is in control.
    pub fn be_controlled(&mut self) {
        self.rtc.direct_api().set_ice_controlling(false);
    }

    /// A datagram arrived at its address `to`.
    pub fn receive(&mut self, now: Instant, to: SocketAddr, datagram: &[u8]) {
        let server = self.servers[usize::from(to.is_ipv6())];
        let receive = Receive::new(Protocol::Udp, server, to, datagram).unwrap();
        let handled = self.rtc.handle_input(Input::Receive(now, receive));
        self.settle(handled);
    }

    /// Time has passed.
    pub fn advance(&mut self, now: Instant) {
        self.now = now;
        let handled = self.rtc.handle_input(Input::Timeout(now));
        self.settle(handled);
    }

    /// A client with credentials of its own may fail in its handshake; others must not.
    fn settle(&mut self, handled: Result<(), RtcError>) {
        let settled = self.drain().and(handled);
        assert!(settled.is_ok() || self.may_fail, "{settled:?}");
        // Its DTLS is ours then, and has left its keys where the workers look for theirs.
        drop((MasterKeys::take(), HandshakeError::take()));
    }

    fn drain(&mut self) -> Result<(), RtcError> {
        loop {
            match self.rtc.poll_output()? {
                Output::Transmit(transmit) => {
                    self.outgoing.push((transmit.source, Vec::from(transmit.contents)));
                }
                Output::Event(Event::RtpPacket(packet)) => self.received.push(packet),
                Output::Event(Event::KeyframeRequest(asked)) => self.keyframe_requests.push(asked.rid),
                Output::Event(_) => {}
                Output::Timeout(_) => return Ok(()),
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
            Forwarder::new(WorkerIndex(index), others, identity.clone(), Box::new(random), clock)
        };
        World {
            now,
            workers: (0..count).map(worker).collect(),
            seats: vec![],
            rooms: HashMap::new(),
            events: vec![],
            to_stranger: vec![],
            checks_lost: false,
            sent_to: HashMap::new(),
            lost: 0,
            signals_held: false,
            crossed: vec![],
            fingerprint: identity.fingerprint,
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
        let mut client = Client::new(self.now, address, server_addresses(worker), &plan, credentials);
        let (dtls_role, certificate) = (plan.remote.dtls_role, plan.remote.certificate);
        plan.remote = RemoteTransport { dtls_role, certificate, ..client.transport() };
        let role = plan.role;
        self.workers[worker].create(self.now, RequestId(index as u64), plan);
        let created = match self.workers[worker].out.events.pop_front() {
            Some(SessionEvent::Created { result: Ok(created), .. }) => created,
            other => panic!("not created: {other:?}"),
        };
        let active = dtls_role == DtlsRole::Passive;
        client.connect(role, active, &created.ice_ufrag, &created.ice_pwd, self.fingerprint);
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
                    self.workers[seat.worker].handle_datagram(self.now, socket_of(from), from, &datagram);
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

    /// The layers of the packets that crossed to a worker since the last call.
    pub fn take_crossed(&mut self, to: usize) -> Vec<LayerIndex> {
        let crossed = std::mem::take(&mut self.crossed);
        crossed.into_iter().filter(|(worker, _)| *worker == to).map(|(_, layer)| layer).collect()
    }

    /// The viewer wants a layer.
    pub fn select_layer(&mut self, index: ClientIndex, choice: LayerChoice) {
        let seat = &self.seats[index.0];
        self.workers[seat.worker].select_layer(self.now, seat.session, choice.into());
    }

    /// Signals between workers wait, as they do before a full inbox.
    pub fn hold_signals(&mut self, hold: bool) {
        self.signals_held = hold;
    }

    /// The client makes a good check from another port; whether it was answered.
    pub fn check_from(&mut self, index: ClientIndex, port: u16) -> bool {
        let address = SocketAddr::from(([10, 0, 0, 1], port));
        let check = self.good_check(index, false);
        let worker = &mut self.workers[self.seats[index.0].worker];
        worker.handle_datagram(self.now, 0, address, &check);
        worker.out.transmits.iter().any(|transmit| transmit.to == address)
    }

    /// A check with the client's credentials, nominating or not.
    pub fn good_check(&mut self, index: ClientIndex, nominates: bool) -> Vec<u8> {
        let seat = &mut self.seats[index.0];
        let theirs = seat.client.credentials().ufrag;
        let request = StunRequest {
            to: &seat.ufrag,
            from: &theirs,
            password: &seat.password,
            tie_breaker: 1,
            nominates: true,
        };
        let mut bytes = request.write(TransactionId([3; 12]));
        if !nominates {
            let username = format!("{}:{theirs}", seat.ufrag);
            bytes = Client::binding_request(&username, &seat.password);
        }
        bytes
    }

    /// The first DTLS datagram that the client sent.
    pub fn client_hello(&self, index: ClientIndex) -> Vec<u8> {
        self.seats[index.0].client_hello.clone()
    }

    /// A datagram from any address to the worker of this client.
    pub fn inject_from(&mut self, index: ClientIndex, from: SocketAddr, datagram: &[u8]) {
        let worker = self.seats[index.0].worker;
        self.workers[worker].handle_datagram(self.now, socket_of(from), from, datagram);
    }

    /// Restarts a client's ICE in the server; the client does not know of it yet.
    pub fn restart(
        &mut self,
        index: ClientIndex,
        remote: &IceCredentials,
    ) -> Result<IceCredentials, RestartError> {
        let seat = &self.seats[index.0];
        let worker = &mut self.workers[seat.worker];
        worker.restart_ice(RequestId(77), seat.session, remote.clone());
        match worker.out.events.pop_back() {
            Some(SessionEvent::IceRestarted { request: RequestId(77), result }) => result,
            other => panic!("no answer to the restart: {other:?}"),
        }
    }

    /// Our own checks are lost from now on.
    pub fn lose_checks(&mut self) {
        self.checks_lost = true;
    }

    /// Where the last RTP datagram for this client went.
    pub fn last_to(&self, index: ClientIndex) -> SocketAddr {
        self.seats[index.0].last_to
    }

    /// When the last datagram came from this client.
    pub fn heard(&self, index: ClientIndex) -> Instant {
        self.seats[index.0].heard
    }

    /// The client's STUN is lost from now on.
    pub fn mute_stun(&mut self, index: ClientIndex) {
        self.seats[index.0].stun_muted = true;
    }

    /// How many datagrams were sent to this address of the client.
    pub fn sent_to(&self, address: SocketAddr) -> usize {
        self.sent_to.get(&address).copied().unwrap_or_default()
    }

    /// Why the client's session ended, if it did.
    pub fn end_of(&self, index: ClientIndex) -> Option<EndReason> {
        let session = self.session(index);
        self.events.iter().find_map(|event| match event {
            SessionEvent::Ended(ended, reason) if *ended == session => Some(*reason),
            _ => None,
        })
    }

    /// The client reads so slowly that its connection takes only so many bytes from now on.
    pub fn set_room(&mut self, index: ClientIndex, bytes: usize) {
        self.rooms.insert(self.seats[index.0].client.address(), bytes);
    }

    /// The TCP connection of the client is gone, and it goes on over a new one from this port.
    pub fn reconnect(&mut self, index: ClientIndex, port: u16) {
        let (socket, mut address) = self.way(index);
        let seat = &mut self.seats[index.0];
        let worker = &mut self.workers[seat.worker];
        worker.disconnected(socket, address);
        assert!(!worker.knows(socket, address));
        self.rooms.insert(address, 0);
        address.set_port(port);
        seat.client.move_to(address);
    }

    /// The address of a client, and the number of the socket on which its worker hears it.
    pub fn way(&self, index: ClientIndex) -> (usize, SocketAddr) {
        let address = self.seats[index.0].client.address();
        (socket_of(address), address)
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

    /// Loses these of the DTLS datagrams between the client and its worker, counted from 0 in either direction.
    pub fn lose_dtls(&mut self, index: ClientIndex, lost: Range<u32>) {
        self.seats[index.0].lost_dtls = lost;
    }

    /// Whether the session has connected.
    pub fn is_connected(&self, index: ClientIndex) -> bool {
        self.events.contains(&SessionEvent::Connected(self.seats[index.0].session))
    }

    /// How the session ended, if it has.
    pub fn end(&self, index: ClientIndex) -> Option<EndReason> {
        let session = self.seats[index.0].session;
        self.events.iter().find_map(|event| match event {
            SessionEvent::Ended(ended, reason) if *ended == session => Some(*reason),
            _ => None,
        })
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
        self.workers[seat.worker].handle_datagram(self.now, 0, seat.client.address(), datagram);
    }

    /// What went to addresses of nobody.
    pub fn to_stranger(&self) -> &[Transmit] {
        &self.to_stranger
    }

    /// The last check of ours that went to this address of nobody.
    pub fn asked_of(&self, address: SocketAddr) -> Option<TransactionId> {
        let sent = self.to_stranger.iter().rev().filter(|transmit| transmit.to == address);
        let mut messages = sent.filter_map(|transmit| Message::parse(&transmit.contents));
        messages.find(|message| message.class == Class::Request).map(|request| request.transaction)
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

/// A worker's sockets: IPv4, IPv6.
fn server_addresses(worker: usize) -> [SocketAddr; 2] {
    let port = 8_200 + worker as u16;
    [
        SocketAddr::from(([10, 0, 0, 2], port)),
        SocketAddr::from((Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2), port)),
    ]
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

/// Of the media of a layer and of its retransmissions.
fn layer_ssrcs(layer: usize) -> (u32, u32) {
    (2_000 + 2 * layer as u32, 2_001 + 2 * layer as u32)
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
