//! Frames out of RTP packets, the way a player needs them: a frame counts when all its packets are there and
//! all frames before it, back to a key frame, were whole.

use std::time::{Duration, Instant};

use crate::packet::sei::Stamp;

/// Packets remembered; at 2.5 Mbit/s three seconds.
const RING: usize = 1024;
/// How long a missing packet may take before the player gives up on it and asks for a key frame.
const GIVE_UP: Duration = Duration::from_millis(1000);

/// One video packet, as far as frames care.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    /// Extended sequence number.
    pub seq: u64,
    /// RTP time stamp.
    pub time: u32,
    /// RTP marker bit: the last packet of a frame.
    pub marker: bool,
    /// A key frame starts here.
    pub key_start: bool,
    /// No media inside: padding that a server sent to probe or to fill a gap.
    pub empty: bool,
    /// Found in this packet.
    pub stamp: Option<Stamp>,
}

/// A frame that could be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// RTP time stamp.
    pub time: u32,
    /// Whether it is a key frame.
    pub key: bool,
    /// What it says about itself, if its publisher stamps frames.
    pub stamp: Option<Stamp>,
}

/// Puts frames together.
pub struct Frames {
    ring: Vec<Option<Packet>>,
    place: Place,
    highest: u64,
    hole_since: Option<Instant>,
    given_up: u64,
}

#[derive(Clone, Copy)]
enum Place {
    /// Nothing can be shown before the next key frame.
    AwaitKey,
    /// `next` is the first packet of the next frame, `cursor` the first one that has not been looked at.
    Playing { next: u64, cursor: u64 },
}

impl Default for Frames {
    fn default() -> Self {
        Frames { ring: vec![None; RING], place: Place::AwaitKey, highest: 0, hole_since: None, given_up: 0 }
    }
}

impl Frames {
    /// Takes one packet and hands out the frames that it completes.
    pub fn insert(&mut self, packet: Packet, now: Instant, mut out: impl FnMut(Frame)) {
        if packet.seq + RING as u64 <= self.highest {
            return;
        }
        self.highest = self.highest.max(packet.seq);
        self.ring[slot(packet.seq)] = Some(packet);
        self.start_at_key(packet);
        while let Some(frame) = self.next_frame() {
            out(frame);
        }
        self.watch_hole(now);
    }

    /// Whether only a key frame can bring the picture back.
    pub fn needs_key_frame(&self) -> bool {
        matches!(self.place, Place::AwaitKey)
    }

    /// For tests: how often a missing packet ended the picture until the next key frame.
    #[cfg(test)]
    fn given_up(&self) -> u64 {
        self.given_up
    }

    fn start_at_key(&mut self, packet: Packet) {
        if !packet.key_start || !self.needs_key_frame() {
            return;
        }
        // A slice without its parameter sets may be the second packet of its frame.
        let before =
            self.get(packet.seq.wrapping_sub(1)).filter(|before| before.time == packet.time && !before.empty);
        let next = before.map_or(packet.seq, |before| before.seq);
        self.place = Place::Playing { next, cursor: next };
        self.hole_since = None;
    }

    fn next_frame(&mut self) -> Option<Frame> {
        let Place::Playing { mut next, mut cursor } = self.place else { return None };
        let mut frame = None;
        while let Some(packet) = self.get(cursor) {
            let time = self.get(next).map_or(packet.time, |first| first.time);
            if packet.empty && cursor == next {
                (next, cursor) = (next + 1, cursor + 1);
                continue;
            }
            // A sender that sets no marker ends a frame by starting the next.
            if packet.time != time {
                frame = Some(self.frame_of(next, cursor - 1));
                next = cursor;
                break;
            }
            cursor += 1;
            if packet.marker {
                frame = Some(self.frame_of(next, cursor - 1));
                next = cursor;
                break;
            }
        }
        self.place = Place::Playing { next, cursor };
        frame
    }

    fn frame_of(&self, first: u64, last: u64) -> Frame {
        let packets = || (first..=last).filter_map(|seq| self.get(seq));
        Frame {
            time: packets().next().map_or(0, |packet| packet.time),
            key: packets().any(|packet| packet.key_start),
            stamp: packets().find_map(|packet| packet.stamp),
        }
    }

    fn watch_hole(&mut self, now: Instant) {
        let Place::Playing { next, cursor } = self.place else { return };
        if cursor > self.highest {
            self.hole_since = None;
            return;
        }
        let since = *self.hole_since.get_or_insert(now);
        let ring_full = self.highest - next >= RING as u64 - 1;
        if now - since >= GIVE_UP || ring_full {
            self.given_up += 1;
            self.place = Place::AwaitKey;
            self.hole_since = None;
        }
    }

    fn get(&self, seq: u64) -> Option<Packet> {
        self.ring[slot(seq)].filter(|packet| packet.seq == seq)
    }
}

fn slot(seq: u64) -> usize {
    (seq % RING as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `packets_each` packets a frame, a key frame first.
    fn packet(seq: u64, packets_each: u64) -> Packet {
        let frame = seq / packets_each;
        Packet {
            seq,
            time: frame as u32 * 3000,
            marker: seq % packets_each == packets_each - 1,
            key_start: seq == 0,
            empty: false,
            stamp: seq.is_multiple_of(packets_each).then_some(Stamp { sent_us: frame, frame: frame as u32 }),
        }
    }

    fn play(order: impl IntoIterator<Item = Packet>) -> (Vec<Frame>, Frames) {
        let (mut frames, mut shown, now) = (Frames::default(), Vec::new(), Instant::now());
        for packet in order {
            frames.insert(packet, now, |frame| shown.push(frame));
        }
        (shown, frames)
    }

    #[test]
    fn whole_frames_come_out_in_order_with_their_stamps() {
        let (shown, _) = play((0..40).map(|seq| packet(seq, 4)));
        assert_eq!(shown.len(), 10);
        assert!(shown[0].key && !shown[1].key);
        assert_eq!(shown[9].stamp, Some(Stamp { sent_us: 9, frame: 9 }));
    }

    #[test]
    fn a_late_packet_releases_the_frames_that_waited_for_it() {
        let order = (0..12).filter(|seq| *seq != 5).chain([5]).map(|seq| packet(seq, 4));
        let (shown, _) = play(order);
        assert_eq!(shown.iter().map(|frame| frame.time).collect::<Vec<_>>(), [0, 3000, 6000]);
    }

    #[test]
    fn nothing_is_shown_before_a_key_frame() {
        let (shown, frames) = play((4..40).map(|seq| packet(seq, 4)));
        assert!(shown.is_empty() && frames.needs_key_frame());
    }

    #[test]
    fn a_packet_that_never_comes_ends_the_picture_until_the_next_key_frame() {
        let (mut frames, mut shown, start) = (Frames::default(), 0, Instant::now());
        for seq in (0..100).filter(|seq| *seq != 9) {
            let now = start + Duration::from_millis(20 * seq);
            let packet = Packet { key_start: seq == 0 || seq == 80, ..packet(seq, 4) };
            frames.insert(packet, now, |_| shown += 1);
        }
        assert_eq!((shown, frames.given_up()), (2 + 5, 1));
    }

    #[test]
    fn a_long_burst_of_loss_does_not_overrun_the_ring() {
        let late = (0..8).chain(9..3000).map(|seq| packet(seq, 4));
        let (shown, frames) = play(late);
        assert_eq!((shown.len(), frames.given_up()), (2, 1));
    }

    #[test]
    fn padding_between_frames_and_missing_markers_do_not_stop_the_picture() {
        let padded =
            (0..8).map(|seq| packet(seq, 4)).chain([Packet { empty: true, marker: false, ..packet(7, 4) }]);
        let padded = padded.enumerate().map(|(i, packet)| Packet { seq: i as u64, ..packet });
        let after = (8..12).map(|seq| Packet { seq: seq + 1, ..packet(seq, 4) });
        assert_eq!(play(padded.chain(after)).0.len(), 3);
        let unmarked = (0..12).map(|seq| Packet { marker: false, ..packet(seq, 4) });
        assert_eq!(play(unmarked).0.len(), 2);
    }
}
