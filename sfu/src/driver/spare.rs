//! Buffers that trains are written into, kept for the next train.

/// The longest payload of one send operation, in bytes: a UDP datagram over IPv4 before the kernel cuts it.
pub(super) const TRAIN_BYTES_MAX: usize = 65_507;

/// Empty buffers with room for the longest train each. The one that came back last goes out first: it is in the cache.
pub(super) struct SpareBuffers {
    buffers: Vec<Vec<u8>>,
    buffers_max: usize,
}

impl SpareBuffers {
    /// Keeps at most `buffers_max`.
    pub(super) fn new(buffers_max: usize) -> Self {
        Self { buffers: Vec::with_capacity(buffers_max), buffers_max }
    }

    /// The buffer that was used last, or a new one.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_else(|| Vec::with_capacity(TRAIN_BYTES_MAX))
    }

    /// Keeps a buffer that can hold one train; smaller and grown ones are freed.
    pub(super) fn put(&mut self, mut buffer: Vec<u8>) {
        let fits = (TRAIN_BYTES_MAX..2 * TRAIN_BYTES_MAX).contains(&buffer.capacity());
        if fits && self.buffers.len() < self.buffers_max {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_that_came_back_last_is_used_first() {
        let mut spare = SpareBuffers::new(4);
        let (first, mut second) = (spare.take(), spare.take());
        second.push(1);
        let address = second.as_ptr();
        spare.put(first);
        spare.put(second);
        let again = spare.take();
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
    }

    #[test]
    fn a_buffer_of_another_size_or_one_too_many_is_not_kept() {
        let mut spare = SpareBuffers::new(1);
        spare.put(vec![0; 1200]);
        spare.put(vec![0; 2 * TRAIN_BYTES_MAX]);
        assert!(spare.buffers.is_empty());
        let (first, second) = (spare.take(), spare.take());
        spare.put(first);
        spare.put(second);
        assert_eq!(spare.buffers.len(), 1);
    }
}
