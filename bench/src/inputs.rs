//! Inputs that the benchmarks share: plans, packets and the core they are given to.

use sfu::control::protocol::{SessionId, WorkerIndex};
use sfu::core::codec::{Codec, H264Profile, MediaKind};
use sfu::core::extensions::PassThrough;
use sfu::core::forwarder::Forwarder;
use sfu::core::identity::Identity;
use sfu::core::layers::LayerIndex;
use sfu::core::ntp::NtpClock;
use sfu::core::packet::{MediaPacket, PacketHeader};
use sfu::core::plan::{
    DtlsRole, Epoch, Extension, Feedback, MediaSection, Payload, PayloadType, PeerCertificate,
    RemoteTransport, Role, SessionPlan, Ssrc, SsrcPair, StreamId,
};
use sfu::core::rewrite::Source;
use sfu::core::stun::{Request, TransactionId};
use sfu::mesh::WorkerSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// What Chromium publishes first when H264 is preferred.
pub const H264: Codec = Codec::H264 { profile: H264Profile::Baseline, packetization_mode: 1 };

/// The payload type of the video.
pub const PT: u8 = 102;
/// The payload type of its retransmissions.
pub const RTX_PT: u8 = 103;
/// The id of the mid header extension.
pub const MID_ID: u8 = 4;
/// A viewer's streams.
pub const SSRCS: SsrcPair = SsrcPair { media: Ssrc(1_000), rtx: Some(Ssrc(1_001)) };
/// Bytes of a datagram on the wire, without IP and UDP: what Chromium and OBS come near to.
pub const DATAGRAM_BYTES: usize = 1_200;
/// Bytes of the RTP header with the mid extension.
pub const HEADER_BYTES: usize = 20;
/// What is left for the payload.
pub const PAYLOAD_BYTES: usize = DATAGRAM_BYTES - HEADER_BYTES - crate::seal::TAG_BYTES;

/// A core without sessions. Its ufrags and sequence numbers are the same in each run.
pub fn forwarder(identity: Identity) -> Forwarder {
    let random = Box::new(|bytes: &mut [u8]| bytes.fill(7));
    let clock = NtpClock::new(Instant::now(), SystemTime::now());
    Forwarder::new(WorkerIndex(0), WorkerSet::default(), identity, random, clock)
}

/// A viewer's plan with one video section.
pub fn viewer_plan() -> SessionPlan {
    let feedback = Feedback { nack: true, pli: true, ..Feedback::default() };
    let payload = Payload { pt: PayloadType(PT), rtx: Some(PayloadType(RTX_PT)), codec: H264, feedback };
    SessionPlan {
        role: Role::Viewer,
        stream: StreamId(1),
        epoch: Epoch(0),
        remote: RemoteTransport {
            ice_ufrag: "qhSH".into(),
            ice_pwd: "MaseEy1ovB5w65xc9v00Z7DT".into(),
            fingerprint: [7; 32],
            dtls_role: DtlsRole::Passive,
            certificate: PeerCertificate::Ecdsa,
        },
        sections: vec![MediaSection {
            mid: "0".into(),
            kind: MediaKind::Video,
            payloads: vec![payload],
            extensions: vec![(MID_ID, Extension::Mid)],
            ssrcs: vec![SSRCS],
            rids: vec![],
        }],
        local: None,
        extmap_allow_mixed: false,
        blob: vec![],
    }
}

/// A STUN Binding request to a session on worker 0.
pub fn binding_request() -> Vec<u8> {
    let session = SessionId { worker: WorkerIndex(0), slot: 17, generation: 3 };
    let to = sfu::core::demux::ufrag(session, 0xfeed);
    let request = Request { to: &to, from: "qhSH", password: "", tie_breaker: 1, nominates: true };
    request.write(TransactionId([9; 12]))
}

/// A full-size packet in the middle of a frame, of sequence number 1.
pub fn packet() -> MediaPacket {
    let header = PacketHeader {
        stream: StreamId(1),
        source: Source { epoch: Epoch(1), ssrc: Ssrc(1), codec: H264, layer: LayerIndex(0) },
        sequence: 1,
        timestamp: 3_000,
        marker: false,
        keyframe: false,
        captured: Instant::now(),
        received: Instant::now(),
        extensions: PassThrough::EMPTY,
    };
    MediaPacket { header, payload: Arc::from([0x5c; PAYLOAD_BYTES]) }
}
