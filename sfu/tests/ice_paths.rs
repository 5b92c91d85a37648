//! Clients whose address changes, with real WebRTC peers in virtual time: who is followed where, and when.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod plans;
mod show;
mod world;

use plans::plan_h264;
use sfu::core::outbox::SessionEvent;
use sfu::core::plan::{Epoch, Role};
use sfu::core::stun;
use show::{FRAME, Show, elsewhere, fresh_credentials, is_media};
use std::net::SocketAddr;
use std::time::Duration;
use world::World;

#[test]
fn a_viewer_whose_address_changes_is_followed_once_the_new_one_answered() {
    let mut show = Show::start();
    let old = show.world.last_to(show.viewer);
    show.world.client(show.viewer).move_to(elsewhere(1));
    show.world.lose_checks();
    show.play(60);
    assert_eq!(show.world.last_to(show.viewer), old, "nominated, but nothing came back from there");
    let mut show = Show::start();
    show.world.client(show.viewer).move_to(elsewhere(1));
    show.play(60);
    assert_eq!(show.world.last_to(show.viewer), elsewhere(1));
    show.assert_unbroken();
}

#[test]
fn a_viewer_may_move_between_ipv4_and_ipv6() {
    let mut show = Show::start();
    let ipv6 = "[fd00::77]:4000".parse().unwrap();
    show.world.client(show.viewer).move_to(ipv6);
    show.play(100);
    assert_eq!(show.world.last_to(show.viewer), ipv6);
    show.assert_unbroken();
}

#[test]
fn a_client_of_ipv6_alone_publishes_and_watches() {
    let mut world = World::new(1);
    let plan = plan_h264(Role::Publisher, Epoch(1));
    let publisher = world.join_from(0, plan, "[fd00::1]:5000".parse().unwrap());
    let plan = plan_h264(Role::Viewer, Epoch(0));
    let viewer = world.join_from(0, plan, "[fd00::1]:5001".parse().unwrap());
    world.run(Duration::from_secs(1));
    let mut show = Show { world, publisher, viewer, frames: 0 };
    show.play(30);
    show.world.client(publisher).take_keyframe_requests();
    show.assert_unbroken();
}

#[test]
fn an_address_that_changes_hands_is_taken_over_by_who_answers_there() {
    let mut show = Show::start();
    let address = show.world.client(show.viewer).address();
    show.world.mute(show.viewer); // its browser crashed, and the next one got its port
    let next = show.world.join_from(0, plan_h264(Role::Viewer, Epoch(0)), address);
    show.play(100);
    assert!(show.world.events().contains(&SessionEvent::Connected(show.world.session(next))));
    assert!(!show.world.client(next).received().is_empty());
}

#[test]
fn a_silent_path_is_left_for_an_address_that_is_heard_and_answers() {
    let mut show = Show::start();
    let (viewer, other) = (show.viewer, elsewhere(6));
    let check = show.world.good_check(viewer, false); // without nomination, as Firefox checks
    show.world.inject_from(viewer, other, &check);
    show.play(200);
    assert_eq!(show.world.asked_of(other), None, "the path is heard");
    show.world.mute(viewer);
    let heard = show.world.heard(viewer);
    show.world.inject_from(viewer, other, &check);
    while show.world.now() + FRAME < heard + Duration::from_secs(3) {
        show.play(1);
    }
    assert_eq!(show.world.asked_of(other), None, "not silent for long enough");
    show.play(3);
    let theirs = show.world.client(viewer).credentials().pwd;
    let transaction = show.world.asked_of(other).expect("a check of ours");
    show.world.inject_from(viewer, other, &stun::success(transaction, other, &theirs));
    show.play(2);
    assert!(show.world.to_stranger().iter().any(|transmit| is_media(&transmit.contents)));
}

#[test]
fn whatever_clients_do_with_addresses_nothing_is_left_behind() {
    let mut show = Show::start();
    let thief = show.world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    show.world.run(Duration::from_secs(1));
    let clients = [show.publisher, show.viewer, thief];
    let mut state = 7u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for round in 0..600 {
        let client = clients[random(3) as usize];
        let address = match random(4) {
            0 => show.world.client(clients[random(3) as usize]).address(),
            _ => elsewhere(random(20) as u16),
        };
        match random(8) {
            0 => _ = show.world.restart(client, &fresh_credentials(round)),
            1 => show.world.client(client).move_to(SocketAddr::from(([10, 0, 8, 8], 1_000 + round as u16))),
            nominates => {
                let check = show.world.good_check(client, nominates > 4);
                show.world.inject_from(client, address, &check);
            }
        }
        if let Some(transaction) = show.world.asked_of(address) {
            let theirs = show.world.client(client).credentials().pwd;
            show.world.inject_from(client, address, &stun::success(transaction, address, &theirs));
        }
        show.play(1);
    }
    let now = show.world.now();
    show.world.worker(0).shut_down(now); // the core itself asserts that its tables are empty then
    show.world.run(Duration::from_secs(1));
    assert!(show.world.worker(0).is_shut_down());
}

#[test]
fn a_session_that_has_ended_asks_nobody() {
    let mut show = Show::start();
    let (viewer, other) = (show.viewer, elsewhere(6));
    let check = show.world.good_check(viewer, false);
    show.world.mute(viewer);
    show.play(60); // so that the path is silent for long enough soon after the end
    show.world.inject_from(viewer, other, &check);
    let session = show.world.session(viewer);
    show.world.delete(0, session);
    show.play(200);
    assert_eq!(show.world.asked_of(other), None);
}

#[test]
fn a_client_that_leaves_its_controlled_role_to_us_is_told_to_take_it() {
    let mut world = World::new(1);
    let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.client(viewer).be_controlled();
    world.run(Duration::from_secs(2));
    assert!(world.events().contains(&SessionEvent::Connected(world.session(viewer))));
}
