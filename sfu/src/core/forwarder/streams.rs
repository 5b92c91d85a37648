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

    /// The TCP connection of a client is gone. Its session lives on while its consent does: it may come back on another.
    pub fn disconnected(&mut self, socket: usize, from: SocketAddr) {
        let key = (socket, from);
        if let Some(session) = self.addresses.remove(&key).and_then(|slot| self.sessions.get_mut(slot)) {
            session.paths.remove(key);
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
