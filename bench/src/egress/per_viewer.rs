//! Egress by a str0m `Rtc` for each viewer: the server's own core and ring, as a worker drives them.

use super::Case;
use crate::client;
use crate::clock::Split;
use crate::error::Error;
use crate::inputs::{self, DATAGRAM_BYTES};
use crate::sink::Sink;
use sfu::core::forwarder::Forwarder;
use sfu::core::identity::Identity;
use sfu::core::packet::MediaPacket;
use sfu::driver::{Driver, DriverConfig, SocketIndex, Waker, open_sockets};
use std::net::SocketAddr;
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
pub struct PerViewer {
    forwarder: Forwarder,
    driver: Driver,
    batch: usize,
    viewers: usize,
    now: Instant,
    next: MediaPacket,
}

impl PerViewer {
    /// Connects one viewer for each target of `sink`, about 1.5 ms each.
    pub fn new(sink: &Sink, identity: Identity) -> Result<PerViewer, Error> {
        let config = DriverConfig::default();
        let driver = driver(sink, config)?;
        let server = driver.sockets()[0].local_addr()?;
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
        let (now, viewers, batch) = (start + joined, sink.targets().len(), config.ring_entries as usize);
        let mut per_viewer = PerViewer { forwarder, driver, batch, viewers, now, next };
        per_viewer.settle();
        Ok(per_viewer)
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

    /// As the worker does it; the queue is submitted when it is full, as the driver would by itself.
    fn hand_over(&mut self, split: &mut Split) -> Result<(), Error> {
        let mut queued = 0;
        for transmit in self.forwarder.out.transmits.drain(..) {
            if queued == self.batch {
                submit(&mut self.driver, split)?;
                queued = 0;
            }
            let socket = SocketIndex::new(transmit.socket as u16);
            // A datagram that found no slot is counted by the driver, and missed at the sink.
            let _ = self.driver.send(socket, transmit.to, transmit.contents);
            queued += 1;
        }
        submit(&mut self.driver, split)
    }
}

impl Case for PerViewer {
    fn name(&self) -> &'static str {
        "str0m per viewer"
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

/// The server's ring with one socket that can reach the sink.
pub(super) fn driver(sink: &Sink, config: DriverConfig) -> Result<Driver, Error> {
    let local: SocketAddr = sink.sending_socket()?.local_addr()?;
    Ok(Driver::new(open_sockets(&[local.ip()], 0)?, &Waker::new()?, config)?)
}

/// Gives the queue to the kernel and takes the ended sends back.
pub(super) fn submit(driver: &mut Driver, split: &mut Split) -> Result<(), Error> {
    split.kernel(|| driver.wait(Some(Duration::ZERO)))?;
    driver.reap(|_| {});
    Ok(())
}
