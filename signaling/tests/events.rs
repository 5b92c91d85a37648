//! What viewers are told and what they may choose while they watch, over the HTTP face of the real binary beside a media
//! process that only talks.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sfu::control::protocol::{Event, Layer, LayerChoice, SessionId};
use sfu::core::codec::Codec;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use support::{Response, Server, eventually};

const WHIP: &str = include_str!("fixtures/offers/chromium-156-whip.sdp");
const WHIP_SIMULCAST: &str = include_str!("fixtures/offers/chromium-156-whip-simulcast-h264.sdp");
const WHEP: &str = include_str!("fixtures/offers/chromium-156-whep.sdp");
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// The path of a URL of this server.
fn path(url: &str) -> String {
    url.find("/session/").map(|start| url[start..].to_owned()).expect("a session's URL")
}

/// A session that watches.
fn watch(server: &Server) -> String {
    let session = server.post("/demo/whep", &[], WHEP).session();
    server.media.send(&Event::Connected { session: server.media.last_created() });
    session
}

/// A publisher whose packets arrive.
fn publish(server: &Server, offer: &str) -> SessionId {
    let response = server.post("/demo/whip", &[], offer);
    assert_eq!(response.status, 201, "{response:?}");
    let (session, plan) = server.media.created().pop().unwrap();
    server.media.send(&Event::Connected { session });
    server.media.send(&Event::Track { session, stream: plan.stream, codec: Codec::Vp8 });
    eventually("it is live", || server.get("/api/v1/streams").body.contains("VP8"));
    session
}

fn subscribe(server: &Server, session: &str, events: &str) -> Response {
    server.request("POST", &format!("{session}/sse"), &[JSON], events)
}

/// The path of a new event stream.
fn subscribed(server: &Server, session: &str, events: &str) -> String {
    let response = subscribe(server, session, events);
    assert_eq!(response.status, 201, "{response:?}");
    let location = response.header("location").expect("Location");
    assert!(location.starts_with(&format!("http://{}/session/", server.address)), "{location}");
    path(location)
}

/// An open event stream.
struct EventSource(BufReader<TcpStream>);

impl EventSource {
    fn open(server: &Server, path: &str, headers: &str) -> EventSource {
        let mut stream = server.connect();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", server.address);
        stream.write_all(request.as_bytes()).unwrap();
        let mut source = EventSource(BufReader::new(stream));
        assert_eq!(source.line(), "HTTP/1.1 200 OK");
        let head: Vec<String> =
            std::iter::from_fn(|| Some(source.line()).filter(|line| !line.is_empty())).collect();
        for wanted in
            ["content-type: text/event-stream", "cache-control: no-store", "access-control-allow-origin: *"]
        {
            assert!(head.iter().any(|line| line == wanted), "{wanted} in {head:?}");
        }
        source
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line in time");
        line.trim_end().to_owned()
    }

    /// The next event's name and data; `None` at the end of the stream.
    fn next(&mut self) -> Option<(String, Value)> {
        let mut name = None;
        loop {
            let mut line = String::new();
            // The last chunk has no bytes.
            if self.0.read_line(&mut line).expect("a line in time") == 0 || line == "0\r\n" {
                return None;
            }
            if let Some(found) = line.strip_prefix("event: ") {
                name = Some(found.trim().to_owned());
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some((name.expect("a name"), serde_json::from_str(data).expect("JSON in one line")));
            }
        }
    }

    /// The next event but for how many watch.
    fn next_but_counts(&mut self) -> Option<(String, Value)> {
        std::iter::from_fn(|| self.next()).find(|(name, _)| name != "viewercount")
    }

    /// Hears nothing but how many watch, until they are so many.
    fn hears_count(&mut self, count: usize) {
        loop {
            let (name, data) = self.next().unwrap();
            assert_eq!(name, "viewercount", "nothing else, and no initial inactive");
            if data == json!({ "viewercount": count }) {
                return;
            }
        }
    }
}

fn event(name: &str, data: Value) -> Option<(String, Value)> {
    Some((name.to_owned(), data))
}

#[test]
fn a_viewer_is_told_of_its_extensions_and_a_publisher_has_none() {
    let server = Server::start("links", &[]);
    let viewer = server.post("/demo/whep", &[], WHEP);
    let session = viewer.header("location").unwrap();
    let links: Vec<&str> =
        viewer.headers.iter().filter(|(name, _)| name == "link").map(|(_, value)| value.as_str()).collect();
    let events = "active,inactive,layers,viewercount,reconnect";
    assert_eq!(
        links,
        [
            format!(
                "<{session}/sse>; rel=\"urn:ietf:params:whep:ext:core:server-sent-events\"; events=\"{events}\""
            ),
            format!("<{session}/layer>; rel=\"urn:ietf:params:whep:ext:core:layer\""),
        ]
    );
    let publisher = server.post("/demo/whip", &[], WHIP);
    assert_eq!(publisher.header("link"), None);
    subscribe(&server, &publisher.session(), "").problem(404);
    server.request("DELETE", &format!("{}/layer", publisher.session()), &[], "").problem(422);
}

#[test]
fn a_viewer_hears_of_the_publisher_and_of_the_other_viewers() {
    let server = Server::start("hears", &[]);
    let session = watch(&server);
    let stream = subscribed(&server, &session, "[\"active\",\"inactive\",\"viewercount\"]");
    let mut source = EventSource::open(&server, &stream, "");
    source.hears_count(1);
    let publisher = publish(&server, WHIP);
    assert_eq!(source.next_but_counts(), event("active", json!({})));
    server.media.send(&Event::Silence { session: publisher, silent: true });
    assert_eq!(source.next_but_counts(), event("inactive", json!({})));
    server.media.send(&Event::Silence { session: publisher, silent: false });
    assert_eq!(source.next_but_counts(), event("active", json!({})));
    watch(&server);
    source.hears_count(2);

    let mut late = EventSource::open(&server, &subscribed(&server, &session, ""), "");
    assert_eq!(late.next(), event("active", json!({})));
    assert_eq!(late.next(), event("viewercount", json!({ "viewercount": 2 })));
    assert_eq!(server.metric("uringcast_event_streams"), Some(2.0));
    drop((source, late));
    eventually("closed streams are noticed", || server.metric("uringcast_event_streams") == Some(0.0));
}

#[test]
fn who_comes_back_to_a_broken_stream_hears_what_it_missed() {
    let server = Server::start("back", &[]);
    let publisher = publish(&server, WHIP);
    let session = watch(&server);
    let stream = subscribed(&server, &session, "[\"active\",\"inactive\"]");
    let mut first = EventSource::open(&server, &stream, "");
    assert_eq!(first.next(), event("active", json!({})));
    drop(first);
    server.media.send(&Event::Silence { session: publisher, silent: true });
    eventually("it is not live", || !server.get("/api/v1/streams").body.contains("demo"));
    let mut again = EventSource::open(&server, &stream, "Last-Event-ID: active\r\n");
    assert_eq!(again.next(), event("inactive", json!({})));
}

#[test]
fn layers_are_told_by_the_viewers_own_m_line() {
    let server = Server::start("layers", &[]);
    let publisher = publish(&server, WHIP_SIMULCAST);
    let session = watch(&server);
    let mut source = EventSource::open(&server, &subscribed(&server, &session, "[\"layers\"]"), "");
    let layer = |rid: &str, bitrate_bps, width, height| Layer { rid: rid.into(), bitrate_bps, width, height };
    let layers = vec![layer("h", 2_000_000, 1280, 720), layer("l", 300_000, 0, 0)];
    server.media.send(&Event::Layers { session: publisher, layers });
    let line = WHEP.split("\nm=").skip(1).position(|section| section.starts_with("video")).unwrap();
    let high = json!({ "rid": "h", "bitrate": 2_000_000, "width": 1280, "height": 720 });
    let told = json!({ line.to_string(): [high, { "rid": "l", "bitrate": 300_000 }] });
    assert_eq!(source.next(), event("layers", told));
}

#[test]
fn what_is_no_list_of_known_events_makes_no_stream() {
    let server = Server::start("unknown", &[]);
    let session = watch(&server);
    let detail = subscribe(&server, &session, "[\"active\",\"scte35\"]").problem(400);
    assert!(detail.contains("scte35") && detail.contains("viewercount"), "{detail}");
    for bad in ["[]", "{}", "[1]", "active", "[\"active\"", "[[\"active\"]]"] {
        subscribe(&server, &session, bad).problem(400);
    }
    server
        .request("POST", &format!("{session}/sse"), &[("Content-Type", "text/plain")], "[\"active\"]")
        .problem(415);
    let entry = format!("{session}/sse");
    let answer = server.get(&entry);
    answer.problem(405);
    assert_eq!(answer.header("allow"), Some("OPTIONS, POST"));
    let options = server.request("OPTIONS", &entry, &[], "");
    assert_eq!((options.status, options.header("accept-post")), (200, Some("application/json")));
    subscribe(&server, "/session/00000000000000000000000000000000", "").problem(404);
    for _ in 0..4 {
        subscribed(&server, &session, "");
    }
    subscribe(&server, &session, "").problem(429);
}

/// Asks for `path` so many times on one connection of HTTP/2, and reads none of what the answers bring: the window that it gives
/// them is empty (RFC 9113 §6.9.2). Returns whether each is a 200.
fn ask_without_reading(server: &Server, path: &str, times: u8) -> (TcpStream, Vec<bool>) {
    let frame = |kind: u8, flags: u8, stream: u8, body: &[u8]| {
        [&[0, 0, body.len() as u8, kind, flags, 0, 0, 0, stream], body].concat()
    };
    let text = |index: u8, text: &str| [&[index, text.len() as u8], text.as_bytes()].concat();
    // GET by http, then :path and :authority in full (RFC 7541, appendix A).
    let head = [vec![0x82, 0x86], text(0x04, path), text(0x01, &server.address.to_string())].concat();
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend(frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]));
    (0..times).for_each(|number| sent.extend(frame(1, 5, 2 * number + 1, &head)));
    let mut connection = server.connect();
    connection.write_all(&sent).unwrap();
    let mut taken = vec![];
    while taken.len() < usize::from(times) {
        let mut header = [0; 9];
        connection.read_exact(&mut header).expect("a frame in time");
        let mut body = vec![0; usize::from(u16::from_be_bytes([header[1], header[2]]))];
        connection.read_exact(&mut body).unwrap();
        if header[3] == 1 {
            taken.push(body[0] == 0x88);
        }
    }
    (connection, taken)
}

#[test]
fn a_session_that_reads_nothing_takes_few_places() {
    let server = Server::start("places", &[]);
    let session = watch(&server);
    let stream = subscribed(&server, &session, "");
    let (connection, taken) = ask_without_reading(&server, &stream, 20);
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 8);
    let refused = server.get(&stream);
    assert!(refused.problem(429).contains("Close those"), "{refused:?}");
    assert_eq!(refused.header("retry-after"), Some("5"));
    EventSource::open(&server, &subscribed(&server, &watch(&server), ""), "");
    drop(connection);
    eventually("there is room again", || ask_without_reading(&server, &stream, 1).1 == [true]);
}

#[test]
fn a_deleted_event_stream_ends_and_stays_away() {
    let server = Server::start("stream-delete", &[]);
    let session = watch(&server);
    let stream = subscribed(&server, &session, "[\"viewercount\"]");
    let mut source = EventSource::open(&server, &stream, "");
    assert!(source.next().is_some());
    assert_eq!(server.request("DELETE", &stream, &[], "").status, 200);
    assert_eq!(source.next(), None);
    server.get(&stream).problem(404);
    server.request("DELETE", &stream, &[], "").problem(404);
    let end = stream.rsplit('/').next().unwrap();
    server.get(&format!("{session}/sse/{}", end.replace(|c: char| c.is_ascii_digit(), "0"))).problem(404);
    assert_eq!(server.get(&session).status, 204, "the session goes on");
}

#[test]
fn all_event_streams_end_with_the_session() {
    let server = Server::start("session-end", &[]);
    let session = watch(&server);
    let streams = [subscribed(&server, &session, ""), subscribed(&server, &session, "[\"active\"]")];
    let mut sources = streams.each_ref().map(|stream| EventSource::open(&server, stream, ""));
    assert_eq!(server.request("DELETE", &session, &[], "").status, 200);
    for (source, stream) in sources.iter_mut().zip(&streams) {
        while source.next().is_some() {}
        server.get(stream).problem(404);
    }
}

#[test]
fn an_event_stream_outlives_the_time_of_a_request() {
    let server = Server::start("patient", &["--http-timeout", "0.2", "--http-connections", "4"]);
    let session = watch(&server);
    let stream = subscribed(&server, &session, "[\"active\"]");
    let mut source = EventSource::open(&server, &stream, "");
    std::thread::sleep(std::time::Duration::from_millis(500));
    publish(&server, WHIP);
    assert_eq!(source.next(), event("active", json!({})));
    let others: Vec<EventSource> = (0..2)
        .map(|_| EventSource::open(&server, &subscribed(&server, &session, "[\"active\"]"), ""))
        .collect();
    let last = subscribed(&server, &session, "[\"active\"]");
    let refused = server.get(&last);
    assert!(refused.problem(503).contains("--http-connections"), "room is left for other requests");
    drop(others);
    eventually("there is room again", || server.metric("uringcast_event_streams") == Some(1.0));
}

#[test]
fn while_media_is_away_a_browser_is_not_turned_away_for_good() {
    let server = Server::start("away", &[]);
    let stream = subscribed(&server, &watch(&server), "");
    let mut source = EventSource::open(&server, &stream, "");
    server.media.hang_up();
    while source.next().is_some() {}
    let mut answers = Vec::new();
    eventually("media is back, without the session", || {
        answers.push(server.get(&stream).status);
        answers.ends_with(&[404])
    });
    assert!(answers[..answers.len() - 1].iter().all(|status| *status == 200), "{answers:?}");
}

#[test]
fn a_separate_media_process_keeps_the_sessions_so_nobody_is_sent_away() {
    let mut server = Server::start("restart", &[]);
    let stream = subscribed(&server, &watch(&server), "");
    let mut source = EventSource::open(&server, &stream, "");
    assert!(source.next().is_some());
    server.signal(Signal::SIGTERM);
    assert_eq!(source.next(), None);
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn a_viewer_chooses_a_layer_and_gives_the_choice_back() {
    let server = Server::start("choice", &[]);
    publish(&server, WHIP_SIMULCAST);
    let rids: Vec<String> =
        server.media.created()[0].1.sections.iter().flat_map(|s| s.rids.clone()).collect();
    let session = watch(&server);
    let viewer = server.media.last_created();
    let layer = format!("{session}/layer");
    let line = WHEP.split("\nm=").skip(1).position(|section| section.starts_with("video")).unwrap();
    let choose = |body: Value| server.request("POST", &layer, &[JSON], &body.to_string());
    let rid = || Some(rids[1].clone());
    let chosen =
        |rid: Option<String>, max_width, max_height| (viewer, LayerChoice { rid, max_width, max_height });
    let wishes = [
        (json!({ "rid": rids[1] }), chosen(rid(), None, None)),
        (
            json!({ "mediaId": line.to_string(), "encodingId": rids[1], "spatialLayerId": 0 }),
            chosen(rid(), None, None),
        ),
        (json!({ "mediaId": line, "maxWidth": 640, "maxHeight": 100_000 }), chosen(None, Some(640), None)),
        (json!({ "maxTemporalLayerId": 1, "rid": null, "unheardOf": [] }), chosen(None, None, None)),
    ];
    for (body, wanted) in wishes {
        let answer = choose(body.clone());
        assert_eq!(
            (answer.status, answer.header("access-control-allow-origin")),
            (200, Some("*")),
            "{body} {answer:?}"
        );
        eventually("media hears of it", || server.media.selected().last() == Some(&wanted));
    }
    choose(json!({ "maxHeight": 360 }));
    assert_eq!(server.request("DELETE", &layer, &[], "").status, 200);
    eventually("the server chooses again", || {
        server.media.selected().last() == Some(&chosen(None, None, None))
    });

    let told = server.media.selected().len();
    assert!(choose(json!({ "rid": "nobody" })).problem(422).contains(&rids.join(", ")));
    choose(json!({ "mediaId": "7" })).problem(422);
    for within in ["spatialLayerId", "temporalLayerId"] {
        let detail = choose(json!({ within: 1 })).problem(422);
        assert!(detail.contains("SVC") && detail.contains(within), "{detail}");
    }
    choose(json!({ "maxWidth": 0 })).problem(422);
    for bad in [json!([]), json!({ "rid": 1 }), json!({ "maxWidth": -1 }), json!("rid")] {
        choose(bad).problem(400);
    }
    server.request("POST", &layer, &[], "{}").problem(415);
    server.get(&layer).problem(405);
    server.request("DELETE", "/session/00000000000000000000000000000000/layer", &[], "").problem(404);
    assert_eq!(server.request("POST", &session, &[JSON], "{\"muted\":true}").status, 405);
    assert_eq!(server.media.selected().len(), told, "media hears of none of these");
}

#[test]
fn without_a_publisher_a_viewer_is_refused_where_the_operator_says_so() {
    let server = Server::start("refuse", &["--no-publisher", "refuse"]);
    let refused = server.post("/demo/whep", &[], WHEP);
    refused.problem(409);
    assert!(refused.header("retry-after").and_then(|seconds| seconds.parse::<u32>().ok()).is_some());
    assert!(server.media.created().is_empty());
    let publisher = publish(&server, WHIP);
    watch(&server);
    server.media.send(&Event::Silence { session: publisher, silent: true });
    eventually("refused again", || server.post("/demo/whep", &[], WHEP).status == 409);
}
