//! A viewer in memory: str0m in the browser's role, connected to a [`Forwarder`] without sockets.

use crate::error::Error;
use crate::inputs::{MID_ID, PT, RTX_PT, viewer_plan};
use sfu::control::protocol::RequestId;
use sfu::core::forwarder::Forwarder;
use sfu::core::outbox::SessionEvent;
use sfu::core::plan::{DtlsRole, RemoteTransport};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use str0m::config::Fingerprint;
use str0m::format::{Codec, FormatParams};
use str0m::ice::IceCreds;
use str0m::media::{Frequency, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{Extension, ExtensionMap};
use str0m::{Candidate, Input, Output, Rtc, RtcConfig};

/// Virtual time between two exchanges of datagrams.
const STEP: Duration = Duration::from_millis(5);
/// Exchanges until a join counts as failed; it takes about ten.
const STEPS_MAX: u32 = 400;

/// The client's half of a join.
pub struct Client {
    rtc: Rtc,
    address: SocketAddr,
    server: SocketAddr,
    outgoing: Vec<Vec<u8>>,
}

impl Client {
    /// A client at `address` that will talk to `server`. Not connected; this is the costly part (0.6 ms).
    pub fn new(now: Instant, address: SocketAddr, server: SocketAddr) -> Result<Client, String> {
        let mut extensions = ExtensionMap::empty();
        extensions.set(MID_ID, Extension::RtpMid);
        let mut config = RtcConfig::new().set_rtp_mode(true).clear_codecs().set_extension_map(extensions);
        config.codec_config().add_config(
            PT.into(),
            Some(RTX_PT.into()),
            Codec::H264,
            Frequency::NINETY_KHZ,
            None,
            FormatParams::default(),
        );
        let mut rtc = config.build(now);
        rtc.add_local_candidate(Candidate::host(address, "udp").map_err(words)?);
        rtc.add_remote_candidate(Candidate::host(server, "udp").map_err(words)?);
        rtc.direct_api().set_ice_controlling(true);
        Ok(Client { rtc, address, server, outgoing: vec![] })
    }

    /// Creates a session in `forwarder` and goes through ICE and DTLS with it, all in a moment of virtual time that starts
    /// at `now`. `fingerprint` is the forwarder's. Returns the virtual time it took.
    pub fn connect(
        &mut self,
        now: Instant,
        forwarder: &mut Forwarder,
        fingerprint: [u8; 32],
    ) -> Result<Duration, String> {
        let mut plan = viewer_plan();
        plan.remote = self.transport()?;
        forwarder.create(now, RequestId(0), plan);
        let created = match forwarder.out.events.pop_front() {
            Some(SessionEvent::Created { result: Ok(created), .. }) => created,
            other => return Err(format!("no session: {other:?}")),
        };
        self.start(created.ice_ufrag, created.ice_pwd, fingerprint)?;
        for step in 0..STEPS_MAX {
            let now = now + STEP * step;
            self.exchange(now, forwarder)?;
            let connected = |event: &SessionEvent| *event == SessionEvent::Connected(created.session);
            if forwarder.out.events.drain(..).any(|event| connected(&event)) {
                // The last flight belongs to the client.
                self.exchange(now, forwarder)?;
                return Ok(STEP * step);
            }
        }
        Err("ICE or DTLS did not end".into())
    }

    fn transport(&mut self) -> Result<RemoteTransport, String> {
        let api = self.rtc.direct_api();
        let creds = api.local_ice_credentials();
        let fingerprint = api.local_dtls_fingerprint().bytes.as_slice();
        Ok(RemoteTransport {
            ice_ufrag: creds.ufrag,
            ice_pwd: creds.pass,
            fingerprint: fingerprint.try_into().map_err(words)?,
            dtls_role: DtlsRole::Passive,
        })
    }

    fn start(&mut self, ufrag: String, pass: String, fingerprint: [u8; 32]) -> Result<(), String> {
        let (mid, pair) = (Mid::from("0"), crate::inputs::SSRCS);
        let mut api = self.rtc.direct_api();
        api.set_remote_ice_credentials(IceCreds { ufrag, pass });
        api.set_remote_fingerprint(Fingerprint { hash_func: "sha-256".into(), bytes: fingerprint.into() });
        api.declare_media(mid, MediaKind::Video);
        api.expect_stream_rx(pair.media.0.into(), pair.rtx.map(|rtx| rtx.0.into()), mid, None);
        api.start_dtls(true).map_err(words)
    }

    /// Each side takes what the other has sent, twice, so that what is answered at once arrives at once.
    fn exchange(&mut self, now: Instant, forwarder: &mut Forwarder) -> Result<(), String> {
        self.handle(Input::Timeout(now))?;
        for _ in 0..2 {
            for datagram in std::mem::take(&mut self.outgoing) {
                forwarder.handle_datagram(now, 0, self.address, &datagram);
            }
            for transmit in std::mem::take(&mut forwarder.out.transmits) {
                if transmit.to == self.address {
                    let received = Receive::new(Protocol::Udp, self.server, self.address, &transmit.contents);
                    self.handle(Input::Receive(now, received.map_err(words)?))?;
                }
            }
        }
        Ok(())
    }

    fn handle(&mut self, input: Input<'_>) -> Result<(), String> {
        self.rtc.handle_input(input).map_err(words)?;
        loop {
            match self.rtc.poll_output().map_err(words)? {
                Output::Transmit(transmit) => self.outgoing.push(Vec::from(transmit.contents)),
                Output::Event(_) => {}
                Output::Timeout(_) => return Ok(()),
            }
        }
    }
}

/// Builds a client and connects it; `viewer` is for the error.
pub fn join(
    viewer: usize,
    now: Instant,
    address: SocketAddr,
    server: SocketAddr,
    forwarder: &mut Forwarder,
    fingerprint: [u8; 32],
) -> Result<Duration, Error> {
    Client::new(now, address, server)
        .and_then(|mut client| client.connect(now, forwarder, fingerprint))
        .map_err(|why| Error::Join { viewer, why })
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
