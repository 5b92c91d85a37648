//! A published RTP packet on its way to viewers.

use super::codec::MediaKind;
use super::extensions::PassThrough;
use super::plan::StreamId;
use super::rewrite::Source;
use std::sync::Arc;
use std::time::Instant;

/// What a viewer's worker must know about a packet besides its payload. A plain value: it crosses cores by copy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PacketHeader {
    /// The stream.
    pub stream: StreamId,
    /// The publisher, its SSRC and codec.
    pub source: Source,
    /// Extended sequence number of the source.
    pub sequence: u64,
    /// RTP timestamp of the source.
    pub timestamp: u32,
    /// The marker bit.
    pub marker: bool,
    /// The first packet of a key frame; always set for audio.
    pub keyframe: bool,
    /// When the media was captured, on our clock; equal for audio and video that belong together.
    pub captured: Instant,
    /// When the datagram came in.
    pub received: Instant,
    /// Header extensions that go on to viewers.
    pub extensions: PassThrough,
}

impl PacketHeader {
    /// Audio or video.
    pub fn kind(&self) -> MediaKind {
        self.source.codec.kind()
    }
}

/// A packet inside one worker; the payload is shared by that worker's viewers.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaPacket {
    /// Everything but the payload.
    pub header: PacketHeader,
    /// RTP payload without padding.
    pub payload: Arc<[u8]>,
}
