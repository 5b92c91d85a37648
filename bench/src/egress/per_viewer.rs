//! Egress by a str0m `Rtc` for each viewer and nothing else: what a server costs that leaves sending to the library.

use super::Case;
use super::ring::ServerRing;
use crate::clock::Split;
use crate::endpoint::{self, Endpoint, Side, words};
use crate::error::Error;
use crate::inputs::{DATAGRAM_BYTES, PAYLOAD_BYTES, PT, SSRCS};
use crate::sink::Sink;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use str0m::rtp::RtpWrite;
use str0m::{Input, Output, Rtc};

/// Virtual time between two frames. A real one is 33 ms, but the viewers answer no consent checks and would be given up
/// after 15 s; so the timers of the connections are outside this figure.
const FRAME_INTERVAL: Duration = Duration::from_millis(1);
/// Packets that a connection keeps for retransmission: a second of 2.5 Mbit/s, several round trips.
const RETRANSMISSION_PACKETS: usize = 512;
/// Packets that each viewer is sent before anything is measured, in frames of [`SETTLING_FRAME`]: until the memory for
/// retransmission is full each new one costs fresh memory.
const SETTLING_PACKETS: usize = RETRANSMISSION_PACKETS + SETTLING_FRAME;
/// Large frames, so that settling takes little virtual time.
const SETTLING_FRAME: usize = 16;
/// RTP clock ticks between two frames: 30 a second.
const FRAME_TICKS: u32 = 3_000;

/// N connections; what is sent to them goes to real addresses.
pub struct PerViewer {
    viewers: Vec<(SocketAddr, Rtc)>,
    ring: ServerRing,
    now: Instant,
    frame: Frame,
}

/// What all viewers are sent next.
struct Frame {
    sequence: u64,
    timestamp: u32,
    packets: usize,
    payload: Arc<[u8]>,
}

/// What left in a turn.
#[derive(Default)]
struct Sent {
    packets: u64,
    bytes: u64,
}

impl PerViewer {
    /// Connects one viewer for each target of `sink`, about 1.5 ms each.
    pub fn new(sink: &Sink) -> Result<PerViewer, Error> {
        let ring = ServerRing::new(sink)?;
        let (server, start) = (ring.address()?, Instant::now());
        let mut joined = Duration::ZERO;
        let mut viewers = Vec::with_capacity(sink.targets().len());
        for (viewer, &target) in sink.targets().iter().enumerate() {
            // All join in the same moment of virtual time, so that none is old when the last has come.
            let (took, rtc) =
                connected(start, target.into(), server).map_err(|why| Error::Join { viewer, why })?;
            joined = joined.max(took);
            viewers.push((target.into(), rtc));
        }
        let payload = Arc::from([0x5c; PAYLOAD_BYTES]);
        let frame = Frame { sequence: 1, timestamp: FRAME_TICKS, packets: SETTLING_FRAME, payload };
        let mut per_viewer = PerViewer { viewers, ring, now: start + joined, frame };
        per_viewer.settle()?;
        Ok(per_viewer)
    }

    /// Fills the memory for retransmission without sending.
    fn settle(&mut self) -> Result<(), Error> {
        for _ in 0..SETTLING_PACKETS / SETTLING_FRAME {
            self.begin_frame(SETTLING_FRAME);
            for (_, rtc) in &mut self.viewers {
                self.frame.write(self.now, rtc, |_| Ok(()))?;
            }
        }
        Ok(())
    }

    fn begin_frame(&mut self, packets: usize) {
        self.now += FRAME_INTERVAL;
        self.frame.sequence += self.frame.packets as u64;
        self.frame.timestamp = self.frame.timestamp.wrapping_add(FRAME_TICKS);
        self.frame.packets = packets;
    }
}

impl Frame {
    /// Writes the frame into a connection and gives what comes out to `send`.
    fn write(
        &self,
        now: Instant,
        rtc: &mut Rtc,
        mut send: impl FnMut(Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut api = rtc.direct_api();
        if let Some(stream) = api.stream_tx(&SSRCS.media.0.into()) {
            for index in 0..self.packets {
                let sequence = self.sequence + index as u64;
                let payload = Arc::clone(&self.payload);
                let write = RtpWrite::new(PT.into(), sequence.into(), self.timestamp, now, payload);
                stream.write_rtp(write.marker(index + 1 == self.packets).nackable(true));
            }
        }
        rtc.handle_input(Input::Timeout(now)).map_err(|error| Error::Str0m(words(error)))?;
        loop {
            match rtc.poll_output().map_err(|error| Error::Str0m(words(error)))? {
                Output::Transmit(transmit) => send(transmit.contents.into())?,
                Output::Event(_) => {}
                Output::Timeout(_) => return Ok(()),
            }
        }
    }
}

impl Case for PerViewer {
    fn name(&self) -> &'static str {
        "str0m per viewer"
    }

    fn turn(&mut self, packets: usize, split: &mut Split) -> Result<(), Error> {
        self.begin_frame(packets);
        let PerViewer { viewers, ring, now, frame } = self;
        let mut sent = Sent::default();
        for (to, rtc) in viewers.iter_mut() {
            frame.write(*now, rtc, |datagram| {
                sent.count(&datagram);
                ring.send(*to, datagram, split)
            })?;
        }
        ring.flush(split)?;
        sent.check(self.name(), (packets * self.viewers.len()) as u64)
    }
}

impl Sent {
    /// Reports of the connection are sent too, and are no packets of the frame.
    fn count(&mut self, datagram: &[u8]) {
        if datagram.get(1).is_some_and(|second| second & 0x7f == PT) {
            self.packets += 1;
            self.bytes += datagram.len() as u64;
        }
    }

    fn check(&self, case: &'static str, expected: u64) -> Result<(), Error> {
        if self.packets == expected && self.bytes == expected * DATAGRAM_BYTES as u64 {
            return Ok(());
        }
        Err(Error::Missing { case, sent: self.packets, expected })
    }
}

/// A connection to a viewer at `viewer`, who is not needed any more, and the virtual time until it stood.
fn connected(now: Instant, viewer: SocketAddr, server: SocketAddr) -> Result<(Duration, Rtc), String> {
    let mut client = Endpoint::new(now, Side::Client, viewer, server)?;
    let side = Side::Server { send_buffer: RETRANSMISSION_PACKETS };
    let mut server = Endpoint::new(now, side, server, viewer)?;
    let took = endpoint::connect(now, &mut client, &mut server)?;
    Ok((took, server.into_rtc()))
}
