//! Who sends and who watches each stream, as one worker sees it.
//!
//! No worker knows where a publisher is before its packets come: a worker with viewers subscribes at all others, and
//! the one that has the publisher sends. Of several publishers the highest epoch wins.

use super::packet::{MediaPacket, PacketHeader};
use super::plan::{Epoch, StreamId};
use crate::control::protocol::WorkerIndex;
use crate::mesh::WorkerSet;
use std::collections::HashMap;
use std::time::Instant;

/// One stream on this worker.
#[derive(Debug, Default)]
pub struct Stream {
    /// Slots of connected viewers here.
    pub viewers: Vec<usize>,
    /// Slots of connected publishers here.
    pub publishers: Vec<usize>,
    /// Other workers that have viewers.
    pub subscribers: WorkerSet,
    /// The newest publisher heard.
    pub epoch: Option<Epoch>,
    /// When the first packet of that publisher was heard.
    live_since: Option<Instant>,
    /// Packets of this turn, in order of arrival.
    pub pending: Vec<MediaPacket>,
    /// The viewer that is served first next time, so that nobody is always last.
    first_viewer: usize,
    /// `viewers` and `pending` are with the fan-out.
    serving: bool,
}

impl Stream {
    fn is_unused(&self) -> bool {
        !self.serving
            && self.viewers.is_empty()
            && self.publishers.is_empty()
            && self.subscribers.is_empty()
            && self.pending.is_empty()
    }

    /// Whether a packet of this publisher may pass: not when a newer publisher has been heard.
    fn accepts(&mut self, header: &PacketHeader) -> bool {
        let epoch = header.source.epoch;
        if self.epoch.is_none_or(|newest| epoch > newest) {
            (self.epoch, self.live_since) = (Some(epoch), Some(header.received));
        }
        self.epoch == Some(epoch)
    }
}

/// All streams on this worker.
#[derive(Debug, Default)]
pub struct Streams {
    by_id: HashMap<StreamId, Stream>,
    /// Streams with pending packets.
    pub busy: Vec<StreamId>,
}

impl Streams {
    /// The stream, made if it is new.
    pub fn entry(&mut self, id: StreamId) -> &mut Stream {
        self.by_id.entry(id).or_default()
    }

    /// The stream, if this worker knows it.
    pub fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.by_id.get_mut(&id)
    }

    /// Forgets the stream if nothing needs it.
    pub fn tidy(&mut self, id: StreamId) {
        if self.by_id.get(&id).is_some_and(Stream::is_unused) {
            self.by_id.remove(&id);
        }
    }

    /// Queues a packet for the fan-out of this turn. False if a newer publisher has taken its place.
    pub fn push(&mut self, packet: MediaPacket) -> bool {
        let id = packet.header.stream;
        let stream = self.by_id.entry(id).or_default();
        if !stream.accepts(&packet.header) {
            return false;
        }
        if stream.pending.is_empty() {
            self.busy.push(id);
        }
        stream.pending.push(packet);
        true
    }

    /// When the first packet of the stream's present publisher was heard.
    pub fn live_since(&self, id: StreamId) -> Option<Instant> {
        self.by_id.get(&id)?.live_since
    }

    /// Lends the stream's packets and viewers to the fan-out, with the index of the viewer to begin with.
    pub fn begin_serving(&mut self, id: StreamId) -> Option<(Vec<MediaPacket>, Vec<usize>, usize)> {
        let stream = self.by_id.get_mut(&id)?;
        stream.serving = true;
        let (packets, viewers) = (std::mem::take(&mut stream.pending), std::mem::take(&mut stream.viewers));
        let first = stream.first_viewer.checked_rem(viewers.len()).unwrap_or(0);
        stream.first_viewer = first + 1;
        Some((packets, viewers, first))
    }

    /// Takes the emptied packet buffer and those viewers back that still live; true if all have left.
    pub fn end_serving(
        &mut self,
        id: StreamId,
        packets: Vec<MediaPacket>,
        mut viewers: Vec<usize>,
        lives: impl Fn(&usize) -> bool,
    ) -> bool {
        let Some(stream) = self.by_id.get_mut(&id) else { return false };
        let had_viewers = !viewers.is_empty();
        viewers.retain(lives);
        (stream.pending, stream.viewers, stream.serving) = (packets, viewers, false);
        had_viewers && stream.viewers.is_empty()
    }

    /// Takes a session out of the stream; true if it was the last viewer here.
    pub fn leave(&mut self, id: StreamId, slot: usize) -> bool {
        let Some(stream) = self.by_id.get_mut(&id) else { return false };
        stream.publishers.retain(|&publisher| publisher != slot);
        let before = stream.viewers.len();
        stream.viewers.retain(|&viewer| viewer != slot);
        before > 0 && stream.viewers.is_empty()
    }

    /// Streams that have viewers here: what this worker is subscribed to.
    pub fn watched(&self) -> impl Iterator<Item = StreamId> {
        self.by_id.iter().filter(|(_, stream)| !stream.viewers.is_empty()).map(|(&id, _)| id)
    }

    /// Forgets that `worker` has viewers.
    pub fn forget_subscriber(&mut self, worker: WorkerIndex) {
        self.by_id.values_mut().for_each(|stream| stream.subscribers.remove(worker));
        self.by_id.retain(|_, stream| !stream.is_unused());
    }
}
