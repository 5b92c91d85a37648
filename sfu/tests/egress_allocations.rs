//! From the packet store to the send buffers nothing is allocated once it is under way.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod counting;
mod plans;
mod world;

use counting::allocations;
use plans::{STREAM, plan_h264};
use sfu::core::codec::Codec;
use sfu::core::egress::{TrainLimits, Trains};
use sfu::core::extensions::PassThrough;
use sfu::core::layers::LayerIndex;
use sfu::core::packet::{MediaPacket, PacketHeader};
use sfu::core::plan::{Epoch, Role, Ssrc};
use sfu::core::rewrite::Source;
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

fn packet(now: Instant, codec: Codec, sequence: u64) -> MediaPacket {
    let header = PacketHeader {
        stream: STREAM,
        source: Source { epoch: Epoch(1), ssrc: Ssrc(9), codec, layer: LayerIndex(0) },
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
            forwarder.handle_packet(packet(now, codec, sequence), false);
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
