//! Between workers: packets go one way in a lane that may lose, signals in a lane that may not.
//!
//! What crosses is a value. Each worker has one inbox of each kind; the others push, it pops. A push never blocks.

use crate::control::protocol::WorkerIndex;
use crate::core::layers::{LayerIndex, LayerSet, LayerTable};
use crate::core::packet::{MediaPacket, PacketHeader};
use crate::core::plan::{Epoch, StreamId};
use crate::core::shared_port::{Holder, Notice, Origin};
use crossbeam::queue::ArrayQueue;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// Largest RTP payload that crosses: an Ethernet frame less IPv4, UDP and RTP headers.
pub const PAYLOAD_BYTES_MAX: usize = 1500 - 20 - 8 - 12;
/// Packets that may wait for one worker: 5 ms of 500,000 packets/s, 4 MiB.
pub const PACKETS_MAX: usize = 2048;
/// Signals that may wait for one worker; a sender keeps what does not fit.
pub const SIGNALS_MAX: usize = 16_384;

/// Longest datagram that is handed over: an Ethernet frame less IPv4 and UDP headers.
pub const DATAGRAM_BYTES_MAX: usize = 1500 - 20 - 8;
/// Handed-over datagrams that may wait for one worker: 10 ms of 100,000 a second, 1.5 MiB.
pub const HANDOVERS_MAX: usize = 1024;
/// TCP connections that may wait for one worker: it takes 16 a turn, and a turn of a busy worker takes milliseconds. Each is an
/// open file.
pub const NEWCOMERS_MAX: usize = 256;

/// A set of workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerSet(u64);

const _: () = assert!(crate::config::WORKERS_MAX <= 64, "a worker set is one u64");

impl WorkerSet {
    /// Adds a worker.
    pub fn insert(&mut self, worker: WorkerIndex) {
        self.0 |= 1 << worker.0;
    }

    /// Takes a worker out.
    pub fn remove(&mut self, worker: WorkerIndex) {
        self.0 &= !(1 << worker.0);
    }

    /// Whether `worker` is in it.
    pub fn contains(self, worker: WorkerIndex) -> bool {
        self.0 & (1 << worker.0) != 0
    }

    /// Whether nobody is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The workers in it.
    pub fn iter(self) -> impl Iterator<Item = WorkerIndex> {
        (0..64).filter(move |index| self.0 & (1 << index) != 0).map(WorkerIndex)
    }
}

/// A packet by value. Loss: the viewers of one worker miss it and NACK in vain; counted by the sender.
#[derive(Debug, Clone, Copy)]
pub struct MeshPacket {
    header: PacketHeader,
    /// From before the worker had viewers: they start with it.
    pub is_earlier: bool,
    payload_bytes: u16,
    payload: [u8; PAYLOAD_BYTES_MAX],
}

impl MeshPacket {
    /// Copies `packet`, or `None` if its payload is longer than [`PAYLOAD_BYTES_MAX`].
    pub fn copy_of(packet: &MediaPacket, is_earlier: bool) -> Option<MeshPacket> {
        let mut payload = [0; PAYLOAD_BYTES_MAX];
        payload.get_mut(..packet.payload.len())?.copy_from_slice(&packet.payload);
        Some(MeshPacket {
            header: packet.header,
            is_earlier,
            payload_bytes: packet.payload.len() as u16,
            payload,
        })
    }

    /// The packet for this worker's viewers.
    pub fn to_packet(&self) -> MediaPacket {
        MediaPacket {
            header: self.header,
            payload: Arc::from(&self.payload[..usize::from(self.payload_bytes)]),
        }
    }
}

/// Which layers of a stream a worker wants. Audio it is sent in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The publisher whose layers these are. Of another one, or if this is `None`, it is sent what viewers without a wish get.
    pub epoch: Option<Epoch>,
    /// The layers.
    pub layers: LayerSet,
}

/// What one worker tells another. May not be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// The sender has viewers of the stream, who take these layers.
    Subscribe(StreamId, Subscription),
    /// It has none any more.
    Unsubscribe(StreamId),
    /// What the layers of the stream are, to those who are subscribed.
    Layers(StreamId, LayerTable),
    /// One of its viewers cannot decode this layer until the next key frame.
    WantKeyframe(StreamId, LayerIndex),
    /// Whose an address at the shared port is.
    Address(Notice),
    /// The sender was restarted and knows nothing.
    Restarted,
}

impl Signal {
    /// Whether `earlier`, still waiting, says nothing more once this one is queued behind it.
    pub fn replaces(&self, earlier: &Signal) -> bool {
        use Signal::{Layers, Subscribe, Unsubscribe};
        match (self, earlier) {
            (Subscribe(stream, _) | Unsubscribe(stream), Subscribe(other, _) | Unsubscribe(other))
            | (Layers(stream, _), Layers(other, _)) => stream == other,
            _ => self == earlier,
        }
    }
}

/// A client's datagram that the kernel gave to another worker behind the shared port. Loss: as on the network; counted by the
/// sender.
#[derive(Debug, Clone, Copy)]
pub struct Handover {
    /// How it came.
    pub origin: Origin,
    bytes: u16,
    contents: [u8; DATAGRAM_BYTES_MAX],
}

impl Handover {
    /// Copies the datagram, or `None` if it is longer than [`DATAGRAM_BYTES_MAX`].
    pub fn copy_of(datagram: &[u8], origin: Origin) -> Option<Handover> {
        let mut contents = [0; DATAGRAM_BYTES_MAX];
        contents.get_mut(..datagram.len())?.copy_from_slice(datagram);
        Some(Handover { origin, bytes: datagram.len() as u16, contents })
    }

    /// The datagram.
    pub fn datagram(&self) -> &[u8] {
        &self.contents[..usize::from(self.bytes)]
    }
}

/// A TCP connection whose first datagram asks for a session of the worker. Nobody has checked yet whether it may. Loss: the
/// connection is closed and counted by the door, and the client tries its other candidates, or again.
#[derive(Debug)]
pub struct Newcomer {
    /// Which of the listeners it came in on.
    pub listener: u16,
    /// The connection.
    pub stream: TcpStream,
    /// Its other end.
    pub peer: SocketAddr,
    /// What was read from it: at least one whole datagram behind its length.
    pub bytes: Vec<u8>,
}

/// The inboxes of one worker.
#[derive(Debug)]
pub struct Inbox {
    /// The lane that may lose.
    pub packets: ArrayQueue<MeshPacket>,
    /// The lane that may not.
    pub signals: ArrayQueue<(WorkerIndex, Signal)>,
    /// Datagrams that came in elsewhere behind the shared port; may lose. One place if the port is not shared.
    pub handovers: ArrayQueue<Handover>,
    /// From the door, not from workers; may lose.
    pub newcomers: ArrayQueue<Newcomer>,
}

impl Inbox {
    /// Empty inboxes of a worker with a port of its own.
    pub fn new() -> Inbox {
        Inbox::with_handovers(1)
    }

    /// Empty inboxes of a worker that shares its port with the others.
    pub fn behind_shared_port() -> Inbox {
        Inbox::with_handovers(HANDOVERS_MAX)
    }

    fn with_handovers(most: usize) -> Inbox {
        Inbox {
            packets: ArrayQueue::new(PACKETS_MAX),
            signals: ArrayQueue::new(SIGNALS_MAX),
            handovers: ArrayQueue::new(most),
            newcomers: ArrayQueue::new(NEWCOMERS_MAX),
        }
    }

    /// Puts a datagram into its lane. Those from addresses that the worker has not claimed, which may be strangers', fill the
    /// lane to its half: they cannot keep its clients' out.
    pub fn hand_over(&self, handover: Handover) -> bool {
        let is_known = matches!(handover.origin.via, Some((_, Holder::Receiver)));
        let is_welcome = is_known || self.handovers.len() < HANDOVERS_MAX / 2;
        is_welcome && self.handovers.push(handover).is_ok()
    }

    /// Whether something waits.
    pub fn is_empty(&self) -> bool {
        let crossed = self.packets.is_empty() && self.signals.is_empty() && self.handovers.is_empty();
        crossed && self.newcomers.is_empty()
    }
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_leave_room_for_the_datagrams_of_clients() {
        let inbox = Inbox::behind_shared_port();
        let from = |holder| {
            let path = (0, SocketAddr::from(([127, 0, 0, 1], 9)));
            let origin = Origin { path, via: Some((WorkerIndex(1), holder)) };
            Handover::copy_of(&[0; 20], origin).expect("it is short")
        };
        let strangers = (0..HANDOVERS_MAX).filter(|_| inbox.hand_over(from(Holder::Nobody))).count();
        assert_eq!(strangers, HANDOVERS_MAX / 2);
        let clients = (0..HANDOVERS_MAX).filter(|_| inbox.hand_over(from(Holder::Receiver))).count();
        assert_eq!(clients, HANDOVERS_MAX - strangers);
    }
}
