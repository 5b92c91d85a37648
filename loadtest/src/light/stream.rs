//! One RTP stream of a light viewer.

use std::time::Instant;

use super::first::FirstPacket;
use super::frames::FrameMeter;
use super::header::Header;
use super::rtcp::Block;
use crate::jitter::Jitter;
use crate::seq::{Arrival, SeqWindow};

/// Added to extended sequence numbers, so that packets from before the first one have a number too.
const CYCLE: u64 = 1 << 16;

/// Follows one SSRC.
pub struct Stream {
    pub ssrc: u32,
    pub video: bool,
    pub clock_rate: u32,
    pub window: SeqWindow,
    pub frames: FrameMeter,
    pub first: FirstPacket,
    pub jitter: Jitter,
    highest: u64,
    /// Middle NTP time of the last sender report, and when it came.
    last_sr: Option<(u32, Instant)>,
    /// Expected and lost as last reported.
    reported: (u64, u64),
}

impl Stream {
    /// Starts with its first packet, which is counted.
    pub fn new(header: &Header, video: bool, clock_rate: u32) -> Stream {
        let first = CYCLE + u64::from(header.seq);
        Stream {
            ssrc: header.ssrc,
            video,
            clock_rate,
            window: SeqWindow::starting_at(first),
            frames: FrameMeter::default(),
            first: FirstPacket::default(),
            jitter: Jitter::default(),
            highest: first,
            last_sr: None,
            reported: (0, 0),
        }
    }

    /// The extended number nearest to the highest one.
    pub fn extend(&self, seq: u16) -> u64 {
        let ahead = seq.wrapping_sub(self.highest as u16) as i16;
        self.highest.saturating_add_signed(ahead.into())
    }

    /// Counts a packet after the first.
    pub fn arrived(&mut self, extended: u64) -> Arrival {
        self.highest = self.highest.max(extended);
        self.window.arrived(extended)
    }

    /// Roll-over counter and sequence number, as SRTP counts; `None` for packets from before the first cycle.
    pub fn srtp_index(extended: u64) -> Option<u64> {
        extended.checked_sub(CYCLE)
    }

    /// A sender report came.
    pub fn sender_reported(&mut self, middle_ntp: u32, now: Instant) {
        self.last_sr = Some((middle_ntp, now));
    }

    /// The next report block.
    pub fn report(&mut self, now: Instant) -> Block {
        let (expected, lost) = (self.window.expected(), self.window.lost());
        let (new, missing) = (expected - self.reported.0, lost.saturating_sub(self.reported.1));
        self.reported = (expected, lost);
        let delay = |at: Instant| (now.saturating_duration_since(at).as_secs_f64() * 65_536.0) as u32;
        Block {
            ssrc: self.ssrc,
            fraction_lost: (missing * 256).checked_div(new).unwrap_or(0).min(255) as u8,
            lost: lost as u32,
            highest: self.highest.saturating_sub(CYCLE) as u32,
            jitter: self.jitter.units(),
            last_sr: self.last_sr.map_or(0, |(middle, _)| middle),
            delay: self.last_sr.map_or(0, |(_, at)| delay(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stream(seq: u16) -> Stream {
        let header = Header { marker: false, payload_type: 96, seq, time: 0, ssrc: 5, len: 12 };
        Stream::new(&header, true, 90_000)
    }

    #[test]
    fn sequence_numbers_are_extended_over_the_wrap_both_ways() {
        let mut stream = stream(65_534);
        let first = stream.extend(65_534);
        for (seq, ahead) in [(65_535u16, 1), (0, 2), (1, 3), (65_533, -1i64)] {
            let extended = stream.extend(seq);
            assert_eq!(extended as i64 - first as i64, ahead, "{seq}");
            stream.arrived(extended);
        }
        assert_eq!(Stream::srtp_index(stream.extend(0)), Some(1 << 16));
    }

    #[test]
    fn a_report_tells_the_loss_since_the_one_before_and_the_age_of_the_sender_report() {
        let (mut stream, now) = (stream(0), Instant::now());
        for seq in (1..200).filter(|seq| seq % 4 != 0) {
            stream.arrived(stream.extend(seq));
        }
        stream.sender_reported(77, now);
        let block = stream.report(now + Duration::from_millis(500));
        assert_eq!((block.fraction_lost, block.lost, block.highest), (62, 49, 199));
        assert_eq!((block.last_sr, block.delay), (77, 32_768));
        assert_eq!(stream.report(now).fraction_lost, 0);
    }
}
