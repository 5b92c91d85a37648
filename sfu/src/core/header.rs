//! RTP headers as one viewer's track has them (RFC 3550 §5.1, RFC 8285).
//!
//! Nearly all packets of a track have the same header but for a few fields, so it is made once, and then copied and filled in.

use super::extensions::{EXTENSION_HEADER_BYTES, ExtensionIds, Extensions, FIXED_HEADER_BYTES, PassThrough};
use super::plan::{Extension, Ssrc};

/// Room for the fixed header and the extensions that we write: `mid` of 16 bytes, `abs-send-time` and a transport-wide sequence
/// number are 24 bytes behind 4 of the block's own.
const TEMPLATE_BYTES: usize = 48;
const VERSION_2: u8 = 0x80;
const EXTENSION: u8 = 0x10;

/// Makes the headers of a track.
#[derive(Debug, Clone)]
pub struct HeaderWriter {
    /// A header without passing extensions.
    template: [u8; TEMPLATE_BYTES],
    length: usize,
    /// Where the template has these.
    abs_send_time_at: Option<usize>,
    transport_sequence_at: Option<usize>,
    ids: ExtensionIds,
    /// Empty if packets need not name it.
    mid: Box<[u8]>,
    allow_mixed: bool,
}

/// What differs from packet to packet.
#[derive(Debug, Clone, Copy)]
pub struct Fields {
    /// Marker and payload type.
    pub second_byte: u8,
    /// As on the wire.
    pub sequence: u16,
    /// As on the wire.
    pub timestamp: u32,
    /// Of the media or of its retransmissions.
    pub ssrc: Ssrc,
    /// 6.18 fixed-point seconds.
    pub abs_send_time: [u8; 3],
    /// Transport-wide.
    pub transport_sequence: u16,
}

impl HeaderWriter {
    /// Headers with the extensions of `ids`, and with `mid` unless it is empty. `allow_mixed`: elements of more than 16 bytes may
    /// be sent.
    pub fn new(ids: ExtensionIds, mid: &[u8], allow_mixed: bool) -> HeaderWriter {
        let mut block = Vec::new();
        extensions(&ids, mid, allow_mixed, [0; 3], 0, &PassThrough::EMPTY).write(&mut block);
        let mut template = [0; TEMPLATE_BYTES];
        let length = FIXED_HEADER_BYTES + block.len();
        template[0] = if block.is_empty() { VERSION_2 } else { VERSION_2 | EXTENSION };
        template[FIXED_HEADER_BYTES..length].copy_from_slice(&block);
        // They come first, in this order, each behind one byte.
        let first = FIXED_HEADER_BYTES + EXTENSION_HEADER_BYTES + 1;
        let abs_send_time_at = ids.get(Extension::AbsSendTime).map(|_| first);
        let second = abs_send_time_at.map_or(first, |at| at + 3 + 1);
        let transport_sequence_at = ids.get(Extension::TransportCc).map(|_| second);
        HeaderWriter {
            template,
            length,
            abs_send_time_at,
            transport_sequence_at,
            ids,
            mid: mid.into(),
            allow_mixed,
        }
    }

    /// Bytes of a header with these passing extensions.
    #[inline]
    pub fn bytes(&self, passing: &PassThrough) -> usize {
        if passing.is_empty() {
            return self.length;
        }
        FIXED_HEADER_BYTES + self.extensions([0; 3], 0, passing).bytes()
    }

    /// Appends a header.
    #[inline]
    pub fn write(&self, buffer: &mut Vec<u8>, fields: &Fields, passing: &PassThrough) {
        let start = buffer.len();
        // A copy of known length needs no call; what is behind the header goes again.
        buffer.extend_from_slice(&self.template);
        // Filled in where it will be read: reading a copy back so soon would wait for these small writes.
        let header = &mut buffer[start..start + TEMPLATE_BYTES];
        header[1] = fields.second_byte;
        header[2..4].copy_from_slice(&fields.sequence.to_be_bytes());
        header[4..8].copy_from_slice(&fields.timestamp.to_be_bytes());
        header[8..12].copy_from_slice(&fields.ssrc.0.to_be_bytes());
        if !passing.is_empty() {
            buffer.truncate(start + FIXED_HEADER_BYTES);
            return self.add_block(buffer, start, fields, passing);
        }
        if let Some(at) = self.abs_send_time_at {
            header[at..at + 3].copy_from_slice(&fields.abs_send_time);
        }
        if let Some(at) = self.transport_sequence_at {
            header[at..at + 2].copy_from_slice(&fields.transport_sequence.to_be_bytes());
        }
        buffer.truncate(start + self.length);
    }

    fn add_block(&self, buffer: &mut Vec<u8>, start: usize, fields: &Fields, passing: &PassThrough) {
        let fixed = buffer.len();
        self.extensions(fields.abs_send_time, fields.transport_sequence, passing).write(buffer);
        buffer[start] = if buffer.len() > fixed { VERSION_2 | EXTENSION } else { VERSION_2 };
    }

    fn extensions<'a>(
        &'a self,
        abs_send_time: [u8; 3],
        sequence: u16,
        passing: &'a PassThrough,
    ) -> Extensions<'a> {
        extensions(&self.ids, &self.mid, self.allow_mixed, abs_send_time, sequence, passing)
    }
}

fn extensions<'a>(
    ids: &'a ExtensionIds,
    mid: &'a [u8],
    allow_mixed: bool,
    abs_send_time: [u8; 3],
    transport_sequence: u16,
    passing: &'a PassThrough,
) -> Extensions<'a> {
    let transport_sequence = transport_sequence.to_be_bytes();
    Extensions { ids, allow_mixed, mid, abs_send_time, transport_sequence, passing }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(writer: &HeaderWriter, passing: &PassThrough) -> Vec<u8> {
        let fields = Fields {
            second_byte: 0x80 | 96,
            sequence: 0x0102,
            timestamp: 0x0304_0506,
            ssrc: Ssrc(0x0708_090a),
            abs_send_time: [0xa1, 0xa2, 0xa3],
            transport_sequence: 0xb1b2,
        };
        let mut out = vec![];
        writer.write(&mut out, &fields, passing);
        assert_eq!(out.len(), writer.bytes(passing), "the size is known before");
        out
    }

    const FIXED: [u8; 11] = [0xe0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

    #[test]
    fn a_header_without_extensions_is_twelve_bytes() {
        let out = written(&HeaderWriter::new(ExtensionIds::of(&[]), b"v", false), &PassThrough::EMPTY);
        assert_eq!(out, [&[0x80][..], &FIXED].concat());
    }

    #[test]
    fn what_changes_is_filled_in_where_it_belongs() {
        let all = ExtensionIds::of(&[
            (1, Extension::Mid),
            (2, Extension::AbsSendTime),
            (3, Extension::TransportCc),
        ]);
        let out = written(&HeaderWriter::new(all, b"vid", false), &PassThrough::EMPTY);
        let block = [0xbe, 0xde, 0, 3, 0x22, 0xa1, 0xa2, 0xa3, 0x31, 0xb1, 0xb2, 0x12, b'v', b'i', b'd', 0];
        assert_eq!(out, [&[0x90][..], &FIXED, &block].concat());
        let out = written(
            &HeaderWriter::new(ExtensionIds::of(&[(3, Extension::TransportCc)]), b"", false),
            &PassThrough::EMPTY,
        );
        assert_eq!(out, [&[0x90][..], &FIXED, &[0xbe, 0xde, 0, 1, 0x31, 0xb1, 0xb2, 0]].concat());
    }

    #[test]
    fn the_longest_mid_fits() {
        let all = ExtensionIds::of(&[
            (1, Extension::Mid),
            (2, Extension::AbsSendTime),
            (3, Extension::TransportCc),
        ]);
        let out = written(&HeaderWriter::new(all, &[b'm'; 16], true), &PassThrough::EMPTY);
        assert_eq!(out.len(), 12 + 4 + 24);
    }

    #[test]
    fn passing_extensions_share_the_block_with_ours() {
        let from = ExtensionIds::of(&[(9, Extension::AudioLevel)]);
        let packet = [&[0x90; 12][..], &[0xbe, 0xde, 0, 1, 0x90, 0x85, 0, 0]].concat();
        let passing = PassThrough::read(&packet, &from);
        let to = ExtensionIds::of(&[(1, Extension::Mid), (4, Extension::AudioLevel)]);
        let out = written(&HeaderWriter::new(to, b"a", false), &passing);
        assert_eq!(out[12..], [0xbe, 0xde, 0, 1, 0x10, b'a', 0x40, 0x85]);
        let out = written(&HeaderWriter::new(ExtensionIds::of(&[]), b"", false), &passing);
        assert_eq!(out, [&[0x80][..], &FIXED].concat(), "a viewer that did not ask for it");
    }
}
