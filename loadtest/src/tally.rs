//! Who has joined, who has not and why: the outcomes of all joins so far.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::joining::{Id, JoinTimes, Outcome};
use crate::report::{Joins, quantile_ms};

/// How soon an interrupt is noticed.
const NOTICE: Duration = Duration::from_millis(100);

/// Outcomes of one wave of joins.
#[derive(Default)]
pub struct Tally {
    interrupted: Arc<AtomicBool>,
    /// Publishers that joined.
    published: usize,
    /// Viewers that did.
    joined: Vec<JoinTimes>,
    failed: BTreeMap<String, usize>,
    first_failure: Option<String>,
    publisher_failure: Option<String>,
    lost: usize,
}

impl Tally {
    /// Nothing counted; `interrupted` ends all listening when it becomes true.
    pub fn new(interrupted: &Arc<AtomicBool>) -> Tally {
        Tally { interrupted: interrupted.clone(), ..Tally::default() }
    }

    /// Forgets everything counted so far.
    pub fn begin(&mut self) {
        let publisher_failure = self.publisher_failure.take();
        *self = Tally { publisher_failure, ..Tally::new(&self.interrupted) };
    }

    /// Takes outcomes until `until`, or until `settled` of them are in, or until the user interrupts.
    pub fn listen(&mut self, outcomes: &Receiver<Outcome>, settled: usize, until: Instant) {
        while self.settled() < settled && !self.is_interrupted() {
            let left = until.saturating_duration_since(Instant::now());
            match outcomes.recv_timeout(left.min(NOTICE)) {
                Ok(outcome) => self.count(outcome),
                Err(RecvTimeoutError::Timeout) if left > NOTICE => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Takes outcomes for this long.
    pub fn listen_for(&mut self, outcomes: &Receiver<Outcome>, time: Duration) {
        self.listen(outcomes, usize::MAX, Instant::now() + time);
    }

    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Joined(Id::Publisher(_), _) => self.published += 1,
            Outcome::Joined(Id::Viewer(_), times) => self.joined.push(times),
            Outcome::Failed(id, failure) => {
                *self.failed.entry(failure.cause()).or_default() += 1;
                self.first_failure.get_or_insert_with(|| failure.to_string());
                if let Id::Publisher(index) = id {
                    self.publisher_failure
                        .get_or_insert_with(|| format!("publisher {}: {failure}", index + 1));
                }
            }
            Outcome::Lost(Id::Publisher(index)) => {
                let text = format!("publisher {}: the server closed its connection", index + 1);
                self.publisher_failure.get_or_insert(text);
            }
            Outcome::Lost(Id::Viewer(_)) => self.lost += 1,
        }
    }

    /// Joins that are decided.
    pub fn settled(&self) -> usize {
        self.published + self.joined.len() + self.failed()
    }

    /// Viewers that joined.
    pub fn joined(&self) -> usize {
        self.joined.len()
    }

    pub fn failed(&self) -> usize {
        self.failed.values().sum()
    }

    /// Viewers that had joined and are gone.
    pub fn lost(&self) -> usize {
        self.lost
    }

    /// The first failure of any kind, in words.
    pub fn first_failure(&self) -> Option<&str> {
        self.first_failure.as_deref()
    }

    /// What ends the run, if anything does: a publisher that failed, or the user.
    pub fn stop_reason(&self) -> Option<&str> {
        let interrupted = self.is_interrupted().then_some("interrupted");
        self.publisher_failure.as_deref().or(interrupted)
    }

    /// For the report.
    pub fn joins(&self) -> Joins {
        let ms = |of: fn(&JoinTimes) -> Option<Duration>, share| {
            quantile_ms(&mut self.joined.iter().filter_map(of).collect::<Vec<_>>(), share)
        };
        Joins {
            ok: self.joined(),
            failed: self.failed(),
            failed_by_cause: self.failed.clone(),
            answer_ms: ms(|times| Some(times.answered), 0.5),
            connected_ms: ms(|times| Some(times.connected), 0.5),
            first_rtp_ms: ms(|times| times.first_rtp, 0.5),
            first_rtp_p95_ms: ms(|times| times.first_rtp, 0.95),
            first_rtp_p99_ms: ms(|times| times.first_rtp, 0.99),
            first_key_frame_ms: ms(|times| times.first_key_frame, 0.5),
            first_key_frame_p95_ms: ms(|times| times.first_key_frame, 0.95),
            first_key_frame_p99_ms: ms(|times| times.first_key_frame, 0.99),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::failure::Failure;

    #[test]
    fn outcomes_are_counted_by_cause_and_publishers_remembered_across_waves() {
        let (tell, outcomes) = mpsc::channel();
        let mut tally = Tally::default();
        let send = |outcome| tell.send(outcome).is_ok();
        assert!(send(Outcome::Joined(Id::Viewer(0), JoinTimes::default())));
        assert!(send(Outcome::Failed(Id::Viewer(1), Failure::Ice)));
        assert!(send(Outcome::Failed(Id::Viewer(2), Failure::Ice)));
        assert!(send(Outcome::Lost(Id::Publisher(0))));
        tally.listen_for(&outcomes, Duration::from_millis(20));
        assert_eq!((tally.joined(), tally.failed(), tally.joins().failed_by_cause["ice"]), (1, 2, 2));
        tally.begin();
        assert_eq!(tally.settled(), 0);
        assert_eq!(tally.stop_reason(), Some("publisher 1: the server closed its connection"));
    }

    #[test]
    fn an_interrupt_ends_listening_at_once_and_is_the_reason() {
        let (_tell, outcomes) = mpsc::channel();
        let mut tally = Tally::new(&Arc::new(AtomicBool::new(true)));
        tally.begin();
        let before = Instant::now();
        tally.listen_for(&outcomes, Duration::from_secs(60));
        assert!(before.elapsed() < Duration::from_secs(5));
        assert_eq!(tally.stop_reason(), Some("interrupted"));
    }

    #[test]
    fn listening_ends_when_enough_is_settled() {
        let (tell, outcomes) = mpsc::channel();
        assert!(tell.send(Outcome::Joined(Id::Viewer(0), JoinTimes::default())).is_ok());
        let before = Instant::now();
        Tally::default().listen(&outcomes, 1, before + Duration::from_secs(60));
        assert!(before.elapsed() < Duration::from_secs(5));
    }
}
