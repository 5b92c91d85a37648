//! Datagrams in: to their session, and from publishers on to the streams.

use super::Forwarder;
use crate::core::demux::{self, DatagramKind};
use crate::core::extensions::PassThrough;
use crate::core::outbox::{Crossing, SessionEvent};
use crate::core::packet::MediaPacket;
use crate::core::publisher::Published;
use crate::core::session::{RoleState, Session};
use crate::core::streams::Pushed;
use crate::stats::DropReason;
use std::net::SocketAddr;
use std::time::Instant;
use str0m::rtp::RtpPacket;

impl Forwarder {
    /// A datagram arrived on socket number `socket`.
    pub fn handle_datagram(&mut self, now: Instant, socket: usize, from: SocketAddr, datagram: &[u8]) {
        let Some(kind) = DatagramKind::of(datagram) else {
            return self.meters.dropped(DropReason::NotMedia, 1);
        };
        let found = match (kind, demux::local_ufrag(datagram)) {
            (DatagramKind::Stun, Some(ufrag)) => self.by_ufrag(ufrag).ok_or(DropReason::UnknownUfrag),
            _ => self.addresses.get(&(socket, from)).copied().ok_or(DropReason::UnknownAddress),
        };
        match found {
            Ok(slot) => self.guarded(now, slot, |core| core.receive(now, slot, kind, socket, from, datagram)),
            Err(reason) => self.meters.dropped(reason, 1),
        }
    }

    fn by_ufrag(&self, ufrag: &[u8]) -> Option<usize> {
        let slot = demux::slot_of(ufrag)?;
        let session = self.sessions.get(slot)?;
        (session.ice_ufrag.as_bytes() == ufrag).then_some(slot)
    }

    fn receive(
        &mut self,
        now: Instant,
        slot: usize,
        kind: DatagramKind,
        socket: usize,
        from: SocketAddr,
        datagram: &[u8],
    ) {
        let key = (socket, from);
        let known = self.addresses.get(&key) == Some(&slot);
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if !known && !session.may_bring_address(now) {
            return self.meters.dropped(DropReason::Rejected, 1);
        }
        match (kind, &session.role) {
            (DatagramKind::Rtcp, RoleState::Viewer) => return self.feedback(now, slot, key, datagram),
            // A viewer has nothing to send.
            (DatagramKind::Rtp, RoleState::Viewer) => return self.meters.dropped(DropReason::Rejected, 1),
            (DatagramKind::Rtp, RoleState::Publisher(_)) => {
                if !session.trusts(datagram) {
                    return self.meters.dropped(DropReason::Rejected, 1);
                }
                self.arriving = PassThrough::read(datagram, &session.extensions);
            }
            _ => {}
        }
        let to = self.sockets[socket];
        let received = session.peer.receive(now, from, to, datagram, &mut self.drained);
        if kind != DatagramKind::Stun {
            match received {
                Ok(()) => session.heard_from = Some(key),
                Err(_) => self.meters.dropped(DropReason::Rejected, 1),
            }
        // Only a request with good integrity is answered, so an answer is the proof that the address is real.
        } else if self.drained.transmits.iter().any(|transmit| transmit.destination == from) {
            self.admit(slot, key);
            if demux::nominates(datagram) {
                self.nominate(slot, key);
            }
        } else {
            self.meters.dropped(DropReason::Rejected, 1);
        }
    }

    /// The client wants its media there.
    fn nominate(&mut self, slot: usize, key: (usize, SocketAddr)) {
        if let Some(session) = self.sessions.get_mut(slot) {
            session.path = Some(key);
        }
        if let Some(Some(viewer)) = self.viewers.get_mut(slot) {
            viewer.path = key;
        }
    }

    /// Notes that the address behind `key` belongs to the session.
    fn admit(&mut self, slot: usize, key: (usize, SocketAddr)) {
        let previous = self.addresses.insert(key, slot);
        if previous == Some(slot) {
            return;
        }
        if let Some(loser) = previous.and_then(|previous| self.sessions.get_mut(previous)) {
            loser.addresses.retain(|address| *address != key);
        }
        if let Some(evicted) = self.sessions.get_mut(slot).and_then(|session| session.add_address(key)) {
            self.addresses.remove(&evicted);
            self.hang_up(evicted);
        }
    }

    pub(super) fn published(&mut self, now: Instant, slot: usize, rtp: RtpPacket) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Session { plan, peer, role: RoleState::Publisher(publisher), .. } = session else { return };
        let bytes = (rtp.header.header_len + rtp.payload.len()) as u64;
        let id = session.id;
        match publisher.packet(now, plan, peer, rtp, self.arriving) {
            Published::Packet { packet, new_codec, lost } => {
                self.meters.counters.rtp_packets_in += 1;
                self.meters.counters.rtp_bytes_in += bytes;
                self.meters.counters.rtp_lost_packets += lost;
                if let Some(silent) = publisher.check_silence(now) {
                    self.out.events.push_back(SessionEvent::Silence(id, silent));
                }
                if new_codec {
                    self.out.events.push_back(SessionEvent::Track(id, packet.header.source.codec));
                    if !packet.header.keyframe {
                        publisher.want_keyframe();
                    }
                }
                self.distribute(packet);
            }
            Published::UnselectedLayer => self.meters.dropped(DropReason::UnselectedLayer, 1),
            Published::UnknownPayload => self.meters.dropped(DropReason::Rejected, 1),
        }
    }

    fn distribute(&mut self, packet: MediaPacket) {
        let subscribers =
            self.streams.get_mut(packet.header.stream).map(|stream| stream.subscribers).unwrap_or_default();
        if self.keep(packet.clone()) && !subscribers.is_empty() {
            self.out.packets.push(Crossing { to: subscribers, packet, is_earlier: false });
        }
    }

    /// Keeps a packet for this worker's viewers; false if they are not to have it.
    fn keep(&mut self, packet: MediaPacket) -> bool {
        let pushed = self.streams.push(packet);
        self.count_refused(pushed);
        pushed == Pushed::Queued
    }

    pub(super) fn count_refused(&mut self, pushed: Pushed) {
        match pushed {
            Pushed::Queued => {}
            Pushed::Superseded => self.meters.dropped(DropReason::Superseded, 1),
            Pushed::TooLate => self.meters.dropped(DropReason::TooLate, 1),
        }
    }
}
