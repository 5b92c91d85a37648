//! What the core hands to its surroundings: datagrams to the driver, packets and signals to the mesh, events to
//! the control thread.

use super::egress::{TrainLimits, Trains};
use super::packet::MediaPacket;
use crate::control::protocol::{
    CreateError, Created, EndReason, IceCredentials, Layer, RequestId, RestartError, SessionId, WorkerIndex,
};
use crate::core::codec::Codec;
use crate::mesh::{Handover, Signal, WorkerSet};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// A datagram for the kernel.
#[derive(Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Which of the worker's sockets.
    pub socket: usize,
    /// The client's address.
    pub to: SocketAddr,
    /// The datagram.
    pub contents: Vec<u8>,
}

/// Takes trains apart, where there is no kernel to do it.
impl Trains for Vec<Transmit> {
    fn limits(&self) -> TrainLimits {
        TrainLimits { segments: 64, bytes: 65_507 }
    }

    fn buffer(&mut self) -> Vec<u8> {
        Vec::new()
    }

    fn send(&mut self, socket: usize, to: SocketAddr, segment: usize, datagrams: Vec<u8>) {
        let single = |contents: &[u8]| Transmit { socket, to, contents: contents.to_vec() };
        self.extend(datagrams.chunks(segment.max(1)).map(single));
    }
}

/// What happened to a session, for the control thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// The answer to a create command.
    Created {
        /// As asked.
        request: RequestId,
        /// The session, or why there is none.
        result: Result<Created, CreateError>,
    },
    /// The answer to a restart command.
    IceRestarted {
        /// As asked.
        request: RequestId,
        /// Our new credentials, and the number of the socket by which media goes to the client. Or why there are none.
        result: Result<(IceCredentials, usize), RestartError>,
    },
    /// ICE and DTLS are up.
    Connected(SessionId),
    /// A publisher sends this codec.
    Track(SessionId, Codec),
    /// A publisher fell silent (true) or is heard again.
    Silence(SessionId, bool),
    /// A publisher's simulcast layers that are sent.
    Layers(SessionId, Vec<Layer>),
    /// The session is gone.
    Ended(SessionId, EndReason),
}

/// A packet for other workers.
#[derive(Debug, Clone, PartialEq)]
pub struct Crossing {
    /// Whose viewers want it.
    pub to: WorkerSet,
    /// The packet.
    pub packet: MediaPacket,
    /// It is from before they had viewers, who start with it.
    pub is_earlier: bool,
}

/// Everything that leaves the core in one turn. The worker empties it.
#[derive(Debug, Default)]
pub struct Outbox {
    /// For the driver, in order.
    pub transmits: Vec<Transmit>,
    /// Sockets and addresses that are no client's any more: the driver ends their TCP connections once `transmits` have left.
    pub closes: Vec<(usize, SocketAddr)>,
    /// For other workers; may be lost, and is counted then.
    pub packets: Vec<Crossing>,
    /// Datagrams of other workers' sessions; may be lost, and are counted then.
    pub handovers: Vec<(WorkerIndex, Handover)>,
    /// For other workers; kept until taken.
    pub signals: VecDeque<(WorkerIndex, Signal)>,
    /// For the control thread; kept until taken.
    pub events: VecDeque<SessionEvent>,
}
