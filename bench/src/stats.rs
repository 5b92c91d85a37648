//! Medians with spread, and ratios within one run.

use serde::{Deserialize, Serialize};

/// The middle of several samples and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Half of the samples are below.
    pub median: f64,
    /// A quarter of the samples is below.
    pub low: f64,
    /// A quarter of the samples is above.
    pub high: f64,
}

impl Figure {
    /// The quartiles of `samples`; all zero if there are none.
    pub fn of(samples: &[f64]) -> Figure {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |part| quantile(&sorted, part);
        Figure { median: at(0.5), low: at(0.25), high: at(0.75) }
    }

    /// How many times `over` each sample is, pair by pair: what disturbs a round of a run disturbs both.
    pub fn ratio(samples: &[f64], over: &[f64]) -> Figure {
        let ratios = samples.iter().zip(over).filter(|(_, over)| **over > 0.0);
        Figure::of(&ratios.map(|(sample, over)| sample / over).collect::<Vec<_>>())
    }

    /// The distance between the quartiles, in parts of the median.
    pub fn spread(&self) -> f64 {
        if self.median > 0.0 { (self.high - self.low) / self.median } else { 0.0 }
    }
}

/// Linear between the two nearest samples.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = part * last as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let figure = Figure::of(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!((figure.low, figure.median, figure.high), (1.75, 2.5, 3.25));
    }

    #[test]
    fn one_wild_sample_does_not_move_the_figure() {
        let figure = Figure::of(&[10.0, 11.0, 9.0, 10.0, 1e9]);
        assert_eq!((figure.low, figure.median, figure.high), (10.0, 10.0, 11.0));
        assert_eq!(figure.spread(), 0.1);
    }

    #[test]
    fn one_sample_has_no_spread_and_none_is_zero() {
        assert_eq!(Figure::of(&[7.0]), Figure { median: 7.0, low: 7.0, high: 7.0 });
        assert_eq!(Figure::of(&[]), Figure { median: 0.0, low: 0.0, high: 0.0 });
    }

    #[test]
    fn a_ratio_is_taken_pair_by_pair() {
        // The machine was slowed threefold in the second round; the ratio does not see it.
        let ratio = Figure::ratio(&[20.0, 60.0, 20.0], &[10.0, 30.0, 10.0]);
        assert_eq!(ratio, Figure { median: 2.0, low: 2.0, high: 2.0 });
        assert_eq!(Figure::ratio(&[1.0], &[0.0]).median, 0.0);
    }
}
