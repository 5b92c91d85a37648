//! A synthetic publisher: plays the shared loops in real time, answers NACK with RTX (str0m does) and PLI with
//! the loop's key frame.

use std::sync::Arc;
use std::time::Instant;

use str0m::change::SdpApi;
use str0m::format::Codec;
use str0m::media::{Direction, MediaKind, Mid, Pt, Rid, Simulcast, SimulcastLayer};
use str0m::{Event, Rtc, RtcConfig};

use crate::adapt::Adapter;
use crate::audio;
use crate::clock::WallClock;
use crate::failure::Failure;
use crate::negotiation::Offered;
use crate::track::{Track, VideoTrack};
use crate::video::VideoLoop;

const H264_PT: u8 = 108;
const H264_RTX_PT: u8 = 109;

/// What all publishers send.
pub struct Media {
    /// One, or the layers of a simulcast from the smallest to the largest, or none.
    pub video: Vec<Layer>,
    /// Opus packets, played over and over; none for a silent publisher.
    pub audio: Vec<Arc<[u8]>>,
    /// Whether packets leave evenly, as a browser's, rather than a frame at once.
    pub paced: bool,
}

/// One encoding of the picture.
pub struct Layer {
    /// Its restriction identifier (RFC 8851), if there are several.
    pub rid: Option<&'static str>,
    pub video: Arc<VideoLoop>,
    /// Cheaper encodings of the same picture, the cheapest first; empty if the bitrate stays what it is.
    pub cheaper: Vec<Arc<VideoLoop>>,
}

impl Layer {
    /// One encoding that stays what it is.
    pub fn fixed(rid: Option<&'static str>, video: Arc<VideoLoop>) -> Layer {
        Layer { rid, video, cheaper: Vec::new() }
    }

    /// All encodings, the cheapest first.
    fn encodings(&self) -> Vec<Arc<VideoLoop>> {
        self.cheaper.iter().chain([&self.video]).cloned().collect()
    }
}

impl Media {
    /// Bits per second of the encodings among which a publisher chooses; `None` if it follows no feedback.
    fn choices(&self) -> Option<Vec<f64>> {
        let layer = self.video.first().filter(|layer| !layer.cheaper.is_empty())?;
        Some(layer.encodings().iter().map(|video| video.bitrate()).collect())
    }

    /// RTP packets per second, video and audio.
    pub fn packet_rate(&self) -> f64 {
        let video: f64 = self.video.iter().map(|layer| layer.video.packet_rate()).sum();
        let audio = if self.audio.is_empty() { 0.0 } else { 1000.0 / f64::from(audio::PACKET_MS) };
        video + audio
    }
}

/// Counters since the start of the measured window.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    pub frames: u64,
    pub packets: u64,
    /// RTP payload bytes of video.
    pub video_bytes: u64,
    /// Frames that left over 10 ms after their time.
    pub late: u64,
    /// Frames left out because the generator was too far behind.
    pub skipped: u64,
    /// PLI and FIR received.
    pub key_frame_requests: u64,
    /// Times that the encoding changed to follow bandwidth feedback.
    pub adaptations: u64,
    /// What the network is said to carry now, bits per second, sum over publishers that were told.
    pub estimate_bps: u64,
    /// How many are in that sum.
    pub estimates: u64,
}

impl std::ops::AddAssign for Sent {
    fn add_assign(&mut self, other: Sent) {
        self.frames += other.frames;
        self.packets += other.packets;
        self.video_bytes += other.video_bytes;
        self.late += other.late;
        self.skipped += other.skipped;
        self.key_frame_requests += other.key_frame_requests;
        self.adaptations += other.adaptations;
        self.estimate_bps += other.estimate_bps;
        self.estimates += other.estimates;
    }
}

/// One publisher.
pub struct Publisher {
    media: Arc<Media>,
    clock: WallClock,
    video: Vec<VideoTrack>,
    audio: Option<Track>,
    adapter: Option<Adapter>,
    /// Share of a frame's time by which this publisher starts later than others.
    phase: f64,
    window: Sent,
}

/// What the media lines of a publisher's offer are called.
pub struct Mids {
    video: Option<Mid>,
    audio: Option<Mid>,
}

#[cfg(test)]
impl Mids {
    /// Of the video line.
    pub fn video(&self) -> Option<Mid> {
        self.video
    }
}

/// Makes the offer: sendonly Opus and the video as encoded, each if there is any.
pub fn offer(media: &Media, ip: std::net::IpAddr) -> Result<(Offered, Mids), Failure> {
    let mut config = RtcConfig::new().set_rtp_mode(true).clear_codecs().enable_opus(true, false);
    match media.video.last().map(|layer| layer.video.profile_level_id) {
        Some(Some(profile)) => {
            config.codec_config().add_h264(H264_PT.into(), Some(H264_RTX_PT.into()), true, profile);
        }
        Some(None) => config = config.enable_vp8(true),
        None => {}
    }
    if let Some(bitrates) = media.choices() {
        config = config.enable_bwe(Some(Adapter::first_estimate(&bitrates)));
    }
    let mut mids = None;
    let declare = |api: &mut SdpApi<'_>| {
        let mut add = |kind, simulcast| {
            api.add_media(kind, Direction::SendOnly, Some("loadtest".into()), None, simulcast)
        };
        let audio = (!media.audio.is_empty()).then(|| add(MediaKind::Audio, None));
        let video = (!media.video.is_empty()).then(|| add(MediaKind::Video, simulcast(media)));
        mids = Some(Mids { video, audio });
    };
    let offered = Offered::new(config, ip, declare)?;
    let mids = mids.ok_or_else(|| Failure::Answer("nothing was offered".into()))?;
    Ok((offered, mids))
}

fn simulcast(media: &Media) -> Option<Simulcast> {
    let rids: Vec<_> = media.video.iter().filter_map(|layer| layer.rid).collect();
    let send = rids.iter().map(|rid| SimulcastLayer::new(rid)).collect();
    (!rids.is_empty()).then_some(Simulcast { send, recv: Vec::new() })
}

impl Publisher {
    /// `phase` (0 to 1) spreads publishers over the time of a frame. Fails if the answer took no video.
    pub fn new(
        media: Arc<Media>,
        clock: WallClock,
        rtc: &Rtc,
        mids: &Mids,
        phase: f64,
    ) -> Result<Self, Failure> {
        let packet = f64::from(audio::PACKET_MS) / 1000.0;
        let audio = mids.audio.and_then(|mid| {
            let pt = agreed(rtc, mid, Codec::Opus)?;
            Some(Track::new(mid, None, pt, packet, audio::CLOCK_RATE))
        });
        let mut video = Vec::new();
        for layer in &media.video {
            let (codec, name) = match layer.video.profile_level_id {
                Some(_) => (Codec::H264, "H264 in packetization-mode 1"),
                None => (Codec::Vp8, "VP8"),
            };
            let line = mids.video.and_then(|mid| Some((mid, agreed(rtc, mid, codec)?)));
            let (mid, pt) = line.ok_or_else(|| Failure::Answer(format!("it does not take {name}")))?;
            let rid = layer.rid.map(Rid::from);
            video.push(VideoTrack::new(mid, rid, pt, layer.encodings(), media.paced));
        }
        let adapter = media.choices().map(Adapter::new);
        Ok(Publisher { media, clock, video, audio, adapter, phase, window: Sent::default() })
    }

    /// Starts to play.
    pub fn start(&mut self, now: Instant) {
        let interval = self.video.first().map(|video| video.track.interval);
        let epoch = now + interval.unwrap_or_default().mul_f64(self.phase);
        let tracks = self.video.iter_mut().map(|video| &mut video.track).chain(&mut self.audio);
        tracks.for_each(|track| track.epoch = Some(epoch));
    }

    /// Notes what the server asks for.
    pub fn on_event(&mut self, event: &Event, now: Instant) {
        match (event, &mut self.adapter) {
            (Event::KeyframeRequest(request), _) => {
                self.video.iter_mut().for_each(|video| video.want_key_frame(request.mid, request.rid));
                self.window.key_frame_requests += 1;
            }
            (Event::EgressBitrateEstimate(kind), Some(adapter)) => {
                let encoding = adapter.hear(kind, now);
                self.video.iter_mut().for_each(|video| video.want_encoding(encoding));
            }
            _ => {}
        }
    }

    /// When the next media is due.
    pub fn next_wake(&self) -> Option<Instant> {
        let audio = self.audio.as_ref().and_then(Track::due);
        self.video.iter().filter_map(VideoTrack::next_wake).chain(audio).min()
    }

    /// Writes one frame or packet if it is due; says whether it did.
    pub fn act(&mut self, rtc: &mut Rtc, now: Instant) -> bool {
        let Publisher { clock, window, adapter, .. } = self;
        if adapter.as_mut().is_some_and(|adapter| adapter.act(rtc)) {
            return true;
        }
        if self.video.iter_mut().any(|video| video.act(rtc, clock, window, now)) {
            return true;
        }
        match &mut self.audio {
            Some(audio) if audio.due().is_some_and(|due| due <= now) => {
                let packets = &self.media.audio;
                let payload = packets[audio.sent as usize % packets.len()].clone();
                audio.write(rtc, payload, false, false, now);
                audio.sent += 1;
                self.window.packets += 1;
                true
            }
            _ => false,
        }
    }

    /// Starts a new measured window.
    pub fn begin_window(&mut self) {
        self.window = Sent::default();
    }

    /// Counters of the window so far.
    pub fn window(&self) -> Sent {
        let estimate = self.adapter.as_ref().and_then(Adapter::estimate);
        Sent {
            estimate_bps: estimate.unwrap_or(0.0) as u64,
            estimates: u64::from(estimate.is_some()),
            ..self.window
        }
    }
}

/// The payload type that the answer agreed on for this codec.
fn agreed(rtc: &Rtc, mid: Mid, codec: Codec) -> Option<Pt> {
    let media = rtc.media(mid)?;
    let is_codec =
        |pt: &Pt| rtc.codec_config().params().iter().any(|p| p.pt() == *pt && p.spec().codec == codec);
    media.remote_pts().iter().copied().find(is_codec)
}
