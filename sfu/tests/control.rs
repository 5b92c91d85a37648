//! A whole media process, spoken to over its control socket as signaling does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod media;
mod plans;

use media::{PATIENCE, Signaling, config, start, start_with};
use plans::plan_h264;
use sfu::config::MediaConfig;
use sfu::control::protocol::{
    CreateError, EndReason, Event, IceCredentials, LayerChoice, PROTOCOL_VERSION, Request, RestartError,
    SessionId, WorkerIndex,
};
use sfu::core::plan::{Epoch, Role, SessionPlan};
use sfu::error::StartError;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

fn viewer() -> SessionPlan {
    let mut plan = plan_h264(Role::Viewer, Epoch(0));
    plan.blob = b"what signaling wants to know".to_vec();
    plan
}

#[test]
fn sessions_outlive_a_signaling_process_and_answer_to_the_next() {
    let media = start("outlive");
    let (mut first, hello) = Signaling::connect(&media.control);
    assert_eq!((hello.protocol, hello.config_hash), (PROTOCOL_VERSION, 42));
    assert!(hello.sessions.is_empty());
    let mode = std::fs::metadata(&media.control).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let session = first.create(0, viewer()).unwrap();
    drop(first);
    let (mut second, hello) = Signaling::connect(&media.control);
    assert_eq!(hello.sessions.len(), 1);
    assert_eq!(hello.sessions[0].session, session);
    assert_eq!(hello.sessions[0].plan, viewer());
    second.ask(&Request::Delete { session });
    assert_eq!(second.event(), Event::Ended { session, reason: EndReason::Deleted });
    second.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
    assert!(!media.control.exists(), "the socket is removed");
}

#[test]
fn a_new_signaling_process_takes_the_place_of_the_old_one() {
    let media = start("replace");
    let (mut old, _) = Signaling::connect(&media.control);
    let (mut new, _) = Signaling::connect(&media.control);
    let mut rest = Vec::new();
    old.stream.read_to_end(&mut rest).expect("the old one is cut off");
    new.create(0, viewer()).unwrap();
    new.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
}

#[test]
fn plans_that_make_no_sense_and_workers_that_are_not_there_are_refused() {
    let media = start("refuse");
    let (mut signaling, _) = Signaling::connect(&media.control);
    let mut twice = viewer();
    twice.sections.push(twice.sections[0].clone());
    assert!(matches!(signaling.create(0, twice), Err(CreateError::Plan(_))));
    assert_eq!(signaling.create(63, viewer()), Err(CreateError::NoWorker));
    signaling.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
}

#[test]
fn stats_come_from_every_worker() {
    let media = start("stats");
    let (mut signaling, hello) = Signaling::connect(&media.control);
    signaling.create(0, viewer()).unwrap();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.send_to(b"\xffnoise from nowhere", hello.workers[0].addresses[0]).unwrap();
    let started = Instant::now();
    loop {
        signaling.ask(&Request::Stats);
        let Event::Stats(workers) = signaling.event() else { panic!("expected stats") };
        assert_eq!(workers.len(), hello.workers.len());
        // A worker may have been asked already when the session was made.
        if workers[0].viewers == 1 && workers[0].dropped.iter().sum::<u64>() == 1 {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "the session or the noise was never counted");
    }
    signaling.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
}

#[test]
fn the_load_of_every_worker_comes_unasked_and_counts_its_sessions() {
    let media = start("load");
    let (mut signaling, hello) = Signaling::connect(&media.control);
    let first = signaling.load();
    assert_eq!(first.len(), hello.workers.len());
    assert!(first.iter().all(|worker| worker.up && worker.sessions == 0), "{first:?}");
    signaling.create(0, viewer()).unwrap();
    let started = Instant::now();
    while signaling.load()[0].sessions != 1 {
        assert!(started.elapsed() < PATIENCE, "the session was never reported");
    }
    let last = signaling.load();
    assert!(last.iter().all(|worker| (0.0..=1.0).contains(&worker.busy_ratio)), "{last:?}");
    assert!(last[1..].iter().all(|worker| worker.sessions == 0), "{last:?}");
    signaling.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
}

#[test]
fn a_second_media_process_on_the_same_socket_does_not_start() {
    let media = start("twice");
    let (mut signaling, _) = Signaling::connect(&media.control);
    let error = sfu::run(config("twice"), || {}).unwrap_err();
    assert!(matches!(error, StartError::ControlInUse { .. }), "{error}");
    signaling.create(0, viewer()).expect("the first one is undisturbed");
    signaling.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
}

#[test]
fn workers_behind_one_port_have_the_same_addresses() {
    let media = start_with(MediaConfig { udp_mux: true, ..config("one-port") });
    let (mut signaling, hello) = Signaling::connect(&media.control);
    assert!(hello.workers.iter().all(|worker| worker.addresses == hello.workers[0].addresses));
    signaling.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
}

#[test]
fn a_shared_port_is_not_shared_with_another_media_process() {
    let shared = MediaConfig { udp_mux: true, ..config("shared") };
    let media = start_with(shared.clone());
    let (mut signaling, _) = Signaling::connect(&media.control);
    let second = MediaConfig { control: config("shared-too").control, ..shared };
    let error = sfu::run(second, || {}).unwrap_err();
    assert!(matches!(error, StartError::PortTaken { .. }), "{error}");
    signaling.create(0, viewer()).expect("the first one is undisturbed");
    signaling.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
}

#[test]
fn bytes_of_another_protocol_cost_the_connection_only() {
    let media = start("foreign");
    let (mut stranger, _) = Signaling::connect(&media.control);
    stranger.stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    stranger.stream.read_to_end(&mut rest).expect("the stranger is cut off");
    let (mut signaling, _) = Signaling::connect(&media.control);
    signaling.create(0, viewer()).unwrap();
    signaling.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
}

#[test]
fn a_restart_of_what_is_not_connected_or_not_there_is_refused_and_changes_nothing() {
    let media = start("restart");
    let (mut signaling, _) = Signaling::connect(&media.control);
    let session = signaling.create(0, viewer()).unwrap();
    let remote = IceCredentials { ufrag: "fresh".into(), pwd: "0123456789012345678901".into() };
    assert_eq!(signaling.restart_ice(session, &remote, b"new"), Err(RestartError::NotConnected));
    assert_eq!(signaling.restart_ice(session, &remote, &[0; 4097]), Err(RestartError::BlobSize));
    drop(signaling);
    let (mut next, hello) = Signaling::connect(&media.control);
    assert_eq!(hello.sessions[0].plan, viewer());
    next.ask(&Request::Delete { session });
    assert_eq!(next.event(), Event::Ended { session, reason: EndReason::Deleted });
    assert_eq!(next.restart_ice(session, &remote, b"new"), Err(RestartError::NoSession));
    next.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
}

#[test]
fn a_wish_for_a_layer_is_taken_for_viewers_and_ignored_for_sessions_that_are_not_there() {
    let media = start("layer");
    let (mut signaling, _) = Signaling::connect(&media.control);
    let session = signaling.create(0, viewer()).unwrap();
    let nobody = SessionId { slot: 77, ..session };
    let choice = LayerChoice { rid: Some("a rid that no plan can have".into()), ..LayerChoice::default() };
    for session in [session, nobody, SessionId { worker: WorkerIndex(63), ..nobody }] {
        signaling.ask(&Request::SelectLayer { session, choice: choice.clone() });
    }
    signaling.ask(&Request::Delete { session });
    assert_eq!(signaling.event(), Event::Ended { session, reason: EndReason::Deleted });
    signaling.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
}
