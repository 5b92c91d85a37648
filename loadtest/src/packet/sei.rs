//! The time stamp inside the picture: an SEI message of type user_data_unregistered (H.264 annex D.1.7) in
//! every access unit says when the frame was handed to the network. It is part of the bitstream, so it
//! survives servers that write new RTP headers, and decoders skip it.

use super::h264;

/// Marks our messages among other user data.
const UUID: [u8; 16] = *b"uringcast-stamp1";
/// Hexadecimal text: it holds no zero bytes, so no emulation prevention (H.264 section 7.4.1) ever changes
/// it.
const TEXT_LEN: usize = 16 + 8;
const PAYLOAD_TYPE_USER_DATA: u8 = 5;
const RBSP_STOP: u8 = 0x80;
const FILL: u8 = b'.';

/// Length in bytes of the smallest NAL unit that [`write()`] makes.
pub const MIN_LEN: usize = 1 + 1 + 1 + UUID.len() + TEXT_LEN + 1;

/// What a frame says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// When the frame was handed to the network, microseconds since the Unix epoch, publisher's clock.
    pub sent_us: u64,
    /// Frames sent before it by this publisher, modulo 2^32.
    pub frame: u32,
}

/// An SEI NAL unit that carries the stamp, filled up to `len` bytes; shorter than [`MIN_LEN`] is not
/// possible.
pub fn write(stamp: Stamp, len: usize) -> Vec<u8> {
    let (size, size_bytes) = payload_size(len.max(MIN_LEN));
    let mut unit = vec![h264::nal::SEI, PAYLOAD_TYPE_USER_DATA];
    unit.extend(std::iter::repeat_n(0xff, size_bytes - 1));
    unit.push((size % 255) as u8);
    unit.extend_from_slice(&UUID);
    unit.extend_from_slice(format!("{:016x}{:08x}", stamp.sent_us, stamp.frame).as_bytes());
    unit.resize(2 + size_bytes + size, FILL);
    unit.push(RBSP_STOP);
    unit
}

/// payloadSize of a message whose NAL unit has `len` bytes, or one fewer where no size fits exactly, and the
/// count of bytes that say it: one for each full 255 and one for the rest (H.264 section 7.3.2.3.1).
fn payload_size(len: usize) -> (usize, usize) {
    let room = len - 4;
    let (full, rest) = (room / 256, (room % 256).min(254));
    (full * 255 + rest, full + 1)
}

/// Reads the stamp from the RTP payload that holds (the start of) the SEI NAL unit.
pub fn read(payload: &[u8]) -> Option<Stamp> {
    let mut found = None;
    h264::visit_units(payload, |kind, body| {
        if kind == h264::nal::SEI {
            found = found.or_else(|| parse(body));
        }
    });
    found
}

fn parse(body: &[u8]) -> Option<Stamp> {
    let at = body.windows(UUID.len()).take(16).position(|window| window == UUID)?;
    let text = body.get(at + UUID.len()..at + UUID.len() + TEXT_LEN)?;
    let text = std::str::from_utf8(text).ok()?;
    Some(Stamp {
        sent_us: u64::from_str_radix(text.get(..16)?, 16).ok()?,
        frame: u32::from_str_radix(text.get(16..)?, 16).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { sent_us: 1_790_000_000_123_456, frame: 77 };

    #[test]
    fn a_stamp_of_any_length_is_exactly_that_long_and_reads_back() {
        for len in MIN_LEN..1400 {
            let unit = write(STAMP, len);
            assert!(unit.len() == len || unit.len() + 1 == len, "{len} became {}", unit.len());
            assert_eq!(read(&unit), Some(STAMP), "{len}");
        }
        assert_eq!(write(STAMP, 0).len(), MIN_LEN);
    }

    #[test]
    fn the_message_says_its_own_size() {
        for len in [MIN_LEN, 258, 259, 260, 515, 1160] {
            let unit = write(STAMP, len);
            let full = unit[2..].iter().take_while(|byte| **byte == 0xff).count();
            let size = full * 255 + usize::from(unit[2 + full]);
            assert_eq!(unit.len(), 2 + full + 1 + size + 1);
        }
    }

    #[test]
    fn no_byte_of_it_needs_emulation_prevention() {
        let unit = write(Stamp { sent_us: 0, frame: 0 }, 1160);
        assert!(!unit.contains(&0));
    }

    #[test]
    fn it_is_found_inside_an_aggregate_and_in_a_first_fragment() {
        let aggregate = h264::stap_a(&[&[0x67, 1, 2], &[0x68, 3], &write(STAMP, 100)]);
        assert_eq!(read(&aggregate), Some(STAMP));
        let fragments = h264::payloads_of(&write(STAMP, 3000));
        assert_eq!(read(&fragments[0]), Some(STAMP));
        assert_eq!(read(&fragments[1]), None);
    }

    #[test]
    fn other_user_data_and_cut_off_messages_are_no_stamp() {
        assert_eq!(read(&[6, 5, 20, 1, 2, 3]), None);
        let unit = write(STAMP, 0);
        for end in 0..MIN_LEN - 1 {
            assert_eq!(read(&unit[..end]), None);
        }
    }
}
