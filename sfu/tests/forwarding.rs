//! The forwarding core with real WebRTC peers, virtual time and no sockets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod plans;
mod world;

use plans::plan_h264;
use sfu::control::protocol::EndReason;
use sfu::core::codec::{Codec, H264Profile};
use sfu::core::outbox::SessionEvent;
use sfu::core::plan::{Epoch, Role};
use sfu::stats::DropReason;
use std::time::Duration;
use world::{Client, World};

const IDR: &[u8] = &[0x65, 0x88, 0x84, 0x00];
const SLICE: &[u8] = &[0x41, 0x9a, 0x24, 0x00];

#[test]
fn a_published_frame_reaches_viewers_on_the_same_and_on_another_worker() {
    let mut world = World::new(2);
    let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    let near = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    let far = world.join(1, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    for turn in 0..30u64 {
        let payload = if turn == 0 { IDR } else { SLICE };
        world.client(publisher).send_video(turn, payload);
        world.run(Duration::from_millis(33));
    }
    for viewer in [near, far] {
        let received = world.client(viewer).received();
        assert_eq!(received.len(), 30, "every packet arrives once");
        assert_eq!(&*received[0].payload, IDR);
        assert!(received.windows(2).all(|pair| *pair[1].seq_no == *pair[0].seq_no + 1));
        assert!(*received[0].seq_no < 0x8000, "receivers do not search the roll-over counter");
    }
}

#[test]
fn a_joining_viewer_starts_at_a_key_frame_that_the_publisher_was_asked_for() {
    let mut world = World::new(1);
    let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    world.run(Duration::from_secs(1));
    world.client(publisher).send_video(0, IDR);
    world.client(publisher).send_video(1, SLICE);
    world.run(Duration::from_secs(1));
    world.client(publisher).take_keyframe_requests();
    let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_millis(200));
    world.client(publisher).send_video(2, SLICE);
    world.run(Duration::from_millis(200));
    assert_eq!(world.client(viewer).received().len(), 0, "a decoder cannot start here");
    let asked = world.client(publisher).take_keyframe_requests();
    assert!((1..=2).contains(&asked), "one request, repeated at most once, not {asked}");
    world.client(publisher).send_video(3, IDR);
    world.run(Duration::from_millis(100));
    assert_eq!(&*world.client(viewer).received()[0].payload, IDR);
}

#[test]
fn a_lost_packet_comes_again_in_both_directions() {
    let mut world = World::new(1);
    let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    for turn in 0..100u64 {
        let payload = if turn == 0 { IDR } else { SLICE };
        world.lose_next_from(publisher, turn % 10 == 5);
        world.lose_next_to(viewer, turn % 10 == 7);
        world.client(publisher).send_video(turn, payload);
        world.run(Duration::from_millis(20));
    }
    world.run(Duration::from_secs(1));
    let mut sequences: Vec<u64> =
        world.client(viewer).received().iter().map(|packet| *packet.seq_no).collect();
    sequences.sort_unstable();
    sequences.dedup();
    assert_eq!(sequences.len(), 100, "what was lost was sent again");
    assert!(world.lost() >= 15, "packets were really lost: {}", world.lost());
}

#[test]
fn viewers_follow_the_newest_publisher_without_a_jump() {
    let mut world = World::new(2);
    let old = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    let viewer = world.join(1, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    world.client(old).send_video(0, IDR);
    world.run(Duration::from_millis(100));
    let new = world.join(1, plan_h264(Role::Publisher, Epoch(2)));
    world.run(Duration::from_secs(1));
    world.client(new).send_video(0, IDR);
    world.run(Duration::from_millis(100));
    world.client(old).send_video(1, IDR);
    world.run(Duration::from_millis(100));
    let received = world.client(viewer).received();
    assert_eq!(received.len(), 2, "the old publisher is heard no more");
    assert_eq!(*received[1].seq_no, *received[0].seq_no + 1);
    let gap = received[1].header.timestamp.wrapping_sub(received[0].header.timestamp);
    assert!((90_000..120_000).contains(&gap), "time went on by {gap} ticks");
    assert_eq!(world.dropped(1, DropReason::Superseded), 1);
}

#[test]
fn a_viewer_that_cannot_play_the_codec_is_ended_with_that_reason() {
    let mut world = World::new(1);
    let mut high = plan_h264(Role::Publisher, Epoch(1));
    high.sections[0].payloads[0].codec = Codec::H264 { profile: H264Profile::High, packetization_mode: 1 };
    let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    let publisher = world.join(0, high);
    world.run(Duration::from_secs(1));
    world.client(publisher).send_video(0, IDR);
    world.run(Duration::from_secs(1));
    let session = world.session(viewer);
    assert!(world.events().contains(&SessionEvent::Ended(session, EndReason::CodecMismatch)));
    assert!(!world.client(viewer).is_alive(), "the client heard close_notify");
    assert_eq!(world.client(viewer).received().len(), 0);
}

#[test]
fn sessions_that_never_connect_and_those_that_fall_silent_are_freed() {
    let mut world = World::new(1);
    let absent = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.mute(absent);
    let leaver = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(2));
    world.mute(leaver);
    world.run(Duration::from_secs(45));
    let (absent, leaver) = (world.session(absent), world.session(leaver));
    assert!(world.events().contains(&SessionEvent::Ended(absent, EndReason::ConnectTimeout)));
    assert!(world.events().contains(&SessionEvent::Ended(leaver, EndReason::ConsentExpired)));
    assert_eq!(world.snapshot(0).viewers, 0);
}

#[test]
fn a_client_that_closes_is_gone_at_once_and_a_deleted_one_is_told() {
    let mut world = World::new(1);
    let closer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    let deleted = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    world.client(closer).close();
    let victim = world.session(deleted);
    world.delete(0, victim);
    world.run(Duration::from_millis(200));
    let closer = world.session(closer);
    assert!(world.events().contains(&SessionEvent::Ended(closer, EndReason::ClosedByPeer)));
    assert!(world.events().contains(&SessionEvent::Ended(victim, EndReason::Deleted)));
    assert!(!world.client(deleted).is_alive());
}

#[test]
fn strangers_change_nothing_and_are_counted_by_reason() {
    let mut world = World::new(1);
    let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    let rtp = [&[0x80, 96][..], &[0; 30]].concat();
    let dtls = [&[22, 254, 253][..], &[0; 30]].concat();
    world.inject(0, &[0xff; 40]);
    world.inject(0, &rtp);
    world.inject(0, &dtls);
    world.inject(0, &Client::forged_binding_request("00000000000000000000ffff:x"));
    let ufrag = world.ufrag(publisher);
    world.inject(0, &Client::forged_binding_request(&format!("{ufrag}:x")));
    world.client(publisher).send_video(0, IDR);
    world.run(Duration::from_millis(100));
    assert_eq!(world.client(viewer).received().len(), 1);
    assert_eq!(world.dropped(0, DropReason::NotMedia), 1);
    assert_eq!(world.dropped(0, DropReason::UnknownAddress), 2);
    assert_eq!(world.dropped(0, DropReason::UnknownUfrag), 1);
    assert_eq!(world.dropped(0, DropReason::Rejected), 1);
    assert_eq!(world.sent_to_stranger(), 0, "no byte goes to who did not prove himself");
}

#[test]
fn a_publisher_that_connects_and_sends_nothing_is_reported_as_silent() {
    let mut world = World::new(1);
    let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    world.run(Duration::from_secs(2));
    let session = world.session(publisher);
    let silent = SessionEvent::Silence(session, true);
    assert!(!world.events().contains(&silent), "not yet");
    world.run(Duration::from_secs(2));
    assert!(world.events().contains(&silent));
    world.client(publisher).send_video(0, IDR);
    world.run(Duration::from_millis(100));
    assert!(world.events().contains(&SessionEvent::Silence(session, false)));
}

#[test]
fn the_last_word_of_subscribing_counts_even_when_signals_wait() {
    let mut world = World::new(2);
    let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    let first = world.join(1, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    world.hold_signals(true);
    let session = world.session(first);
    world.delete(1, session);
    world.run(Duration::from_millis(100));
    let second = world.join(1, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    world.hold_signals(false);
    world.run(Duration::from_millis(100));
    world.client(publisher).send_video(0, IDR);
    world.run(Duration::from_millis(100));
    assert_eq!(world.client(second).received().len(), 1);
}

#[test]
fn a_client_with_many_addresses_is_heard_from_the_last_and_remembered_by_few() {
    let mut world = World::new(1);
    let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    let answered = (0..500).filter(|port| world.check_from(publisher, 20_000 + port)).count();
    assert!((64..=128).contains(&answered), "{answered} new addresses were taken in at once");
    world.client(publisher).send_video(0, IDR);
    world.run(Duration::from_millis(100));
    assert_eq!(world.client(viewer).received().len(), 1, "the address in use was kept");
}

#[test]
fn a_forged_packet_with_the_publishers_mid_and_a_new_ssrc_takes_no_track_away() {
    let mut world = World::new(1);
    let mut undeclared = plan_h264(Role::Publisher, Epoch(1));
    undeclared.sections[0].ssrcs.clear(); // as Chromium's simulcast offers: the mid alone ties SSRC and track
    let publisher = world.join(0, undeclared);
    let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    for turn in 0..300u64 {
        if turn == 150 {
            world.inject_as(publisher, &Client::forged_rtp(0xdead_beef));
        }
        world.client(publisher).send_video(turn, if turn == 0 { IDR } else { SLICE });
        world.run(Duration::from_millis(33));
    }
    assert_eq!(world.client(viewer).received().len(), 300);
    assert_eq!(world.dropped(0, DropReason::Rejected), 1);
}
