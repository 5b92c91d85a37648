//! One continuous RTP stream towards a viewer, whatever happens to its source.
//!
//! Sequence numbers and timestamps go on without a jump backwards when the publisher is replaced or changes its SSRC, or when
//! the viewer is given another simulcast layer, so the viewer's decoder and jitter buffer see one stream (RFC 3550 §5.1).

use super::codec::Codec;
use super::layers::LayerIndex;
use super::packet::PacketHeader;
use super::plan::{Epoch, Ssrc};
use super::vp8::{PictureNumbers, PictureShift};
use std::time::Instant;

/// Where a packet comes from: a publisher's session, the SSRC in it, the codec and the layer. A decoder cannot go from one source to another
/// without a key frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The publisher.
    pub epoch: Epoch,
    /// The SSRC that it uses.
    pub ssrc: Ssrc,
    /// What the payload carries.
    pub codec: Codec,
    /// Which of its simulcast layers it is.
    pub layer: LayerIndex,
}

/// Time runs so much faster in what a viewer is sent to catch up: five seconds of pictures are played in 0.3.
const CATCH_UP_SPEED: u32 = 16;

/// Rewrites sequence numbers and timestamps of one viewer's track.
#[derive(Debug)]
pub struct RtpRewriter {
    mapping: Option<Mapping>,
    /// That of the source before, of which packets may still be asked for again. Apart, because only they need it.
    before: Option<Box<Mapping>>,
    next_sequence: u64,
    /// The newest timestamp sent.
    last: Option<u32>,
    /// The newest picture numbers sent.
    last_pictures: PictureNumbers,
}

/// How the numbers of one source become those of the viewer.
#[derive(Debug, Clone, Copy)]
struct Mapping {
    source: Source,
    /// Added to the source's extended sequence number, wrapping.
    sequence_offset: u64,
    /// The first sequence number of the source that was sent; older ones would run into the previous source's.
    first_sequence: u64,
    timestamp_offset: u32,
    /// The source's packet before which time runs faster: its sequence number and timestamp.
    live_from: (u64, u32),
    pictures: PictureShift,
}

impl Mapping {
    fn rewritten(&self, sequence: u64, timestamp: u32) -> Option<(u64, u32)> {
        let sent = sequence.wrapping_add(self.sequence_offset);
        let timestamp = self.condensed(sequence, timestamp).wrapping_add(self.timestamp_offset);
        (sequence >= self.first_sequence).then_some((sent, timestamp))
    }

    /// The source's timestamp, but for what is sent to catch up.
    fn condensed(&self, sequence: u64, timestamp: u32) -> u32 {
        let (live_sequence, live_timestamp) = self.live_from;
        let behind = live_timestamp.wrapping_sub(timestamp);
        if sequence < live_sequence && behind as i32 > 0 {
            live_timestamp.wrapping_sub(behind / CATCH_UP_SPEED)
        } else {
            timestamp
        }
    }

    /// The first sequence number under which the source was sent.
    fn first_sent(&self) -> u64 {
        self.first_sequence.wrapping_add(self.sequence_offset)
    }
}

impl RtpRewriter {
    /// `first` is the first sequence number to send. Below 2^15, because receivers do not search a roll-over
    /// counter of ±1 for the first packet (RFC 3711 appendix A).
    pub fn new(first: u16) -> RtpRewriter {
        RtpRewriter {
            mapping: None,
            before: None,
            next_sequence: u64::from(first & 0x7fff),
            last: None,
            last_pictures: PictureNumbers::default(),
        }
    }

    /// The source that is followed.
    pub fn source(&self) -> Option<Source> {
        self.mapping.as_ref().map(|mapping| mapping.source)
    }

    /// Follows the source of `first` from this packet on. `newest` is the source's newest packet: what comes before it is sent
    /// late, so its timestamps are brought together, lest the viewer plays it as slowly as it was captured. `shown` is the
    /// newest timestamp sent and when its media was captured: the clock that the viewer sees goes on.
    pub fn switch(&mut self, first: &PacketHeader, newest: &PacketHeader, shown: Option<(u32, Instant)>) {
        let mut mapping = Mapping {
            source: first.source,
            sequence_offset: self.next_sequence.wrapping_sub(first.sequence),
            first_sequence: first.sequence,
            timestamp_offset: 0,
            live_from: (newest.sequence, newest.timestamp),
            pictures: PictureShift::default(),
        };
        if let Some(last) = self.last {
            let (timestamp, captured) = shown.unwrap_or((last, newest.captured));
            let elapsed = newest.captured.saturating_duration_since(captured).as_micros();
            let ticks = elapsed * u128::from(first.source.codec.clock_rate()) / 1_000_000;
            let begin = mapping.condensed(first.sequence, first.timestamp);
            mapping.timestamp_offset = timestamp.wrapping_add(ticks as u32).wrapping_sub(newest.timestamp);
            // At least one tick, so that the new frame is not taken for a part of the old one.
            if (begin.wrapping_add(mapping.timestamp_offset).wrapping_sub(last) as i32) < 1 {
                mapping.timestamp_offset = last.wrapping_add(1).wrapping_sub(begin);
            }
        }
        if let Some(before) = self.mapping.replace(mapping) {
            self.before = Some(Box::new(before));
        }
    }

    /// The picture numbers go on as well, from `first`, those of the first packet of the source that is followed now.
    pub fn join_pictures(&mut self, first: PictureNumbers) {
        let Some(mapping) = &mut self.mapping else { return };
        mapping.pictures = match &self.before {
            // Of the same source, only later: its numbers have gone on by themselves.
            Some(before) if before.source == mapping.source => before.pictures,
            _ => first.shift_behind(self.last_pictures),
        };
    }

    /// What is added to the picture numbers of packets of `source`.
    pub fn picture_shift(&self, source: Source) -> PictureShift {
        let mapping = self.mappings().find(|mapping| mapping.source == source);
        mapping.map_or_else(PictureShift::default, |mapping| mapping.pictures)
    }

    /// The packet that was sent under this sequence number has these picture numbers at its source.
    pub fn note_pictures(&mut self, sent: u64, pictures: PictureNumbers) {
        if let Some(mapping) = self.mapping.as_ref().filter(|_| sent + 1 == self.next_sequence) {
            self.last_pictures = pictures.shifted(mapping.pictures).or(self.last_pictures);
        }
    }

    /// The sequence number and timestamp under which a packet of `source` is sent, whenever it is; `None` for one from before
    /// the switch to that source.
    pub fn rewritten(&self, source: Source, sequence: u64, timestamp: u32) -> Option<(u64, u32)> {
        let of_source = |mapping: &&Mapping| mapping.source == source;
        self.mappings().filter(of_source).find_map(|mapping| mapping.rewritten(sequence, timestamp))
    }

    /// The same for a packet of the source that is followed, which is now sent for the first time.
    pub fn rewrite(&mut self, sequence: u64, timestamp: u32) -> Option<(u64, u32)> {
        let (sent, rewritten) = self.mapping.as_ref()?.rewritten(sequence, timestamp)?;
        if sent >= self.next_sequence {
            self.next_sequence = sent + 1;
            self.last = Some(rewritten);
        }
        Some((sent, rewritten))
    }

    /// The source and its sequence number of what was sent under `sent`, if that was since the last switch but one.
    pub fn source_sequence(&self, sent: u16) -> Option<(Source, u64)> {
        let newest = self.next_sequence.checked_sub(1)?;
        let sent = newest.checked_sub(u64::from((newest as u16).wrapping_sub(sent)))?;
        let mapping = self.mappings().find(|mapping| sent >= mapping.first_sent())?;
        Some((mapping.source, sent.wrapping_sub(mapping.sequence_offset)))
    }

    /// The newest first.
    fn mappings(&self) -> impl Iterator<Item = &Mapping> {
        self.mapping.as_ref().into_iter().chain(self.before.as_deref())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::core::extensions::PassThrough;
    use crate::core::plan::StreamId;
    use std::time::Duration;

    fn source(epoch: u64) -> Source {
        Source { epoch: Epoch(epoch), ssrc: Ssrc(7), codec: Codec::Vp8, layer: LayerIndex(0) }
    }

    fn packet(epoch: u64, sequence: u64, timestamp: u32) -> PacketHeader {
        let now = Instant::now();
        PacketHeader {
            stream: StreamId(1),
            source: source(epoch),
            sequence,
            timestamp,
            marker: true,
            keyframe: true,
            captured: now,
            received: now,
            extensions: PassThrough::EMPTY,
        }
    }

    #[test]
    fn the_first_sequence_number_is_in_the_lower_half() {
        let mut rewriter = RtpRewriter::new(0xffff);
        let first = packet(1, 70_000, 5);
        rewriter.switch(&first, &first, None);
        assert_eq!(rewriter.rewrite(70_000, 5), Some((0x7fff, 5)));
    }

    #[test]
    fn gaps_and_reordering_pass_through_and_what_was_sent_is_found_again() {
        let mut rewriter = RtpRewriter::new(100);
        let first = packet(1, 10, 0);
        rewriter.switch(&first, &first, None);
        let sent: Vec<_> = [10, 12, 11, 15].map(|sequence| rewriter.rewrite(sequence, 0).unwrap().0).into();
        assert_eq!(sent, [100, 102, 101, 105]);
        assert_eq!(
            [99, 100, 103, 105, 106].map(|sent| rewriter.source_sequence(sent)),
            [None, Some((source(1), 10)), Some((source(1), 13)), Some((source(1), 15)), None]
        );
    }

    #[test]
    fn numbers_are_found_again_over_the_wrap() {
        let mut rewriter = RtpRewriter::new(0x7fff);
        let first = packet(1, 5, 0);
        rewriter.switch(&first, &first, None);
        for sequence in 5..40_005 {
            rewriter.rewrite(sequence, 0);
        }
        let (sent, _) = rewriter.rewritten(source(1), 40_004, 0).unwrap();
        assert_eq!(sent, 0x7fff + 39_999);
        assert!(sent > 0xffff, "the roll-over counter has gone up");
        assert_eq!(rewriter.source_sequence(sent as u16), Some((source(1), 40_004)));
        assert_eq!(rewriter.source_sequence(65_535), Some((source(1), 65_535 - 0x7fff + 5)));
    }

    #[test]
    fn a_new_source_continues_numbers_and_time_and_what_the_old_one_sent_is_found_again() {
        let mut rewriter = RtpRewriter::new(100);
        let old = packet(1, 65_534, 1_000);
        rewriter.switch(&old, &old, None);
        rewriter.rewrite(65_534, 1_000);
        rewriter.rewrite(65_536, 4_000);
        let mut new = packet(2, 9, 4_000_000_000);
        new.captured = old.captured + Duration::from_secs(2);
        rewriter.switch(&new, &new, Some((4_000, old.captured)));
        assert_eq!(rewriter.rewrite(9, 4_000_000_000), Some((103, 4_000 + 180_000)));
        assert_eq!(rewriter.rewrite(8, 3_999_999_000), None, "older than the switch");
        assert_eq!(rewriter.source(), Some(source(2)));
        let found = [99, 100, 102, 103, 104].map(|sent| rewriter.source_sequence(sent));
        let old = |sequence| Some((source(1), sequence));
        assert_eq!(found, [None, old(65_534), old(65_536), Some((source(2), 9)), None]);
        assert_eq!(rewriter.rewritten(source(1), 65_536, 4_000), Some((102, 4_000)), "as it was");
        assert_eq!(rewriter.rewritten(source(3), 1, 1), None);
    }

    #[test]
    fn time_never_goes_back_at_a_switch() {
        let mut rewriter = RtpRewriter::new(0);
        let old = packet(1, 1, 90_000);
        rewriter.switch(&old, &old, None);
        rewriter.rewrite(1, 90_000);
        let mut earlier = packet(2, 1, 7);
        earlier.captured = old.captured - Duration::from_millis(20);
        rewriter.switch(&earlier, &earlier, Some((90_000, old.captured)));
        assert_eq!(rewriter.rewrite(1, 7), Some((1, 90_001)));
    }

    #[test]
    fn what_is_sent_to_catch_up_plays_fast_and_in_order_and_then_time_is_real() {
        let mut rewriter = RtpRewriter::new(0);
        let (begin, live) = (u32::MAX - 100_000, 350_000); // five seconds, over the wrap of the timestamp
        rewriter.switch(&packet(1, 0, begin), &packet(1, 150, live), None);
        let sent: Vec<u32> = (0..200)
            .map(|frame| rewriter.rewrite(frame, begin.wrapping_add(3_000 * frame as u32)).unwrap().1)
            .collect();
        assert!(sent.windows(2).all(|pair| (pair[1].wrapping_sub(pair[0]) as i32) > 0), "in order");
        assert_eq!(live.wrapping_sub(sent[0]), 450_001 / CATCH_UP_SPEED);
        assert_eq!(sent[199].wrapping_sub(sent[198]), 3_000);
        let again: Vec<u32> = (0..200)
            .map(|frame| {
                rewriter.rewritten(source(1), frame, begin.wrapping_add(3_000 * frame as u32)).unwrap().1
            })
            .collect();
        assert_eq!(sent, again, "a packet has one timestamp for ever");
    }

    #[test]
    fn time_stays_real_when_the_timestamp_has_turned_round() {
        let mut rewriter = RtpRewriter::new(0);
        let first = packet(1, 0, 500);
        rewriter.switch(&first, &first, None);
        for step in 1..100u64 {
            let timestamp = 500u32.wrapping_add((step as u32).wrapping_mul(90_000 * 600));
            assert_eq!(rewriter.rewrite(step, timestamp), Some((step, timestamp)), "ten minutes each");
        }
    }
}
