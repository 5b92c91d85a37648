//! The buffers that the kernel receives into: a ring of offers, and the memory behind it.

use std::io;
use std::mem;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{Submitter, cqueue};

use super::receive::HEADER_BYTES;

/// The group of the buffers that datagrams are received into.
pub(super) const DATAGRAMS: u16 = 0;
/// The group of the buffers that TCP connections are read into: a client who sends much on one must not use up those of the
/// datagrams.
pub(super) const STREAMS: u16 = 1;
/// One buffer of a stream: as much as one connection is read in a turn. A publisher's 8 Mbit/s are 16 KiB in 16 ms, and a buffer
/// full of the smallest STUN requests is 500 of them.
const STREAM_BUFFER_BYTES: usize = 16 << 10;
/// One buffer: the longest coalesced payload (UDP_GRO stops at 64 KiB) behind its header, in whole pages, so that a single
/// datagram touches one page only.
const BUFFER_BYTES: usize = ((64 << 10) + HEADER_BYTES).next_multiple_of(PAGE_BYTES);
/// The smallest page of a Linux machine. With larger ones a buffer shares a page with its neighbour, which is harmless.
const PAGE_BYTES: usize = 4096;
/// The kernel's limit on the entries of a buffer ring.
const BUFFERS_MAX: u16 = 1 << 15;

/// Receive buffers shared with the kernel. Each is either offered to the kernel or, as a [`Filled`], ours.
pub(super) struct BufferRing {
    offers: Mapping,
    memory: Mapping,
    group: u16,
    buffer_bytes: usize,
    count: u16,
    /// Where the next offer goes; runs ahead of the tail that the kernel sees until [`BufferRing::publish`].
    tail: u16,
}

/// A buffer that the kernel filled and that is ours until it is recycled. Not `Clone`: a buffer is offered once.
#[derive(Debug)]
pub(super) struct Filled {
    id: u16,
    length: usize,
}

impl BufferRing {
    /// At least `count` buffers for datagrams.
    pub(super) fn new(count: u16) -> io::Result<Self> {
        Self::map(count, DATAGRAMS, BUFFER_BYTES)
    }

    /// At least `count` buffers for streams.
    pub(super) fn for_streams(count: u16) -> io::Result<Self> {
        Self::map(count, STREAMS, STREAM_BUFFER_BYTES)
    }

    /// Maps the buffers and offers all of them. Pages are used when data first arrives in them.
    fn map(count: u16, group: u16, buffer_bytes: usize) -> io::Result<Self> {
        let count = count.clamp(1, BUFFERS_MAX).next_power_of_two();
        let offers = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = Mapping::new(usize::from(count) * buffer_bytes)?;
        let mut ring = Self { offers, memory, group, buffer_bytes, count, tail: 0 };
        (0..count).for_each(|id| ring.offer(id));
        ring.publish();
        Ok(ring)
    }

    /// Buffers in all.
    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// Makes the buffers known to the ring behind `submitter`, which must be gone or idle before `self` is dropped:
    /// [`Driver`](super::Driver) sees to that.
    pub(super) fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        let address = self.offers.start.as_ptr() as u64;
        // SAFETY: the mapping is page-aligned and holds `count` entries. It is unmapped only when the driver has seen every
        // operation end, else it is abandoned; the kernel has its own hold on the pages.
        unsafe { submitter.register_buf_ring_with_flags(address, self.count, self.group, 0) }
    }

    /// The buffer that a completion filled, if it names one of ours.
    pub(super) fn filled(&self, result: i32, flags: u32) -> Option<Filled> {
        let id = cqueue::buffer_select(flags).filter(|id| *id < self.count)?;
        let length = usize::try_from(result).unwrap_or(0).min(self.buffer_bytes);
        Some(Filled { id, length })
    }

    /// What the kernel wrote.
    pub(super) fn bytes(&self, filled: &Filled) -> &[u8] {
        // SAFETY: `id` is below `count`, so this is the start of a buffer inside the mapping.
        let start = unsafe { self.memory.start.as_ptr().add(usize::from(filled.id) * self.buffer_bytes) };
        // SAFETY: `length` is at most one buffer, all of it mapped and zeroed or written by the kernel. The kernel does not
        // write there before the buffer is offered again, which takes the `Filled` that is borrowed here.
        unsafe { slice::from_raw_parts(start, filled.length) }
    }

    /// Offers a buffer again; the kernel sees it after [`BufferRing::publish`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "taking it is what keeps a buffer from being offered twice"
    )]
    pub(super) fn recycle(&mut self, filled: Filled) {
        self.offer(filled.id);
    }

    fn offer(&mut self, id: u16) {
        let offset = usize::from(id) * self.buffer_bytes;
        // SAFETY: `id` is below `count`, so this is the start of a buffer inside the mapping.
        let buffer = unsafe { self.memory.start.as_ptr().add(offset) };
        let place = usize::from(self.tail & (self.count - 1));
        let offers: *mut BufRingEntry = self.offers.start.as_ptr().cast();
        // SAFETY: `place` is below `count`, as many entries as the mapping holds.
        let entry = unsafe { offers.add(place) };
        // SAFETY: the entry lies in our mapping and is aligned. The kernel reads entries between its head and the published
        // tail only, and a ring of `count` buffers never has more than `count` offers, so this one is not among them.
        let entry = unsafe { &mut *entry };
        entry.set_addr(buffer as u64);
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel every buffer offered so far.
    pub(super) fn publish(&mut self) {
        // SAFETY: the pointer is to the first entry of the ring, as this function demands.
        let tail = unsafe { BufRingEntry::tail(self.offers.start.as_ptr().cast()) };
        // SAFETY: the tail lies in our mapping, is aligned, and is only ever accessed atomically: by the kernel and here.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release: the entries before the tail are written before the kernel sees it.
        tail.store(self.tail, Ordering::Release);
    }

    /// Leaves the memory to the kernel for good: operations that may write to it did not end.
    pub(super) fn abandon(&mut self) {
        self.offers.abandon();
        self.memory.abandon();
    }
}

/// Anonymous memory at a page boundary, unmapped on drop.
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    fn new(bytes: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, bytes })
    }

    fn abandon(&mut self) {
        mem::forget(mem::replace(self, Self { start: NonNull::dangling(), bytes: 0 }));
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: this is exactly the range that `new` mapped, and nothing borrowed from it outlives its owner.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The flags of a completion that used buffer `id`.
    fn used(id: u16) -> u32 {
        1 | u32::from(id) << 16
    }

    fn published(ring: &BufferRing) -> u16 {
        // SAFETY: the pointer is to the first entry of the ring.
        let tail = unsafe { BufRingEntry::tail(ring.offers.start.as_ptr().cast()) };
        // SAFETY: the tail lies in the mapping.
        unsafe { tail.read() }
    }

    fn offered(ring: &BufferRing, place: u16) -> u16 {
        let offers: *const BufRingEntry = ring.offers.start.as_ptr().cast();
        // SAFETY: the place is inside the ring.
        let entry = unsafe { offers.add(usize::from(place)) };
        // SAFETY: no kernel shares this mapping in the tests.
        unsafe { &*entry }.bid()
    }

    #[test]
    fn the_number_of_buffers_is_a_power_of_two() {
        for (asked, had) in [(0, 1), (1, 1), (3, 4), (16, 16), (257, 512)] {
            assert_eq!(BufferRing::new(asked).expect("memory").count(), had);
        }
    }

    #[test]
    fn all_buffers_are_offered_at_first() {
        let ring = BufferRing::new(8).expect("memory");
        assert_eq!(published(&ring), 8);
        assert_eq!((0..8).map(|place| offered(&ring, place)).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn a_recycled_buffer_is_seen_when_published() {
        let mut ring = BufferRing::new(4).expect("memory");
        let filled = ring.filled(100, used(2)).expect("a buffer");
        assert_eq!(ring.bytes(&filled).len(), 100);
        ring.recycle(filled);
        assert_eq!(published(&ring), 4);
        ring.publish();
        assert_eq!((published(&ring), offered(&ring, 0)), (5, 2));
    }

    #[test]
    fn the_tail_wraps_past_16_bits() {
        let mut ring = BufferRing::new(2).expect("memory");
        for _ in 0..u32::from(u16::MAX) + 4 {
            let filled = ring.filled(1, used(1)).expect("a buffer");
            ring.recycle(filled);
        }
        ring.publish();
        assert_eq!(published(&ring), 5);
    }

    #[test]
    fn a_completion_without_a_buffer_of_ours_fills_nothing() {
        let ring = BufferRing::new(4).expect("memory");
        assert!(ring.filled(100, 0).is_none());
        assert!(ring.filled(100, used(4)).is_none());
    }

    #[test]
    fn a_length_beyond_the_buffer_is_cut_and_an_error_is_empty() {
        let ring = BufferRing::new(1).expect("memory");
        assert_eq!(ring.filled(i32::MAX, used(0)).expect("a buffer").length, BUFFER_BYTES);
        assert_eq!(ring.filled(-libc::EFAULT, used(0)).expect("a buffer").length, 0);
    }

    #[test]
    fn abandoned_memory_outlives_its_owner() {
        let mut mapping = Mapping::new(PAGE_BYTES).expect("memory");
        let start = mapping.start.as_ptr();
        mapping.abandon();
        drop(mapping);
        let mut resident = 0;
        // SAFETY: mincore does not touch the memory, it says whether there is any, in one byte for the one page.
        let result = unsafe { libc::mincore(start.cast(), PAGE_BYTES, &raw mut resident) };
        assert_eq!(result, 0, "unmapped");
    }
}
