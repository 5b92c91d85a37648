//! Which packets of a published track never came.

/// How far behind the newest packet a retransmission may still arrive, in packets. 1024 are about three seconds of
/// 2.5 Mbit/s video, longer than any NACK round lasts.
const WINDOW: u64 = 1024;
const WORDS: usize = (WINDOW / 64) as usize;

/// A bitmap of the last 1024 extended sequence numbers; what leaves it unset is lost.
#[derive(Debug)]
pub struct ReceiveLog {
    bits: [u64; WORDS],
    /// The newest sequence number seen and the first one.
    newest: Option<u64>,
    first: u64,
}

impl ReceiveLog {
    /// An empty log.
    pub fn new() -> ReceiveLog {
        ReceiveLog { bits: [0; WORDS], newest: None, first: 0 }
    }

    /// Notes a packet; returns how many older ones are lost for good by now.
    pub fn record(&mut self, sequence: u64) -> u64 {
        let Some(newest) = self.newest else {
            self.first = sequence;
            self.newest = Some(sequence);
            self.set(sequence);
            return 0;
        };
        if sequence <= newest {
            if newest - sequence < WINDOW {
                self.set(sequence);
            }
            return 0;
        }
        let lost = self.advance(newest, sequence);
        self.set(sequence);
        self.newest = Some(sequence);
        lost
    }

    /// Moves the window from `newest` to `to` and counts the unset numbers that fall out.
    fn advance(&mut self, newest: u64, to: u64) -> u64 {
        let leaving_from = (newest + 1).saturating_sub(WINDOW).max(self.first);
        let leaving_to = (to + 1).saturating_sub(WINDOW);
        let mut lost = leaving_to.saturating_sub((newest + 1).max(leaving_from));
        for sequence in leaving_from..leaving_to.min(newest + 1) {
            lost += u64::from(!self.is_set(sequence));
        }
        for sequence in (newest + 1).max((to + 1).saturating_sub(WINDOW))..=to {
            self.clear(sequence);
        }
        lost
    }

    fn slot(sequence: u64) -> (usize, u64) {
        let bit = sequence % WINDOW;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    fn set(&mut self, sequence: u64) {
        let (word, mask) = Self::slot(sequence);
        self.bits[word] |= mask;
    }

    fn clear(&mut self, sequence: u64) {
        let (word, mask) = Self::slot(sequence);
        self.bits[word] &= !mask;
    }

    fn is_set(&self, sequence: u64) -> bool {
        let (word, mask) = Self::slot(sequence);
        self.bits[word] & mask != 0
    }
}

impl Default for ReceiveLog {
    fn default() -> ReceiveLog {
        ReceiveLog::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(sequences: impl IntoIterator<Item = u64>) -> u64 {
        let mut log = ReceiveLog::new();
        sequences.into_iter().map(|sequence| log.record(sequence)).sum()
    }

    #[test]
    fn a_gapless_stream_loses_nothing() {
        assert_eq!(lost(60_000..80_000), 0);
    }

    #[test]
    fn each_missing_packet_counts_once_when_its_time_is_over() {
        assert_eq!(lost((0..5_000).filter(|sequence| sequence % 100 != 50)), 40);
    }

    #[test]
    fn a_retransmission_in_time_is_no_loss() {
        let late = (0..1_000).filter(|&sequence| sequence != 500).chain([500]).chain(1_000..5_000);
        assert_eq!(lost(late), 0);
    }

    #[test]
    fn a_leap_counts_every_number_that_it_skips() {
        assert_eq!(lost([10, 10 + 100_000, 10 + 100_000 + WINDOW - 1]), 99_999);
    }
}
