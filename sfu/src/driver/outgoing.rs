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

    /// The next operation, its bytes copied into the empty `bytes`, which is little beside sending them.
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

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TrainLimits = TrainLimits { segments: 4, bytes: 1000 };

    fn train(segment: usize, length: usize) -> Outgoing {
        let bytes = (0..length).map(|i| i as u8).collect();
        Outgoing::train(SocketIndex::new(0), SocketAddr::from(([127, 0, 0, 1], 9)), segment, bytes)
    }

    #[test]
    fn an_operation_carries_as_many_whole_datagrams_as_both_limits_allow() {
        let step = |segment, length| train(segment, length).step(LIMITS);
        assert_eq!(step(100, 400), 400, "all that the kernel takes");
        assert_eq!(step(100, 401), 400, "not a fifth one");
        assert_eq!(step(300, 1000), 1000, "the last one is shorter");
        assert_eq!(step(300, 1001), 900);
        assert_eq!(step(2000, 5000), 2000, "no two fit");
        assert_eq!(step(1200, 1200), 1200, "a single datagram is not cut");
    }

    #[test]
    fn datagrams_are_counted_with_the_empty_and_the_shorter_one() {
        let datagrams = |segment, length| train(segment, length).datagrams();
        assert_eq!([datagrams(100, 0), datagrams(100, 100), datagrams(100, 101)], [1, 1, 2]);
        assert_eq!([datagrams(0, 0), datagrams(0, 500), datagrams(usize::MAX, 500)], [1, 1, 1]);
    }

    #[test]
    fn the_operations_of_a_rest_are_the_train_from_end_to_end() {
        let (mut rest, mut operations) = (Rest::new(train(100, 1050), 400), Vec::new());
        loop {
            let next = rest.next(Vec::new());
            assert_eq!(next, rest.next(Vec::new()), "the same again until it has left");
            operations.push((next.datagrams(), next.bytes));
            if rest.advance() {
                break;
            }
        }
        let datagrams = operations.iter().map(|(datagrams, _)| *datagrams);
        assert!(datagrams.eq([4, 4, 3]));
        let bytes = operations.into_iter().flat_map(|(_, bytes)| bytes);
        assert!(bytes.eq(rest.into_bytes()));
    }

    #[test]
    fn the_datagrams_of_a_refused_train_are_single_and_know_why() {
        let rest = Rest::singly(train(100, 150), Refusal::Trains);
        let first = rest.next(Vec::new());
        assert_eq!((first.datagrams(), first.bytes.len()), (1, 100));
        assert_eq!(first.origin, Origin::Refused(Refusal::Trains));
    }
}
