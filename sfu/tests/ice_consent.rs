//! Consent to send (RFC 7675): what renews it, and what its end ends.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod plans;
mod show;
mod world;

use sfu::control::protocol::EndReason;
use sfu::stats::DropReason;
use show::{FRAME, Show, elsewhere};
use std::time::Duration;
use world::Client;

#[test]
fn consent_ends_thirty_seconds_after_the_last_authentic_packet_and_sending_with_it() {
    let mut show = Show::start();
    show.play(100);
    let viewer = show.viewer;
    show.world.mute(viewer);
    let heard = show.world.heard(viewer);
    let end = heard + Duration::from_secs(30);
    while show.world.now() + FRAME * 2 < end {
        show.play(1);
    }
    show.world.run(end - show.world.now());
    assert_eq!(show.world.end_of(viewer), None, "not before");
    let sent = show.world.wire(viewer).len();
    assert_eq!(sent as u64, show.frames, "it was sent to until then");
    show.world.run(Duration::from_millis(5));
    assert_eq!(show.world.end_of(viewer), Some(EndReason::ConsentExpired));
    show.play(10);
    assert_eq!(show.world.wire(viewer).len(), sent, "and nothing more");
}

#[test]
fn reports_alone_are_consent_and_so_is_media() {
    let mut show = Show::start();
    show.world.mute_stun(show.viewer);
    show.world.mute_stun(show.publisher);
    show.play(2_000); // a minute
    show.assert_unbroken();
}

#[test]
fn a_viewer_that_is_heard_from_elsewhere_only_is_sent_nothing_after_thirty_seconds() {
    let mut show = Show::start();
    let old = show.world.client(show.viewer).address();
    show.world.client(show.viewer).move_to(elsewhere(1));
    show.world.lose_checks();
    show.play(1_100); // 33 s
    assert_eq!(show.world.end_of(show.viewer), Some(EndReason::ConsentExpired));
    let sent = show.world.sent_to(old);
    show.play(100);
    assert_eq!(show.world.sent_to(old), sent);
}

#[test]
fn a_publisher_that_is_heard_from_elsewhere_only_goes_on_but_is_sent_nothing() {
    let mut show = Show::start();
    let old = show.world.client(show.publisher).address();
    show.world.client(show.publisher).move_to(elsewhere(1));
    show.world.lose_checks();
    show.play(1_100);
    let sent = show.world.sent_to(old);
    show.play(500);
    assert_eq!(show.world.sent_to(old), sent);
    assert!(show.world.dropped(0, DropReason::UnprovenAddress) > 0, "its reports are withheld");
    show.assert_unbroken();
}

#[test]
fn forged_packets_are_no_consent() {
    let mut show = Show::start();
    let (viewer, publisher) = (show.viewer, show.publisher);
    show.world.mute(viewer);
    show.world.mute(publisher);
    let replayed = show.world.last_rtcp_from(viewer);
    let ufrag = show.world.ufrag(viewer);
    for _ in 0..350 {
        show.world.inject_as(viewer, &replayed);
        show.world.inject_as(viewer, &Client::forged_binding_request(&format!("{ufrag}:x")));
        show.world.inject_as(publisher, &Client::forged_rtp(1000));
        show.world.run(Duration::from_millis(100));
    }
    assert_eq!(show.world.end_of(viewer), Some(EndReason::ConsentExpired));
    assert_eq!(show.world.end_of(publisher), Some(EndReason::ConsentExpired));
}

#[test]
fn a_deleted_viewer_is_sent_nothing_more_and_what_it_still_sends_is_no_strangers() {
    let mut show = Show::start();
    let viewer = show.viewer;
    let session = show.world.session(viewer);
    show.world.delete(0, session);
    let sent = show.world.wire(viewer).len();
    show.play(40);
    assert_eq!(show.world.wire(viewer).len(), sent);
    assert!(!show.world.client(viewer).is_alive(), "it got the close_notify");
    assert_eq!(show.world.end_of(viewer), Some(EndReason::Deleted));
    let check = show.world.good_check(viewer, true);
    show.world.inject_as(viewer, &check);
    for reason in [DropReason::UnknownAddress, DropReason::UnknownUfrag, DropReason::Rejected] {
        assert_eq!(show.world.dropped(0, reason), 0, "{reason:?}");
    }
    assert_eq!(show.world.snapshot(0).viewers, 0);
}

#[test]
fn a_client_that_closes_dtls_is_sent_nothing_more() {
    let mut show = Show::start();
    let viewer = show.viewer;
    show.world.client(viewer).close();
    show.world.run(Duration::from_millis(5));
    assert_eq!(show.world.end_of(viewer), Some(EndReason::ClosedByPeer));
    let sent = show.world.wire(viewer).len();
    show.play(40);
    assert_eq!(show.world.wire(viewer).len(), sent);
    assert_eq!(show.world.dropped(0, DropReason::UnknownAddress), 0);
}
