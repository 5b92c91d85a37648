//! Which packets of one RTP stream arrived: the count behind every loss figure.

const WINDOW: u64 = 1024;
/// str0m extends the number of a packet from before number 0 to one below 0, which wraps.
const HIGHEST: u64 = u64::MAX / 2;

/// Follows extended sequence numbers of one SSRC. A packet that comes back late, by retransmission or
/// reordering, is not lost; one that never comes is.
#[derive(Debug, Clone)]
pub struct SeqWindow {
    first: u64,
    highest: u64,
    unique: u64,
    seen: [u64; (WINDOW / 64) as usize],
}

/// What one packet was to its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Seen for the first time.
    New,
    /// Seen for the first time, after later ones.
    Late,
    /// Seen before.
    Duplicate,
    /// Older than the window or than the first packet: no longer counted.
    TooOld,
}

impl SeqWindow {
    /// Starts with the first packet of the stream.
    pub fn starting_at(seq: u64) -> Self {
        let mut window = SeqWindow { first: seq, highest: seq, unique: 1, seen: [0; 16] };
        window.mark(seq);
        window
    }

    /// Counts one packet after the first.
    pub fn arrived(&mut self, seq: u64) -> Arrival {
        if seq > HIGHEST {
            return Arrival::TooOld;
        }
        let newest = seq > self.highest;
        if newest {
            self.forget_up_to(seq);
            self.highest = seq;
        } else if seq < self.first || self.highest - seq >= WINDOW {
            return Arrival::TooOld;
        } else if self.is_marked(seq) {
            return Arrival::Duplicate;
        }
        self.mark(seq);
        self.unique += 1;
        if newest { Arrival::New } else { Arrival::Late }
    }

    /// Packets missing between the first and the highest one.
    pub fn lost(&self) -> u64 {
        self.expected() - self.unique
    }

    /// Packets that the sender sent, as far as the numbers tell.
    pub fn expected(&self) -> u64 {
        self.highest - self.first + 1
    }

    fn forget_up_to(&mut self, seq: u64) {
        if seq - self.highest >= WINDOW {
            self.seen = [0; 16];
            return;
        }
        for old in self.highest + 1..=seq {
            let (word, bit) = place(old);
            self.seen[word] &= !bit;
        }
    }

    fn mark(&mut self, seq: u64) {
        let (word, bit) = place(seq);
        self.seen[word] |= bit;
    }

    fn is_marked(&self, seq: u64) -> bool {
        let (word, bit) = place(seq);
        self.seen[word] & bit != 0
    }
}

fn place(seq: u64) -> (usize, u64) {
    let at = seq % WINDOW;
    ((at / 64) as usize, 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_lost_until_it_is_filled() {
        let mut window = SeqWindow::starting_at(10);
        for seq in [11, 14, 15] {
            assert_eq!(window.arrived(seq), Arrival::New);
        }
        assert_eq!(window.lost(), 2);
        assert_eq!(window.arrived(12), Arrival::Late);
        assert_eq!((window.lost(), window.expected()), (1, 6));
    }

    #[test]
    fn duplicates_and_strays_change_no_loss() {
        let mut window = SeqWindow::starting_at(5000);
        window.arrived(5003);
        assert_eq!(window.arrived(5003), Arrival::Duplicate);
        assert_eq!(window.arrived(4999), Arrival::TooOld);
        window.arrived(9000);
        assert_eq!(window.arrived(5001), Arrival::TooOld);
        assert_eq!(window.lost(), 4001 - 3);
    }

    #[test]
    fn one_in_a_hundred_dropped_is_one_percent_over_many_wraps_of_the_window() {
        let mut window = SeqWindow::starting_at(0);
        (1..100_000).filter(|seq| seq % 100 != 50).for_each(|seq| {
            window.arrived(seq);
        });
        assert_eq!(window.lost(), 1000);
    }

    #[test]
    fn a_packet_from_before_number_0_is_older_than_the_first_and_spoils_nothing() {
        let mut window = SeqWindow::starting_at(0);
        assert_eq!(window.arrived(u64::MAX), Arrival::TooOld);
        assert_eq!(window.arrived(1), Arrival::New);
        assert_eq!((window.expected(), window.lost()), (2, 0));
    }
}
