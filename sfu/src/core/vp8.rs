//! The running numbers of pictures in VP8 payloads, PictureID and TL0PICIDX (RFC 7741 §4.2): they go on over a change of source.
//!
//! Sources begin at random. libwebrtc remembers its last 50 values of TL0PICIDX, and where both numbers go back, as at one change
//! in four, it takes the new pictures for old ones once it meets those values: it drops them for 3 s, up to 128 base-layer pictures
//! after the change.

use super::codec::Codec;
use super::packet::MediaPacket;

/// Bits of the first two bytes of a payload (RFC 7741 §4.2).
const EXTENDED: u8 = 0x80;
const HAS_PICTURE_ID: u8 = 0x80;
const HAS_TL0PICIDX: u8 = 0x40;
/// The picture id has 15 bits instead of 7.
const IS_LONG: u8 = 0x80;

/// The numbers of a picture, as far as its packets have them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PictureNumbers {
    picture_id: Option<u16>,
    tl0_pic_idx: Option<u8>,
}

/// What is added to the numbers of all pictures of a source, wrapping.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PictureShift {
    picture_id: u16,
    tl0_pic_idx: u8,
}

impl PictureNumbers {
    /// Those of the picture that a packet belongs to; none for other codecs.
    pub fn of(packet: &MediaPacket) -> PictureNumbers {
        match packet.header.source.codec {
            Codec::Vp8 => Places::in_payload(&packet.payload).read(&packet.payload),
            _ => PictureNumbers::default(),
        }
    }

    /// As they are sent.
    pub fn shifted(self, shift: PictureShift) -> PictureNumbers {
        PictureNumbers {
            picture_id: self.picture_id.map(|id| id.wrapping_add(shift.picture_id)),
            tl0_pic_idx: self.tl0_pic_idx.map(|index| index.wrapping_add(shift.tl0_pic_idx)),
        }
    }

    /// These, or where there are none those of a picture before.
    pub fn or(self, before: PictureNumbers) -> PictureNumbers {
        PictureNumbers {
            picture_id: self.picture_id.or(before.picture_id),
            tl0_pic_idx: self.tl0_pic_idx.or(before.tl0_pic_idx),
        }
    }

    /// With what this picture, the first of its source, follows the one that was sent `last`.
    pub fn shift_behind(self, last: PictureNumbers) -> PictureShift {
        let picture_id = self.picture_id.zip(last.picture_id);
        let tl0_pic_idx = self.tl0_pic_idx.zip(last.tl0_pic_idx);
        PictureShift {
            picture_id: picture_id.map_or(0, |(first, last)| last.wrapping_add(1).wrapping_sub(first)),
            tl0_pic_idx: tl0_pic_idx.map_or(0, |(first, last)| last.wrapping_add(1).wrapping_sub(first)),
        }
    }
}

impl PictureShift {
    /// Shifts the numbers in a VP8 payload, whose length stays.
    #[inline]
    pub fn apply(self, payload: &mut [u8]) {
        if self != PictureShift::default() {
            let places = Places::in_payload(payload);
            places.write(payload, places.read(payload).shifted(self));
        }
    }
}

/// Where a payload has them.
#[derive(Debug, Clone, Copy, Default)]
struct Places {
    short_id: Option<usize>,
    long_id: Option<usize>,
    tl0_pic_idx: Option<usize>,
}

impl Places {
    fn in_payload(payload: &[u8]) -> Places {
        let [first, extensions, id, ..] = *payload else { return Places::default() };
        let has = |bit| first & EXTENDED != 0 && extensions & bit != 0;
        let (has_id, is_long) = (has(HAS_PICTURE_ID), id & IS_LONG != 0);
        let after_id = 2 + usize::from(has_id) + usize::from(has_id && is_long);
        Places {
            short_id: (has_id && !is_long).then_some(2),
            long_id: (has_id && is_long && payload.len() > 3).then_some(2),
            tl0_pic_idx: (has(HAS_TL0PICIDX) && payload.len() > after_id).then_some(after_id),
        }
    }

    fn read(self, payload: &[u8]) -> PictureNumbers {
        let short = self.short_id.map(|at| u16::from(payload[at]));
        let long = self.long_id.map(|at| u16::from_be_bytes([payload[at], payload[at + 1]]) & 0x7fff);
        PictureNumbers { picture_id: short.or(long), tl0_pic_idx: self.tl0_pic_idx.map(|at| payload[at]) }
    }

    fn write(self, payload: &mut [u8], numbers: PictureNumbers) {
        let id = numbers.picture_id.unwrap_or_default();
        if let Some(at) = self.short_id {
            payload[at] = id as u8 & !IS_LONG;
        }
        if let Some(at) = self.long_id {
            let [high, low] = id.to_be_bytes();
            (payload[at], payload[at + 1]) = (high | IS_LONG, low);
        }
        if let Some((at, index)) = self.tl0_pic_idx.zip(numbers.tl0_pic_idx) {
            payload[at] = index;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(payload: &[u8]) -> PictureNumbers {
        Places::in_payload(payload).read(payload)
    }

    fn with(picture_id: Option<u16>, tl0_pic_idx: Option<u8>) -> PictureNumbers {
        PictureNumbers { picture_id, tl0_pic_idx }
    }

    /// A source that begins with `first` follows `last`; what becomes of a payload of it.
    fn sent(last: PictureNumbers, first: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut payload = payload.to_vec();
        numbers(first).shift_behind(last).apply(&mut payload);
        payload
    }

    const LONG: &[u8] = &[0x90, 0xe0, 0x80 | 0x12, 0x34, 200, 0x60, 0xaa];

    #[test]
    fn numbers_are_found_in_every_kind_of_descriptor() {
        assert_eq!(numbers(LONG), with(Some(0x1234), Some(200)));
        assert_eq!(numbers(&[0x90, 0x80, 0x12, 0xaa]), with(Some(0x12), None));
        assert_eq!(numbers(&[0x90, 0xc0, 0x12, 7, 0xaa]), with(Some(0x12), Some(7)));
        assert_eq!(numbers(&[0x90, 0x40, 7, 0xaa]), with(None, Some(7)));
        assert_eq!(numbers(&[0x90, 0x20, 0x60, 0xaa]), with(None, None));
        assert_eq!(numbers(&[0x10, 0xe0, 0x92, 0x34, 200]), with(None, None));
    }

    #[test]
    fn a_source_goes_on_where_the_one_before_ended() {
        let last = with(Some(9), Some(255));
        assert_eq!(sent(last, LONG, LONG), [0x90, 0xe0, 0x80, 10, 0, 0x60, 0xaa]);
        let later = [0x80, 0xe0, 0x80 | 0x12, 0x33 + 0x10, 205, 0xa0, 0xbb];
        assert_eq!(sent(last, LONG, &later), [0x80, 0xe0, 0x80, 10 + 0x0f, 5, 0xa0, 0xbb]);
    }

    #[test]
    fn numbers_wrap_at_their_own_width() {
        let last = with(Some(0x7fff), Some(3));
        assert_eq!(sent(last, LONG, LONG)[2..5], [0x80, 0, 4]);
        let short = [0x90, 0x80, 5, 0xaa];
        assert_eq!(sent(with(Some(127), None), &short, &short), [0x90, 0x80, 0, 0xaa]);
        assert_eq!(sent(with(Some(0x1281), None), &short, &short), [0x90, 0x80, 2, 0xaa]);
    }

    #[test]
    fn what_has_no_numbers_or_follows_none_stays_as_it_is() {
        assert_eq!(sent(PictureNumbers::default(), LONG, LONG), LONG);
        let bare = [0x10, 0xaa, 0xbb, 0xcc];
        assert_eq!(sent(with(Some(9), Some(9)), &bare, &bare), bare);
        for cut in 0..LONG.len() {
            sent(with(Some(9), Some(9)), LONG, &LONG[..cut]);
        }
    }
}
