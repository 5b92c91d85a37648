//! A published RTP packet on its way to viewers.

use super::codec::{Codec, MediaKind};
use super::plan::StreamId;
use super::rewrite::Source;
use std::sync::Arc;
use std::time::Instant;
use str0m::rtp::VideoOrientation;

/// What a viewer's worker must know about a packet besides its payload. A plain value: it crosses cores by copy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PacketHeader {
    /// The stream.
    pub stream: StreamId,
    /// The publisher and its SSRC.
    pub source: Source,
    /// What the payload carries.
    pub codec: Codec,
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
    /// RFC 6464: level in -dBov and voice activity.
    pub audio_level: Option<(i8, bool)>,
    /// TS 26.114 coordination of video orientation.
    pub video_orientation: Option<VideoOrientation>,
}

impl PacketHeader {
    /// Audio or video.
    pub fn kind(&self) -> MediaKind {
        self.codec.kind()
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
