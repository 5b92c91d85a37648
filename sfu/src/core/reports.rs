//! RTCP between us and one viewer: sender reports to it, receiver reports from it (RFC 3550 §6.4).

use super::ntp::{NtpTime, Turn};
use super::plan::{Ssrc, StreamId};
use super::rtcp::build::{self, Cname};
use super::rtcp::{ReportBlock, SenderInfo};
use super::srtp::{MasterKeys, OpenError, RtcpOpener, RtcpSealer, SealError};
use super::track::Track;
use std::time::Duration;
use str0m_proto::crypto::SrtpProvider;

/// Between two sender reports of a viewer. The first leaves with the first packets, because a player needs it to bring audio
/// and video together; later ones follow the drift of clocks.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(2);
/// A round trip of more than this is a broken report.
const RTT_MAX: Duration = Duration::from_secs(10);

/// One viewer's RTCP.
pub struct Reports {
    sealer: RtcpSealer,
    opener: RtcpOpener,
    /// Canonical name of all our SSRCs.
    cname: Cname,
    /// The round trip of the last receiver report.
    pub rtt: Option<Duration>,
}

impl Reports {
    /// `None` for an SRTP profile that is not ours.
    pub fn new(stream: StreamId, keys: &MasterKeys, crypto: &dyn SrtpProvider) -> Option<Reports> {
        Some(Reports {
            sealer: RtcpSealer::new(keys, crypto)?,
            opener: RtcpOpener::new(keys, crypto)?,
            cname: Cname::new(&stream.cname()).ok()?,
            rtt: None,
        })
    }

    /// Opens a datagram of the viewer.
    pub fn open<'a>(&mut self, datagram: &[u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], OpenError> {
        self.opener.open(datagram, scratch)
    }

    /// Appends a sealed sender report for each track that has sent something; nothing if none has.
    pub fn write<'a>(
        &mut self,
        turn: Turn,
        tracks: impl Iterator<Item = &'a Track>,
        buffer: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let start = buffer.len();
        for track in tracks {
            let Some(rtp_timestamp) = track.timestamp_at(turn.now) else { continue };
            // Both counts are of 32 bits and turn round.
            let (packets, octets) = (track.packets_sent as u32, track.octets_sent as u32);
            let info = SenderInfo { ntp: turn.time.0, rtp_timestamp, packets, octets };
            build::sender_report(buffer, track.ssrc, &info);
            build::source_description(buffer, track.ssrc, &self.cname);
        }
        if buffer.len() == start { Ok(()) } else { self.sealer.seal(buffer, start) }
    }

    /// Appends a sealed BYE for `ssrcs`.
    pub fn write_bye(&mut self, ssrcs: &[Ssrc], buffer: &mut Vec<u8>) -> Result<(), SealError> {
        let start = buffer.len();
        build::bye(buffer, ssrcs);
        self.sealer.seal(buffer, start)
    }

    /// A report block about one of our SSRCs came.
    pub fn received(&mut self, now: NtpTime, block: &ReportBlock) {
        self.rtt = block.round_trip(now.0).filter(|rtt| *rtt <= RTT_MAX).or(self.rtt);
    }
}
