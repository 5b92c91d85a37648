//! The VP8 that publishers send with `--codec vp8`: a small loop, made by `assets/make-vp8-loop.py`.

use crate::packet::vp8;
use crate::video::{LoopFrame, VideoLoop, VideoSettings};

/// In IVF: a header of 32 bytes, then per frame a header of 12 and the frame.
const LOOP: &[u8] = include_bytes!("../assets/vp8-loop.ivf");
const FILE_HEADER: usize = 32;
const FRAME_HEADER: usize = 12;
const FPS: u32 = 30;

/// The loop, cut into RTP payloads. VP8 has no place for a time stamp.
pub fn load() -> VideoLoop {
    let mut frames = Vec::new();
    let mut rest = LOOP.get(FILE_HEADER..).unwrap_or_default();
    while let Some((header, tail)) = rest.split_first_chunk::<FRAME_HEADER>() {
        let size = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let Some((frame, tail)) = tail.split_at_checked(size as usize) else { break };
        frames.push(LoopFrame {
            parameter_sets: Vec::new(),
            stamped: false,
            slices: vp8::payloads_of(frame),
        });
        rest = tail;
    }
    let side =
        |at: usize| LOOP.get(at..at + 2).map_or(0, |side| u16::from_le_bytes([side[0], side[1]]).into());
    let gop_frames = frames.len() as u32;
    let mut video = VideoLoop {
        frames,
        settings: VideoSettings { width: side(12), height: side(14), fps: FPS, bitrate: 0, gop_frames },
        profile_level_id: None,
    };
    video.settings.bitrate = video.bitrate() as u32;
    video
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_is_two_seconds_that_start_with_its_only_key_frame() {
        let video = load();
        assert_eq!((video.frames.len(), video.settings.width, video.settings.height), (60, 320, 180));
        let keys: Vec<_> = video.frames.iter().map(|frame| vp8::starts_key_frame(&frame.slices[0])).collect();
        assert!(keys[0] && keys[1..].iter().all(|key| !key));
        assert!((150_000.0..300_000.0).contains(&video.bitrate()), "{}", video.bitrate());
    }
}
