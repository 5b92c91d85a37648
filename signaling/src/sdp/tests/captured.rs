use super::checker::check;
use super::{answer_to, captured, counting, lines_with, offer_named, plan_for};
use crate::sdp::Offer;
use sfu::core::codec::{Codec, H264Profile, MediaKind};
use sfu::core::plan::{DtlsRole, Epoch, Extension, PayloadType, Role, Ssrc, SsrcPair, StreamId};

#[test]
fn every_captured_offer_gets_a_right_answer() {
    for (role, name, text) in captured() {
        let plan = plan_for(text, role).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(plan.validate(), Ok(()), "{name}");
        assert_eq!((plan.role, plan.stream), (role, StreamId(7)));
        check(text, &answer_to(text, role).unwrap(), role);
    }
}

#[test]
fn an_offer_in_the_wrong_direction_is_refused_in_the_other_role() {
    for (role, name, text) in captured() {
        let other = if role == Role::Publisher { Role::Viewer } else { Role::Publisher };
        assert_eq!(plan_for(text, other).unwrap_err().status(), 422, "{name}");
    }
}

#[test]
fn only_a_publisher_keeps_its_epoch() {
    assert_eq!(plan_for(&offer_named("chromium-156-whip"), Role::Publisher).unwrap().epoch, Epoch(3));
    assert_eq!(plan_for(&offer_named("chromium-156-whep"), Role::Viewer).unwrap().epoch, Epoch(0));
}

#[test]
fn the_largest_answer_leaves_room_below_the_limit_of_ffmpeg() {
    let sizes = captured().map(|(role, _, text)| answer_to(text, role).unwrap().len());
    let largest = sizes.max().unwrap();
    assert!((3000..6500).contains(&largest), "the largest answer has {largest} bytes");
}

#[test]
fn chromium_keeps_its_codec_order_and_its_retransmissions() {
    let plan = plan_for(&offer_named("chromium-156-whip-simulcast-h264"), Role::Publisher).unwrap();
    let video = plan.section(MediaKind::Video).unwrap();
    let first = video.payloads[0];
    assert_eq!((first.pt, first.rtx), (PayloadType(102), Some(PayloadType(103))));
    assert_eq!(first.codec, Codec::H264 { profile: H264Profile::Baseline, packetization_mode: 1 });
    let pts: Vec<u8> = video.payloads.iter().map(|payload| payload.pt.0).collect();
    assert_eq!(pts, [102, 104, 108, 114, 116, 39, 96, 45, 98, 100]);
    let audio = plan.section(MediaKind::Audio).unwrap();
    let codecs: Vec<Codec> = audio.payloads.iter().map(|payload| payload.codec).collect();
    assert_eq!(codecs, [Codec::Opus, Codec::Pcmu, Codec::Pcma]);
}

#[test]
fn chromium_simulcast_has_rids_and_no_ssrcs() {
    let plan = plan_for(&offer_named("chromium-156-whip-simulcast-h264"), Role::Publisher).unwrap();
    let video = plan.section(MediaKind::Video).unwrap();
    assert_eq!(video.rids, ["h", "m", "l"]);
    assert!(video.ssrcs.is_empty());
    let ids = [
        (13, Extension::VideoOrientation),
        (3, Extension::TransportCc),
        (5, Extension::PlayoutDelay),
        (4, Extension::Mid),
        (10, Extension::RtpStreamId),
        (11, Extension::RepairedRtpStreamId),
        (12, Extension::DependencyDescriptor),
    ];
    assert_eq!(video.extensions, ids);
}

#[test]
fn obs_finds_every_layer_in_the_answer() {
    let answer = answer_to(&offer_named("obs-libdatachannel-3layers"), Role::Publisher).unwrap();
    assert_eq!(lines_with(&answer, "a=rid:"), ["0 recv", "1 recv", "2 recv"]);
    assert_eq!(lines_with(&answer, "a=simulcast:"), ["recv 0;1;2"]);
}

#[test]
fn simulcast_ssrcs_of_firefox_are_not_trusted() {
    let rids = "a=rid:hi send\r\na=rid:lo send\r\na=simulcast:send hi;lo\r\n\
                a=extmap:8 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n";
    let text = offer_named("firefox-esr-153-whip") + rids;
    let plan = plan_for(&text, Role::Publisher).unwrap();
    let video = plan.section(MediaKind::Video).unwrap();
    assert_eq!(video.rids, ["hi", "lo"]);
    assert!(video.ssrcs.is_empty());
}

#[test]
fn declared_ssrcs_come_with_their_retransmissions() {
    let pairs = |name: &str| {
        let plan = plan_for(&offer_named(name), Role::Publisher).unwrap();
        plan.section(MediaKind::Video).unwrap().ssrcs.clone()
    };
    let pair = |media, rtx: Option<u32>| vec![SsrcPair { media: Ssrc(media), rtx: rtx.map(Ssrc) }];
    assert_eq!(pairs("chromium-156-whip"), pair(1_042_900_672, Some(1_808_081_578)));
    assert_eq!(pairs("firefox-esr-153-whip"), pair(2_697_246_652, Some(2_131_677_750)));
    assert_eq!(pairs("ffmpeg-9.0.2-passive"), pair(887_160_043, Some(887_160_044)), "rtx only in the group");
    assert_eq!(pairs("gst-1.22-whipsink"), pair(3_469_048_506, None));
}

#[test]
fn a_viewer_gets_ssrcs_of_ours_and_rtx_only_where_it_offered_rtx() {
    let plan = plan_for(&offer_named("chromium-156-whep"), Role::Viewer).unwrap();
    let pairs: Vec<&[SsrcPair]> = plan.sections.iter().map(|section| &*section.ssrcs).collect();
    assert_eq!(pairs[0], [SsrcPair { media: Ssrc(1001), rtx: None }]);
    assert_eq!(pairs[1], [SsrcPair { media: Ssrc(1002), rtx: Some(Ssrc(1003)) }]);
}

#[test]
fn repeated_and_zero_ssrcs_of_the_source_are_skipped() {
    let offer = Offer::parse(&offer_named("chromium-156-whep")).unwrap();
    let mut draws = [0, 5, 5, 0, 6, 6, 7].into_iter();
    let plan = crate::sdp::plan(&offer, Role::Viewer, StreamId(1), Epoch(0), &mut || draws.next().unwrap());
    let video = plan.unwrap().section(MediaKind::Video).unwrap().ssrcs[0];
    assert_eq!(video, SsrcPair { media: Ssrc(6), rtx: Some(Ssrc(7)) });
    let broken = crate::sdp::plan(&offer, Role::Viewer, StreamId(1), Epoch(0), &mut || 9);
    assert!(broken.is_err(), "a source that never changes");
    assert!(crate::sdp::plan(&offer, Role::Viewer, StreamId(1), Epoch(0), &mut counting()).is_ok());
}

#[test]
fn a_passive_client_makes_us_active() {
    let plan = plan_for(&offer_named("ffmpeg-9.0.2-passive"), Role::Publisher).unwrap();
    assert_eq!(plan.remote.dtls_role, DtlsRole::Active);
    let plan = plan_for(&offer_named("ffmpeg-9.0.2-dtls-active-high"), Role::Publisher).unwrap();
    assert_eq!(plan.remote.dtls_role, DtlsRole::Passive);
}

#[test]
fn ffmpeg_high_is_named_and_never_grows_feedback() {
    let text = offer_named("ffmpeg-9.0.2-dtls-active-high");
    let plan = plan_for(&text, Role::Publisher).unwrap();
    let payload = plan.section(MediaKind::Video).unwrap().payloads[0];
    assert_eq!(payload.codec, Codec::H264 { profile: H264Profile::High, packetization_mode: 1 });
    assert!(payload.feedback.nack && !payload.feedback.pli);
    let answer = answer_to(&text, Role::Publisher).unwrap();
    assert_eq!(lines_with(&answer, "a=rtcp-fb:"), ["106 nack"]);
    assert_eq!(lines_with(&answer, "a=group:"), ["BUNDLE 1"]);
}

#[test]
fn publishers_are_promised_transport_cc_where_it_can_ride_and_never_remb() {
    let promised = |name: &str| {
        let plan = plan_for(&offer_named(name), Role::Publisher).unwrap();
        let feedback = plan.section(MediaKind::Video).unwrap().payloads[0].feedback;
        assert!(!answer_to(&offer_named(name), Role::Publisher).unwrap().contains("remb"));
        feedback.transport_cc
    };
    assert!(promised("chromium-156-whip"));
    assert!(!promised("aiortc-1.16-whip"), "it offers REMB alone");
    assert!(!promised("obs-libdatachannel-1layer"), "it offers REMB alone");
    assert!(!promised("gst-1.22-whipsink"), "transport-cc without a header extension");
    assert!(!promised("ffmpeg-9.0.2-passive"));
}

#[test]
fn a_viewer_may_ask_for_lost_packets_again_with_and_without_rtx() {
    let offer = offer_named("chromium-156-whep");
    let video =
        |offer: &str| plan_for(offer, Role::Viewer).unwrap().section(MediaKind::Video).cloned().unwrap();
    assert!(video(&offer).payloads.iter().all(|payload| payload.feedback.nack && payload.rtx.is_some()));
    let without = offer.replace("a=fmtp:97 apt=96\r\n", "");
    assert_ne!(without, offer);
    assert!(video(&without).payloads[0].feedback.nack && video(&without).payloads[0].rtx.is_none());
    let silent = offer.replace("a=rtcp-fb:96 nack\r\n", "");
    assert_ne!(silent, offer);
    assert!(!video(&silent).payloads[0].feedback.nack, "what was not offered is not answered");
}

#[test]
fn a_viewer_may_ask_for_lost_audio_again_if_it_offers_to() {
    let offer = offer_named("chromium-156-whep");
    let nack = |offer: &str| {
        let plan = plan_for(offer, Role::Viewer).unwrap();
        plan.section(MediaKind::Audio).unwrap().payloads[0].feedback.nack
    };
    assert!(!nack(&offer));
    assert!(nack(&offer.replace("a=rtcp-fb:111 t", "a=rtcp-fb:111 nack\r\na=rtcp-fb:111 t")));
}

#[test]
fn what_the_publisher_says_about_its_media_is_taken_on_both_sides() {
    let descriptor = Extension::DependencyDescriptor.uri();
    let capture = Extension::AbsCaptureTime.uri();
    let more = format!("a=extmap:12 {descriptor}\r\na=extmap:9 {capture}\r\n");
    for (role, name) in [(Role::Publisher, "chromium-156-whip"), (Role::Viewer, "chromium-156-whep")] {
        let plan = plan_for(&(offer_named(name) + &more), role).unwrap();
        let video = &plan.section(MediaKind::Video).unwrap().extensions;
        for passed in [
            (13, Extension::VideoOrientation),
            (5, Extension::PlayoutDelay),
            (12, Extension::DependencyDescriptor),
            (9, Extension::AbsCaptureTime),
        ] {
            assert!(video.contains(&passed), "{passed:?} for a {role:?}");
        }
        let audio = &plan.section(MediaKind::Audio).unwrap().extensions;
        assert!(audio.contains(&(1, Extension::AudioLevel)), "for a {role:?}");
    }
}

#[test]
fn what_belongs_to_the_transport_is_taken_on_its_own_side_alone() {
    let has = |name: &str, role, extension| {
        let plan = plan_for(&offer_named(name), role).unwrap();
        plan.sections.iter().all(|section| section.extensions.iter().any(|(_, it)| *it == extension))
    };
    let (whip, whep) = ("chromium-156-whip", "chromium-156-whep");
    assert!(
        has(whip, Role::Publisher, Extension::TransportCc)
            && !has(whep, Role::Viewer, Extension::TransportCc)
    );
    assert!(
        has(whep, Role::Viewer, Extension::AbsSendTime)
            && !has(whip, Role::Publisher, Extension::AbsSendTime)
    );
    assert!(has(whip, Role::Publisher, Extension::Mid) && has(whep, Role::Viewer, Extension::Mid));
}

#[test]
fn header_extensions_may_be_mixed_where_every_section_says_so() {
    let mixed = |text: &str, role| plan_for(text, role).unwrap().extmap_allow_mixed;
    assert!(mixed(&offer_named("chromium-156-whep"), Role::Viewer), "at the session level");
    let firefox = offer_named("firefox-esr-153-whep");
    assert!(mixed(&firefox, Role::Viewer), "in each section");
    assert!(
        !mixed(&firefox.replacen("a=extmap-allow-mixed\r\n", "", 1), Role::Viewer),
        "in one section of two"
    );
    assert!(!mixed(&offer_named("aiortc-1.16-whip"), Role::Publisher));
}

#[test]
fn opus_stays_stereo_on_the_way_in_and_follows_the_viewer_on_the_way_out() {
    let fmtp = |name: &str, role, pt: &str| {
        let answer = answer_to(&offer_named(name), role).unwrap();
        lines_with(&answer, &format!("a=fmtp:{pt} ")).join("|")
    };
    let publisher = Role::Publisher;
    assert_eq!(fmtp("firefox-esr-153-whip", publisher, "109"), "useinbandfec=1;stereo=1");
    assert_eq!(fmtp("chromium-156-whip", publisher, "111"), "minptime=10;useinbandfec=1;stereo=1");
    assert_eq!(fmtp("ffmpeg-9.0.2-passive", publisher, "111"), "stereo=1");
    assert_eq!(fmtp("firefox-esr-153-whep", Role::Viewer, "109"), "useinbandfec=1;stereo=1;sprop-stereo=1");
    assert_eq!(fmtp("chromium-156-whep", Role::Viewer, "111"), "minptime=10;useinbandfec=1");
}

#[test]
fn a_fingerprint_counts_at_either_level_and_beside_other_hashes() {
    for (name, first) in [("firefox-esr-153-whip", 0x0D), ("aiortc-1.16-whip", 0x31)] {
        let plan = plan_for(&offer_named(name), Role::Publisher).unwrap();
        assert_eq!(plan.remote.fingerprint[0], first, "{name}");
    }
}

#[test]
fn gstreamer_opus_without_channels_is_opus_in_stereo() {
    let answer = answer_to(&offer_named("gst-1.22-whepsrc-default"), Role::Viewer).unwrap();
    assert_eq!(lines_with(&answer, "a=rtpmap:96 "), ["opus/48000/2"]);
    assert_eq!(lines_with(&answer, "a=mid:"), ["audio0", "video1"]);
    assert_eq!(
        lines_with(&answer, "m="),
        ["audio 9 UDP/TLS/RTP/SAVPF 96", "video 9 UDP/TLS/RTP/SAVPF 101 102 103 104 105"]
    );
}
