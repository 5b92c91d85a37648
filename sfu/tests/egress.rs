//! What viewers are sent, seen from the wire and by real WebRTC peers, in virtual time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod plans;
mod world;

use plans::{MID_ID, RTX_PT, plan_h264, without_rtx};
use sfu::core::plan::{Epoch, Role};
use sfu::stats::DropReason;
use std::time::Duration;
use world::{ClientIndex, World};

const IDR: &[u8] = &[0x65, 0x88, 0x84, 0x00];
const SLICE: &[u8] = &[0x41, 0x9a, 0x24, 0x00];
const FRAME: Duration = Duration::from_millis(33);

fn publish(world: &mut World, publisher: ClientIndex, frames: std::ops::Range<u64>) {
    for frame in frames {
        world.client(publisher).send_video(frame, if frame == 0 { IDR } else { SLICE });
        world.run(FRAME);
    }
}

fn sequences(world: &mut World, viewer: ClientIndex) -> Vec<u64> {
    let mut all: Vec<u64> = world.client(viewer).received().iter().map(|packet| *packet.seq_no).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[test]
fn a_viewer_that_joins_late_starts_at_the_stored_key_frame_at_once() {
    let mut world = World::new(2);
    let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    let first = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    publish(&mut world, publisher, 0..10);
    world.client(publisher).take_keyframe_requests();
    let late = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    publish(&mut world, publisher, 10..16);
    assert_eq!(world.client(first).received().len(), 16);
    assert_eq!(world.client(late).received().len(), 16, "the key frame and all since");
    assert_eq!(&*world.client(late).received()[0].payload, IDR);
    assert_eq!(world.client(publisher).take_keyframe_requests(), 0, "nobody had to be asked");
    let times: Vec<u32> =
        world.client(late).received().iter().map(|packet| packet.header.timestamp).collect();
    assert!(times.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) <= 3_000 && pair[1] != pair[0]));
    assert_eq!(times[15].wrapping_sub(times[14]), 3_000, "in step from then on");
    assert!(times[8].wrapping_sub(times[0]) < 3_000, "what is late is played fast: {times:?}");
}

#[test]
fn the_first_viewer_on_another_worker_starts_at_once_too() {
    let mut world = World::new(2);
    let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    world.run(Duration::from_secs(1));
    publish(&mut world, publisher, 0..10);
    world.client(publisher).take_keyframe_requests();
    let far = world.join(1, plan_h264(Role::Viewer, Epoch(0)));
    publish(&mut world, publisher, 10..16);
    assert_eq!(&*world.client(far).received()[0].payload, IDR);
    assert_eq!(world.client(far).received().len(), 16);
    assert_eq!(world.client(publisher).take_keyframe_requests(), 0, "nobody had to be asked");
}

#[test]
fn a_publisher_that_ignores_key_frame_requests_is_seen_all_the_same() {
    let mut world = World::new(1);
    let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    world.run(Duration::from_secs(1));
    publish(&mut world, publisher, 0..90);
    let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    publish(&mut world, publisher, 90..102);
    assert!(world.client(viewer).received().is_empty(), "a new key frame is waited for");
    assert!(world.client(publisher).take_keyframe_requests() >= 1);
    publish(&mut world, publisher, 102..130);
    assert_eq!(&*world.client(viewer).received()[0].payload, IDR, "then the old one is good enough");
    assert_eq!(sequences(&mut world, viewer).len(), 130, "with all that followed");
}

#[test]
fn nobody_is_shown_the_pictures_of_a_publisher_who_has_left() {
    let mut world = World::new(1);
    let former = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    publish(&mut world, former, 0..10);
    world.client(former).close();
    world.run(Duration::from_secs(4));
    let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    assert!(world.client(viewer).received().is_empty());
    let next = world.join(0, plan_h264(Role::Publisher, Epoch(2)));
    world.run(Duration::from_secs(1));
    world.client(next).send_video(1, SLICE);
    world.run(Duration::from_secs(1));
    assert!(world.client(viewer).received().is_empty(), "nor when the next one begins");
}

#[test]
fn a_viewer_starts_though_no_more_packets_come() {
    let mut world = World::new(1);
    let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    world.run(Duration::from_secs(1));
    publish(&mut world, publisher, 0..5);
    let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_millis(200));
    assert_eq!(world.client(viewer).received().len(), 5, "a paused picture");
}

#[test]
fn a_key_frame_in_several_packets_begins_with_its_parameter_sets() {
    const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1f];
    let mut world = World::new(1);
    let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    world.run(Duration::from_secs(1));
    for (packet, payload) in [SPS, IDR, IDR].into_iter().enumerate() {
        world.client(publisher).send_packet(20_000 + packet as u64, 1, payload);
    }
    world.run(FRAME);
    let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_millis(200));
    assert_eq!(&*world.client(viewer).received()[0].payload, SPS);
}

#[test]
fn a_viewer_that_did_not_negotiate_nack_is_sent_nothing_again() {
    let mut world = World::new(1);
    let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    let mut plan = without_rtx(plan_h264(Role::Viewer, Epoch(0)));
    plan.sections[0].payloads[0].feedback.nack = false;
    let viewer = world.join(0, plan);
    world.run(Duration::from_secs(1));
    for frame in 0..30u64 {
        world.lose_next_to(viewer, frame == 7);
        world.client(publisher).send_video(frame, if frame == 0 { IDR } else { SLICE });
        world.run(FRAME);
    }
    assert!(world.dropped(0, DropReason::Rejected) > 0, "it asked for it");
    let wire = world.wire(viewer);
    let mut numbers: Vec<_> = wire.iter().map(|packet| &packet[2..4]).collect();
    numbers.dedup();
    assert_eq!((wire.len(), numbers.len()), (30, 30), "one number, one text");
}

#[test]
fn a_packet_lost_to_a_viewer_without_rtx_is_sent_again_bit_by_bit() {
    let mut world = World::new(1);
    let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    let viewer = world.join(0, without_rtx(plan_h264(Role::Viewer, Epoch(0))));
    world.run(Duration::from_secs(1));
    for frame in 0..60u64 {
        world.lose_next_to(viewer, frame % 10 == 7);
        world.client(publisher).send_video(frame, if frame == 0 { IDR } else { SLICE });
        world.run(FRAME);
    }
    world.run(Duration::from_secs(1));
    assert_eq!(sequences(&mut world, viewer).len(), 60);
    assert_eq!(world.lost(), 6);
    let wire = world.wire(viewer);
    assert!(wire.len() >= 66, "{} datagrams", wire.len());
    for packet in wire {
        let same = wire.iter().filter(|other| other[2..4] == packet[2..4]);
        assert!(same.clone().all(|other| other == packet), "one number, one text");
    }
    assert_eq!(world.snapshot(0).retransmitted_packets as usize, wire.len() - 60);
}

#[test]
fn numbers_and_encryption_go_on_when_the_sequence_number_turns_round() {
    let mut world = World::new(1);
    let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    const PACKETS: u64 = 70_000;
    for packet in 0..PACKETS {
        let payload = if packet == 0 { IDR } else { SLICE };
        world.client(publisher).send_packet(65_000 + packet, (packet / 10) as u32, payload);
        if packet % 10 == 9 {
            world.lose_next_to(viewer, packet % 5_000 == 2_509);
            world.run(Duration::from_millis(5));
        }
    }
    world.run(Duration::from_secs(1));
    let received = sequences(&mut world, viewer);
    assert_eq!(received.len() as u64, PACKETS);
    assert!(received[0] < 0x8000 && received[received.len() - 1] > 0x1_0000);
    assert_eq!(world.lost(), 14);
}

#[test]
fn packets_name_their_section_until_the_receiver_has_reported() {
    let mut world = World::new(1);
    let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    publish(&mut world, publisher, 0..150);
    let has_extension: Vec<bool> = world.wire(viewer).iter().map(|packet| packet[0] & 0x10 != 0).collect();
    assert!(has_extension[0]);
    assert!(!has_extension[149], "eight bytes saved in each packet");
}

#[test]
fn retransmissions_name_their_section_however_late_they_are() {
    let mut world = World::new(1);
    let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    publish(&mut world, publisher, 0..150);
    for frame in 150..210 {
        world.lose_next_to(viewer, frame % 10 == 7);
        publish(&mut world, publisher, frame..frame + 1);
    }
    world.run(Duration::from_secs(1));
    assert_eq!((world.lost(), sequences(&mut world, viewer).len()), (6, 210));
    let (again, first): (Vec<_>, Vec<_>) =
        world.wire(viewer)[150..].iter().partition(|packet| packet[1] & 0x7f == RTX_PT);
    assert!(first.iter().all(|packet| packet[0] & 0x10 == 0), "the receiver has heard of the media");
    assert!(again.len() >= 6, "{} retransmissions", again.len());
    let mid = [0xbe, 0xde, 0, 1, MID_ID << 4, b'0', 0, 0];
    assert!(again.iter().all(|packet| packet[0] & 0x10 != 0 && packet[12..20] == mid));
}

#[test]
fn a_viewer_is_told_the_time_of_what_it_is_sent_and_that_it_ends() {
    let mut world = World::new(1);
    let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    publish(&mut world, publisher, 0..90);
    let reports: Vec<_> =
        world.client(viewer).received().iter().filter_map(|packet| packet.last_sender_info).collect();
    assert!(reports.len() >= 80, "the first report comes with the first packets: {}", reports.len());
    let (first, last) = (reports[0], reports[reports.len() - 1]);
    let wall = last.ntp_time.duration_since(first.ntp_time).unwrap().as_secs_f64();
    let media = (last.rtp_time.numer() - first.rtp_time.numer()) as f64 / 90_000.0;
    assert!(wall > 1.0 && (wall - media).abs() < 0.2, "{wall} s on the wall are {media} s of media");
}

#[test]
fn nothing_that_a_stranger_or_a_repetition_says_is_followed() {
    let mut world = World::new(1);
    let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    publish(&mut world, publisher, 0..30);
    let before = world.snapshot(0);
    world.inject_as(viewer, &[&[0x81, 206, 0, 2][..], &[7; 40]].concat());
    world.inject_as(viewer, &[&[0x80, 102, 0, 2][..], &[7; 40]].concat());
    let after = world.snapshot(0);
    let rejected = DropReason::Rejected as usize;
    assert_eq!(after.dropped[rejected] - before.dropped[rejected], 2);
    let rtcp = world.last_rtcp_from(viewer);
    world.inject_as(viewer, &rtcp);
    world.inject_as(viewer, &rtcp);
    assert_eq!(world.dropped(0, DropReason::RtcpReplayed), 2);
}
