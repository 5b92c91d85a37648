//! What deployed clients get wrong and must not suffer for.

use super::checker::check;
use super::{answer_to, lines_with, offer_named, plan_for};
use sfu::core::codec::{Codec, H264Profile, MediaKind};
use sfu::core::plan::{Extension, Role};

/// A change to a captured offer: its name, what is replaced, and by what.
type Quirk = (&'static str, &'static str, &'static str, &'static str);

const QUIRKS: [Quirk; 47] = [
    ("one section needs no group", "ffmpeg-9.0.2-dtls-active-high", "a=group:BUNDLE 1\r\n", ""),
    ("a group that is not BUNDLE", "chromium-156-whip", "a=group:BUNDLE", "a=group:LS 0 1\r\na=group:BUNDLE"),
    ("a group in another order", "chromium-156-whip", "a=group:BUNDLE 0 1", "a=group:BUNDLE 1 0"),
    ("no msid at all", "chromium-156-whip", "a=msid:", "a=x-msid:"),
    ("no ssrc at all", "chromium-156-whip", "a=ssrc", "a=x-ssrc"),
    ("bundle-only with port 0", "chromium-156-whip", "m=video 9 ", "m=video 0 "),
    ("a port with a count", "chromium-156-whip", "m=video 9 ", "m=video 9/1 "),
    ("a real port", "chromium-156-whip", "m=audio 9 ", "m=audio 61234 "),
    ("setup active", "chromium-156-whip", "a=setup:actpass", "a=setup:active"),
    ("setup passive", "chromium-156-whip", "a=setup:actpass", "a=setup:passive"),
    ("OPUS in capitals", "chromium-156-whip", "opus/48000/2", "OPUS/48000/2"),
    ("Opus without channels", "chromium-156-whip", "opus/48000/2", "opus/48000"),
    ("video names in small letters", "chromium-156-whip", "VP8/90000", "vp8/90000"),
    (
        "static payload types without rtpmap",
        "chromium-156-whip",
        "a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n",
        "",
    ),
    ("static payload types with a channel", "chromium-156-whip", "PCMU/8000", "PCMU/8000/1"),
    ("feedback on audio", "chromium-156-whip", "a=rtcp-fb:111 t", "a=rtcp-fb:111 nack\r\na=rtcp-fb:111 t"),
    (
        "feedback for all",
        "chromium-156-whip",
        "a=rtpmap:96",
        "a=rtcp-fb:* nack\r\na=rtcp-fb:* ccm fir\r\na=rtpmap:96",
    ),
    (
        "feedback twice",
        "chromium-156-whip",
        "a=rtcp-fb:96 nack\r\n",
        "a=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack\r\n",
    ),
    (
        "feedback that nobody knows",
        "chromium-156-whip",
        "a=rtcp-fb:96 nack\r\n",
        "a=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack sli\r\na=rtcp-fb:96 x\r\n",
    ),
    (
        "attributes of strange payload types",
        "chromium-156-whip",
        "a=rtpmap:96",
        "a=rtpmap:77 VP8/90000\r\na=fmtp:77 apt=96\r\na=rtcp-fb:77 nack\r\na=rtpmap:96",
    ),
    ("an extension with a direction", "chromium-156-whip", "a=extmap:4 ", "a=extmap:4/sendonly "),
    ("an extension that we may not use", "chromium-156-whip", "a=extmap:13 ", "a=extmap:13/recvonly "),
    ("extension ids of two octets", "chromium-156-whip", "a=extmap:13 ", "a=extmap:200 "),
    ("extension ids for later", "chromium-156-whip", "a=extmap:13 ", "a=extmap:4096 "),
    ("an extension with attributes", "obs-libdatachannel-1layer", "sdes:mid", "sdes:mid short"),
    ("a bare a= line", "chromium-156-whip", "a=rtcp-mux\r\n", "a=rtcp-mux\r\na=\r\n"),
    ("an empty line", "chromium-156-whip", "a=rtcp-mux\r\n", "a=rtcp-mux\r\n\r\n"),
    ("lines of other kinds", "chromium-156-whip", "t=0 0", "i=x\r\nb=AS:1\r\nt=0 0\r\nk=clear:x"),
    (
        "candidates that nobody can read",
        "chromium-156-whip",
        "a=mid:0",
        "a=candidate:\r\na=candidate:1 2 TCP 1 x.local 9 typ\r\na=mid:0",
    ),
    ("spaces around values", "chromium-156-whip", "a=setup:actpass", "a=setup: actpass "),
    ("spaces in parameters", "ffmpeg-9.0.2-passive", ";profile", "; profile"),
    ("legacy protocol", "chromium-156-whip", "UDP/TLS/RTP/SAVPF", "RTP/SAVPF"),
    ("legacy protocol without feedback", "chromium-156-whip", "UDP/TLS/RTP/SAVPF", "RTP/SAVP"),
    ("a protocol that hides its encryption", "chromium-156-whip", "UDP/TLS/RTP/SAVPF", "RTP/AVPF"),
    ("a protocol that hides everything", "chromium-156-whip", "UDP/TLS/RTP/SAVPF", "RTP/AVP"),
    ("no feedback profile", "chromium-156-whip", "UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP"),
    ("media over TCP", "chromium-156-whip", "UDP/TLS/RTP/SAVPF", "TCP/DTLS/RTP/SAVPF"),
    ("media over TCP without feedback", "chromium-156-whip", "UDP/TLS/RTP/SAVPF", "TCP/DTLS/RTP/SAVP"),
    ("a byte order mark", "chromium-156-whip", "v=0\r\n", "\u{feff}v=0\r\n"),
    ("empty lines before", "chromium-156-whip", "v=0\r\n", "\r\n\r\n\nv=0\r\n"),
    ("a space behind the version", "chromium-156-whip", "v=0\r\n", "v=0 \r\n"),
    ("IPv6 connection lines", "chromium-156-whip", "c=IN IP4 0.0.0.0", "c=IN IP6 2001:db8::1"),
    (
        "candidates by name, over TCP, of IPv6 and of component 2",
        "chromium-156-whip",
        "a=mid:0",
        "a=candidate:1 1 udp 2113937151 5f1e3a6e-5b5c-4f1f-9f5d-2a5b9c3d7e1f.local 54321 typ host\r\n\
         a=candidate:2 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active\r\n\
         a=candidate:3 2 UDP 1 2001:db8::1 5000 typ srflx raddr :: rport 0\r\na=mid:0",
    ),
    ("rtcp-mux-only alone", "chromium-156-whip", "a=rtcp-mux\r\n", "a=rtcp-mux-only\r\n"),
    ("no mid where there is one section", "ffmpeg-9.0.2-dtls-active-high", "a=group:BUNDLE 1\r\n", ""),
    ("an empty mid where there is one section", "ffmpeg-9.0.2-dtls-active-high", "a=group:BUNDLE 1\r\n", ""),
    (
        "a data channel's attributes",
        "chromium-156-whip",
        "a=mid:0",
        "a=sctp-port:5000\r\na=max-message-size:1\r\na=mid:0",
    ),
];

#[test]
fn quirks_of_deployed_clients_get_a_right_answer() {
    for (quirk, name, from, to) in QUIRKS {
        let good = offer_named(name);
        assert!(good.contains(from), "{quirk}");
        let mut text = good.replace(from, to);
        if quirk.starts_with("bundle-only") {
            text = text.replace("a=mid:1", "a=bundle-only\r\na=mid:1");
        }
        match quirk {
            "no mid where there is one section" => text = text.replace("a=mid:1\r\n", ""),
            "an empty mid where there is one section" => text = text.replace("a=mid:1\r\n", "a=mid:\r\n"),
            _ => {}
        }
        let answer = answer_to(&text, Role::Publisher).unwrap_or_else(|error| panic!("{quirk}: {error}"));
        check(&text, &answer, Role::Publisher);
    }
}

#[test]
fn bare_line_feeds_mean_the_same_offer() {
    let text = offer_named("chromium-156-whip");
    let bare = text.replace("\r\n", "\n");
    assert_eq!(answer_to(&bare, Role::Publisher), answer_to(&text, Role::Publisher));
    let around = format!("\n\n{text}\r\n\n");
    assert_eq!(answer_to(&around, Role::Publisher), answer_to(&text, Role::Publisher));
    let unended = text.trim_end();
    assert_eq!(answer_to(unended, Role::Publisher), answer_to(&text, Role::Publisher));
}

#[test]
fn whepclientsrc_offers_redundancy_as_audio_formats_and_h264_without_a_mode() {
    let text = offer_named("gst-1.22-whepclientsrc");
    let answer = answer_to(&text, Role::Viewer).unwrap();
    assert_eq!(lines_with(&answer, "m=audio"), [" 9 UDP/TLS/RTP/SAVPF 101 108"]);
    assert_eq!(lines_with(&answer, "m=video"), [" 9 UDP/TLS/RTP/SAVPF 96 97 98 99 100 104"]);
    assert_eq!(lines_with(&answer, "a=fmtp:97 "), ["profile-level-id=42e016"]);
    let plan = plan_for(&text, Role::Viewer).unwrap();
    let baseline =
        |packetization_mode| Codec::H264 { profile: H264Profile::ConstrainedBaseline, packetization_mode };
    let video = plan.section(MediaKind::Video).unwrap();
    assert_eq!(video.payload_for(baseline(1)).unwrap().pt.0, 97, "what encoders send");
    assert_eq!(video.payload_for(baseline(0)).unwrap().pt.0, 97);
    assert!(video.payload_for(Codec::H264 { profile: H264Profile::High, packetization_mode: 1 }).is_none());
}

#[test]
fn a_viewer_that_names_no_packetization_mode_takes_fragments_and_one_that_names_modes_means_them() {
    let modes = |text: &str, role| -> Vec<u8> {
        let plan = plan_for(text, role).unwrap();
        let codecs = plan.section(MediaKind::Video).unwrap().payloads.iter().map(|payload| payload.codec);
        codecs
            .filter_map(|codec| match codec {
                Codec::H264 { packetization_mode, .. } => Some(packetization_mode),
                _ => None,
            })
            .collect()
    };
    let silent = offer_named("gst-1.22-whepsrc-default");
    assert_eq!(modes(&silent, Role::Viewer), [1]);
    let single = silent.replace("a=rtpmap:104", "a=fmtp:103 packetization-mode=0\r\na=rtpmap:104");
    assert_eq!(modes(&single, Role::Viewer), [0]);
    let both = silent.replace("SAVPF 101 ", "SAVPF 110 101 ").replace(
        "a=rtpmap:104",
        "a=rtpmap:110 H264/90000\r\na=fmtp:110 packetization-mode=1\r\na=rtpmap:104",
    );
    assert_eq!(modes(&both, Role::Viewer), [1, 0], "103 is left without a mode on purpose");
    let publisher = silent.replace("recvonly", "sendonly");
    assert_eq!(modes(&publisher, Role::Publisher), [0], "who sends keeps to RFC 6184");
}

#[test]
fn a_section_without_a_mid_gets_no_mid_and_no_mid_extension() {
    let text = offer_named("chromium-156-whep");
    let alone = text[..text.find("m=video").unwrap()].replace("a=group:BUNDLE 0 1\r\n", "");
    let nameless = alone.replace("a=mid:0\r\n", "");
    assert!(nameless.contains("sdes:mid") && nameless != alone);
    let answer = answer_to(&nameless, Role::Viewer).unwrap();
    assert!(!answer.contains("a=mid:") && !answer.contains("sdes:mid"));
    assert!(answer_to(&alone, Role::Viewer).unwrap().contains("sdes:mid"));
}

#[test]
fn candidates_stand_in_the_first_section_and_in_the_one_whose_transport_counts() {
    let text = offer_named("chromium-156-whip").replace("BUNDLE 0 1", "BUNDLE 1 0");
    let answer = answer_to(&text, Role::Publisher).unwrap();
    let (first, second) = answer.split_once("m=video").unwrap();
    let candidates = |part: &str| lines_with(part, "a=candidate:").len();
    let all = super::CANDIDATES.len() + super::TCP_CANDIDATES.len();
    assert_eq!((candidates(first), candidates(second)), (all, all));
}

#[test]
fn wishes_of_opus_come_back_to_the_publisher_alone() {
    let all = "useinbandfec=1;usedtx=1;cbr=1;maxaveragebitrate=128000;maxplaybackrate=16000;sprop-stereo=0;ptime=10";
    let fmtp = |name: &str, role| {
        let text =
            offer_named(name).replace("a=fmtp:111 minptime=10;useinbandfec=1", &format!("a=fmtp:111 {all}"));
        assert!(text.contains(all));
        let answer = answer_to(&text, role).unwrap();
        check(&text, &answer, role);
        lines_with(&answer, "a=fmtp:111 ").join("|")
    };
    let publisher = "useinbandfec=1;usedtx=1;cbr=1;maxaveragebitrate=128000;stereo=1";
    assert_eq!(fmtp("chromium-156-whip", Role::Publisher), publisher);
    assert_eq!(fmtp("chromium-156-whep", Role::Viewer), "useinbandfec=1");
}

#[test]
fn redundant_audio_is_nobodys_so_that_everybody_hears() {
    let answer = answer_to(&offer_named("chromium-156-whip"), Role::Publisher).unwrap();
    assert_eq!(lines_with(&answer, "m=audio"), [" 9 UDP/TLS/RTP/SAVPF 111 0 8"]);
    assert!(!answer.to_lowercase().contains("red/"));
}

#[test]
fn absent_parameters_have_the_defaults_of_their_rfcs() {
    let plan = plan_for(&offer_named("gst-1.22-whepsrc-default"), Role::Viewer).unwrap();
    let codecs: Vec<Codec> =
        plan.section(MediaKind::Video).unwrap().payloads.iter().map(|payload| payload.codec).collect();
    let h264 = Codec::H264 { profile: H264Profile::Baseline, packetization_mode: 1 };
    let h265 = Codec::H265 { profile_id: 1, tier_flag: 0 };
    assert_eq!(codecs, [Codec::Vp8, Codec::Vp9 { profile_id: 0 }, h264, h265, Codec::Av1 { profile: 0 }]);
}

#[test]
fn h265_and_av1_parameters_are_read_and_repeated() {
    let text = offer_named("gst-1.22-whepsrc-default")
        .replace(
            "a=rtpmap:104",
            "a=fmtp:104 level-id=93;profile-id=2;tier-flag=1;tx-mode=SRST\r\na=rtpmap:104",
        )
        .replace("a=rtpmap:105", "a=fmtp:105 level-idx=5;profile=1;tier=0\r\na=rtpmap:105");
    let plan = plan_for(&text, Role::Viewer).unwrap();
    let payloads = &plan.section(MediaKind::Video).unwrap().payloads;
    assert_eq!(payloads[3].codec, Codec::H265 { profile_id: 2, tier_flag: 1 });
    assert_eq!(payloads[4].codec, Codec::Av1 { profile: 1 });
    let answer = answer_to(&text, Role::Viewer).unwrap();
    check(&text, &answer, Role::Viewer);
    assert_eq!(lines_with(&answer, "a=fmtp:104 "), ["level-id=93;profile-id=2;tier-flag=1;tx-mode=SRST"]);
    assert_eq!(lines_with(&answer, "a=fmtp:105 "), ["level-idx=5;profile=1;tier=0"]);
}

#[test]
fn h265_on_several_streams_is_not_accepted() {
    let text = offer_named("gst-1.22-whepsrc-default")
        .replace("a=rtpmap:104", "a=fmtp:104 profile-id=1;tx-mode=MRST\r\na=rtpmap:104");
    let answer = answer_to(&text, Role::Viewer).unwrap();
    assert_eq!(lines_with(&answer, "m=video"), [" 9 UDP/TLS/RTP/SAVPF 101 102 103 105"]);
}

#[test]
fn a_parameter_that_cannot_be_read_spoils_its_payload_type_alone() {
    let good = offer_named("chromium-156-whip");
    for (from, to) in [
        ("packetization-mode=1;profile-level-id=42001f", "packetization-mode=1;profile-level-id=42001"),
        ("packetization-mode=1;profile-level-id=42001f", "packetization-mode=1;profile-level-id=+2001f"),
        ("packetization-mode=1;profile-level-id=42001f", "packetization-mode=;profile-level-id=42001f"),
        ("packetization-mode=1;profile-level-id=42001f", "packetization-mode=256;profile-level-id=42001f"),
        ("a=rtpmap:102 H264/90000", "a=rtpmap:102 MP4V-ES/90000"),
    ] {
        let text = good.replace(from, to);
        assert_ne!(text, good, "{from}");
        let answer = answer_to(&text, Role::Publisher).unwrap();
        let video = lines_with(&answer, "m=video 9 UDP/TLS/RTP/SAVPF ")[0];
        assert!(video.starts_with("96 97 104 107 "), "{to}: {video}");
    }
    let rtx = good.replace("a=fmtp:97 apt=96", "a=fmtp:97 apt=ninety-six");
    let answer = answer_to(&rtx, Role::Publisher).unwrap();
    assert!(lines_with(&answer, "m=video 9 UDP/TLS/RTP/SAVPF ")[0].starts_with("96 102 103 "));
}

#[test]
fn retransmissions_of_what_is_not_accepted_are_not_accepted() {
    let answer = answer_to(&offer_named("firefox-esr-153-whip"), Role::Publisher).unwrap();
    let video = " 9 UDP/TLS/RTP/SAVPF 120 124 121 125 99 100";
    assert_eq!(lines_with(&answer, "m=video"), [video], "119 repeats red");
}

#[test]
fn simulcast_alternatives_and_paused_layers_become_one_layer_each() {
    let text = offer_named("chromium-156-whip-simulcast-h264")
        .replace("a=simulcast:send h;m;l", "a=rid:x send pt=96\r\na=simulcast:recv q send h,x;~m;l");
    let answer = answer_to(&text, Role::Publisher).unwrap();
    assert_eq!(lines_with(&answer, "a=simulcast:"), ["recv h;m;l"]);
    assert_eq!(lines_with(&answer, "a=rid:"), ["h recv", "m recv", "l recv"]);
}

#[test]
fn an_extension_is_answered_from_our_side() {
    let text = offer_named("chromium-156-whip").replace("a=extmap:4 ", "a=extmap:4/sendonly ");
    let answer = answer_to(&text, Role::Publisher).unwrap();
    assert_eq!(lines_with(&answer, "a=extmap:4/recvonly ").len(), 2);
    let received = text.replace("a=extmap:4/sendonly ", "a=extmap:4/recvonly ");
    let plan = plan_for(&received, Role::Publisher).unwrap();
    let mid = |extensions: &[(u8, Extension)]| extensions.iter().any(|(_, it)| *it == Extension::Mid);
    assert!(!plan.sections.iter().any(|section| mid(&section.extensions)), "a publisher that never sends it");
}

#[test]
fn the_group_names_the_section_whose_transport_counts() {
    let text = offer_named("chromium-156-whip").replacen("a=ice-ufrag:MVzM", "a=ice-ufrag:First", 1);
    let ufrag = |text: &str| plan_for(text, Role::Publisher).unwrap().remote.ice_ufrag;
    assert_eq!(ufrag(&text), "First");
    assert_eq!(ufrag(&text.replace("BUNDLE 0 1", "BUNDLE 1 0")), "MVzM");
}

#[test]
fn sha_256_is_found_among_other_hashes_and_letters_of_any_case() {
    let text = offer_named("chromium-156-whip")
        .replace("a=fingerprint:sha-256 D2", "a=fingerprint:sha-512 AA:BB\r\na=fingerprint:SHA-256 d2");
    assert_eq!(plan_for(&text, Role::Publisher).unwrap().remote.fingerprint[0], 0xd2);
}

#[test]
fn correction_ssrcs_are_not_media() {
    let text =
        offer_named("chromium-156-whip") + "a=ssrc:77 cname:x\r\na=ssrc-group:FEC-FR 1042900672 77\r\n";
    let plan = plan_for(&text, Role::Publisher).unwrap();
    let ssrcs = &plan.section(MediaKind::Video).unwrap().ssrcs;
    assert_eq!(ssrcs.iter().map(|pair| pair.media.0).collect::<Vec<_>>(), [1_042_900_672]);
}

#[test]
fn texts_of_the_caller_cannot_break_a_line() {
    let text = offer_named("chromium-156-whep");
    let offer = crate::sdp::Offer::parse(&text).unwrap();
    let plan = plan_for(&text, Role::Viewer).unwrap();
    let local = crate::sdp::LocalDescription { msid: "a b\r\na=x", cname: "é:", ..super::local(&[]) };
    let answer = crate::sdp::answer(&offer, &plan, &local);
    assert_eq!(lines_with(&answer, "a=msid:"), ["a_b__a_x audio", "a_b__a_x video"]);
    assert_eq!(lines_with(&answer, "a=ssrc:1001 cname:"), ["__"]);
}

/// What MediaMTX's player offers beside its media (its `reader.js`, since 2026).
const DATA_CHANNEL: &str = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:ABCD\r\n\
    a=ice-pwd:0123456789abcdefABCDEF+/\r\na=setup:actpass\r\na=mid:2\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n";
const DECLINED: &str = "m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\n";

fn with_data_channel(before: &str) -> String {
    let media = offer_named("chromium-156-whep").replace("a=group:BUNDLE 0 1", "a=group:BUNDLE 0 1 2");
    media.replacen(before, &format!("{DATA_CHANNEL}{before}"), 1)
}

#[test]
fn a_player_that_offers_a_data_channel_too_gets_its_media_and_the_channel_declined() {
    let media = offer_named("chromium-156-whep");
    let alone = answer_to(&media, Role::Viewer).unwrap();
    let first = answer_to(&with_data_channel("m="), Role::Viewer).unwrap();
    assert_eq!(first, alone.replacen("m=", &format!("{DECLINED}m="), 1), "before all others");
    let between = answer_to(&with_data_channel("m=video"), Role::Viewer).unwrap();
    assert_eq!(between, alone.replace("m=video", &format!("{DECLINED}m=video")));
    let offer = media.replace("a=group:BUNDLE 0 1", "a=group:BUNDLE 2 0 1") + DATA_CHANNEL;
    assert_eq!(answer_to(&offer, Role::Viewer).unwrap(), alone + DECLINED, "even where it leads the group");
}

#[test]
fn of_a_data_channel_no_name_that_would_break_the_answer_comes_back() {
    let text = with_data_channel("m=video");
    for mid in ["", "a=mid:", "a=mid:0", "a=mid:two words", "a=mid:12345678901234567", "a=mid:\u{e4}"] {
        let error =
            plan_for(&text.replace("a=mid:2", mid).replace("0 1 2", "0 1"), Role::Viewer).unwrap_err();
        assert_eq!(error.status(), 422, "{mid}");
    }
    let twice = with_data_channel("m=video") + DATA_CHANNEL;
    assert_eq!(plan_for(&twice, Role::Viewer).unwrap_err().status(), 422);
}
