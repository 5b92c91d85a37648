//! Latencies by logarithmic bucket: fixed memory, any count, under 1 % error.

/// Buckets per doubling; the middle of a bucket is at most 1/128 off.
const PER_OCTAVE_BITS: u32 = 6;
const PER_OCTAVE: u64 = 1 << PER_OCTAVE_BITS;
/// Covers 1 µs to 2^32 µs (over an hour).
const BUCKETS: usize = (PER_OCTAVE as usize) * (32 - PER_OCTAVE_BITS as usize + 1);

/// Microseconds, counted.
#[derive(Clone)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: vec![0; BUCKETS], count: 0, max: 0 }
    }
}

impl Histogram {
    /// Counts one value in microseconds.
    pub fn record(&mut self, micros: u64) {
        self.buckets[bucket_of(micros)] += 1;
        self.count += 1;
        self.max = self.max.max(micros);
    }

    /// Adds everything that `other` counted.
    pub fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The largest value, exact; 0 if there is none.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value that `share` (0 to 1) of all values are at or below; `None` if there is none.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let rank = ((share * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(middle_of(bucket).min(self.max))
    }
}

fn bucket_of(micros: u64) -> usize {
    let micros = micros.min(u64::from(u32::MAX));
    if micros < PER_OCTAVE {
        return micros as usize;
    }
    let octave = micros.ilog2() - PER_OCTAVE_BITS;
    let within = (micros >> octave) - PER_OCTAVE;
    ((u64::from(octave) + 1) * PER_OCTAVE + within) as usize
}

fn middle_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < PER_OCTAVE {
        return bucket;
    }
    let octave = bucket / PER_OCTAVE - 1;
    let low = (PER_OCTAVE + bucket % PER_OCTAVE) << octave;
    low + (1 << octave) / 2
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn quantiles_are_within_one_percent() {
        let mut histogram = Histogram::default();
        (1..=100_000).for_each(|micros| histogram.record(micros));
        for (share, expected) in [(0.5, 50_000.0), (0.95, 95_000.0), (0.99, 99_000.0)] {
            let got = histogram.quantile(share).unwrap() as f64;
            assert!((got / expected - 1.0).abs() < 0.01, "{share}: {got}");
        }
        assert_eq!(histogram.max(), 100_000);
    }

    #[test]
    fn every_value_finds_a_bucket_near_it() {
        for shift in 0..40 {
            let micros = 1u64 << shift;
            let near = middle_of(bucket_of(micros)) as f64;
            let kept = micros.min(u64::from(u32::MAX)) as f64;
            assert!((near / kept - 1.0).abs() < 0.016, "{micros} lands at {near}");
        }
    }

    #[test]
    fn an_empty_one_has_no_quantile_and_merging_adds() {
        let mut left = Histogram::default();
        assert_eq!(left.quantile(0.5), None);
        let mut right = Histogram::default();
        right.record(7);
        left.merge(&right);
        assert_eq!((left.count(), left.quantile(0.5), left.max()), (1, Some(7), 7));
    }
}
