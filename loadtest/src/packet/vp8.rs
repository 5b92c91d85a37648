//! VP8 in RTP (RFC 7741): cutting a frame into payloads, and seeing where a key frame starts.

use std::sync::Arc;

use super::h264::MAX_PAYLOAD;

/// S bit of the payload descriptor: a partition starts here.
const START: u8 = 0x10;

/// Payloads of one frame, each with the shortest descriptor (RFC 7741 section 4.2).
pub fn payloads_of(frame: &[u8]) -> Vec<Arc<[u8]>> {
    let payload = |(i, chunk): (usize, &[u8])| {
        let descriptor = if i == 0 { START } else { 0 };
        [&[descriptor], chunk].concat().into()
    };
    frame.chunks(MAX_PAYLOAD - 1).enumerate().map(payload).collect()
}

/// Whether this payload starts a key frame.
pub fn starts_key_frame(payload: &[u8]) -> bool {
    key_frame(payload).is_some()
}

/// The start of a key frame, if it is in this payload: the first partition's start, with the P bit of the frame
/// header clear (RFC 7741 sections 4.2 and 4.3).
pub fn key_frame(payload: &[u8]) -> Option<&[u8]> {
    let (&first, rest) = payload.split_first()?;
    let starts_frame = first & 0x10 != 0 && first & 0x0f == 0;
    let extended = first & 0x80 != 0;
    let frame = rest.get(if extended { extension_len(rest)? } else { 0 }..)?;
    frame.first().filter(|byte| starts_frame && *byte & 0x01 == 0)?;
    Some(frame)
}

fn extension_len(rest: &[u8]) -> Option<usize> {
    let flags = rest.first()?;
    let picture_id = flags & 0x80 != 0;
    let long_picture_id = picture_id && rest.get(1)? & 0x80 != 0;
    let tl0_pic_idx = flags & 0x40 != 0;
    let tid_or_key_idx = flags & 0x30 != 0;
    Some(
        1 + usize::from(picture_id)
            + usize::from(long_picture_id)
            + usize::from(tl0_pic_idx)
            + usize::from(tid_or_key_idx),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_cut_and_only_its_first_payload_starts_it() {
        let payloads = payloads_of(&[0; 2500]);
        assert_eq!(payloads.iter().map(|payload| payload.len()).collect::<Vec<_>>(), [1160, 1160, 183]);
        let starts: Vec<_> = payloads.iter().map(|payload| starts_key_frame(payload)).collect();
        assert_eq!(starts, [true, false, false]);
    }

    #[test]
    fn a_key_frame_is_seen_with_and_without_extensions() {
        assert!(starts_key_frame(&[0x10, 0x00]));
        assert!(!starts_key_frame(&[0x10, 0x01]));
        assert!(!starts_key_frame(&[0x00, 0x00]));
        assert!(starts_key_frame(&[0x90, 0x80, 0x81, 0x02, 0x00]));
        assert!(starts_key_frame(&[0x90, 0xe0, 0x01, 0x02, 0x03, 0x00]));
        assert!(!starts_key_frame(&[0x90, 0xe0, 0x01, 0x02, 0x03, 0x01]));
        assert!(!starts_key_frame(&[0x90, 0x80]));
        assert!(!starts_key_frame(&[]));
    }
}
