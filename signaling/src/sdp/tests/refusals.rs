//! Each way to be refused: from a good offer, one thing is made wrong.

use super::{OfferError, offer_named, plan_for};
use sfu::core::codec::MediaKind;
use sfu::core::plan::{PlanError, Role};

/// The Chromium publisher's offer with `from` replaced by `to`, wherever it stands.
fn chromium(from: &str, to: &str) -> String {
    let good = offer_named("chromium-156-whip");
    assert!(good.contains(from), "{from}");
    good.replace(from, to)
}

fn refused(text: &str, error: &OfferError, status: u16) {
    assert_eq!(&plan_for(text, Role::Publisher).unwrap_err(), error);
    assert_eq!(error.status(), status, "{error}");
    assert!(error.to_string().len() > 20, "a message to act on");
}

#[test]
fn what_is_no_sdp_is_malformed() {
    for text in ["", "\r\n", "{}", "\u{feff}\u{feff}v=0\r\n", "v=1\r\n", "o=- 1 1 IN IP4 0.0.0.0\r\nv=0\r\n"]
    {
        refused(text, &OfferError::NotSdp, 400);
    }
    refused("v=0\r\n", &OfferError::NoMedia, 400);
}

#[test]
fn malformed_lines_are_named_by_number() {
    let cases = [
        ("s=-", "session"),
        ("t=0 0", "=0 0"),
        ("a=mid:0\r\n", "a=rtpmap:0\r\n"),
        ("m=audio 9 ", "m=audio nine "),
        ("m=audio 9 UDP/TLS/RTP/SAVPF 111", "m=audio 9 UDP/TLS/RTP/SAVPF 128"),
        ("m=audio 9 UDP/TLS/RTP/SAVPF 111", "m=audio 9 UDP/TLS/RTP/SAVPF +1"),
        ("m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126", "m=audio 9 UDP/TLS/RTP/SAVPF"),
        ("m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126", "m="),
        ("a=setup:actpass", "a=setup:maybe"),
        ("a=fingerprint:sha-256 D2:", "a=fingerprint:sha-256 "),
        ("a=fingerprint:sha-256 D2:", "a=fingerprint:sha-256 D2:D2:"),
        ("a=fingerprint:sha-256 D2:", "a=fingerprint:sha-256 +2:"),
        ("a=rtcp-fb:96 nack\r\n", "a=rtcp-fb:96\r\n"),
        ("a=extmap:4 urn", "a=extmap:four urn"),
        ("a=extmap:4 urn", "a=extmap:4/upward urn"),
        ("a=ssrc:1808081578 cname", "a=ssrc:-1 cname"),
        ("a=ssrc:1808081578 cname", "a=ssrc:4294967296 cname"),
        ("a=ssrc-group:FID 1042900672 1808081578", "a=ssrc-group:FID 1042900672"),
    ];
    for (from, to) in cases {
        let text = chromium(from, to);
        let number = text.lines().zip(offer_named("chromium-156-whip").lines()).position(|(a, b)| a != b);
        match plan_for(&text, Role::Publisher).unwrap_err() {
            error @ OfferError::Malformed { line, .. } => {
                assert_eq!(Some(line - 1), number, "{to}");
                assert_eq!(error.status(), 400);
            }
            other => panic!("{to}: {other}"),
        }
    }
}

#[test]
fn attributes_without_which_there_is_no_transport_are_asked_for() {
    for attribute in ["mid", "ice-ufrag", "ice-pwd", "fingerprint", "setup"] {
        let text = chromium(&format!("a={attribute}:"), "a=x-gone:");
        let error = plan_for(&text, Role::Publisher).unwrap_err();
        match attribute {
            "mid" => assert_eq!(error, OfferError::BundleMismatch),
            _ => assert_eq!(error, OfferError::Missing { kind: MediaKind::Audio, attribute }),
        }
    }
}

#[test]
fn directions_that_carry_nothing_our_way_are_refused() {
    for (name, role, wrong) in [
        ("chromium-156-whip", Role::Publisher, ["recvonly", "inactive"]),
        ("chromium-156-whep", Role::Viewer, ["sendonly", "inactive"]),
    ] {
        let right = if role == Role::Publisher { "a=sendonly" } else { "a=recvonly" };
        for direction in wrong {
            let text = offer_named(name).replace(right, &format!("a={direction}"));
            let error = plan_for(&text, role).unwrap_err();
            assert_eq!(error, OfferError::Direction { kind: MediaKind::Audio, role });
            assert_eq!(error.status(), 422);
        }
        assert!(plan_for(&offer_named(name).replace(right, "a=sendrecv"), role).is_ok());
    }
}

#[test]
fn one_bundle_group_must_hold_every_section() {
    refused(&chromium("a=group:BUNDLE 0 1\r\n", ""), &OfferError::NoBundle, 422);
    refused(
        &chromium("a=group:BUNDLE 0 1", "a=group:BUNDLE 0\r\na=group:BUNDLE 1"),
        &OfferError::SeveralBundles,
        422,
    );
    for group in ["0", "1", "0 2", "0 1 2", "0 0", ""] {
        let text = chromium("a=group:BUNDLE 0 1", &format!("a=group:BUNDLE {group}"));
        refused(&text, &OfferError::BundleMismatch, 422);
    }
}

#[test]
fn one_audio_and_one_video_are_the_most() {
    let good = offer_named("chromium-156-whip");
    let video = &good[good.find("m=video").unwrap()..];
    let extra = good.replace("BUNDLE 0 1", "BUNDLE 0 1 2") + &video.replace("a=mid:1", "a=mid:2");
    refused(&extra, &OfferError::Plan(PlanError::DuplicateKind), 422);
}

#[test]
fn data_channels_are_refused_by_name() {
    let data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\n";
    let text = offer_named("chromium-156-whip") + data;
    let line = text.lines().count() - 1;
    refused(&text, &OfferError::UnsupportedMedia { line }, 422);
    assert!(OfferError::UnsupportedMedia { line }.to_string().contains("data channel"));
}

#[test]
fn protocols_without_dtls_are_refused() {
    for protocol in ["UDP/DTLS/SCTP", "udp", "UDP/TLS/RTP/SAVPFX", "udp/tls/rtp/savpf"] {
        let text = chromium("m=audio 9 UDP/TLS/RTP/SAVPF", &format!("m=audio 9 {protocol}"));
        refused(&text, &OfferError::UnsupportedProtocol { line: 8 }, 422);
    }
}

#[test]
fn rtcp_on_its_own_port_is_refused() {
    let error = OfferError::NoRtcpMux { kind: MediaKind::Audio };
    refused(&chromium("a=rtcp-mux\r\n", ""), &error, 422);
    assert!(error.to_string().contains("rtcp-mux"));
}

#[test]
fn a_disabled_section_refuses_the_whole_offer() {
    refused(&chromium("m=video 9", "m=video 0"), &OfferError::Disabled { kind: MediaKind::Video }, 422);
}

#[test]
fn a_client_that_waits_for_checks_is_refused() {
    refused(&chromium("t=0 0", "t=0 0\r\na=ice-lite"), &OfferError::IceLite, 422);
    refused(&chromium("a=setup:actpass", "a=setup:holdconn"), &OfferError::SetupRole, 422);
}

#[test]
fn other_hashes_than_sha_256_are_refused() {
    refused(&chromium("a=fingerprint:sha-256", "a=fingerprint:sha-1"), &OfferError::NoSha256, 422);
    // A section's own fingerprint hides the session's.
    let text = offer_named("firefox-esr-153-whip").replace("a=mid:0", "a=mid:0\r\na=fingerprint:md5 00:11");
    refused(&text, &OfferError::NoSha256, 422);
}

#[test]
fn a_section_without_a_codec_of_ours_names_the_ones_that_we_have() {
    let text = chromium("m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13", "m=audio 9 UDP/TLS/RTP/SAVPF 63 9 13");
    let error = OfferError::NoCodec { kind: MediaKind::Audio };
    refused(&text, &error, 422);
    assert!(error.to_string().contains("opus, PCMU or PCMA"));
    let interleaved =
        offer_named("ffmpeg-9.0.2-passive").replace("packetization-mode=1", "packetization-mode=2");
    let error = OfferError::NoCodec { kind: MediaKind::Video };
    refused(&interleaved, &error, 422);
    assert!(["VP8", "VP9", "AV1", "H264", "H265"].iter().all(|codec| error.to_string().contains(codec)));
}

#[test]
fn a_publisher_has_one_media_stream() {
    let text = chromium("a=msid:67d34992-1591-4df7-a923-f01e06df8ce5 ef98", "a=msid:another ef98");
    refused(&text, &OfferError::SeveralStreams, 422);
    let none = chromium("a=msid:67d34992-1591-4df7-a923-f01e06df8ce5 ef98", "a=msid:- ef98");
    assert!(plan_for(&none, Role::Publisher).is_ok(), "no stream is no other stream");
}

#[test]
fn simulcast_needs_its_rids_declared_and_carried() {
    let good = offer_named("obs-libdatachannel-3layers");
    refused(&good.replace("a=rid:2 send\r\n", ""), &OfferError::UndeclaredRid, 400);
    refused(&good.replace("a=rid:2 send", "a=rid:2 recv"), &OfferError::UndeclaredRid, 400);
    refused(&good.replace("sdes:rtp-stream-id", "sdes:other"), &OfferError::SimulcastWithoutRid, 422);
    let repeated = good.replace("send 0;1;2", "send 0;1;1");
    refused(&repeated, &OfferError::Plan(PlanError::BadRid), 422);
    let long = good.replace("a=rid:2 ", "a=rid:layernumber2 ").replace("0;1;2", "0;1;layernumber2");
    refused(&long, &OfferError::Plan(PlanError::BadRid), 422);
}

#[test]
fn what_the_media_process_would_refuse_is_refused_here() {
    let cases = [
        ("a=ice-ufrag:MVzM", "a=ice-ufrag:MV", PlanError::BadIceCredentials),
        ("a=ice-pwd:kaOUnK2afIeMbXcX+O0Bwnma", "a=ice-pwd:short", PlanError::BadIceCredentials),
        ("a=ssrc:3426213499", "a=ssrc:0", PlanError::BadSsrc),
        ("a=ssrc:3426213499", "a=ssrc:1042900672", PlanError::BadSsrc),
        ("a=rtpmap:63 red/48000/2", "a=rtpmap:63 opus/48000/2", PlanError::BadPayloadType),
        ("a=extmap:13 urn:3gpp:video", "a=extmap:4 urn:3gpp:video", PlanError::BadExtensionId),
    ];
    for (from, to, error) in cases {
        // 63 for audio as well as for video.
        let text = chromium(from, to).replace("SAVPF 96 97 102", "SAVPF 96 97 63 102");
        let text = text.replace("a=rtpmap:96", "a=rtpmap:63 VP8/90000\r\na=rtpmap:96");
        let text = if error == PlanError::BadPayloadType { text } else { chromium(from, to) };
        refused(&text, &OfferError::Plan(error), 422);
    }
    let long =
        chromium("a=mid:0", "a=mid:0123456789abcdef0").replace("BUNDLE 0 ", "BUNDLE 0123456789abcdef0 ");
    refused(&long, &OfferError::Plan(PlanError::BadMid), 422);
    let twice = chromium("a=mid:1", "a=mid:0").replace("BUNDLE 0 1", "BUNDLE 0 0");
    refused(&twice, &OfferError::Plan(PlanError::DuplicateMid), 422);
    let ufrag = chromium("a=ice-ufrag:MVzM", &format!("a=ice-ufrag:{}", "M".repeat(4000)));
    refused(&ufrag, &OfferError::Plan(PlanError::BadIceCredentials), 422);
}
