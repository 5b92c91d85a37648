//! Frames of the control socket, as [`sfu::control::frame`] makes them, on tokio's streams.

use serde::Serialize;
use sfu::control::protocol::FRAME_BYTES_MAX;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Memory reserved on a length's word alone; longer frames grow as their bytes arrive.
const RESERVE_BYTES: usize = 64 << 10;

/// Reads one frame. Not cancel-safe: give it a task of its own.
///
/// # Errors
/// The peer closed, or the frame is longer than the protocol allows.
pub async fn read(source: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = source.read_u32_le().await?;
    if length as usize > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame longer than the protocol allows"));
    }
    let mut frame = Vec::with_capacity(RESERVE_BYTES.min(length as usize));
    source.take(u64::from(length)).read_to_end(&mut frame).await?;
    if frame.len() == length as usize { Ok(frame) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Writes one message as a frame.
///
/// # Errors
/// The peer closed.
pub async fn write(sink: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> io::Result<()> {
    let frame = sfu::control::frame::encode(message).map_err(io::Error::other)?;
    sink.write_all(&frame).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use sfu::control::protocol::Request;

    #[tokio::test]
    async fn a_frame_reads_back() {
        let mut bytes = Vec::new();
        write(&mut bytes, &Request::Stats).await.expect("write");
        let frame = read(&mut bytes.as_slice()).await.expect("read");
        assert_eq!(postcard::from_bytes::<Request>(&frame), Ok(Request::Stats));
    }

    #[tokio::test]
    async fn a_frame_that_is_cut_short_or_too_long_is_an_error() {
        assert!(read(&mut [5, 0, 0, 0, 1].as_slice()).await.is_err());
        assert!(read(&mut [255, 255, 255, 255, 1].as_slice()).await.is_err());
    }
}
