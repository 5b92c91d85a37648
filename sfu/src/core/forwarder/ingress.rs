//! Datagrams in: to their session, and from publishers on to the streams.

use super::Forwarder;
use crate::core::demux::DatagramKind;
use crate::core::extensions::PassThrough;
use crate::core::ice_check::Path;
use crate::core::outbox::{Crossing, SessionEvent};
use crate::core::packet::MediaPacket;
use crate::core::publisher::{Published, Publisher};
use crate::core::session::{RoleState, Session};
use crate::core::shared_port::Origin;
use crate::core::streams::Pushed;
use crate::mesh::Signal;
use crate::stats::DropReason;
use std::net::SocketAddr;
use std::time::Instant;
use str0m::Event;
use str0m::rtp::RtpPacket;

impl Forwarder {
    /// A datagram arrived on socket number `socket`.
    pub fn handle_datagram(&mut self, now: Instant, socket: usize, from: SocketAddr, datagram: &[u8]) {
        self.handle_from(now, Origin::direct((socket, from)), datagram);
    }

    /// The same for one that may have arrived at another worker.
    pub fn handle_from(&mut self, now: Instant, origin: Origin, datagram: &[u8]) {
        let path = origin.path;
        match DatagramKind::of(datagram) {
            Some(DatagramKind::Stun) => self.handle_stun(now, origin, datagram),
            Some(kind) => match self.addresses.get(&path) {
                Some(&slot) => self.guarded(now, slot, |core| core.receive(now, slot, kind, path, datagram)),
                None => {
                    self.disown(origin);
                    let owner = self.owner_elsewhere(path);
                    self.pass_on(origin, owner, DropReason::UnknownAddress, datagram);
                }
            },
            None => self.meters.dropped(DropReason::NotMedia, 1),
        }
    }

    fn receive(&mut self, now: Instant, slot: usize, kind: DatagramKind, path: Path, datagram: &[u8]) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if session.is_ending() && kind != DatagramKind::Dtls {
            return; // sent before the client knew
        }
        match (kind, &session.role) {
            (DatagramKind::Rtcp, RoleState::Viewer) => return self.feedback(now, slot, path, datagram),
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
        session.paths.received(path, datagram.len());
        match session.peer.receive(now, datagram, &mut self.drained) {
            Ok(()) => session.paths.heard_from(path),
            Err(_) => self.meters.dropped(DropReason::Rejected, 1),
        }
        if self.drained.events.iter().any(|event| matches!(event, Event::RtpPacket(_))) {
            session.paths.consented(now, path);
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
                        publisher.want_keyframe(packet.header.source.layer);
                    }
                }
                self.tell_layers(now, slot);
                self.distribute(packet);
            }
            Published::NoLayer => self.meters.dropped(DropReason::UnselectedLayer, 1),
            Published::UnknownPayload => self.meters.dropped(DropReason::Rejected, 1),
        }
    }

    /// Passes on what is news about a publisher's layers: to the viewers here, to other workers that have some, and to signaling.
    pub(super) fn tell_layers(&mut self, now: Instant, slot: usize) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let (id, stream) = (session.id, session.plan.stream);
        let RoleState::Publisher(Publisher { layers: Some(layers), .. }) = &mut session.role else { return };
        let news = layers.take_news();
        if let Some(report) = layers.take_report(now) {
            self.out.events.push_back(SessionEvent::Layers(id, report));
        }
        let Some(table) = news else { return };
        if self.streams.set_layers(now, stream, table.clone(), true) {
            for worker in self.streams.entry(stream).subscribers.all().iter() {
                self.tell(worker, Signal::Layers(stream, table.clone()));
            }
        }
    }

    fn distribute(&mut self, packet: MediaPacket) {
        let pushed = self.streams.push(packet.clone(), true);
        self.count_refused(pushed);
        let Some(stream) = self.streams.get(packet.header.stream) else { return };
        let to = stream.subscribers.of(&packet.header);
        match pushed {
            Pushed::Superseded | Pushed::TooLate => {}
            Pushed::Kept if to.is_empty() => {
                let is_watched = !stream.viewers.is_empty() || !stream.subscribers.all().is_empty();
                self.meters.dropped(DropReason::UnselectedLayer, u64::from(is_watched));
            }
            Pushed::Kept | Pushed::Queued => {
                if !to.is_empty() {
                    self.out.packets.push(Crossing { to, packet, is_earlier: false });
                }
            }
        }
    }

    pub(super) fn count_refused(&mut self, pushed: Pushed) {
        match pushed {
            Pushed::Queued | Pushed::Kept => {}
            Pushed::Superseded => self.meters.dropped(DropReason::Superseded, 1),
            Pushed::TooLate => self.meters.dropped(DropReason::TooLate, 1),
        }
    }
}
