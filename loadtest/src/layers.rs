//! Layer switches, as a viewer can see them: by the SSRC, or where a server keeps that, by the size of the picture.

use str0m::format::Codec;

use crate::packet::size;

/// Remembers what a viewer was given last.
#[derive(Debug, Default)]
pub struct LayerWatch {
    ssrc: Option<u32>,
    /// Width and height in pixels.
    size: Option<(u32, u32)>,
}

impl LayerWatch {
    /// Takes the SSRC of a video packet; says whether it is another than before. The size of its picture is then no
    /// second switch.
    pub fn is_other_ssrc(&mut self, ssrc: u32) -> bool {
        let switched = self.ssrc.replace(ssrc).is_some_and(|before| before != ssrc);
        if switched {
            self.size = None;
        }
        switched
    }

    /// Takes a video payload; says whether a picture of another size than before begins there.
    pub fn is_other_size(&mut self, payload: &[u8], codec: Codec) -> bool {
        let size = match codec {
            Codec::H264 => size::of_h264(payload),
            Codec::Vp8 => size::of_vp8(payload),
            _ => None,
        };
        size.is_some_and(|size| self.size.replace(size).is_some_and(|before| before != size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A VP8 key frame's start: descriptor, frame tag, start code, width, height.
    fn key_frame(width: u8, height: u8) -> [u8; 11] {
        [0x10, 0, 0, 0, 0x9d, 0x01, 0x2a, width, 0, height, 0]
    }

    #[test]
    fn another_size_under_the_same_ssrc_is_a_switch_and_the_same_size_again_is_none() {
        let mut watch = LayerWatch::default();
        let sizes = [(64, 48), (64, 48), (32, 24), (32, 24), (64, 48)];
        let switches =
            sizes.map(|(width, height)| watch.is_other_size(&key_frame(width, height), Codec::Vp8));
        assert_eq!(switches, [false, false, true, false, true]);
        assert!(!watch.is_other_size(&[0x10, 0x01], Codec::Vp8), "no key frame");
    }

    #[test]
    fn another_ssrc_with_another_size_is_one_switch() {
        let mut watch = LayerWatch::default();
        assert!(!watch.is_other_ssrc(1));
        assert!(!watch.is_other_size(&key_frame(64, 48), Codec::Vp8));
        assert!(!watch.is_other_ssrc(1));
        assert!(watch.is_other_ssrc(2));
        assert!(!watch.is_other_size(&key_frame(32, 24), Codec::Vp8));
    }
}
