//! One str0m `Rtc`, wrapped so that its one rule cannot be broken: one mutation, then drain until Timeout.
//!
//! It does DTLS, and for publishers SRTP. It sees neither STUN nor addresses: see [`Peer::nominated`].

use super::codec::{Codec, MediaKind};
use super::demux::DatagramKind;
use super::dtls::HandshakeError;
use super::identity::Identity;
use super::plan::{DtlsRole, Extension, MediaSection, Payload, Role, SessionPlan};
use super::stun::{self, TransactionId};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};
use str0m::config::Fingerprint;
use str0m::format::{Codec as Str0mCodec, CodecConfig, CodecSpec, FormatParams, PayloadParams};
use str0m::ice::IceCreds;
use str0m::media::{Frequency, MediaKind as Str0mKind, Mid, Rid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{Extension as Str0mExtension, ExtensionMap};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig, RtcError};

/// A session that reported an error is polled again after this, or with its next datagram.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// A peer connection under sans-IO rules.
pub struct Peer {
    rtc: Rtc,
    deadline: Instant,
    /// We send the ClientHello, once it is known where to.
    greets: bool,
}

/// Where str0m believes that it and the client are: addresses of documentation (RFC 5737), which nothing is sent to.
const HERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 9));
const THERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 9));
/// Its ICE credentials, both ours and the client's. No stranger's STUN reaches it.
const UFRAG: &str = "inside";
const PASSWORD: &str = "no stranger's STUN comes here";

/// What a drain brought.
#[derive(Default)]
pub struct Drained {
    /// Datagrams to send, to where the session's media goes.
    pub datagrams: Vec<Vec<u8>>,
    /// What happened.
    pub events: Vec<Event>,
}

impl Peer {
    /// Builds the session that `plan` describes. The plan must have passed `validate`.
    pub fn new(
        now: Instant,
        plan: &SessionPlan,
        identity: &Identity,
        out: &mut Drained,
    ) -> Result<Peer, RtcError> {
        let mut config = RtcConfig::new()
            .set_rtp_mode(true)
            .set_ice_lite(true)
            .set_crypto_provider(identity.provider(plan.remote.certificate).clone())
            .set_dtls_cert(identity.certificate.clone())
            .set_local_ice_credentials(inside());
        let media = plan.role == Role::Publisher;
        if media {
            config = config.set_extension_map(extension_map(plan));
            *config.codec_config() = codec_config(plan);
        } else {
            config = config.clear_codecs();
        }
        let mut rtc = config.build(now);
        rtc.add_local_candidate(Candidate::host(HERE, "udp")?);
        let mut api = rtc.direct_api();
        api.set_remote_ice_credentials(inside());
        api.set_remote_fingerprint(Fingerprint {
            hash_func: "sha-256".into(),
            bytes: plan.remote.fingerprint.to_vec(),
        });
        // What a viewer is sent does not pass through str0m.
        for section in plan.sections.iter().filter(|_| media) {
            declare(&mut rtc, section);
        }
        let greets = plan.remote.dtls_role == DtlsRole::Active;
        if !greets {
            rtc.direct_api().start_dtls(false)?;
        }
        let mut peer = Peer { rtc, deadline: now, greets };
        peer.handle_timeout(now, out)?;
        Ok(peer)
    }

    /// When [`Peer::handle_timeout`] is due.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// False once closed; nothing comes out of it any more.
    pub fn is_alive(&self) -> bool {
        self.rtc.is_alive()
    }

    /// Time has come to [`Peer::deadline`].
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Drained) -> Result<(), RtcError> {
        let handled = self.rtc.handle_input(Input::Timeout(now));
        self.drain(now, out)?;
        handled
    }

    /// DTLS, RTP or RTCP came in. An error drops the datagram; the session lives while [`Peer::is_alive`].
    pub fn receive(&mut self, now: Instant, datagram: &[u8], out: &mut Drained) -> Result<(), RtcError> {
        let receive = Receive::new(Protocol::Udp, THERE, HERE, datagram).map_err(RtcError::Net)?;
        let handled = self.rtc.handle_input(Input::Receive(now, receive));
        self.drain(now, out)?;
        handled
    }

    /// The client nominated a pair for the first time: DTLS and RTCP may be sent. str0m learns that from its ICE alone, which
    /// knows neither two ICE sessions nor checks of a lite agent's own, so [`ice`](super::ice) has the real addresses, and
    /// str0m's is told of one client that is always there.
    pub fn nominated(&mut self, now: Instant, out: &mut Drained) -> Result<(), RtcError> {
        if std::mem::take(&mut self.greets) {
            // str0m starts DTLS at the time that it was told last.
            self.handle_timeout(now, out)?;
            self.with(now, out, |rtc| rtc.direct_api().start_dtls(true))??;
        }
        let request =
            stun::Request { to: UFRAG, from: UFRAG, password: PASSWORD, tie_breaker: 0, nominates: true };
        self.receive(now, &request.write(TransactionId([0; 12])), out)
    }

    /// Does one thing to the `Rtc`, then lets time pass and drains.
    pub fn with<R>(
        &mut self,
        now: Instant,
        out: &mut Drained,
        mutate: impl FnOnce(&mut Rtc) -> R,
    ) -> Result<R, RtcError> {
        let result = mutate(&mut self.rtc);
        self.handle_timeout(now, out)?;
        Ok(result)
    }

    /// The rid of a received stream, if it is a simulcast layer.
    pub fn rid_of(&mut self, ssrc: u32) -> Option<Rid> {
        self.rtc.direct_api().stream_rx(&ssrc.into()).and_then(|stream| stream.rid())
    }

    /// Sends NACKs for a received stream, or not. str0m switches them off for streams without RTX, as OBS's are.
    pub fn set_nack(&mut self, ssrc: u32, nack: bool) {
        if let Some(stream) = self.rtc.direct_api().stream_rx(&ssrc.into()) {
            stream.suppress_nack(!nack);
        }
    }

    fn drain(&mut self, now: Instant, out: &mut Drained) -> Result<(), RtcError> {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Transmit(transmit)) => {
                    // Its answer to our own request is nobody's.
                    if DatagramKind::of(&transmit.contents) != Some(DatagramKind::Stun) {
                        out.datagrams.push(transmit.contents.into());
                    }
                }
                Ok(Output::Event(event)) => out.events.push(event),
                Ok(Output::Timeout(deadline)) => {
                    self.deadline = deadline;
                    return Ok(());
                }
                Err(error) => {
                    // Of descriptions str0m knows the fingerprint alone.
                    if matches!(error, RtcError::RemoteSdp(_)) {
                        HandshakeError::OtherCertificate.leave();
                    }
                    // The old deadline may have passed, and would then come again at once and for ever.
                    self.deadline = now + ERROR_PAUSE;
                    return Err(error);
                }
            }
        }
    }
}

fn inside() -> IceCreds {
    IceCreds { ufrag: UFRAG.into(), pass: PASSWORD.into() }
}

/// The SSRC of an RTP packet, `None` for anything else.
pub fn rtp_ssrc(datagram: &[u8]) -> Option<u32> {
    let is_rtp = DatagramKind::of(datagram) == Some(DatagramKind::Rtp);
    is_rtp.then(|| u32::from_be_bytes([datagram[8], datagram[9], datagram[10], datagram[11]]))
}

fn declare(rtc: &mut Rtc, section: &MediaSection) {
    let mid = Mid::from(section.mid.as_str());
    let mut api = rtc.direct_api();
    let media = api.declare_media(mid, str0m_kind(section.kind));
    for rid in &section.rids {
        media.expect_rid_rx(Rid::from(rid.as_str()));
    }
    if section.extensions.iter().any(|(_, extension)| *extension == Extension::TransportCc) {
        api.enable_twcc_feedback();
    }
    let nack = section.payloads.iter().any(|payload| payload.feedback.nack);
    for pair in &section.ssrcs {
        let (media, rtx) = (pair.media.0.into(), pair.rtx.map(|rtx| rtx.0.into()));
        api.expect_stream_rx(media, rtx, mid, None).suppress_nack(!nack);
    }
}

fn extension_map(plan: &SessionPlan) -> ExtensionMap {
    let mut map = ExtensionMap::empty();
    for &(id, extension) in plan.sections.iter().flat_map(|section| &section.extensions) {
        if let Some(extension) = str0m_extension(extension) {
            map.set(id, extension);
        }
    }
    map
}

/// What str0m itself must read: which track and layer a packet belongs to, and what its feedback counts. The others pass by it.
fn str0m_extension(extension: Extension) -> Option<Str0mExtension> {
    match extension {
        Extension::Mid => Some(Str0mExtension::RtpMid),
        Extension::RtpStreamId => Some(Str0mExtension::RtpStreamId),
        Extension::RepairedRtpStreamId => Some(Str0mExtension::RepairedRtpStreamId),
        Extension::TransportCc => Some(Str0mExtension::TransportSequenceNumber),
        Extension::AudioLevel
        | Extension::VideoOrientation
        | Extension::AbsSendTime
        | Extension::PlayoutDelay
        | Extension::DependencyDescriptor
        | Extension::AbsCaptureTime => None,
    }
}

fn codec_config(plan: &SessionPlan) -> CodecConfig {
    let payloads = plan.sections.iter().flat_map(|section| &section.payloads);
    CodecConfig::new_from_payload_params(payloads.map(payload_params).collect())
}

fn payload_params(payload: &Payload) -> PayloadParams {
    let (codec, channels) = match payload.codec {
        Codec::Opus => (Str0mCodec::Opus, Some(2)),
        Codec::Pcmu => (Str0mCodec::PCMU, Some(1)),
        Codec::Pcma => (Str0mCodec::PCMA, Some(1)),
        Codec::Vp8 => (Str0mCodec::Vp8, None),
        Codec::Vp9 { .. } => (Str0mCodec::Vp9, None),
        Codec::Av1 { .. } => (Str0mCodec::Av1, None),
        Codec::H264 { .. } => (Str0mCodec::H264, None),
        Codec::H265 { .. } => (Str0mCodec::H265, None),
    };
    let clock_rate = match payload.codec.clock_rate() {
        48_000 => Frequency::FORTY_EIGHT_KHZ,
        8_000 => Frequency::EIGHT_KHZ,
        _ => Frequency::NINETY_KHZ,
    };
    let spec = CodecSpec { codec, clock_rate, channels, format: FormatParams::default() };
    let mut params = PayloadParams::new(payload.pt.0.into(), payload.rtx.map(|pt| pt.0.into()), spec);
    params.set_fb_nack(payload.feedback.nack);
    params.set_fb_pli(payload.feedback.pli);
    params.set_fb_fir(payload.feedback.fir);
    params.set_fb_transport_cc(payload.feedback.transport_cc);
    params.set_fb_remb(false);
    params
}

fn str0m_kind(kind: MediaKind) -> Str0mKind {
    match kind {
        MediaKind::Audio => Str0mKind::Audio,
        MediaKind::Video => Str0mKind::Video,
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Epoch, PeerCertificate, RemoteTransport, StreamId};
    use super::*;

    fn greeting(certificate: PeerCertificate) -> SessionPlan {
        let remote = RemoteTransport {
            ice_ufrag: "them".into(),
            ice_pwd: "themthemthemthemthemthem".into(),
            fingerprint: [7; 32],
            dtls_role: DtlsRole::Active,
            certificate,
        };
        SessionPlan {
            role: Role::Viewer,
            stream: StreamId(1),
            epoch: Epoch(0),
            remote,
            sections: vec![],
            local: None,
            extmap_allow_mixed: false,
            blob: vec![],
        }
    }

    #[test]
    fn a_client_that_is_long_in_coming_is_greeted_once() {
        let identity = Identity::generate().expect("an identity");
        for certificate in [PeerCertificate::Ecdsa, PeerCertificate::Any] {
            let (mut now, mut out) = (Instant::now(), Drained::default());
            let mut peer = Peer::new(now, &greeting(certificate), &identity, &mut out).expect("a peer");
            for _ in 0..10 {
                now += Duration::from_secs(1);
                peer.handle_timeout(now, &mut out).expect("time passes");
            }
            assert!(out.datagrams.is_empty(), "nobody knows where to");
            peer.nominated(now, &mut out).expect("nominated");
            assert_eq!(out.datagrams.len(), 1, "{certificate:?}");
            assert_eq!((out.datagrams[0][0], out.datagrams[0][13]), (22, 1), "a ClientHello");
        }
    }
}
