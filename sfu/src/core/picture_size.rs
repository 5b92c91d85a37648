//! How large the pictures of a track are, read from the first packet of a key frame.

use super::codec::Codec;
use super::keyframe::{aggregated, vp8_descriptor_bytes};

/// Width and height in pixels, if this RTP payload tells them.
pub fn picture_size(codec: Codec, payload: &[u8]) -> Option<(u16, u16)> {
    match codec {
        Codec::Vp8 => vp8(payload),
        Codec::Vp9 { .. } => vp9(payload),
        Codec::H264 { .. } => h264(payload),
        Codec::H265 { .. } => h265(payload),
        Codec::Av1 { .. } => av1(payload),
        Codec::Opus | Codec::Pcmu | Codec::Pcma => None,
    }
}

/// RFC 6386 §9.1: frame tag, start code, then 14 bits each.
fn vp8(payload: &[u8]) -> Option<(u16, u16)> {
    let frame = payload.get(vp8_descriptor_bytes(payload)?..)?;
    let [tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..] = *frame else { return None };
    let size = |low, high| u16::from_le_bytes([low, high]) & 0x3fff;
    (tag & 1 == 0).then(|| (size(w0, w1), size(h0, h1)))
}

/// RFC 9628 §4.2.1: the scalability structure names the size of each spatial layer; the last is the largest.
fn vp9(payload: &[u8]) -> Option<(u16, u16)> {
    let first = *payload.first()?;
    if first & 0x02 == 0 {
        return None;
    }
    let mut at = 1;
    if first & 0x80 != 0 {
        at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
    }
    if first & 0x20 != 0 {
        // In non-flexible mode TL0PICIDX follows.
        at += if first & 0x10 != 0 { 1 } else { 2 };
    }
    if first & 0x40 != 0 && first & 0x10 != 0 {
        // Reference indices, as long as their last bit says so.
        while payload.get(at)? & 0x01 != 0 {
            at += 1;
        }
        at += 1;
    }
    let structure = *payload.get(at)?;
    if structure & 0x10 == 0 {
        return None;
    }
    let largest = at + 1 + usize::from(structure >> 5) * 4;
    let &[w1, w0, h1, h0] = payload.get(largest..largest + 4)? else { return None };
    Some((u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0])))
}

fn h264(payload: &[u8]) -> Option<(u16, u16)> {
    const STAP_A: u8 = 24;
    const SPS: u8 = 7;
    match payload {
        [header, rest @ ..] if header & 0x1f == STAP_A => {
            h264_sps(&aggregated(rest).find(|nal| nal[0] & 0x1f == SPS)?[1..])
        }
        [header, sps @ ..] if header & 0x1f == SPS => h264_sps(sps),
        _ => None,
    }
}

/// ITU-T H.264 §7.3.2.1.1, up to the cropping.
fn h264_sps(sps: &[u8]) -> Option<(u16, u16)> {
    let mut bits = Bits::new(sps);
    let profile = bits.take(8)?;
    bits.take(16)?; // constraints and level
    bits.exp_golomb()?; // seq_parameter_set_id
    let chroma = h264_chroma(&mut bits, profile)?;
    bits.exp_golomb()?; // log2_max_frame_num_minus4
    skip_picture_order(&mut bits)?;
    bits.exp_golomb()?; // max_num_ref_frames
    bits.take(1)?; // gaps_in_frame_num_value_allowed_flag
    let (width, height) = (bits.exp_golomb()?.checked_add(1)?, bits.exp_golomb()?.checked_add(1)?);
    let fields = 2 - bits.take(1)?; // frame_mbs_only_flag
    if fields == 2 {
        bits.take(1)?; // mb_adaptive_frame_field_flag
    }
    bits.take(1)?; // direct_8x8_inference_flag
    let (unit_x, unit_y) = crop_units(chroma);
    let (crop_x, crop_y) = bits.cropping()?;
    let whole = (width.checked_mul(16)?, height.checked_mul(16 * fields)?);
    cropped(whole, (crop_x.checked_mul(unit_x)?, crop_y.checked_mul(unit_y * fields)?))
}

/// `chroma_format_idc`, which profiles above Main name, and what comes with it.
fn h264_chroma(bits: &mut Bits<'_>, profile: u32) -> Option<u32> {
    const NAMING: [u32; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];
    if !NAMING.contains(&profile) {
        return Some(1);
    }
    let chroma = bits.exp_golomb()?;
    if chroma == 3 {
        bits.take(1)?; // separate_colour_plane_flag
    }
    bits.exp_golomb()?; // bit depths
    bits.exp_golomb()?;
    bits.take(1)?; // qpprime_y_zero_transform_bypass_flag
    // Scaling matrices, which no encoder for WebRTC sends, are not followed.
    (bits.take(1)? == 0).then_some(chroma)
}

fn skip_picture_order(bits: &mut Bits<'_>) -> Option<()> {
    match bits.exp_golomb()? {
        0 => bits.exp_golomb().map(drop),
        1 => {
            bits.take(1)?;
            bits.exp_golomb()?;
            bits.exp_golomb()?;
            let cycle = bits.exp_golomb()?;
            (0..cycle.min(255)).try_for_each(|_| bits.exp_golomb().map(drop))
        }
        _ => Some(()),
    }
}

fn h265(payload: &[u8]) -> Option<(u16, u16)> {
    const AP: u8 = 48;
    const SPS: u8 = 33;
    let kind = |header: u8| (header >> 1) & 0x3f;
    match payload {
        [header, _, rest @ ..] if kind(*header) == AP => {
            h265_sps(aggregated(rest).find(|nal| kind(nal[0]) == SPS)?.get(2..)?)
        }
        [header, _, sps @ ..] if kind(*header) == SPS => h265_sps(sps),
        _ => None,
    }
}

/// ITU-T H.265 §7.3.2.2.1, up to the conformance window.
fn h265_sps(sps: &[u8]) -> Option<(u16, u16)> {
    let mut bits = Bits::new(sps);
    bits.take(4)?; // sps_video_parameter_set_id
    if bits.take(3)? != 0 {
        return None; // sub-layers: no encoder for WebRTC sends them in a simulcast
    }
    bits.take(1)?; // sps_temporal_id_nesting_flag
    (0..3).try_for_each(|_| bits.take(32).map(drop))?; // profile_tier_level without sub-layers
    bits.exp_golomb()?; // sps_seq_parameter_set_id
    let chroma = bits.exp_golomb()?;
    if chroma == 3 {
        bits.take(1)?; // separate_colour_plane_flag
    }
    let whole = (bits.exp_golomb()?, bits.exp_golomb()?);
    let (unit_x, unit_y) = crop_units(chroma);
    let (crop_x, crop_y) = bits.cropping()?;
    cropped(whole, (crop_x.checked_mul(unit_x)?, crop_y.checked_mul(unit_y)?))
}

/// AV1 RTP §4.3: the first OBU of a coded video sequence is its sequence header.
fn av1(payload: &[u8]) -> Option<(u16, u16)> {
    let (&aggregation, mut obu) = payload.split_first()?;
    // Only the last of a counted number of elements comes without its length.
    if aggregation & 0x30 != 0x10 {
        loop {
            let (&length, rest) = obu.split_first()?;
            obu = rest;
            if length & 0x80 == 0 {
                break;
            }
        }
    }
    let header = *obu.first()?;
    let (kind, has_extension, has_size) = ((header >> 3) & 0x0f, header & 0x04 != 0, header & 0x02 != 0);
    // The length of a sequence header, some 12 bytes, takes one byte.
    let at = 1 + usize::from(has_extension) + usize::from(has_size);
    if kind == 1 { av1_sequence_header(obu.get(at..)?) } else { None }
}

/// AV1 bitstream §5.5.1, up to the size.
fn av1_sequence_header(header: &[u8]) -> Option<(u16, u16)> {
    let mut bits = Bits::exact(header);
    bits.take(4)?; // seq_profile, still_picture
    if bits.take(1)? == 1 {
        bits.take(5)?; // reduced_still_picture_header: one level
    } else {
        if bits.take(1)? == 1 {
            return None; // timing_info: no encoder for WebRTC sends it
        }
        let has_delay = bits.take(1)?;
        for _ in 0..=bits.take(5)? {
            bits.take(12)?; // operating_point_idc
            if bits.take(5)? > 7 {
                bits.take(1)?; // seq_tier
            }
            if has_delay == 1 && bits.take(1)? == 1 {
                bits.take(4)?; // initial_display_delay_minus_1
            }
        }
    }
    let (width_bits, height_bits) = (bits.take(4)? + 1, bits.take(4)? + 1);
    let (width, height) = (bits.take(width_bits)? + 1, bits.take(height_bits)? + 1);
    Some((u16::try_from(width).ok()?, u16::try_from(height).ok()?))
}

/// In how many pixels the cropping is counted, by `chroma_format_idc`.
fn crop_units(chroma: u32) -> (u32, u32) {
    match chroma {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    }
}

fn cropped(whole: (u32, u32), cropping: (u32, u32)) -> Option<(u16, u16)> {
    let less = |whole: u32, cropping| u16::try_from(whole.checked_sub(cropping)?).ok();
    Some((less(whole.0, cropping.0)?, less(whole.1, cropping.1)?))
}

/// Reads bits.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Of the present byte.
    bit: u8,
    /// In H264 and H265 the bytes 0, 0, 3 stand for 0, 0.
    is_escaped: bool,
}

impl<'a> Bits<'a> {
    /// Of a NAL unit.
    fn new(bytes: &'a [u8]) -> Bits<'a> {
        Bits { bytes, at: 0, bit: 0, is_escaped: true }
    }

    /// As they are.
    fn exact(bytes: &'a [u8]) -> Bits<'a> {
        Bits { is_escaped: false, ..Bits::new(bytes) }
    }

    fn next(&mut self) -> Option<u32> {
        let value = (*self.bytes.get(self.at)? >> (7 - self.bit)) & 1;
        self.bit += 1;
        if self.bit == 8 {
            (self.at, self.bit) = (self.at + 1, 0);
            if self.is_escaped && self.at >= 2 && self.bytes.get(self.at - 2..=self.at) == Some(&[0, 0, 3]) {
                self.at += 1;
            }
        }
        Some(value.into())
    }

    fn take(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0, |value, _| Some(value << 1 | self.next()?))
    }

    /// `ue(v)`, §9.1 of H.264 and §9.2 of H.265. Signed values are as long.
    fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.next()? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.take(zeros)?)
    }

    /// Left and right together, top and bottom together, if there is any.
    fn cropping(&mut self) -> Option<(u32, u32)> {
        if self.take(1)? == 0 {
            return Some((0, 0));
        }
        let horizontal = self.exp_golomb()?.checked_add(self.exp_golomb()?)?;
        Some((horizontal, self.exp_golomb()?.checked_add(self.exp_golomb()?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::H264Profile;
    use super::*;

    const H264: Codec = Codec::H264 { profile: H264Profile::High, packetization_mode: 1 };
    const H265: Codec = Codec::H265 { profile_id: 1, tier_flag: 0 };
    const VP9: Codec = Codec::Vp9 { profile_id: 0 };
    const AV1: Codec = Codec::Av1 { profile: 0 };

    #[test]
    fn sizes_are_read_from_the_first_packet_of_a_key_frame() {
        let high_720p = [0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00];
        assert_eq!(picture_size(H264, &high_720p), Some((1280, 720)));
        // Eleven and a quarter macroblocks high, so cropped; behind an access unit delimiter.
        let baseline_180p = [0x67, 0x42, 0xc0, 0x1f, 0xf4, 0x0a, 0x0c, 0xfc, 0xe8];
        let aggregated =
            [&[0x78, 0, 2, 0x09, 0x10, 0, baseline_180p.len() as u8][..], &baseline_180p].concat();
        assert_eq!(picture_size(H264, &aggregated), Some((320, 180)));
        // With emulation prevention in the profile.
        let h265 = [
            0x42, 0x01, 0x01, 0x01, 0x00, 0x00, 0x03, 0x00, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03,
            0x00, 0x5d, 0xa0, 0x02, 0x80, 0x80, 0x2d, 0x1f, 0x50,
        ];
        assert_eq!(picture_size(H265, &h265), Some((1280, 718)));
        let vp8 = [0x90, 0x80, 0x81, 0x23, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x42, 0xe0, 0x01];
        assert_eq!(picture_size(Codec::Vp8, &vp8), Some((640, 480)), "without the scaling bits");
        let vp9 = [0x8b | 0x20, 0x81, 0x23, 0x00, 0x00, 0x38, 0x01, 0x40, 0x00, 0xb4, 0x02, 0x80, 0x01, 0x68];
        assert_eq!(picture_size(VP9, &vp9), Some((640, 360)), "the larger of two");
        // As libaom writes it, 1280x720, with a length and without.
        let sequence = [0x0a, 0x0b, 0x00, 0x00, 0x00, 0x2d, 0x4c, 0xff, 0xb3, 0xc0, 0x20, 0x10, 0x80];
        assert_eq!(picture_size(AV1, &[&[0x18][..], &sequence].concat()), Some((1280, 720)));
        assert_eq!(picture_size(AV1, &[&[0x28, 0x0d][..], &sequence].concat()), Some((1280, 720)));
    }

    #[test]
    fn what_is_cut_or_no_key_frame_has_no_size() {
        let sps = [0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00];
        assert!((0..9).all(|length| picture_size(H264, &sps[..length]).is_none()));
        assert_eq!(picture_size(H264, &[0x67, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(picture_size(H264, &[0x65, 0x88]), None);
        assert_eq!(picture_size(H265, &[0x42, 0x01, 0x01]), None);
        assert_eq!(picture_size(Codec::Vp8, &[0x10, 0x11, 0, 0, 0x9d, 0x01, 0x2a, 1, 0, 1, 0]), None);
        for codec in [H264, H265, VP9, AV1, Codec::Vp8] {
            for byte in 0..=255 {
                for length in 0..24 {
                    let _ = picture_size(codec, &vec![byte; length]);
                }
            }
        }
    }
}
