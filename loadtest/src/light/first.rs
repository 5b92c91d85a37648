//! The first packet of each frame, kept until the frame shows whether it is worth opening: a key frame says there how large
//! the picture is, and is itself larger than the others.

use super::header::Header;

/// A frame of so many times the usual bytes is opened. Opening one too many costs less than a microsecond.
const LARGE: f32 = 1.5;
/// Weight of one frame in what is usual.
const WEIGHT: f32 = 1.0 / 8.0;

/// Of one stream.
#[derive(Debug, Default)]
pub struct FirstPacket {
    bytes: Vec<u8>,
    header: Option<(Header, u64)>,
    /// Bytes of the frame so far, and of a usual one.
    size: f32,
    usual: f32,
}

/// A packet to be opened.
pub struct Kept {
    /// Sealed as it came.
    pub bytes: Vec<u8>,
    pub header: Header,
    /// Extended sequence number.
    pub extended: u64,
}

impl FirstPacket {
    /// Takes a packet, before it is opened. Gives back the first one of its frame once the frame has become large.
    pub fn packet(&mut self, first: bool, packet: &[u8], header: &Header, extended: u64) -> Option<Kept> {
        if first {
            self.usual += (self.size - self.usual) * WEIGHT;
            self.size = 0.0;
            self.bytes.clear();
            self.bytes.extend_from_slice(packet);
            self.header = Some((*header, extended));
        }
        self.size += packet.len() as f32;
        if self.size < self.usual * LARGE {
            return None;
        }
        let (header, extended) = self.header.take()?;
        Some(Kept { bytes: std::mem::take(&mut self.bytes), header, extended })
    }

    /// Takes the memory back.
    pub fn recycle(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(seq: u16) -> Header {
        Header { marker: false, payload_type: 96, seq, time: 0, ssrc: 5, len: 12 }
    }

    /// Plays frames of so many packets; says which gave their first one back, and at which packet.
    fn opened(frames: impl IntoIterator<Item = u32>) -> Vec<(usize, u32)> {
        let (mut first, mut seq, mut opened) = (FirstPacket::default(), 0, Vec::new());
        for (frame, packets) in frames.into_iter().enumerate() {
            let begins = seq;
            for packet in 0..packets {
                let kept = first.packet(packet == 0, &[seq as u8], &header(seq as u16), seq);
                if let Some(kept) = kept {
                    assert_eq!((kept.bytes.as_slice(), kept.extended), (&[begins as u8][..], begins));
                    opened.push((frame, packet + 1));
                    first.recycle(kept.bytes);
                }
                seq += 1;
            }
        }
        opened
    }

    #[test]
    fn a_frame_much_larger_than_usual_is_opened_once_and_usual_ones_are_not() {
        let frames = (0..200).map(|frame| if frame == 150 { 40 } else { 10 + frame % 3 });
        let late: Vec<_> = opened(frames).into_iter().filter(|(frame, _)| *frame > 60).collect();
        assert!(matches!(late[..], [(150, 16..=18)]), "{late:?}");
    }

    #[test]
    fn a_smaller_layer_is_told_by_its_second_key_frame_at_the_latest() {
        let layer = |size: u32| (0..90).map(move |frame| if frame % 60 == 0 { size * 4 } else { size });
        let opened = opened(layer(40).chain(layer(4)));
        assert!(opened.iter().any(|(frame, _)| *frame == 60), "{opened:?}");
        assert!(opened.iter().any(|(frame, _)| *frame == 150), "{opened:?}");
    }
}
