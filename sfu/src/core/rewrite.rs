//! One continuous RTP stream towards a viewer, whatever happens to its source.
//!
//! Sequence numbers and timestamps go on without a jump backwards when the publisher is replaced or changes its
//! SSRC, so the viewer's decoder and jitter buffer see one stream (RFC 3550 §5.1).

use super::plan::{Epoch, Ssrc};
use std::time::Instant;

/// Where a packet comes from: a publisher's session and the SSRC in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The publisher.
    pub epoch: Epoch,
    /// The SSRC that it uses.
    pub ssrc: Ssrc,
}

/// Rewrites sequence numbers and timestamps of one viewer's track.
#[derive(Debug)]
pub struct RtpRewriter {
    source: Option<Source>,
    /// Added to the source's extended sequence number, wrapping.
    sequence_offset: u64,
    /// The first sequence number of the source that was sent; older ones would run into the previous source's.
    first_sequence: u64,
    timestamp_offset: u32,
    next_sequence: u64,
    last: Option<Last>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    timestamp: u32,
    at: Instant,
}

impl RtpRewriter {
    /// `first` is the first sequence number to send. Below 2^15, because receivers do not search a roll-over
    /// counter of ±1 for the first packet (RFC 3711 appendix A).
    pub fn new(first: u16) -> RtpRewriter {
        RtpRewriter {
            source: None,
            sequence_offset: 0,
            first_sequence: 0,
            timestamp_offset: 0,
            next_sequence: u64::from(first & 0x7fff),
            last: None,
        }
    }

    /// The source that is followed.
    pub fn source(&self) -> Option<Source> {
        self.source
    }

    /// Follows `source` from the packet with this sequence number and timestamp on.
    pub fn switch(&mut self, source: Source, sequence: u64, timestamp: u32, clock_rate: u32, now: Instant) {
        self.source = Some(source);
        self.first_sequence = sequence;
        self.sequence_offset = self.next_sequence.wrapping_sub(sequence);
        let continued = match self.last {
            None => timestamp,
            Some(last) => {
                let elapsed = now.saturating_duration_since(last.at).as_micros();
                let ticks = elapsed * u128::from(clock_rate) / 1_000_000;
                // At least one tick, so that the new frame is not taken for a part of the old one.
                last.timestamp.wrapping_add((ticks as u32).max(1))
            }
        };
        self.timestamp_offset = continued.wrapping_sub(timestamp);
    }

    /// The sequence number and timestamp to send, or `None` for a packet from before the switch.
    pub fn rewrite(&mut self, sequence: u64, timestamp: u32, now: Instant) -> Option<(u64, u32)> {
        if sequence < self.first_sequence {
            return None;
        }
        let sent = sequence.wrapping_add(self.sequence_offset);
        let timestamp = timestamp.wrapping_add(self.timestamp_offset);
        if sent >= self.next_sequence {
            self.next_sequence = sent + 1;
            self.last = Some(Last { timestamp, at: now });
        }
        Some((sent, timestamp))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::time::Duration;

    fn source(epoch: u64) -> Source {
        Source { epoch: Epoch(epoch), ssrc: Ssrc(7) }
    }

    #[test]
    fn the_first_sequence_number_is_in_the_lower_half() {
        let mut rewriter = RtpRewriter::new(0xffff);
        rewriter.switch(source(1), 70_000, 5, 90_000, Instant::now());
        assert_eq!(rewriter.rewrite(70_000, 5, Instant::now()), Some((0x7fff, 5)));
    }

    #[test]
    fn gaps_and_reordering_pass_through() {
        let now = Instant::now();
        let mut rewriter = RtpRewriter::new(100);
        rewriter.switch(source(1), 10, 0, 90_000, now);
        let sent: Vec<_> =
            [10, 12, 11, 15].map(|sequence| rewriter.rewrite(sequence, 0, now).unwrap().0).into();
        assert_eq!(sent, [100, 102, 101, 105]);
    }

    #[test]
    fn a_new_publisher_continues_numbers_and_time() {
        let start = Instant::now();
        let mut rewriter = RtpRewriter::new(100);
        rewriter.switch(source(1), 65_534, 1_000, 90_000, start);
        rewriter.rewrite(65_534, 1_000, start);
        rewriter.rewrite(65_536, 4_000, start);
        let later = start + Duration::from_secs(2);
        rewriter.switch(source(2), 9, 4_000_000_000, 90_000, later);
        assert_eq!(rewriter.rewrite(9, 4_000_000_000, later), Some((103, 4_000 + 180_000)));
        assert_eq!(rewriter.rewrite(8, 3_999_999_000, later), None, "older than the switch");
        assert_eq!(rewriter.source(), Some(source(2)));
    }
}
