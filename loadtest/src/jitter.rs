//! Interarrival jitter (RFC 3550 section 6.4.1 and appendix A.8).

/// Follows one stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct Jitter {
    transit: Option<u32>,
    /// In units of the RTP clock, times 16.
    scaled: u32,
}

impl Jitter {
    /// A packet with RTP time stamp `time` came at `arrived_us`; `clock_rate` is per second.
    pub fn packet(&mut self, time: u32, arrived_us: u64, clock_rate: u32) {
        // Clock rates of media are whole kilohertz; modulo 2^32, as RTP time is.
        let transit = ((arrived_us * u64::from(clock_rate / 1000) / 1000) as u32).wrapping_sub(time);
        if let Some(before) = self.transit.replace(transit) {
            let difference = (transit.wrapping_sub(before) as i32).unsigned_abs().min(1 << 24);
            self.scaled = self.scaled + difference - ((self.scaled + 8) >> 4);
        }
    }

    /// In units of the RTP clock, as in receiver reports.
    pub fn units(&self) -> u32 {
        self.scaled >> 4
    }

    /// Microseconds.
    pub fn micros(&self, clock_rate: u32) -> u64 {
        u64::from(self.scaled) * 1_000_000 / (u64::from(clock_rate) * 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_stream_has_none_and_one_that_sways_by_10_ms_has_that() {
        let run = |sway: u64| {
            let mut jitter = Jitter::default();
            for i in 0..2000 {
                jitter.packet(
                    i * 3000,
                    1_800_000_000_000_000 + u64::from(i) * 100_000 / 3 + u64::from(i % 2) * sway,
                    90_000,
                );
            }
            jitter.micros(90_000)
        };
        assert!(run(0) < 100, "{}", run(0));
        assert!((9_500..10_500).contains(&run(10_000)), "{}", run(10_000));
    }
}
