//! Datagrams in a TCP stream: each behind its length in 16 bits (RFC 4571 §2, RFC 6544 §3).

/// The length in front of each datagram.
pub const LENGTH_BYTES: usize = 2;
/// The longest datagram that a client may send over TCP. What it would send over UDP fits an Ethernet frame of 1500 bytes; one
/// that is longer still after some room for jumbo habits is no media, and its sender has lost count of its own frames.
pub const FRAME_BYTES_MAX: usize = 2048;

/// A client's frame is longer than [`FRAME_BYTES_MAX`]: what follows it cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes, the longest may have {FRAME_BYTES_MAX}")]
pub struct Oversize(pub usize);

/// Appends `datagrams` of `segment` bytes each, the last may be shorter, to `stream`, each behind its length. A datagram of more
/// than 16 bits' length cannot be framed and is left out, as UDP would not carry it either.
pub fn frame(datagrams: &[u8], segment: usize, stream: &mut Vec<u8>) {
    for datagram in datagrams.chunks(segment.max(1)) {
        let Ok(length) = u16::try_from(datagram.len()) else { continue };
        stream.extend_from_slice(&length.to_be_bytes());
        stream.extend_from_slice(datagram);
    }
}

/// The first datagram of a stream, once all of it is there, and where the next one begins. An empty one is skipped.
///
/// # Errors
/// Its length is beyond [`FRAME_BYTES_MAX`].
pub fn first(stream: &[u8]) -> Result<Option<(&[u8], usize)>, Oversize> {
    let mut at = 0;
    while let Some(length) = length(&stream[at..])? {
        let end = at + LENGTH_BYTES + length;
        match stream.get(at + LENGTH_BYTES..end) {
            // An empty frame is a keep-alive, and no datagram.
            Some([]) => at = end,
            Some(datagram) => return Ok(Some((datagram, end))),
            None => return Ok(None),
        }
    }
    Ok(None)
}

/// The length in front of a frame, once it is there.
fn length(stream: &[u8]) -> Result<Option<usize>, Oversize> {
    let Some(length) = stream.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes(*length));
    if length > FRAME_BYTES_MAX { Err(Oversize(length)) } else { Ok(Some(length)) }
}

/// Finds the datagrams of a stream that comes in pieces. It holds less than one frame.
#[derive(Debug, Default)]
pub struct Deframer {
    partial: Vec<u8>,
}

impl Deframer {
    /// Calls `on` with each datagram that `bytes` completes, in order.
    ///
    /// # Errors
    /// A length is beyond [`FRAME_BYTES_MAX`]; the stream is of no use after that.
    pub fn push(&mut self, mut bytes: &[u8], mut on: impl FnMut(&[u8])) -> Result<(), Oversize> {
        while !self.partial.is_empty() && !bytes.is_empty() {
            let (more, rest) = bytes.split_at(self.missing()?.min(bytes.len()));
            self.partial.extend_from_slice(more);
            bytes = rest;
            // Of an empty frame nothing is missing either.
            if self.missing()? == 0 {
                let whole = first(&self.partial)?;
                whole.into_iter().for_each(|(datagram, _)| on(datagram));
                self.partial.clear();
            }
        }
        while let Some((datagram, end)) = first(bytes)? {
            on(datagram);
            bytes = &bytes[end..];
        }
        self.partial.extend_from_slice(unfinished(bytes));
        Ok(())
    }

    /// Bytes to the end of the length, or then of the frame.
    fn missing(&self) -> Result<usize, Oversize> {
        let end = length(&self.partial)?.map_or(LENGTH_BYTES, |length| LENGTH_BYTES + length);
        Ok(end.saturating_sub(self.partial.len()))
    }
}

/// What is left of a stream without a whole datagram, less its empty frames.
fn unfinished(mut stream: &[u8]) -> &[u8] {
    while let Some(rest) = stream.strip_prefix(&[0; LENGTH_BYTES]) {
        stream = rest;
    }
    stream
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn stream_of(datagrams: &[&[u8]]) -> Vec<u8> {
        let mut stream = Vec::new();
        for datagram in datagrams {
            stream.extend((datagram.len() as u16).to_be_bytes());
            stream.extend_from_slice(datagram);
        }
        stream
    }

    fn read_in_pieces(stream: &[u8], piece: usize) -> Result<Vec<Vec<u8>>, Oversize> {
        let (mut deframer, mut datagrams) = (Deframer::default(), Vec::new());
        for bytes in stream.chunks(piece) {
            deframer.push(bytes, |datagram| datagrams.push(datagram.to_vec()))?;
            assert!(deframer.partial.len() < LENGTH_BYTES + FRAME_BYTES_MAX);
        }
        Ok(datagrams)
    }

    #[test]
    fn a_train_is_framed_datagram_by_datagram() {
        let mut stream = vec![9];
        frame(b"aaabbbc", 3, &mut stream);
        assert_eq!(stream, b"\x09\0\x03aaa\0\x03bbb\0\x01c");
    }

    #[test]
    fn however_a_stream_is_cut_the_datagrams_are_the_same() {
        let long = [7; FRAME_BYTES_MAX];
        let datagrams = [&b"one"[..], b"", b"three", &long, b"", b"", b"x"];
        let stream = stream_of(&datagrams);
        let whole: Vec<Vec<u8>> =
            datagrams.iter().filter(|datagram| !datagram.is_empty()).map(|bytes| bytes.to_vec()).collect();
        for piece in (1..40).chain([FRAME_BYTES_MAX, stream.len()]) {
            assert_eq!(read_in_pieces(&stream, piece).unwrap(), whole, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_frame_longer_than_any_datagram_is_refused_before_it_is_kept() {
        let stream =
            [&stream_of(&[b"good"])[..], &((FRAME_BYTES_MAX + 1) as u16).to_be_bytes(), &[1; 8]].concat();
        for piece in 1..=stream.len() {
            assert_eq!(
                read_in_pieces(&stream, piece),
                Err(Oversize(FRAME_BYTES_MAX + 1)),
                "in pieces of {piece}"
            );
        }
    }

    #[test]
    fn the_first_datagram_is_found_once_it_is_whole() {
        let stream = stream_of(&[b"", b"first", b"second"]);
        for end in 0..9 {
            assert_eq!(first(&stream[..end]), Ok(None));
        }
        assert_eq!(first(&stream[..9]), Ok(Some((&b"first"[..], 9))));
        assert_eq!(first(&[0xff, 0xff]), Err(Oversize(0xffff)));
    }
}
