//! DTLS with clients of any certificate, in either role, over links that lose, forge and end.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod plans;
mod world;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::{X509Builder, X509NameBuilder};
use plans::plan_h264;
use sfu::control::protocol::EndReason;
use sfu::core::dtls::any::AnyDtls;
use sfu::core::plan::{DtlsRole, Epoch, PeerCertificate, Role, SessionPlan};
use std::io::Read;
use std::sync::Mutex;
use std::time::Duration;
use str0m::config::{CryptoProvider, DtlsCert};
use world::{ClientIndex, Credentials, World};

const IDR: &[u8] = &[0x65, 0x88, 0x84, 0x00];

/// A self-signed certificate.
fn certificate_of(key: &PKey<Private>) -> DtlsCert {
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "client").unwrap();
    let name = name.build();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32(7).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(30).unwrap()).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.sign(key, MessageDigest::sha256()).unwrap();
    let certificate = builder.build().to_der().unwrap();
    DtlsCert { certificate, private_key: key.private_key_to_der().unwrap() }
}

/// A client with a key of 2048 bits of RSA, on OpenSSL like GStreamer.
fn rsa() -> Credentials {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let certificate = certificate_of(&key);
    let dtls = AnyDtls::new(&certificate).unwrap();
    let stock = str0m_aws_lc_rs::default_provider();
    (certificate, CryptoProvider { dtls_provider: Box::leak(Box::new(dtls)), ..stock })
}

fn plan(role: Role, certificate: PeerCertificate, dtls_role: DtlsRole) -> SessionPlan {
    let mut plan = plan_h264(role, Epoch(u64::from(role == Role::Publisher)));
    plan.remote.certificate = certificate;
    plan.remote.dtls_role = dtls_role;
    plan
}

fn any_viewer() -> SessionPlan {
    plan(Role::Viewer, PeerCertificate::Any, DtlsRole::Passive)
}

/// What is logged meanwhile; it must fit a pipe.
fn logged(act: impl FnOnce()) -> String {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(Mutex::new(writer)).finish();
    tracing::subscriber::with_default(subscriber, act);
    let mut log = String::new();
    reader.read_to_string(&mut log).unwrap();
    log
}

/// Lets virtual and real time pass: OpenSSL's retransmission timer follows the system's clock.
fn run_until(world: &mut World, seconds_max: u32, done: impl Fn(&World) -> bool) {
    for _ in 0..20 * seconds_max {
        if done(world) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
        world.run(Duration::from_millis(50));
    }
}

#[test]
fn rsa_and_ecdsa_clients_publish_and_watch_in_either_dtls_role() {
    let rsa = rsa();
    for ours in [DtlsRole::Passive, DtlsRole::Active] {
        for credentials in [Some(rsa.clone()), None] {
            let mut world = World::new(1);
            let plan = |role| plan(role, PeerCertificate::Any, ours);
            let publisher = world.join_with(0, plan(Role::Publisher), credentials.clone());
            let viewer = world.join_with(0, plan(Role::Viewer), credentials);
            world.run(Duration::from_secs(1));
            for frame in 0..2 {
                world.client(publisher).send_video(frame, IDR);
                world.run(Duration::from_millis(100));
            }
            let received = world.client(viewer).received();
            assert_eq!(received.len(), 2, "we are {ours:?}");
            assert_eq!(&*received[0].payload, IDR);
        }
    }
}

#[test]
fn any_one_datagram_of_a_handshake_may_be_lost() {
    let (mut world, rsa) = (World::new(1), rsa());
    let mut clients: Vec<ClientIndex> = vec![];
    for ours in [DtlsRole::Passive, DtlsRole::Active] {
        for lost in 0..6 {
            let plan = plan(Role::Viewer, PeerCertificate::Any, ours);
            let client = world.join_with(0, plan, Some(rsa.clone()));
            world.lose_dtls(client, lost..lost + 1);
            clients.push(client);
        }
    }
    let all = |world: &World| clients.iter().all(|client| world.is_connected(*client));
    run_until(&mut world, 10, all);
    assert!(all(&world));
    assert!(world.lost() >= 8, "datagrams were really lost: {}", world.lost());
}

#[test]
fn a_handshake_outlives_the_loss_of_whole_flights() {
    let (mut world, rsa) = (World::new(1), rsa());
    let client = world.join_with(0, any_viewer(), Some(rsa));
    world.lose_dtls(client, 0..3);
    run_until(&mut world, 15, |world| world.is_connected(client));
    assert!(world.is_connected(client));
    assert_eq!(world.lost(), 3);
}

#[test]
fn a_certificate_that_is_not_the_one_of_the_offer_is_refused() {
    let (mut world, rsa, other) = (World::new(1), rsa(), rsa());
    let impostor = (other.0, rsa.1);
    for ours in [DtlsRole::Passive, DtlsRole::Active] {
        let plan = plan(Role::Viewer, PeerCertificate::Any, ours);
        let client = world.join_with(0, plan, Some(impostor.clone()));
        let log = logged(|| world.run(Duration::from_secs(1)));
        assert_eq!(world.end_of(client), Some(EndReason::DtlsFailed));
        assert!(!world.is_connected(client));
        assert!(log.contains("certificate is not the one of its offer"), "the operator can read why: {log}");
    }
    assert_eq!(world.snapshot(0).viewers, 0);
}

#[test]
fn an_rsa_client_that_was_taken_for_an_ecdsa_one_ends_as_failed() {
    let (mut world, rsa) = (World::new(1), rsa());
    let plan = |ours| plan(Role::Publisher, PeerCertificate::Ecdsa, ours);
    let passive = world.join_with(0, plan(DtlsRole::Passive), Some(rsa.clone()));
    let active = world.join_with(0, plan(DtlsRole::Active), Some(rsa));
    world.run(Duration::from_secs(2));
    assert_eq!(world.end_of(passive), Some(EndReason::DtlsFailed), "it said that it has no such certificate");
    world.run(Duration::from_secs(20));
    assert_eq!(world.end_of(active), Some(EndReason::DtlsFailed), "its alert explains the timeout");
}

/// Datagrams with a first byte of DTLS that no client means.
fn junk() -> Vec<Vec<u8>> {
    let record = |kind: u8, epoch: u8, body: &[u8]| {
        let mut record = vec![kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 9];
        record.extend((body.len() as u16).to_be_bytes());
        record.extend(body);
        record
    };
    let handshake = record(22, 0, &[[1, 0, 0, 40, 0, 0, 0, 0, 0, 0, 0, 40].as_slice(), &[7; 40]].concat());
    let truncated = (1..handshake.len()).map(|length| handshake[..length].to_vec());
    let whole = [
        record(21, 0, &[2, 40]),
        record(21, 0, &[1, 0]),
        record(22, 0, &[1; 200]),
        record(22, 0, &[11, 0xff, 0xff, 0xff, 0, 1, 0, 0, 0, 0, 0, 1, 0]),
        record(20, 0, &[1, 1]),
        record(23, 0, b"in clear"),
        record(22, 1, &[9; 60]),
        record(23, 1, &[9; 60]),
        record(23, 7, &[9; 60]),
        vec![22; 1400],
        vec![63; 13],
    ];
    whole.into_iter().chain(truncated).collect()
}

#[test]
fn junk_and_truncated_records_change_nothing_before_during_and_after_the_handshake() {
    let (mut world, rsa) = (World::new(1), rsa());
    let client = world.join_with(0, any_viewer(), Some(rsa));
    // So that the handshake is caught in the middle.
    world.lose_dtls(client, 2..3);
    let step = Duration::from_millis(5);
    for _ in 0..6 {
        junk().iter().for_each(|datagram| world.inject_as(client, datagram));
        world.run(step);
    }
    assert!(!world.is_connected(client), "it was caught in the middle");
    run_until(&mut world, 10, |world| world.is_connected(client));
    assert!(world.is_connected(client));
    junk().iter().for_each(|datagram| world.inject_as(client, datagram));
    world.run(Duration::from_secs(1));
    assert_eq!(world.end_of(client), None);
}

#[test]
fn a_flood_before_the_handshake_ends_costs_no_more_than_that_handshake() {
    let (mut world, rsa) = (World::new(1), rsa());
    let flooded = world.join_with(0, any_viewer(), Some(rsa.clone()));
    let other = world.join_with(0, any_viewer(), Some(rsa));
    world.lose_dtls(flooded, 0..1);
    world.run(Duration::from_millis(50));
    let early = [[22, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 4, 0].as_slice(), &[9; 1024]].concat();
    for _ in 0..1000 {
        world.inject_as(flooded, &early);
    }
    world.run(Duration::from_secs(1));
    assert!(world.is_connected(other));
    assert!(
        world.dropped(0, sfu::stats::DropReason::Rejected) >= 900,
        "what is too much is dropped and counted"
    );
    world.run(Duration::from_secs(20));
    assert_eq!(world.end_of(flooded), Some(EndReason::ConnectTimeout));
}

#[test]
fn a_close_notify_of_either_side_ends_the_session_on_both() {
    let (mut world, rsa) = (World::new(1), rsa());
    let closer = world.join_with(0, any_viewer(), Some(rsa.clone()));
    let deleted = world.join_with(0, any_viewer(), Some(rsa));
    world.run(Duration::from_secs(1));
    world.client(closer).close();
    let session = world.session(deleted);
    world.delete(0, session);
    world.run(Duration::from_millis(200));
    assert_eq!(world.end_of(closer), Some(EndReason::ClosedByPeer));
    assert_eq!(world.end_of(deleted), Some(EndReason::Deleted));
    assert!(!world.client(deleted).is_alive(), "the client heard close_notify");
}
