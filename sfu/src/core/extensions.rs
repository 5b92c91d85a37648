//! RTP header extensions (RFC 8285): those that pass from publisher to viewers untouched, and those written anew.

use super::plan::Extension;

/// Bytes that one packet's passing extensions may have here, two for each element included. An audio level needs 3, a capture
/// time 18, a dependency descriptor 5 and on a key frame with three spatial layers some 100. What does not fit stays behind.
const PASS_THROUGH_BYTES: usize = 126;
/// RFC 8285 §4.2: the one-byte form carries 1 to 16 bytes.
const ONE_BYTE_FORM_MAX: usize = 16;
const ONE_BYTE_FORM: [u8; 2] = [0xbe, 0xde];
const TWO_BYTE_FORM: [u8; 2] = [0x10, 0x00];
/// Bytes of the fixed RTP header (RFC 3550 §5.1).
pub const FIXED_HEADER_BYTES: usize = 12;
/// In front of an extension block: its form and its length in words.
pub const EXTENSION_HEADER_BYTES: usize = 4;

/// The ids that one peer gave to extensions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtensionIds([u8; Extension::ALL.len()]);

impl ExtensionIds {
    /// Those of an m-section's `extensions`.
    pub fn of(extensions: &[(u8, Extension)]) -> ExtensionIds {
        ExtensionIds::default().with(extensions)
    }

    /// Another m-section's beside these; in a BUNDLE group ids mean the same.
    pub fn with(mut self, extensions: &[(u8, Extension)]) -> ExtensionIds {
        for &(id, extension) in extensions {
            self.0[extension as usize] = id;
        }
        self
    }

    /// The id, if it was negotiated.
    pub fn get(&self, extension: Extension) -> Option<u8> {
        Some(self.0[extension as usize]).filter(|id| *id != 0)
    }

    /// Without those that differ each time a packet is sent.
    pub fn without_times(mut self) -> ExtensionIds {
        for extension in [Extension::AbsSendTime, Extension::TransportCc] {
            self.0[extension as usize] = 0;
        }
        self
    }

    fn passes(&self, id: u8) -> Option<Extension> {
        Extension::ALL
            .into_iter()
            .find(|&extension| extension.passes_through() && self.get(extension) == Some(id))
    }
}

impl Extension {
    /// Whether its bytes mean the same to a viewer as to us.
    fn passes_through(self) -> bool {
        match self {
            Extension::AudioLevel
            | Extension::VideoOrientation
            | Extension::PlayoutDelay
            | Extension::DependencyDescriptor
            | Extension::AbsCaptureTime => true,
            Extension::Mid
            | Extension::RtpStreamId
            | Extension::RepairedRtpStreamId
            | Extension::TransportCc
            | Extension::AbsSendTime => false,
        }
    }
}

/// The extensions of one packet that go on to viewers, as the publisher wrote them. A plain value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PassThrough {
    /// Elements: kind, length, data.
    bytes: [u8; PASS_THROUGH_BYTES],
    length: u8,
}

impl PassThrough {
    /// None.
    pub const EMPTY: PassThrough = PassThrough { bytes: [0; PASS_THROUGH_BYTES], length: 0 };

    /// Reads them from an RTP packet, whose header SRTP leaves in clear. Malformed ones are none.
    pub fn read(packet: &[u8], ids: &ExtensionIds) -> PassThrough {
        let mut found = PassThrough::EMPTY;
        for (id, data) in elements(packet) {
            if let Some(extension) = ids.passes(id) {
                found.push(extension, data);
            }
        }
        found
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn push(&mut self, extension: Extension, data: &[u8]) {
        let at = usize::from(self.length);
        let Some(room) = self.bytes.get_mut(at..at + 2 + data.len()) else { return };
        room[0] = extension as u8;
        room[1] = data.len() as u8;
        room[2..].copy_from_slice(data);
        self.length += room.len() as u8;
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let mut rest = &self.bytes[..usize::from(self.length)];
        std::iter::from_fn(move || {
            let (header, after) = rest.split_at_checked(2)?;
            let (data, after) = after.split_at_checked(usize::from(header[1]))?;
            rest = after;
            Some((usize::from(header[0]), data))
        })
    }
}

impl std::fmt::Debug for PassThrough {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The elements of a packet's extension block, in either form (RFC 8285 §4).
fn elements(packet: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let (mut rest, two_byte) = block(packet).unwrap_or((&[], false));
    std::iter::from_fn(move || {
        while let [0, after @ ..] = rest {
            rest = after; // padding
        }
        let (id, length, after) = match rest {
            [id, length, after @ ..] if two_byte => (*id, usize::from(*length), after),
            [header, after @ ..] if !two_byte && header >> 4 != 15 => {
                (header >> 4, usize::from(header & 0x0f) + 1, after)
            }
            _ => return None,
        };
        let (data, after) = after.split_at_checked(length)?;
        rest = after;
        Some((id, data))
    })
}

/// The extension block of an RTP packet, and whether it is in the two-byte form.
fn block(packet: &[u8]) -> Option<(&[u8], bool)> {
    let first = *packet.first().filter(|first| **first & 0x10 != 0)?;
    let start = FIXED_HEADER_BYTES + 4 * usize::from(first & 0x0f);
    let (header, rest) = packet.get(start..)?.split_at_checked(EXTENSION_HEADER_BYTES)?;
    let bytes = 4 * usize::from(u16::from_be_bytes([header[2], header[3]]));
    let two_byte = match [header[0], header[1]] {
        ONE_BYTE_FORM => false,
        [high, low] if [high, low & 0xf0] == TWO_BYTE_FORM => true,
        _ => return None,
    };
    Some((rest.get(..bytes)?, two_byte))
}

/// The extensions of one packet on its way out.
#[derive(Debug, Clone, Copy)]
pub struct Extensions<'a> {
    /// The ids that the receiver gave them.
    pub ids: &'a ExtensionIds,
    /// It takes elements of more than 16 bytes.
    pub allow_mixed: bool,
    /// Written if negotiated and not empty.
    pub mid: &'a [u8],
    /// 6.18 fixed-point seconds; written if negotiated.
    pub abs_send_time: [u8; 3],
    /// Transport-wide sequence number; written if negotiated.
    pub transport_sequence: [u8; 2],
    /// The publisher's.
    pub passing: &'a PassThrough,
}

impl Extensions<'_> {
    /// Bytes of the block that [`Extensions::write`] appends.
    pub fn bytes(&self) -> usize {
        let two_byte = self.needs_two_byte_form();
        let mut bytes = 0;
        self.each(|_, data| {
            bytes += if two_byte { 2 + data.len() } else { one_byte_form(data).map_or(0, |_| 1 + data.len()) }
        });
        if bytes == 0 { 0 } else { EXTENSION_HEADER_BYTES + bytes.next_multiple_of(4) }
    }

    /// Appends the block; nothing if it would be empty.
    pub fn write(&self, buffer: &mut Vec<u8>) {
        let two_byte = self.needs_two_byte_form();
        let start = buffer.len();
        buffer.extend_from_slice(&if two_byte { TWO_BYTE_FORM } else { ONE_BYTE_FORM });
        buffer.extend_from_slice(&[0, 0]);
        self.each(|id, data| {
            match one_byte_form(data) {
                _ if two_byte => buffer.extend_from_slice(&[id, data.len() as u8]),
                Some(length) => buffer.push(id << 4 | length),
                None => return,
            }
            buffer.extend_from_slice(data);
        });
        finish(buffer, start);
    }

    fn needs_two_byte_form(&self) -> bool {
        let wanted = |kind: usize| self.ids.0[kind] != 0;
        self.allow_mixed
            && self.passing.iter().any(|(kind, data)| wanted(kind) && one_byte_form(data).is_none())
    }

    fn each(&self, mut element: impl FnMut(u8, &[u8])) {
        let own = [
            (Extension::AbsSendTime, &self.abs_send_time[..]),
            (Extension::TransportCc, &self.transport_sequence[..]),
            (Extension::Mid, self.mid),
        ];
        for (extension, data) in own {
            if let Some(id) = self.ids.get(extension).filter(|_| !data.is_empty()) {
                element(id, data);
            }
        }
        for (kind, data) in self.passing.iter().filter(|(kind, _)| self.ids.0[*kind] != 0) {
            element(self.ids.0[kind], data);
        }
    }
}

/// The length as RFC 8285 §4.2 writes it, one less, where the element fits into that form.
fn one_byte_form(data: &[u8]) -> Option<u8> {
    (1..=ONE_BYTE_FORM_MAX).contains(&data.len()).then(|| (data.len() - 1) as u8)
}

/// Pads the block to whole words and notes their number, or takes an empty block away.
fn finish(buffer: &mut Vec<u8>, start: usize) {
    let bytes = buffer.len() - start - EXTENSION_HEADER_BYTES;
    if bytes == 0 {
        buffer.truncate(start);
        return;
    }
    let words = bytes.div_ceil(4);
    buffer.resize(start + EXTENSION_HEADER_BYTES + 4 * words, 0);
    buffer[start + 2..start + 4].copy_from_slice(&(words as u16).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(profile: [u8; 2], block: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x90; FIXED_HEADER_BYTES];
        packet.extend(profile);
        packet.extend(((block.len() / 4) as u16).to_be_bytes());
        packet.extend(block);
        packet.extend([0xaa; 20]);
        packet
    }

    const FROM: &[(u8, Extension)] =
        &[(1, Extension::AudioLevel), (2, Extension::Mid), (3, Extension::DependencyDescriptor)];
    const TO: &[(u8, Extension)] =
        &[(9, Extension::AudioLevel), (5, Extension::Mid), (7, Extension::DependencyDescriptor)];

    fn written(to: &[(u8, Extension)], allow_mixed: bool, passing: &PassThrough) -> Vec<u8> {
        let ids = ExtensionIds::of(to);
        let extensions = Extensions {
            ids: &ids,
            allow_mixed,
            mid: b"v",
            abs_send_time: [1, 2, 3],
            transport_sequence: [4, 5],
            passing,
        };
        let mut out = vec![];
        extensions.write(&mut out);
        assert_eq!(out.len(), extensions.bytes(), "the size is known before");
        out
    }

    #[test]
    fn what_passes_through_takes_the_viewers_id_and_the_rest_is_written_anew() {
        let arrived = packet(ONE_BYTE_FORM, &[0x10, 0x83, 0x20, b'x', 0x41, 1, 2, 0]);
        let passing = PassThrough::read(&arrived, &ExtensionIds::of(FROM));
        assert_eq!(written(TO, false, &passing), [0xbe, 0xde, 0, 1, 0x50, b'v', 0x90, 0x83]);
    }

    #[test]
    fn a_long_element_needs_the_two_byte_form_or_stays_behind() {
        let mut block = vec![3, 20];
        block.extend([7; 20]);
        block.extend([0, 0]);
        let arrived = packet(TWO_BYTE_FORM, &block);
        let passing = PassThrough::read(&arrived, &ExtensionIds::of(FROM));
        let to = &[(7, Extension::DependencyDescriptor)];
        let out = written(to, true, &passing);
        assert_eq!(out[..6], [0x10, 0, 0, 6, 7, 20]);
        assert_eq!(out[6..26], [7; 20]);
        let out = written(to, false, &passing);
        assert!(out.is_empty(), "no block is better than an empty one: {out:?}");
    }

    #[test]
    fn our_own_elements_are_written_where_the_viewer_asked_for_them() {
        let to = [(3, Extension::AbsSendTime), (4, Extension::TransportCc)];
        let out = written(&to, false, &PassThrough::EMPTY);
        assert_eq!(out, [0xbe, 0xde, 0, 2, 0x32, 1, 2, 3, 0x41, 4, 5, 0]);
    }

    #[test]
    fn cut_and_senseless_blocks_are_read_without_harm() {
        let ids = ExtensionIds::of(FROM);
        let whole = packet(ONE_BYTE_FORM, &[0x10, 0x83, 0xf0, 0]);
        for end in 0..16 {
            assert_eq!(PassThrough::read(&whole[..end], &ids), PassThrough::EMPTY);
        }
        assert_ne!(PassThrough::read(&whole, &ids), PassThrough::EMPTY);
        assert_eq!(PassThrough::read(&packet([1, 2], &[0x10, 1, 0, 0]), &ids), PassThrough::EMPTY);
        assert_eq!(PassThrough::read(&packet(ONE_BYTE_FORM, &[0x1f, 1, 2, 3]), &ids), PassThrough::EMPTY);
    }
}
