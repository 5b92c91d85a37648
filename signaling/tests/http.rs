//! The HTTP face of the real binary, beside a media process that only talks.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use nix::sys::signal::Signal;
use sfu::control::protocol::{CreateError, EndReason, Event};
use sfu::core::codec::{Codec, H264Profile};
use sfu::core::plan::Role;
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use support::{Manner, Response, Server, bearer, eventually};

const WHIP: &str = include_str!("fixtures/offers/chromium-156-whip.sdp");
const WHEP: &str = include_str!("fixtures/offers/chromium-156-whep.sdp");
const WHEP_VP8: &str = include_str!("fixtures/offers/firefox-esr-153-whep.sdp");
const WHIP_H264_HIGH: &str = include_str!("fixtures/offers/ffmpeg-9.0.2-dtls-active-high.sdp");

/// Publishes and lets media say that video arrives.
fn go_live(server: &Server, offer: &str, codec: Codec) -> Response {
    let response = server.post("/demo/whip", &[], offer);
    assert_eq!(response.status, 201, "{response:?}");
    let (session, plan) = server.media.created().pop().unwrap();
    server.media.send(&Event::Connected { session });
    server.media.send(&Event::Track { session, stream: plan.stream, codec });
    let listed = || server.get("/api/v1/streams").body.contains(&codec.to_string());
    eventually("the stream is live", listed);
    response
}

#[test]
fn an_offer_becomes_a_session_and_an_answer() {
    let server = Server::start("offer", &[]);
    for (path, offer, role) in [("/demo/whip", WHIP, Role::Publisher), ("/demo/whep", WHEP, Role::Viewer)] {
        let response = server.post(path, &[], offer);
        assert_eq!(response.status, 201, "{response:?}");
        assert_eq!(response.header("content-type"), Some("application/sdp"));
        assert!(response.body.starts_with("v=0\r\n"), "{}", response.body);
        assert!(response.body.contains("a=ice-ufrag:srvr\r\n"));
        let location = response.header("location").unwrap();
        assert!(location.starts_with(&format!("http://{}/session/", server.address)), "{location}");
        let etag = response.header("etag").unwrap();
        assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 2, "{etag}");
        let (session, plan) = server.media.created().pop().unwrap();
        assert_eq!(plan.role, role);
        assert_eq!(plan.validate(), Ok(()));
        let port = 8200 + session.worker.0;
        assert!(response.body.contains(&format!(" 127.0.0.1 {port} typ host")), "{}", response.body);
    }
    let created = server.media.created();
    assert_eq!(created[0].1.stream, created[1].1.stream);
    assert_ne!(created[0].0.worker, created[1].0.worker);
    assert_eq!(server.metric("uringcast_sessions{role=\"viewer\"}"), Some(1.0));
    assert_eq!(server.metric("uringcast_http_requests_total{code=\"201\",route=\"whip\"}"), Some(1.0));
    assert_eq!(server.metric("uringcast_join_seconds_count{phase=\"answer\"}"), Some(2.0));
}

#[test]
fn every_answer_of_whip_and_whep_lets_web_pages_read_it() {
    let server = Server::start("cors", &[]);
    let session = server.post("/demo/whip", &[], WHIP).session();
    let answers = [
        ("whip", server.request("OPTIONS", "/demo/whip", &[], "")),
        ("whep", server.request("OPTIONS", "/demo/whep", &[], "")),
        ("whip", server.request("OPTIONS", &session, &[], "")),
        ("whip", server.request("OPTIONS", "/session/unknown", &[], "")),
        ("whip", server.request("OPTIONS", "/api/whip", &[], "")),
        ("whip", server.post("/demo/whip", &[], "no sdp")),
        ("whep", server.post("/demo/whep", &[("Origin", "https://example.com")], WHEP)),
        ("whip", server.request("PUT", "/demo/whip", &[], "")),
        ("whip", server.post("/api/whip", &[], WHIP)),
        ("whep", server.post("/a%20b/whep", &[], WHEP)),
        ("whip", server.request("DELETE", &session, &[], "")),
    ];
    for (protocol, answer) in &answers {
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{answer:?}");
        let exposed = answer.header("access-control-expose-headers").unwrap();
        assert!(exposed.contains("Location") && exposed.contains("ETag"));
        assert!(answer.header("access-control-allow-headers").unwrap().contains("Authorization"));
        assert!(answer.header("protocol-version").unwrap().contains(protocol), "{answer:?}");
    }
    for (_, options) in &answers[..5] {
        assert_eq!(options.status, 200);
        assert_eq!(options.header("accept-post"), Some("application/sdp"));
        assert_eq!(options.header("accept-patch"), Some("application/trickle-ice-sdpfrag"));
    }
}

#[test]
fn other_methods_are_answered_as_the_rfc_says() {
    let server = Server::start("methods", &[]);
    let session = server.post("/demo/whip", &[], WHIP).session();
    for path in ["/demo/whip", "/demo/whep", &session] {
        let get = server.get(path);
        assert_eq!((get.status, get.body.as_str()), (204, ""), "{path}");
    }
    let head = server.request("HEAD", "/demo/whep", &[], "");
    assert_eq!(
        (head.status, head.header("content-type")),
        (200, Some("application/sdp")),
        "as the WHEP draft has it"
    );
    let head = server.request("HEAD", "/demo/whip", &[], "");
    assert_eq!((head.status, head.body.as_str()), (204, ""), "as the GET");
    for method in ["PUT", "POST"] {
        let answer = server.request(method, &session, &[], "");
        answer.problem(405);
        assert_eq!(answer.header("allow"), Some("OPTIONS, GET, HEAD, PATCH, DELETE"));
    }
    let answer = server.request("DELETE", "/demo/whip", &[], "");
    answer.problem(405);
    assert_eq!(answer.header("allow"), Some("OPTIONS, GET, HEAD, POST"));
    server.request("POST", "/", &[], "").problem(405);
}

#[test]
fn a_deleted_session_is_gone() {
    let server = Server::start("delete", &[]);
    let session = server.post("/demo/whip", &[], WHIP).session();
    let answer = server.request("DELETE", &session, &[("If-Match", "\"anything\"")], "");
    assert_eq!(answer.status, 200);
    assert!(!answer.body.is_empty());
    eventually("media was told", || server.media.deleted() == [server.media.last_created()]);
    server.request("DELETE", &session, &[], "").problem(404);
    server.get(&session).problem(404);
    let ended = "uringcast_sessions_ended_total{reason=\"deleted\",role=\"publisher\"}";
    eventually("it is counted", || server.metric(ended) == Some(1.0));
}

#[test]
fn who_closes_dtls_and_then_sends_delete_is_not_told_that_it_came_too_late() {
    let server = Server::start("closed-first", &[]);
    for (endpoint, offer) in [("/demo/whip", WHIP), ("/demo/whep", WHEP)] {
        let session = server.post(endpoint, &[], offer).session();
        let id = server.media.last_created();
        server.media.send(&Event::Ended { session: id, reason: EndReason::ClosedByPeer });
        eventually("it is gone", || server.get(&session).status == 404);
        let fragment = [("Content-Type", "application/trickle-ice-sdpfrag")];
        server.request("PATCH", &session, &fragment, "a=ice-ufrag:them\r\n").problem(404);
        let answer = server.request("DELETE", &session, &[], "");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.header("protocol-version").unwrap().contains(&endpoint[6..]), "{answer:?}");
        server.request("DELETE", &session, &[], "").problem(404);
    }
    assert!(server.media.deleted().is_empty(), "there was nothing for it to end");
}

#[test]
fn bodies_that_are_no_offer_are_refused_before_media_hears_of_them() {
    let server = Server::start("bodies", &[]);
    let text = [("Content-Type", "text/plain")];
    server.request("POST", "/demo/whip", &text, WHIP).problem(415);
    server.request("POST", "/demo/whip", &[], WHIP).problem(415);
    let oversized = "v=0\r\n".repeat(14_000);
    server.post("/demo/whip", &[], &oversized).problem(413);
    let long_line = format!("v=0\r\ns={}\r\n", "x".repeat(65_000));
    let many_lines = format!("v=0\r\n{}", "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n".repeat(500));
    for bad in ["", "hello", "{}", "v=0\r\n", &long_line, &many_lines] {
        let answer = server.post("/demo/whip", &[], bad);
        assert!(matches!(answer.status, 400 | 413 | 422), "{answer:?}");
        answer.problem(answer.status);
    }
    assert!(server.media.created().is_empty());
    let with_parameter = [("Content-Type", "Application/SDP; charset=utf-8")];
    assert_eq!(server.request("POST", "/demo/whip", &with_parameter, WHIP).status, 201);
}

#[test]
fn who_compresses_a_body_is_told_that_it_must_not() {
    let server = Server::start("encoded", &[]);
    let session = server.post("/demo/whip", &[], WHIP).session();
    let gzip = [("Content-Encoding", "gzip")];
    let fragment = [gzip[0], ("Content-Type", "application/trickle-ice-sdpfrag")];
    let twice = [("Content-Encoding", "identity, gzip")];
    let (posted, patched) =
        (server.post("/demo/whep", &gzip, WHIP), server.request("PATCH", &session, &fragment, WHIP));
    for answer in [posted, patched, server.post("/demo/whep?offer=server", &twice, WHIP)] {
        assert!(answer.problem(415).contains("without compression"), "{answer:?}");
        assert_eq!(answer.header("accept-encoding"), Some("identity"));
    }
    assert_eq!(server.media.created().len(), 1);
    assert_eq!(server.post("/other/whip", &[("Content-Encoding", "Identity")], WHIP).status, 201);
}

#[test]
fn a_client_that_sends_too_much_can_send_it_and_reads_why_not() {
    let server = Server::start("oversized", &[]);
    let mut stream = server.connect();
    let part = "v=0\r\n".repeat(20_000);
    let head = format!(
        "POST /demo/whip HTTP/1.1\r\nHost: {}\r\nContent-Type: application/sdp\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        server.address,
        part.len() * 4
    );
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..4 {
        stream.write_all(part.as_bytes()).expect("nobody closes the connection meanwhile");
        std::thread::sleep(Duration::from_millis(50));
    }
    let detail = Response::read(stream).problem(413);
    assert!(detail.contains("65536 bytes"), "{detail}");
}

#[test]
fn a_body_is_bounded_even_when_its_length_is_not_told() {
    let server = Server::start("chunked", &[]);
    let mut stream = server.connect();
    let head = format!(
        "POST /demo/whip HTTP/1.1\r\nHost: {}\r\nContent-Type: application/sdp\r\nTransfer-Encoding: chunked\r\n\r\n",
        server.address
    );
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    for _ in 0..5 {
        stream.write_all(chunk.as_bytes()).unwrap();
    }
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");
}

#[test]
fn paths_that_name_nothing_say_so() {
    let server = Server::start("paths", &[]);
    for path in ["/nothing", "/demo", "/whip", "/api/v2", "/client/none.js", "/session"] {
        server.get(path).problem(404);
    }
    server.get("/session/00000000000000000000000000000000").problem(404);
    for name in ["api", "whip", "watch", ".hidden", "a%20b", &"x".repeat(65)] {
        let detail = server.post(&format!("/{name}/whip"), &[], WHIP).problem(400);
        assert!(detail.contains("Choose another name"), "{detail}");
    }
}

#[test]
fn a_live_name_is_taken_and_a_silent_one_is_not() {
    let server = Server::start("taken", &[]);
    go_live(&server, WHIP, Codec::Vp8);
    let first = server.media.last_created();
    let detail = server.post("/demo/whip", &[], WHIP).problem(409);
    assert!(detail.contains("already publishes"), "{detail}");
    server.media.send(&Event::Silence { session: first, silent: true });
    eventually("the name is free", || server.post("/demo/whip", &[], WHIP).status == 201);
    server.media.send(&Event::Connected { session: server.media.last_created() });
    eventually("the silent one is ended", || server.media.deleted() == [first]);
}

#[test]
fn the_token_replaces_a_publisher_once_the_new_one_is_connected() {
    let server = Server::start("replace", &[]);
    let first_url = go_live(&server, WHIP, Codec::Vp8).session();
    let first = server.media.last_created();
    let (name, value) = bearer();
    assert_eq!(server.post("/demo/whip", &[(name, &value)], WHIP).status, 201);
    let second = server.media.last_created();
    assert_eq!(server.get(&first_url).status, 204);
    assert!(server.media.deleted().is_empty());
    let created = server.media.created();
    assert!(created[1].1.epoch > created[0].1.epoch);
    server.media.send(&Event::Connected { session: second });
    eventually("the old one is ended", || server.media.deleted() == [first]);
    server.get(&first_url).problem(404);
}

#[test]
fn a_viewer_that_cannot_play_the_stream_is_told_what_it_is() {
    let server = Server::start("codec", &[]);
    let high = Codec::H264 { profile: H264Profile::High, packetization_mode: 1 };
    go_live(&server, WHIP_H264_HIGH, high);
    let detail = server.post("/demo/whep", &[], WHEP_VP8).problem(422);
    assert!(detail.contains("H264 (High") && detail.contains("VP8"), "{detail}");
    assert_eq!(server.post("/empty/whep", &[], WHEP_VP8).status, 201);
}

#[test]
fn a_refusal_of_media_is_a_503_with_a_time_to_try_again() {
    let server = Server::start("refuse", &[]);
    server.media.behave(Manner::Refuse(CreateError::Full));
    let answer = server.post("/demo/whep", &[], WHEP);
    answer.problem(503);
    assert_eq!(answer.header("retry-after"), Some("5"));
    server.media.behave(Manner::Agree);
    assert_eq!(server.post("/demo/whep", &[], WHEP).status, 201);
}

#[test]
fn a_client_that_leaves_while_media_works_leaves_no_session() {
    let server = Server::start("leaves", &[]);
    server.media.behave(Manner::StaySilent);
    let mut stream = server.connect();
    let request = format!(
        "POST /demo/whep HTTP/1.1\r\nHost: {}\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{WHEP}",
        server.address,
        WHEP.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    eventually("media was asked", || server.media.waiting() == 1);
    drop(stream);
    std::thread::sleep(Duration::from_millis(100));
    server.media.answer_late();
    eventually("the session is ended", || server.media.deleted() == [server.media.last_created()]);
    assert_eq!(server.metric("uringcast_viewers"), Some(0.0));
}

#[test]
fn without_media_nothing_is_promised_and_it_comes_back() {
    let server = Server::start("media-gone", &[]);
    let session = server.post("/demo/whip", &[], WHIP).session();
    server.media.behave(Manner::StaySilent);
    server.media.hang_up();
    let methods = ["GET", "PATCH", "DELETE"];
    eventually("signaling notices", || server.get(&session).status == 503);
    for method in methods {
        let answer = server.request(method, &session, &[], "");
        answer.problem(503);
        assert_eq!(answer.header("retry-after"), Some("5"));
    }
    server.media.behave(Manner::Agree);
    eventually("and reconnects", || server.get("/readyz").status == 200);
    assert_eq!(server.post("/demo/whip", &[], WHIP).status, 201);
}

#[test]
fn slow_clients_are_closed_and_keep_nobody_out() {
    let server = Server::start("slow", &["--http-timeout", "0.5", "--http-connections", "8"]);
    let start = Instant::now();
    let mut slow: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for stream in &mut slow {
        let _ = stream.write_all(b"POST /demo/whip HTTP/1.1\r\nHo");
    }
    assert_eq!(server.post("/demo/whip", &[], WHIP).status, 201);
    let mut body = server.connect();
    let head = "POST /demo/whep HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\nContent-Length: 99\r\n\r\nv";
    body.write_all(head.as_bytes()).unwrap();
    assert_eq!(Response::read(body).status, 408);
    for mut stream in slow {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let evicted = server.metric("uringcast_http_connections_closed_total{reason=\"evicted\"}");
    assert!(evicted.is_some_and(|count| count >= 12.0), "{evicted:?}");
}

#[test]
fn an_address_that_leads_nowhere_tells_people_by_a_page_and_programs_by_a_problem() {
    let server = Server::start("nowhere", &[]);
    let browser = [("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")];
    for (path, status, words) in [
        ("/watch/a%20b", 400, "A stream name has 1 to 64 characters"),
        ("/publish/api", 400, "a path of the server itself"),
        ("/nowhere", 404, "There is nothing here"),
    ] {
        let page = server.request("GET", path, &browser, "");
        assert_eq!((page.status, page.header("content-type")), (status, Some("text/html; charset=utf-8")));
        assert!(page.body.contains(words) && page.body.ends_with("</main>\n"), "{}", page.body);
        assert!(page.header("content-security-policy").is_some());
        for accept in ["*/*", "application/json"] {
            let problem = server.request("GET", path, &[("Accept", accept)], "");
            let kind = problem.header("content-type");
            assert_eq!((problem.status, kind), (status, Some("application/problem+json")));
            assert!(problem.body.contains(words), "{}", problem.body);
        }
    }
}

#[test]
fn pages_keep_to_themselves() {
    let server = Server::start("pages", &[]);
    for path in ["/", "/publish/demo", "/watch/demo"] {
        let page = server.get(path);
        assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
        let policy = page.header("content-security-policy").unwrap();
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert!(!page.body.contains("<script>") && !page.body.contains("style="), "inline code in {path}");
    }
    let library = server.get("/client/uringcast.js");
    assert_eq!(library.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(library.header("access-control-allow-origin"), Some("*"));
}

#[test]
fn the_list_of_streams_says_who_is_live() {
    let server = Server::start("streams", &[]);
    let streams = || serde_json::from_str::<serde_json::Value>(&server.get("/api/v1/streams").body).unwrap();
    assert_eq!(streams()["streams"], serde_json::json!([]));
    go_live(&server, WHIP, Codec::Vp8);
    assert_eq!(server.post("/demo/whep", &[], WHEP).status, 201);
    let row = &streams()["streams"][0];
    assert_eq!((&row["name"], &row["viewers"]), (&"demo".into(), &0.into()), "it still connects");
    server.media.send(&Event::Connected { session: server.media.last_created() });
    eventually("it watches", || streams()["streams"][0]["viewers"] == 1);
    assert_eq!(server.metric("uringcast_viewers"), Some(1.0));
    assert_eq!(server.metric("uringcast_sessions{role=\"viewer\"}"), Some(1.0));
    assert_eq!(row["codecs"], serde_json::json!(["VP8"]));
    assert!(row["since"].as_str().is_some_and(|since| since.ends_with('Z')));
}

#[test]
fn metrics_carry_what_the_workers_counted() {
    let server = Server::start("metrics", &[]);
    assert_eq!(server.metric("uringcast_rtp_packets_total{direction=\"out\"}"), Some(84.0));
    assert_eq!(server.metric("uringcast_worker_sessions{worker=\"1\"}"), Some(0.0));
    assert_eq!(server.metric("uringcast_media_up"), Some(1.0));
}

#[test]
fn signals_end_it_cleanly() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = Server::start(signal.as_str(), &[]);
        assert_eq!(server.post("/demo/whip", &[], WHIP).status, 201);
        server.signal(signal);
        assert_eq!(server.exit_code(), Some(0));
        assert!(server.media.deleted().is_empty(), "a separate media process keeps its sessions");
    }
}

#[test]
fn a_saturated_worker_gets_no_sessions_and_a_saturated_server_asks_to_come_again() {
    let server = Server::start("saturated", &[]);
    let watch = || server.post("/demo/whep", &[], WHEP);
    server.media.be_busy(&[0.95, 0.2]);
    let placed = |from: usize| -> Vec<u16> {
        server.media.created()[from..].iter().map(|(session, _)| session.worker.0).collect()
    };
    // What signaling knows is as old as its last report.
    eventually("the report arrives", || {
        watch().session();
        placed(0).ends_with(&[1, 1, 1])
    });
    let before = server.media.created().len();
    (0..20).for_each(|_| _ = watch().session());
    assert_eq!(placed(before), [1; 20]);

    server.media.be_busy(&[0.95, 0.9]);
    eventually("not ready for more", || server.get("/readyz").status == 503);
    let answer = watch();
    assert!(answer.problem(503).contains("stutter"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert!(server.get("/readyz").problem(503).contains("near its limit"));
    assert_eq!(server.get("/healthz").status, 200, "it lives");
    server.media.be_busy(&[0.95, 0.2]);
    eventually("ready again", || server.get("/readyz").status == 200);
    watch().session();
}
