//! What one send operation carries, and what is left to send of a train that cannot leave in one.

use std::net::SocketAddr;

use super::trains::{Refusal, TrainLimits};
use super::user_data::SocketIndex;

/// Datagrams for one receiver, one behind the other in `bytes`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) socket: SocketIndex,
    pub(super) to: SocketAddr,
    /// Bytes of each datagram, at most all of them; the last may be shorter. 0 for one empty datagram.
    segment: usize,
    pub(super) bytes: Vec<u8>,
    pub(super) origin: Origin,
}

/// How a send operation came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A datagram that was never part of a train.
    Single,
    /// A train or a part of it.
    Train,
    /// A datagram of a train that the kernel refused.
    Refused(Refusal),
}

impl Outgoing {
    pub(super) fn single(socket: SocketIndex, to: SocketAddr, bytes: Vec<u8>) -> Self {
        Self { socket, to, segment: bytes.len(), bytes, origin: Origin::Single }
    }

    /// A `segment` of 0 is as long as `bytes`.
    pub(super) fn train(socket: SocketIndex, to: SocketAddr, segment: usize, bytes: Vec<u8>) -> Self {
        let segment = if segment == 0 { bytes.len() } else { segment.min(bytes.len()) };
        Self { socket, to, segment, bytes, origin: Origin::Train }
    }

    /// How many there are; an empty datagram is one.
    pub(super) fn datagrams(&self) -> usize {
        self.bytes.len().div_ceil(self.segment.max(1)).max(1)
    }

    pub(super) fn segment(&self) -> usize {
        self.segment
    }

    /// Bytes that one operation can carry within `limits`: all of them, or those of some whole datagrams.
    pub(super) fn step(&self, limits: TrainLimits) -> usize {
        let datagrams = self.datagrams();
        if datagrams == 1 || datagrams <= limits.segments && self.bytes.len() <= limits.bytes {
            return self.bytes.len();
        }
        self.segment * limits.segments.min(limits.bytes / self.segment).max(1)
    }
}

/// A train that leaves in several operations.
#[derive(Debug)]
pub(super) struct Rest {
    whole: Outgoing,
    /// Bytes in each operation, but for the last.
    step: usize,
    /// Bytes that have left.
    done: usize,
}

impl Rest {
    /// All of `whole`, in operations of `step` bytes.
    pub(super) fn new(whole: Outgoing, step: usize) -> Self {
        Self { whole, step: step.max(1), done: 0 }
    }

    /// The datagrams of a train that the kernel refused, one by one.
    pub(super) fn singly(train: Outgoing, refusal: Refusal) -> Self {
        let step = train.segment;
        Self::new(Outgoing { origin: Origin::Refused(refusal), ..train }, step)
    }

    /// The next operation, its bytes copied into the empty `bytes`: 1 % of what sending them costs.
    pub(super) fn next(&self, mut bytes: Vec<u8>) -> Outgoing {
        let end = self.whole.bytes.len().min(self.done + self.step);
        bytes.extend_from_slice(&self.whole.bytes[self.done..end]);
        let segment = self.whole.segment.min(bytes.len());
        Outgoing { segment, bytes, ..self.whole }
    }

    /// The operation from [`Rest::next`] has left. True if it was the last.
    pub(super) fn advance(&mut self) -> bool {
        self.done = self.whole.bytes.len().min(self.done + self.step);
        self.done == self.whole.bytes.len()
    }

    /// The memory of the train.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.whole.bytes
    }
}
