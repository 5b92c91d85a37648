//! Offers of ours, read by parsers that are not the writer, and the answers of players to them.

use super::{AnswerError, CounterOffer, Offer, OfferError, candidates, counting, lines_with, local};
use sfu::core::codec::{Codec, H264Profile, MediaKind};
use sfu::core::plan::{DtlsRole, PayloadType, Role, SessionPlan, Ssrc, SsrcPair, StreamId};

const H264: Codec = Codec::H264 { profile: H264Profile::High, packetization_mode: 1 };

fn offer_of(codecs: &[Codec]) -> CounterOffer {
    CounterOffer::new(codecs, &mut counting()).unwrap()
}

fn text_of(offer: &CounterOffer) -> String {
    offer.text(&local(&candidates()))
}

/// A browser's answer: the sections of the offer, turned round.
pub(super) fn answer_of(offer: &str) -> String {
    let mut answer =
        String::from("v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n");
    for line in offer.lines().skip_while(|line| !line.starts_with("m=")) {
        match line.split([':', ' ']).next().unwrap() {
            "a=sendonly" => answer += "a=recvonly\r\n",
            "a=setup" => answer += "a=setup:active\r\n",
            "a=ice-ufrag" => answer += "a=ice-ufrag:them\r\n",
            "a=ice-pwd" => answer += "a=ice-pwd:themthemthemthemthemthem\r\n",
            "a=candidate" | "a=end-of-candidates" | "a=ssrc" | "a=ssrc-group" | "a=msid" => {}
            _ => {
                answer += line;
                answer += "\r\n";
            }
        }
    }
    answer
}

fn accept(offer: &CounterOffer, answer: &str) -> Result<SessionPlan, AnswerError> {
    offer.accept(&Offer::parse(answer).unwrap(), StreamId(7))
}

#[test]
fn an_offer_has_all_that_the_drafts_ask_for() {
    let text = text_of(&offer_of(&[Codec::Opus, H264]));
    let head = ["v=0", "a=ice-lite", "a=group:BUNDLE 0 1"];
    assert!(head.iter().all(|line| text.lines().any(|other| other == *line)), "{text}");
    for line in ["a=sendonly", "a=setup:actpass", "a=rtcp-mux", "a=rtcp-mux-only"] {
        assert_eq!(text.lines().filter(|other| *other == line).count(), 2, "{line}");
    }
    assert_eq!(lines_with(&text, "m="), ["audio 9 UDP/TLS/RTP/SAVPF 111", "video 9 UDP/TLS/RTP/SAVPF 96 97"]);
    assert_eq!(lines_with(&text, "a=msid:"), ["concert audio", "concert video"]);
    assert_eq!(lines_with(&text, "a=ssrc-group:"), ["FID 1002 1003"]);
    assert_eq!(
        lines_with(&text, "a=fmtp:"),
        [
            "111 minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1",
            "96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f",
            "97 apt=96"
        ]
    );
    assert!(!text.replace("\r\n", "").contains(['\r', '\n']) && text.ends_with("\r\n"));
}

#[test]
fn an_offer_can_be_read_back_by_the_parser_of_offers() {
    for codecs in [&[][..], &[H264], &[Codec::Pcmu, Codec::Vp8]] {
        let offer = offer_of(codecs);
        let parsed = Offer::parse(&text_of(&offer)).unwrap();
        assert_eq!(parsed.sections.len(), offer.sections.len());
        for (read, written) in parsed.sections.iter().zip(&offer.sections) {
            let known: Vec<Codec> = read.formats.iter().filter_map(|format| format.codec(0)).collect();
            let meant: Vec<Codec> = written.payloads.iter().map(|payload| payload.codec).collect();
            assert_eq!(known, meant);
            let ids: Vec<_> = read.extmaps.iter().map(|extmap| (extmap.id as u8, extmap.extension)).collect();
            assert_eq!(ids, written.extensions);
        }
    }
}

#[test]
fn without_a_publisher_everything_is_offered_and_fits_where_ffmpeg_would_stop_reading() {
    let offer = offer_of(&[]);
    let video = offer.sections.iter().find(|section| section.kind == MediaKind::Video).unwrap();
    let plays = |codec| video.payload_for(codec).is_some();
    assert!(
        [Codec::Vp8, H264, Codec::Vp9 { profile_id: 0 }, Codec::Av1 { profile: 0 }].into_iter().all(plays)
    );
    assert!(text_of(&offer).len() <= 8192);
}

#[test]
fn more_codecs_than_payload_types_are_cut_off() {
    let many: Vec<Codec> = (0..60).map(|profile_id| Codec::Vp9 { profile_id }).collect();
    let twice: Vec<Codec> = many.iter().chain(&many).copied().collect();
    let offer = offer_of(&twice);
    assert_eq!(offer.sections[0].payloads.len(), 15);
    assert!(offer.sections[0].payloads.iter().all(|payload| payload.rtx.is_some()));
    let alone = answer_of(&text_of(&offer)).replace("a=group:BUNDLE 0 1\r\n", "");
    assert!(accept(&offer, &alone).is_ok());
}

#[test]
fn the_answer_of_a_browser_becomes_the_plan_of_a_viewer() {
    let offer = offer_of(&[Codec::Opus, H264]);
    let plan = accept(&offer, &answer_of(&text_of(&offer))).unwrap();
    assert_eq!(
        (plan.role, plan.stream, plan.remote.dtls_role),
        (Role::Viewer, StreamId(7), DtlsRole::Passive)
    );
    assert_eq!(plan.remote.ice_ufrag, "them");
    assert_eq!(plan.sections, offer.sections, "all that was offered");
    assert!(!plan.extmap_allow_mixed && plan.validate().is_ok());
}

#[test]
fn what_the_answer_leaves_out_is_not_used() {
    let offer = offer_of(&[Codec::Opus, Codec::Vp8, H264]);
    let full = answer_of(&text_of(&offer));
    let less = full
        .replace("SAVPF 96 97 98 99", "SAVPF 98 96")
        .replace("a=rtcp-fb:96 ccm fir\r\n", "")
        .replace("a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\n", "");
    assert_ne!(less, full);
    let plan = accept(&offer, &less).unwrap();
    let video = plan.section(MediaKind::Video).unwrap();
    let pts: Vec<_> = video.payloads.iter().map(|payload| (payload.pt, payload.rtx, payload.codec)).collect();
    assert_eq!(pts, [(PayloadType(98), None, H264), (PayloadType(96), None, Codec::Vp8)], "in its order");
    assert!(!video.payloads[1].feedback.fir && video.payloads[1].feedback.pli);
    assert_eq!(video.ssrcs, [SsrcPair { media: Ssrc(1002), rtx: None }]);
    assert!(video.extensions.iter().all(|(id, _)| *id != 1));
}

#[test]
fn a_payload_type_means_what_we_offered_whatever_parameters_come_back() {
    let offer = offer_of(&[H264]);
    let answer = answer_of(&text_of(&offer)).replace("a=group:BUNDLE 0 1\r\n", "");
    let bare = answer.replace("packetization-mode=1;profile-level-id=64001f", "profile-level-id=42e01f");
    assert_ne!(bare, answer);
    assert_eq!(accept(&offer, &bare).unwrap().sections[0].payloads[0].codec, H264);
    let other = answer.replace("a=rtpmap:96 H264", "a=rtpmap:96 VP8");
    assert_eq!(accept(&offer, &other), Err(AnswerError::NoCodec { kind: MediaKind::Video }));
}

#[test]
fn a_player_may_decline_a_section() {
    let offer = offer_of(&[Codec::Opus, H264]);
    let full = answer_of(&text_of(&offer));
    let declined = [
        full.replace("m=audio 9 ", "m=audio 0 ").replace("BUNDLE 0 1", "BUNDLE 1"),
        full.replacen("a=recvonly", "a=inactive", 1),
    ];
    for text in declined {
        let plan = accept(&offer, &text).unwrap();
        let kinds: Vec<_> = plan.sections.iter().map(|section| section.kind).collect();
        assert_eq!(kinds, [MediaKind::Video]);
        assert_eq!(plan.sections[0].mid, "1");
    }
    let nothing = full.replace("m=audio 9 ", "m=audio 0 ").replace("m=video 9 ", "m=video 0 ");
    assert_eq!(accept(&offer, &nothing), Err(AnswerError::Nothing));
}

#[test]
fn a_player_that_waits_for_dtls_makes_us_begin() {
    let offer = offer_of(&[Codec::Opus, H264]);
    let passive = answer_of(&text_of(&offer)).replace("a=setup:active", "a=setup:passive");
    assert_eq!(accept(&offer, &passive).unwrap().remote.dtls_role, DtlsRole::Active);
}

#[test]
fn answers_that_do_not_fit_say_why() {
    let offer = offer_of(&[Codec::Opus, H264]);
    let good = answer_of(&text_of(&offer));
    let audio = MediaKind::Audio;
    let cases = [
        ("a=setup:active", "a=setup:actpass", AnswerError::Setup, 400),
        ("m=video 9 UDP/TLS/RTP/SAVPF", "m=audio 9 UDP/TLS/RTP/SAVPF", AnswerError::Sections, 400),
        ("a=mid:0", "a=mid:7", AnswerError::Sections, 400),
        ("a=recvonly", "a=sendonly", AnswerError::Direction { kind: audio }, 422),
        ("SAVPF 111", "SAVPF 112", AnswerError::NoCodec { kind: audio }, 422),
        ("a=rtcp-mux", "a=x-mux", OfferError::NoRtcpMux { kind: audio }.into(), 422),
        ("a=group:BUNDLE 0 1", "a=group:BUNDLE 0", OfferError::BundleMismatch.into(), 422),
        ("a=group:BUNDLE 0 1", "a=group:LS 0 1", OfferError::NoBundle.into(), 422),
        (
            "a=group:BUNDLE 0 1",
            "a=group:BUNDLE 0\r\na=group:BUNDLE 1",
            OfferError::SeveralBundles.into(),
            422,
        ),
        ("a=fingerprint:", "a=x:", OfferError::Missing { kind: audio, attribute: "fingerprint" }.into(), 400),
        ("a=group:", "a=ice-lite\r\na=group:", OfferError::IceLite.into(), 422),
    ];
    for (from, to, error, status) in cases {
        let text = good.replace(from, to);
        assert_ne!(text, good, "{from}");
        assert_eq!(accept(&offer, &text), Err(error.clone()), "{to}");
        assert_eq!(error.status(), status, "{error}");
        assert!(error.to_string().len() > 20);
    }
    let short = good.split("m=video").next().unwrap();
    assert_eq!(accept(&offer, short), Err(AnswerError::Sections));
}

#[test]
fn gstreamer_answers_in_capitals_and_takes_the_first_video_codec_alone() {
    let answer = include_str!("../../../tests/fixtures/answers/gst-1.22-whepclientsrc.sdp");
    let plan = accept(&offer_of(&[]), answer).unwrap();
    let codecs: Vec<Codec> = plan
        .sections
        .iter()
        .flat_map(|section| section.payloads.iter().map(|payload| payload.codec))
        .collect();
    assert_eq!(codecs, [Codec::Opus, Codec::Vp8]);
    let video = plan.section(MediaKind::Video).unwrap();
    assert!(video.payloads[0].rtx.is_some() && video.payloads[0].feedback.nack);
    assert!(plan.section(MediaKind::Audio).unwrap().ssrcs[0].rtx.is_none());
    assert!(!plan.extmap_allow_mixed);
}
