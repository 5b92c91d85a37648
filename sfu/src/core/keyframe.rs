//! Where a key frame begins, and when to ask for one.

use super::codec::Codec;
use std::time::{Duration, Instant};

/// Whether this RTP payload is the first packet of a key frame, so that a decoder can start here.
///
/// H264 and H265 count a parameter set as the start, because encoders send it right before the IDR picture.
pub fn starts_keyframe(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::H264 { .. } => h264(payload),
        Codec::H265 { .. } => h265(payload),
        Codec::Vp8 => vp8(payload).unwrap_or(false),
        Codec::Vp9 { .. } => vp9(payload),
        Codec::Av1 { .. } => av1(payload),
        Codec::Opus | Codec::Pcmu | Codec::Pcma => true,
    }
}

/// RFC 6184 §5.2: single NAL units, STAP-A and the first fragment of FU-A.
fn h264(payload: &[u8]) -> bool {
    const STAP_A: u8 = 24;
    const FU_A: u8 = 28;
    let starts = |nal: u8| matches!(nal & 0x1f, 5 | 7); // IDR slice, SPS
    match payload {
        [header, rest @ ..] if header & 0x1f == STAP_A => aggregated(rest).any(|nal| starts(nal[0])),
        [header, fu, ..] if header & 0x1f == FU_A => fu & 0x80 != 0 && starts(*fu),
        [header, ..] => starts(*header),
        [] => false,
    }
}

/// RFC 7798 §4.4: single NAL units, aggregation packets and the first fragment of fragmentation units.
fn h265(payload: &[u8]) -> bool {
    const AP: u8 = 48;
    const FU: u8 = 49;
    let kind = |header: u8| (header >> 1) & 0x3f;
    let starts = |kind: u8| matches!(kind, 16..=21 | 32 | 33); // IRAP, VPS, SPS
    match payload {
        [header, _, rest @ ..] if kind(*header) == AP => aggregated(rest).any(|nal| starts(kind(nal[0]))),
        [header, _, fu, ..] if kind(*header) == FU => fu & 0x80 != 0 && starts(fu & 0x3f),
        [header, ..] => starts(kind(*header)),
        [] => false,
    }
}

/// The NAL units of an aggregation packet, each behind a 16-bit size, none empty.
pub fn aggregated(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (size, body) = rest.split_at_checked(2)?;
        let (nal, tail) = body.split_at_checked(usize::from(u16::from_be_bytes([size[0], size[1]])))?;
        rest = tail;
        (!nal.is_empty()).then_some(nal)
    })
}

/// RFC 7741 §4.2 and §4.3: start of the first partition, with the inverse key-frame flag clear.
fn vp8(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    if first & 0x10 == 0 || first & 0x07 != 0 {
        return Some(false);
    }
    Some(payload.get(vp8_descriptor_bytes(payload)?)? & 0x01 == 0)
}

/// Bytes in front of the VP8 frame (RFC 7741 §4.2).
pub fn vp8_descriptor_bytes(payload: &[u8]) -> Option<usize> {
    let first = *payload.first()?;
    let mut at = 1;
    if first & 0x80 != 0 {
        let extensions = *payload.get(1)?;
        at = 2;
        if extensions & 0x80 != 0 {
            at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
        }
        at += usize::from(extensions & 0x40 != 0); // TL0PICIDX
        at += usize::from(extensions & 0x30 != 0); // TID, KEYIDX
    }
    Some(at)
}

/// RFC 9628 §4.2: start of a frame (B) that is not inter-picture predicted (P), in the lowest spatial layer.
fn vp9(payload: &[u8]) -> bool {
    let Some(&first) = payload.first() else { return false };
    let (has_picture_id, inter) = (first & 0x80 != 0, first & 0x40 != 0);
    let (has_layer, begins) = (first & 0x20 != 0, first & 0x08 != 0);
    let mut at = 1;
    if has_picture_id {
        at += if payload.get(1).is_some_and(|id| id & 0x80 != 0) { 2 } else { 1 };
    }
    let base_layer = !has_layer || payload.get(at).is_some_and(|layer| (layer >> 1) & 0x07 == 0);
    begins && !inter && base_layer
}

/// AV1 RTP §4.4: the N bit marks the first packet of a coded video sequence.
fn av1(payload: &[u8]) -> bool {
    payload.first().is_some_and(|aggregation| aggregation & 0x08 != 0)
}

/// Merges and throttles the key-frame requests for one published track.
///
/// A request stays open until a key frame arrives, because a PLI may be lost; while open it is repeated.
#[derive(Debug, Default)]
pub struct KeyframeRequests {
    wanted: bool,
    last_sent: Option<Instant>,
}

/// At most two requests a second reach a publisher, whatever viewers do.
pub const KEYFRAME_REQUEST_INTERVAL: Duration = Duration::from_millis(500);

impl KeyframeRequests {
    /// Somebody cannot decode until the next key frame.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// A key frame arrived.
    pub fn satisfied(&mut self) {
        self.wanted = false;
    }

    /// When [`KeyframeRequests::poll`] will next say yes.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        self.wanted.then(|| self.last_sent.map_or(now, |sent| (sent + KEYFRAME_REQUEST_INTERVAL).max(now)))
    }

    /// Whether to send a request now. Saying yes counts as sent.
    pub fn poll(&mut self, now: Instant) -> bool {
        let due = self.deadline(now).is_some_and(|deadline| deadline <= now);
        if due {
            self.last_sent = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::H264Profile;
    use super::*;

    const H264: Codec = Codec::H264 { profile: H264Profile::Baseline, packetization_mode: 1 };
    const H265: Codec = Codec::H265 { profile_id: 1, tier_flag: 0 };

    #[test]
    fn h264_starts_at_parameter_sets_and_idr_in_every_packetisation() {
        assert!(starts_keyframe(H264, &[0x67, 1, 2]));
        assert!(starts_keyframe(H264, &[0x65, 1]));
        assert!(starts_keyframe(H264, &[0x78, 0, 2, 0x09, 0x10, 0, 2, 0x67, 0x42])); // AUD then SPS
        assert!(starts_keyframe(H264, &[0x7c, 0x85, 0]));
        assert!(!starts_keyframe(H264, &[0x7c, 0x05, 0])); // a later fragment
        assert!(!starts_keyframe(H264, &[0x41, 0x9a]));
        assert!(!starts_keyframe(H264, &[0x78, 0xff, 0xff, 0x67])); // size beyond the packet
        assert!(!starts_keyframe(H264, &[0x78, 0, 0, 0, 0]));
        assert!(!starts_keyframe(H264, &[]));
    }

    #[test]
    fn h265_starts_at_vps_and_irap() {
        assert!(starts_keyframe(H265, &[0x40, 0x01, 0x0c]));
        assert!(starts_keyframe(H265, &[0x62, 0x01, 0x93]));
        assert!(!starts_keyframe(H265, &[0x62, 0x01, 0x13]));
        assert!(starts_keyframe(H265, &[0x60, 0x01, 0, 3, 0x40, 0x01, 0]));
        assert!(!starts_keyframe(H265, &[0x02, 0x01]));
    }

    #[test]
    fn vp8_vp9_and_av1_start_where_their_descriptors_say() {
        assert!(starts_keyframe(Codec::Vp8, &[0x90, 0x80, 0x81, 0x23, 0x10, 0]));
        assert!(!starts_keyframe(Codec::Vp8, &[0x90, 0x80, 0x81, 0x23, 0x11, 0]));
        assert!(!starts_keyframe(Codec::Vp8, &[0x80, 0x80, 0x81, 0x23, 0x10]));
        assert!(!starts_keyframe(Codec::Vp8, &[0x90, 0x80]));
        let vp9 = Codec::Vp9 { profile_id: 0 };
        assert!(starts_keyframe(vp9, &[0x8a, 0x81, 0x23, 0]));
        assert!(!starts_keyframe(vp9, &[0xca, 0x81, 0x23, 0]));
        assert!(!starts_keyframe(vp9, &[0xa8, 0x01, 0x02])); // second spatial layer
        let av1 = Codec::Av1 { profile: 0 };
        assert!(starts_keyframe(av1, &[0x18]));
        assert!(!starts_keyframe(av1, &[0x10]));
    }

    #[test]
    fn many_requests_become_two_a_second_until_a_key_frame_comes() {
        let start = Instant::now();
        let mut requests = KeyframeRequests::default();
        assert_eq!(requests.deadline(start), None);
        let mut sent = 0;
        for millis in 0..2_000 {
            let now = start + Duration::from_millis(millis);
            requests.want();
            sent += u32::from(requests.poll(now));
        }
        assert_eq!(sent, 4);
        requests.satisfied();
        assert!(!requests.poll(start + Duration::from_secs(9)));
        assert_eq!(requests.deadline(start + Duration::from_secs(9)), None);
    }
}
