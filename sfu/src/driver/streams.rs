//! The TCP connections of a driver: taken over with an authenticated client, read, written and ended.
//!
//! A connection is read by one receive at a time into one buffer, so each has its share of a turn however much it sends. What a
//! turn queues for it leaves in one send.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpStream};

use slab::Slab;

use super::connection::Connection;
use super::receive::Datagram;
use super::ring::Completion;
use super::user_data::{ConnectionIndex, Operation, SocketIndex};
use super::{Driver, StreamEnd};
use crate::core::framing::Oversize;

/// Of all connections this part may be sending what is left of a session that ended. More, whose clients do not read, end at once:
/// they must not keep others out.
const DRAINING_SHARE: usize = 4;

/// The connections, by index and by the listener and address of their client.
#[derive(Default)]
pub(super) struct Streams {
    pub(super) table: Slab<Connection>,
    by_peer: HashMap<(SocketIndex, SocketAddr), ConnectionIndex>,
    /// Those that get a send at the next submission.
    listed: Vec<ConnectionIndex>,
    /// Clients whose connection ended without our doing, for [`Driver::next_ended`].
    ended: Vec<(SocketIndex, SocketAddr)>,
    connections_max: usize,
}

impl Streams {
    pub(super) fn new(connections_max: usize) -> Self {
        Self { connections_max, ..Self::default() }
    }

    /// How many belong to nobody any more and are still there.
    fn draining(&self) -> usize {
        self.table.len() - self.by_peer.len()
    }

    fn of(&mut self, socket: SocketIndex, peer: SocketAddr) -> Option<(ConnectionIndex, &mut Connection)> {
        let index = *self.by_peer.get(&(socket, peer))?;
        self.table.get_mut(index.0 as usize).map(|connection| (index, connection))
    }

    pub(super) fn get(&self, index: ConnectionIndex) -> Option<&Connection> {
        self.table.get(index.0 as usize)
    }

    pub(super) fn get_mut(&mut self, index: ConnectionIndex) -> Option<&mut Connection> {
        self.table.get_mut(index.0 as usize)
    }

    /// A receive or a send of a connection is in flight.
    pub(super) fn started(&mut self, index: ConnectionIndex, receive: bool, send: bool) {
        if let Some(connection) = self.get_mut(index) {
            connection.receive_in_flight |= receive;
            connection.send_in_flight |= send;
        }
    }

    /// Leaves to the kernel what it may still read.
    pub(super) fn abandon(&mut self) {
        self.table.iter_mut().for_each(|(_, connection)| connection.abandon());
    }

    /// Lists a connection for a send, once.
    fn list(&mut self, index: ConnectionIndex) {
        if let Some(connection) = self.table.get_mut(index.0 as usize)
            && connection.wants_send()
            && !std::mem::replace(&mut connection.is_listed, true)
        {
            self.listed.push(index);
        }
    }

    /// The client is not found under its address any more, unless it has connected anew from there.
    fn forget_peer(&mut self, index: ConnectionIndex) -> Option<(SocketIndex, SocketAddr)> {
        let connection = self.table.get(index.0 as usize)?;
        let key = (connection.socket, connection.peer);
        (self.by_peer.get(&key) == Some(&index)).then(|| self.by_peer.remove(&key))?;
        Some(key)
    }
}

impl Driver {
    /// Takes over a connection whose client is known to be one of ours. It came in on listener `socket`, whose number is beyond
    /// those of the UDP sockets; from now on datagrams to and from `(socket, peer)` go through it.
    ///
    /// `earlier` are bytes that were read from it before and not handled: `on` is called for each datagram in them.
    pub fn adopt(
        &mut self,
        stream: TcpStream,
        socket: SocketIndex,
        peer: SocketAddr,
        earlier: &[u8],
        on: impl FnMut(Datagram<'_>),
    ) -> io::Result<()> {
        if let Some((index, _)) = self.streams.of(socket, peer) {
            // The client has closed that one, or it could not have used its port again. The new one takes its place.
            self.end_stream(index, StreamEnd::Peer);
            self.streams.ended.retain(|ended| *ended != (socket, peer));
            self.release_if_over(index);
        }
        if self.streams.table.len() >= self.streams.connections_max {
            self.counters.connections_ended[StreamEnd::TooMany as usize] += 1;
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let mut connection = Connection::new(stream, socket, peer)?;
        let outcome = deliver(&mut connection, earlier, &mut self.counters.received, on);
        let index = ConnectionIndex(self.streams.table.insert(connection) as u32);
        self.streams.by_peer.insert((socket, peer), index);
        self.counters.connections += 1;
        match outcome {
            Ok(()) => self.disarmed.push(Operation::StreamReceive(index)),
            Err(_) => self.end_stream(index, StreamEnd::Oversize),
        }
        self.release_if_over(index);
        self.rearm();
        Ok(())
    }

    /// Ends a connection when what waits for it has left. Its client's datagrams are not received any more.
    pub fn close(&mut self, socket: SocketIndex, peer: SocketAddr) {
        let may_drain = self.streams.draining() < self.streams.connections_max / DRAINING_SHARE;
        let Some((index, connection)) = self.streams.of(socket, peer) else { return };
        if may_drain {
            connection.drain()
        } else {
            connection.end()
        }
        self.streams.forget_peer(index);
        self.counters.connections_ended[StreamEnd::Session as usize] += 1;
        self.streams.list(index);
        self.release_if_over(index);
    }

    /// A client whose connection has ended since the last call, other than by [`Driver::close`].
    pub fn next_ended(&mut self) -> Option<(SocketIndex, SocketAddr)> {
        self.streams.ended.pop()
    }

    /// Bytes that the way to a client takes now, none if its connection is gone. UDP takes any number.
    pub fn room(&self, socket: SocketIndex, to: SocketAddr) -> usize {
        if self.is_datagram_socket(socket) {
            return usize::MAX;
        }
        let index = self.streams.by_peer.get(&(socket, to));
        index.and_then(|index| self.streams.get(*index)).map_or(0, Connection::room)
    }

    pub(super) fn is_datagram_socket(&self, socket: SocketIndex) -> bool {
        usize::from(socket.get()) < self.sockets.len()
    }

    /// Queues datagrams for a connection, all of them or none. What is not queued is given back.
    pub(super) fn queue_stream(
        &mut self,
        socket: SocketIndex,
        to: SocketAddr,
        segment: usize,
        bytes: Vec<u8>,
    ) -> Result<(), Vec<u8>> {
        let segment = if segment == 0 { bytes.len() } else { segment };
        let datagrams = bytes.len().div_ceil(segment.max(1)) as u64;
        let found = self.streams.of(socket, to);
        let Some(index) = found.and_then(|(index, way)| way.queue(&bytes, segment).then_some(index)) else {
            self.counters.stream_dropped += datagrams;
            return Err(bytes);
        };
        self.counters.framed += datagrams;
        self.streams.list(index);
        self.spare.put(bytes);
        Ok(())
    }

    /// Starts a send for each connection that has something to send and none in flight.
    pub(super) fn send_streams(&mut self) {
        while let Some(index) = self.streams.listed.pop() {
            let Some(connection) = self.streams.get_mut(index) else { continue };
            connection.is_listed = false;
            if !connection.wants_send() {
                continue;
            }
            connection.next_send();
            if !self.start(Operation::StreamSend(index)) {
                // The queue is full even after a submission: the next wait tries again.
                return self.streams.list(index);
            }
        }
    }

    /// Whether a connection waits for a send to be started.
    pub(super) fn has_unsent_streams(&self) -> bool {
        !self.streams.listed.is_empty()
    }

    /// A send has ended.
    pub(super) fn stream_sent(&mut self, index: ConnectionIndex, result: i32) {
        let Some(connection) = self.streams.get_mut(index) else { return };
        connection.send_in_flight = false;
        match usize::try_from(result) {
            Ok(bytes) => connection.sent(bytes),
            Err(_) => self.end_stream(index, StreamEnd::Peer),
        }
        self.streams.list(index);
        self.release_if_over(index);
    }

    /// A receive has ended: with bytes, with 0 at the end of the stream, or with an error.
    pub(super) fn stream_received(
        &mut self,
        index: ConnectionIndex,
        completion: Completion,
        on: &mut impl FnMut(Datagram<'_>),
    ) {
        let Some(connection) = self.streams.get_mut(index) else { return };
        connection.receive_in_flight = false;
        let filled = self.stream_buffers.filled(completion.result, completion.flags);
        let end = match (completion.result, &filled) {
            (1.., Some(filled)) => {
                let bytes = self.stream_buffers.bytes(filled);
                deliver(connection, bytes, &mut self.counters.received, on).err().map(|_| StreamEnd::Oversize)
            }
            (result, _) if result == -libc::ENOBUFS => {
                self.counters.receive_buffers_exhausted += 1;
                None
            }
            _ => Some(StreamEnd::Peer),
        };
        if let Some(filled) = filled {
            self.stream_buffers.recycle(filled);
        }
        match end {
            Some(end) => self.end_stream(index, end),
            None => self.disarmed.push(Operation::StreamReceive(index)),
        }
        self.release_if_over(index);
    }

    /// Ends a connection that the client has given up, or must.
    fn end_stream(&mut self, index: ConnectionIndex, why: StreamEnd) {
        let Some(connection) = self.streams.get_mut(index) else { return };
        let was_open = connection.is_open();
        connection.end();
        if was_open {
            self.counters.connections_ended[why as usize] += 1;
            let peer = self.streams.forget_peer(index);
            self.streams.ended.extend(peer);
        }
    }

    fn release_if_over(&mut self, index: ConnectionIndex) {
        if self.streams.get(index).is_some_and(Connection::is_over) {
            self.streams.table.remove(index.0 as usize);
            self.counters.connections -= 1;
        }
    }
}

/// Calls `on` for the datagrams that `bytes` complete.
fn deliver(
    connection: &mut Connection,
    bytes: &[u8],
    received: &mut u64,
    mut on: impl FnMut(Datagram<'_>),
) -> Result<(), Oversize> {
    // One that drains is not listened to any more.
    if !connection.is_open() {
        return Ok(());
    }
    let (socket, from) = (connection.socket, connection.peer);
    connection.deframer.push(bytes, |payload| {
        *received += 1;
        on(Datagram { socket, from, payload });
    })
}
