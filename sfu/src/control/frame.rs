//! Frames on the control socket: a little-endian `u32` length, then that many bytes of postcard.

use super::protocol::FRAME_BYTES_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;

const LENGTH_BYTES: usize = 4;

/// What arrived is not of this protocol; the connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`FRAME_BYTES_MAX`].
    #[error("a control frame is longer than {FRAME_BYTES_MAX} bytes: the other side speaks another protocol")]
    TooLong,
    /// Not a message of this version.
    #[error("a control message cannot be read: the other side is of another version")]
    Malformed,
}

/// A message as one frame.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = postcard::to_extend(message, vec![0; LENGTH_BYTES]).map_err(|_| FrameError::Malformed)?;
    let length = frame.len() - LENGTH_BYTES;
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong);
    }
    frame[..LENGTH_BYTES].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(frame)
}

/// Cuts a byte stream into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
}

impl Decoder {
    /// Adds what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, if it is there.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some((length, rest)) = self.bytes.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong);
        }
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        let message = postcard::from_bytes(frame).map_err(|_| FrameError::Malformed)?;
        self.bytes.drain(..LENGTH_BYTES + length);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::protocol::Request;
    use super::*;

    #[test]
    fn messages_survive_any_cut() {
        let mut stream = encode(&Request::Stats).unwrap();
        stream.extend(encode(&Request::Shutdown).unwrap());
        for cut in 0..stream.len() {
            let mut decoder = Decoder::default();
            let mut messages = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                decoder.push(part);
                while let Some(message) = decoder.next_message::<Request>().unwrap() {
                    messages.push(message);
                }
            }
            assert_eq!(messages, [Request::Stats, Request::Shutdown]);
        }
    }

    #[test]
    fn foreign_bytes_are_refused() {
        let mut decoder = Decoder::default();
        decoder.push(b"GET / HTTP/1.1\r\n");
        assert_eq!(decoder.next_message::<Request>(), Err(FrameError::TooLong));
        let mut decoder = Decoder::default();
        decoder.push(&[1, 0, 0, 0, 0x77]);
        assert_eq!(decoder.next_message::<Request>(), Err(FrameError::Malformed));
    }
}
