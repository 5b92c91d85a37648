//! A synthetic publisher: plays the shared loops in real time, whole frame at once as an encoder hands it
//! over, answers NACK with RTX (str0m does) and PLI with the loop's key frame.

use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::change::SdpApi;
use str0m::format::Codec;
use str0m::media::{Direction, MediaKind, Mid, Pt};
use str0m::rtp::RtpWrite;
use str0m::{Event, Rtc, RtcConfig};

use crate::audio;
use crate::clock::WallClock;
use crate::failure::Failure;
use crate::negotiation::Offered;
use crate::packet::sei::Stamp;
use crate::video::{self, VideoLoop};

const H264_PT: u8 = 108;
const H264_RTX_PT: u8 = 109;
/// A key frame is made at most this often, as encoders do.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(300);
/// A frame that leaves this much after its time says that the generator is too slow.
const LATE: Duration = Duration::from_millis(10);
/// Further behind than this, frames are left out instead of sent in a burst.
const TOO_LATE: Duration = Duration::from_millis(500);
/// Sequence numbers start low, so that no receiver has to guess the roll-over counter (RFC 3711 section
/// 3.3.1).
const FIRST_SEQ: u64 = 1000;

/// What all publishers send.
pub struct Media {
    pub video: VideoLoop,
    pub audio: Vec<Arc<[u8]>>,
}

/// Counters since the start of the measured window.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    pub frames: u64,
    pub packets: u64,
    /// Frames that left over 10 ms after their time.
    pub late: u64,
    /// Frames left out because the generator was too far behind.
    pub skipped: u64,
    /// PLI and FIR received.
    pub key_frame_requests: u64,
}

impl std::ops::AddAssign for Sent {
    fn add_assign(&mut self, other: Sent) {
        self.frames += other.frames;
        self.packets += other.packets;
        self.late += other.late;
        self.skipped += other.skipped;
        self.key_frame_requests += other.key_frame_requests;
    }
}

/// One stream of the publisher.
struct Track {
    mid: Mid,
    pt: Pt,
    seq: u64,
    /// Media sent so far, in units of `interval`.
    sent: u64,
    interval: Duration,
    /// RTP clock units per interval.
    step: f64,
    /// When unit 0 was due.
    epoch: Option<Instant>,
}

impl Track {
    /// One frame or packet each `seconds`.
    fn new(mid: Mid, pt: Pt, seconds: f64, clock_rate: u32) -> Track {
        let (interval, step) = (Duration::from_secs_f64(seconds), seconds * f64::from(clock_rate));
        Track { mid, pt, seq: FIRST_SEQ, sent: 0, interval, step, epoch: None }
    }

    fn due(&self) -> Option<Instant> {
        Some(self.epoch? + self.interval.mul_f64(self.sent as f64))
    }

    fn write(&mut self, rtc: &mut Rtc, payload: Arc<[u8]>, marker: bool, nackable: bool, now: Instant) {
        let time = (self.sent as f64 * self.step).round() as u64 as u32;
        let write =
            RtpWrite::new(self.pt, self.seq.into(), time, now, payload).marker(marker).nackable(nackable);
        if let Some(stream) = rtc.direct_api().stream_tx_by_mid(self.mid, None) {
            stream.write_rtp(write);
            self.seq += 1;
        }
    }
}

/// One publisher.
pub struct Publisher {
    media: Arc<Media>,
    clock: WallClock,
    video: Track,
    audio: Option<Track>,
    /// Place in the loop of the next frame.
    place: usize,
    last_key: Option<Instant>,
    key_wanted: bool,
    /// Share of a frame's time by which this publisher starts later than others.
    phase: f64,
    window: Sent,
}

/// What the media lines of a publisher's offer are called.
pub struct Mids {
    video: Mid,
    audio: Mid,
}

#[cfg(test)]
impl Mids {
    /// Of the video line.
    pub fn video(&self) -> Mid {
        self.video
    }
}

/// Makes the offer: sendonly H264 as encoded, and Opus.
pub fn offer(media: &Media, ip: std::net::IpAddr) -> Result<(Offered, Mids), Failure> {
    let mut config = RtcConfig::new().set_rtp_mode(true).clear_codecs().enable_opus(true, false);
    config.codec_config().add_h264(
        H264_PT.into(),
        Some(H264_RTX_PT.into()),
        true,
        media.video.profile_level_id,
    );
    let mut mids = None;
    let declare = |api: &mut SdpApi<'_>| {
        let mut add = |kind| api.add_media(kind, Direction::SendOnly, Some("loadtest".into()), None, None);
        mids = Some(Mids { audio: add(MediaKind::Audio), video: add(MediaKind::Video) });
    };
    let offered = Offered::new(config, ip, declare)?;
    let mids = mids.ok_or_else(|| Failure::Answer("nothing was offered".into()))?;
    Ok((offered, mids))
}

impl Publisher {
    /// `phase` (0 to 1) spreads publishers over the time of a frame. Fails if the answer took no H264.
    pub fn new(
        media: Arc<Media>,
        clock: WallClock,
        rtc: &Rtc,
        mids: &Mids,
        phase: f64,
    ) -> Result<Self, Failure> {
        let video_pt = agreed(rtc, mids.video, Codec::H264)
            .ok_or_else(|| Failure::Answer("it does not take H264 in packetization-mode 1".into()))?;
        let fps = media.video.settings.fps;
        let video = Track::new(mids.video, video_pt, 1.0 / f64::from(fps), video::CLOCK_RATE);
        let packet = f64::from(audio::PACKET_MS) / 1000.0;
        let audio = agreed(rtc, mids.audio, Codec::Opus)
            .map(|pt| Track::new(mids.audio, pt, packet, audio::CLOCK_RATE));
        let window = Sent::default();
        Ok(Publisher {
            media,
            clock,
            video,
            audio,
            place: 0,
            last_key: None,
            key_wanted: false,
            phase,
            window,
        })
    }

    /// Starts to play.
    pub fn start(&mut self, now: Instant) {
        let epoch = now + self.video.interval.mul_f64(self.phase);
        self.video.epoch = Some(epoch);
        if let Some(audio) = &mut self.audio {
            audio.epoch = Some(epoch);
        }
    }

    /// Notes what the server asks for.
    pub fn on_event(&mut self, event: &Event) {
        if let Event::KeyframeRequest(_) = event {
            self.key_wanted = true;
            self.window.key_frame_requests += 1;
        }
    }

    /// When the next media is due.
    pub fn next_wake(&self) -> Option<Instant> {
        let audio = self.audio.as_ref().and_then(Track::due);
        [self.video.due(), audio].into_iter().flatten().min()
    }

    /// Writes one frame or packet if it is due; says whether it did.
    pub fn act(&mut self, rtc: &mut Rtc, now: Instant) -> bool {
        if self.video.due().is_some_and(|due| due <= now) {
            self.skip_what_is_too_late(now);
            self.write_frame(rtc, now);
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
        self.window
    }

    fn skip_what_is_too_late(&mut self, now: Instant) {
        let behind = self.video.due().map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        if behind > LATE {
            self.window.late += 1;
        }
        if behind > TOO_LATE {
            let skipped = (behind.as_secs_f64() / self.video.interval.as_secs_f64()) as u64;
            self.video.sent += skipped;
            self.window.skipped += skipped;
            self.key_wanted = true;
        }
    }

    fn write_frame(&mut self, rtc: &mut Rtc, now: Instant) {
        let key_allowed = self.last_key.is_none_or(|last| now - last >= KEY_FRAME_INTERVAL);
        if self.place >= self.media.video.frames.len() || self.key_wanted && key_allowed {
            self.place = 0;
        }
        if self.place == 0 {
            self.last_key = Some(now);
            self.key_wanted = false;
        }
        let media = self.media.clone();
        let frame = &media.video.frames[self.place];
        let stamp = Stamp { sent_us: self.clock.micros(now), frame: self.video.sent as u32 };
        self.video.write(rtc, frame.lead(stamp), frame.slices.is_empty(), true, now);
        for (i, slice) in frame.slices.iter().enumerate() {
            self.video.write(rtc, slice.clone(), i + 1 == frame.slices.len(), true, now);
        }
        self.window.frames += 1;
        self.window.packets += 1 + frame.slices.len() as u64;
        self.video.sent += 1;
        self.place += 1;
    }
}

/// The payload type that the answer agreed on for this codec.
fn agreed(rtc: &Rtc, mid: Mid, codec: Codec) -> Option<Pt> {
    let media = rtc.media(mid)?;
    let is_codec =
        |pt: &Pt| rtc.codec_config().params().iter().any(|p| p.pt() == *pt && p.spec().codec == codec);
    media.remote_pts().iter().copied().find(is_codec)
}
