//! What forged requests lead to: little. Nobody's word aims a stream at an address.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod plans;
mod show;
mod world;

use plans::plan_h264;
use sfu::control::protocol::EndReason;
use sfu::core::outbox::Transmit;
use sfu::core::plan::{DtlsRole, Epoch, Role};
use sfu::core::stun::{self, Class, Message};
use sfu::stats::DropReason;
use show::{SLICE, Show, elsewhere, is_dtls, is_media};
use std::time::Duration;
use world::{ClientIndex, World};

/// What the first address of a session may be sent beside three times what came from it.
const FIRST_FLIGHT_BYTES: usize = 1_500;

#[test]
fn a_forged_nomination_aims_no_stream_at_its_victim() {
    let mut show = Show::start();
    let victim = elsewhere(6);
    let nomination = show.world.good_check(show.viewer, true);
    let mut came = 0;
    for _ in 0..50 {
        show.world.inject_from(show.viewer, victim, &nomination);
        came += nomination.len();
        show.play(2);
    }
    let sent: usize = show.world.sent_to_stranger();
    assert!(sent <= 3 * came, "{sent} bytes for {came}");
    assert!(!show.world.to_stranger().iter().any(|transmit| is_media(&transmit.contents)));
    show.assert_unbroken();
}

#[test]
fn one_forged_nomination_is_answered_with_three_times_its_length_at_most() {
    let mut show = Show::start();
    let nomination = show.world.good_check(show.viewer, true);
    show.world.inject_from(show.viewer, elsewhere(6), &nomination);
    show.world.run(Duration::from_secs(60));
    let sent = show.world.sent_to_stranger();
    assert!((nomination.len()..=3 * nomination.len()).contains(&sent), "{sent} bytes");
}

#[test]
fn forged_nominations_from_many_addresses_start_few_checks() {
    let mut show = Show::start();
    let nomination = show.world.good_check(show.viewer, true);
    for port in 0..100 {
        show.world.inject_from(show.viewer, elsewhere(port), &nomination);
    }
    show.world.run(Duration::from_millis(5));
    let is_check = |contents: &[u8]| Message::parse(contents).unwrap().class == Class::Request;
    let checks = show.world.to_stranger().iter().filter(|transmit| is_check(&transmit.contents)).count();
    assert!((1..=17).contains(&checks), "{checks} checks");
    show.assert_unbroken();
}

#[test]
fn an_answer_counts_only_from_the_address_that_was_asked_and_with_integrity() {
    let mut show = Show::start();
    let (old, asked) = (show.world.last_to(show.viewer), elsewhere(6));
    let nomination = show.world.good_check(show.viewer, true);
    show.world.inject_from(show.viewer, asked, &nomination);
    show.world.run(Duration::from_millis(5));
    let transaction = show.world.asked_of(asked).expect("a check of ours");
    let theirs = show.world.client(show.viewer).credentials().pwd;
    let genuine = stun::success(transaction, asked, &theirs);
    let forged = stun::success(transaction, asked, "a guess");
    let unasked = stun::success(stun::TransactionId([9; 12]), asked, &theirs);
    show.world.inject_from(show.viewer, elsewhere(7), &genuine);
    show.world.inject_from(show.viewer, asked, &forged);
    show.world.inject_from(show.viewer, asked, &unasked);
    show.play(2);
    assert_eq!(show.world.dropped(0, DropReason::Rejected), 2);
    assert_eq!(show.world.dropped(0, DropReason::UnknownTransaction), 1);
    assert_eq!(show.world.last_to(show.viewer), old);
    show.world.inject_from(show.viewer, asked, &genuine);
    show.world.client(show.publisher).send_video(show.frames, SLICE);
    show.world.run(Duration::from_millis(5));
    assert!(show.world.to_stranger().iter().any(|transmit| is_media(&transmit.contents)), "it was followed");
}

#[test]
fn a_session_cannot_take_the_address_of_another() {
    let mut show = Show::start();
    let thief = show.world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    show.world.run(Duration::from_secs(1));
    let publishers = show.world.client(show.publisher).address();
    for nominates in [false, true] {
        let check = show.world.good_check(thief, nominates);
        for _ in 0..20 {
            show.world.inject_from(thief, publishers, &check);
            show.play(1);
        }
    }
    assert_ne!(show.world.last_to(thief), publishers);
    show.assert_unbroken();
}

/// A session whose client does nothing by itself, and a ClientHello for it.
fn puppet() -> (World, ClientIndex, Vec<u8>) {
    let mut world = World::new(1);
    let other = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    let hello = world.client_hello(other);
    let puppet = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.mute(puppet);
    (world, puppet, hello)
}

/// ffmpeg as DTLS server takes our first ClientHello for something else, and sends nothing more until the next.
#[test]
fn a_client_that_nominates_once_and_is_silent_is_sent_our_client_hello_again() {
    let mut world = World::new(1);
    let mut plan = plan_h264(Role::Publisher, Epoch(1));
    plan.remote.dtls_role = DtlsRole::Active;
    let client = world.join(0, plan);
    world.mute(client);
    let nomination = world.good_check(client, true);
    world.inject_from(client, elsewhere(6), &nomination);
    world.run(Duration::from_secs(4));
    let hellos = world.to_stranger().iter().filter(|transmit| is_dtls(&transmit.contents)).count();
    assert!(hellos >= 3, "{hellos}");
}

#[test]
fn before_dtls_is_through_a_forged_path_is_sent_little() {
    let (mut world, puppet, hello) = puppet();
    let nomination = world.good_check(puppet, true);
    let victim = elsewhere(6);
    for datagram in [&nomination, &hello, &hello, &hello] {
        world.inject_from(puppet, victim, datagram);
    }
    world.run(Duration::from_secs(25));
    let came = nomination.len() + 3 * hello.len();
    let sent = world.sent_to_stranger();
    assert!(world.to_stranger().iter().any(|transmit| is_dtls(&transmit.contents)), "DTLS answered");
    assert!(sent <= 3 * came + FIRST_FLIGHT_BYTES, "{sent} bytes for {came}");
    assert_eq!(world.end_of(puppet), Some(EndReason::ConnectTimeout));
}

#[test]
fn a_flight_of_dtls_that_is_one_too_many_waits_until_the_address_has_answered() {
    let (mut world, puppet, hello) = puppet();
    let (nominated, other) = (elsewhere(6), elsewhere(7));
    let check = world.good_check(puppet, false);
    world.inject_from(puppet, other, &check);
    let nomination = world.good_check(puppet, true);
    world.inject_from(puppet, nominated, &nomination);
    world.inject_from(puppet, other, &hello); // so that little has come from where the flight goes
    world.run(Duration::from_secs(8));
    let flights = |world: &World| {
        let is_flight = |transmit: &&Transmit| is_dtls(&transmit.contents) && transmit.to == nominated;
        world.to_stranger().iter().filter(is_flight).map(|transmit| transmit.contents.len()).sum::<usize>()
    };
    let before = flights(&world);
    assert!((1..=FIRST_FLIGHT_BYTES + 3 * nomination.len()).contains(&before), "{before} bytes");
    let transaction = world.asked_of(nominated).expect("a check of ours");
    let theirs = world.client(puppet).credentials().pwd;
    world.inject_from(puppet, nominated, &stun::success(transaction, nominated, &theirs));
    world.run(Duration::from_millis(5));
    assert!(flights(&world) > before, "what was withheld follows");
}
