//! The two processes with the real media engine: who starts whom, who outlives whom, and what a changed start changes.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const WHEP: &str = include_str!("fixtures/offers/chromium-156-whep.sdp");
const PATIENCE: Duration = Duration::from_secs(20);

/// Ports and a folder that belong to one test.
struct Place {
    folder: PathBuf,
    http: u16,
    udp: u16,
}

/// A process of ours, killed at the end with everything that it started.
struct Process(Child);

impl Place {
    fn new(name: &str) -> Place {
        let folder = std::env::temp_dir().join(format!("uringcast-processes-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        Place { folder, http: free_tcp_port(), udp: free_udp_port() }
    }

    fn start(&self, mode: &str) -> Process {
        let (http, udp) = (format!("127.0.0.1:{}", self.http), self.udp.to_string());
        let child = Command::new(env!("CARGO_BIN_EXE_uringcast"))
            .args([mode, "--http", &http, "--udp-port", &udp, "--workers", "1", "--bind", "127.0.0.1"])
            .arg("--state-dir")
            .arg(&self.folder)
            .arg("--control")
            .arg(self.folder.join("control.sock"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Process(child.unwrap())
    }

    fn is_ready(&self) -> bool {
        self.ask("GET", "/readyz", "").0 == 200
    }

    /// Status and whole text of one request; status 0 if nobody answers.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.http)) else {
            return (0, String::new());
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n",
            self.http,
            body.len()
        );
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut text = String::new();
        let _ = stream.write_all(format!("{head}{body}").as_bytes());
        let _ = stream.read_to_string(&mut text);
        (text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0), text)
    }

    /// The path of the session that a new viewer gets.
    fn watch(&self) -> String {
        let (status, text) = self.ask("POST", "/demo/whep", WHEP);
        assert_eq!(status, 201, "{text}");
        let location = text.lines().find_map(|line| line.strip_prefix("location: ")).unwrap();
        location[location.find("/session/").unwrap()..].to_owned()
    }

    fn media_pids(&self) -> Vec<Pid> {
        let folder = self.folder.to_str().unwrap().to_owned();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let ours = |pid: &i32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&str> = line.split('\0').collect();
            words.get(1) == Some(&"media") && line.contains(&folder)
        };
        pids.filter(ours).map(Pid::from_raw).collect()
    }

    /// Whether media holds this UDP port.
    fn listens(port: u16) -> bool {
        UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_err()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.media_pids().into_iter().for_each(|pid| {
            let _ = kill(pid, Signal::SIGKILL);
        });
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Process {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    fn exit_code(&mut self) -> Option<i32> {
        eventually("the process ends", || self.0.try_wait().unwrap().is_some());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_tcp_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Free for TCP as well, where media listens at the same number.
fn free_udp_port() -> u16 {
    loop {
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "{what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_halves_meet_whichever_starts_first() {
    for [first, second] in [["media", "signaling"], ["signaling", "media"]] {
        let place = Place::new(first);
        let _first = place.start(first);
        std::thread::sleep(Duration::from_millis(300));
        assert!(!place.is_ready(), "one half is not a server");
        let _second = place.start(second);
        eventually("both halves together are ready", || place.is_ready());
        place.watch();
    }
}

#[test]
fn a_killed_signaling_process_is_followed_by_one_that_knows_its_sessions() {
    let place = Place::new("adopt");
    let mut first = place.start("serve");
    eventually("ready", || place.is_ready());
    let (session, media) = (place.watch(), place.media_pids());
    first.signal(Signal::SIGKILL);
    first.exit_code();
    let _second = place.start("serve");
    eventually("ready again", || place.is_ready());
    assert_eq!(place.media_pids(), media, "the same media process");
    assert_eq!(place.ask("DELETE", &session, "").0, 200);
    assert_eq!(place.ask("DELETE", &session, "").0, 404);
}

#[test]
fn a_start_with_another_udp_port_takes_the_old_media_process_down_first() {
    let mut place = Place::new("moved");
    let mut first = place.start("serve");
    eventually("ready", || place.is_ready());
    place.watch();
    first.signal(Signal::SIGKILL);
    first.exit_code();
    let before = (place.udp, place.media_pids());
    place.udp = free_udp_port();
    let _second = place.start("serve");
    eventually("ready again", || place.is_ready());
    assert_ne!(place.media_pids(), before.1);
    assert!(Place::listens(place.udp) && !Place::listens(before.0));
}

#[test]
fn a_killed_media_process_is_started_again_and_its_sessions_are_forgotten() {
    let place = Place::new("revive");
    let _server = place.start("serve");
    eventually("ready", || place.is_ready());
    let (session, media) = (place.watch(), place.media_pids());
    kill(media[0], Signal::SIGKILL).unwrap();
    let followed = || place.media_pids().first().is_some_and(|pid| *pid != media[0]);
    eventually("another media process", || followed() && place.is_ready());
    assert_eq!(place.ask("GET", &session, "").0, 404);
    place.watch();
}

#[test]
fn a_stopped_media_process_takes_no_viewers_and_goes_on_with_those_that_it_has() {
    let place = Place::new("stopped");
    let _server = place.start("serve");
    eventually("ready", || place.is_ready());
    let (session, media) = (place.watch(), place.media_pids());
    kill(media[0], Signal::SIGSTOP).unwrap();
    eventually("no longer ready", || place.ask("GET", "/readyz", "").0 == 503);
    for (method, path, body) in [("GET", "/readyz", ""), ("POST", "/demo/whep", WHEP)] {
        let (status, text) = place.ask(method, path, body);
        assert_eq!(status, 503, "{text}");
        assert!(text.contains("retry-after: ") && text.contains("has not reported"), "{text}");
    }
    assert!(place.ask("GET", "/metrics", "").1.contains("\nuringcast_media_up 0\n"));
    kill(media[0], Signal::SIGCONT).unwrap();
    eventually("ready again", || place.is_ready());
    assert_eq!(place.media_pids(), media, "the same media process");
    assert_eq!(place.ask("GET", &session, "").0, 204);
    assert!(place.ask("GET", "/metrics", "").1.contains("\nuringcast_media_up 1\n"));
    place.watch();
}

#[test]
fn a_second_server_on_the_same_control_socket_ends_and_leaves_the_first_alone() {
    let mut place = Place::new("second");
    let _first = place.start("serve");
    eventually("ready", || place.is_ready());
    let (session, http) = (place.watch(), place.http);
    for mode in ["serve", "signaling"] {
        place.http = free_tcp_port();
        assert_eq!(place.start(mode).exit_code(), Some(1));
    }
    place.http = http;
    assert_eq!(place.ask("GET", &session, "").0, 204);
}

#[test]
fn sigterm_ends_both_and_says_so_with_code_0() {
    let place = Place::new("terminate");
    let mut server = place.start("serve");
    eventually("ready", || place.is_ready());
    place.watch();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
    eventually("media is gone too", || place.media_pids().is_empty());
}

impl Place {
    /// The path of an event stream of this session, of all events.
    fn subscribe(&self, session: &str) -> String {
        let (status, text) = self.ask("POST", &format!("{session}/sse"), "");
        assert_eq!(status, 201, "{text}");
        let location = text.lines().find_map(|line| line.strip_prefix("location: ")).unwrap();
        location[location.find("/session/").unwrap()..].to_owned()
    }

    fn event_streams(&self, count: u32) -> bool {
        self.ask("GET", "/metrics", "").1.contains(&format!("\nuringcast_event_streams {count}\n"))
    }
}

#[test]
fn before_their_sessions_end_viewers_are_told_where_to_come_again() {
    let place = Place::new("farewell");
    let mut server = place.start("serve");
    eventually("ready", || place.is_ready());
    let stream = place.subscribe(&place.watch());
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| place.ask("GET", &stream, "").1);
        eventually("somebody listens", || place.event_streams(1));
        server.signal(Signal::SIGTERM);
        let told = reader.join().unwrap();
        let endpoint = format!("http://127.0.0.1:{}/demo/whep", place.http);
        assert!(told.contains(&format!("event: reconnect\ndata: {{\"url\":\"{endpoint}\"}}\n\n")), "{told}");
    });
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn an_event_stream_goes_on_at_its_url_when_signaling_was_killed() {
    let place = Place::new("listen-on");
    let mut first = place.start("serve");
    eventually("ready", || place.is_ready());
    let session = place.watch();
    let stream = place.subscribe(&session);
    first.signal(Signal::SIGKILL);
    first.exit_code();
    let _second = place.start("serve");
    eventually("ready again", || place.is_ready());
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| place.ask("GET", &stream, "").1);
        eventually("it is read again", || place.event_streams(1));
        assert_eq!(place.ask("DELETE", &session, "").0, 200);
        let told = reader.join().unwrap();
        assert!(told.contains("event: viewercount\ndata: {\"viewercount\":0}\n\n"), "{told}");
    });
}

#[test]
fn what_cannot_start_says_so_with_code_1() {
    let taken = Place::new("taken");
    let _http = TcpListener::bind((Ipv4Addr::LOCALHOST, taken.http)).unwrap();
    assert_eq!(taken.start("serve").exit_code(), Some(1));
    let busy = Place::new("busy");
    let _udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, busy.udp)).unwrap();
    assert_eq!(busy.start("serve").exit_code(), Some(1));
}
