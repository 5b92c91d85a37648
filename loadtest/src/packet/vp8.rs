//! VP8 in RTP (RFC 7741): just enough to see a key frame in a stream that another publisher sends.

/// Whether this payload starts a key frame: the first partition's start, with the P bit of the frame header
/// clear (RFC 7741 sections 4.2 and 4.3).
pub fn starts_key_frame(payload: &[u8]) -> bool {
    let Some((&first, rest)) = payload.split_first() else { return false };
    let starts_frame = first & 0x10 != 0 && first & 0x0f == 0;
    let extended = first & 0x80 != 0;
    let skip = if extended { extension_len(rest) } else { Some(0) };
    let header = skip.and_then(|skip| rest.get(skip));
    starts_frame && header.is_some_and(|byte| byte & 0x01 == 0)
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
