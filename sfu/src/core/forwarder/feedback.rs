//! RTCP of viewers: what they ask for, and what they say about what arrived.

use super::Forwarder;
use crate::core::ice_check::Path;
use crate::core::outbox::Transmit;
use crate::core::plan::Ssrc;
use crate::core::retransmission::Request;
use crate::core::rtcp::{Compound, Feedback, NackedSequences};
use crate::core::srtp::OpenError;
use crate::stats::DropReason;
use std::time::Instant;

impl Forwarder {
    /// A viewer's RTCP arrived.
    pub(super) fn feedback(&mut self, now: Instant, slot: usize, path: Path, datagram: &[u8]) {
        let Some(Some(viewer)) = self.viewers.get_mut(slot) else {
            return self.meters.dropped(DropReason::Rejected, 1);
        };
        let mut clear = std::mem::take(&mut self.rtcp);
        match viewer.reports.open(datagram, &mut clear) {
            Ok(compound) => {
                if let Some(session) = self.sessions.get_mut(slot) {
                    session.paths.heard_from(path);
                    session.paths.consented(now, path);
                }
                self.follow_feedback(now, slot, compound);
            }
            Err(OpenError::Replayed) => self.meters.dropped(DropReason::RtcpReplayed, 1),
            Err(_) => self.meters.dropped(DropReason::Rejected, 1),
        }
        self.rtcp = clear;
    }

    fn follow_feedback(&mut self, now: Instant, slot: usize, compound: &[u8]) {
        let time = self.clock.at(now);
        let mut wants_keyframe = false;
        for feedback in Compound::new(compound) {
            let Some(Some(viewer)) = self.viewers.get_mut(slot) else { return };
            let is_ours = |ssrc| viewer.kind_of(ssrc).is_some();
            match feedback {
                Feedback::Report { blocks, .. } => {
                    blocks.for_each(|block| viewer.received(time, &block));
                }
                Feedback::Nack { media, sequences } => self.nack(now, slot, media, sequences),
                Feedback::Pli { media } => wants_keyframe |= is_ours(media),
                Feedback::Fir { mut entries, .. } => {
                    wants_keyframe |= entries.any(|entry| is_ours(entry.media))
                }
                _ => {}
            }
        }
        let Some(Some(viewer)) = self.viewers.get(slot) else { return };
        let (layer, _) = viewer.layers();
        if wants_keyframe && let Some(session) = self.sessions.get(slot) {
            let stream = session.plan.stream;
            self.want_keyframe(now, stream, layer);
        }
    }

    fn nack(&mut self, now: Instant, slot: usize, media: Ssrc, sequences: NackedSequences<'_>) {
        let Some(Some(viewer)) = self.viewers.get_mut(slot) else { return };
        let Some(kind) = viewer.repeated(media) else {
            return self.meters.dropped(DropReason::Rejected, 1);
        };
        for sequence in sequences {
            match viewer.retransmissions.request(now, viewer.reports.rtt, kind, sequence) {
                Request::Taken => {}
                Request::Repeated => self.meters.dropped(DropReason::RetransmissionRepeated, 1),
                Request::TooMany => self.meters.dropped(DropReason::RetransmissionBudget, 1),
            }
        }
        if !self.to_retransmit.contains(&slot) {
            self.to_retransmit.push(slot);
        }
    }

    /// Tells a viewer that it will be sent nothing more (RFC 3550 §6.6).
    pub(super) fn say_bye(&mut self, slot: usize) {
        let Some(Some(viewer)) = self.viewers.get_mut(slot) else { return };
        let mut contents = Vec::new();
        let ssrcs = viewer.ssrcs();
        if viewer.reports.write_bye(&ssrcs, &mut contents).is_ok() {
            let (socket, to) = viewer.path;
            self.out.transmits.push(Transmit { socket, to, contents });
        }
    }
}
