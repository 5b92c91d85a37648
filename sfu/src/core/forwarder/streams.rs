//! Clients behind TCP: whose connection is known, and what a viewer is sent whose connection does not keep up.

use super::Forwarder;
use crate::core::codec::MediaKind;
use crate::core::egress::Trains;
use crate::core::packet::MediaPacket;
use crate::core::streams::Serving;
use crate::stats::DropReason;
use std::net::SocketAddr;
use std::time::Instant;

/// What a packet may need beside its payload: header, extensions, authentication tag and the length in front.
const OVERHEAD_BYTES: usize = 80;
/// A viewer who was set back to the next key frame goes on once its connection takes so many bytes, three quarters of what may
/// wait: to go on at once would fill it again before it has shown a second.
const RESTART_ROOM: usize = 192 << 10;

/// What a viewer is sent to catch up leaves so many bytes free, half of what may wait, so that the first large frame afterwards
/// does not set it back again.
const LIVE_ROOM: usize = 128 << 10;

impl Forwarder {
    /// Whether the client behind this address has shown that it is one of ours, by a request with good integrity.
    pub fn knows(&self, socket: usize, from: SocketAddr) -> bool {
        self.addresses.contains_key(&(socket, from))
    }

    /// A TCP connection came in, and this is its first datagram. Says whether the connection is one of ours: whether it begins with
    /// a request with good integrity. A word of a stranger changes nothing, whatever is known of his address.
    pub fn connected(&mut self, now: Instant, socket: usize, from: SocketAddr, first: &[u8]) -> bool {
        let is_genuine = self.is_genuine(first);
        if is_genuine {
            // A connection that came from the same port before is gone, and what is known of it is not known of this one.
            self.disconnected(now, socket, from);
        }
        self.handle_datagram(now, socket, from, first);
        is_genuine && self.knows(socket, from)
    }

    /// The TCP connection of a client is gone. Its session lives on while its consent does: it may come back on another.
    pub fn disconnected(&mut self, now: Instant, socket: usize, from: SocketAddr) {
        let key = (socket, from);
        let Some(slot) = self.addresses.remove(&key) else { return };
        if let Some(session) = self.sessions.get_mut(slot) {
            session.paths.disconnected(key);
            self.schedule(now, slot);
        }
    }

    /// How many bytes of old packets a viewer's way takes beside those of the turn; none if it cannot take even these. Then they
    /// are dropped whole, and the viewer goes on with the next key frame after its way is free again.
    pub(super) fn room(
        &mut self,
        now: Instant,
        slot: usize,
        serving: &Serving,
        trains: &dyn Trains,
    ) -> Option<usize> {
        let viewer = self.viewers.get_mut(slot)?.as_mut()?;
        let room = trains.room(viewer.path.0, viewer.path.1);
        if room == usize::MAX {
            return Some(room);
        }
        let taken = || serving.packets.iter().filter(|packet| viewer.takes(packet));
        let has_caught_up = viewer.has_caught_up();
        let sent = taken().filter(|packet| has_caught_up || packet.header.kind() == MediaKind::Audio);
        let (withheld, needed) = (taken().count() as u64, sent.map(bytes_of).sum::<usize>());
        if needed <= room && (room >= RESTART_ROOM || !viewer.skips()) {
            return Some(room.saturating_sub(needed + LIVE_ROOM));
        }
        let overflows = viewer.skip_to_keyframe(now, &serving.stores);
        self.meters.counters.tcp_overflows += u64::from(overflows);
        self.meters.dropped(DropReason::TcpQueueFull, withheld);
        None
    }
}

fn bytes_of(packet: &MediaPacket) -> usize {
    packet.payload.len() + OVERHEAD_BYTES
}
