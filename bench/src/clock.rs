//! CPU time of the calling thread. Time that neighbours take from it does not count; time in the kernel on its behalf,
//! deliveries on the loopback interface among it, does.

use nix::time::{ClockId, clock_gettime};
use std::io;
use std::time::Duration;

/// Readings that the cost of one is taken from.
const CALIBRATION_READINGS: u32 = 2_000;

/// The thread's CPU clock, with the cost of looking at it.
#[derive(Debug, Clone, Copy)]
pub struct ThreadClock {
    read_cost: Duration,
}

impl ThreadClock {
    /// Checks that the clock works and measures what a reading costs; about a millisecond.
    pub fn calibrate() -> io::Result<ThreadClock> {
        let start = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?);
        (0..CALIBRATION_READINGS).for_each(|_| {
            std::hint::black_box(now());
        });
        Ok(ThreadClock { read_cost: now().saturating_sub(start) / CALIBRATION_READINGS })
    }

    /// What one reading costs; a timed span pays for one.
    pub fn read_cost(&self) -> Duration {
        self.read_cost
    }

    /// Runs `act` and says how much CPU time of this thread it took, the reading of the clock not counted.
    pub fn time<R>(&self, act: impl FnOnce() -> R) -> (Duration, R) {
        let start = now();
        let result = act();
        (now().saturating_sub(start).saturating_sub(self.read_cost), result)
    }
}

/// CPU time of this thread so far. [`ThreadClock::calibrate`] has seen that it can be read.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// CPU time in user space and in the kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// Outside the calls that enter the kernel.
    pub user: Duration,
    /// Inside them.
    pub kernel: Duration,
}

/// Splits a span: the total is measured from outside, the kernel's part around each call that enters it.
#[derive(Debug)]
pub struct Split {
    clock: ThreadClock,
    kernel: Duration,
    calls: u32,
}

impl Split {
    /// Measures what `act` takes; it gives its kernel calls to [`Split::kernel`].
    pub fn measure<E>(clock: ThreadClock, act: impl FnOnce(&mut Split) -> Result<(), E>) -> Result<Spent, E> {
        let mut split = Split { clock, kernel: Duration::ZERO, calls: 0 };
        let (total, result) = clock.time(|| act(&mut split));
        result?;
        // Each inner span read the clock twice and was itself charged for one reading at most.
        let overhead = clock.read_cost * 2 * split.calls;
        let user = total.saturating_sub(split.kernel).saturating_sub(overhead);
        Ok(Spent { user, kernel: split.kernel })
    }

    /// Runs a call that spends its time in the kernel.
    pub fn kernel<R>(&mut self, call: impl FnOnce() -> R) -> R {
        let (time, result) = self.clock.time(call);
        self.kernel += time;
        self.calls += 1;
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn burn(time: Duration) {
        let start = now();
        while now() - start < time {}
    }

    #[test]
    fn sleeping_costs_nothing_and_working_does() {
        let clock = ThreadClock::calibrate().expect("a clock");
        let (slept, ()) = clock.time(|| thread::sleep(Duration::from_millis(50)));
        let (worked, ()) = clock.time(|| burn(Duration::from_millis(20)));
        assert!(slept < Duration::from_millis(10), "{slept:?}");
        assert!((20..40).contains(&worked.as_millis()), "{worked:?}");
    }

    #[test]
    fn a_split_gives_each_side_its_own_time() {
        let clock = ThreadClock::calibrate().expect("a clock");
        let spent = Split::measure(clock, |split| {
            burn(Duration::from_millis(10));
            split.kernel(|| burn(Duration::from_millis(30)));
            Ok::<_, ()>(())
        })
        .expect("no error");
        assert!((10..20).contains(&spent.user.as_millis()), "{spent:?}");
        assert!((30..45).contains(&spent.kernel.as_millis()), "{spent:?}");
    }
}
