//! Session plans that tests start from.

#![allow(dead_code, reason = "each test binary uses its part")]

use sfu::core::codec::{Codec, H264Profile, MediaKind};
use sfu::core::plan::{
    DtlsRole, Epoch, Extension, Feedback, MediaSection, Payload, PayloadType, PeerCertificate,
    RemoteTransport, Role, SessionPlan, Ssrc, SsrcPair, StreamId,
};

/// The one stream.
pub const STREAM: StreamId = StreamId(7);
/// The payload type of the video.
pub const PT: u8 = 102;
/// The payload type of its retransmissions.
pub const RTX_PT: u8 = 103;
/// The id of the mid header extension.
pub const MID_ID: u8 = 4;

/// The ids of the rid header extensions.
pub const RID_ID: u8 = 10;
/// For the retransmissions of a layer.
pub const REPAIRED_RID_ID: u8 = 11;

/// A publisher's plan with H264 layers, as an offer without `a=ssrc` makes it.
pub fn plan_simulcast(epoch: Epoch, rids: &[&str]) -> SessionPlan {
    let mut plan = plan_h264(Role::Publisher, epoch);
    let section = &mut plan.sections[0];
    section.rids = rids.iter().map(|rid| (*rid).to_owned()).collect();
    section.ssrcs.clear();
    let extensions = [(RID_ID, Extension::RtpStreamId), (REPAIRED_RID_ID, Extension::RepairedRtpStreamId)];
    section.extensions.extend(extensions);
    plan
}

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
            certificate: PeerCertificate::Ecdsa,
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

/// The same client without RTX.
pub fn without_rtx(mut plan: SessionPlan) -> SessionPlan {
    let section = &mut plan.sections[0];
    section.payloads[0].rtx = None;
    section.ssrcs[0].rtx = None;
    plan
}
