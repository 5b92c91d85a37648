//! What a driver has done, in numbers that only grow.

pub use crate::stats::StreamEnd;

/// What a driver has done since it was built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DriverCounters {
    /// Datagrams received, after coalesced ones were split.
    pub received: u64,
    /// Buffers they came in; fewer than `received` where the kernel coalesced.
    pub receive_buffers: u64,
    /// Times that a receive stopped because no buffer was free. The datagrams wait in the socket meanwhile.
    pub receive_buffers_exhausted: u64,
    /// Buffers dropped because they were cut short or without a sender's address.
    pub receive_malformed: u64,
    /// Receives that ended with an error and were started again.
    pub receive_failed: u64,
    /// Datagrams that the kernel took.
    pub sent: u64,
    /// Datagrams that the kernel refused, also singly.
    pub send_failed: u64,
    /// Datagrams given back because no slot was free.
    pub send_queue_full: u64,
    /// Trains that the kernel refused; their datagrams went out singly and are counted where they ended.
    pub trains_refused: u64,
    /// Sizes of the trains that the kernel took.
    pub train_datagrams: TrainSizes,
    /// TCP connections now.
    pub connections: u64,
    /// TCP connections that ended, by [`StreamEnd`].
    pub connections_ended: [u64; StreamEnd::ALL.len()],
    /// Datagrams put behind their length for a connection.
    pub framed: u64,
    /// Datagrams dropped because too much waits for their connection, or it is gone.
    pub stream_dropped: u64,
    /// Wakes by other threads.
    pub wakes: u64,
    /// System calls.
    pub enters: u64,
}

/// Datagrams per send operation, of those that came through [`Driver::send_train`](super::Driver::send_train): also the
/// single datagrams, and those of a refused train.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrainSizes {
    /// Operations by the first of [`TrainSizes::BOUNDS`] that is not below their size; not cumulated.
    pub counts: [u64; TrainSizes::BOUNDS.len()],
    /// Datagrams in all.
    pub sum: u64,
}

impl TrainSizes {
    /// Upper bounds of the buckets, in datagrams. No kernel takes more than the last.
    pub const BOUNDS: [u64; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

    /// Operations in all.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(super) fn observe(&mut self, datagrams: u64) {
        let bucket = Self::BOUNDS.partition_point(|bound| *bound < datagrams);
        self.counts[bucket.min(Self::BOUNDS.len() - 1)] += 1;
        self.sum += datagrams;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_train_is_counted_at_the_first_bound_that_holds_it() {
        let mut sizes = TrainSizes::default();
        for datagrams in [1, 2, 3, 4, 5, 64, 65, 128] {
            sizes.observe(datagrams);
        }
        assert_eq!(sizes.counts, [1, 1, 2, 1, 0, 0, 1, 2]);
        assert_eq!((sizes.count(), sizes.sum), (8, 272));
    }
}
