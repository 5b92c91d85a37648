//! What a completion belongs to, as the 64 bits that travel through the kernel: a value, never an address.

/// A socket of one [`Driver`](super::Driver): its place in the vector that the driver was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketIndex(u16);

impl SocketIndex {
    /// The socket at this place.
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    /// The place.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// A send slot: its place in the slot array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlotIndex(pub(super) u32);

/// A TCP connection: its place in the driver's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionIndex(pub(super) u32);

/// An operation that can be in flight. The driver has at most one of each value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// The multishot receive of a socket.
    Receive(SocketIndex),
    /// The datagram in a slot.
    Send(SlotIndex),
    /// The read of the waker's event counter.
    Wake,
    /// The receive of a connection.
    StreamReceive(ConnectionIndex),
    /// What a connection sends.
    StreamSend(ConnectionIndex),
}

/// The kind is in the upper half, the index in the lower. No kind is 0, so that a zeroed entry is no operation.
const KIND_SHIFT: u32 = 32;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const WAKE: u64 = 3;
const STREAM_RECEIVE: u64 = 4;
const STREAM_SEND: u64 = 5;

impl Operation {
    /// As the user data of a submission.
    pub(super) fn pack(self) -> u64 {
        let (kind, index) = match self {
            Operation::Receive(socket) => (RECEIVE, u64::from(socket.0)),
            Operation::Send(slot) => (SEND, u64::from(slot.0)),
            Operation::Wake => (WAKE, 0),
            Operation::StreamReceive(connection) => (STREAM_RECEIVE, u64::from(connection.0)),
            Operation::StreamSend(connection) => (STREAM_SEND, u64::from(connection.0)),
        };
        kind << KIND_SHIFT | index
    }

    /// From the user data of a completion; none if the driver never submits such a value.
    pub(super) fn unpack(user_data: u64) -> Option<Self> {
        let index = user_data as u32;
        match user_data >> KIND_SHIFT {
            RECEIVE => u16::try_from(index).ok().map(|socket| Operation::Receive(SocketIndex(socket))),
            SEND => Some(Operation::Send(SlotIndex(index))),
            WAKE => (index == 0).then_some(Operation::Wake),
            STREAM_RECEIVE => Some(Operation::StreamReceive(ConnectionIndex(index))),
            STREAM_SEND => Some(Operation::StreamSend(ConnectionIndex(index))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_survives_the_trip_through_the_kernel() {
        let operations = [
            Operation::Receive(SocketIndex(0)),
            Operation::Receive(SocketIndex(u16::MAX)),
            Operation::Send(SlotIndex(0)),
            Operation::Send(SlotIndex(u32::MAX)),
            Operation::Wake,
            Operation::StreamReceive(ConnectionIndex(7)),
            Operation::StreamSend(ConnectionIndex(u32::MAX)),
        ];
        for operation in operations {
            assert_eq!(Operation::unpack(operation.pack()), Some(operation));
        }
    }

    #[test]
    fn a_value_that_was_never_submitted_is_no_operation() {
        let too_large_a_socket = RECEIVE << KIND_SHIFT | 0x1_0000;
        for foreign in [0, 7, 6 << KIND_SHIFT, too_large_a_socket, WAKE << KIND_SHIFT | 1, u64::MAX] {
            assert_eq!(Operation::unpack(foreign), None, "{foreign:#x}");
        }
    }
}
