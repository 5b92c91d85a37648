//! One TCP connection of a client: what came of a frame, what waits to leave, and where it is in its life.

use std::io;
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

use super::user_data::SocketIndex;
use crate::core::framing::{self, Deframer, LENGTH_BYTES};

/// Bytes that may wait here for one connection. The kernel holds what is on its way and 64 KiB beside it; these are 0.8 s of
/// 2.5 Mbit/s, and hold a key frame together with what a viewer is sent at once to catch up. A viewer whose link is slower than
/// the stream would see every byte more as delay.
pub const STREAM_QUEUE_BYTES: usize = 256 << 10;
/// Memory that an idle connection keeps for what it sends next: a frame of 8 Mbit/s.
const KEPT_BYTES: usize = 32 << 10;

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// What waits is still sent, nothing is received; then it ends.
    Draining,
    /// Shut down; operations in flight are ending.
    Ended,
}

/// A connection in the driver's table. It stays there until no operation of it is in flight.
pub(super) struct Connection {
    stream: TcpStream,
    pub(super) socket: SocketIndex,
    pub(super) peer: SocketAddr,
    pub(super) deframer: Deframer,
    /// What the kernel is given; in place until it has taken all.
    sending: Vec<u8>,
    sent: usize,
    /// What comes after it.
    waiting: Vec<u8>,
    pub(super) receive_in_flight: bool,
    pub(super) send_in_flight: bool,
    /// It is among those that get a send at the next submission.
    pub(super) is_listed: bool,
    phase: Phase,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, socket: SocketIndex, peer: SocketAddr) -> io::Result<Self> {
        // io_uring answers EAGAIN at once for a non-blocking socket instead of waiting for data.
        stream.set_nonblocking(false)?;
        Ok(Self {
            stream,
            socket,
            peer,
            deframer: Deframer::default(),
            sending: Vec::new(),
            sent: 0,
            waiting: Vec::new(),
            receive_in_flight: false,
            send_in_flight: false,
            is_listed: false,
            phase: Phase::Open,
        })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether a receive should be started.
    pub(super) fn may_receive(&self) -> bool {
        self.is_open() && !self.receive_in_flight
    }

    /// Whether it can be forgotten.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Ended && !self.receive_in_flight && !self.send_in_flight
    }

    /// Bytes that it still takes.
    pub(super) fn room(&self) -> usize {
        let queued = self.waiting.len() + self.sending.len() - self.sent;
        if self.is_open() { STREAM_QUEUE_BYTES.saturating_sub(queued) } else { 0 }
    }

    /// Queues datagrams of `segment` bytes each, all or none; false if there is no room.
    pub(super) fn queue(&mut self, datagrams: &[u8], segment: usize) -> bool {
        let frames = datagrams.len().div_ceil(segment.max(1));
        if datagrams.len() + frames * LENGTH_BYTES > self.room() {
            return false;
        }
        framing::frame(datagrams, segment, &mut self.waiting);
        true
    }

    /// Whether a send should be started.
    pub(super) fn wants_send(&self) -> bool {
        let is_idle = self.phase != Phase::Ended && !self.send_in_flight;
        is_idle && (!self.sending.is_empty() || !self.waiting.is_empty())
    }

    /// The bytes of the next send. They stay in place until [`Connection::sent`].
    pub(super) fn next_send(&mut self) {
        if self.sent == self.sending.len() {
            self.sending.clear();
            self.sent = 0;
            mem::swap(&mut self.sending, &mut self.waiting);
        }
    }

    /// Where the bytes of [`Connection::next_send`] are.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.sending[self.sent..]
    }

    /// The kernel took so many bytes.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent = self.sending.len().min(self.sent + bytes);
        if self.sent < self.sending.len() {
            return;
        }
        self.sending.clear();
        self.sent = 0;
        self.sending.shrink_to(KEPT_BYTES);
        if self.waiting.is_empty() {
            self.waiting.shrink_to(KEPT_BYTES);
            if self.phase == Phase::Draining {
                self.end();
            }
        }
    }

    /// Sends what waits, then ends. What the client sends from now on is not read.
    pub(super) fn drain(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
            if self.waiting.is_empty() && self.sending.is_empty() {
                self.end();
            }
        }
    }

    /// Ends it now: operations in flight end soon. What the kernel has taken is still sent.
    pub(super) fn end(&mut self) {
        self.phase = Phase::Ended;
        self.waiting = Vec::new();
        // Fails if the client has closed before, which is as good.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Leaves the bytes of a send to the kernel for good.
    pub(super) fn abandon(&mut self) {
        mem::forget(mem::take(&mut self.sending));
        self.sent = 0;
    }
}
