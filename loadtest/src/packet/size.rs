//! The picture's size, from the start of a key frame: a viewer sees by it that it was given another layer.

use super::{h264, vp8};

/// Profiles whose sequence parameter set has the chroma fields (H.264 section 7.3.2.1.1).
const HIGH_PROFILES: [u32; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];
/// Sample counts per macroblock.
const MACROBLOCK: u32 = 16;

/// Width and height in pixels, if this H264 payload holds a sequence parameter set.
pub fn of_h264(payload: &[u8]) -> Option<(u32, u32)> {
    let mut size = None;
    h264::visit_units(payload, |kind, body| {
        if kind == h264::nal::SPS {
            size = size.or_else(|| of_sps(body));
        }
    });
    size
}

/// Width and height in pixels, if this VP8 payload starts a key frame (RFC 6386 section 9.1).
pub fn of_vp8(payload: &[u8]) -> Option<(u32, u32)> {
    let frame = vp8::key_frame(payload)?;
    let side =
        |at: usize| Some(u32::from(u16::from_le_bytes([*frame.get(at)?, *frame.get(at + 1)?]) & 0x3fff));
    Some((side(6)?, side(8)?))
}

/// `body` is the NAL unit behind its header.
fn of_sps(body: &[u8]) -> Option<(u32, u32)> {
    let mut bits = Bits::new(body);
    let profile = bits.take(8)?;
    bits.take(16)?; // constraints and level
    bits.ue()?; // seq_parameter_set_id
    let chroma = if HIGH_PROFILES.contains(&profile) { high_fields(&mut bits)? } else { 1 };
    bits.ue()?; // log2_max_frame_num_minus4
    skip_picture_order(&mut bits)?;
    bits.ue()?; // max_num_ref_frames
    bits.take(1)?; // gaps_in_frame_num_value_allowed_flag
    let (across, down) = (bits.ue()? + 1, bits.ue()? + 1);
    let frames_only = bits.take(1)?;
    bits.take(if frames_only == 1 { 1 } else { 2 })?; // mb_adaptive…, direct_8x8_inference_flag
    let crop = if bits.take(1)? == 1 { [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?] } else { [0; 4] };
    // 4:2:0 crops in pairs of columns and rows; fields double the rows.
    let (unit_x, unit_y) = (if matches!(chroma, 1 | 2) { 2 } else { 1 }, if chroma == 1 { 2 } else { 1 });
    let width = across.checked_mul(MACROBLOCK)?;
    let height = down.checked_mul(MACROBLOCK * (2 - frames_only))?;
    let cut_x = crop[0].checked_add(crop[1])?.checked_mul(unit_x)?;
    let cut_y = crop[2].checked_add(crop[3])?.checked_mul(unit_y * (2 - frames_only))?;
    Some((width.checked_sub(cut_x)?, height.checked_sub(cut_y)?))
}

/// Reads the fields of high profiles; returns `chroma_format_idc`. Scaling matrices are not followed.
fn high_fields(bits: &mut Bits) -> Option<u32> {
    let chroma = bits.ue()?;
    if chroma == 3 {
        bits.take(1)?;
    }
    bits.ue()?;
    bits.ue()?;
    bits.take(1)?;
    (bits.take(1)? == 0).then_some(chroma)
}

fn skip_picture_order(bits: &mut Bits) -> Option<()> {
    match bits.ue()? {
        0 => {
            bits.ue()?;
        }
        1 => {
            bits.take(1)?;
            bits.ue()?;
            bits.ue()?;
            let cycle = bits.ue()?.min(255);
            for _ in 0..cycle {
                bits.ue()?;
            }
        }
        _ => {}
    }
    Some(())
}

/// Bits of a payload without its emulation prevention (H.264 section 7.4.1).
struct Bits {
    bytes: Vec<u8>,
    at: usize,
}

impl Bits {
    fn new(body: &[u8]) -> Bits {
        let mut bytes = Vec::with_capacity(body.len());
        for byte in body {
            if *byte != 3 || !bytes.ends_with(&[0, 0]) {
                bytes.push(*byte);
            }
        }
        Bits { bytes, at: 0 }
    }

    fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    /// Exp-Golomb (H.264 section 9.1); a signed one has the same length.
    fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.take(1)? == 0 {
            zeros += 1;
        }
        (zeros < 31).then_some(())?;
        Some((1 << zeros) - 1 + self.take(zeros)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::packet::sei::Stamp;
    use crate::video::{VideoLoop, VideoSettings};

    #[test]
    fn sizes_of_encoded_pictures_are_read_with_and_without_cropping() {
        for (width, height) in [(320, 180), (640, 480), (322, 242)] {
            let settings = VideoSettings { width, height, fps: 30, bitrate: 300_000, gop_frames: 1 };
            let video = VideoLoop::encode(settings).unwrap();
            let lead = video.frames[0].lead(Stamp { sent_us: 1, frame: 1 }).unwrap();
            assert_eq!(of_h264(&lead), Some((width as u32, height as u32)));
            let cut = (0..20).filter_map(|len| of_h264(&lead[..len])).count();
            assert!(cut < 20, "a cut set has no size");
        }
    }

    #[test]
    fn a_high_profile_set_is_read() {
        // x264, High, 1280x720.
        let sps = [0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00];
        assert_eq!(of_h264(&sps), Some((1280, 720)));
    }

    #[test]
    fn the_vp8_loop_says_its_size_at_its_key_frame() {
        let video = crate::vp8_loop::load();
        assert_eq!(of_vp8(&video.frames[0].slices[0]), Some((320, 180)));
        assert_eq!(of_vp8(&video.frames[1].slices[0]), None);
    }
}
