//! The watching side of a session: packets of the stream become the viewer's own RTP stream.

use super::codec::{Codec, MediaKind};
use super::packet::MediaPacket;
use super::peer::rtp_ssrc;
use super::plan::{MediaSection, Payload, SessionPlan};
use super::rewrite::RtpRewriter;
use std::time::Instant;
use str0m::Rtc;
use str0m::rtp::{ExtensionValues, RtpWrite};

/// State of a viewer.
#[derive(Debug)]
pub struct Viewer {
    tracks: Vec<Track>,
    /// The first packet and the first key frame have been sent.
    pub first_packet_sent: bool,
    /// The same for a key frame of video.
    pub first_keyframe_sent: bool,
}

/// One of the viewer's m-sections.
#[derive(Debug)]
struct Track {
    kind: MediaKind,
    ssrc: u32,
    rtx: Option<u32>,
    rewriter: RtpRewriter,
    /// The published codec and the payload under which this viewer receives it.
    payload: Option<(Codec, Payload)>,
    awaiting_keyframe: bool,
}

/// What became of a packet for this viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// Written.
    Sent,
    /// The viewer has no m-section of this kind.
    NotWanted,
    /// Held back until a key frame.
    AwaitingKeyframe,
    /// From before the switch to this source.
    TooOld,
    /// The viewer offered no payload type that plays this codec.
    CodecMismatch,
}

impl Viewer {
    /// A viewer that has been sent nothing. `first_sequence` yields a random number for each track.
    pub fn new(plan: &SessionPlan, mut first_sequence: impl FnMut() -> u16) -> Viewer {
        let track = |section: &MediaSection| {
            section.ssrcs.first().map(|pair| Track {
                kind: section.kind,
                ssrc: pair.media.0,
                rtx: pair.rtx.map(|rtx| rtx.0),
                rewriter: RtpRewriter::new(first_sequence()),
                payload: None,
                awaiting_keyframe: section.kind == MediaKind::Video,
            })
        };
        Viewer {
            tracks: plan.sections.iter().filter_map(track).collect(),
            first_packet_sent: false,
            first_keyframe_sent: false,
        }
    }

    /// Writes a packet into the `Rtc`, which the caller drains after the last one of a batch.
    pub fn forward(
        &mut self,
        now: Instant,
        plan: &SessionPlan,
        rtc: &mut Rtc,
        packet: &MediaPacket,
    ) -> Forwarded {
        let header = &packet.header;
        let Some(track) = self.tracks.iter_mut().find(|track| track.kind == header.kind()) else {
            return Forwarded::NotWanted;
        };
        let Some(payload) = track.payload_for(plan, header.codec) else {
            return Forwarded::CodecMismatch;
        };
        if track.rewriter.source() != Some(header.source) {
            track.awaiting_keyframe = true;
        }
        if track.awaiting_keyframe {
            if !header.keyframe {
                return Forwarded::AwaitingKeyframe;
            }
            let rate = header.codec.clock_rate();
            track.rewriter.switch(header.source, header.sequence, header.timestamp, rate, now);
            track.awaiting_keyframe = false;
        }
        let Some((sequence, timestamp)) = track.rewriter.rewrite(header.sequence, header.timestamp, now)
        else {
            return Forwarded::TooOld;
        };
        let extensions = ExtensionValues {
            audio_level: header.audio_level.map(|(level, _)| level),
            voice_activity: header.audio_level.map(|(_, voice)| voice),
            video_orientation: header.video_orientation,
            ..ExtensionValues::default()
        };
        let write = RtpWrite::new(
            payload.pt.0.into(),
            sequence.into(),
            timestamp,
            header.captured,
            packet.payload.clone(),
        )
        .marker(header.marker)
        .nackable(payload.feedback.nack)
        .ext_vals(extensions);
        match rtc.direct_api().stream_tx(&track.ssrc.into()) {
            Some(stream) => stream.write_rtp(write),
            None => return Forwarded::NotWanted,
        }
        Forwarded::Sent
    }

    /// Whether an outgoing datagram is RTP of ours (`Some`), and if so whether it is a retransmission.
    pub fn is_retransmission(&self, datagram: &[u8]) -> Option<bool> {
        let ssrc = rtp_ssrc(datagram)?;
        Some(self.tracks.iter().any(|track| track.rtx == Some(ssrc)))
    }
}

impl Track {
    fn payload_for(&mut self, plan: &SessionPlan, codec: Codec) -> Option<Payload> {
        match self.payload {
            Some((known, payload)) if known == codec => Some(payload),
            _ => {
                let payload = *plan.section(self.kind)?.payload_for(codec)?;
                self.payload = Some((codec, payload));
                self.awaiting_keyframe = true;
                Some(payload)
            }
        }
    }
}
