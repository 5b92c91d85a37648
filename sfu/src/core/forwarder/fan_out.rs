//! Packets out: to the viewers here, and between workers; key-frame requests the other way.

use super::Forwarder;
use crate::control::protocol::{EndReason, WorkerIndex};
use crate::core::codec::MediaKind;
use crate::core::egress::Trains;
use crate::core::ntp::Turn;
use crate::core::outbox::Crossing;
use crate::core::packet::MediaPacket;
use crate::core::plan::StreamId;
use crate::core::session::RoleState;
use crate::core::streams::Serving;
use crate::mesh::{Signal, WorkerSet};
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
        // One that was on its way when the last viewer left is nobody's.
        if self.streams.get(packet.header.stream).is_some_and(|stream| !stream.viewers.is_empty()) {
            let pushed =
                if is_earlier { self.streams.keep_earlier(packet) } else { self.streams.push(packet) };
            self.count_refused(pushed);
        }
    }

    /// Another worker said something.
    pub fn handle_signal(&mut self, now: Instant, from: WorkerIndex, signal: Signal) {
        match signal {
            Signal::Subscribe(stream) => {
                self.streams.entry(stream).subscribers.insert(from);
                if !self.send_group(from, stream) {
                    let _ = self.want_local_keyframe(now, stream);
                }
            }
            Signal::Unsubscribe(stream) => {
                if let Some(found) = self.streams.get_mut(stream) {
                    found.subscribers.remove(from);
                }
                self.streams.tidy(stream);
            }
            Signal::WantKeyframe(stream) => {
                let _ = self.want_local_keyframe(now, stream);
            }
            Signal::Restarted => {
                self.streams.forget_subscriber(from);
                let watched = self.streams.watched();
                self.out.signals.extend(watched.map(|stream| (from, Signal::Subscribe(stream))));
            }
        }
    }

    /// Gives a worker that has its first viewer of a stream what a viewer here would start with; false if there is nothing.
    fn send_group(&mut self, to: WorkerIndex, stream: StreamId) -> bool {
        let Some(found) = self.streams.get(stream).filter(|found| !found.publishers.is_empty()) else {
            return false;
        };
        let store = &found.stores[MediaKind::Video as usize];
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
            (self.wants_turn, self.wants_keyframe) = (false, false);
            for slot in serving.viewers() {
                self.caught(slot, |core| core.serve(turn, slot, &serving, trains));
            }
            if serving.viewers().next().is_some() {
                self.forwarded.extend(serving.packets.iter().map(|packet| packet.header.received));
            }
            if self.wants_turn {
                self.to_catch_up.push(id);
            }
            if self.wants_keyframe {
                self.want_keyframe(now, id);
            }
            let sessions = &self.sessions;
            let lives = |slot: &usize| {
                sessions.get(*slot).is_some_and(|session| session.plan.stream == id && session.is_connected())
            };
            if self.streams.end_serving(serving, lives) {
                self.broadcast(Signal::Unsubscribe(id));
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
        let Some(room) = self.room(now, slot, serving, trains) else { return };
        let Some(Some(viewer)) = self.viewers.get_mut(slot) else { return };
        let (mut packets, mut awaiting) = (&serving.packets, 0);
        if !viewer.is_live(&serving.stores) {
            let (allowed, mut bytes) = (self.catch_up_bytes.min(room), self.catch_up_bytes.min(room));
            let gathered = viewer.gather(now, &serving.stores, packets, &mut bytes, &mut self.gathered);
            self.catch_up_bytes -= allowed - bytes;
            awaiting = gathered.withheld;
            self.wants_turn |= gathered.wants_turn;
            packets = &self.gathered;
        }
        self.outgoing.clear();
        let withheld = viewer.number(now, packets, &mut self.outgoing);
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
        } else {
            self.wants_keyframe |= awaiting > 0;
        }
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

    /// Asks the stream's publishers for a key frame, wherever they are.
    pub(super) fn want_keyframe(&mut self, now: Instant, stream: StreamId) {
        if !self.want_local_keyframe(now, stream) {
            self.broadcast(Signal::WantKeyframe(stream));
        }
    }

    /// Asks the publishers on this worker; false if there is none.
    pub(super) fn want_local_keyframe(&mut self, now: Instant, stream: StreamId) -> bool {
        let publishers =
            self.streams.get_mut(stream).map(|stream| stream.publishers.clone()).unwrap_or_default();
        for &slot in &publishers {
            let Some(session) = self.sessions.get_mut(slot) else { continue };
            let RoleState::Publisher(publisher) = &mut session.role else { continue };
            publisher.want_keyframe();
            self.schedule(now, slot);
        }
        !publishers.is_empty()
    }

    /// Tells every other worker. What waits already need not wait twice, and of subscribing and unsubscribing the last word
    /// counts; this bounds the queue by the number of streams.
    pub(super) fn broadcast(&mut self, signal: Signal) {
        for worker in self.others.iter() {
            self.out.signals.retain(|(to, waiting)| *to != worker || !signal.replaces(waiting));
            self.out.signals.push_back((worker, signal));
        }
    }
}
