//! Who sends and who watches each stream, as one worker sees it.
//!
//! No worker knows where a publisher is before its packets come: a worker with viewers subscribes at all others, and
//! the one that has the publisher sends. Of several publishers the highest epoch wins.
//!
//! Of a simulcast publisher each worker is sent the layers that its viewers take; the worker that has the publisher keeps all,
//! so that a viewer anywhere can begin with any.

use super::codec::MediaKind;
use super::layers::{LayerSet, LayerTable};
use super::packet::{MediaPacket, PacketHeader};
use super::plan::{Epoch, StreamId};
use super::store::Stores;
use super::subscribers::Subscribers;
use crate::control::protocol::WorkerIndex;
use crate::mesh::Subscription;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A layer that no viewer takes any more is still received for so long: its last viewers may ask for a packet again, and what
/// went up and down with a network does so again.
const LAYER_LINGERS: Duration = Duration::from_secs(3);

/// One stream on this worker.
#[derive(Debug, Default)]
pub struct Stream {
    /// Slots of connected viewers here.
    pub viewers: Vec<usize>,
    /// Slots of connected publishers here.
    pub publishers: Vec<usize>,
    /// Other workers that have viewers.
    pub subscribers: Subscribers,
    /// The newest publisher heard.
    pub epoch: Option<Epoch>,
    /// When the first packet of that publisher was heard.
    live_since: Option<Instant>,
    /// The layers of that publisher, if it sends a simulcast.
    pub table: Option<LayerTable>,
    /// That publisher is on this worker, so that all layers come whether they are taken or not.
    is_here: bool,
    /// The layers that the viewers here take, or did a moment ago; `None` until that is known.
    watched: Option<LayerSet>,
    /// Those that nobody has taken since a while, and when they are let go.
    leaving: Option<(LayerSet, Instant)>,
    /// What the other workers were told of that.
    told: Option<Subscription>,
    /// The publisher or its layers have changed, so each viewer may have to be sent another one.
    retarget: bool,
    /// The recent packets.
    pub stores: Stores,
    /// Those of this turn, in order of arrival.
    pending: Vec<MediaPacket>,
    /// The viewer that is served first next time, so that nobody is always last.
    first_viewer: usize,
    /// It is in [`Streams::busy`].
    is_busy: bool,
    /// `viewers`, `stores` and `pending` are with the fan-out.
    serving: bool,
}

impl Stream {
    fn is_unused(&self) -> bool {
        !self.serving
            && self.viewers.is_empty()
            && self.publishers.is_empty()
            && self.subscribers.all().is_empty()
            && self.pending.is_empty()
    }

    /// Whether the publisher is on this worker, as far as is known; not one who was replaced by another elsewhere.
    pub fn has_publisher(&self) -> bool {
        !self.publishers.is_empty() && (self.is_here || self.epoch.is_none())
    }

    fn mark_busy(&mut self, id: StreamId, busy: &mut Vec<StreamId>) {
        if !std::mem::replace(&mut self.is_busy, true) {
            busy.push(id);
        }
    }

    /// Whether something of this publisher, who is on this worker or on another, may pass: not when a newer one has been heard.
    fn accepts(&mut self, epoch: Epoch, now: Instant, is_here: bool) -> bool {
        if self.epoch.is_none_or(|newest| epoch > newest) {
            (self.epoch, self.live_since, self.is_here) = (Some(epoch), Some(now), is_here);
            // Nobody is shown the pictures of the one before.
            self.stores = Stores::default();
            (self.table, self.watched, self.leaving, self.retarget) = (None, None, None, true);
            self.subscribers.assign(None);
        }
        self.epoch == Some(epoch)
    }

    /// Whether viewers here take packets with this header. Before it is known which layers they take, it may be any.
    fn takes(&self, header: &PacketHeader) -> bool {
        let is_watched = || match (&self.table, self.watched) {
            (Some(table), Some(watched)) if table.epoch == header.source.epoch => {
                watched.contains(header.source.layer)
            }
            _ => true,
        };
        !self.viewers.is_empty() && (header.kind() == MediaKind::Audio || is_watched())
    }

    /// What other workers are to send to this one.
    pub fn subscription(&self) -> Subscription {
        match (&self.table, self.watched) {
            (Some(table), Some(layers)) => Subscription { epoch: Some(table.epoch), layers },
            _ => Subscription::default(),
        }
    }

    /// The last viewer has left: nothing is taken any more, and what a publisher elsewhere sends is not heard of.
    fn unwatch(&mut self) {
        (self.watched, self.leaving, self.told) = (None, None, None);
        if !self.is_here {
            (self.table, self.stores) = (None, Stores::default());
        }
    }
}

/// What the fan-out borrows from a stream for a turn.
#[derive(Debug)]
pub struct Serving {
    /// Whose it is.
    pub stream: StreamId,
    /// The packets of this turn.
    pub packets: Vec<MediaPacket>,
    /// The recent packets, these among them.
    pub stores: Stores,
    /// When the first packet of the present publisher was heard.
    pub live_since: Option<Instant>,
    viewers: Vec<usize>,
    first: usize,
}

impl Serving {
    /// The viewers, each time another one first, so that nobody is always last.
    pub fn viewers(&self) -> impl Iterator<Item = usize> {
        self.viewers[self.first..].iter().chain(&self.viewers[..self.first]).copied()
    }
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// Kept, and queued for the fan-out of this turn.
    Queued,
    /// Kept for whoever may begin with it; no viewer here takes its layer.
    Kept,
    /// A newer publisher has taken the place of this one.
    Superseded,
    /// It is here already, or older than all that is kept.
    TooLate,
}

/// All streams on this worker.
#[derive(Debug, Default)]
pub struct Streams {
    by_id: HashMap<StreamId, Stream>,
    /// Streams whose viewers have something to be sent.
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

    /// The same, to read.
    pub fn get(&self, id: StreamId) -> Option<&Stream> {
        self.by_id.get(&id)
    }

    /// Forgets the stream if nothing needs it.
    pub fn tidy(&mut self, id: StreamId) {
        if self.by_id.get(&id).is_some_and(Stream::is_unused) {
            self.by_id.remove(&id);
        }
    }

    /// Keeps a packet, which was published on this worker or on another, and queues it for the fan-out of this turn.
    pub fn push(&mut self, packet: MediaPacket, is_here: bool) -> Pushed {
        let id = packet.header.stream;
        let stream = self.by_id.entry(id).or_default();
        if !stream.accepts(packet.header.source.epoch, packet.header.received, is_here) {
            return Pushed::Superseded;
        }
        if !stream.stores.insert(packet.clone()) {
            return Pushed::TooLate;
        }
        if !stream.takes(&packet.header) {
            return Pushed::Kept;
        }
        stream.pending.push(packet);
        stream.mark_busy(id, &mut self.busy);
        Pushed::Queued
    }

    /// Whether the viewers here take packets of another worker with this header.
    pub fn takes(&self, header: &PacketHeader) -> bool {
        self.by_id.get(&header.stream).is_some_and(|stream| stream.takes(header))
    }

    /// Takes what the layers of a publisher are, who is on this worker or on another; false if a newer one has been heard.
    pub fn set_layers(&mut self, now: Instant, id: StreamId, table: LayerTable, is_here: bool) -> bool {
        let stream = self.by_id.entry(id).or_default();
        let accepted = stream.accepts(table.epoch, now, is_here);
        if accepted {
            stream.subscribers.assign(Some(&table));
            if stream.table.is_none() {
                stream.watched = None;
            }
            (stream.table, stream.retarget) = (Some(table), true);
            stream.mark_busy(id, &mut self.busy);
        }
        accepted
    }

    /// Whether each viewer's layer must be chosen anew, since the last call.
    pub fn take_retarget(&mut self, id: StreamId) -> bool {
        self.by_id.get_mut(&id).is_some_and(|stream| std::mem::take(&mut stream.retarget))
    }

    /// Notes which layers the viewers here take; returns what other workers must be told, if that is news.
    pub fn watch(&mut self, now: Instant, id: StreamId, taken: LayerSet) -> Option<Subscription> {
        let stream = self.by_id.get_mut(&id).filter(|stream| !stream.viewers.is_empty())?;
        let watched = stream.watched.unwrap_or(taken).with(taken);
        let left = watched.without(taken);
        stream.watched = Some(watched);
        match stream.leaving.take().map(|(layers, at)| (layers.without(taken), at)) {
            Some((layers, at)) if at <= now => {
                stream.watched = Some(watched.without(layers));
                if !stream.is_here {
                    stream.stores.forget(layers);
                }
            }
            None if !left.is_empty() => stream.leaving = Some((left, now + LAYER_LINGERS)),
            leaving => stream.leaving = leaving,
        }
        let subscription = stream.subscription();
        (stream.told.replace(subscription) != Some(subscription)).then_some(subscription)
    }

    /// The stream's viewers have something to be sent in this turn.
    pub fn mark_busy(&mut self, id: StreamId) {
        if let Some(stream) = self.by_id.get_mut(&id) {
            stream.mark_busy(id, &mut self.busy);
        }
    }

    /// Keeps a packet from before this worker had viewers; they start with it.
    pub fn keep_earlier(&mut self, packet: MediaPacket) -> Pushed {
        let id = packet.header.stream;
        let stream = self.by_id.entry(id).or_default();
        if !stream.accepts(packet.header.source.epoch, packet.header.received, false) {
            return Pushed::Superseded;
        }
        let kept = stream.stores.insert(packet);
        stream.mark_busy(id, &mut self.busy);
        if kept { Pushed::Queued } else { Pushed::TooLate }
    }

    /// Lends the stream's packets and viewers to the fan-out.
    pub fn begin_serving(&mut self, id: StreamId) -> Option<Serving> {
        let stream = self.by_id.get_mut(&id)?;
        (stream.serving, stream.is_busy) = (true, false);
        let viewers = std::mem::take(&mut stream.viewers);
        let first = stream.first_viewer.checked_rem(viewers.len()).unwrap_or(0);
        stream.first_viewer = first + 1;
        Some(Serving {
            stream: id,
            packets: std::mem::take(&mut stream.pending),
            stores: std::mem::take(&mut stream.stores),
            live_since: stream.live_since,
            viewers,
            first,
        })
    }

    /// Takes back what was lent, of the viewers those that still live; true if all have left.
    pub fn end_serving(&mut self, serving: Serving, lives: impl Fn(&usize) -> bool) -> bool {
        let Some(stream) = self.by_id.get_mut(&serving.stream) else { return false };
        let Serving { mut packets, stores, mut viewers, .. } = serving;
        let had_viewers = !viewers.is_empty();
        viewers.retain(lives);
        packets.clear();
        (stream.pending, stream.stores, stream.viewers, stream.serving) = (packets, stores, viewers, false);
        let all_left = had_viewers && stream.viewers.is_empty();
        if all_left {
            stream.unwatch();
        }
        all_left
    }

    /// Takes a session out of the stream; true if it was the last viewer here.
    pub fn leave(&mut self, id: StreamId, slot: usize) -> bool {
        let Some(stream) = self.by_id.get_mut(&id) else { return false };
        stream.publishers.retain(|&publisher| publisher != slot);
        let before = stream.viewers.len();
        stream.viewers.retain(|&viewer| viewer != slot);
        let all_left = before > 0 && stream.viewers.is_empty();
        if all_left {
            stream.unwatch();
        }
        all_left
    }

    /// Streams that have viewers here: what this worker is subscribed to.
    pub fn watched(&self) -> impl Iterator<Item = (StreamId, Subscription)> {
        let watched = self.by_id.iter().filter(|(_, stream)| !stream.viewers.is_empty());
        watched.map(|(&id, _)| (id, Subscription::default()))
    }

    /// Forgets that `worker` has viewers.
    pub fn forget_subscriber(&mut self, worker: WorkerIndex) {
        self.by_id.values_mut().for_each(|stream| stream.subscribers.remove(worker));
        self.by_id.retain(|_, stream| !stream.is_unused());
    }
}
