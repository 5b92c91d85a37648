//! What tests see of the world.

use super::{Client, ClientIndex, World, socket_of};
use sfu::control::protocol::{EndReason, SessionId};
use sfu::core::forwarder::Forwarder;
use sfu::core::layers::LayerIndex;
use sfu::core::outbox::{SessionEvent, Transmit};
use sfu::core::stun::{Class, Message, TransactionId};
use sfu::stats::{DropReason, WorkerSnapshot};
use std::net::SocketAddr;
use std::time::Instant;

impl World {
    /// The client.
    pub fn client(&mut self, index: ClientIndex) -> &mut Client {
        &mut self.seats[index.0].client
    }

    /// The RTP datagrams sent to it, lost ones among them, as they are on the wire.
    pub fn wire(&self, index: ClientIndex) -> &[Vec<u8>] {
        &self.seats[index.0].wire
    }

    /// Datagrams that one worker handed over to another.
    pub fn handed_over(&self) -> usize {
        self.handed_over
    }

    /// The last RTCP that it sent.
    pub fn last_rtcp_from(&self, index: ClientIndex) -> Vec<u8> {
        self.seats[index.0].last_rtcp.clone()
    }

    /// Its session.
    pub fn session(&self, index: ClientIndex) -> SessionId {
        self.seats[index.0].session
    }

    /// The server's ufrag for it.
    pub fn ufrag(&self, index: ClientIndex) -> String {
        self.seats[index.0].ufrag.clone()
    }

    /// The layers of the packets that crossed to a worker since the last call.
    pub fn take_crossed(&mut self, to: usize) -> Vec<LayerIndex> {
        let crossed = std::mem::take(&mut self.crossed);
        crossed.into_iter().filter(|(worker, _)| *worker == to).map(|(_, layer)| layer).collect()
    }

    /// The first DTLS datagram that the client sent.
    pub fn client_hello(&self, index: ClientIndex) -> Vec<u8> {
        self.seats[index.0].client_hello.clone()
    }

    /// Where the last RTP datagram for this client went.
    pub fn last_to(&self, index: ClientIndex) -> SocketAddr {
        self.seats[index.0].last_to
    }

    /// When the last datagram came from this client.
    pub fn heard(&self, index: ClientIndex) -> Instant {
        self.seats[index.0].heard
    }

    /// How many datagrams were sent to this address of the client.
    pub fn sent_to(&self, address: SocketAddr) -> usize {
        self.sent_to.get(&address).copied().unwrap_or_default()
    }

    /// Why the client's session ended, if it did.
    pub fn end_of(&self, index: ClientIndex) -> Option<EndReason> {
        let session = self.session(index);
        self.events.iter().find_map(|event| match event {
            SessionEvent::Ended(ended, reason) if *ended == session => Some(*reason),
            _ => None,
        })
    }

    /// The address of a client, and the number of the socket on which its worker hears it.
    pub fn way(&self, index: ClientIndex) -> (usize, SocketAddr) {
        let address = self.seats[index.0].client.address();
        (socket_of(address), address)
    }

    /// Whether the session has connected.
    pub fn is_connected(&self, index: ClientIndex) -> bool {
        self.events.contains(&SessionEvent::Connected(self.seats[index.0].session))
    }

    /// What went to addresses of nobody.
    pub fn to_stranger(&self) -> &[Transmit] {
        &self.to_stranger
    }

    /// The last check of ours that went to this address of nobody.
    pub fn asked_of(&self, address: SocketAddr) -> Option<TransactionId> {
        let sent = self.to_stranger.iter().rev().filter(|transmit| transmit.to == address);
        let mut messages = sent.filter_map(|transmit| Message::parse(&transmit.contents));
        messages.find(|message| message.class == Class::Request).map(|request| request.transaction)
    }

    /// Bytes that went to addresses of nobody.
    pub fn sent_to_stranger(&self) -> usize {
        self.to_stranger.iter().map(|transmit| transmit.contents.len()).sum()
    }

    /// Media packets lost on the way so far.
    pub fn lost(&self) -> u32 {
        self.lost
    }

    /// What happened to sessions so far.
    pub fn events(&self) -> &[SessionEvent] {
        &self.events
    }

    /// How often a worker dropped for a reason.
    pub fn dropped(&self, worker: usize, reason: DropReason) -> u64 {
        self.snapshot(worker).dropped[reason as usize]
    }

    /// A worker's core.
    pub fn worker(&mut self, worker: usize) -> &mut Forwarder {
        &mut self.workers[worker]
    }

    /// The virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// A worker's counters.
    pub fn snapshot(&self, worker: usize) -> WorkerSnapshot {
        self.workers[worker].snapshot()
    }
}
