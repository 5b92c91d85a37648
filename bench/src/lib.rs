//! Inputs that the benchmarks share. `cargo bench -p bench` runs them.

use sfu::control::protocol::{SessionId, WorkerIndex};
use sfu::core::codec::{Codec, H264Profile, MediaKind};
use sfu::core::packet::{MediaPacket, PacketHeader};
use sfu::core::plan::{
    DtlsRole, Epoch, Extension, Feedback, MediaSection, Payload, PayloadType, RemoteTransport, Role,
    SessionPlan, Ssrc, SsrcPair, StreamId,
};
use sfu::core::rewrite::Source;
use std::sync::Arc;
use std::time::Instant;

/// What Chromium publishes first when H264 is preferred.
pub const H264: Codec = Codec::H264 { profile: H264Profile::Baseline, packetization_mode: 1 };

/// A viewer's plan with one video section.
pub fn viewer_plan() -> SessionPlan {
    let feedback = Feedback { nack: true, pli: true, ..Feedback::default() };
    let payload = Payload { pt: PayloadType(102), rtx: Some(PayloadType(103)), codec: H264, feedback };
    SessionPlan {
        role: Role::Viewer,
        stream: StreamId(1),
        epoch: Epoch(0),
        remote: RemoteTransport {
            ice_ufrag: "qhSH".into(),
            ice_pwd: "MaseEy1ovB5w65xc9v00Z7DT".into(),
            fingerprint: [7; 32],
            dtls_role: DtlsRole::Passive,
        },
        sections: vec![MediaSection {
            mid: "0".into(),
            kind: MediaKind::Video,
            payloads: vec![payload],
            extensions: vec![(4, Extension::Mid)],
            ssrcs: vec![SsrcPair { media: Ssrc(1), rtx: Some(Ssrc(2)) }],
            rids: vec![],
        }],
        blob: vec![],
    }
}

/// A STUN Binding request of a session on worker 0, without integrity.
pub fn binding_request() -> Vec<u8> {
    let session = SessionId { worker: WorkerIndex(0), slot: 17, generation: 3 };
    let username = format!("{}:qhSH", sfu::core::demux::ufrag(session, 0xfeed));
    let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    message.extend([9; 12]);
    message.extend([0, 6]);
    message.extend((username.len() as u16).to_be_bytes());
    message.extend(username.as_bytes());
    message
}

/// A full-size packet in the middle of a frame.
pub fn packet() -> MediaPacket {
    let header = PacketHeader {
        stream: StreamId(1),
        source: Source { epoch: Epoch(1), ssrc: Ssrc(1) },
        codec: H264,
        sequence: 1,
        timestamp: 3_000,
        marker: false,
        keyframe: false,
        captured: Instant::now(),
        received: Instant::now(),
        audio_level: None,
        video_orientation: None,
    };
    MediaPacket { header, payload: Arc::from([0x5c; 1_200]) }
}
