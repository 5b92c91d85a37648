//! The floor: the same bytes, copied, sealed with each viewer's key and sent, with no server logic at all.

use super::Case;
use super::per_viewer::{driver, submit};
use crate::clock::Split;
use crate::error::Error;
use crate::inputs::{DATAGRAM_BYTES, HEADER_BYTES, PAYLOAD_BYTES};
use crate::ring::{Payload, SendRing, Shot};
use crate::seal::Sealer;
use crate::sink::Sink;
use nix::sys::socket::{setsockopt, sockopt};
use sfu::driver::{Driver, DriverConfig, SocketIndex};
use std::net::SocketAddrV4;

/// Header and payload of every packet before it is sealed.
static PACKET: [u8; HEADER_BYTES + PAYLOAD_BYTES] = [0x5c; HEADER_BYTES + PAYLOAD_BYTES];

/// A destination with a key of its own.
struct Viewer {
    to: SocketAddrV4,
    sealer: Sealer,
}

impl Viewer {
    fn all(sink: &Sink) -> Result<Vec<Viewer>, Error> {
        let viewer = |(index, &to)| Ok(Viewer { to, sealer: Sealer::aes_128(index as u64)? });
        sink.targets().iter().enumerate().map(viewer).collect()
    }

    /// Appends one sealed packet.
    fn write(&mut self, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let start = buffer.len();
        buffer.extend_from_slice(&PACKET);
        self.sealer.seal(buffer, start, HEADER_BYTES)
    }
}

/// One datagram per send, by the server's ring.
pub struct FloorSingles {
    viewers: Vec<Viewer>,
    driver: Driver,
    batch: usize,
}

impl FloorSingles {
    /// For each target of `sink`.
    pub fn new(sink: &Sink) -> Result<FloorSingles, Error> {
        let config = DriverConfig::default();
        let (viewers, driver) = (Viewer::all(sink)?, driver(sink, config)?);
        Ok(FloorSingles { viewers, driver, batch: config.ring_entries as usize })
    }
}

impl Case for FloorSingles {
    fn name(&self) -> &'static str {
        "floor: seal and send"
    }

    fn turn(&mut self, packets: usize, split: &mut Split) -> Result<(), Error> {
        let mut queued = 0;
        for viewer in &mut self.viewers {
            for _ in 0..packets {
                if queued == self.batch {
                    submit(&mut self.driver, split)?;
                    queued = 0;
                }
                let mut buffer = Vec::with_capacity(DATAGRAM_BYTES);
                viewer.write(&mut buffer)?;
                // A datagram that found no slot is missed at the sink.
                let _ = self.driver.send(SocketIndex::new(0), viewer.to.into(), buffer);
                queued += 1;
            }
        }
        submit(&mut self.driver, split)
    }
}

/// One frame per send (UDP_SEGMENT), by a ring of the same kind: the driver has no trains.
pub struct FloorTrains {
    viewers: Vec<Viewer>,
    ring: SendRing,
}

/// Datagrams in a batch of trains: as many bytes between sealing and sending as without trains.
const BATCH_DATAGRAMS: usize = 256;

impl FloorTrains {
    /// For each target of `sink`, with frames of `packets`.
    pub fn new(sink: &Sink, packets: usize) -> Result<FloorTrains, Error> {
        let socket = sink.sending_socket()?;
        setsockopt(&socket, sockopt::UdpGsoSegment, &(DATAGRAM_BYTES as i32))?;
        let batch = (BATCH_DATAGRAMS / packets.max(1)).max(1).next_power_of_two();
        Ok(FloorTrains { viewers: Viewer::all(sink)?, ring: SendRing::new(&[socket], batch as u32)? })
    }
}

impl Case for FloorTrains {
    fn name(&self) -> &'static str {
        "floor: seal and send trains"
    }

    fn turn(&mut self, packets: usize, split: &mut Split) -> Result<(), Error> {
        for viewer in &mut self.viewers {
            if self.ring.is_full() {
                split.kernel(|| self.ring.flush())?;
            }
            let mut buffer = self.ring.buffer();
            for _ in 0..packets {
                viewer.write(&mut buffer)?;
            }
            let payload = Payload::Own(buffer);
            self.ring.push(Shot { socket: 0, to: Some(viewer.to), payload, zero_copy: false })?;
        }
        split.kernel(|| self.ring.flush())?;
        Ok(())
    }
}
