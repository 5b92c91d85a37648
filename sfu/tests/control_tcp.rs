//! TCP clients of a whole media process: through the door to their worker, answered there, and closed with their session.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod media;
mod plans;

use media::{PATIENCE, Signaling, start};
use plans::plan_h264;
use sfu::control::protocol::{Created, Event, Request};
use sfu::core::plan::{Epoch, Role, SessionPlan};
use sfu::stats::{StreamEnd, WorkerSnapshot};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;
use str0m::ice::{StunMessageBuilder, TransId};

fn viewer() -> SessionPlan {
    plan_h264(Role::Viewer, Epoch(0))
}

fn stats_until(signaling: &mut Signaling, mut enough: impl FnMut(&[WorkerSnapshot]) -> bool) {
    let started = Instant::now();
    loop {
        signaling.ask(&Request::Stats);
        let Event::Stats(workers) = signaling.event() else { panic!("expected stats") };
        if enough(&workers) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{workers:?}");
    }
}

/// A framed Binding request of a client of this session, which believes itself in control.
fn check(created: &Created, password: &str) -> Vec<u8> {
    framed_check(created, password, true)
}

fn framed_check(created: &Created, password: &str, controls: bool) -> Vec<u8> {
    let username = format!("{}:{}", created.ice_ufrag, viewer().remote.ice_ufrag);
    let message = StunMessageBuilder::new().binding().request().username(&username).prio(1);
    let message = if controls { message.ice_controlling(1) } else { message.ice_controlled(1) };
    let provider = str0m_aws_lc_rs::default_provider().sha1_hmac_provider;
    let mut bytes = vec![0; 500];
    let length = message
        .build(TransId::new())
        .to_bytes(Some(password.as_bytes()), &mut bytes, |key, parts| provider.sha1_hmac(key, parts))
        .unwrap();
    [&(length as u16).to_be_bytes(), &bytes[..length]].concat()
}

/// The next datagram.
fn answer_to(client: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    client.read_exact(&mut length).unwrap();
    let mut datagram = vec![0; usize::from(u16::from_be_bytes(length))];
    client.read_exact(&mut datagram).unwrap();
    datagram
}

fn connect_and_send(server: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

#[test]
fn a_tcp_client_with_good_credentials_is_answered_until_its_session_ends_and_others_are_closed() {
    let media = start("tcp");
    let (mut signaling, hello) = Signaling::connect(&media.control);
    let server = hello.workers[0].tcp_addresses[0];
    assert!(hello.workers.iter().all(|worker| worker.tcp_addresses == [server]), "one port for all workers");
    let last = hello.workers.len() - 1;
    let created = signaling.create_session(last as u16, viewer()).unwrap();
    let mut rest = Vec::new();

    let _ = connect_and_send(server, b"GET / HTTP/1.1\r\n\r\n").read_to_end(&mut rest);
    let mut forged = connect_and_send(server, &check(&created, "not the password"));
    forged.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "strangers get no answer");

    let mut client = connect_and_send(server, &check(&created, &created.ice_pwd));
    assert_eq!(answer_to(&mut client)[..2], [1, 1], "a Binding success response");
    stats_until(&mut signaling, |workers| {
        let (first, last) = (&workers[0].tcp_ended, &workers[last]);
        let rejected = last.tcp_ended[StreamEnd::Rejected as usize];
        last.tcp_connections == 1 && rejected == 1 && first[StreamEnd::NotStun as usize] == 1
    });

    signaling.ask(&Request::Delete { session: created.session });
    client.read_to_end(&mut rest).unwrap();
    assert!(matches!(signaling.event(), Event::Ended { .. }));
    stats_until(&mut signaling, |workers| {
        workers[last].tcp_connections == 0 && workers[last].tcp_ended[StreamEnd::Session as usize] == 1
    });
    signaling.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
}

#[test]
fn a_client_that_believes_itself_controlled_is_told_so_and_repeats_its_check_on_the_same_connection() {
    let media = start("tcp-role");
    let (mut signaling, hello) = Signaling::connect(&media.control);
    let created = signaling.create_session(0, viewer()).unwrap();
    let confused = framed_check(&created, &created.ice_pwd, false);
    let mut client = connect_and_send(hello.workers[0].tcp_addresses[0], &confused);
    assert_eq!(answer_to(&mut client)[..2], [1, 0x11], "a Binding error response");
    client.write_all(&check(&created, &created.ice_pwd)).unwrap();
    assert_eq!(answer_to(&mut client)[..2], [1, 1], "a Binding success response");
    signaling.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
}
