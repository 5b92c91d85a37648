//! Clients behind TCP: their way may be full, or gone.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod plans;
mod world;

use plans::plan_h264;
use sfu::core::demux::DatagramKind;
use sfu::core::plan::{Epoch, Role};
use sfu::core::stun::{self, Class, Message};
use sfu::stats::DropReason;
use std::net::SocketAddr;
use std::time::Duration;
use world::{Client, ClientIndex, World};

const IDR: &[u8] = &[0x65, 0x88, 0x84, 0x00];
const SLICE: &[u8] = &[0x41, 0x9a, 0x24, 0x00];
const FRAME: Duration = Duration::from_millis(33);
/// More than any frame here needs.
const ROOM: usize = 256 << 10;

/// A publisher, whose frames have numbers, and viewers.
struct Show {
    world: World,
    publisher: ClientIndex,
    frames: u64,
}

impl Show {
    fn new(mut world: World) -> Show {
        let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
        Show { world, publisher, frames: 0 }
    }

    fn frame(&mut self, payload: &[u8]) {
        self.world.client(self.publisher).send_video(self.frames, payload);
        self.frames += 1;
        self.world.run(FRAME);
    }

    fn received(&mut self, viewer: ClientIndex) -> usize {
        self.world.client(viewer).received().len()
    }

    /// A TCP viewer, alone with the publisher, who has seen a key frame and a slice.
    fn with_viewer() -> (Show, ClientIndex) {
        let mut show = Show::new(World::new(1));
        let viewer = show.world.join_tcp(0, plan_h264(Role::Viewer, Epoch(0)));
        show.world.run(Duration::from_secs(1));
        show.frame(IDR);
        show.frame(SLICE);
        assert_eq!(show.received(viewer), 2);
        (show, viewer)
    }

    fn assert_no_gap(&mut self, viewer: ClientIndex) {
        let received = self.world.client(viewer).received();
        assert!(
            received.windows(2).all(|pair| *pair[1].seq_no == *pair[0].seq_no + 1),
            "a decoder would wait for more"
        );
        assert!(received.windows(2).all(|pair| pair[1].header.timestamp != pair[0].header.timestamp));
    }
}

#[test]
fn clients_without_udp_publish_to_and_watch_every_worker_at_one_address() {
    let mut world = World::new(2);
    let publisher = world.join_tcp(1, plan_h264(Role::Publisher, Epoch(1)));
    let viewers = [0, 1].map(|worker| world.join_tcp(worker, plan_h264(Role::Viewer, Epoch(0))));
    let over_udp = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    for frame in 0..30 {
        world.client(publisher).send_video(frame, if frame == 0 { IDR } else { SLICE });
        world.run(FRAME);
    }
    for viewer in viewers.into_iter().chain([over_udp]) {
        assert_eq!(world.client(viewer).received().len(), 30);
    }
}

#[test]
fn a_viewer_whose_queue_is_full_goes_on_with_the_next_key_frame_and_misses_no_number() {
    let (mut show, viewer) = Show::with_viewer();
    let neighbour = show.world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    show.world.run(Duration::from_secs(1));
    show.world.client(show.publisher).take_keyframe_requests();
    show.world.set_room(viewer, 50);
    (0..5).for_each(|_| show.frame(SLICE));
    assert_eq!(show.received(viewer), 2);
    assert_eq!(show.world.dropped(0, DropReason::TcpQueueFull), 5);
    assert_eq!(
        show.world.client(show.publisher).take_keyframe_requests(),
        0,
        "it is not time to ask for a key frame"
    );
    show.world.set_room(viewer, ROOM);
    (0..5).for_each(|_| show.frame(SLICE));
    assert_eq!(show.received(viewer), 2, "nothing can be decoded yet, and what was skipped is not sent late");
    assert!(show.world.client(show.publisher).take_keyframe_requests() > 0);
    show.frame(IDR);
    show.frame(SLICE);
    assert_eq!(show.received(viewer), 4);
    assert_eq!(&*show.world.client(viewer).received()[2].payload, IDR);
    show.assert_no_gap(viewer);
    assert_eq!(show.world.snapshot(0).tcp_overflows, 1);
    assert!(show.received(neighbour) >= 12, "others lost nothing");
}

#[test]
fn a_key_frame_that_came_while_the_queue_was_full_is_a_start_if_it_is_fresh() {
    let (mut show, viewer) = Show::with_viewer();
    show.world.set_room(viewer, 0);
    [SLICE, IDR, SLICE].into_iter().for_each(|frame| show.frame(frame));
    assert_eq!(show.received(viewer), 2);
    show.world.set_room(viewer, ROOM);
    show.frame(SLICE);
    show.world.run(FRAME);
    assert_eq!(show.received(viewer), 5, "the key frame and what followed it");
    assert_eq!(&*show.world.client(viewer).received()[2].payload, IDR);
    show.assert_no_gap(viewer);
}

#[test]
fn a_viewer_goes_on_only_when_most_of_its_queue_has_left() {
    let (mut show, viewer) = Show::with_viewer();
    show.world.set_room(viewer, 0);
    show.frame(SLICE);
    show.world.set_room(viewer, ROOM / 2);
    show.frame(IDR);
    assert_eq!(show.received(viewer), 2, "it would be full again at once");
    show.world.set_room(viewer, ROOM);
    show.frame(IDR);
    assert_eq!(show.received(viewer), 3);
    show.assert_no_gap(viewer);
}

#[test]
fn a_viewer_that_joins_over_a_narrow_way_is_sent_no_more_than_it_takes() {
    let mut show = Show::new(World::new(1));
    show.world.run(Duration::from_secs(1));
    let big: Vec<u8> = IDR.iter().copied().chain([7; 1000]).collect();
    show.frame(&big);
    let viewer = show.world.join_tcp(0, plan_h264(Role::Viewer, Epoch(0)));
    show.world.set_room(viewer, ROOM / 2);
    show.world.run(Duration::from_millis(300));
    assert_eq!(show.received(viewer), 0);
    show.world.set_room(viewer, ROOM);
    show.world.run(Duration::from_millis(100));
    assert_eq!(show.received(viewer), 1);
}

#[test]
fn a_viewer_that_comes_back_on_a_new_connection_goes_on_with_a_key_frame() {
    let (mut show, viewer) = Show::with_viewer();
    show.world.set_room(viewer, 0);
    show.world.run(Duration::from_millis(100));
    show.frame(SLICE);
    show.world.reconnect(viewer, 7_001);
    show.world.set_room(viewer, ROOM);
    show.world.run(Duration::from_secs(1));
    show.frame(SLICE);
    assert_eq!(show.received(viewer), 2);
    show.frame(IDR);
    show.frame(SLICE);
    assert_eq!(show.received(viewer), 4, "the session is the same, only its way is another");
    show.assert_no_gap(viewer);
}

#[test]
fn a_publisher_that_comes_back_on_a_new_connection_is_asked_for_key_frames_there() {
    let mut world = World::new(1);
    let publisher = world.join_tcp(0, plan_h264(Role::Publisher, Epoch(1)));
    let mut show = Show { world, publisher, frames: 0 };
    show.world.run(Duration::from_secs(1));
    show.frame(IDR);
    show.world.reconnect(publisher, 7_001);
    (0..60).for_each(|_| show.frame(SLICE));
    show.world.client(publisher).take_keyframe_requests();
    show.world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    (0..10).for_each(|_| show.frame(SLICE));
    assert!(show.world.client(publisher).take_keyframe_requests() > 0);
}

#[test]
fn the_connection_of_a_session_is_closed_some_time_after_its_end() {
    let (mut show, viewer) = Show::with_viewer();
    show.world.run(Duration::from_secs(1));
    let way = show.world.way(viewer);
    let session = show.world.session(viewer);
    show.world.delete(0, session);
    show.world.run(Duration::from_secs(1));
    assert!(show.world.worker(0).out.closes.is_empty(), "the goodbye must get through");
    show.world.run(Duration::from_secs(3));
    assert_eq!(show.world.worker(0).out.closes, [way]);
}

#[test]
fn a_connection_that_begins_with_a_forged_request_or_one_for_nobody_is_not_taken() {
    let (mut show, viewer) = Show::with_viewer();
    let (socket, address) = show.world.way(viewer);
    let ufrag = show.world.ufrag(viewer);
    for port in [6_666, address.port()] {
        let stranger = SocketAddr::new(address.ip(), port);
        for username in [format!("{ufrag}:theirs"), "0".repeat(24) + ":theirs"] {
            let request = Client::forged_binding_request(&username);
            assert!(!show.world.connect_from(viewer, stranger, &request));
            assert!(show.world.worker(0).out.transmits.is_empty());
            assert_eq!(show.world.worker(0).knows(socket, stranger), stranger == address);
        }
    }
    show.frame(SLICE);
    assert_eq!(show.received(viewer), 3, "who was there before is there still");
}

#[test]
fn a_client_in_the_wrong_role_is_told_so_and_may_check_again_on_its_connection() {
    let (mut show, viewer) = Show::with_viewer();
    let (socket, mut address) = show.world.way(viewer);
    address.set_port(7_001);
    let (confused, nomination) = (show.world.confused_check(viewer), show.world.good_check(viewer, true));
    assert!(show.world.connect_from(viewer, address, &confused), "the answer has a way to leave");
    let answers = std::mem::take(&mut show.world.worker(0).out.transmits);
    let classes: Vec<Class> =
        answers.iter().map(|answer| Message::parse(&answer.contents).unwrap().class).collect();
    assert_eq!(classes, [Class::Error]);
    assert!(answers.iter().all(|answer| (answer.socket, answer.to) == (socket, address)));
    show.world.run(Duration::from_secs(1));
    assert_eq!(show.world.asked_of(address), None, "it has nominated nothing");
    show.world.inject_from(viewer, address, &nomination);
    show.world.run(Duration::from_millis(5));
    assert!(show.world.asked_of(address).is_some(), "and now it has");
    let session = show.world.session(viewer);
    show.world.delete(0, session);
    show.world.run(Duration::from_secs(4));
    assert!(show.world.worker(0).out.closes.contains(&(socket, address)), "it ends with the session");
}

#[test]
fn a_viewer_whose_connection_is_gone_is_followed_to_where_it_is_heard_without_waiting() {
    for is_heard_before in [true, false] {
        let (mut show, viewer) = Show::with_viewer();
        let other = SocketAddr::from(([10, 0, 9, 9], 6));
        let check = show.world.good_check(viewer, false); // without nomination, as Firefox checks
        show.world.mute(viewer);
        if is_heard_before {
            show.world.inject_from(viewer, other, &check);
        }
        show.world.run(Duration::from_millis(5));
        assert_eq!(show.world.asked_of(other), None, "its connection is there");
        show.world.disconnect(viewer);
        if !is_heard_before {
            show.world.inject_from(viewer, other, &check);
        }
        show.frame(IDR);
        let transaction = show.world.asked_of(other).expect("a check of ours");
        assert!(!media_was_sent_to(&show.world, other), "it has not answered yet");
        let theirs = show.world.client(viewer).credentials().pwd;
        show.world.inject_from(viewer, other, &stun::success(transaction, other, &theirs));
        show.frame(IDR);
        assert!(media_was_sent_to(&show.world, other));
    }
}

#[test]
fn a_connection_that_is_gone_is_no_place_to_follow_a_viewer_to() {
    let (mut show, viewer) = Show::with_viewer();
    let (socket, mut second) = show.world.way(viewer);
    second.set_port(7_001);
    let check = show.world.good_check(viewer, false);
    show.world.mute(viewer);
    assert!(show.world.connect_from(viewer, second, &check));
    let now = show.world.now();
    show.world.worker(0).disconnected(now, socket, second);
    show.world.disconnect(viewer);
    show.world.run(Duration::from_secs(4));
    assert_eq!(show.world.asked_of(second), None);
}

fn media_was_sent_to(world: &World, address: SocketAddr) -> bool {
    let is_media = |contents: &[u8]| DatagramKind::of(contents) == Some(DatagramKind::Rtp);
    world.to_stranger().iter().any(|transmit| transmit.to == address && is_media(&transmit.contents))
}
