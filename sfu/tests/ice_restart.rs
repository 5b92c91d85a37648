//! ICE restarts with real WebRTC peers in virtual time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod plans;
mod show;
mod world;

use plans::plan_h264;
use sfu::control::protocol::{IceCredentials, RestartError};
use sfu::core::plan::{Epoch, Role};
use sfu::core::stun::{Request, TransactionId};
use sfu::stats::DropReason;
use show::{Show, elsewhere, fresh_credentials};
use std::time::Duration;
use world::{Client, World};

#[test]
fn a_viewer_restarts_ice_where_it_is_and_misses_nothing() {
    let mut show = Show::start();
    show.restart(show.viewer);
    show.play(200);
    show.assert_retired(show.viewer);
    show.assert_unbroken();
}

#[test]
fn a_viewer_restarts_ice_from_another_network_and_misses_nothing() {
    let mut show = Show::start();
    show.world.client(show.viewer).move_to(elsewhere(1));
    show.restart(show.viewer);
    show.play_with_loss(200);
    assert_eq!(show.world.last_to(show.viewer), elsewhere(1));
    show.assert_retired(show.viewer);
    show.assert_unbroken();
}

#[test]
fn a_publisher_restarts_ice_and_its_viewers_see_nothing_of_it() {
    let mut show = Show::start();
    show.restart(show.publisher);
    show.play_with_loss(100);
    show.world.client(show.publisher).move_to(elsewhere(2));
    show.restart(show.publisher);
    show.play_with_loss(200);
    show.assert_retired(show.publisher);
    show.assert_unbroken();
}

#[test]
fn the_old_ice_session_goes_on_while_the_client_does_not_use_the_new_one() {
    let mut show = Show::start();
    let never_used = fresh_credentials(1);
    show.world.restart(show.viewer, &never_used).unwrap();
    show.play(1_500); // 45 s: many checks
    for reason in [DropReason::UnknownUfrag, DropReason::Rejected] {
        assert_eq!(show.world.dropped(0, reason), 0, "{reason:?}");
    }
    show.assert_unbroken();
}

#[test]
fn a_restart_whose_answer_was_lost_is_replaced_by_the_next() {
    let mut show = Show::start();
    let lost = show.world.restart(show.viewer, &fresh_credentials(1)).unwrap();
    let remote = show.restart(show.viewer);
    assert_ne!(lost, remote);
    show.play(200);
    show.assert_retired(show.viewer);
    show.assert_unbroken();
}

#[test]
fn what_cannot_be_restarted_is_refused_and_goes_on() {
    let mut world = World::new(1);
    let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    let fresh = fresh_credentials(1);
    assert_eq!(world.restart(viewer, &fresh), Err(RestartError::NotConnected));
    world.run(Duration::from_secs(1));
    let same = world.client(viewer).credentials();
    assert_eq!(world.restart(viewer, &same), Err(RestartError::BadCredentials));
    let short = IceCredentials { ufrag: "abc".into(), ..fresh.clone() };
    assert_eq!(world.restart(viewer, &short), Err(RestartError::BadCredentials));
    let session = world.session(viewer);
    world.delete(0, session);
    assert_eq!(world.restart(viewer, &fresh), Err(RestartError::NoSession));
}

#[test]
fn new_credentials_name_the_same_place_and_are_as_hard_to_guess() {
    let mut world = World::new(1);
    let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    let fresh = world.restart(viewer, &fresh_credentials(1)).unwrap();
    let old = world.ufrag(viewer);
    assert_eq!(fresh.ufrag.len(), old.len());
    assert_eq!(fresh.ufrag[..16], old[..16], "worker, slot and generation");
    assert_ne!(fresh.ufrag, old);
    assert_eq!(fresh.pwd.len(), 32);
}

#[test]
fn old_addresses_are_forgotten_some_time_after_a_restart() {
    let mut show = Show::start();
    let old = show.world.client(show.publisher).address();
    show.world.client(show.publisher).move_to(elsewhere(2));
    show.restart(show.publisher);
    show.play(100);
    let dtls = [&[22, 254, 253][..], &[0; 30]].concat();
    show.world.inject_from(show.publisher, old, &dtls);
    assert_eq!(show.world.dropped(0, DropReason::UnknownAddress), 0, "what is late is heard");
    show.play(100);
    show.world.inject_from(show.publisher, old, &dtls);
    assert_eq!(show.world.dropped(0, DropReason::UnknownAddress), 1);
    show.assert_unbroken();
}

#[test]
fn addresses_that_were_heard_with_the_new_credentials_outlive_a_restart() {
    let mut show = Show::start();
    let viewer = show.viewer;
    let [old, new, both] = [1, 2, 3].map(elsewhere);
    let of_old = show.world.good_check(viewer, false);
    let fresh = fresh_credentials(1);
    let remote = show.world.restart(viewer, &fresh).unwrap();
    let of_new = Client::binding_request(&format!("{}:{}", remote.ufrag, fresh.ufrag), &remote.pwd);
    for (from, check) in [(old, &of_old), (new, &of_new), (both, &of_new), (both, &of_old)] {
        show.world.inject_from(viewer, from, check);
    }
    let (to, from, password) = (&remote.ufrag, &fresh.ufrag, &remote.pwd);
    let nomination = Request { to, from, password, tie_breaker: 1, nominates: true };
    show.world.inject_as(viewer, &nomination.write(TransactionId([1; 12])));
    show.play(100);
    assert!(
        [old, new, both].iter().all(|from| show.world.worker(0).knows(0, *from)),
        "what is late is heard"
    );
    show.play(100);
    assert_eq!([old, new, both].map(|from| show.world.worker(0).knows(0, from)), [false, true, true]);
    let nominated = show.world.client(viewer).address();
    assert!(show.world.worker(0).knows(0, nominated));
}

#[test]
fn clients_with_the_same_credentials_are_told_apart() {
    let mut show = Show::start();
    let second = show.world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    show.world.run(Duration::from_secs(1));
    let twins = [show.viewer, second];
    let local = fresh_credentials(1);
    for client in twins {
        let remote = show.world.restart(client, &local).unwrap();
        show.world.client(client).restart_ice(&local, &remote);
    }
    show.play(1_200); // longer than consent
    assert_eq!(twins.map(|client| show.world.end_of(client)), [None, None]);
    show.assert_unbroken();
}
