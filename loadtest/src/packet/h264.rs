//! H264 in RTP (RFC 6184): cutting an access unit into payloads, and reading from a payload where a key frame
//! starts.

use std::sync::Arc;

/// Largest RTP payload written. With a 12-byte header, two extensions and a 16-byte tag the datagram stays at
/// or under 1200 bytes, as a browser's does.
pub const MAX_PAYLOAD: usize = 1160;

const NAL_TYPE: u8 = 0x1f;
const NAL_REF_IDC: u8 = 0x60;
const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;

/// `nal_unit_type` values (H.264 table 7-1, RFC 6184 table 1).
pub mod nal {
    pub const IDR: u8 = 5;
    pub const SEI: u8 = 6;
    pub const SPS: u8 = 7;
    pub const PPS: u8 = 8;
    pub const AUD: u8 = 9;
    pub const STAP_A: u8 = 24;
    pub const FU_A: u8 = 28;
}

/// `nal_unit_type` of a NAL unit or RTP payload; `None` if it is empty.
pub fn nal_type(unit: &[u8]) -> Option<u8> {
    unit.first().map(|first| first & NAL_TYPE)
}

/// NAL units of an Annex B byte stream, without their start codes.
pub fn annex_b_units(stream: &[u8]) -> Vec<&[u8]> {
    let mut starts = Vec::new();
    let mut at = 0;
    while at + 3 <= stream.len() {
        if stream[at..at + 3] == [0, 0, 1] {
            starts.push(at + 3);
            at += 3;
        } else {
            at += 1;
        }
    }
    let ends = starts.iter().skip(1).map(|next| next - 3).chain([stream.len()]);
    let trim = |unit: &'_ [u8]| unit.len() - unit.iter().rev().take_while(|byte| **byte == 0).count();
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| &stream[*start..end])
        // trailing_zero_8bits and the four-byte start code's first zero belong to no NAL unit.
        .map(|unit| &unit[..trim(unit)])
        .filter(|unit| !unit.is_empty())
        .collect()
}

/// Joins NAL units into one STAP-A payload (RFC 6184 section 5.7.1).
pub fn stap_a(units: &[&[u8]]) -> Vec<u8> {
    let ref_idc = units.iter().filter_map(|unit| unit.first()).map(|first| first & NAL_REF_IDC).max();
    let mut payload = vec![ref_idc.unwrap_or(0) | nal::STAP_A];
    for unit in units {
        payload.extend_from_slice(&(unit.len() as u16).to_be_bytes());
        payload.extend_from_slice(unit);
    }
    payload
}

/// Payloads of one NAL unit: itself if it fits into [`MAX_PAYLOAD`], else FU-A fragments (RFC 6184 section
/// 5.8), all full but the last, as an encoder that fills its packets sends them.
pub fn payloads_of(unit: &[u8]) -> Vec<Arc<[u8]>> {
    if unit.len() <= MAX_PAYLOAD {
        return vec![unit.into()];
    }
    let indicator = unit[0] & NAL_REF_IDC | nal::FU_A;
    let chunks = unit[1..].chunks(MAX_PAYLOAD - 2);
    let last = chunks.len() - 1;
    let fragment = |(i, chunk): (usize, &[u8])| {
        let start = if i == 0 { FU_START } else { 0 };
        let end = if i == last { FU_END } else { 0 };
        let mut payload = vec![indicator, start | end | unit[0] & NAL_TYPE];
        payload.extend_from_slice(chunk);
        payload.into()
    };
    chunks.enumerate().map(fragment).collect()
}

/// Calls `visit` with each NAL unit that starts in this payload: its type and what the payload holds of its
/// body (of a fragmented unit: the first fragment's).
pub fn visit_units<'a>(payload: &'a [u8], mut visit: impl FnMut(u8, &'a [u8])) {
    match nal_type(payload) {
        Some(nal::STAP_A) => {
            let mut rest = &payload[1..];
            while let Some((size, tail)) = rest.split_first_chunk::<2>() {
                let Some((unit, tail)) = tail.split_at_checked(u16::from_be_bytes(*size).into()) else {
                    return;
                };
                if let Some(kind) = nal_type(unit) {
                    visit(kind, &unit[1..]);
                }
                rest = tail;
            }
        }
        Some(nal::FU_A) => {
            if let Some([_, header, body @ ..]) = Some(payload)
                && header & FU_START != 0
            {
                visit(header & NAL_TYPE, body);
            }
        }
        Some(kind @ 1..=23) => visit(kind, &payload[1..]),
        _ => {}
    }
}

/// Where a payload stands in a key frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyMark {
    /// Nothing here says key frame.
    #[default]
    None,
    /// An IDR slice starts here; parameter sets may have come before it.
    Slice,
    /// A sequence parameter set: an encoder sends it at the head of a key frame.
    Head,
}

/// Looks for the start of a key frame.
pub fn key_mark(payload: &[u8]) -> KeyMark {
    let mut mark = KeyMark::None;
    visit_units(payload, |kind, _| {
        mark = match (kind, mark) {
            (nal::SPS, _) | (_, KeyMark::Head) => KeyMark::Head,
            (nal::IDR, _) | (_, KeyMark::Slice) => KeyMark::Slice,
            _ => KeyMark::None,
        };
    });
    mark
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn annex_b_with_both_start_codes_and_trailing_zeros_is_split() {
        let stream = [0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 3, 0, 0, 0, 0, 1, 0x65, 9, 0, 0];
        assert_eq!(annex_b_units(&stream), [&[0x67, 1, 2][..], &[0x68, 3], &[0x65, 9]]);
        assert!(annex_b_units(&[1, 2, 3]).is_empty());
    }

    #[test]
    fn a_large_unit_is_cut_into_full_fragments_that_join_to_the_same_bytes() {
        let unit: Vec<u8> = [0x65].into_iter().chain((0..5000u32).map(|i| i as u8)).collect();
        let payloads = payloads_of(&unit);
        assert_eq!(payloads.len(), 5);
        assert!(payloads[..4].iter().all(|p| p.len() == MAX_PAYLOAD));
        assert_eq!((payloads[0][0], payloads[0][1]), (0x60 | 28, 0x80 | 5));
        assert_eq!(payloads[4][1], 0x40 | 5);
        let joined: Vec<u8> = payloads.iter().flat_map(|p| p[2..].to_vec()).collect();
        assert_eq!(joined, unit[1..]);
    }

    #[test]
    fn a_unit_of_exactly_the_limit_stays_whole() {
        assert_eq!(payloads_of(&vec![0x41; MAX_PAYLOAD]).len(), 1);
        assert_eq!(payloads_of(&vec![0x41; MAX_PAYLOAD + 1]).len(), 2);
    }

    #[test]
    fn key_frames_are_seen_in_every_packing() {
        assert_eq!(key_mark(&stap_a(&[&[0x67, 1], &[0x68, 2]])), KeyMark::Head);
        assert_eq!(key_mark(&[0x67, 1]), KeyMark::Head);
        assert_eq!(key_mark(&[0x65, 1]), KeyMark::Slice);
        assert_eq!(key_mark(&payloads_of(&vec![0x65; 3000])[0]), KeyMark::Slice);
        assert_eq!(key_mark(&payloads_of(&vec![0x65; 3000])[1]), KeyMark::None);
        assert_eq!(key_mark(&[0x41, 1]), KeyMark::None);
    }

    #[test]
    fn truncated_payloads_are_read_without_harm() {
        let whole = stap_a(&[&[0x67, 1, 2, 3], &[0x68, 4, 5]]);
        for end in 0..whole.len() {
            let _ = key_mark(&whole[..end]);
        }
        assert_eq!(key_mark(&[0x7c]), KeyMark::None);
        assert_eq!(key_mark(&[]), KeyMark::None);
    }
}
