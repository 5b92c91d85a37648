//! A browser's part, played by str0m.

use crate::plans::{MID_ID, PT, REPAIRED_RID_ID, RID_ID, RTX_PT};
use sfu::control::protocol::IceCredentials;
use sfu::core::dtls::HandshakeError;
use sfu::core::plan::{DtlsRole, PeerCertificate, RemoteTransport, Role, SessionPlan};
use sfu::core::srtp::MasterKeys;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use str0m::config::{CryptoProvider, DtlsCert, Fingerprint};
use str0m::format::{Codec as Str0mCodec, FormatParams};
use str0m::ice::{IceCreds, StunMessageBuilder, TransId};
use str0m::media::{Frequency, MediaKind as Str0mKind, Mid, Rid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{Extension as Str0mExtension, ExtensionMap, RtpPacket, RtpWrite};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig, RtcError};

/// A browser's part, played by str0m.
pub struct Client {
    rtc: Rtc,
    /// Where it is; the last one is where it wants to be.
    pub(super) addresses: Vec<SocketAddr>,
    servers: [SocketAddr; 2],
    now: Instant,
    pub(super) outgoing: Vec<(SocketAddr, Vec<u8>)>,
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

    /// A Binding request of a client in control that nominates nothing.
    pub fn binding_request(username: &str, password: &str) -> Vec<u8> {
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

/// Of the media of a layer and of its retransmissions.
fn layer_ssrcs(layer: usize) -> (u32, u32) {
    (2_000 + 2 * layer as u32, 2_001 + 2 * layer as u32)
}
