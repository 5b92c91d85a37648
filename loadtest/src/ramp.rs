//! A ramp: twice as many viewers, step by step, until something breaks.

use crate::plan::Plan;
use crate::report::{Ramp, Step};

/// A ramp ends here at the latest: one address has hardly more ports.
const VIEWERS_MAX: usize = 32_768;

/// Viewers of the step after `step`; `None` if it broke.
pub fn next(plan: &Plan, step: &Step) -> Option<usize> {
    (reasons(plan, step).is_empty() && step.viewers < VIEWERS_MAX).then_some(step.viewers * 2)
}

/// How far it came; `ended` is what ended the run before its time.
pub fn outcome(plan: &Plan, steps: &[Step], ended: Option<&str>) -> Ramp {
    let broken = steps.iter().find(|step| !reasons(plan, step).is_empty());
    let held = steps.iter().filter(|step| reasons(plan, step).is_empty()).map(|step| step.viewers).max();
    let mut why = broken.map_or(Vec::new(), |step| reasons(plan, step));
    why.extend(ended.map(String::from));
    Ramp { held: held.unwrap_or(0), broke: broken.map(|step| step.viewers), reasons: why }
}

/// Why the step did not hold; nothing if it did.
fn reasons(plan: &Plan, step: &Step) -> Vec<String> {
    let missed = plan.bars.iter().filter_map(|bar| bar.missed_by(step));
    let lost =
        (step.viewers_lost > 0).then(|| format!("{} viewers lost their connection", step.viewers_lost));
    let limits =
        step.generator.reasons.iter().map(|reason| format!("the generator, not the server: {reason}"));
    missed.chain(lost).chain(limits).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use clap::Parser;

    use super::*;
    use crate::args::Args;

    #[test]
    fn it_doubles_until_a_bar_is_missed_and_names_the_largest_step_that_held() {
        let line = "x --whep http://h/x --ramp --viewers 10 --require loss<0.1%";
        let plan = Args::try_parse_from(line.split(' ')).unwrap().into_plan().unwrap();
        let step = |viewers, lost| Step { viewers, lost_pct: Some(lost), ..Step::default() };
        let steps = [step(10, 0.0), step(20, 0.05), step(40, 0.5)];
        let nexts: Vec<_> = steps.iter().map(|step| next(&plan, step)).collect();
        assert_eq!(nexts, [Some(20), Some(40), None]);
        let ramp = outcome(&plan, &steps, None);
        assert_eq!((ramp.held, ramp.broke), (20, Some(40)));
        assert!(ramp.reasons[0].contains("loss<0.1%"), "{ramp:?}");
    }
}
