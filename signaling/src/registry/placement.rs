//! Which worker gets the next session: the one with the lowest expected load.
//!
//! Media reports every worker's load twice a second. What was placed since is not in the report yet, so it is added as an
//! estimate; the next report replaces it. A worker near its limit gets nothing more: a stream that stutters for everybody is
//! worse than a join that is refused and tried again elsewhere.

use super::Refusal;
use sfu::config::SESSIONS_MAX;
use sfu::control::protocol::{WorkerIndex, WorkerLoad};

/// Expected load from which a worker gets no more sessions. Its work comes in bursts, one a frame: at 30 frames/s and 0.85 the
/// last viewer's packet leaves 28 ms after the first one's, just before the next frame. The rest is for key frames,
/// retransmissions and joins.
const SATURATED: f64 = 0.85;
/// Least estimate of a session's cost: the 340 packets/s of a 2.5 Mbit/s stream with audio (`uringcast-loadtest` says so) at
/// some 1.2 µs each (`bench egress`).
const SESSION_COST_MIN: f64 = 0.0004;
/// Highest estimate of a session's cost: 500 viewers to a core. A worker with few sessions spends its time on publishers and
/// joins, which must not pass for the price of a viewer.
const SESSION_COST_MAX: f64 = 0.002;
/// Loads that differ by less are equal, and numbers of sessions decide: half a second of an idle worker varies by this much.
const TIE: f64 = 0.05;
/// The load that lasts is the lowest of so many reports, two seconds. A join costs a millisecond of handshake once, so the
/// thousand viewers who come when a show begins make a worker busy for a second, and that must not turn them away; nor must
/// the start of a worker, which has fewer reports behind it.
const STEADY_REPORTS: usize = 4;
/// A worker that was saturated in so many reports in a row, one second, is passed over while there are others.
const BUSY_REPORTS: usize = 2;

/// What placement knows of a worker.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Worker {
    /// Sessions on it, those still being created included.
    pub sessions: usize,
    /// It does not run or does not answer. Having nothing to do, it would look like the best of all.
    pub down: bool,
    /// The last reports' busy ratios, the newest last.
    busy: Vec<f64>,
    /// Sessions in the last report.
    reported: u64,
    /// Sessions placed since the last report, and between that and the one before. These have joined during a part of
    /// the reported time at most.
    placed: [usize; 2],
}

impl Worker {
    /// A session is being created on it.
    pub fn place(&mut self) {
        self.sessions += 1;
        self.placed[0] += 1;
    }

    /// A session that was placed on it could not be created.
    pub fn take_back(&mut self) {
        self.sessions = self.sessions.saturating_sub(1);
        if let Some(placed) = self.placed.iter_mut().find(|placed| **placed > 0) {
            *placed -= 1;
        }
    }

    /// Media reported.
    pub fn report(&mut self, load: WorkerLoad) {
        self.down = !load.up;
        self.placed = [0, self.placed[0]];
        if self.down {
            self.busy.clear();
            return;
        }
        if self.busy.len() == STEADY_REPORTS {
            self.busy.remove(0);
        }
        self.busy.push(load.busy_ratio);
        self.reported = load.sessions;
    }

    /// The load that lasts. One report alone is noise: on a busy host it doubles and halves.
    fn lasting(&self) -> f64 {
        self.busy.iter().copied().reduce(f64::min).unwrap_or(0.0)
    }

    /// The load of sessions that the reports do not show yet.
    fn to_come(&self) -> f64 {
        let cost = (self.lasting() / self.reported.max(1) as f64).clamp(SESSION_COST_MIN, SESSION_COST_MAX);
        cost * self.placed.iter().sum::<usize>() as f64
    }

    /// The load that lasts, and of what is to come.
    fn expected(&self) -> f64 {
        self.lasting() + self.to_come()
    }

    /// What reports do not show yet, for want of their number, is not held against it.
    fn is_saturated(&self) -> bool {
        let lasting = if self.busy.len() == STEADY_REPORTS { self.lasting() } else { 0.0 };
        lasting + self.to_come() >= SATURATED
    }

    fn is_busy_now(&self) -> bool {
        let busy = self.busy.iter().rev().take_while(|ratio| **ratio >= SATURATED);
        busy.count() >= BUSY_REPORTS
    }

    fn has_slot(&self) -> bool {
        !self.down && self.sessions < SESSIONS_MAX
    }
}

/// Of the workers that are not saturated the one with the lowest expected load; of equal ones that with the fewest sessions,
/// and of those the first from `next` on, so that all get their turn.
///
/// # Errors
/// None has a free slot, or each that has is saturated.
pub fn choose(workers: &[Worker], next: usize) -> Result<WorkerIndex, Refusal> {
    if !workers.iter().any(Worker::has_slot) {
        return Err(Refusal::Full);
    }
    let open = |worker: &Worker| worker.has_slot() && !worker.is_saturated();
    let all_busy = !workers.iter().any(|worker| open(worker) && !worker.is_busy_now());
    let with_room = || {
        let numbered = workers.iter().enumerate();
        numbered.filter(|(_, worker)| open(worker) && (all_busy || !worker.is_busy_now()))
    };
    let lowest = with_room().map(|(_, worker)| worker.expected()).reduce(f64::min);
    let highest = lowest.ok_or(Refusal::Saturated)? + TIE;
    let equal = with_room().filter(|(_, worker)| worker.expected() < highest);
    let turn = |index: usize| (index + workers.len() - next % workers.len()) % workers.len();
    let best = equal.min_by_key(|(index, worker)| (worker.sessions, turn(*index)));
    let best = best.and_then(|(index, _)| u16::try_from(index).ok());
    best.map(WorkerIndex).ok_or(Refusal::Saturated)
}

/// The worker that a client has been told of already, while it has a free slot.
///
/// # Errors
/// It has none.
pub fn check(workers: &[Worker], wanted: WorkerIndex) -> Result<WorkerIndex, Refusal> {
    let found = workers.get(usize::from(wanted.0)).filter(|worker| worker.has_slot());
    found.map(|_| wanted).ok_or(Refusal::Full)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(sessions: usize, busy_ratio: f64) -> Worker {
        let mut worker = Worker { sessions, ..Worker::default() };
        let report = WorkerLoad { up: true, busy_ratio, sessions: sessions as u64 };
        (0..STEADY_REPORTS).for_each(|_| worker.report(report));
        worker
    }

    /// Places `joins` sessions and says how many each worker got, and how many were refused.
    fn join(workers: &mut [Worker], joins: usize) -> (Vec<usize>, usize) {
        let (mut got, mut refused, mut next) = (vec![0; workers.len()], 0, 0);
        for _ in 0..joins {
            match choose(workers, next) {
                Ok(WorkerIndex(index)) => {
                    let index = usize::from(index);
                    workers[index].place();
                    (got[index], next) = (got[index] + 1, index + 1);
                }
                Err(_) => refused += 1,
            }
        }
        (got, refused)
    }

    #[test]
    fn equal_workers_take_turns() {
        let mut workers = [load(7, 0.11), load(7, 0.1), load(7, 0.13)];
        assert_eq!(join(&mut workers, 300), (vec![100, 100, 100], 0));
    }

    #[test]
    fn the_worker_with_the_lowest_load_comes_first_and_not_the_one_with_the_fewest_sessions() {
        let workers = [load(10, 0.7), load(200, 0.2)];
        assert_eq!(choose(&workers, 0), Ok(WorkerIndex(1)));
    }

    #[test]
    fn a_storm_before_the_next_report_does_not_all_go_to_the_idlest_worker() {
        let mut workers = [load(100, 0.1), load(100, 0.2)];
        let (got, refused) = join(&mut workers, 500);
        assert_eq!(refused, 0);
        assert!(got[0] > got[1] && got[1] >= 150, "{got:?}");
    }

    #[test]
    fn a_storm_ends_where_the_estimate_says_that_the_worker_is_full() {
        let mut workers = [load(400, 0.8)];
        let (got, refused) = join(&mut workers, 1000);
        assert_eq!((got[0], refused), (25, 975), "0.05 of room at 0.002 each");
        assert_eq!(choose(&workers, 0), Err(Refusal::Saturated));
    }

    #[test]
    fn what_was_placed_counts_until_two_reports_have_seen_it() {
        let mut workers = [load(400, 0.8)];
        join(&mut workers, 25);
        let report = WorkerLoad { up: true, busy_ratio: 0.8, sessions: 400 };
        workers[0].report(report);
        assert_eq!(choose(&workers, 0), Err(Refusal::Saturated));
        workers[0].report(report);
        assert_eq!(choose(&workers, 0), Ok(WorkerIndex(0)));
    }

    #[test]
    fn a_short_burst_turns_nobody_away_and_a_load_that_stays_does() {
        let mut workers = [load(300, 0.3)];
        for _ in 1..STEADY_REPORTS {
            workers[0].report(WorkerLoad { up: true, busy_ratio: 1.0, sessions: 300 });
            assert_eq!(choose(&workers, 0), Ok(WorkerIndex(0)));
        }
        workers[0].report(WorkerLoad { up: true, busy_ratio: 1.0, sessions: 300 });
        assert_eq!(choose(&workers, 0), Err(Refusal::Saturated));
        workers[0].report(WorkerLoad { up: true, busy_ratio: 0.5, sessions: 300 });
        assert_eq!(choose(&workers, 0), Ok(WorkerIndex(0)), "one good report is enough");
    }

    #[test]
    fn a_worker_that_just_started_is_not_taken_for_saturated() {
        let mut worker = Worker::default();
        for _ in 1..STEADY_REPORTS {
            worker.report(WorkerLoad { up: true, busy_ratio: 0.99, sessions: 0 });
            assert_eq!(choose(std::slice::from_ref(&worker), 0), Ok(WorkerIndex(0)));
        }
    }

    #[test]
    fn a_worker_that_is_busy_just_now_is_passed_over_while_another_has_room() {
        let mut workers = [load(300, 0.3), load(300, 0.5)];
        for _ in 0..BUSY_REPORTS {
            workers[0].report(WorkerLoad { up: true, busy_ratio: 0.95, sessions: 300 });
        }
        assert_eq!(join(&mut workers, 100), (vec![0, 100], 0));
    }

    #[test]
    fn one_noisy_report_does_not_send_a_storm_to_the_other_worker() {
        let mut workers = [load(300, 0.2), load(300, 0.2)];
        workers[0].report(WorkerLoad { up: true, busy_ratio: 0.9, sessions: 300 });
        assert_eq!(join(&mut workers, 200), (vec![100, 100], 0));
    }

    #[test]
    fn a_publisher_alone_does_not_make_viewers_look_dear() {
        let mut workers = [load(1, 0.1)];
        assert_eq!(join(&mut workers, 300).1, 0);
    }

    #[test]
    fn full_workers_and_those_that_are_down_get_nothing() {
        assert_eq!(choose(&[load(SESSIONS_MAX, 0.0), load(5, 0.8)], 0), Ok(WorkerIndex(1)));
        assert_eq!(choose(&[load(SESSIONS_MAX, 0.0)], 0), Err(Refusal::Full));
        assert_eq!(choose(&[], 0), Err(Refusal::Full));
        let mut down = load(0, 0.0);
        down.report(WorkerLoad::default());
        assert_eq!(choose(&[down, load(5, 0.8)], 0), Ok(WorkerIndex(1)));
    }

    #[test]
    fn a_session_that_failed_leaves_no_trace() {
        let mut worker = load(3, 0.2);
        let before = worker.clone();
        worker.place();
        worker.take_back();
        assert_eq!(worker, before);
    }
}
