//! The video every publisher sends: a few seconds of the test picture, encoded once at start-up and cut into
//! RTP payloads once; publishers share the payloads and add only the time stamp of their own.

use std::sync::Arc;

use openh264::OpenH264API;
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, IntraFramePeriod, Profile, RateControlMode,
    UsageType,
};
use openh264::formats::YUVSlices;

use crate::packet::h264::{self, MAX_PAYLOAD, nal};
use crate::packet::sei::{self, Stamp};
use crate::picture::Picture;

/// RTP clock of every video codec, per second.
pub const CLOCK_RATE: u32 = 90_000;
/// A stamp fills a whole packet only if the frame has this many packets beside it, else it would dwarf the
/// picture.
const PACKETS_FOR_FULL_STAMP: usize = 5;
/// Pictures that the rate control may skip in a row; the one after them is taken as it comes.
const MAX_SKIPS: usize = 30;
/// Encodings before the bitrate is taken as it is; the line `stream:` tells it.
const MAX_TRIES: usize = 4;
/// Share by which the bitrate may be off.
const TOLERANCE: f64 = 0.05;
/// Bits per second below which nothing is asked of the encoder.
const MIN_TARGET: f64 = 10_000.0;

/// What to encode.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VideoSettings {
    /// Pixels, even.
    pub width: usize,
    /// Pixels, even.
    pub height: usize,
    /// Frames per second.
    pub fps: u32,
    /// Bits per second of RTP payload.
    pub bitrate: u32,
    /// Frames from one key frame to the next; also the length of the loop.
    pub gop_frames: u32,
}

/// Why there is no video.
#[derive(Debug, thiserror::Error)]
pub enum VideoError {
    #[error("the H264 encoder refused {width}x{height}: {source}; choose another --size")]
    Encoder { width: usize, height: usize, source: openh264::Error },
    #[error(
        "the H264 encoder made no key frame at the start of the loop; choose another --size or --bitrate"
    )]
    NoKeyFrame,
}

/// One access unit, cut into payloads; the stamp goes in front.
pub struct LoopFrame {
    /// Sequence and picture parameter set; empty unless this is the key frame.
    pub parameter_sets: Vec<Vec<u8>>,
    /// Whether the frame says when it was sent.
    pub stamped: bool,
    /// RTP payloads of the picture's slices.
    pub slices: Vec<Arc<[u8]>>,
}

impl LoopFrame {
    /// The frame's first RTP payload: parameter sets, if any, and the stamp. `None` where a codec has no place
    /// for it.
    pub fn lead(&self, stamp: Stamp) -> Option<Arc<[u8]>> {
        if !self.stamped {
            return None;
        }
        let full = self.slices.len() >= PACKETS_FOR_FULL_STAMP;
        let room = if full { MAX_PAYLOAD } else { 0 };
        if self.parameter_sets.is_empty() {
            return Some(sei::write(stamp, room).into());
        }
        let taken: usize = 1 + 2 + self.parameter_sets.iter().map(|set| 2 + set.len()).sum::<usize>();
        let message = sei::write(stamp, room.saturating_sub(taken));
        let units: Vec<&[u8]> = self.parameter_sets.iter().map(Vec::as_slice).chain([&message[..]]).collect();
        Some(h264::stap_a(&units).into())
    }
}

/// The encoded loop: starts with its only key frame.
pub struct VideoLoop {
    /// All frames of the loop, in order.
    pub frames: Vec<LoopFrame>,
    /// What was asked for.
    pub settings: VideoSettings,
    /// profile-level-id (RFC 6184 section 8.1), as in the sequence parameter set; `None` for VP8.
    pub profile_level_id: Option<u32>,
}

impl VideoLoop {
    /// Draws and encodes the loop; takes about a second for two seconds of 720p. Asks the encoder for more or
    /// less until the bitrate is right: its rate control is made for calls, not for short loops.
    pub fn encode(settings: VideoSettings) -> Result<Self, VideoError> {
        let mut target = f64::from(picture_bitrate(settings));
        let mut video = Self::encode_at(settings, target)?;
        for _ in 1..MAX_TRIES {
            let ratio = video.bitrate() / f64::from(settings.bitrate);
            if (ratio - 1.0).abs() < TOLERANCE {
                break;
            }
            target = (target / ratio).clamp(MIN_TARGET, f64::from(settings.bitrate) * 2.0);
            video = Self::encode_at(settings, target)?;
        }
        Ok(video)
    }

    fn encode_at(settings: VideoSettings, target: f64) -> Result<Self, VideoError> {
        let failed = |source| VideoError::Encoder { width: settings.width, height: settings.height, source };
        let config = encoder_config(settings, target as u32);
        let mut encoder = Encoder::with_api_config(OpenH264API::from_source(), config).map_err(failed)?;
        let mut picture = Picture::new(settings.width, settings.height);
        let seconds = f64::from(settings.gop_frames) / f64::from(settings.fps);
        let mut frames = Vec::new();
        for number in 0..settings.gop_frames {
            picture.draw(number, f64::from(number) / f64::from(settings.fps), seconds);
            let [y, u, v] = &picture.planes;
            let strides = (settings.width, settings.width / 2, settings.width / 2);
            let source = YUVSlices::new((y, u, v), (settings.width, settings.height), strides);
            frames.push(loop_frame(&encode_surely(&mut encoder, &source).map_err(failed)?));
        }
        let profile_level_id = frames.first().and_then(profile_level_id).ok_or(VideoError::NoKeyFrame)?;
        Ok(VideoLoop { frames, settings, profile_level_id: Some(profile_level_id) })
    }

    /// RTP payload bits per second that a publisher of this loop really sends.
    pub fn bitrate(&self) -> f64 {
        let no_stamp = Stamp { sent_us: 0, frame: 0 };
        let frame_len = |frame: &LoopFrame| {
            frame.lead(no_stamp).map_or(0, |lead| lead.len())
                + frame.slices.iter().map(|payload| payload.len()).sum::<usize>()
        };
        let bytes: usize = self.frames.iter().map(frame_len).sum();
        bytes as f64 * 8.0 * f64::from(self.settings.fps) / self.frames.len() as f64
    }

    /// RTP packets per second that a publisher of this loop sends.
    pub fn packet_rate(&self) -> f64 {
        let packets: usize =
            self.frames.iter().map(|frame| usize::from(frame.stamped) + frame.slices.len()).sum();
        packets as f64 * f64::from(self.settings.fps) / self.frames.len() as f64
    }
}

fn encoder_config(settings: VideoSettings, target: u32) -> EncoderConfig {
    EncoderConfig::new()
        .bitrate(BitRate::from_bps(target))
        .max_frame_rate(FrameRate::from_hz(settings.fps as f32))
        .rate_control_mode(RateControlMode::Bitrate)
        .skip_frames(true)
        .scene_change_detect(false)
        .background_detection(false)
        .adaptive_quantization(false)
        .complexity(Complexity::Low)
        .usage_type(UsageType::CameraVideoRealTime)
        .profile(Profile::Baseline)
        .intra_frame_period(IntraFramePeriod::from_num_frames(settings.gop_frames))
}

/// The rate control may skip a picture after a large one; asked again, it has had the time of one more
/// picture.
fn encode_surely(encoder: &mut Encoder, source: &YUVSlices<'_>) -> Result<Vec<u8>, openh264::Error> {
    for _ in 0..MAX_SKIPS {
        let stream = encoder.encode(source)?.to_vec();
        if !stream.is_empty() {
            return Ok(stream);
        }
    }
    encoder.encode(source).map(|stream| stream.to_vec())
}

/// The stamps take their share of the bitrate that was asked for.
fn picture_bitrate(settings: VideoSettings) -> u32 {
    let stamps = settings.fps * MAX_PAYLOAD as u32 * 8;
    if settings.bitrate / stamps.max(1) > PACKETS_FOR_FULL_STAMP as u32 {
        settings.bitrate - stamps
    } else {
        settings.bitrate.saturating_sub(settings.fps * sei::MIN_LEN as u32 * 8).max(MIN_TARGET as u32)
    }
}

fn loop_frame(stream: &[u8]) -> LoopFrame {
    let (mut parameter_sets, mut slices) = (Vec::new(), Vec::new());
    for unit in h264::annex_b_units(stream) {
        match h264::nal_type(unit) {
            Some(nal::SPS) => parameter_sets.push(constrained(unit)),
            Some(nal::PPS) => parameter_sets.push(unit.to_vec()),
            Some(nal::AUD | nal::SEI) | None => {}
            Some(_) => slices.extend(h264::payloads_of(unit)),
        }
    }
    LoopFrame { parameter_sets, stamped: true, slices }
}

/// Says "constrained baseline" the way WebRTC spells it, 42e0xx: the encoder sets constraint_set1 (no tools
/// that Main lacks), which for Baseline holds for Extended, constraint_set2, as well.
fn constrained(sps: &[u8]) -> Vec<u8> {
    let mut sps = sps.to_vec();
    if let Some([_, 66, constraints, ..]) = sps.get_mut(..)
        && *constraints & 0x40 != 0
    {
        *constraints |= 0xa0;
    }
    sps
}

fn profile_level_id(frame: &LoopFrame) -> Option<u32> {
    let sps = frame.parameter_sets.iter().find(|set| h264::nal_type(set) == Some(nal::SPS))?;
    let [_, profile, constraints, level, ..] = sps[..] else { return None };
    Some(u32::from_be_bytes([0, profile, constraints, level]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use openh264::decoder::Decoder;
    use openh264::formats::YUVSource;

    use super::*;
    use crate::picture::read_number;

    const SMALL: VideoSettings =
        VideoSettings { width: 320, height: 180, fps: 30, bitrate: 600_000, gop_frames: 30 };

    fn annex_b(payloads: &[Arc<[u8]>]) -> Vec<u8> {
        let mut stream = Vec::new();
        for payload in payloads {
            match h264::nal_type(payload) {
                Some(nal::FU_A) => {
                    if payload[1] & 0x80 != 0 {
                        stream.extend_from_slice(&[0, 0, 0, 1, payload[0] & 0x60 | payload[1] & 0x1f]);
                    }
                    stream.extend_from_slice(&payload[2..]);
                }
                Some(nal::STAP_A) => {
                    let mut rest = &payload[1..];
                    while let Some((size, tail)) = rest.split_first_chunk::<2>() {
                        let (unit, tail) = tail.split_at(u16::from_be_bytes(*size).into());
                        stream.extend_from_slice(&[0, 0, 0, 1]);
                        stream.extend_from_slice(unit);
                        rest = tail;
                    }
                }
                _ => {
                    stream.extend_from_slice(&[0, 0, 0, 1]);
                    stream.extend_from_slice(payload);
                }
            }
        }
        stream
    }

    #[test]
    fn a_decoder_shows_every_frame_of_two_rounds_with_its_number() {
        let video = VideoLoop::encode(SMALL).unwrap();
        assert_eq!(video.frames.len(), 30);
        let mut decoder = Decoder::new().unwrap();
        for number in (0..30).chain(0..30) {
            let frame = &video.frames[number];
            let lead = frame.lead(Stamp { sent_us: 1, frame: 2 }).unwrap();
            let payloads: Vec<_> = [lead].into_iter().chain(frame.slices.iter().cloned()).collect();
            let picture = decoder.decode(&annex_b(&payloads)).unwrap().unwrap();
            let stride = picture.strides().0;
            assert_eq!(read_number(picture.y(), 320, 180, stride), Some(number as u32));
        }
    }

    #[test]
    fn the_loop_keeps_the_bitrate_and_starts_with_its_only_key_frame() {
        let video = VideoLoop::encode(SMALL).unwrap();
        let ratio = video.bitrate() / 600_000.0;
        assert!((0.8..1.2).contains(&ratio), "{ratio}");
        assert_eq!(video.profile_level_id.unwrap() >> 8, 0x42e0);
        assert!(!video.frames[0].parameter_sets.is_empty());
        assert!(video.frames[1..].iter().all(|frame| frame.parameter_sets.is_empty()));
    }

    #[test]
    fn streams_have_the_bitrate_that_was_asked_for() {
        for bitrate in [1_500_000, 2_500_000, 6_000_000] {
            let settings = VideoSettings { width: 1280, height: 720, fps: 30, bitrate, gop_frames: 60 };
            let ratio = VideoLoop::encode(settings).unwrap().bitrate() / f64::from(bitrate);
            assert!((0.93..1.07).contains(&ratio), "{ratio} of {bitrate}");
        }
    }

    #[test]
    fn all_packets_of_a_large_frame_but_the_last_are_equally_long() {
        let settings = VideoSettings { bitrate: 2_500_000, gop_frames: 8, ..SMALL };
        let video = VideoLoop::encode(settings).unwrap();
        for frame in &video.frames {
            let lead = frame.lead(Stamp { sent_us: 1_790_000_000_000_000, frame: 2 }).unwrap();
            assert!((MAX_PAYLOAD - 1..=MAX_PAYLOAD).contains(&lead.len()), "{}", lead.len());
            assert!(frame.slices[..frame.slices.len() - 1].iter().all(|slice| slice.len() == MAX_PAYLOAD));
        }
    }
}
