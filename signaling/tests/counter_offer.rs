//! The WHEP draft's second mode: the real binary offers, a player answers.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use sfu::control::protocol::{CreateError, Event};
use sfu::core::codec::{Codec, H264Profile, MediaKind};
use sfu::core::plan::{DtlsRole, Role};
use support::{Manner, Response, Server, TOKEN, eventually};

const WHIP_H264_HIGH: &str = include_str!("fixtures/offers/ffmpeg-9.0.2-dtls-active-high.sdp");
const WHEP: &str = include_str!("fixtures/offers/chromium-156-whep.sdp");
const HIGH: Codec = Codec::H264 { profile: H264Profile::High, packetization_mode: 1 };

fn publish_high(server: &Server) {
    assert_eq!(server.post("/demo/whip", &[], WHIP_H264_HIGH).status, 201);
    let (session, plan) = server.media.created().pop().unwrap();
    server.media.send(&Event::Connected { session });
    server.media.send(&Event::Track { session, stream: plan.stream, codec: HIGH });
    eventually("the stream is live", || server.get("/api/v1/streams").body.contains("High"));
}

fn session_of(response: &Response) -> String {
    let location = response.header("location").unwrap();
    location[location.find("/session/").unwrap()..].to_owned()
}

/// What a browser answers to an offer of one section or two.
fn answer_to(offer: &str) -> String {
    let groups: Vec<&str> = offer.lines().filter(|line| line.starts_with("a=group:")).collect();
    let mut answer = format!("v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n{}\r\n", groups[0]);
    for line in offer.lines().skip_while(|line| !line.starts_with("m=")) {
        match line.split([':', ' ']).next().unwrap() {
            "a=sendonly" => answer += "a=recvonly\r\n",
            "a=setup" => answer += "a=setup:active\r\n",
            "a=ice-ufrag" => answer += "a=ice-ufrag:them\r\n",
            "a=ice-pwd" => answer += "a=ice-pwd:themthemthemthemthemthem\r\n",
            "a=candidate" | "a=end-of-candidates" | "a=ssrc" | "a=ssrc-group" | "a=msid" => {}
            _ => answer += &format!("{line}\r\n"),
        }
    }
    answer
}

fn patch(server: &Server, session: &str, body: &str) -> Response {
    server.request("PATCH", session, &[("Content-Type", "application/sdp")], body)
}

fn value_of<'a>(sdp: &'a str, name: &str) -> &'a str {
    sdp.lines().find_map(|line| line.strip_prefix(name)).unwrap()
}

#[test]
fn a_player_that_asks_for_an_offer_gets_it_in_a_406_and_its_answer_makes_the_session() {
    let server = Server::start("counter-406", &[]);
    publish_high(&server);
    let offered = server.post("/demo/whep?offer=server", &[], WHEP);
    assert_eq!(offered.status, 406, "{offered:?}");
    let content_type = offered.header("content-type").unwrap();
    assert!(content_type.starts_with("application/sdp; valid-until=\"") && content_type.contains(" GMT\""));
    assert!(offered.header("etag").unwrap().starts_with('"'));
    assert!(!offered.header("location").unwrap().contains('?'));
    assert_eq!(offered.header("access-control-allow-origin"), Some("*"));
    assert_eq!(value_of(&offered.body, "m="), "video 9 UDP/TLS/RTP/SAVPF 96 97", "the publisher's one codec");
    assert!(value_of(&offered.body, "a=fmtp:96 ").contains("profile-level-id=64001f"));
    assert_eq!(value_of(&offered.body, "a=setup:"), "actpass");
    assert_eq!(server.media.created().len(), 1, "media hears of the viewer when there is an answer");

    let session = session_of(&offered);
    let answered = patch(&server, &session, &answer_to(&offered.body));
    assert_eq!((answered.status, answered.body.as_str()), (204, ""), "{answered:?}");
    let (id, plan) = server.media.created().pop().unwrap();
    let local = plan.local.as_ref().unwrap();
    assert_eq!(plan.validate(), Ok(()));
    assert_eq!((plan.role, plan.remote.dtls_role), (Role::Viewer, DtlsRole::Passive));
    assert_eq!(local.ufrag, value_of(&offered.body, "a=ice-ufrag:"));
    assert_eq!(local.pwd, value_of(&offered.body, "a=ice-pwd:"));
    assert_eq!(local.ufrag[..2], format!("{:02x}", id.worker.0), "the worker whose port was offered");
    assert!(offered.body.contains(&format!(" 127.0.0.1 {} typ host", 8200 + id.worker.0)));
    let ssrc = plan.section(MediaKind::Video).unwrap().ssrcs[0].media.0;
    assert!(offered.body.contains(&format!("a=ssrc:{ssrc} cname:{}\r\n", plan.stream.cname())));
    assert_eq!(server.get(&session).status, 204);
    assert_eq!(server.request("DELETE", &session, &[], "").status, 200);
    eventually("media was told", || server.media.deleted() == [id]);
}

#[test]
fn an_empty_post_gets_an_offer_of_everything_in_a_201_while_nobody_publishes() {
    let server = Server::start("counter-empty", &[]);
    for offered in [server.post("/demo/whep", &[], ""), server.request("POST", "/demo/whep", &[], "")] {
        assert_eq!(offered.header("content-type"), Some("application/sdp"), "{offered:?}");
        let session = offered.session();
        for path in ["sse", "layer"] {
            let link = format!("<{}/{path}>; rel=", offered.header("location").unwrap());
            let mut links = offered.headers.iter().filter(|(name, _)| name == "link");
            assert!(links.any(|(_, value)| value.starts_with(&link)), "{link} in {offered:?}");
        }
        for codec in ["opus/48000/2", "VP8/90000", "H264/90000", "AV1/90000", "H265/90000"] {
            assert!(offered.body.contains(codec), "{codec}");
        }
        assert!(offered.body.len() <= 8192);
        assert_eq!(patch(&server, &session, &answer_to(&offered.body)).status, 204);
        let (_, plan) = server.media.created().pop().unwrap();
        assert_eq!(plan.sections.len(), 2);
    }
    let workers: Vec<_> = server.media.created().iter().map(|(session, _)| session.worker).collect();
    assert_ne!(workers[0], workers[1], "offers spread over the workers");
}

#[test]
fn who_declines_the_audio_chooses_layers_by_the_line_that_its_video_has_in_the_offer() {
    let server = Server::start("counter-line", &[]);
    let offered = server.post("/demo/whep", &[], "");
    let session = offered.session();
    let video_only = answer_to(&offered.body).replace("m=audio 9", "m=audio 0");
    assert_eq!(patch(&server, &session, &video_only).status, 204);
    let choose = |line: u8| {
        let wish = format!("{{\"mediaId\":\"{line}\",\"maxHeight\":360}}");
        server.request("POST", &format!("{session}/layer"), &[("Content-Type", "application/json")], &wish)
    };
    assert!(choose(0).problem(422).contains("which is \"1\""));
    assert_eq!(choose(1).status, 200);
}

#[test]
fn a_client_that_asks_and_never_answers_keeps_nobody_else_from_asking() {
    let server = Server::start("counter-share", &[]);
    let ask = |from: &str| {
        let bearer = format!("Bearer {TOKEN}");
        server.post("/demo/whep", &[("X-Forwarded-For", from), ("Authorization", &bearer)], "")
    };
    let (first, rest) = (ask("192.0.2.1"), 1..64);
    rest.for_each(|_| assert_eq!(ask("192.0.2.1").status, 201));
    let refused = ask("192.0.2.1");
    assert!(refused.problem(429).contains("DELETE"));
    assert!(refused.header("retry-after").is_some());
    let (second, outcome) = (ask("198.51.100.7"), "uringcast_counter_offers_total{outcome");
    assert_eq!(patch(&server, &second.session(), &answer_to(&second.body)).status, 204);
    assert_eq!(server.request("DELETE", &first.session(), &[], "").status, 200);
    assert_eq!(ask("192.0.2.1").status, 201, "there is room again");
    for ended in ["refused_source", "answered", "withdrawn"] {
        assert_eq!(server.metric(&format!("{outcome}=\"{ended}\"}}")), Some(1.0), "{ended}");
    }
}

#[test]
fn wrong_answers_are_told_so_and_may_be_corrected() {
    let server = Server::start("counter-wrong", &[]);
    let offered = server.post("/demo/whep", &[], "");
    let session = offered.session();
    let good = answer_to(&offered.body);
    for empty in ["", "hello", "v=0\r\n", good.split("m=").next().unwrap()] {
        let detail = patch(&server, &session, empty).problem(400);
        assert!(!detail.contains("the offer has"), "the offer is ours: {detail}");
    }
    assert!(patch(&server, &session, "v=0\r\n").problem(400).starts_with("the answer must have"));
    let lite = patch(&server, &session, &good.replacen("a=group", "a=ice-lite\r\na=group", 1)).problem(422);
    assert!(!lite.contains("the offer has"), "{lite}");
    patch(&server, &session, &good.replace("a=setup:active", "a=setup:actpass")).problem(400);
    let nothing = good.replace("m=audio 9", "m=audio 0").replace("m=video 9", "m=video 0");
    assert!(patch(&server, &session, &nothing).problem(422).contains("declines everything"));
    let fragment = [("Content-Type", "application/trickle-ice-sdpfrag")];
    let early = server.request("PATCH", &session, &fragment, "a=ice-ufrag:them\r\n");
    assert!(early.problem(415).contains("answer to its offer"));
    assert_eq!(early.header("accept-patch"), Some("application/sdp"));
    assert_eq!(server.get(&session).status, 204);
    server.request("POST", &session, &[], "").problem(405);

    server.media.behave(Manner::Refuse(CreateError::Full));
    patch(&server, &session, &good).problem(503);
    server.media.behave(Manner::Agree);
    assert_eq!(patch(&server, &session, &good).status, 204);
    assert_eq!(server.media.created().len(), 1);
    patch(&server, &session, &good).problem(415);
}

#[test]
fn an_offer_can_be_withdrawn() {
    let server = Server::start("counter-delete", &[]);
    let offered = server.post("/demo/whep", &[], "");
    let session = offered.session();
    assert_eq!(server.request("DELETE", &session, &[], "").status, 200);
    server.get(&session).problem(404);
    patch(&server, &session, &answer_to(&offered.body)).problem(404);
    assert!(server.media.created().is_empty());
}

#[test]
fn nobody_is_offered_anything_unasked() {
    let server = Server::start("counter-unasked", &[]);
    publish_high(&server);
    let refused = server.post("/demo/whep", &[], WHEP);
    let detail = refused.problem(422);
    assert!(detail.contains("H264 (High, packetization-mode 1)") && detail.contains("VP8"), "{detail}");
    server.post("/demo/whip", &[], "").problem(400);
    server.post("/demo/whip?offer=server", &[], "").problem(400);
    server.post("/demo/whep?offer=server", &[], "no sdp").problem(400);
    server.request("POST", "/demo/whep?offer=server", &[("Content-Type", "text/plain")], WHEP).problem(415);
}

#[test]
fn an_offer_needs_the_same_right_as_a_session() {
    let server = Server::start("counter-auth", &[]);
    let far = [("X-Forwarded-For", "192.0.2.1")];
    server.post("/demo/whep", &far, "").problem(401);
    server.post("/demo/whep?offer=server", &far, WHEP).problem(401);
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(server.post("/demo/whep", &[far[0], ("Authorization", &bearer)], "").status, 201);
}
