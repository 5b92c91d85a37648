//! Session plans that tests start from.

use sfu::core::codec::{Codec, H264Profile, MediaKind};
use sfu::core::plan::{
    DtlsRole, Epoch, Extension, Feedback, MediaSection, Payload, PayloadType, RemoteTransport, Role,
    SessionPlan, Ssrc, SsrcPair, StreamId,
};

/// The one stream.
pub const STREAM: StreamId = StreamId(7);
/// The payload type of the video.
pub const PT: u8 = 102;
/// The payload type of its retransmissions.
pub const RTX_PT: u8 = 103;
/// The id of the mid header extension.
pub const MID_ID: u8 = 4;

/// A plan with one H264 video section and the credentials of nobody.
pub fn plan_h264(role: Role, epoch: Epoch) -> SessionPlan {
    let pair = SsrcPair { media: Ssrc(1000), rtx: Some(Ssrc(1001)) };
    SessionPlan {
        role,
        stream: STREAM,
        epoch,
        remote: RemoteTransport {
            ice_ufrag: "abcd".into(),
            ice_pwd: "0123456789abcdefghijkl".into(),
            fingerprint: [0; 32],
            dtls_role: DtlsRole::Passive,
        },
        sections: vec![MediaSection {
            mid: "0".into(),
            kind: MediaKind::Video,
            payloads: vec![Payload {
                pt: PayloadType(PT),
                rtx: Some(PayloadType(RTX_PT)),
                codec: Codec::H264 { profile: H264Profile::Baseline, packetization_mode: 1 },
                feedback: Feedback { nack: true, pli: true, ..Feedback::default() },
            }],
            extensions: vec![(MID_ID, Extension::Mid)],
            ssrcs: vec![pair],
            rids: vec![],
        }],
        local: None,
        extmap_allow_mixed: false,
        blob: vec![],
    }
}
