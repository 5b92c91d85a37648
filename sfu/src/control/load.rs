//! Rounds of questions to the workers, and what their answers say about load.

use super::protocol::{WorkerIndex, WorkerLoad};
use crate::stats::WorkerSnapshot;
use std::time::{Duration, Instant};

/// A round that a worker has not answered for so long is closed without it. A turn of a worker's loop takes milliseconds even
/// under full load, so a worker without an answer hangs.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a round is for; one round may serve both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Signaling asked for the counters.
    Stats,
    /// Half a second went by.
    Load,
}

/// The workers' answers to one question, by worker.
#[derive(Debug)]
pub struct Round {
    begun: Instant,
    answers: Vec<Option<WorkerSnapshot>>,
    purposes: Vec<Purpose>,
}

impl Round {
    /// Nobody has answered yet.
    pub fn new(workers: usize) -> Round {
        Round { begun: Instant::now(), answers: vec![None; workers], purposes: Vec::new() }
    }

    /// The round also serves this.
    pub fn want(&mut self, purpose: Purpose) {
        if !self.is_wanted(purpose) {
            self.purposes.push(purpose);
        }
    }

    /// Whether the round serves this.
    pub fn is_wanted(&self, purpose: Purpose) -> bool {
        self.purposes.contains(&purpose)
    }

    /// A worker answered. One that does not run answers with zeros.
    pub fn answer(&mut self, worker: WorkerIndex, snapshot: WorkerSnapshot) {
        if let Some(answer) = self.answers.get_mut(usize::from(worker.0)) {
            *answer = Some(snapshot);
        }
    }

    /// Whether every worker answered.
    pub fn is_complete(&self) -> bool {
        self.answers.iter().all(Option::is_some)
    }

    /// Whether those who are missing will not answer any more.
    pub fn is_overdue(&self) -> bool {
        self.begun.elapsed() >= PATIENCE
    }

    /// The answers so far.
    pub fn answers(&self) -> &[Option<WorkerSnapshot>] {
        &self.answers
    }

    /// The answers of those who gave one.
    pub fn into_snapshots(self) -> Vec<WorkerSnapshot> {
        self.answers.into_iter().flatten().collect()
    }
}

/// What a worker had counted at the report before.
#[derive(Debug, Clone, Copy, Default)]
struct Before {
    busy_ns: u64,
    elapsed_ns: u64,
}

/// Makes loads of counters: their increase since the report before.
#[derive(Debug)]
pub struct LoadMeter {
    before: Vec<Before>,
}

impl LoadMeter {
    /// For so many workers, all of them new.
    pub fn new(workers: usize) -> LoadMeter {
        LoadMeter { before: vec![Before::default(); workers] }
    }

    /// The load of each worker since the last call.
    pub fn measure(&mut self, answers: &[Option<WorkerSnapshot>]) -> Vec<WorkerLoad> {
        let measured = self.before.iter_mut().zip(answers);
        measured.map(|(before, answer)| answer.as_ref().map_or(DOWN, |now| before.load_until(now))).collect()
    }
}

const DOWN: WorkerLoad = WorkerLoad { up: false, busy_ratio: 0.0, sessions: 0 };

impl Before {
    fn load_until(&mut self, now: &WorkerSnapshot) -> WorkerLoad {
        if now.elapsed_ns < self.elapsed_ns {
            // Started again since.
            *self = Before::default();
        }
        let elapsed = now.elapsed_ns - self.elapsed_ns;
        let busy = now.busy_ns.saturating_sub(self.busy_ns);
        *self = Before { busy_ns: now.busy_ns, elapsed_ns: now.elapsed_ns };
        if elapsed == 0 {
            return DOWN;
        }
        let busy_ratio = (busy as f64 / elapsed as f64).min(1.0);
        WorkerLoad { up: true, busy_ratio, sessions: now.publishers + now.viewers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(busy_ns: u64, elapsed_ns: u64) -> Option<WorkerSnapshot> {
        Some(WorkerSnapshot { busy_ns, elapsed_ns, publishers: 1, viewers: 2, ..WorkerSnapshot::default() })
    }

    fn up(busy_ratio: f64) -> WorkerLoad {
        WorkerLoad { up: true, busy_ratio, sessions: 3 }
    }

    #[test]
    fn the_load_is_that_of_the_time_since_the_last_report() {
        let mut meter = LoadMeter::new(1);
        assert_eq!(meter.measure(&[snapshot(500, 1_000)]), [up(0.5)]);
        assert_eq!(meter.measure(&[snapshot(1_400, 2_000)]), [up(0.9)]);
        assert_eq!(meter.measure(&[snapshot(1_400, 3_000)]), [up(0.0)]);
    }

    #[test]
    fn a_worker_that_started_again_is_measured_from_its_start() {
        let mut meter = LoadMeter::new(1);
        meter.measure(&[snapshot(9_000, 10_000)]);
        assert_eq!(meter.measure(&[snapshot(100, 1_000)]), [up(0.1)]);
    }

    #[test]
    fn a_worker_that_does_not_run_or_does_not_answer_is_down_and_the_others_are_not() {
        let mut meter = LoadMeter::new(3);
        let answers = [Some(WorkerSnapshot::default()), None, snapshot(1, 4)];
        assert_eq!(meter.measure(&answers), [DOWN, DOWN, up(0.25)]);
        assert_eq!(meter.measure(&[None, snapshot(3, 4), None]), [DOWN, up(0.75), DOWN]);
    }

    #[test]
    fn a_round_is_complete_when_all_have_answered_and_a_stranger_changes_nothing() {
        let mut round = Round::new(2);
        round.want(Purpose::Load);
        round.answer(WorkerIndex(0), WorkerSnapshot::default());
        round.answer(WorkerIndex(7), WorkerSnapshot::default());
        assert!(!round.is_complete() && !round.is_wanted(Purpose::Stats));
        round.answer(WorkerIndex(1), WorkerSnapshot::default());
        assert!(round.is_complete() && round.is_wanted(Purpose::Load));
        assert_eq!(round.into_snapshots().len(), 2);
    }
}
