//! The submission and completion queues, with what is in flight counted.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, Submitter, cqueue, squeue};

use super::probe::ring_builder;
use super::user_data::Operation;

/// How long the end of cancelled operations is waited for, at most. Cancelling takes microseconds.
const CANCEL_PATIENCE: Duration = Duration::from_secs(1);
/// A longer wait ends early, as any wait may. The kernel counts in signed numbers and refuses those that overflow.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// The end of an operation, or one step of a multishot operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Completion {
    /// None if the value was never submitted by us.
    pub(super) operation: Option<Operation>,
    /// Bytes, or a negative errno.
    pub(super) result: i32,
    pub(super) flags: u32,
}

impl Completion {
    /// The operation goes on and will complete again.
    pub(super) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    fn is_send(&self) -> bool {
        matches!(self.operation, Some(Operation::Send(_)))
    }
}

pub(super) struct Ring {
    ring: IoUring,
    /// Operations pushed that have not ended.
    in_flight: usize,
    /// Completions that were passed over in the search for ended sends; they come first in [`Ring::next`].
    passed_over: VecDeque<Completion>,
    /// System calls made.
    pub(super) enters: u64,
}

impl Ring {
    /// A ring of the calling thread, which alone may use it. `completions_max` is how many completions can wait at most.
    pub(super) fn new(entries: u32, completions_max: u32) -> io::Result<Self> {
        let completions_max = completions_max.max(entries);
        let ring = ring_builder().setup_cqsize(completions_max).build(entries)?;
        let passed_over = VecDeque::with_capacity(completions_max as usize);
        Ok(Self { ring, in_flight: 0, passed_over, enters: 0 })
    }

    pub(super) fn submitter(&self) -> Submitter<'_> {
        self.ring.submitter()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The queue has no room before the next submission.
    pub(super) fn is_full(&mut self) -> bool {
        self.ring.submission().is_full()
    }

    /// Queues an operation, after a submission if the queue is full. False if it is full still.
    ///
    /// # Safety
    ///
    /// All memory that `entry` points to must stay valid, and writable where the kernel writes, until the operation has
    /// ended or the ring was drained with nothing left in flight.
    #[must_use]
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) -> bool {
        if self.is_full() {
            // An error leaves the queue full, which is what the push below finds.
            let _ = self.submit();
        }
        // SAFETY: the caller vouches for the entry's memory.
        let pushed = unsafe { self.ring.submission().push(entry) }.is_ok();
        self.in_flight += usize::from(pushed);
        pushed
    }

    /// Submits what is queued, without waiting.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        self.enters += 1;
        tolerate(self.ring.submit())
    }

    /// Submits what is queued and waits for one completion, at most `timeout`; one system call, or none if nothing is
    /// queued, nothing is due and there is no time to wait.
    pub(super) fn submit_and_wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let wait = self.passed_over.is_empty() && timeout != Some(Duration::ZERO);
        if !wait && !self.has_kernel_work() {
            return Ok(());
        }
        self.enters += 1;
        let timespec = timeout.map(|timeout| Timespec::from(timeout.min(LONGEST_WAIT)));
        let args = SubmitArgs::new();
        let args = timespec.as_ref().map_or(args, |timespec| args.timespec(timespec));
        tolerate(self.ring.submitter().submit_with_args(usize::from(wait), &args))
    }

    fn has_kernel_work(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// The next completion, if one is there. Makes no system call.
    pub(super) fn next(&mut self) -> Option<Completion> {
        let passed_over = self.passed_over.pop_front();
        passed_over.or_else(|| self.pop())
    }

    /// The next ended send, if one is there; completions before it are kept for [`Ring::next`].
    pub(super) fn next_send(&mut self) -> Option<Completion> {
        loop {
            let completion = self.pop()?;
            if completion.is_send() {
                return Some(completion);
            }
            self.passed_over.push_back(completion);
        }
    }

    fn pop(&mut self) -> Option<Completion> {
        let entry = self.ring.completion().next()?;
        let completion = Completion {
            operation: Operation::unpack(entry.user_data()),
            result: entry.result(),
            flags: entry.flags(),
        };
        self.in_flight -= usize::from(!completion.more());
        Some(completion)
    }

    /// Submits what is queued, cancels what does not end by itself, and waits until nothing is in flight. After a failure
    /// [`Ring::in_flight`] is not 0.
    pub(super) fn drain(&mut self) {
        let deadline = Instant::now() + CANCEL_PATIENCE;
        let drained = self.submit().and_then(|()| {
            // Not finding anything to cancel is no reason to stop: sends end by themselves.
            let _ = self
                .ring
                .submitter()
                .register_sync_cancel(Some(CANCEL_PATIENCE.into()), CancelBuilder::any());
            self.reap_all(deadline)
        });
        if let Err(error) = drained {
            tracing::warn!(%error, in_flight = self.in_flight, "a ring was closed with operations in flight");
        }
    }

    fn reap_all(&mut self, deadline: Instant) -> io::Result<()> {
        self.passed_over.clear();
        loop {
            while self.pop().is_some() {}
            let left = deadline.saturating_duration_since(Instant::now());
            if self.in_flight == 0 {
                return Ok(());
            }
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.submit_and_wait(Some(left))?;
        }
    }
}

/// Ends of a wait that are no failure: the time is over, a signal came, or the kernel wants completions reaped or memory
/// freed first. In each case the next turn of the loop tries again.
fn tolerate(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
            _ => Err(error),
        },
    }
}
