//! What RTCP lists: report blocks, sequence numbers, key-frame requests, SSRCs.

use crate::core::plan::Ssrc;
use std::slice::ChunksExact;
use std::time::Duration;

/// Where the sender of an SR is, RFC 3550 §6.4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// Wall clock as NTP timestamp: seconds since 1900 in 32.32 fixed point.
    pub ntp: u64,
    /// The same instant in RTP time.
    pub rtp_timestamp: u32,
    /// Packets sent so far, modulo 2³².
    pub packets: u32,
    /// Payload octets sent so far, modulo 2³².
    pub octets: u32,
}

impl SenderInfo {
    pub(super) const BYTES: usize = 20;

    pub(super) fn read(bytes: &[u8; SenderInfo::BYTES]) -> SenderInfo {
        SenderInfo {
            ntp: u64::from(word(bytes, 0)) << 32 | u64::from(word(bytes, 1)),
            rtp_timestamp: word(bytes, 2),
            packets: word(bytes, 3),
            octets: word(bytes, 4),
        }
    }
}

/// How one stream arrives, RFC 3550 §6.4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream.
    pub source: Ssrc,
    /// Lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Lost since the beginning; negative if packets came twice.
    pub cumulative_lost: i32,
    /// The highest sequence number, and how often it rolled over in the upper 16 bits.
    pub highest_sequence: u32,
    /// In units of the RTP clock.
    pub jitter: u32,
    /// The middle 32 bits of the last SR's NTP timestamp, 0 before the first.
    pub last_sr: u32,
    /// Time since that SR came, in 65536ths of a second.
    pub delay_since_last_sr: u32,
}

impl ReportBlock {
    const BYTES: usize = 24;

    fn read(bytes: &[u8]) -> ReportBlock {
        ReportBlock {
            source: Ssrc(word(bytes, 0)),
            fraction_lost: bytes[4],
            cumulative_lost: (word(bytes, 1) << 8) as i32 >> 8,
            highest_sequence: word(bytes, 2),
            jitter: word(bytes, 3),
            last_sr: word(bytes, 4),
            delay_since_last_sr: word(bytes, 5),
        }
    }

    /// The round-trip time at `ntp`, when the report came. `None` before the first SR was heard, and if the clocks say that
    /// the report came before the SR left.
    pub fn round_trip(&self, ntp: u64) -> Option<Duration> {
        let now = (ntp >> 16) as u32;
        let units = now.wrapping_sub(self.last_sr).wrapping_sub(self.delay_since_last_sr);
        let is_known = self.last_sr != 0 && units < 1 << 31;
        is_known.then(|| Duration::from_nanos((u64::from(units) * 1_000_000_000) >> 16))
    }
}

/// The big-endian word at `index` words into `bytes`, which the caller has measured.
fn word(bytes: &[u8], index: usize) -> u32 {
    let at = 4 * index;
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The blocks of one report.
#[derive(Debug, Clone)]
pub struct ReportBlocks<'a>(ChunksExact<'a, u8>);

impl<'a> ReportBlocks<'a> {
    /// `None` if there is no room for `count` of them.
    pub(super) fn new(bytes: &'a [u8], count: u8) -> Option<ReportBlocks<'a>> {
        let blocks = bytes.get(..ReportBlock::BYTES * usize::from(count))?;
        Some(ReportBlocks(blocks.chunks_exact(ReportBlock::BYTES)))
    }
}

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        self.0.next().map(ReportBlock::read)
    }
}

/// The sequence numbers of one NACK as it names them: ascending within an item, repeated if the client repeats them.
#[derive(Debug, Clone)]
pub struct NackedSequences<'a> {
    items: ChunksExact<'a, u8>,
    first: u16,
    /// What is left of the item at hand: bit 0 for its first packet, bits 1 to 16 for those that follow.
    missing: u32,
}

impl<'a> NackedSequences<'a> {
    pub(super) fn new(control: &'a [u8]) -> NackedSequences<'a> {
        NackedSequences { items: control.chunks_exact(4), first: 0, missing: 0 }
    }
}

impl Iterator for NackedSequences<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if self.missing == 0 {
            let item = self.items.next()?;
            self.first = u16::from_be_bytes([item[0], item[1]]);
            self.missing = u32::from(u16::from_be_bytes([item[2], item[3]])) << 1 | 1;
        }
        let after = self.missing.trailing_zeros() as u16;
        self.missing &= self.missing - 1;
        Some(self.first.wrapping_add(after))
    }
}

/// A request for a key frame of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirEntry {
    /// The stream.
    pub media: Ssrc,
    /// Counts requests: the same number again is a repetition of the same request (RFC 5104 §4.3.1.2).
    pub sequence: u8,
}

impl FirEntry {
    const BYTES: usize = 8;
}

/// The entries of one FIR.
#[derive(Debug, Clone)]
pub struct FirEntries<'a>(ChunksExact<'a, u8>);

impl<'a> FirEntries<'a> {
    pub(super) fn new(control: &'a [u8]) -> FirEntries<'a> {
        FirEntries(control.chunks_exact(FirEntry::BYTES))
    }
}

impl Iterator for FirEntries<'_> {
    type Item = FirEntry;

    fn next(&mut self) -> Option<FirEntry> {
        self.0.next().map(|entry| FirEntry { media: Ssrc(word(entry, 0)), sequence: entry[4] })
    }
}

/// A list of SSRCs.
#[derive(Debug, Clone)]
pub struct Sources<'a>(ChunksExact<'a, u8>);

impl<'a> Sources<'a> {
    /// `None` if there is no room for `count` of them.
    pub(super) fn new(bytes: &'a [u8], count: u8) -> Option<Sources<'a>> {
        Some(Sources(bytes.get(..4 * usize::from(count))?.chunks_exact(4)))
    }
}

impl Iterator for Sources<'_> {
    type Item = Ssrc;

    fn next(&mut self) -> Option<Ssrc> {
        self.0.next().map(|ssrc| Ssrc(word(ssrc, 0)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{RECEIVER_REPORT, SENDER_REPORT, bytes};
    use super::super::{Compound, Feedback};
    use super::*;

    #[test]
    fn a_report_block_is_read_field_by_field() {
        let datagram = bytes(RECEIVER_REPORT);
        let Some(Feedback::Report { mut blocks, sender_info: None, .. }) = Compound::new(&datagram).next()
        else {
            unreachable!("a receiver report");
        };
        let expected = ReportBlock {
            source: Ssrc(1000),
            fraction_lost: 64,
            cumulative_lost: -2,
            highest_sequence: 0x0001_4e20,
            jitter: 42,
            last_sr: 0x1122_3344,
            delay_since_last_sr: 0x8000,
        };
        assert_eq!(blocks.next(), Some(expected));
        assert_eq!(blocks.next(), None);
    }

    #[test]
    fn a_sender_report_tells_both_clocks() {
        let datagram = bytes(SENDER_REPORT);
        let Some(Feedback::Report { sender_info: Some(info), .. }) = Compound::new(&datagram).next() else {
            unreachable!("a sender report");
        };
        let ntp = 0xe000_0001_8000_0000;
        assert_eq!(info, SenderInfo { ntp, rtp_timestamp: 3000, packets: 100, octets: 65_000 });
    }

    /// The example of RFC 3550 §6.4.1, figure 2.
    #[test]
    fn the_round_trip_is_that_of_the_rfcs_example() {
        let datagram = bytes("81c90007 00000001 000003e8 00000000 00000000 00000000 b7052000 00054000");
        let Some(Feedback::Report { mut blocks, .. }) = Compound::new(&datagram).next() else {
            unreachable!("a receiver report");
        };
        let block = blocks.next().expect("a block");
        assert_eq!(block.round_trip(0xb44d_b710_8000_0000), Some(Duration::from_millis(6_125)));
        assert_eq!(block.round_trip(0xb44d_b70a_5fff_0000), None, "before the SR and the delay are over");
        assert_eq!(ReportBlock { last_sr: 0, ..block }.round_trip(0xb44d_b710_8000_0000), None);
    }

    #[test]
    fn an_nack_names_17_packets_in_an_item_and_wraps() {
        let datagram = bytes("81cd0003 00000001 000003e8 fff8ffff");
        let Some(Feedback::Nack { sequences, .. }) = Compound::new(&datagram).next() else {
            unreachable!("a NACK");
        };
        let expected: Vec<u16> = (0..17).map(|after| 0xfff8_u16.wrapping_add(after)).collect();
        assert_eq!(sequences.collect::<Vec<_>>(), expected);
    }
}
