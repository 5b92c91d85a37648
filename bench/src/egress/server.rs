//! Egress by the server itself: its core and its ring, as a worker drives them.

use super::Case;
use super::ring::{Departing, ServerRing};
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
/// RTP clock ticks between two frames: 30 a second.
const FRAME_TICKS: u32 = 3_000;

/// N viewers, connected in memory; what is sent to them goes to real addresses.
pub struct Server {
    forwarder: Forwarder,
    ring: ServerRing,
    viewers: usize,
    now: Instant,
    next: MediaPacket,
    is_settled: bool,
}

/// 3000 viewers of 1.2 kB are 3.6 MB, of 20 such packets 72 MB: nine turns of what viewers who catch up share.
const SETTLING_TURNS: usize = 20;

impl Server {
    /// Connects one viewer for each target of `sink`, about 1.5 ms each.
    pub fn new(sink: &Sink, identity: Identity) -> Result<Server, Error> {
        let ring = ServerRing::new(sink)?;
        let server = ring.address()?;
        let fingerprint = identity.fingerprint;
        let mut forwarder = inputs::forwarder(identity);
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
        Ok(Server { forwarder, ring, viewers, now, next, is_settled: false })
    }

    /// What a worker's turn does with a frame.
    fn fan_out(&mut self, packets: usize, split: &mut Split) -> Result<(), Error> {
        self.now += FRAME_INTERVAL;
        self.take_frame(packets);
        let mut departing = Departing { ring: &mut self.ring, split, failed: Ok(()) };
        self.forwarder.fan_out(self.now, &mut departing);
        departing.failed?;
        self.forwarder.forwarded.clear();
        self.ring.flush(split)
    }

    /// A frame as it would come from another worker.
    fn take_frame(&mut self, packets: usize) {
        for index in 0..packets {
            let mut packet = self.next.clone();
            packet.header.marker = index + 1 == packets;
            (packet.header.captured, packet.header.received) = (self.now, self.now);
            self.forwarder.handle_packet(packet, false);
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
}

impl Case for Server {
    fn name(&self) -> &'static str {
        "the server"
    }

    fn turn(&mut self, packets: usize, split: &mut Split) -> Result<(), Error> {
        if !std::mem::replace(&mut self.is_settled, true) {
            // Viewers start at a key frame, and catch up with bounds; the first turn of each case is not measured.
            (0..SETTLING_TURNS).try_for_each(|_| self.fan_out(1, split))?;
        }
        let (packets_before, bytes_before) = self.sent();
        self.fan_out(packets, split)?;
        let (packets_after, bytes_after) = self.sent();
        let (sent, expected) = (packets_after - packets_before, (packets * self.viewers) as u64);
        if sent != expected || bytes_after - bytes_before != expected * DATAGRAM_BYTES as u64 {
            return Err(Error::Missing { case: self.name(), sent, expected });
        }
        Ok(())
    }
}
