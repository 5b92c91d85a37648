//! Packets out: to the viewers here, and between workers; key-frame requests the other way.

use super::Forwarder;
use crate::control::protocol::{EndReason, SessionId, WorkerIndex};
use crate::core::egress::Trains;
use crate::core::layers::{LayerIndex, LayerSet, Wish};
use crate::core::ntp::Turn;
use crate::core::outbox::Crossing;
use crate::core::packet::MediaPacket;
use crate::core::plan::StreamId;
use crate::core::session::RoleState;
use crate::core::streams::Serving;
use crate::mesh::{Signal, Subscription, WorkerSet};
use crate::stats::DropReason;
use std::time::{Duration, Instant};

/// Packets that a worker with its first viewer is sent at once: half of what may wait for it, and 3.5 s of 2.5 Mbit/s.
pub const GROUP_PACKETS_MAX: usize = crate::mesh::PACKETS_MAX / 2;

/// Payload bytes that viewers who catch up are sent in one turn, all together: 7,000 packets of 1.2 kB at some 1 µs each
/// (`bench egress`), a fifth of a frame's time.
const CATCH_UP_BYTES_PER_TURN: usize = 8 << 20;
/// Viewers who catch up are sent something so often at least.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(10);

impl Forwarder {
    /// A packet came from another worker; an earlier one is from before this worker had viewers.
    pub fn handle_packet(&mut self, packet: MediaPacket, is_earlier: bool) {
        // One that was on its way when the last viewer left it is nobody's.
        if self.streams.takes(&packet.header) {
            let pushed =
                if is_earlier { self.streams.keep_earlier(packet) } else { self.streams.push(packet, false) };
            self.count_refused(pushed);
        }
    }

    /// Another worker said something.
    pub fn handle_signal(&mut self, now: Instant, from: WorkerIndex, signal: Signal) {
        match signal {
            Signal::Subscribe(stream, subscription) => self.subscribed(now, from, stream, subscription),
            Signal::Unsubscribe(stream) => {
                if let Some(found) = self.streams.get_mut(stream) {
                    found.subscribers.remove(from);
                }
                self.streams.tidy(stream);
            }
            Signal::Layers(stream, table) => {
                if self.streams.get(stream).is_some_and(|stream| !stream.viewers.is_empty()) {
                    self.streams.set_layers(now, stream, table, false);
                }
            }
            Signal::WantKeyframe(stream, layer) => {
                let _ = self.want_local_keyframe(now, stream, layer);
            }
            Signal::Address(notice) => self.handle_notice(from, notice),
            Signal::Restarted => {
                self.claim_again(from);
                self.streams.forget_subscriber(from);
                let watched = self.streams.watched();
                let subscribe = |(stream, wanted)| (from, Signal::Subscribe(stream, wanted));
                self.out.signals.extend(watched.map(subscribe));
            }
        }
    }

    /// Another worker has viewers, who take other layers than before.
    fn subscribed(&mut self, now: Instant, from: WorkerIndex, id: StreamId, subscription: Subscription) {
        let stream = self.streams.entry(id);
        let new = stream.subscribers.insert(from, subscription, stream.table.as_ref());
        if !stream.has_publisher() {
            return;
        }
        if let Some(table) = stream.table.clone().filter(|table| Some(table.epoch) != subscription.epoch) {
            self.tell(from, Signal::Layers(id, table));
        }
        for layer in new.iter() {
            if !self.send_group(from, id, layer) {
                let _ = self.want_local_keyframe(now, id, layer);
            }
        }
    }

    /// Gives a worker that has its first viewer of a layer what a viewer here would start with; false if there is nothing.
    fn send_group(&mut self, to: WorkerIndex, stream: StreamId, layer: LayerIndex) -> bool {
        let Some(found) = self.streams.get(stream) else { return false };
        let store = found.stores.video(layer);
        let Some(keyframe) = store.newest_keyframe() else { return false };
        let group = store.since(keyframe.header.sequence);
        let room = GROUP_PACKETS_MAX.saturating_sub(self.out.packets.len());
        if group.clone().nth(room).is_some() {
            return false;
        }
        let mut only = WorkerSet::default();
        only.insert(to);
        let crossing = |packet: &MediaPacket| Crossing { to: only, packet: packet.clone(), is_earlier: true };
        self.out.packets.extend(group.map(crossing));
        true
    }

    /// Sends the packets of this turn to their viewers, then what viewers asked to have again.
    pub fn fan_out(&mut self, now: Instant, trains: &mut dyn Trains) {
        self.resume_catching_up(now);
        self.catch_up_bytes = CATCH_UP_BYTES_PER_TURN;
        let turn = Turn { now, time: self.clock.at(now) };
        let mut busy = std::mem::take(&mut self.streams.busy);
        for id in busy.drain(..) {
            let Some(serving) = self.streams.begin_serving(id) else { continue };
            (self.wants_turn, self.wants_keyframes, self.taken) = Default::default();
            if self.streams.take_retarget(id) {
                serving.viewers().for_each(|slot| self.retarget(now, slot));
            }
            for slot in serving.viewers() {
                self.caught(slot, |core| core.serve(turn, slot, &serving, trains));
            }
            if serving.viewers().next().is_some() {
                self.forwarded.extend(serving.packets.iter().map(|packet| packet.header.received));
            }
            if self.wants_turn {
                self.to_catch_up.push(id);
            }
            for layer in self.wants_keyframes.iter() {
                self.want_keyframe(now, id, layer);
            }
            let sessions = &self.sessions;
            let lives = |slot: &usize| {
                sessions.get(*slot).is_some_and(|session| session.plan.stream == id && session.is_connected())
            };
            if self.streams.end_serving(serving, lives) {
                self.broadcast(&Signal::Unsubscribe(id));
            } else if let Some(subscription) = self.streams.watch(now, id, self.taken) {
                self.broadcast(&Signal::Subscribe(id, subscription));
            }
            self.streams.tidy(id);
        }
        self.streams.busy = busy;
        if !self.to_catch_up.is_empty() && self.catch_up_at.is_none() {
            self.catch_up_at = Some(now + CATCH_UP_INTERVAL);
        }
        for slot in std::mem::take(&mut self.to_retransmit) {
            self.caught(slot, |core| core.retransmit(turn, slot, trains));
        }
    }

    /// Viewers who catch up or wait do so also when no packet comes.
    fn resume_catching_up(&mut self, now: Instant) {
        if self.catch_up_at.is_some_and(|at| at <= now) {
            self.catch_up_at = None;
            for id in self.to_catch_up.drain(..) {
                self.streams.mark_busy(id);
            }
        }
    }

    fn serve(&mut self, turn: Turn, slot: usize, serving: &Serving, trains: &mut dyn Trains) {
        let now = turn.now;
        let room = self.room(now, slot, serving, trains);
        let Some(Some(viewer)) = self.viewers.get_mut(slot) else { return };
        let Some(room) = room else {
            // Without the packets of its layer there would be nothing to go on with.
            self.taken = self.taken.with(viewer.taken());
            return;
        };
        let (mut packets, mut awaiting) = (&serving.packets, 0);
        if !viewer.is_live(&serving.stores) {
            let (allowed, mut bytes) = (self.catch_up_bytes.min(room), self.catch_up_bytes.min(room));
            let gathered = viewer.gather(now, &serving.stores, packets, &mut bytes, &mut self.gathered);
            self.catch_up_bytes -= allowed - bytes;
            awaiting = gathered.withheld;
            self.wants_turn |= gathered.wants_turn;
            if let Some(layer) = gathered.wants_keyframe {
                self.wants_keyframes = self.wants_keyframes.with(LayerSet::of(layer));
            }
            packets = &self.gathered;
        }
        self.taken = self.taken.with(viewer.taken());
        self.outgoing.clear();
        let withheld = viewer.number(packets, &mut self.outgoing);
        if !self.outgoing.is_empty() {
            let sent = viewer.send(turn.time, packets, &self.outgoing, trains);
            viewer.retransmissions.earn(sent.bytes as usize);
            viewer.report(turn, trains);
            self.meters.sent(sent);
            for phase in viewer.phases_reached(packets, &self.outgoing) {
                // A viewer who came first waits for the publisher, which is no delay of ours.
                let since = viewer.created.max(serving.live_since.unwrap_or(now));
                self.meters.joined(phase, now.saturating_duration_since(since));
            }
        }
        if awaiting + withheld.too_old > 0 {
            self.meters.dropped(DropReason::AwaitingKeyframe, awaiting);
            self.meters.dropped(DropReason::TooLate, withheld.too_old);
        }
        if withheld.codec_mismatch {
            self.close(now, slot, EndReason::CodecMismatch);
        }
    }

    /// A viewer wants this simulcast layer.
    pub fn select_layer(&mut self, now: Instant, session: SessionId, wish: Wish) {
        let slot = session.slot as usize;
        let Some(found) = self.sessions.get_mut(slot).filter(|found| found.id == session) else { return };
        found.wish = wish;
        let stream = found.plan.stream;
        self.retarget(now, slot);
        self.streams.mark_busy(stream);
    }

    /// Chooses anew which layer a viewer is to be sent. While the publisher sends none, what it was remains.
    pub(super) fn retarget(&mut self, now: Instant, slot: usize) {
        let Some(session) = self.sessions.get(slot) else { return };
        let Some(Some(viewer)) = self.viewers.get_mut(slot) else { return };
        let table = self.streams.get(session.plan.stream).and_then(|stream| stream.table.as_ref());
        let layer = table.map_or(Some(LayerIndex::default()), |table| table.desired(&session.wish));
        layer.into_iter().for_each(|layer| viewer.aim(now, layer));
    }

    /// Sends a viewer again what it asked for.
    fn retransmit(&mut self, turn: Turn, slot: usize, trains: &mut dyn Trains) {
        let Some(Some(viewer)) = self.viewers.get_mut(slot) else { return };
        let Some(stream) = self.sessions.get(slot).and_then(|session| self.streams.get(session.plan.stream))
        else {
            return;
        };
        self.gathered.clear();
        self.outgoing.clear();
        let (expired, beyond_budget) =
            viewer.number_again(&stream.stores, &mut self.gathered, &mut self.outgoing);
        self.meters.dropped(DropReason::RetransmissionExpired, expired);
        self.meters.dropped(DropReason::RetransmissionBudget, beyond_budget);
        let sent = viewer.send(turn.time, &self.gathered, &self.outgoing, trains);
        self.meters.sent(sent);
        self.meters.counters.retransmitted_packets += sent.packets;
    }

    /// Asks the stream's publishers for a key frame of a layer, wherever they are.
    pub(super) fn want_keyframe(&mut self, now: Instant, stream: StreamId, layer: LayerIndex) {
        if !self.want_local_keyframe(now, stream, layer) {
            self.broadcast(&Signal::WantKeyframe(stream, layer));
        }
    }

    /// Asks the publishers on this worker; false if there is none.
    pub(super) fn want_local_keyframe(&mut self, now: Instant, stream: StreamId, layer: LayerIndex) -> bool {
        let Some(found) = self.streams.get(stream).filter(|found| found.has_publisher()) else {
            return false;
        };
        for slot in found.publishers.clone() {
            let Some(session) = self.sessions.get_mut(slot) else { continue };
            let RoleState::Publisher(publisher) = &mut session.role else { continue };
            publisher.want_keyframe(layer);
            self.schedule(now, slot);
        }
        true
    }

    /// Tells every other worker.
    pub(super) fn broadcast(&mut self, signal: &Signal) {
        self.others.iter().for_each(|worker| self.tell(worker, signal.clone()));
    }

    /// Tells another worker. What waits already need not wait twice, and of subscribing and unsubscribing the last word counts;
    /// this bounds the queue by the number of streams and their layers. Of addresses there are too many to look through.
    pub(super) fn tell(&mut self, worker: WorkerIndex, signal: Signal) {
        if !matches!(signal, Signal::Address(_)) {
            self.out.signals.retain(|(to, waiting)| *to != worker || !signal.replaces(waiting));
        }
        self.out.signals.push_back((worker, signal));
    }
}
