//! What happens when while a step is measured: lines to tell, viewers that come and go, publishers that are
//! replaced.

use std::time::{Duration, Instant};

use crate::plan::Plan;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// A line of progress.
    Tell,
    /// A viewer leaves, another joins.
    Churn,
    /// A publisher is replaced.
    Swap,
}

/// The timetable, and how much of it was done.
pub struct Upheaval {
    end: Instant,
    /// What comes, its next time and its interval.
    turns: Vec<(Turn, Instant, Duration)>,
    /// Viewers that left.
    pub left: usize,
    /// Publishers that were replaced.
    pub swaps: usize,
}

impl Upheaval {
    /// For a window that began just now.
    pub fn new(plan: &Plan, began: Instant) -> Upheaval {
        let second = Some(Duration::from_secs(1));
        let all =
            [(Turn::Tell, second), (Turn::Churn, plan.churn_interval), (Turn::Swap, plan.swap_interval)];
        let turns = all.into_iter().filter_map(|(turn, interval)| Some((turn, began + interval?, interval?)));
        Upheaval { end: began + plan.measured, turns: turns.collect(), left: 0, swaps: 0 }
    }

    /// The next turn and its time; `None` when the window ends.
    pub fn next(&mut self) -> Option<(Turn, Instant)> {
        let (turn, at, interval) = self.turns.iter_mut().min_by_key(|(_, at, _)| *at)?;
        let due = *at;
        *at += *interval;
        (due <= self.end).then_some((*turn, due))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Args;

    #[test]
    fn turns_come_in_order_of_time_until_the_window_ends() {
        let line = "x --whip http://h/x --whep http://h/x --secs 2 --churn 2 --swap-every 1.2";
        let Ok(Ok(plan)) = Args::try_parse_from(line.split(' ')).map(Args::into_plan) else { unreachable!() };
        let began = Instant::now();
        let mut upheaval = Upheaval::new(&plan, began);
        let mut turns = Vec::new();
        while let Some((turn, at)) = upheaval.next() {
            turns.push((turn, (at - began).as_millis()));
        }
        let (tell, churn, swap) = (Turn::Tell, Turn::Churn, Turn::Swap);
        let expected = [
            (churn, 500),
            (tell, 1000),
            (churn, 1000),
            (swap, 1200),
            (churn, 1500),
            (tell, 2000),
            (churn, 2000),
        ];
        assert_eq!(turns, expected);
    }
}
