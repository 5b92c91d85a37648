//! One end of a WebRTC connection in memory: a str0m `Rtc` that is driven without sockets.

use crate::inputs::{MID_ID, PT, RTX_PT, SSRCS};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use str0m::config::Fingerprint;
use str0m::format::{Codec, FormatParams};
use str0m::ice::IceCreds;
use str0m::media::{Frequency, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{Extension, ExtensionMap};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

/// Virtual time between two exchanges of datagrams.
pub const STEP: Duration = Duration::from_millis(5);
/// Exchanges until a join counts as failed; it takes about ten.
pub const STEPS_MAX: u32 = 400;

/// Which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A browser: full ICE, DTLS client, receives.
    Client,
    /// A server: ICE-lite, DTLS server, sends; keeps this many packets for retransmission.
    Server {
        /// Packets.
        send_buffer: usize,
    },
}

/// What one end tells the other by signaling.
#[derive(Debug, Clone)]
pub struct Introduction {
    /// User fragment.
    pub ufrag: String,
    /// Password.
    pub password: String,
    /// SHA-256 of the certificate.
    pub fingerprint: Vec<u8>,
}

/// One end.
pub struct Endpoint {
    rtc: Rtc,
    side: Side,
    local: SocketAddr,
    remote: SocketAddr,
    outgoing: Vec<Vec<u8>>,
    connected: bool,
}

impl Endpoint {
    /// An end at `local` that will talk to `remote`. Not connected; this is the costly part of a join (0.6 ms).
    pub fn new(now: Instant, side: Side, local: SocketAddr, remote: SocketAddr) -> Result<Endpoint, String> {
        let mut extensions = ExtensionMap::empty();
        extensions.set(MID_ID, Extension::RtpMid);
        let mut config = RtcConfig::new().set_rtp_mode(true).clear_codecs().set_extension_map(extensions);
        if let Side::Server { send_buffer } = side {
            config = config.set_ice_lite(true).set_send_buffer_video(send_buffer);
        }
        config.codec_config().add_config(
            PT.into(),
            Some(RTX_PT.into()),
            Codec::H264,
            Frequency::NINETY_KHZ,
            None,
            FormatParams::default(),
        );
        let mut rtc = config.build(now);
        rtc.add_local_candidate(Candidate::host(local, "udp").map_err(words)?);
        if side == Side::Client {
            rtc.add_remote_candidate(Candidate::host(remote, "udp").map_err(words)?);
            rtc.direct_api().set_ice_controlling(true);
        }
        Ok(Endpoint { rtc, side, local, remote, outgoing: vec![], connected: false })
    }

    /// What the other end must know.
    pub fn introduction(&mut self) -> Introduction {
        let api = self.rtc.direct_api();
        let IceCreds { ufrag, pass: password } = api.local_ice_credentials();
        Introduction { ufrag, password, fingerprint: api.local_dtls_fingerprint().bytes.clone() }
    }

    /// Takes what the other end said; ICE and DTLS begin with the next [`Endpoint::advance`].
    pub fn start(&mut self, other: Introduction) -> Result<(), String> {
        let mid = Mid::from("0");
        let (ssrc, rtx) = (SSRCS.media.0.into(), SSRCS.rtx.map(|rtx| rtx.0.into()));
        let mut api = self.rtc.direct_api();
        api.set_remote_ice_credentials(IceCreds { ufrag: other.ufrag, pass: other.password });
        api.set_remote_fingerprint(Fingerprint { hash_func: "sha-256".into(), bytes: other.fingerprint });
        api.declare_media(mid, MediaKind::Video);
        match self.side {
            Side::Client => {
                api.expect_stream_rx(ssrc, rtx, mid, None);
            }
            Side::Server { .. } => {
                api.declare_stream_tx(ssrc, rtx, mid, None);
            }
        }
        api.start_dtls(self.side == Side::Client).map_err(words)
    }

    /// Lets time pass.
    pub fn advance(&mut self, now: Instant) -> Result<(), String> {
        self.handle(Input::Timeout(now))
    }

    /// Takes a datagram of the other end.
    pub fn receive(&mut self, now: Instant, datagram: &[u8]) -> Result<(), String> {
        let receive = Receive::new(Protocol::Udp, self.remote, self.local, datagram).map_err(words)?;
        self.handle(Input::Receive(now, receive))
    }

    /// Datagrams for the other end.
    pub fn take_outgoing(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.outgoing)
    }

    /// Where this end is.
    pub fn address(&self) -> SocketAddr {
        self.local
    }

    /// Whether ICE and DTLS are done.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// The connection itself.
    pub fn into_rtc(self) -> Rtc {
        self.rtc
    }

    fn handle(&mut self, input: Input<'_>) -> Result<(), String> {
        self.rtc.handle_input(input).map_err(words)?;
        loop {
            match self.rtc.poll_output().map_err(words)? {
                Output::Transmit(transmit) => self.outgoing.push(Vec::from(transmit.contents)),
                Output::Event(event) => self.connected |= matches!(event, Event::Connected),
                Output::Timeout(_) => return Ok(()),
            }
        }
    }
}

/// Connects two ends in a moment of virtual time that starts at `now`. Returns the virtual time it took.
pub fn connect(now: Instant, client: &mut Endpoint, server: &mut Endpoint) -> Result<Duration, String> {
    let (of_client, of_server) = (client.introduction(), server.introduction());
    client.start(of_server)?;
    server.start(of_client)?;
    for step in 0..STEPS_MAX {
        let now = now + STEP * step;
        client.advance(now)?;
        server.advance(now)?;
        // What is answered at once arrives at once.
        for _ in 0..2 {
            client.take_outgoing().iter().try_for_each(|datagram| server.receive(now, datagram))?;
            server.take_outgoing().iter().try_for_each(|datagram| client.receive(now, datagram))?;
        }
        if client.is_connected() && server.is_connected() {
            return Ok(STEP * step);
        }
    }
    Err("ICE or DTLS did not end".into())
}

/// An error of the library, for a report.
pub fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
