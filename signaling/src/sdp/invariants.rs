//! What holds for any text at all that comes as an offer or as an answer, whoever wrote it. Tests with damaged offers and the
//! fuzz targets check it; the checker among the tests knows more, about offers of known form.

use super::attributes::{Direction, Setup};
use super::fmtp::Encoding;
use super::parse::{Offer, Section};
use super::{CounterOffer, LocalDescription, OfferError, answer, plan};
use sfu::core::codec::Codec;
use sfu::core::plan::{DtlsRole, Epoch, MediaSection, Role, SessionPlan, StreamId};
use std::net::SocketAddr;

/// Our half of each session.
pub const LOCAL: LocalDescription<'_> = LocalDescription {
    ice_ufrag: "w0s1Abcdef",
    ice_pwd: "0123456789abcdefABCDEF+/",
    fingerprint: [0xa5; 32],
    candidates: &[SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7)), 8200)],
    tcp_candidates: &[],
    origin_id: 7,
    msid: "concert",
    cname: "uringcast",
};

/// Room for 64 payload types with everything that can be said of each.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Takes a text as an offer in this role; whether it was accepted.
///
/// # Panics
/// What must hold does not.
pub fn offer_holds(text: &str, role: Role) -> bool {
    let parsed = Offer::parse(text);
    let mut ssrc = 1000;
    let mut new_ssrc = || {
        ssrc += 1;
        ssrc
    };
    let planned =
        parsed.and_then(|offer| Ok((plan(&offer, role, StreamId(7), Epoch(3), &mut new_ssrc)?, offer)));
    match planned {
        Ok((plan, offer)) => {
            assert_eq!(plan.validate(), Ok(()));
            let text = answer(&offer, &plan, &LOCAL);
            check_text(&text);
            check_answer(&offer, &plan, &text);
            true
        }
        Err(error) => {
            check_error(&error);
            false
        }
    }
}

/// Takes a text as an answer to an offer of ours; whether it was accepted.
///
/// # Panics
/// What must hold does not.
pub fn answer_holds(offer: &CounterOffer, text: &str) -> bool {
    let accepted = Offer::parse(text).map(|answer| offer.accept(&answer, StreamId(7)));
    match accepted {
        Ok(Ok(plan)) => {
            assert_eq!(plan.validate(), Ok(()));
            assert_eq!(plan.role, Role::Viewer);
            for section in &plan.sections {
                let offered = offer.sections.iter().find(|offered| offered.mid == section.mid);
                assert!(offered.is_some_and(|offered| is_part_of(section, offered)), "{section:?}");
            }
            true
        }
        Ok(Err(error)) => {
            assert!([400, 413, 422].contains(&error.status()) && !error.to_string().is_empty());
            false
        }
        Err(error) => {
            check_error(&error);
            false
        }
    }
}

fn check_error(error: &OfferError) {
    assert!([400, 413, 422].contains(&error.status()) && !error.to_string().is_empty());
}

fn check_text(answer: &str) {
    assert!(answer.starts_with("v=0\r\n") && answer.ends_with("\r\n") && answer.is_ascii());
    assert!(
        !answer.replace("\r\n", "").contains(|c: char| c.is_ascii_control()),
        "CRLF and no other control"
    );
    assert!(answer.len() <= ANSWER_BYTES_MAX, "{} bytes", answer.len());
}

/// The answer says what the plan does, and nothing that the offer does not allow.
fn check_answer(offer: &Offer, plan: &SessionPlan, text: &str) {
    let read = Offer::parse(text);
    assert!(read.is_ok(), "{read:?}");
    let Ok(read) = read else { return };
    assert!(read.ice_lite && read.bundle == offer.accepted_bundle());
    let place =
        |offer: &Offer| offer.data_channel.as_ref().map(|channel| (channel.after, channel.mid.clone()));
    assert_eq!(place(&read), place(offer), "what is declined keeps its place");
    assert_eq!(read.sections.len(), offer.sections.len());
    assert_eq!(read.sections.len(), plan.sections.len());
    for ((answered, offered), planned) in read.sections.iter().zip(&offer.sections).zip(&plan.sections) {
        check_section(answered, offered, planned, plan);
    }
    let streams: Vec<_> = read.sections.iter().map(|section| section.stream.as_deref()).collect();
    let expected = (plan.role == Role::Viewer).then_some(LOCAL.msid);
    assert!(streams.iter().all(|stream| *stream == expected), "one media stream: {streams:?}");
}

fn check_section(answered: &Section, offered: &Section, planned: &MediaSection, plan: &SessionPlan) {
    assert_eq!((answered.kind, answered.protocol, answered.port), (offered.kind, offered.protocol, 9));
    assert_eq!(answered.mid, offered.mid);
    assert!(answered.rtcp_mux && !answered.bundle_only);
    let level = &answered.level;
    assert_eq!(level.ice_ufrag.as_deref(), Some(LOCAL.ice_ufrag));
    assert_eq!(level.sha256, Some(LOCAL.fingerprint));
    let setup = if plan.remote.dtls_role == DtlsRole::Active { Setup::Active } else { Setup::Passive };
    assert_eq!(level.setup, Some(setup));
    let direction = if plan.role == Role::Publisher { Direction::RecvOnly } else { Direction::SendOnly };
    assert_eq!(level.direction, Some(direction));
    check_formats(answered, offered, planned);
    let ids: Vec<_> = answered.extmaps.iter().map(|extmap| (extmap.id, extmap.extension)).collect();
    let planned_ids = planned.extensions.iter().map(|&(id, extension)| (u16::from(id), extension));
    assert!(ids.iter().copied().eq(planned_ids));
    let offered_ids: Vec<_> = offered.extmaps.iter().map(|extmap| (extmap.id, extmap.extension)).collect();
    assert!(ids.iter().all(|id| offered_ids.contains(id)), "{ids:?} of {offered_ids:?}");
    check_sources(answered, offered, planned, plan.role);
}

/// Payload types are those of the offer, in its order, with its meaning; feedback is a part of what was offered.
fn check_formats(answered: &Section, offered: &Section, planned: &MediaSection) {
    let mut rest = offered.formats.iter();
    for format in &answered.formats {
        let original = rest.find(|original| original.pt == format.pt);
        assert!(original.is_some(), "{} was not offered, or not there", format.pt);
        let Some(original) = original else { return };
        assert_eq!(format.encoding, original.encoding);
        assert_ne!(format.encoding, Encoding::Other);
        let extra = |name: fn(&sfu::core::plan::Feedback) -> bool| {
            name(&format.feedback) && !name(&original.feedback) && !name(&offered.feedback)
        };
        assert!(!extra(|feedback| feedback.nack) && !extra(|feedback| feedback.pli));
        assert!(!extra(|feedback| feedback.fir) && !extra(|feedback| feedback.transport_cc));
    }
    let codecs = |section: &Section| -> Vec<(u8, Codec)> {
        section.formats.iter().filter_map(|format| Some((format.pt, format.codec(0)?))).collect()
    };
    let meant = codecs(offered);
    assert!(codecs(answered).iter().all(|codec| meant.contains(codec)), "parameters come back as they were");
    let pts: Vec<u8> = planned.payloads.iter().map(|payload| payload.pt.0).collect();
    let media = answered.formats.iter().filter(|format| !matches!(format.encoding, Encoding::Rtx(_)));
    assert!(media.map(|format| format.pt).eq(pts), "one line of thought in answer and plan");
}

fn check_sources(answered: &Section, offered: &Section, planned: &MediaSection, role: Role) {
    let mut declared: Vec<u32> = Vec::new();
    if role == Role::Viewer {
        for pair in &planned.ssrcs {
            declared.extend([Some(pair.media), pair.rtx].into_iter().flatten().map(|ssrc| ssrc.0));
        }
    } else {
        assert!(planned.rids.iter().eq(&offered.simulcast) || planned.rids.is_empty());
    }
    assert_eq!(answered.ssrcs, declared);
}

/// Whether nothing in an accepted section is more than was offered.
fn is_part_of(section: &MediaSection, offered: &MediaSection) -> bool {
    let payloads = section.payloads.iter().all(|payload| {
        offered.payload(payload.pt).is_some_and(|original| {
            original.codec == payload.codec && (payload.rtx.is_none() || payload.rtx == original.rtx)
        })
    });
    let extensions = section.extensions.iter().all(|extension| offered.extensions.contains(extension));
    payloads && extensions && section.kind == offered.kind && !section.payloads.is_empty()
}
