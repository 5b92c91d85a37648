//! ICE with real WebRTC peers in virtual time: restarts, changes of address, consent, and what strangers may not do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod plans;
mod world;

use plans::plan_h264;
use sfu::control::protocol::{EndReason, IceCredentials, RestartError};
use sfu::core::demux::DatagramKind;
use sfu::core::outbox::{SessionEvent, Transmit};
use sfu::core::plan::{DtlsRole, Epoch, Role};
use sfu::core::stun::{self, Class, Message};
use sfu::stats::DropReason;
use std::net::SocketAddr;
use std::time::Duration;
use world::{Client, ClientIndex, World};

const IDR: &[u8] = &[0x65, 0x88, 0x84, 0x00];
const SLICE: &[u8] = &[0x41, 0x9a, 0x24, 0x00];
const FRAME: Duration = Duration::from_millis(30);

/// A publisher, a viewer, and the frames that went from one to the other.
struct Show {
    world: World,
    publisher: ClientIndex,
    viewer: ClientIndex,
    frames: u64,
}

impl Show {
    fn start() -> Show {
        let mut world = World::new(1);
        let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
        let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
        world.run(Duration::from_secs(1));
        let mut show = Show { world, publisher, viewer, frames: 0 };
        show.play(30);
        show.world.client(publisher).take_keyframe_requests();
        show
    }

    fn play(&mut self, frames: u64) {
        for _ in 0..frames {
            let payload = if self.frames == 0 { IDR } else { SLICE };
            self.world.client(self.publisher).send_video(self.frames, payload);
            self.frames += 1;
            self.world.run(FRAME);
        }
    }

    /// Plays with every tenth packet lost on both ways.
    fn play_with_loss(&mut self, frames: u64) {
        for frame in 0..frames {
            self.world.lose_next_from(self.publisher, frame % 10 == 3);
            self.world.lose_next_to(self.viewer, frame % 10 == 7);
            self.play(1);
        }
        self.world.lose_next_from(self.publisher, false);
        self.world.lose_next_to(self.viewer, false);
    }

    /// A restart as WHIP and WHEP do it: the client's new credentials to the server, the server's to the client.
    fn restart(&mut self, client: ClientIndex) -> IceCredentials {
        let local = fresh_credentials(self.frames);
        let remote = self.world.restart(client, &local).unwrap();
        self.world.client(client).restart_ice(&local, &remote);
        remote
    }

    /// Every frame arrived once, decrypted, and nobody had to start anew.
    fn assert_unbroken(&mut self) {
        self.play(10);
        self.world.run(Duration::from_secs(1));
        let mut sequences: Vec<u64> =
            self.world.client(self.viewer).received().iter().map(|packet| *packet.seq_no).collect();
        sequences.sort_unstable();
        sequences.dedup();
        assert_eq!(sequences.len() as u64, self.frames, "every frame arrived");
        assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1));
        assert_eq!(self.world.client(self.publisher).take_keyframe_requests(), 0, "no key frame was needed");
        assert_eq!(self.world.end_of(self.viewer), None);
        assert_eq!(self.world.end_of(self.publisher), None);
    }

    /// The old password opens nothing any more.
    fn assert_retired(&mut self, client: ClientIndex) {
        let check = self.world.good_check(client, true);
        let before = self.world.dropped(0, DropReason::UnknownUfrag);
        self.world.inject_as(client, &check);
        assert_eq!(self.world.dropped(0, DropReason::UnknownUfrag), before + 1);
    }
}

fn fresh_credentials(number: u64) -> IceCredentials {
    IceCredentials { ufrag: format!("fresh{number}"), pwd: format!("{number:022}") }
}

fn elsewhere(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 9, 9], port))
}

fn is_dtls(datagram: &[u8]) -> bool {
    DatagramKind::of(datagram) == Some(DatagramKind::Dtls)
}

fn is_media(datagram: &[u8]) -> bool {
    DatagramKind::of(datagram) == Some(DatagramKind::Rtp)
}

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

#[test]
fn a_client_that_leaves_its_controlled_role_to_us_is_told_to_take_it() {
    let mut world = World::new(1);
    let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.client(viewer).be_controlled();
    world.run(Duration::from_secs(2));
    assert!(world.events().contains(&SessionEvent::Connected(world.session(viewer))));
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

/// What the first address of a session may be sent beside three times what came from it.
const FIRST_FLIGHT_BYTES: usize = 1_500;

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
