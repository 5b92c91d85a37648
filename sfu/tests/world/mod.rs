//! A world of workers and clients with virtual time. Clients are str0m in the other role, behind perfect or lossy links.

#![allow(dead_code, reason = "each test binary uses its part")]

use crate::plans::{MID_ID, PT, REPAIRED_RID_ID, RID_ID, RTX_PT};
use sfu::control::protocol::{LayerChoice, RequestId, SessionId, WorkerIndex};
use sfu::core::demux::DatagramKind;
use sfu::core::forwarder::Forwarder;
use sfu::core::identity::Identity;
use sfu::core::layers::LayerIndex;
use sfu::core::ntp::NtpClock;
use sfu::core::outbox::{Crossing, SessionEvent, Transmit};
use sfu::core::plan::{DtlsRole, RemoteTransport, Role, SessionPlan};
use sfu::mesh::{MeshPacket, WorkerSet};
use sfu::stats::{DropReason, WorkerSnapshot};
use std::net::SocketAddr;
use std::time::{Duration, Instant, UNIX_EPOCH};
use str0m::config::Fingerprint;
use str0m::format::{Codec as Str0mCodec, FormatParams};
use str0m::ice::{IceCreds, StunMessageBuilder, TransId};
use str0m::media::{Frequency, MediaKind as Str0mKind, Mid, Rid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{Extension as Str0mExtension, ExtensionMap, RtpPacket, RtpWrite};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

const STEP: Duration = Duration::from_millis(5);

/// A browser's part, played by str0m.
pub struct Client {
    rtc: Rtc,
    local_ufrag: String,
    address: SocketAddr,
    server: SocketAddr,
    now: Instant,
    outgoing: Vec<Vec<u8>>,
    received: Vec<RtpPacket>,
    /// By rid, `None` without simulcast.
    keyframe_requests: Vec<Option<Rid>>,
    rtx: bool,
    rids: Vec<Rid>,
}

impl Client {
    fn new(now: Instant, address: SocketAddr, server: SocketAddr, plan: &SessionPlan) -> Client {
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
        let mut rtc = config.build(now);
        rtc.add_local_candidate(Candidate::host(address, "udp").unwrap());
        rtc.add_remote_candidate(Candidate::host(server, "udp").unwrap());
        rtc.direct_api().set_ice_controlling(true);
        let local_ufrag = rtc.direct_api().local_ice_credentials().ufrag;
        Client {
            rtc,
            local_ufrag,
            address,
            server,
            now,
            outgoing: vec![],
            received: vec![],
            keyframe_requests: vec![],
            rtx,
            rids,
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
        api.start_dtls(true).unwrap();
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

    fn receive(&mut self, now: Instant, datagram: &[u8]) {
        let receive = Receive::new(Protocol::Udp, self.server, self.address, datagram).unwrap();
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
                Output::Event(Event::KeyframeRequest(asked)) => self.keyframe_requests.push(asked.rid),
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
            let socket = server_address(usize::from(index));
            Forwarder::new(
                WorkerIndex(index),
                others,
                vec![socket],
                identity.clone(),
                Box::new(random),
                clock,
            )
        };
        World {
            now,
            workers: (0..count).map(worker).collect(),
            seats: vec![],
            events: vec![],
            to_stranger: vec![],
            lost: 0,
            signals_held: false,
            crossed: vec![],
            fingerprint: identity.fingerprint,
        }
    }

    /// Creates a session on a worker and a client that connects to it.
    pub fn join(&mut self, worker: usize, mut plan: SessionPlan) -> ClientIndex {
        let index = self.seats.len();
        let address = SocketAddr::from(([10, 0, 0, 1], 5_000 + index as u16));
        let mut client = Client::new(self.now, address, server_address(worker), &plan);
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
                    self.workers[seat.worker].handle_datagram(self.now, 0, seat.client.address, &datagram);
                }
            }
        }
    }

    fn turn(&mut self) {
        for worker in &mut self.workers {
            worker.handle_timeout(self.now, usize::MAX);
            let mut trains = Vec::new();
            worker.fan_out(self.now, &mut trains);
            worker.out.transmits.extend(trains);
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
        let seat = &self.seats[index.0];
        let address = SocketAddr::from(([10, 0, 0, 1], port));
        let username = format!("{}:{}", seat.ufrag, seat.client.local_ufrag);
        let check = Client::binding_request(&username, &seat.password);
        let worker = &mut self.workers[seat.worker];
        worker.handle_datagram(self.now, 0, address, &check);
        worker.out.transmits.iter().any(|transmit| transmit.to == address)
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

/// Of the media of a layer and of its retransmissions.
fn layer_ssrcs(layer: usize) -> (u32, u32) {
    (2_000 + 2 * layer as u32, 2_001 + 2 * layer as u32)
}

fn is_media(datagram: &[u8]) -> bool {
    datagram.len() > 12 && (128..192).contains(&datagram[0]) && datagram[1] & 0x7f == PT
}
