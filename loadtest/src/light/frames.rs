//! Frames told from headers alone: which packets start one, and whether all of it came.

use crate::packet::sei::Stamp;

/// Packets of a sampled frame that are searched for its stamp.
const STAMP_TRIES: u8 = 3;

/// Follows the frames of one stream. Packets that come late are not waited for: their frame is not whole.
#[derive(Debug, Default)]
pub struct FrameMeter {
    /// Sequence number after the highest.
    next: u64,
    time: u32,
    /// Nothing is missing of the frame so far.
    whole: bool,
    /// The marker has come: what follows is another frame.
    ended: bool,
    /// Frames begun.
    begun: u64,
    tries: u8,
    key: bool,
    stamp: Option<Stamp>,
}

/// What a packet is to its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// It is the first of the frame, as far as headers tell.
    pub first: bool,
    /// It ends a frame that came whole.
    pub completes: bool,
}

impl FrameMeter {
    /// Takes a packet that is new; `seq` is extended.
    pub fn packet(&mut self, seq: u64, time: u32, marker: bool) -> Place {
        if seq < self.next {
            return Place { first: false, completes: false };
        }
        let gap = seq != self.next;
        let first = self.ended || time != self.time || self.begun == 0;
        if first {
            let whole = !gap || self.begun == 0;
            *self = FrameMeter { time, whole, begun: self.begun + 1, ..FrameMeter::default() };
        } else if gap {
            self.whole = false;
        }
        self.next = seq + 1;
        self.ended = marker;
        Place { first, completes: marker && self.whole }
    }

    /// Whether the packet just taken should be opened to find the stamp, one frame in `every`.
    pub fn wants_stamp(&mut self, every: u64, phase: u64) -> bool {
        let sampled = (self.begun + phase).is_multiple_of(every);
        let wanted = sampled && self.whole && self.stamp.is_none() && self.tries < STAMP_TRIES;
        self.tries += u8::from(wanted);
        wanted
    }

    /// What an opened packet of the frame says.
    pub fn note(&mut self, key: bool, stamp: Option<Stamp>) {
        self.key |= key;
        self.stamp = self.stamp.or(stamp);
    }

    /// Whether the frame is known to be a key frame.
    pub fn is_key(&self) -> bool {
        self.key
    }

    /// The frame's stamp, if it was looked for and found.
    pub fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of three packets; says which sequence numbers complete one.
    fn completing(seqs: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut meter = FrameMeter::default();
        let complete = |seq: &u64| meter.packet(*seq, (*seq / 3) as u32, seq % 3 == 2).completes;
        seqs.into_iter().filter(complete).collect()
    }

    #[test]
    fn every_whole_frame_completes_with_its_marker() {
        assert_eq!(completing(0..9), [2, 5, 8]);
    }

    #[test]
    fn a_gap_spoils_the_frame_it_is_in_whether_at_its_start_or_its_end() {
        assert_eq!(completing([0, 1, 2, 4, 5, 6, 7, 8]), [2, 8]);
        assert_eq!(completing([0, 1, 3, 4, 5, 6, 7, 8]), [8]);
        assert_eq!(completing([0, 1, 2, 3, 5, 4, 6, 7, 8]), [2, 8]);
    }

    #[test]
    fn padding_between_frames_completes_nothing_and_spoils_nothing() {
        let mut meter = FrameMeter::default();
        let packets = [(0, 1, true), (1, 1, false), (2, 1, false), (3, 2, false), (4, 2, true)];
        let completes = packets.map(|(seq, time, marker)| meter.packet(seq, time, marker).completes);
        assert_eq!(completes, [true, false, false, false, true]);
    }

    #[test]
    fn one_frame_in_five_is_looked_into() {
        let mut meter = FrameMeter::default();
        let mut wants = |seq: u64| {
            meter.packet(seq, (seq / 3) as u32, seq % 3 == 2);
            let wants = meter.wants_stamp(5, 0);
            if wants {
                meter.note(false, Some(Stamp { sent_us: 1, frame: 1 }));
            }
            wants
        };
        assert_eq!((0..300).filter(|seq| wants(*seq)).count(), 20);
    }
}
