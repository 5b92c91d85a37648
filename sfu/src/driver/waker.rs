//! How other threads end a worker's wait.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::StartError;

/// Ends the present or next [`Driver::wait`](super::Driver::wait) of the driver that was built with it.
///
/// Clones wake the same driver. A batch of messages needs one wake, after the last message is in the mailbox; wakes while
/// one is pending are an atomic swap and no system call.
#[derive(Debug, Clone)]
pub struct Waker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    event: File,
    /// A wake was written and not yet seen by the worker.
    pending: AtomicBool,
    /// Where the kernel puts the event counter. Nobody reads it. It lives in the `Arc` so that it has one address for as
    /// long as the driver holds its clone, however often the driver itself moves.
    counter: AtomicU64,
}

impl Waker {
    /// A waker that belongs to no driver yet.
    pub fn new() -> Result<Self, StartError> {
        // Blocking on purpose: io_uring answers EAGAIN at once for a non-blocking file instead of waiting for it. A write
        // cannot block, because the counter never exceeds one.
        // SAFETY: eventfd takes two integers and touches no memory of ours.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(StartError::Ring { source: std::io::Error::last_os_error() });
        }
        // SAFETY: the descriptor was just created and nothing else knows it.
        let event = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(Self(Arc::new(Shared { event, pending: AtomicBool::new(false), counter: AtomicU64::new(0) })))
    }

    /// Makes the worker's present or next wait return. What was written to a mailbox before this call is visible to the
    /// worker after the [`Driver::reap`](super::Driver::reap) that follows the wait.
    pub fn wake(&self) {
        // A read-modify-write on both sides: if this swap finds a pending wake, the worker's own swap comes later in the
        // order of this variable and so sees everything written before this one.
        if self.0.pending.swap(true, Ordering::AcqRel) {
            return;
        }
        if (&self.0.event).write_all(&1u64.to_ne_bytes()).is_err() {
            // Not reachable with a live descriptor; the next wake tries anew instead of trusting one that never came.
            self.0.pending.store(false, Ordering::Release);
        }
    }

    /// The worker has seen the wake: the next one is written again.
    pub(super) fn acknowledge(&self) {
        self.0.pending.swap(false, Ordering::AcqRel);
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.event.as_raw_fd()
    }

    /// The eight bytes that the kernel may write to while a read is in flight.
    pub(super) fn counter(&self) -> *mut u8 {
        self.0.counter.as_ptr().cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn written(waker: &Waker) -> u64 {
        let mut counter = [0; 8];
        (&waker.0.event).read_exact(&mut counter).expect("an event is pending");
        u64::from_ne_bytes(counter)
    }

    #[test]
    fn wakes_before_the_worker_looks_cost_one_write() {
        let waker = Waker::new().expect("eventfd");
        for _ in 0..1000 {
            waker.clone().wake();
        }
        assert_eq!(written(&waker), 1);
    }

    #[test]
    fn a_wake_after_the_worker_looked_is_written_again() {
        let waker = Waker::new().expect("eventfd");
        waker.wake();
        waker.acknowledge();
        waker.wake();
        assert_eq!(written(&waker), 2);
    }
}
