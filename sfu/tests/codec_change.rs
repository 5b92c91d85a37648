//! A publisher that comes back with another codec, before viewers that play both and viewers that do not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod plans;
mod world;

use plans::{PT, plan_h264};
use sfu::control::protocol::EndReason;
use sfu::core::codec::Codec;
use sfu::core::outbox::SessionEvent;
use sfu::core::plan::{Epoch, Feedback, Payload, PayloadType, Role, SessionPlan};
use std::time::Duration;
use world::{ClientIndex, World};

const IDR: &[u8] = &[0x65, 0x88, 0x84, 0x00];
/// A payload descriptor that begins a frame, and the frame's first byte: a key frame (RFC 7741 §4.3).
const VP8_KEYFRAME: &[u8] = &[0x10, 0x00, 0x00, 0x00];
const VP8_PT: u8 = 96;

/// The same payload type as for H264 carries VP8.
fn vp8_publisher() -> SessionPlan {
    let mut plan = plan_h264(Role::Publisher, Epoch(2));
    plan.sections[0].payloads[0].codec = Codec::Vp8;
    plan
}

fn viewer_of_both() -> SessionPlan {
    let mut plan = plan_h264(Role::Viewer, Epoch(0));
    let feedback = Feedback { nack: true, pli: true, ..Feedback::default() };
    plan.sections[0].payloads.push(Payload {
        pt: PayloadType(VP8_PT),
        rtx: None,
        codec: Codec::Vp8,
        feedback,
    });
    plan
}

/// Payload types of the viewer's video, each once for every change.
fn payload_types(world: &World, viewer: ClientIndex) -> Vec<u8> {
    let rtp =
        world.wire(viewer).iter().filter(|bytes| bytes[0] >> 6 == 2 && !(192..=223).contains(&bytes[1]));
    let mut pts: Vec<u8> = rtp.map(|bytes| bytes[1] & 0x7f).collect();
    pts.dedup();
    pts
}

/// Half a second of H264 from one publisher, then of VP8 from the one that replaces it.
fn change_codec(world: &mut World) {
    let first = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    world.run(Duration::from_secs(1));
    for frame in 0..15 {
        world.client(first).send_video(frame, IDR);
        world.run(Duration::from_millis(33));
    }
    let second = world.join(0, vp8_publisher());
    world.run(Duration::from_secs(1));
    for frame in 0..15 {
        world.client(second).send_video(frame, VP8_KEYFRAME);
        world.run(Duration::from_millis(33));
    }
}

#[test]
fn a_viewer_that_plays_both_codecs_gets_each_under_its_own_payload_type() {
    let mut world = World::new(1);
    let viewer = world.join(0, viewer_of_both());
    change_codec(&mut world);
    assert_eq!(payload_types(&world, viewer), [PT, VP8_PT]);
}

#[test]
fn a_viewer_that_lacks_the_new_codec_is_told_instead_of_sent_something_it_cannot_play() {
    let mut world = World::new(1);
    let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
    change_codec(&mut world);
    let session = world.session(viewer);
    assert!(world.events().contains(&SessionEvent::Ended(session, EndReason::CodecMismatch)));
    assert_eq!(payload_types(&world, viewer), [PT]);
    let before = world.wire(viewer).len();
    world.run(Duration::from_secs(1));
    assert_eq!(world.wire(viewer).len(), before, "nothing follows the goodbye");
}
