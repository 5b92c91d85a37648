//! The publishing side of a session: what arrives becomes packets for viewers.

use super::capture_clock::{CaptureClock, SenderReport};
use super::codec::{Codec, MediaKind};
use super::keyframe::{KeyframeRequests, starts_keyframe};
use super::packet::{MediaPacket, PacketHeader};
use super::peer::{Drained, Peer};
use super::plan::{PayloadType, SessionPlan, Ssrc};
use super::receive_log::ReceiveLog;
use super::rewrite::Source;
use crate::control::protocol::PUBLISHER_SILENT_SECONDS;
use std::time::{Duration, Instant};
use str0m::RtcError;
use str0m::media::KeyframeRequestKind;
use str0m::rtp::RtpPacket;

const SILENT_AFTER: Duration = Duration::from_secs(PUBLISHER_SILENT_SECONDS);

/// State of a publisher.
#[derive(Debug)]
pub struct Publisher {
    clock: CaptureClock,
    tracks: Vec<Track>,
    /// SSRCs of simulcast layers that are not forwarded.
    unselected: Vec<u32>,
    last_packet: Instant,
    /// Nothing has arrived for [`PUBLISHER_SILENT_SECONDS`].
    pub silent: bool,
}

/// One forwarded SSRC.
#[derive(Debug)]
struct Track {
    kind: MediaKind,
    ssrc: u32,
    codec: Codec,
    request: Option<KeyframeRequestKind>,
    requests: KeyframeRequests,
    log: ReceiveLog,
}

/// What became of an arriving packet.
#[derive(Debug, PartialEq)]
pub enum Published {
    /// Forward it.
    Packet {
        /// The packet.
        packet: MediaPacket,
        /// Its track is new or changed its codec.
        new_codec: bool,
        /// How many older packets are now known to be lost.
        lost: u64,
    },
    /// A simulcast layer that nobody is sent.
    UnselectedLayer,
    /// A payload type that the plan does not have.
    UnknownPayload,
}

impl Publisher {
    /// A publisher from which nothing has arrived.
    pub fn new(now: Instant) -> Publisher {
        Publisher {
            clock: CaptureClock::new(now),
            tracks: Vec::new(),
            unselected: Vec::new(),
            last_packet: now,
            silent: true,
        }
    }

    /// Takes an authenticated RTP packet.
    pub fn packet(&mut self, now: Instant, plan: &SessionPlan, peer: &mut Peer, rtp: RtpPacket) -> Published {
        self.last_packet = now;
        let ssrc = *rtp.header.ssrc;
        if self.unselected.contains(&ssrc) {
            return Published::UnselectedLayer;
        }
        let pt = PayloadType(*rtp.header.payload_type);
        let found = plan.sections.iter().find_map(|section| Some((section, section.payload(pt)?)));
        let Some((section, payload)) = found else { return Published::UnknownPayload };
        let codec = payload.codec;
        if !self.tracks.iter().any(|track| track.ssrc == ssrc) && !self.select(peer, section, ssrc) {
            self.unselected.truncate(super::plan::LAYERS_MAX);
            self.unselected.insert(0, ssrc);
            return Published::UnselectedLayer;
        }
        if !self.tracks.iter().any(|track| track.ssrc == ssrc) {
            peer.set_nack(ssrc, payload.feedback.nack);
        }
        let new_codec = self.follow(section.kind, ssrc, payload);
        let clock = &mut self.clock;
        let Some(track) = self.tracks.iter_mut().find(|track| track.ssrc == ssrc) else {
            return Published::UnselectedLayer;
        };
        let report = rtp
            .last_sender_info
            .map(|info| SenderReport { wall: info.ntp_time, timestamp: info.rtp_time.numer() as u32 });
        let captured = clock.captured(now, report, rtp.header.timestamp, codec.clock_rate());
        let keyframe = starts_keyframe(codec, &rtp.payload);
        if keyframe {
            track.requests.satisfied();
        }
        let lost = track.log.record(*rtp.seq_no);
        let extensions = &rtp.header.ext_vals;
        let header = PacketHeader {
            stream: plan.stream,
            source: Source { epoch: plan.epoch, ssrc: Ssrc(ssrc) },
            codec,
            sequence: *rtp.seq_no,
            timestamp: rtp.header.timestamp,
            marker: rtp.header.marker,
            keyframe,
            captured,
            received: now,
            audio_level: extensions.audio_level.zip(extensions.voice_activity),
            video_orientation: extensions.video_orientation,
        };
        Published::Packet { packet: MediaPacket { header, payload: rtp.payload }, new_codec, lost }
    }

    /// Whether an unknown SSRC is to be forwarded: of simulcast layers only the first offered, which is the
    /// preferred one (RFC 8853 §5.2).
    fn select(&mut self, peer: &mut Peer, section: &super::plan::MediaSection, ssrc: u32) -> bool {
        let rid = peer.rid_of(ssrc);
        match (section.rids.first(), rid) {
            (Some(first), Some(rid)) => first.as_str() == &*rid,
            _ => true,
        }
    }

    /// Makes or updates the track; true when its codec is news. A new SSRC of a kind takes the place of the old one.
    fn follow(&mut self, kind: MediaKind, ssrc: u32, payload: &super::plan::Payload) -> bool {
        let request = match payload.feedback {
            feedback if feedback.pli => Some(KeyframeRequestKind::Pli),
            feedback if feedback.fir => Some(KeyframeRequestKind::Fir),
            _ => None,
        };
        let codec = payload.codec;
        match self.tracks.iter_mut().find(|track| track.kind == kind) {
            Some(track) if track.ssrc == ssrc => {
                let changed = track.codec != codec;
                (track.codec, track.request) = (codec, request);
                changed
            }
            other => {
                let known = other.as_ref().is_some_and(|track| track.codec == codec);
                self.tracks.retain(|track| track.kind != kind);
                let log = ReceiveLog::new();
                self.tracks.push(Track {
                    kind,
                    ssrc,
                    codec,
                    request,
                    requests: KeyframeRequests::default(),
                    log,
                });
                !known
            }
        }
    }

    /// A viewer cannot decode until the next key frame.
    pub fn want_keyframe(&mut self) {
        for track in self.tracks.iter_mut().filter(|track| track.request.is_some()) {
            track.requests.want();
        }
    }

    /// Sends the key-frame requests that are due; returns their number.
    pub fn request_keyframes(
        &mut self,
        now: Instant,
        peer: &mut Peer,
        out: &mut Drained,
    ) -> Result<u64, RtcError> {
        let mut sent = 0;
        for track in &mut self.tracks {
            let Some(kind) = track.request.filter(|_| track.requests.poll(now)) else { continue };
            let ssrc = track.ssrc.into();
            let asked = peer.with(now, out, |rtc| {
                rtc.direct_api().stream_rx(&ssrc).map(|stream| stream.request_keyframe(kind)).is_some()
            })?;
            sent += u64::from(asked);
        }
        Ok(sent)
    }

    /// Notes silence and its end; returns the new state when it changed.
    pub fn check_silence(&mut self, now: Instant) -> Option<bool> {
        let silent =
            self.tracks.is_empty() || now.saturating_duration_since(self.last_packet) >= SILENT_AFTER;
        let changed = silent != self.silent;
        self.silent = silent;
        changed.then_some(silent)
    }

    /// When [`Publisher::request_keyframes`] or [`Publisher::check_silence`] is due.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let requests = self.tracks.iter().filter_map(|track| track.requests.deadline(now)).min();
        let silence = (!self.silent).then(|| self.last_packet + SILENT_AFTER);
        [requests, silence].into_iter().flatten().min()
    }
}
