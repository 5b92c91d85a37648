//! Why an offer is refused, which HTTP status says so, and what the client can do about it.

use sfu::core::codec::MediaKind;
use sfu::core::plan::{PlanError, Role};
use thiserror::Error;

/// A refused offer. No message repeats the stranger's text: positions and kinds are enough to find the line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OfferError {
    /// A bound of the parser, checked before any work is done on what exceeds it.
    #[error("the SDP is too large: at most {max} {what} are accepted")]
    TooLarge {
        /// What there is too much of, in the plural.
        what: &'static str,
        /// The largest accepted number of them.
        max: usize,
    },
    /// The body does not begin as RFC 8866 §5 demands.
    #[error("the body is not SDP: it must start with the line v=0")]
    NotSdp,
    /// A line that we need cannot be read.
    #[error("line {line} of the SDP is malformed: expected {expected}")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// The grammar that the line breaks.
        expected: &'static str,
    },
    /// An attribute that every WebRTC offer has is absent.
    #[error("the {kind} section lacks a={attribute} and the session level has none either: add it")]
    Missing {
        /// The m-section.
        kind: MediaKind,
        /// The attribute's name.
        attribute: &'static str,
    },
    /// There is no m-section.
    #[error("the offer has no m= section: add one m=audio or one m=video or one of each")]
    NoMedia,
    /// Data channels, text and the like.
    #[error("line {line}: only m=audio and m=video are accepted; offer no data channel or other media")]
    UnsupportedMedia {
        /// Counted from 1.
        line: usize,
    },
    /// The transport protocol of an m= line.
    #[error("line {line}: the transport protocol is not accepted; offer UDP/TLS/RTP/SAVPF")]
    UnsupportedProtocol {
        /// Counted from 1.
        line: usize,
    },
    /// RFC 9725 §4.2 and the WHEP draft §4.2.4 forbid the other directions.
    #[error("the {kind} section has the wrong direction: {}", direction_cure(*.role))]
    Direction {
        /// The m-section.
        kind: MediaKind,
        /// Whose offer it is.
        role: Role,
    },
    /// Several m-sections need one transport (RFC 9725 §4.4.1).
    #[error("there are several m= sections but no a=group:BUNDLE; use the bundle policy max-bundle")]
    NoBundle,
    /// Several transports for one session.
    #[error("there is more than one a=group:BUNDLE; put all m= sections into one")]
    SeveralBundles,
    /// The BUNDLE group and the m-sections do not name the same mids.
    #[error("a=group:BUNDLE must list the mid of every m= section once, and no other")]
    BundleMismatch,
    /// RTP and RTCP share our one port (RFC 9725 §4.4.1).
    #[error("the {kind} section lacks a=rtcp-mux; RTCP on a port of its own is not supported")]
    NoRtcpMux {
        /// The m-section.
        kind: MediaKind,
    },
    /// Port 0 without `a=bundle-only` means a section that its own offerer has switched off.
    #[error("the {kind} section has port 0 without a=bundle-only; leave an unused section out of the offer")]
    Disabled {
        /// The m-section.
        kind: MediaKind,
    },
    /// We are ICE-lite, so the client has to send the checks (RFC 9725 §4.4.5).
    #[error("a=ice-lite is refused, as this server is ICE-lite itself: the client must use full ICE")]
    IceLite,
    /// `a=setup:holdconn`.
    #[error("a=setup must be actpass, active or passive")]
    SetupRole,
    /// Only hashes that we cannot compare.
    #[error("no a=fingerprint uses sha-256; add one for the same certificate")]
    NoSha256,
    /// Nothing left to negotiate in an m-section.
    #[error("the {kind} section offers no codec that is supported here, or none whose a=fmtp can be read; offer {}", codecs(*.kind))]
    NoCodec {
        /// The m-section.
        kind: MediaKind,
    },
    /// RFC 9725 §4.4.2 allows one MediaStream.
    #[error("the m= sections belong to different streams (a=msid); publish one MediaStream per session")]
    SeveralStreams,
    /// RFC 8853 §5.1: a rid means nothing without its own line.
    #[error("a=simulcast names a rid that no a=rid line declares with the direction send")]
    UndeclaredRid,
    /// Simulcast whose layers nobody could tell apart.
    #[error(
        "the video section offers simulcast without the header extension sdes:rtp-stream-id; add its a=extmap"
    )]
    SimulcastWithoutRid,
    /// Everything that the media process also refuses.
    #[error("{0}")]
    Plan(#[from] PlanError),
}

/// A refused answer to an offer of ours.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AnswerError {
    /// RFC 3264 §6: one m-section for each offered one, in the same order.
    #[error(
        "the answer must have the m= sections of the offer in their order, with the same media and a=mid"
    )]
    Sections,
    /// `a=setup:actpass`, which only offers may say (RFC 8842 §5.3).
    #[error("a=setup in an answer must be active or passive")]
    Setup,
    /// The WHEP draft §4.2.5 wants a player to receive.
    #[error("the {kind} section of the answer has the wrong direction: a player answers recvonly")]
    Direction {
        /// The m-section.
        kind: MediaKind,
    },
    /// An accepted section without a payload type of ours.
    #[error(
        "the {kind} section of the answer accepts no payload type that was offered; set its port to 0 to decline it"
    )]
    NoCodec {
        /// The m-section.
        kind: MediaKind,
    },
    /// Every section is declined.
    #[error("the answer declines everything that was offered")]
    Nothing,
    /// What would be wrong in an offer, too.
    #[error(transparent)]
    Sdp(OfferError),
}

/// Without a word of an offer: it is ours.
impl From<OfferError> for AnswerError {
    fn from(error: OfferError) -> AnswerError {
        match error {
            OfferError::NoMedia => AnswerError::Sections,
            error => AnswerError::Sdp(error),
        }
    }
}

impl AnswerError {
    /// The HTTP status, as for an offer.
    pub fn status(&self) -> u16 {
        match self {
            AnswerError::Sdp(error) => error.status(),
            AnswerError::Sections | AnswerError::Setup => 400,
            _ => 422,
        }
    }
}

impl OfferError {
    /// The HTTP status: 400 for text that breaks a grammar, 413 for too much of it, 422 for an offer that is
    /// understood and cannot be accepted (RFC 9725 §4.4.2–4.4.4).
    pub fn status(&self) -> u16 {
        match self {
            OfferError::TooLarge { .. } => 413,
            OfferError::NotSdp
            | OfferError::Malformed { .. }
            | OfferError::Missing { .. }
            | OfferError::UndeclaredRid
            | OfferError::NoMedia => 400,
            _ => 422,
        }
    }
}

fn direction_cure(role: Role) -> &'static str {
    match role {
        Role::Publisher => "a publisher must offer sendonly or sendrecv",
        Role::Viewer => "a viewer must offer recvonly or sendrecv",
    }
}

fn codecs(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "opus, PCMU or PCMA",
        MediaKind::Video => "VP8, VP9, AV1, H264 (packetization-mode 0 or 1) or H265",
    }
}
