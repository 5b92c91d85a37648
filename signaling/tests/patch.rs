//! PATCH on session URLs of the real binary: trickled candidates and ICE restarts.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use sfu::control::protocol::{Event, IceCredentials, RestartError};
use std::io::Write;
use support::{Manner, Response, Server, eventually};

const WHIP: &str = include_str!("fixtures/offers/chromium-156-whip.sdp");
const FRAGMENT: (&str, &str) = ("Content-Type", "application/trickle-ice-sdpfrag");
const STAR: (&str, &str) = ("If-Match", "*");
const NEW: &str = "a=ice-ufrag:new1\r\na=ice-pwd:0123456789012345678901\r\n";
const NEWER: &str = "a=ice-ufrag:new2\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n";
const CANDIDATES: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
    a=candidate:1 1 udp 2122260223 3b3f2a90-1111-4222-8333-944455556666.local 9 typ host\r\na=end-of-candidates\r\n";

/// A server with one session.
struct World {
    server: Server,
    session: String,
    etag: String,
    /// Credentials of the offer, as lines of a fragment.
    first: String,
}

impl World {
    fn start(name: &str, flags: &[&str]) -> World {
        let server = Server::start(name, flags);
        let created = server.post("/demo/whip", &[], WHIP);
        let remote = &server.media.created()[0].1.remote;
        let first = format!("a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", remote.ice_ufrag, remote.ice_pwd);
        let etag = created.header("etag").unwrap().to_owned();
        World { session: created.session(), etag, first, server }
    }

    fn patch(&self, headers: &[(&str, &str)], parts: &[&str]) -> Response {
        let headers = [&[FRAGMENT], headers].concat();
        self.server.request("PATCH", &self.session, &headers, &parts.concat())
    }

    /// Restarts and returns the new entity tag.
    fn restart(&self, credentials: &str) -> String {
        let answer = self.patch(&[STAR], &[credentials]);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.header("etag").unwrap().to_owned()
    }
}

fn assert_taken(answer: &Response) {
    assert_eq!((answer.status, answer.body.as_str(), answer.header("etag")), (204, "", None), "{answer:?}");
}

#[test]
fn candidates_of_the_current_ice_session_are_taken_with_any_tag_or_none() {
    let world = World::start("trickle", &[]);
    for tag in [
        &[][..],
        &[("If-Match", world.etag.as_str())],
        &[STAR],
        &[("If-Match", "\"*\"")],
        &[("If-Match", "\"other\"")],
        &[("ETag", &world.etag)],
    ] {
        assert_taken(&world.patch(tag, &[&world.first, CANDIDATES]));
    }
    assert_taken(&world.patch(&[], &[CANDIDATES]));
    world.patch(&[("If-Match", "\"other\"")], &[CANDIDATES]).problem(412);
    assert!(world.server.media.restarted().is_empty());
}

#[test]
fn by_the_letter_every_patch_names_its_ice_session() {
    let world = World::start("strict", &["--strict-etag"]);
    for body in [[&world.first, CANDIDATES], ["", CANDIDATES], [NEW, ""]] {
        let detail = world.patch(&[], &body).problem(428);
        assert!(detail.contains("If-Match"), "{detail}");
        world.patch(&[("If-Match", "\"other\"")], &body).problem(412);
        world.patch(&[("ETag", "\"other\"")], &body).problem(412);
    }
    assert_taken(&world.patch(&[("If-Match", &world.etag)], &[&world.first, CANDIDATES]));
    assert_taken(&world.patch(&[("ETag", &world.etag)], &[&world.first, CANDIDATES]));
    let list = format!("\"a\", {}", world.etag);
    assert_taken(&world.patch(&[("If-Match", &list)], &[&world.first, CANDIDATES]));
    world.restart(NEW);
}

#[test]
fn new_credentials_restart_ice() {
    let world = World::start("restart", &[]);
    let answer = world.patch(&[STAR], &[NEW, CANDIDATES]);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(FRAGMENT.1)), "{answer:?}");
    let etag = answer.header("etag").unwrap().to_owned();
    assert!(etag != world.etag && etag.starts_with('"') && etag.ends_with('"'), "{etag}");
    let worker = world.server.media.last_created().worker.0;
    let lines = [
        "a=ice-lite".to_owned(),
        "a=ice-options:trickle ice2".into(),
        "a=group:BUNDLE 0 1".into(),
        "m=audio 9 UDP/TLS/RTP/SAVPF 0".into(),
        "a=mid:0".into(),
        "a=ice-ufrag:srv2".into(),
        format!("a=ice-pwd:{}", "q".repeat(22)),
        format!("a=candidate:1 1 udp 2130706431 127.0.0.1 {} typ host", 8200 + worker),
        "a=end-of-candidates".into(),
    ];
    assert_eq!(answer.body, lines.map(|line| line + "\r\n").concat());
    let remote = IceCredentials { ufrag: "new1".into(), pwd: "0123456789012345678901".into() };
    assert_eq!(world.server.media.restarted(), [(world.server.media.last_created(), remote)]);
    assert_taken(&world.patch(&[("If-Match", &etag)], &[NEW, CANDIDATES]));
}

#[test]
fn a_client_that_is_reached_over_tcp_is_told_where_it_may_connect_again() {
    let world = World::start("restart-tcp", &[]);
    world.server.media.behave(Manner::AgreeOverTcp);
    let answer = world.patch(&[STAR], &[NEW]);
    let candidates: Vec<&str> =
        answer.body.lines().filter_map(|line| line.strip_prefix("a=candidate:")).collect();
    assert_eq!(candidates, ["1 1 tcp 1520435199 127.0.0.1 8200 typ host tcptype passive"]);
}

#[test]
fn requests_of_an_earlier_ice_session_come_too_late() {
    let world = World::start("late", &[]);
    let etag = world.restart(NEW);
    for tag in [&[][..], &[STAR], &[("If-Match", etag.as_str())], &[("If-Match", world.etag.as_str())]] {
        world.patch(tag, &[&world.first, CANDIDATES]).problem(412);
        world.patch(tag, &[&world.first]).problem(412);
    }
    world.patch(&[("If-Match", &world.etag)], &[NEWER]).problem(412);
    world.patch(&[("If-Match", &world.etag)], &[CANDIDATES]).problem(412);
    assert_ne!(world.restart(NEWER), etag);
    world.patch(&[STAR], &[NEW]).problem(412);
    assert_eq!(world.server.media.restarted().len(), 2);
}

#[test]
fn a_restart_names_an_ice_session_or_any() {
    let world = World::start("tags", &[]);
    for body in [[NEW, ""], [NEW, CANDIDATES], [NEW, "a=end-of-candidates\r\n"]] {
        world.patch(&[], &body).problem(428);
        world.patch(&[("If-Match", "\"other\"")], &body).problem(412);
    }
    assert!(world.server.media.restarted().is_empty());
    let etag = world.restart(NEW);
    assert_eq!(world.patch(&[("If-Match", "\"*\"")], &[NEWER, CANDIDATES]).status, 200);
    world.patch(&[("If-Match", &etag)], &[NEW]).problem(412);
    let etag = world.restart("a=ice-ufrag:new3\r\na=ice-pwd:0123456789012345678901\r\n");
    let answer =
        world.patch(&[("If-Match", &etag)], &["a=ice-ufrag:new4\r\na=ice-pwd:0123456789012345678901\r\n"]);
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn half_a_restart_is_malformed() {
    let world = World::start("half", &[]);
    for half in [
        "a=ice-ufrag:new1\r\n",
        "a=ice-ufrag:new1\r\na=ice-pwd:short\r\n",
        "a=ice-ufrag:n\r\na=ice-pwd:0123456789012345678901\r\n",
    ] {
        let detail = world.patch(&[STAR], &[half]).problem(400);
        assert!(detail.contains("a=ice-pwd"), "{detail}");
    }
}

#[test]
fn a_restart_that_media_refuses_leaves_the_old_ice_session() {
    let world = World::start("refused", &[]);
    for (error, status) in [
        (RestartError::NotConnected, 409),
        (RestartError::BadCredentials, 422),
        (RestartError::NoSession, 404),
    ] {
        world.server.media.behave(Manner::RefuseRestarts(error));
        world.patch(&[STAR], &[NEW]).problem(status);
        assert_taken(&world.patch(&[("If-Match", &world.etag)], &[&world.first, CANDIDATES]));
    }
    world.server.media.behave(Manner::Agree);
    world.restart(NEW);
}

#[test]
fn of_two_restarts_at_once_the_second_is_told_to_wait() {
    let world = World::start("concurrent", &[]);
    world.server.media.behave(Manner::StaySilent);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| world.patch(&[STAR], &[NEW]));
        eventually("media was asked", || world.server.media.waiting() == 1);
        world.patch(&[STAR], &[NEWER, CANDIDATES]).problem(409);
        world.patch(&[STAR], &[NEW]).problem(409);
        assert_taken(&world.patch(&[], &[NEW, CANDIDATES]));
        assert_taken(&world.patch(&[], &[&world.first, CANDIDATES]));
        world.server.media.answer_late();
        assert_eq!(first.join().unwrap().status, 200);
    });
    world.restart(NEWER);
}

#[test]
fn a_restart_whose_client_left_still_counts() {
    let world = World::start("left", &[]);
    world.server.media.behave(Manner::StaySilent);
    let mut stream = world.server.connect();
    let head = format!(
        "PATCH {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {}\r\nIf-Match: *\r\nContent-Length: {}\r\n\r\n{NEW}",
        world.session,
        FRAGMENT.1,
        NEW.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    eventually("media was asked", || world.server.media.waiting() == 1);
    drop(stream);
    world.server.media.answer_late();
    eventually("the new ICE session is the current one", || {
        world.patch(&[], &[&world.first, CANDIDATES]).status == 412
    });
    world.restart(NEWER);
}

#[test]
fn a_body_that_came_slowly_is_judged_by_what_is_true_at_its_end() {
    let world = World::start("slow", &["--strict-etag"]);
    let (head, rest) = NEWER.split_at(5);
    let request = format!(
        "PATCH {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {}\r\nIf-Match: {}\r\nContent-Length: {}\r\n\r\n{head}",
        world.session,
        FRAGMENT.1,
        world.etag,
        NEWER.len()
    );
    let mut slow = world.server.connect();
    slow.write_all(request.as_bytes()).unwrap();
    world.restart(NEW);
    slow.write_all(rest.as_bytes()).unwrap();
    Response::read(slow).problem(412);
    assert_eq!(world.server.media.restarted().len(), 1);
}

#[test]
fn a_restart_is_remembered_by_media_for_the_next_signaling_process() {
    let world = World::start("reconnect", &[]);
    let etag = world.restart(NEW);
    world.server.media.disconnect();
    eventually("media is back", || world.server.get(&world.session).status == 204);
    assert_taken(&world.patch(&[("If-Match", &etag)], &[NEW, CANDIDATES]));
    assert_ne!(world.restart(NEWER), etag);
}

#[test]
fn without_media_a_restart_is_a_503_with_a_time_to_try_again() {
    let world = World::start("away", &[]);
    world.server.media.behave(Manner::StaySilent);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| world.patch(&[STAR], &[NEW]));
        eventually("media was asked", || world.server.media.waiting() == 1);
        world.server.media.hang_up();
        let answer = waiting.join().unwrap();
        answer.problem(503);
        assert_eq!(answer.header("retry-after"), Some("5"));
    });
}

#[test]
fn what_is_no_fragment_is_refused_before_anything_else() {
    let world = World::start("malformed", &[]);
    for bad in ["", "nonsense", "a=ice-ufrag:a b\r\n", "m=audio\r\n", "a=candidate:1 1 udp\r\n"] {
        world.patch(&[], &[bad]).problem(400);
    }
    world.patch(&[], &[&"a=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n".repeat(300)]).problem(413);
    let types = [("Content-Type", "application/json")];
    let answer = world.server.request("PATCH", &world.session, &types, &world.first);
    answer.problem(415);
    assert_eq!(answer.header("accept-patch"), Some(FRAGMENT.1));
    let with_parameter = [("Content-Type", "Application/trickle-ice-sdpfrag; charset=utf-8")];
    assert_taken(&world.server.request("PATCH", &world.session, &with_parameter, &world.first));
    let unknown = "/session/00000000000000000000000000000000";
    world.server.request("PATCH", unknown, &[FRAGMENT, STAR], NEW).problem(404);
}

#[test]
fn a_session_that_ends_while_it_restarts_is_gone() {
    let world = World::start("ends", &[]);
    world.server.media.behave(Manner::StaySilent);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| world.patch(&[STAR], &[NEW]));
        eventually("media was asked", || world.server.media.waiting() == 1);
        let session = world.server.media.last_created();
        world
            .server
            .media
            .send(&Event::Ended { session, reason: sfu::control::protocol::EndReason::ConsentExpired });
        eventually("it is gone", || world.server.get(&world.session).status == 404);
        world.server.media.behave(Manner::RefuseRestarts(RestartError::NoSession));
        world.server.media.answer_waiting();
        waiting.join().unwrap().problem(404);
    });
}
