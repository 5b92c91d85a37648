//! Which worker gets the next session.

use sfu::config::SESSIONS_MAX;
use sfu::control::protocol::WorkerIndex;

/// What placement knows of a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct WorkerLoad {
    /// Sessions on it, those still being created included.
    pub sessions: usize,
    /// Share of the last second that it worked, 0–1.
    pub busy_ratio: f64,
    /// It does not run. Having nothing to do, it would look like the best of all.
    pub down: bool,
}

/// The least loaded worker that runs and has a free slot.
///
/// The busy ratio is a second old, so it alone would send a whole storm of joins to one worker. The share of sessions
/// is exact. Their sum lets sessions differ between workers by as much as their costs differ.
pub fn least_loaded(workers: &[WorkerLoad]) -> Option<WorkerIndex> {
    let most = workers.iter().map(|worker| worker.sessions).max().unwrap_or(0).max(1);
    let score = |worker: &WorkerLoad| worker.sessions as f64 / most as f64 + worker.busy_ratio;
    let free =
        workers.iter().enumerate().filter(|(_, worker)| !worker.down && worker.sessions < SESSIONS_MAX);
    let best = free.min_by(|(_, a), (_, b)| score(a).total_cmp(&score(b)))?;
    u16::try_from(best.0).ok().map(WorkerIndex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(sessions: usize, busy_ratio: f64) -> WorkerLoad {
        WorkerLoad { sessions, busy_ratio, down: false }
    }

    #[test]
    fn a_storm_between_two_reports_spreads_evenly() {
        let mut workers = [load(0, 0.1), load(0, 0.1), load(0, 0.1)];
        for _ in 0..300 {
            let WorkerIndex(index) = least_loaded(&workers).expect("worker");
            workers[usize::from(index)].sessions += 1;
        }
        assert!(workers.iter().all(|worker| worker.sessions == 100), "{workers:?}");
    }

    #[test]
    fn a_busier_worker_gets_fewer_sessions() {
        assert_eq!(least_loaded(&[load(100, 0.9), load(100, 0.2)]), Some(WorkerIndex(1)));
        assert_eq!(least_loaded(&[load(90, 0.9), load(100, 0.2)]), Some(WorkerIndex(1)));
        assert_eq!(least_loaded(&[load(20, 0.9), load(100, 0.2)]), Some(WorkerIndex(0)));
    }

    #[test]
    fn full_workers_get_nothing() {
        assert_eq!(least_loaded(&[load(SESSIONS_MAX, 0.0), load(5, 1.0)]), Some(WorkerIndex(1)));
        assert_eq!(least_loaded(&[load(SESSIONS_MAX, 0.0)]), None);
        assert_eq!(least_loaded(&[]), None);
    }
}
