//! What can be read of a datagram without its key.

/// What a datagram is (RFC 7983, RFC 5761 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Rtp,
    Rtcp,
    /// STUN, DTLS, or nothing known.
    Other,
}

/// Tells by the first two bytes.
pub fn kind(datagram: &[u8]) -> Kind {
    match datagram {
        [128..192, 192..224, ..] => Kind::Rtcp,
        [128..192, _, ..] => Kind::Rtp,
        _ => Kind::Other,
    }
}

/// Header of an RTP packet (RFC 3550 section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub marker: bool,
    pub payload_type: u8,
    pub seq: u16,
    pub time: u32,
    pub ssrc: u32,
    /// Bytes, with contributing sources and extensions.
    pub len: usize,
}

impl Header {
    /// `None` if the packet is too short for what it says.
    pub fn parse(packet: &[u8]) -> Option<Header> {
        let fixed: &[u8; 12] = packet.first_chunk()?;
        let mut len = 12 + 4 * usize::from(fixed[0] & 0x0f);
        if fixed[0] & 0x10 != 0 {
            let words = packet.get(len + 2..len + 4)?;
            len += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
        }
        (packet.len() >= len).then_some(Header {
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7f,
            seq: u16::from_be_bytes([fixed[2], fixed[3]]),
            time: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_sources_and_extension_is_measured() {
        let mut packet = vec![0x91, 0xe0, 1, 2, 0, 0, 0, 3, 0, 0, 0, 4];
        packet.extend([0, 0, 0, 9, 0xbe, 0xde, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 0xff]);
        let expected = Header { marker: true, payload_type: 96, seq: 258, time: 3, ssrc: 4, len: 28 };
        assert_eq!(Header::parse(&packet), Some(expected));
        for len in 0..28 {
            assert_eq!(Header::parse(&packet[..len]), None, "{len}");
        }
    }

    #[test]
    fn kinds_are_told_apart() {
        assert_eq!(kind(&[0x80, 96]), Kind::Rtp);
        assert_eq!(kind(&[0x80, 0xe0]), Kind::Rtp);
        assert_eq!(kind(&[0x81, 200]), Kind::Rtcp);
        assert_eq!(kind(&[22, 254]), Kind::Other);
        assert_eq!(kind(&[0, 1]), Kind::Other);
        assert_eq!(kind(&[0x80]), Kind::Other);
    }
}
