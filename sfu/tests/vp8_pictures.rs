//! A viewer's VP8 pictures are numbered without a break, wherever they come from.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod plans;
mod world;

use plans::{plan_h264, plan_simulcast, without_rtx};
use sfu::control::protocol::LayerChoice;
use sfu::core::codec::Codec;
use sfu::core::plan::{Epoch, Role, SessionPlan};
use std::time::Duration;
use world::{ClientIndex, World};

const FRAME: Duration = Duration::from_millis(33);
/// From one key frame to the next.
const GROUP: u64 = 10;

fn vp8(mut plan: SessionPlan) -> SessionPlan {
    plan.sections[0].payloads[0].codec = Codec::Vp8;
    plan
}

/// An encoder that counts its pictures from somewhere.
#[derive(Clone, Copy)]
struct Encoder {
    picture_id: u16,
    tl0_pic_idx: u8,
}

impl Encoder {
    /// A picture in one packet, with a long picture id and TL0PICIDX (RFC 7741 §4.2), 320 pixels wide if it is a key frame.
    fn picture(self, frame: u64) -> Vec<u8> {
        let [high, low] = self.picture_id.wrapping_add(frame as u16).to_be_bytes();
        let tl0_pic_idx = self.tl0_pic_idx.wrapping_add(frame as u8);
        let inter = u8::from(!frame.is_multiple_of(GROUP));
        let keyframe = [inter, 0, 0, 0x9d, 0x01, 0x2a, 64, 1, 180, 0];
        [&[0x90, 0xe0, 0x80 | high, low, tl0_pic_idx, 0][..], &keyframe].concat()
    }
}

/// What the viewer received, by sequence number: picture ids and TL0PICIDX.
fn numbers(world: &mut World, viewer: ClientIndex) -> Vec<(u16, u8)> {
    let mut packets: Vec<_> = world.client(viewer).received().iter().collect();
    packets.sort_unstable_by_key(|packet| *packet.seq_no);
    packets.dedup_by_key(|packet| *packet.seq_no);
    let numbers = |payload: &[u8]| (u16::from_be_bytes([payload[2], payload[3]]) & 0x7fff, payload[4]);
    packets.iter().map(|packet| numbers(&packet.payload)).collect()
}

fn assert_unbroken(numbers: &[(u16, u8)]) {
    for pair in numbers.windows(2) {
        let [(id, tl0_pic_idx), next] = pair else { panic!() };
        assert_eq!(*next, ((id + 1) & 0x7fff, tl0_pic_idx.wrapping_add(1)), "{numbers:?}");
    }
}

#[test]
fn another_publisher_goes_on_with_the_picture_numbers_of_the_first() {
    let mut world = World::new(2);
    let viewers = [0, 1].map(|worker| world.join(worker, vp8(plan_h264(Role::Viewer, Epoch(0)))));
    let first = Encoder { picture_id: 0x7ff8, tl0_pic_idx: 200 };
    let second = Encoder { picture_id: 5_000, tl0_pic_idx: 190 };
    for (epoch, encoder) in [(1, first), (2, second), (3, first)] {
        let publisher = world.join(0, vp8(plan_h264(Role::Publisher, Epoch(epoch))));
        world.run(Duration::from_secs(1));
        for frame in 0..20 {
            world.client(publisher).send_video(frame, &encoder.picture(frame));
            world.run(FRAME);
        }
    }
    for viewer in viewers {
        let numbers = numbers(&mut world, viewer);
        assert_eq!((numbers.len(), numbers[0]), (60, (0x7ff8, 200)), "the first one's are as they were");
        assert_unbroken(&numbers);
    }
}

#[test]
fn another_layer_goes_on_with_the_picture_numbers_of_the_one_before_also_in_what_is_sent_again() {
    change_layers(plan_h264(Role::Viewer, Epoch(0)));
}

#[test]
fn without_rtx_what_is_sent_again_has_the_same_picture_numbers_as_before() {
    let (world, viewer) = change_layers(without_rtx(plan_h264(Role::Viewer, Epoch(0))));
    let wire = world.wire(viewer);
    assert!(wire.len() > 200, "something was sent again");
    for packet in wire {
        let mut same = wire.iter().filter(|other| other[2..4] == packet[2..4]);
        assert!(same.all(|other| other == packet), "one number, one text");
    }
}

/// A viewer who changes between layers and loses packets.
fn change_layers(viewer: SessionPlan) -> (World, ClientIndex) {
    let mut world = World::new(1);
    let publisher = world.join(0, vp8(plan_simulcast(Epoch(1), &["q", "f"])));
    let viewer = world.join(0, vp8(viewer));
    world.run(Duration::from_secs(1));
    let encoders =
        [Encoder { picture_id: 9_000, tl0_pic_idx: 80 }, Encoder { picture_id: 100, tl0_pic_idx: 60 }];
    let mut changes = 0;
    for frame in 0..200 {
        if frame % 40 == 20 {
            let rid = Some(["q", "f"][changes % 2].to_owned());
            world.select_layer(viewer, LayerChoice { rid, ..LayerChoice::default() });
            changes += 1;
        }
        world.lose_next_to(viewer, frame % 10 == 9); // before each key frame
        for (layer, encoder) in encoders.iter().enumerate() {
            world.client(publisher).send_layer(layer, frame, frame, &encoder.picture(frame));
        }
        world.run(FRAME);
    }
    world.lose_next_to(viewer, false);
    world.run(Duration::from_secs(1));
    assert!(world.lost() >= 15, "{}", world.lost());
    let numbers = numbers(&mut world, viewer);
    assert!(numbers.len() >= 195, "{}", numbers.len());
    assert_unbroken(&numbers);
    (world, viewer)
}
