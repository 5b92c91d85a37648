//! Offers of ours to viewers, for the WHEP draft's second mode (§4.2.2 there), and the answers to them.
//!
//! What we offer is what we would answer to a player that offers every codec of the stream, so the same code writes it.

use super::answer::{LocalDescription, Writer, write};
use super::attributes::Extmap;
use super::attributes::{Direction, Setup};
use super::error::{AnswerError, OfferError};
use super::fmtp::Encoding;
use super::parse::{Format, Offer, Section};
use super::plan::{FreshSsrcs, allows_mixed, flows, remote, section, understood};
use sfu::core::codec::{Codec, H264Profile, MediaKind};
use sfu::core::plan::{
    Epoch, Extension, Feedback, MediaSection, Payload, PayloadType, Role, SessionPlan, SsrcPair, StreamId,
};

/// What is offered while nobody publishes: all that we forward, in the profiles that browsers and encoders use. GStreamer's
/// players take the first video codec alone, so the one that every player has leads.
const ALL_CODECS: [Codec; 11] = [
    Codec::Opus,
    Codec::Pcmu,
    Codec::Pcma,
    Codec::Vp8,
    h264(H264Profile::ConstrainedBaseline),
    h264(H264Profile::Main),
    h264(H264Profile::ConstrainedHigh),
    h264(H264Profile::High),
    Codec::Vp9 { profile_id: 0 },
    Codec::Av1 { profile: 0 },
    Codec::H265 { profile_id: 1, tier_flag: 0 },
];

const fn h264(profile: H264Profile) -> Codec {
    Codec::H264 { profile, packetization_mode: 1 }
}

/// The payload type of Opus; the same as in most offers, for players that look for it.
const OPUS: u8 = 111;
/// Codecs in one section: with their retransmissions they use up the dynamic payload types from 96 to 127 but [`OPUS`].
const CODECS_MAX: usize = 15;
/// Level 3.1, which every decoder has; the stream's own may be another, as H264 allows where asymmetry is allowed.
const H264_LEVEL: u8 = 0x1f;

/// An offer of ours that waits for its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterOffer {
    /// The offer to which this would be the answer.
    wished: Offer,
    /// What is offered, valid as the sections of a viewer's plan.
    pub(super) sections: Vec<MediaSection>,
}

impl CounterOffer {
    /// An offer of `codecs`, or of all that we forward if there are none. Of the codecs of one kind the first fifteen count.
    ///
    /// `new_ssrc` yields random numbers; 0 and repetitions are skipped.
    ///
    /// # Errors
    /// `new_ssrc` yields nothing useful.
    pub fn new(codecs: &[Codec], new_ssrc: &mut dyn FnMut() -> u32) -> Result<CounterOffer, OfferError> {
        let codecs = if codecs.is_empty() { &ALL_CODECS } else { codecs };
        let mut wished = Offer::empty();
        for kind in MediaKind::ALL {
            let mut of_kind: Vec<Codec> = Vec::new();
            for &codec in codecs.iter().filter(|codec| codec.kind() == kind) {
                if of_kind.len() < CODECS_MAX && !of_kind.contains(&codec) {
                    of_kind.push(codec);
                }
            }
            if !of_kind.is_empty() {
                let mid = wished.sections.len().to_string();
                wished.bundle.push(mid.clone());
                wished.sections.push(wished_section(kind, mid, &of_kind));
            }
        }
        wished.bundles = 1;
        wished.session.extmap_allow_mixed = true;
        let mut ssrcs = FreshSsrcs::new(new_ssrc);
        let sections =
            wished.sections.iter().map(|wish| section(wish, &wished.session, Role::Viewer, &mut ssrcs));
        Ok(CounterOffer { sections: sections.collect::<Result<_, _>>()?, wished })
    }

    /// Whether there is video in it.
    pub fn has_video(&self) -> bool {
        self.sections.iter().any(|section| section.kind == MediaKind::Video)
    }

    /// The text. The player chooses who begins DTLS (RFC 8842 §5.2).
    pub fn text(&self, local: &LocalDescription<'_>) -> String {
        write(&self.wished, &self.sections, Writer { role: Role::Viewer, setup: "actpass", local })
    }

    /// Turns the player's answer into the plan of a viewer. The plan is valid, its blob and our credentials are empty.
    ///
    /// A payload type means what we offered, whatever parameters the answer repeats. Sections with port 0 or the direction
    /// `inactive` are declined and not in the plan.
    ///
    /// # Errors
    /// It is no answer to this offer, or cannot be played.
    pub fn accept(&self, answer: &Offer, stream: StreamId) -> Result<SessionPlan, AnswerError> {
        if answer.ice_lite {
            return Err(OfferError::IceLite.into());
        }
        if answer.bundles > 1 {
            return Err(OfferError::SeveralBundles.into());
        }
        if answer.sections.len() != self.sections.len() || answer.data_channel.is_some() {
            return Err(AnswerError::Sections);
        }
        let mut accepted = answer.clone();
        accepted.sections.clear();
        let mut sections = Vec::new();
        for (offered, answered) in self.sections.iter().zip(&answer.sections) {
            if let Some(section) = accept_section(offered, answered, answer)? {
                sections.push(section);
                accepted.sections.push(answered.clone());
            }
        }
        if sections.is_empty() {
            return Err(AnswerError::Nothing);
        }
        check_bundle(&sections, answer)?;
        let tagged = accepted.tagged().and_then(|tagged| tagged.level.setup).or(answer.session.setup);
        if tagged == Some(Setup::ActPass) {
            return Err(AnswerError::Setup);
        }
        let plan = SessionPlan {
            role: Role::Viewer,
            stream,
            epoch: Epoch(0),
            remote: remote(&accepted)?,
            local: None,
            sections,
            extmap_allow_mixed: allows_mixed(&accepted),
            blob: Vec::new(),
        };
        plan.validate().map_err(OfferError::Plan)?;
        Ok(plan)
    }
}

/// All that is accepted must share one transport (RFC 9143 §7.3).
fn check_bundle(sections: &[MediaSection], answer: &Offer) -> Result<(), OfferError> {
    match (answer.bundles, sections.len()) {
        (0, 1) => Ok(()),
        (0, _) => Err(OfferError::NoBundle),
        _ if sections.iter().all(|section| answer.bundle.contains(&section.mid)) => Ok(()),
        _ => Err(OfferError::BundleMismatch),
    }
}

/// `None` if it is declined.
fn accept_section(
    offered: &MediaSection,
    answered: &Section,
    answer: &Offer,
) -> Result<Option<MediaSection>, AnswerError> {
    let kind = offered.kind;
    let direction = answered.level.direction.or(answer.session.direction).unwrap_or(Direction::SendRecv);
    if answered.kind != kind {
        return Err(AnswerError::Sections);
    }
    if answered.port == 0 || direction == Direction::Inactive {
        return Ok(None);
    }
    if answered.mid.as_ref().is_some_and(|mid| *mid != offered.mid) {
        return Err(AnswerError::Sections);
    }
    if !direction.receives() {
        return Err(AnswerError::Direction { kind });
    }
    if !answered.rtcp_mux {
        return Err(OfferError::NoRtcpMux { kind }.into());
    }
    let payloads = accept_payloads(offered, answered);
    if payloads.is_empty() {
        return Err(AnswerError::NoCodec { kind });
    }
    let rtx = payloads.iter().any(|payload| payload.rtx.is_some());
    let ssrcs = offered.ssrcs.iter().map(|pair| SsrcPair { rtx: pair.rtx.filter(|_| rtx), ..*pair });
    Ok(Some(MediaSection {
        mid: offered.mid.clone(),
        kind,
        payloads,
        extensions: accept_extensions(offered, answered),
        ssrcs: ssrcs.collect(),
        rids: Vec::new(),
    }))
}

/// In the answer's order, which is that of the player's preference (RFC 3264 §6.1).
fn accept_payloads(offered: &MediaSection, answered: &Section) -> Vec<Payload> {
    let mut accepted: Vec<Payload> = Vec::new();
    for format in &answered.formats {
        let known = offered.payload(PayloadType(format.pt));
        let Some(payload) = known.filter(|payload| format.encoding == Encoding::of(payload.codec)) else {
            continue;
        };
        let repeats = |rtx: &PayloadType| answered.formats.iter().any(|format| format.pt == rtx.0);
        let both = |name: fn(&Feedback) -> bool| {
            name(&payload.feedback) && (name(&format.feedback) || name(&answered.feedback))
        };
        let feedback = Feedback {
            nack: both(|feedback| feedback.nack),
            pli: both(|feedback| feedback.pli),
            fir: both(|feedback| feedback.fir),
            transport_cc: both(|feedback| feedback.transport_cc),
        };
        accepted.push(Payload { rtx: payload.rtx.filter(repeats), feedback, ..*payload });
    }
    accepted
}

fn accept_extensions(offered: &MediaSection, answered: &Section) -> Vec<(u8, Extension)> {
    let accepted = |&&(id, extension): &&(u8, Extension)| {
        answered.extmaps.iter().any(|extmap| {
            let flows = extmap.direction.is_none_or(|direction| flows(direction, Role::Viewer));
            extmap.id == u16::from(id) && extmap.extension == extension && flows
        })
    };
    offered.extensions.iter().filter(accepted).copied().collect()
}

fn wished_section(kind: MediaKind, mid: String, codecs: &[Codec]) -> Section {
    let mut dynamic = (96..=127).filter(|pt| *pt != OPUS);
    let mut formats = Vec::new();
    for &codec in codecs {
        let free = match codec {
            Codec::Opus => Some(OPUS),
            Codec::Pcmu => Some(0),
            Codec::Pcma => Some(8),
            _ => dynamic.next(),
        };
        let Some(pt) = free else { break };
        formats.push(wished_format(pt, codec));
        if kind == MediaKind::Video
            && let Some(rtx) = dynamic.next()
        {
            let mut format = Format::new(rtx);
            format.encoding = Encoding::Rtx(codec.clock_rate());
            format.parameters.extend(&format!("apt={pt}"));
            formats.push(format);
        }
    }
    let mut section = Section::new(kind, "UDP/TLS/RTP/SAVPF", 9, formats);
    section.mid = Some(mid);
    section.level.direction = Some(Direction::RecvOnly);
    section.rtcp_mux = true;
    section.rtcp_rsize = true;
    let useful =
        (1..).zip(Extension::ALL).filter(|(_, extension)| understood(*extension, kind, Role::Viewer));
    section.extmaps = useful.map(|(id, extension)| Extmap { id, extension, direction: None }).collect();
    section
}

fn wished_format(pt: u8, codec: Codec) -> Format {
    let mut format = Format::new(pt);
    format.encoding = Encoding::of(codec);
    format.parameters.extend(&parameters(codec));
    if codec.kind() == MediaKind::Video {
        format.feedback = Feedback { nack: true, pli: true, fir: true, transport_cc: false };
    }
    format
}

/// The `a=fmtp` value for a codec.
fn parameters(codec: Codec) -> String {
    match codec {
        Codec::Opus => "minptime=10;useinbandfec=1;stereo=1".into(),
        Codec::Pcmu | Codec::Pcma | Codec::Vp8 => String::new(),
        Codec::Vp9 { profile_id } => format!("profile-id={profile_id}"),
        Codec::Av1 { profile } => format!("profile={profile}"),
        Codec::H264 { profile, packetization_mode } => {
            let (idc, iop) = profile.idc_iop();
            format!(
                "level-asymmetry-allowed=1;packetization-mode={packetization_mode};profile-level-id={idc:02x}{iop:02x}{H264_LEVEL:02x}"
            )
        }
        Codec::H265 { profile_id, tier_flag } => {
            format!("level-id=93;profile-id={profile_id};tier-flag={tier_flag};tx-mode=SRST")
        }
    }
}
