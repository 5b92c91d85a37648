//! What of an offer we accept.
//!
//! All or nothing: an m-section that cannot be accepted refuses the whole offer (RFC 9725 §4.4.3).

use super::answer::token;
use super::attributes::{Direction, Setup, SsrcGroup};
use super::data_channel::DataChannel;
use super::error::OfferError;
use super::fmtp::Encoding;
use super::parse::{Format, Level, Offer, Section};
use sfu::core::codec::MediaKind;
use sfu::core::plan::{
    DtlsRole, EXTENSION_ID_MAX, Epoch, Extension, Feedback, MID_BYTES_MAX, MediaSection, Payload,
    PayloadType, PlanError, RemoteTransport, Role, SessionPlan, Ssrc, SsrcPair, StreamId,
};

/// Turns an offer into the plan of a session: WHIP for a publisher, WHEP for a viewer. The plan is valid, its blob
/// empty, and its sections are the offer's in the offer's order.
///
/// `new_ssrc` yields random numbers for a viewer's SSRCs; 0 and repetitions are skipped.
pub fn plan(
    offer: &Offer,
    role: Role,
    stream: StreamId,
    epoch: Epoch,
    new_ssrc: &mut dyn FnMut() -> u32,
) -> Result<SessionPlan, OfferError> {
    if let Some(data_channel) = &offer.data_channel {
        check_data_channel(data_channel, offer, role)?;
    }
    check_session(offer, role)?;
    let mut ssrcs = FreshSsrcs::new(new_ssrc);
    let sections = offer.sections.iter().map(|offered| section(offered, &offer.session, role, &mut ssrcs));
    let plan = SessionPlan {
        role,
        stream,
        epoch: if role == Role::Viewer { Epoch(0) } else { epoch },
        remote: remote(offer)?,
        sections: sections.collect::<Result<_, _>>()?,
        local: None,
        extmap_allow_mixed: allows_mixed(offer),
        blob: Vec::new(),
    };
    plan.validate()?;
    Ok(plan)
}

/// A viewer's can be declined if its name comes back in the answer as it is, and is no other section's.
fn check_data_channel(data_channel: &DataChannel, offer: &Offer, role: Role) -> Result<(), OfferError> {
    if role == Role::Publisher {
        return Err(OfferError::UnsupportedMedia { line: data_channel.line });
    }
    let mid = data_channel.mid.as_ref().ok_or(OfferError::BundleMismatch)?;
    if mid.len() > MID_BYTES_MAX || token(mid) != *mid {
        return Err(PlanError::BadMid.into());
    }
    if offer.sections.iter().any(|section| section.mid.as_ref() == Some(mid)) {
        return Err(PlanError::DuplicateMid.into());
    }
    Ok(())
}

fn check_session(offer: &Offer, role: Role) -> Result<(), OfferError> {
    if offer.ice_lite {
        return Err(OfferError::IceLite);
    }
    let mids = offer.sections.iter().map(|section| &section.mid);
    let mut mids = mids.chain(offer.data_channel.iter().map(|data_channel| &data_channel.mid));
    let count = offer.sections.len() + usize::from(offer.data_channel.is_some());
    let grouped = |mid: &Option<String>| mid.as_ref().is_some_and(|mid| offer.bundle.contains(mid));
    match offer.bundles {
        0 if count > 1 => return Err(OfferError::NoBundle),
        0 => {}
        1 if offer.bundle.len() == count && mids.all(grouped) => {}
        1 => return Err(OfferError::BundleMismatch),
        _ => return Err(OfferError::SeveralBundles),
    }
    let mut streams = offer.sections.iter().filter_map(|section| section.stream.as_ref());
    let first = streams.next();
    if role == Role::Publisher && streams.any(|stream| Some(stream) != first) {
        return Err(OfferError::SeveralStreams);
    }
    Ok(())
}

/// The transport of the section that tags the BUNDLE group; the others' become void when they join it.
pub(super) fn remote(offer: &Offer) -> Result<RemoteTransport, OfferError> {
    let tagged = offer.tagged().ok_or(OfferError::NoMedia)?;
    let kind = tagged.kind;
    let (media, session) = (&tagged.level, &offer.session);
    let missing = |attribute| OfferError::Missing { kind, attribute };
    let setup = media.setup.or(session.setup).ok_or_else(|| missing("setup"))?;
    Ok(RemoteTransport {
        ice_ufrag: media
            .ice_ufrag
            .clone()
            .or(session.ice_ufrag.clone())
            .ok_or_else(|| missing("ice-ufrag"))?,
        ice_pwd: media.ice_pwd.clone().or(session.ice_pwd.clone()).ok_or_else(|| missing("ice-pwd"))?,
        fingerprint: fingerprint(media, session).ok_or_else(|| missing("fingerprint"))??,
        dtls_role: match setup {
            Setup::ActPass | Setup::Active => DtlsRole::Passive,
            Setup::Passive => DtlsRole::Active,
            Setup::HoldConn => return Err(OfferError::SetupRole),
        },
        certificate: offer.certificate,
    })
}

/// The attribute at the session level holds for every section, one in a section for that section alone (RFC 8285 §6). All
/// sections share one transport, so what is sent on it must suit each of them.
pub(super) fn allows_mixed(offer: &Offer) -> bool {
    let everywhere = offer.sections.iter().all(|section| section.level.extmap_allow_mixed);
    offer.session.extmap_allow_mixed || everywhere
}

/// A section's own fingerprints replace the session's (RFC 8122 §5).
fn fingerprint(media: &Level, session: &Level) -> Option<Result<[u8; 32], OfferError>> {
    let level = [media, session].into_iter().find(|level| level.fingerprint)?;
    Some(level.sha256.ok_or(OfferError::NoSha256))
}

pub(super) fn section(
    offered: &Section,
    session: &Level,
    role: Role,
    ssrcs: &mut FreshSsrcs<'_>,
) -> Result<MediaSection, OfferError> {
    let kind = offered.kind;
    check_section(offered, session, role)?;
    let extensions = extensions(offered, role);
    let payloads = payloads(offered, role, has(&extensions, Extension::TransportCc));
    if payloads.is_empty() {
        return Err(OfferError::NoCodec { kind });
    }
    let rtx = payloads.iter().any(|payload| payload.rtx.is_some());
    let rids = rids(offered, role, &extensions)?;
    Ok(MediaSection {
        mid: offered.mid.clone().unwrap_or_else(|| UNNAMED.to_owned()),
        kind,
        ssrcs: match role {
            Role::Viewer => vec![ssrcs.pair(rtx)],
            // Firefox declares the SSRCs of its layers in an order that need not be the rids'.
            Role::Publisher if !rids.is_empty() => Vec::new(),
            Role::Publisher => declared_ssrcs(offered, rtx),
        },
        payloads,
        extensions,
        rids,
    })
}

/// The mid of a section that has none, which only one without a BUNDLE group may be. It stays between us and media.
const UNNAMED: &str = "0";

fn check_section(offered: &Section, session: &Level, role: Role) -> Result<(), OfferError> {
    let kind = offered.kind;
    let direction = offered.level.direction.or(session.direction).unwrap_or(Direction::SendRecv);
    if !flows(direction, role) {
        return Err(OfferError::Direction { kind, role });
    }
    if offered.port == 0 && !offered.bundle_only {
        return Err(OfferError::Disabled { kind });
    }
    if offered.rtcp_mux { Ok(()) } else { Err(OfferError::NoRtcpMux { kind }) }
}

/// Whether media of this role can flow in the offered direction.
pub(super) fn flows(direction: Direction, role: Role) -> bool {
    match role {
        Role::Publisher => direction.sends(),
        Role::Viewer => direction.receives(),
    }
}

fn payloads(offered: &Section, role: Role, transport_cc: bool) -> Vec<Payload> {
    let mode = default_packetization_mode(&offered.formats, role);
    let accepted = offered.formats.iter().filter_map(|format| {
        let codec = format.codec(mode).filter(|codec| codec.kind() == offered.kind)?;
        let rtx = retransmission_of(format.pt, codec.clock_rate(), &offered.formats);
        let feedback = feedback([format.feedback, offered.feedback], role, transport_cc);
        Some(Payload { pt: PayloadType(format.pt), rtx, codec, feedback })
    });
    accepted.collect()
}

/// The packetization-mode of H264 payload types that name none: 0, says RFC 6184 §8.1, and a publisher is taken at that.
///
/// A viewer that names no mode anywhere does not know the parameter rather than insist on single NAL units: GStreamer
/// leaves it out and takes fragmentation units, as every WebRTC depacketizer does, and no WebRTC sender goes without
/// them. A viewer that does name modes, as browsers do for each payload type, means what it says.
fn default_packetization_mode(formats: &[Format], role: Role) -> u8 {
    let named = |format: &Format| {
        format.encoding == Encoding::H264 && format.parameters.get("packetization-mode").is_some()
    };
    u8::from(role == Role::Viewer && !formats.iter().any(named))
}

/// The payload type that repeats `pt` (RFC 4588 §8.1).
fn retransmission_of(pt: u8, clock_rate: u32, formats: &[Format]) -> Option<PayloadType> {
    let repeats = |format: &&Format| {
        format.encoding == Encoding::Rtx(clock_rate) && format.parameters.get("apt") == Some(u32::from(pt))
    };
    formats.iter().find(repeats).map(|format| PayloadType(format.pt))
}

/// Of what was offered, what we act on (RFC 4585 §4.2 forbids to answer more).
///
/// A publisher is told what arrives by transport-cc, if its header extension was taken, and never by REMB, which
/// nothing here sends. Viewers are asked for neither: nothing here adapts to them. A viewer's NACK is worth an answer also
/// without RTX, and for audio: then the same packet goes again.
fn feedback(offered: [Feedback; 2], role: Role, transport_cc: bool) -> Feedback {
    let any = |wanted: fn(&Feedback) -> bool| offered.iter().any(wanted);
    Feedback {
        nack: any(|feedback| feedback.nack),
        pli: any(|feedback| feedback.pli),
        fir: any(|feedback| feedback.fir),
        transport_cc: role == Role::Publisher && transport_cc && any(|feedback| feedback.transport_cc),
    }
}

fn extensions(offered: &Section, role: Role) -> Vec<(u8, Extension)> {
    let mut accepted = Vec::new();
    for extmap in &offered.extmaps {
        let id = u8::try_from(extmap.id).ok().filter(|id| (1..=EXTENSION_ID_MAX).contains(id));
        let flows = extmap.direction.is_none_or(|direction| flows(direction, role));
        let named = extmap.extension != Extension::Mid || offered.mid.is_some();
        let useful =
            named && understood(extmap.extension, offered.kind, role) && !has(&accepted, extmap.extension);
        match id {
            Some(id) if flows && useful => accepted.push((id, extmap.extension)),
            _ => {}
        }
    }
    accepted
}

/// Whether an extension does something on this side. What says something about the media goes from publisher to viewer
/// as it is, so both sides take it; what says something about the transport ends here or begins here.
pub(super) fn understood(extension: Extension, kind: MediaKind, role: Role) -> bool {
    match extension {
        Extension::Mid | Extension::AbsCaptureTime => true,
        Extension::AudioLevel => kind == MediaKind::Audio,
        Extension::VideoOrientation | Extension::PlayoutDelay | Extension::DependencyDescriptor => {
            kind == MediaKind::Video
        }
        Extension::AbsSendTime => role == Role::Viewer,
        Extension::TransportCc => role == Role::Publisher,
        Extension::RtpStreamId | Extension::RepairedRtpStreamId => {
            role == Role::Publisher && kind == MediaKind::Video
        }
    }
}

fn has(extensions: &[(u8, Extension)], extension: Extension) -> bool {
    extensions.iter().any(|(_, accepted)| *accepted == extension)
}

/// The layers of a simulcast video. All are accepted: OBS gives up when one is missing.
fn rids(offered: &Section, role: Role, extensions: &[(u8, Extension)]) -> Result<Vec<String>, OfferError> {
    if role == Role::Viewer || offered.kind == MediaKind::Audio || offered.simulcast.is_empty() {
        return Ok(Vec::new());
    }
    if !offered.simulcast.iter().all(|rid| offered.rids.contains(rid)) {
        return Err(OfferError::UndeclaredRid);
    }
    if !has(extensions, Extension::RtpStreamId) {
        return Err(OfferError::SimulcastWithoutRid);
    }
    Ok(offered.simulcast.clone())
}

/// The SSRCs of `a=ssrc` and `a=ssrc-group`, each with its RTX. ffmpeg names the RTX stream in the group alone.
fn declared_ssrcs(offered: &Section, rtx: bool) -> Vec<SsrcPair> {
    let groups = &offered.ssrc_groups;
    let secondary = |ssrc: u32| {
        groups.iter().any(|group| match *group {
            SsrcGroup::Retransmission { rtx, .. } => rtx == ssrc,
            SsrcGroup::Correction { fec } => fec == ssrc,
        })
    };
    let repeats = |ssrc: u32| {
        groups.iter().find_map(|group| match *group {
            SsrcGroup::Retransmission { media, rtx: second } if rtx && media == ssrc => Some(Ssrc(second)),
            _ => None,
        })
    };
    let media = offered.ssrcs.iter().copied().filter(|ssrc| !secondary(*ssrc));
    media.map(|ssrc| SsrcPair { media: Ssrc(ssrc), rtx: repeats(ssrc) }).collect()
}

/// SSRCs of our own, unique in one session.
pub(super) struct FreshSsrcs<'a> {
    next: &'a mut dyn FnMut() -> u32,
    used: Vec<u32>,
}

impl<'a> FreshSsrcs<'a> {
    pub(super) fn new(next: &'a mut dyn FnMut() -> u32) -> FreshSsrcs<'a> {
        FreshSsrcs { next, used: Vec::new() }
    }

    /// Draws until a number is usable. A source that repeats itself so often is broken: its 0 fails validation.
    const DRAWS_MAX: usize = 16;

    fn pair(&mut self, rtx: bool) -> SsrcPair {
        SsrcPair { media: self.draw(), rtx: rtx.then(|| self.draw()) }
    }

    fn draw(&mut self) -> Ssrc {
        let mut draws = std::iter::repeat_with(&mut self.next).take(Self::DRAWS_MAX);
        let fresh = draws.find(|ssrc| *ssrc != 0 && !self.used.contains(ssrc)).unwrap_or(0);
        self.used.push(fresh);
        Ssrc(fresh)
    }
}
