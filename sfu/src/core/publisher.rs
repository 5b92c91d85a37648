//! The publishing side of a session: what arrives becomes packets for viewers.

use super::capture_clock::{CaptureClock, SenderReport};
use super::codec::{Codec, MediaKind};
use super::extensions::PassThrough;
use super::keyframe::{KeyframeRequests, starts_keyframe};
use super::layer_meter::LayerMeter;
use super::layers::LayerIndex;
use super::packet::{MediaPacket, PacketHeader};
use super::peer::{Drained, Peer};
use super::picture_size::picture_size;
use super::plan::{LAYERS_MAX, MediaSection, Payload, PayloadType, SessionPlan, Ssrc};
use super::receive_log::ReceiveLog;
use super::rewrite::Source;
use crate::control::protocol::PUBLISHER_SILENT_SECONDS;
use std::time::{Duration, Instant};
use str0m::RtcError;
use str0m::media::KeyframeRequestKind;
use str0m::rtp::RtpPacket;

const SILENT_AFTER: Duration = Duration::from_secs(PUBLISHER_SILENT_SECONDS);

/// A publisher that changes its codec with every packet is reported once in this time.
const CODEC_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// State of a publisher.
#[derive(Debug)]
pub struct Publisher {
    clock: CaptureClock,
    tracks: Vec<Track>,
    /// What its simulcast layers are.
    pub layers: Option<LayerMeter>,
    /// SSRCs that belong to no layer.
    unlayered: Vec<u32>,
    /// The last packet, or the moment at which they could begin to come.
    last_packet: Option<Instant>,
    silent: bool,
}

/// One SSRC: the audio, or a layer of the video.
#[derive(Debug)]
struct Track {
    kind: MediaKind,
    layer: LayerIndex,
    ssrc: u32,
    codec: Codec,
    /// How this publisher is asked for key frames, if at all.
    request: Option<KeyframeRequestKind>,
    requests: KeyframeRequests,
    log: ReceiveLog,
    /// The codec that was last reported, and when.
    reported: Option<(Codec, Instant)>,
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
    /// It belongs to no layer of the plan.
    NoLayer,
    /// A payload type that the plan does not have.
    UnknownPayload,
}

impl Publisher {
    /// A publisher from which nothing can arrive yet.
    pub fn new(now: Instant, plan: &SessionPlan) -> Publisher {
        let video = plan.section(MediaKind::Video);
        Publisher {
            clock: CaptureClock::new(now),
            tracks: Vec::new(),
            layers: video.and_then(|section| LayerMeter::new(now, plan.epoch, &section.rids)),
            unlayered: Vec::new(),
            last_packet: None,
            silent: false,
        }
    }

    /// ICE and DTLS are up: silence counts from now.
    pub fn connected(&mut self, now: Instant) {
        self.last_packet = Some(now);
    }

    /// Takes an authenticated RTP packet and those of its header extensions that go on.
    pub fn packet(
        &mut self,
        now: Instant,
        plan: &SessionPlan,
        peer: &mut Peer,
        rtp: RtpPacket,
        extensions: PassThrough,
    ) -> Published {
        self.last_packet = Some(now);
        let ssrc = *rtp.header.ssrc;
        let pt = PayloadType(*rtp.header.payload_type);
        let found = plan.sections.iter().find_map(|section| Some((section, section.payload(pt)?)));
        let Some((section, payload)) = found else { return Published::UnknownPayload };
        let Some(track) = self.track(peer, section, payload, ssrc) else { return Published::NoLayer };
        let codec = payload.codec;
        let keyframe = starts_keyframe(codec, &rtp.payload);
        let (lost, new_codec) = self.tracks[track].note(now, keyframe, *rtp.seq_no);
        let layer = self.tracks[track].layer;
        if let Some(meter) = self.layers.as_mut().filter(|_| codec.kind() == MediaKind::Video) {
            let size = if keyframe { picture_size(codec, &rtp.payload) } else { None };
            meter.note(now, layer, rtp.payload.len(), rtp.header.marker, size);
        }
        let report = rtp
            .last_sender_info
            .map(|info| SenderReport { wall: info.ntp_time, timestamp: info.rtp_time.numer() as u32 });
        let captured = self.clock.captured(now, report, rtp.header.timestamp, codec.clock_rate());
        let header = PacketHeader {
            stream: plan.stream,
            source: Source { epoch: plan.epoch, ssrc: Ssrc(ssrc), codec, layer },
            sequence: *rtp.seq_no,
            timestamp: rtp.header.timestamp,
            marker: rtp.header.marker,
            keyframe,
            captured,
            received: now,
            extensions,
        };
        Published::Packet { packet: MediaPacket { header, payload: rtp.payload }, new_codec, lost }
    }

    /// The index of the SSRC's track, made or updated; `None` if it belongs to no layer. A new SSRC of a layer takes the place of
    /// the old one.
    fn track(
        &mut self,
        peer: &mut Peer,
        section: &MediaSection,
        payload: &Payload,
        ssrc: u32,
    ) -> Option<usize> {
        let request = match payload.feedback {
            feedback if feedback.pli => Some(KeyframeRequestKind::Pli),
            feedback if feedback.fir => Some(KeyframeRequestKind::Fir),
            _ => None,
        };
        if let Some(index) = self.tracks.iter().position(|track| track.ssrc == ssrc) {
            (self.tracks[index].codec, self.tracks[index].request) = (payload.codec, request);
            return Some(index);
        }
        let layer = if self.unlayered.contains(&ssrc) { None } else { layer_of(peer, section, ssrc) };
        let Some(layer) = layer else {
            self.unlayered.retain(|known| *known != ssrc);
            self.unlayered.insert(0, ssrc);
            self.unlayered.truncate(LAYERS_MAX);
            return None;
        };
        peer.set_nack(ssrc, payload.feedback.nack);
        // All layers have one codec, so the first of them reports it.
        let reported = self.tracks.iter().find(|track| track.kind == section.kind).and_then(|t| t.reported);
        self.tracks.retain(|track| (track.kind, track.layer) != (section.kind, layer));
        self.tracks.push(Track {
            kind: section.kind,
            layer,
            ssrc,
            codec: payload.codec,
            request,
            requests: KeyframeRequests::default(),
            log: ReceiveLog::new(),
            reported,
        });
        Some(self.tracks.len() - 1)
    }

    /// A viewer cannot decode this layer until the next key frame.
    pub fn want_keyframe(&mut self, layer: LayerIndex) {
        let wanted = (MediaKind::Video, layer);
        for track in self.tracks.iter_mut().filter(|track| (track.kind, track.layer) == wanted) {
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
        let since = |last: Instant| now.saturating_duration_since(last);
        let silent = self.last_packet.is_some_and(|last| since(last) >= SILENT_AFTER);
        let changed = silent != self.silent;
        self.silent = silent;
        changed.then_some(silent)
    }

    /// When [`Publisher::request_keyframes`] or [`Publisher::check_silence`] is due.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let askable = self.tracks.iter().filter(|track| track.request.is_some());
        let requests = askable.filter_map(|track| track.requests.deadline(now)).min();
        let silence = self.last_packet.filter(|_| !self.silent).map(|last| last + SILENT_AFTER);
        let layers = self.layers.as_ref().and_then(LayerMeter::deadline);
        [requests, silence, layers].into_iter().flatten().min()
    }
}

impl Track {
    /// Notes a packet: how many older ones are lost by now, and whether its codec is news.
    fn note(&mut self, now: Instant, keyframe: bool, sequence: u64) -> (u64, bool) {
        if keyframe {
            self.requests.satisfied();
        }
        let is_news = self.reported.is_none_or(|(codec, at)| {
            codec != self.codec && now.saturating_duration_since(at) >= CODEC_REPORT_INTERVAL
        });
        if is_news {
            self.reported = Some((self.codec, now));
        }
        (self.log.record(sequence), is_news)
    }
}

/// The layer of an unknown SSRC, which its packets have named. Of audio there is one.
fn layer_of(peer: &mut Peer, section: &MediaSection, ssrc: u32) -> Option<LayerIndex> {
    if section.rids.is_empty() {
        return Some(LayerIndex::default());
    }
    let rid = peer.rid_of(ssrc)?;
    let index = section.rids.iter().position(|offered| offered.as_str() == &*rid)?;
    (section.kind == MediaKind::Video || index == 0).then_some(LayerIndex(index as u8))
}
