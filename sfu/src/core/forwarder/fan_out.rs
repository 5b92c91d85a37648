//! Packets out: to the viewers here, and between workers; key-frame requests the other way.

use super::Forwarder;
use crate::control::protocol::{EndReason, WorkerIndex};
use crate::core::codec::MediaKind;
use crate::core::packet::MediaPacket;
use crate::core::plan::StreamId;
use crate::core::session::{RoleState, Session};
use crate::core::viewer::Forwarded;
use crate::mesh::Signal;
use crate::stats::{DropReason, JoinPhase};
use std::time::Instant;

impl Forwarder {
    /// A packet came from another worker.
    pub fn handle_packet(&mut self, packet: MediaPacket) {
        let watched = self.streams.get_mut(packet.header.stream).is_some_and(|s| !s.viewers.is_empty());
        if watched && !self.streams.push(packet) {
            self.meters.dropped(DropReason::Superseded, 1);
        }
    }

    /// Another worker said something.
    pub fn handle_signal(&mut self, now: Instant, from: WorkerIndex, signal: Signal) {
        match signal {
            Signal::Subscribe(stream) => {
                self.streams.entry(stream).subscribers.insert(from);
                let _ = self.want_local_keyframe(now, stream);
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

    /// Writes the packets of this turn to their viewers.
    pub fn fan_out(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.streams.busy) {
            let Some((mut packets, viewers, first)) = self.streams.begin_serving(id) else { continue };
            let live_since = self.streams.live_since(id).unwrap_or(now);
            for &slot in viewers[first..].iter().chain(&viewers[..first]) {
                self.guarded(now, slot, |core| core.serve(now, slot, live_since, &packets));
            }
            if !viewers.is_empty() {
                self.forwarded.extend(packets.iter().map(|packet| packet.header.received));
            }
            packets.clear();
            let sessions = &self.sessions;
            let lives = |slot: &usize| {
                sessions.get(*slot).is_some_and(|session| session.plan.stream == id && session.is_connected())
            };
            if self.streams.end_serving(id, packets, viewers, lives) {
                self.broadcast(Signal::Unsubscribe(id));
                self.streams.tidy(id);
            }
        }
    }

    fn serve(&mut self, now: Instant, slot: usize, live_since: Instant, packets: &[MediaPacket]) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Session { plan, peer, role: RoleState::Viewer(viewer), .. } = session else { return };
        let (mut mismatch, mut keyframe, mut waiting) = (false, false, false);
        let written = peer.with(now, &mut self.drained, |rtc| {
            let mut written = false;
            for packet in packets {
                match viewer.forward(now, plan, rtc, packet) {
                    Forwarded::Sent => {
                        written = true;
                        keyframe |= packet.header.keyframe && packet.header.kind() == MediaKind::Video;
                    }
                    Forwarded::AwaitingKeyframe => waiting = true,
                    Forwarded::CodecMismatch => mismatch = true,
                    Forwarded::NotWanted | Forwarded::TooOld => {}
                }
            }
            written
        });
        // A viewer who came first waits for the publisher, which is no delay of ours.
        let after = now.saturating_duration_since(session.created.max(live_since));
        if written.unwrap_or(false) && !std::mem::replace(&mut viewer.first_packet_sent, true) {
            self.meters.joined(JoinPhase::FirstPacket, after);
        }
        if keyframe && !std::mem::replace(&mut viewer.first_keyframe_sent, true) {
            self.meters.joined(JoinPhase::FirstKeyframe, after);
        }
        if mismatch {
            session.close(now, EndReason::CodecMismatch, &mut self.drained);
        } else if waiting {
            let stream = session.plan.stream;
            self.want_keyframe(now, stream);
        }
    }

    /// Asks the stream's publishers for a key frame, wherever they are.
    pub(super) fn want_keyframe(&mut self, now: Instant, stream: StreamId) {
        if !self.want_local_keyframe(now, stream) {
            self.broadcast(Signal::WantKeyframe(stream));
        }
    }

    /// Asks the publishers on this worker; false if there is none.
    fn want_local_keyframe(&mut self, now: Instant, stream: StreamId) -> bool {
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
