//! RTCP of viewers: what they ask for, and what they say about what arrived.

use super::Forwarder;
use crate::core::outbox::Transmit;
use crate::core::plan::Ssrc;
use crate::core::retransmission::Request;
use crate::core::rtcp::{self, Feedback};
use crate::core::srtp::OpenError;
use crate::core::viewer::Viewer;
use crate::stats::DropReason;
use std::net::SocketAddr;
use std::time::Instant;

impl Forwarder {
    /// A viewer's RTCP arrived.
    pub(super) fn feedback(&mut self, now: Instant, slot: usize, key: (usize, SocketAddr), datagram: &[u8]) {
        let Some(Some(viewer)) = self.viewers.get_mut(slot) else {
            return self.meters.dropped(DropReason::Rejected, 1);
        };
        let mut clear = std::mem::take(&mut self.rtcp);
        match viewer.reports.open(datagram, &mut clear) {
            Ok(compound) => {
                if let Some(session) = self.sessions.get_mut(slot) {
                    session.heard_from = Some(key);
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
        for feedback in rtcp::parse(compound) {
            let Some(Some(viewer)) = self.viewers.get_mut(slot) else { return };
            match feedback {
                Feedback::Report(block) if viewer.kind_of(Ssrc(block.ssrc)).is_some() => {
                    viewer.reports.received(time, &block);
                }
                Feedback::Nack { media_ssrc, sequences } => {
                    let (repeated, too_many) = request(now, viewer, Ssrc(media_ssrc), sequences);
                    self.meters.dropped(DropReason::RetransmissionRepeated, repeated);
                    self.meters.dropped(DropReason::RetransmissionBudget, too_many);
                    if !self.to_retransmit.contains(&slot) {
                        self.to_retransmit.push(slot);
                    }
                }
                Feedback::Pli { media_ssrc } | Feedback::Fir { media_ssrc, .. } => {
                    wants_keyframe |= viewer.kind_of(Ssrc(media_ssrc)).is_some();
                }
                _ => {}
            }
        }
        if wants_keyframe && let Some(session) = self.sessions.get(slot) {
            let stream = session.plan.stream;
            self.want_keyframe(now, stream);
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

/// Takes requests for packets; returns how many were repetitions and how many too much.
fn request(
    now: Instant,
    viewer: &mut Viewer,
    ssrc: Ssrc,
    sequences: impl Iterator<Item = u16>,
) -> (u64, u64) {
    let (mut repeated, mut too_many) = (0, 0);
    let Some(kind) = viewer.kind_of(ssrc) else { return (0, 0) };
    for sequence in sequences {
        match viewer.retransmissions.request(now, viewer.reports.rtt, kind, sequence) {
            Request::Taken => {}
            Request::Repeated => repeated += 1,
            Request::TooMany => too_many += 1,
        }
    }
    (repeated, too_many)
}
