//! What the figures were taken on.

use serde::{Deserialize, Serialize};
use std::fs;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// The head of every report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The CPU's own name.
    pub cpu: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// The core that the measuring thread was pinned to, if it could be.
    pub pinned_to: Option<usize>,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// What `uname -r` prints.
    pub kernel: String,
    /// When the run began, in UTC, RFC 3339.
    pub date: String,
    /// Of this tool and the code it measures.
    pub version: String,
    /// Tasks that wanted a CPU in the last minute (load average) when the run began; above 1 there was company.
    pub load: f64,
}

impl Machine {
    /// The machine as it is now, before the thread is pinned. What cannot be found out is empty or 0.
    pub fn look() -> Machine {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let memory_kib: u64 = value(&read("/proc/meminfo"), "MemTotal").parse().unwrap_or(0);
        let load = read("/proc/loadavg");
        Machine {
            cpu: value(&read("/proc/cpuinfo"), "model name"),
            cpus: thread::available_parallelism().map_or(0, usize::from),
            pinned_to: None,
            memory_mib: memory_kib / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            date: rfc3339(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())),
            version: env!("CARGO_PKG_VERSION").into(),
            load: load.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0),
        }
    }
}

/// Pins the calling thread to the last core, which gets the fewest interrupts on small machines; the core's number.
pub fn pin() -> Option<usize> {
    let core = core_affinity::get_core_ids()?.into_iter().max_by_key(|core| core.id)?;
    core_affinity::set_for_current(core).then_some(core.id)
}

/// The value of the first `name : value` line, without the unit `kB`.
fn value(text: &str, name: &str) -> String {
    let of = |line: &str| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().trim_end_matches(" kB").to_owned())
    };
    text.lines().find_map(of).unwrap_or_default()
}

/// Seconds since 1970 as a date (days to civil, after Howard Hinnant's public algorithm).
fn rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468; // days since 0000-03-01
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_around_leap_days_are_right() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_709_251_200), "2024-03-01T00:00:00Z");
        assert_eq!(rfc3339(1_767_225_599), "2025-12-31T23:59:59Z");
    }

    #[test]
    fn values_are_found_by_their_whole_name() {
        let text = "MemTotalX: 3 kB\nMemTotal:   24683412 kB\nmodel name\t: A CPU @ 2: fast\n";
        assert_eq!(value(text, "MemTotal"), "24683412");
        assert_eq!(value(text, "model name"), "A CPU @ 2: fast");
        assert_eq!(value(text, "nothing"), "");
    }

    #[test]
    fn this_machine_has_a_kernel_and_a_cpu() {
        let machine = Machine::look();
        assert!(machine.cpus > 0 && machine.memory_mib > 0 && !machine.kernel.is_empty());
    }
}
