//! The session plan: everything that signaling learned from an SDP offer and that media must know, typed.
//!
//! Signaling writes it, media executes it; media never sees SDP. [`SessionPlan::validate`] holds every rule that
//! str0m would otherwise punish with a panic or with silence, and both sides call it.

use super::codec::{Codec, MediaKind};
use crate::control::protocol::IceCredentials;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which way media flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// WHIP: the client sends.
    Publisher,
    /// WHEP: the client receives.
    Viewer,
}

/// A stream in the media process. Signaling maps names to it; a random number, so it needs no coordination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StreamId(pub u64);

impl StreamId {
    /// The RTCP canonical name of all that viewers of the stream are sent, so that a player keeps it in step (RFC 3550 §6.5.1).
    pub fn cname(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// Orders the publishers of one stream: viewers follow the highest epoch from which packets arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// RTP synchronization source, RFC 3550.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ssrc(pub u32);

/// RTP payload type, 0–127.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PayloadType(pub u8);

/// Our part in the DTLS handshake, the other side of the offer's `a=setup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DtlsRole {
    /// We answer `setup:active` and send the ClientHello.
    Active,
    /// We answer `setup:passive` and wait for it.
    Passive,
}

/// The header extensions that media understands. Others are not negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Extension {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`, RFC 8843.
    Mid,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`, RFC 8852.
    RtpStreamId,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`, RFC 8852.
    RepairedRtpStreamId,
    /// Transport-wide congestion control, draft-holmer-rmcat-transport-wide-cc-extensions-01.
    TransportCc,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level`, RFC 6464.
    AudioLevel,
    /// `urn:3gpp:video-orientation`, TS 26.114.
    VideoOrientation,
    /// When a packet left us, 24 bits of 6.18 fixed-point seconds, for the receiver's estimate of the bandwidth. Written by us.
    AbsSendTime,
    /// How long the receiver may buffer before it plays, as the publisher wishes. Passed through.
    PlayoutDelay,
    /// Frame dependencies, AV1 RTP specification appendix A. Passed through.
    DependencyDescriptor,
    /// When the media was captured, as the publisher's clock has it. Passed through.
    AbsCaptureTime,
}

impl Extension {
    /// Every extension, in the order in which they are looked up.
    pub const ALL: [Extension; 10] = [
        Extension::Mid,
        Extension::RtpStreamId,
        Extension::RepairedRtpStreamId,
        Extension::TransportCc,
        Extension::AudioLevel,
        Extension::VideoOrientation,
        Extension::AbsSendTime,
        Extension::PlayoutDelay,
        Extension::DependencyDescriptor,
        Extension::AbsCaptureTime,
    ];

    /// The URI of `a=extmap`.
    pub fn uri(self) -> &'static str {
        match self {
            Extension::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Extension::RtpStreamId => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Extension::RepairedRtpStreamId => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            Extension::TransportCc => {
                "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
            }
            Extension::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Extension::VideoOrientation => "urn:3gpp:video-orientation",
            Extension::AbsSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            Extension::PlayoutDelay => "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
            Extension::DependencyDescriptor => {
                "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
            }
            Extension::AbsCaptureTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
        }
    }
}

/// The key in the client's DTLS certificate, which an offer does not name: it decides which DTLS library the session gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerCertificate {
    /// Known to be ECDSA. Nothing else connects.
    Ecdsa,
    /// ECDSA or RSA. Costs more.
    Any,
}

/// The client's half of the transport.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteTransport {
    /// ICE user name fragment of the client, 4–256 ice-chars (RFC 8839 §5.4).
    pub ice_ufrag: String,
    /// ICE password of the client, 22–256 ice-chars. Kept out of logs.
    pub ice_pwd: String,
    /// SHA-256 of the client's DTLS certificate.
    pub fingerprint: [u8; 32],
    /// Our role.
    pub dtls_role: DtlsRole,
    /// The kind of its certificate.
    pub certificate: PeerCertificate,
}

impl fmt::Debug for RemoteTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteTransport")
            .field("ice_ufrag", &self.ice_ufrag)
            .field("dtls_role", &self.dtls_role)
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// RTCP feedback that was offered and is answered for one payload type (RFC 4585, RFC 5104).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feedback {
    /// `nack`
    pub nack: bool,
    /// `nack pli`
    pub pli: bool,
    /// `ccm fir`
    pub fir: bool,
    /// `transport-cc`
    pub transport_cc: bool,
}

/// One accepted payload type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// The number that the client gave it.
    pub pt: PayloadType,
    /// The payload type of its retransmissions (RFC 4588), when offered.
    pub rtx: Option<PayloadType>,
    /// What it carries.
    pub codec: Codec,
    /// Feedback answered.
    pub feedback: Feedback,
}

impl Payload {
    /// Whether a lost packet is sent again under its own number. Then it must be the same to the last bit, because SRTP would use
    /// one nonce for two texts otherwise.
    pub fn repeats_exactly(&self) -> bool {
        self.feedback.nack && self.rtx.is_none()
    }
}

/// An SSRC pair: the media and its retransmissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SsrcPair {
    /// The media's SSRC.
    pub media: Ssrc,
    /// The SSRC of its RTX stream.
    pub rtx: Option<Ssrc>,
}

/// One accepted m-section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaSection {
    /// `a=mid`, 1–[`MID_BYTES_MAX`] bytes.
    pub mid: String,
    /// Audio or video. A session has at most one of each.
    pub kind: MediaKind,
    /// Accepted payload types in the offer's order, never empty.
    pub payloads: Vec<Payload>,
    /// Accepted header extensions with the offer's ids.
    pub extensions: Vec<(u8, Extension)>,
    /// Publisher: the SSRCs that the offer declares, possibly none. Viewer: exactly one pair, ours.
    pub ssrcs: Vec<SsrcPair>,
    /// Publisher: `rid`s of the simulcast layers in the offer's order, empty without simulcast. Each 1–[`RID_BYTES_MAX`] bytes.
    pub rids: Vec<String>,
}

/// A session as signaling wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionPlan {
    /// Publisher or viewer.
    pub role: Role,
    /// The stream that it sends or watches.
    pub stream: StreamId,
    /// The publisher's place in the stream's line of publishers; 0 for viewers.
    pub epoch: Epoch,
    /// The client's transport.
    pub remote: RemoteTransport,
    /// Our ICE credentials, if the client has been told some already, in an offer of ours. The ufrag is one of
    /// [`chosen_ufrag`](super::demux::chosen_ufrag). `None`: media makes them.
    pub local: Option<IceCredentials>,
    /// Accepted m-sections, all in one BUNDLE.
    pub sections: Vec<MediaSection>,
    /// Packets with one-byte and with two-byte header extensions may share a stream (`a=extmap-allow-mixed`, RFC 8285 §6),
    /// so one of more than 16 bytes may be sent.
    pub extmap_allow_mixed: bool,
    /// What signaling wants to find again after a restart; opaque to media, at most [`BLOB_BYTES_MAX`].
    pub blob: Vec<u8>,
}

/// Longest `mid` that str0m holds.
pub const MID_BYTES_MAX: usize = 16;
/// Longest `rid` that str0m holds.
pub const RID_BYTES_MAX: usize = 8;
/// Highest header extension id that str0m maps.
pub const EXTENSION_ID_MAX: u8 = 14;
/// Longest [`SessionPlan::blob`]: ids, names and an ETag fit many times.
pub const BLOB_BYTES_MAX: usize = 4096;
/// Payload types in one section; Chromium offers 21 video payloads.
pub const PAYLOADS_MAX: usize = 64;
/// SSRC pairs or rids in one section: three simulcast layers and room.
pub const LAYERS_MAX: usize = 8;

/// Why a plan cannot be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each variant is its message")]
pub enum PlanError {
    #[error("a session needs at least one m-section")]
    NoSection,
    #[error("a session has at most one audio and one video m-section")]
    DuplicateKind,
    #[error("two m-sections have the same mid")]
    DuplicateMid,
    #[error("a mid must have 1 to 16 token characters")]
    BadMid,
    #[error("a rid must have 1 to 8 letters or digits, and a section at most 8 of them, all different")]
    BadRid,
    #[error("an m-section needs 1 to 64 payload types")]
    PayloadCount,
    #[error("payload types must be below 128 and used once in the BUNDLE group")]
    BadPayloadType,
    #[error("a payload's codec is of another kind than its m-section")]
    CodecKind,
    #[error("header extension ids must be 1 to 14 and mean the same in every m-section")]
    BadExtensionId,
    #[error("SSRCs must be used once and not be 0; a viewer's section has exactly one pair")]
    BadSsrc,
    #[error("ICE credentials must have 4 to 256 and 22 to 256 ice-chars")]
    BadIceCredentials,
    #[error("the blob is larger than 4096 bytes")]
    BlobSize,
}

impl SessionPlan {
    /// Checks every rule that the media process relies on.
    pub fn validate(&self) -> Result<(), PlanError> {
        if self.blob.len() > BLOB_BYTES_MAX {
            return Err(PlanError::BlobSize);
        }
        let remote = &self.remote;
        let local_is_good =
            self.local.as_ref().is_none_or(|local| are_ice_credentials(&local.ufrag, &local.pwd));
        if !are_ice_credentials(&remote.ice_ufrag, &remote.ice_pwd) || !local_is_good {
            return Err(PlanError::BadIceCredentials);
        }
        if self.sections.is_empty() {
            return Err(PlanError::NoSection);
        }
        let mut seen = Seen::default();
        for section in &self.sections {
            seen.section(section, self.role)?;
        }
        Ok(())
    }

    /// The section of `kind`, if the session has one.
    pub fn section(&self, kind: MediaKind) -> Option<&MediaSection> {
        self.sections.iter().find(|section| section.kind == kind)
    }
}

impl MediaSection {
    /// The payload under which a viewer with this section receives `stream`: an exact match first, else the first
    /// that decodes it. `None` means that the viewer cannot play it.
    pub fn payload_for(&self, stream: Codec) -> Option<&Payload> {
        let exact = self.payloads.iter().find(|payload| payload.codec == stream);
        exact.or_else(|| self.payloads.iter().find(|payload| payload.codec.plays(stream)))
    }

    /// The payload with this payload type, not counting RTX.
    pub fn payload(&self, pt: PayloadType) -> Option<&Payload> {
        self.payloads.iter().find(|payload| payload.pt == pt)
    }
}

/// What must be unique over the sections of one BUNDLE group.
#[derive(Default)]
struct Seen<'a> {
    kinds: Vec<MediaKind>,
    mids: Vec<&'a str>,
    payload_types: Vec<u8>,
    ssrcs: Vec<u32>,
    extensions: Vec<(u8, Extension)>,
}

impl<'a> Seen<'a> {
    fn section(&mut self, section: &'a MediaSection, role: Role) -> Result<(), PlanError> {
        if !insert(&mut self.kinds, section.kind) {
            return Err(PlanError::DuplicateKind);
        }
        if section.mid.len() > MID_BYTES_MAX || !is_token(&section.mid) {
            return Err(PlanError::BadMid);
        }
        if !insert(&mut self.mids, section.mid.as_str()) {
            return Err(PlanError::DuplicateMid);
        }
        self.payloads(section)?;
        self.extensions(section)?;
        self.layers(section, role)
    }

    fn payloads(&mut self, section: &MediaSection) -> Result<(), PlanError> {
        if section.payloads.is_empty() || section.payloads.len() > PAYLOADS_MAX {
            return Err(PlanError::PayloadCount);
        }
        for payload in &section.payloads {
            if payload.codec.kind() != section.kind {
                return Err(PlanError::CodecKind);
            }
            for pt in [Some(payload.pt), payload.rtx].into_iter().flatten() {
                if pt.0 > 127 || !insert(&mut self.payload_types, pt.0) {
                    return Err(PlanError::BadPayloadType);
                }
            }
        }
        Ok(())
    }

    fn extensions(&mut self, section: &MediaSection) -> Result<(), PlanError> {
        for &(id, extension) in &section.extensions {
            let clash = self.extensions.iter().any(|&(seen_id, seen)| (seen_id == id) != (seen == extension));
            if !(1..=EXTENSION_ID_MAX).contains(&id) || clash {
                return Err(PlanError::BadExtensionId);
            }
            insert(&mut self.extensions, (id, extension));
        }
        Ok(())
    }

    fn layers(&mut self, section: &MediaSection, role: Role) -> Result<(), PlanError> {
        let pairs = section.ssrcs.len();
        if pairs > LAYERS_MAX || (role == Role::Viewer && pairs != 1) {
            return Err(PlanError::BadSsrc);
        }
        for pair in &section.ssrcs {
            for ssrc in [Some(pair.media), pair.rtx].into_iter().flatten() {
                if ssrc.0 == 0 || !insert(&mut self.ssrcs, ssrc.0) {
                    return Err(PlanError::BadSsrc);
                }
            }
        }
        let mut rids = Vec::new();
        for rid in &section.rids {
            let good =
                (1..=RID_BYTES_MAX).contains(&rid.len()) && rid.bytes().all(|b| b.is_ascii_alphanumeric());
            if !good || !insert(&mut rids, rid.as_str()) || rids.len() > LAYERS_MAX {
                return Err(PlanError::BadRid);
            }
        }
        Ok(())
    }
}

/// Adds `item` unless it is there; says whether it was new.
fn insert<T: PartialEq>(items: &mut Vec<T>, item: T) -> bool {
    let new = !items.contains(&item);
    if new {
        items.push(item);
    }
    new
}

/// Whether a client may have these credentials (RFC 8839 §5.4).
pub fn are_ice_credentials(ufrag: &str, pwd: &str) -> bool {
    is_ice_chars(ufrag, 4) && is_ice_chars(pwd, 22)
}

/// `ice-char` of RFC 8839 §5.1, at least `min` and at most 256 of them.
fn is_ice_chars(text: &str, min: usize) -> bool {
    (min..=256).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

/// `token` of RFC 8866 §9.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_token_char)
}

/// `token-char` of RFC 8866 §9.
pub fn is_token_char(c: char) -> bool {
    c.is_ascii_graphic() && !"\"(),/:;<=>?@[\\]".contains(c)
}
