//! What a viewer asked to have again (NACK, RFC 4585 §6.2.1), within bounds: a NACK of 20 bytes can name 17 packets, so without
//! bounds a viewer could have the server send him, or somebody whose address he spoofs, a thousand times what he sends.

use super::codec::MediaKind;
use std::time::{Duration, Instant};

/// Bytes that may go out again at once. The threat it answers: many NACKs in one moment.
const BURST_BYTES: usize = 64 << 10;
/// One byte may go out again for so many sent the first time: with 20 % loss all that is lost can still be repaired.
const SENT_PER_BYTE: usize = 4;
/// Sequence numbers that may wait for the end of the turn: a burst's worth of small packets.
const WANTED_MAX: usize = 512;
/// Places of the memory of what was asked for: a second of 1,000 packets. Numbers that share a place forget each other, which
/// lets a repetition through, within the budget.
const ASKED: usize = 1_024;
/// Assumed before a receiver report has told the round-trip time.
const INITIAL_RTT: Duration = Duration::from_millis(50);
/// A shorter round trip is no reason to send a packet again more often.
const RTT_MIN: Duration = Duration::from_millis(5);

/// A viewer's retransmissions.
#[derive(Debug)]
pub struct Retransmissions {
    budget: usize,
    wanted: Vec<(MediaKind, u16)>,
    asked: Option<Box<Asked>>,
}

/// What was asked for, and when: milliseconds since the first request, in few bytes because there are many viewers.
#[derive(Debug)]
struct Asked {
    since: Instant,
    places: [Option<((MediaKind, u16), u32)>; ASKED],
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// To be sent at the end of the turn.
    Taken,
    /// Asked for within a round trip already.
    Repeated,
    /// Too many wait.
    TooMany,
}

impl Default for Retransmissions {
    fn default() -> Retransmissions {
        Retransmissions { budget: BURST_BYTES, wanted: Vec::new(), asked: None }
    }
}

impl Retransmissions {
    /// The viewer wants a packet again.
    pub fn request(
        &mut self,
        now: Instant,
        rtt: Option<Duration>,
        kind: MediaKind,
        sequence: u16,
    ) -> Request {
        if self.wanted.len() >= WANTED_MAX {
            return Request::TooMany;
        }
        let packet = (kind, sequence);
        let rtt = rtt.unwrap_or(INITIAL_RTT).max(RTT_MIN);
        let asked = self.asked.get_or_insert_with(|| Box::new(Asked { since: now, places: [None; ASKED] }));
        let at = now.saturating_duration_since(asked.since).as_millis() as u32;
        let place = &mut asked.places[usize::from(sequence) % ASKED];
        let age = |last: u32| Duration::from_millis(at.wrapping_sub(last).into());
        if place.is_some_and(|(known, last)| known == packet && age(last) < rtt) {
            return Request::Repeated;
        }
        *place = Some((packet, at));
        self.wanted.push(packet);
        Request::Taken
    }

    /// Takes what is to be sent now.
    pub fn take(&mut self) -> Vec<(MediaKind, u16)> {
        std::mem::take(&mut self.wanted)
    }

    /// So many bytes were sent for the first time.
    pub fn earn(&mut self, bytes: usize) {
        self.budget = (self.budget + bytes / SENT_PER_BYTE).min(BURST_BYTES);
    }

    /// Whether so many bytes may be sent again.
    pub fn spend(&mut self, bytes: usize) -> bool {
        let left = self.budget.checked_sub(bytes);
        self.budget = left.unwrap_or(self.budget);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: MediaKind = MediaKind::Video;

    #[test]
    fn a_packet_is_sent_again_once_in_a_round_trip() {
        let (mut viewer, start) = (Retransmissions::default(), Instant::now());
        let rtt = Some(Duration::from_millis(40));
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(viewer.request(at(0), rtt, KIND, 7), Request::Taken);
        assert_eq!(viewer.request(at(39), rtt, KIND, 7), Request::Repeated);
        assert_eq!(viewer.request(at(39), rtt, MediaKind::Audio, 7), Request::Taken, "another track");
        assert_eq!(viewer.request(at(80), rtt, KIND, 7), Request::Taken);
        assert_eq!(viewer.take().len(), 3);
        assert!(viewer.take().is_empty());
    }

    #[test]
    fn what_goes_out_again_is_a_quarter_of_what_went_out_and_a_burst() {
        let mut viewer = Retransmissions::default();
        let mut sent = 0;
        while viewer.spend(1_200) {
            sent += 1_200;
        }
        assert!((60_000..=BURST_BYTES).contains(&sent), "{sent}");
        viewer.earn(48_000);
        let more = std::iter::from_fn(|| viewer.spend(1_200).then_some(1_200)).sum::<usize>();
        assert!((12_000..13_200).contains(&more), "{more}");
    }

    #[test]
    fn a_flood_waits_in_bounded_room() {
        let (mut viewer, now) = (Retransmissions::default(), Instant::now());
        let taken = (0..5_000u16).filter(|n| viewer.request(now, None, KIND, *n) == Request::Taken).count();
        assert_eq!(taken, WANTED_MAX);
    }
}
