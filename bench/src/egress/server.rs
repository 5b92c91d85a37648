//! Egress by the server itself: its core and its ring, as a worker drives them.

use super::Case;
use super::ring::ServerRing;
use crate::client;
use crate::clock::Split;
use crate::error::Error;
use crate::inputs::{self, DATAGRAM_BYTES};
use crate::sink::Sink;
use sfu::core::forwarder::Forwarder;
use sfu::core::identity::Identity;
use sfu::core::packet::MediaPacket;
use std::time::{Duration, Instant};

/// Virtual time between two frames. A real one is 33 ms, but the viewers answer no consent checks and would be given up
/// after 15 s; so the timers of the sessions are outside this figure.
const FRAME_INTERVAL: Duration = Duration::from_millis(1);
/// Packets that each viewer is sent before anything is measured, in frames of [`SETTLING_FRAME`]: str0m keeps 512 a viewer
/// for retransmission, and until then each new one costs fresh memory.
const SETTLING_PACKETS: usize = 528;
/// Large frames, so that settling takes little virtual time.
const SETTLING_FRAME: usize = 16;
/// RTP clock ticks between two frames: 30 a second.
const FRAME_TICKS: u32 = 3_000;

/// N viewers, connected in memory; what is sent to them goes to real addresses.
pub struct Server {
    forwarder: Forwarder,
    ring: ServerRing,
    viewers: usize,
    now: Instant,
    next: MediaPacket,
}

impl Server {
    /// Connects one viewer for each target of `sink`, about 1.5 ms each.
    pub fn new(sink: &Sink, identity: Identity) -> Result<Server, Error> {
        let ring = ServerRing::new(sink)?;
        let server = ring.address()?;
        let fingerprint = identity.fingerprint;
        let mut forwarder = inputs::forwarder(identity, server);
        let start = Instant::now();
        let mut joined = Duration::ZERO;
        for (viewer, &target) in sink.targets().iter().enumerate() {
            // All join in the same moment of virtual time, so that none is old when the last has come.
            let took = client::join(viewer, start, target.into(), server, &mut forwarder, fingerprint)?;
            joined = joined.max(took);
        }
        let mut next = inputs::packet();
        next.header.keyframe = true;
        let (now, viewers) = (start + joined, sink.targets().len());
        let mut server = Server { forwarder, ring, viewers, now, next };
        server.settle();
        Ok(server)
    }

    /// Fills the viewers' retransmission memory without sending.
    fn settle(&mut self) {
        for _ in 0..SETTLING_PACKETS / SETTLING_FRAME {
            self.fan_out(SETTLING_FRAME);
            self.forwarder.out.transmits.clear();
        }
    }

    /// What a worker's turn does with a frame, up to the datagrams for the kernel.
    fn fan_out(&mut self, packets: usize) {
        self.now += FRAME_INTERVAL;
        self.take_frame(packets);
        self.forwarder.fan_out(self.now);
        self.forwarder.forwarded.clear();
    }

    /// A frame as it would come from another worker.
    fn take_frame(&mut self, packets: usize) {
        for index in 0..packets {
            let mut packet = self.next.clone();
            packet.header.marker = index + 1 == packets;
            (packet.header.captured, packet.header.received) = (self.now, self.now);
            self.forwarder.handle_packet(packet);
            self.next.header.sequence += 1;
            self.next.header.keyframe = false;
        }
        self.next.header.timestamp = self.next.header.timestamp.wrapping_add(FRAME_TICKS);
    }

    /// RTP packets and bytes so far.
    fn sent(&self) -> (u64, u64) {
        let counters = &self.forwarder.meters.counters;
        (counters.rtp_packets_out, counters.rtp_bytes_out)
    }

    /// As the worker does it.
    fn hand_over(&mut self, split: &mut Split) -> Result<(), Error> {
        for transmit in self.forwarder.out.transmits.drain(..) {
            self.ring.send(transmit.to, transmit.contents, split)?;
        }
        self.ring.flush(split)
    }
}

impl Case for Server {
    fn name(&self) -> &'static str {
        "the server"
    }

    fn turn(&mut self, packets: usize, split: &mut Split) -> Result<(), Error> {
        let (packets_before, bytes_before) = self.sent();
        self.fan_out(packets);
        self.hand_over(split)?;
        let (packets_after, bytes_after) = self.sent();
        let (sent, expected) = (packets_after - packets_before, (packets * self.viewers) as u64);
        if sent != expected || bytes_after - bytes_before != expected * DATAGRAM_BYTES as u64 {
            return Err(Error::Missing { case: self.name(), sent, expected });
        }
        Ok(())
    }
}
