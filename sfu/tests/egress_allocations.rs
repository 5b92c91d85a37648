//! From the packet store to the send buffers nothing is allocated once it is under way.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod counting;
mod plans;
mod world;

use counting::allocations;
use plans::{STREAM, plan_h264};
use sfu::control::protocol::{LayerChoice, WorkerIndex};
use sfu::core::codec::Codec;
use sfu::core::egress::{TrainLimits, Trains};
use sfu::core::extensions::PassThrough;
use sfu::core::layers::{LayerIndex, LayerState, LayerTable, Rid};
use sfu::core::packet::{MediaPacket, PacketHeader};
use sfu::core::plan::{Epoch, Role, Ssrc};
use sfu::core::rewrite::Source;
use sfu::mesh::Signal;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use world::World;

const VIEWERS: usize = 20;
const FRAME_PACKETS: u64 = 8;
const FRAME: Duration = Duration::from_millis(33);

/// Takes trains as the driver does: their buffers are used again.
#[derive(Default)]
struct Reusing {
    spare: Vec<Vec<u8>>,
    datagrams: usize,
}

impl Trains for Reusing {
    fn limits(&self) -> TrainLimits {
        TrainLimits { segments: 128, bytes: 65_507 }
    }

    fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(65_507))
    }

    fn send(&mut self, _socket: usize, _to: SocketAddr, segment: usize, mut datagrams: Vec<u8>) {
        self.datagrams += datagrams.len().div_ceil(segment);
        datagrams.clear();
        self.spare.push(datagrams);
    }
}

fn packet(now: Instant, codec: Codec, layer: u8, sequence: u64) -> MediaPacket {
    let ssrc = Ssrc(9 + u32::from(layer));
    let header = PacketHeader {
        stream: STREAM,
        source: Source { epoch: Epoch(1), ssrc, codec, layer: LayerIndex(layer) },
        sequence,
        timestamp: (sequence / FRAME_PACKETS) as u32 * 3_000,
        marker: sequence % FRAME_PACKETS == FRAME_PACKETS - 1,
        keyframe: sequence == 0,
        captured: now,
        received: now,
        extensions: PassThrough::EMPTY,
    };
    MediaPacket { header, payload: vec![0x41; 1_100 + (sequence % 2) as usize].into() }
}

#[test]
fn two_seconds_of_video_reach_all_viewers_without_an_allocation() {
    let mut world = World::new(1);
    let plan = plan_h264(Role::Viewer, Epoch(0));
    let codec = plan.sections[0].payloads[0].codec;
    for _ in 0..VIEWERS {
        world.join(0, plan.clone());
    }
    world.run(Duration::from_secs(1));
    let (mut now, mut trains) = (world.now(), Reusing::default());
    let (forwarder, mut sequence, mut allocated) = (world.worker(0), 0, 0);
    for frame in 0..66 {
        now += FRAME;
        for _ in 0..FRAME_PACKETS {
            forwarder.handle_packet(packet(now, codec, 0, sequence), false);
            sequence += 1;
        }
        let before = allocations();
        forwarder.fan_out(now, &mut trains);
        // The first two frames make room for all that follow.
        allocated += if frame < 2 { 0 } else { allocations() - before };
        forwarder.forwarded.clear();
    }
    assert_eq!(allocated, 0);
    let packets = forwarder.snapshot().rtp_packets_out as usize;
    assert_eq!(packets, VIEWERS * sequence as usize);
    assert_eq!(
        trains.datagrams,
        packets + VIEWERS * 2,
        "and a sender report at the beginning and after two seconds"
    );
}

#[test]
fn viewers_of_different_layers_are_served_without_an_allocation() {
    let mut world = World::new(1);
    let plan = plan_h264(Role::Viewer, Epoch(0));
    let codec = plan.sections[0].payloads[0].codec;
    for viewer in 0..VIEWERS {
        let viewer = (world.join(0, plan.clone()), viewer);
        if viewer.1 % 2 == 0 {
            world.select_layer(viewer.0, LayerChoice { rid: Some("l".into()), ..LayerChoice::default() });
        }
    }
    world.run(Duration::from_secs(1));
    let (mut now, mut trains) = (world.now(), Reusing::default());
    let (forwarder, mut allocated) = (world.worker(0), 0);
    let layer = |rid, bitrate_bps| LayerState {
        rid: Rid::new(rid).unwrap(),
        is_active: true,
        bitrate_bps,
        ..LayerState::default()
    };
    let table = LayerTable { epoch: Epoch(1), layers: vec![layer("h", 2), layer("m", 1), layer("l", 0)] };
    forwarder.handle_signal(now, WorkerIndex(1), Signal::Layers(STREAM, table));
    for frame in 0..66 {
        now += FRAME;
        for sequence in frame * FRAME_PACKETS..(frame + 1) * FRAME_PACKETS {
            (0..3).for_each(|layer| forwarder.handle_packet(packet(now, codec, layer, sequence), false));
        }
        let before = allocations();
        forwarder.fan_out(now, &mut trains);
        allocated += if frame < 2 { 0 } else { allocations() - before };
        forwarder.forwarded.clear();
    }
    assert_eq!(allocated, 0);
    assert_eq!(forwarder.snapshot().rtp_packets_out, VIEWERS as u64 * 66 * FRAME_PACKETS);
}
