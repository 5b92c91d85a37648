//! The floor: the same bytes, copied, sealed with each viewer's key and sent, with no server logic at all.
//!
//! Nothing is allocated once the ring's buffers have grown, which the warm-up sees to.

use super::Case;
use crate::clock::Split;
use crate::error::Error;
use crate::inputs::{DATAGRAM_BYTES, HEADER_BYTES, PAYLOAD_BYTES};
use crate::ring::{Payload, SendRing, Shot};
use crate::seal::Sealer;
use crate::sink::Sink;
use nix::sys::socket::{setsockopt, sockopt};
use std::net::SocketAddrV4;

/// Header and payload of every packet before it is sealed.
static PACKET: [u8; HEADER_BYTES + PAYLOAD_BYTES] = [0x5c; HEADER_BYTES + PAYLOAD_BYTES];
/// Datagrams between two submissions: as many as the server's ring takes, and with trains as many bytes.
const BATCH_DATAGRAMS: usize = 256;

/// A destination with a key of its own.
struct Viewer {
    to: SocketAddrV4,
    sealer: Sealer,
}

impl Viewer {
    /// Appends one sealed packet.
    fn write(&mut self, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let start = buffer.len();
        buffer.extend_from_slice(&PACKET);
        self.sealer.seal(buffer, start, HEADER_BYTES)
    }
}

/// How a frame is cut into sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// One datagram each.
    Singles,
    /// The frame as one train (UDP_SEGMENT).
    Trains,
}

/// Seals and sends by the bare ring.
pub struct Floor {
    cut: Cut,
    viewers: Vec<Viewer>,
    ring: SendRing,
}

impl Floor {
    /// One datagram per send, for each target of `sink`.
    pub fn singles(sink: &Sink) -> Result<Floor, Error> {
        Floor::new(sink, Cut::Singles)
    }

    /// One frame per send, for each target of `sink`.
    pub fn trains(sink: &Sink) -> Result<Floor, Error> {
        Floor::new(sink, Cut::Trains)
    }

    fn new(sink: &Sink, cut: Cut) -> Result<Floor, Error> {
        let viewer = |(index, &to)| Ok(Viewer { to, sealer: Sealer::aes_256(index as u64)? });
        let viewers = sink.targets().iter().enumerate().map(viewer).collect::<Result<_, Error>>()?;
        let socket = sink.sending_socket()?;
        if cut == Cut::Trains {
            setsockopt(&socket, sockopt::UdpGsoSegment, &(DATAGRAM_BYTES as i32))?;
        }
        Ok(Floor { cut, viewers, ring: SendRing::new(&[socket], BATCH_DATAGRAMS as u32)? })
    }
}

impl Case for Floor {
    fn name(&self) -> &'static str {
        match self.cut {
            Cut::Singles => "floor: seal and send",
            Cut::Trains => "floor: seal and send trains",
        }
    }

    fn turn(&mut self, packets: usize, split: &mut Split) -> Result<(), Error> {
        let (sends, per_send) = match self.cut {
            Cut::Singles => (packets, 1),
            Cut::Trains => (1, packets),
        };
        let batch = (BATCH_DATAGRAMS / per_send).max(1);
        for viewer in &mut self.viewers {
            for _ in 0..sends {
                if self.ring.in_flight() == batch {
                    split.kernel(|| self.ring.flush())?;
                }
                let mut buffer = self.ring.buffer();
                for _ in 0..per_send {
                    viewer.write(&mut buffer)?;
                }
                let payload = Payload::Own(buffer);
                self.ring.push(Shot { socket: 0, to: Some(viewer.to), payload, zero_copy: false })?;
            }
        }
        split.kernel(|| self.ring.flush())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ThreadClock;
    use crate::sink::SinkKind;

    #[test]
    fn a_turn_uses_the_buffers_of_the_turn_before() {
        let clock = ThreadClock::calibrate().expect("a clock");
        let sink = Sink::open(SinkKind::Loopback, 3).expect("sockets");
        for mut floor in [Floor::singles(&sink).expect("a floor"), Floor::trains(&sink).expect("a floor")] {
            let mut turn = || {
                Split::measure(clock, |split| floor.turn(40, split)).expect("a turn");
                assert!(sink.drain().expect("drained") > 0);
                floor.ring.spare_bytes()
            };
            let grown = turn();
            assert!(grown > 0);
            assert_eq!(turn(), grown);
        }
    }
}
