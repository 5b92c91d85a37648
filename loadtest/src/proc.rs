//! What `/proc` says about the server under test and about our own sockets.

use std::collections::HashSet;
use std::fs;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// CPU time and memory of the watched processes at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time of all threads, ended ones too, nanoseconds; steps of 10 ms.
    pub cpu_ns: u64,
    /// Resident memory, KiB.
    pub rss_kib: u64,
}

/// Linux reports CPU time in these to every program, whatever the kernel's own tick is.
const NS_PER_TICK: u64 = 10_000_000;
/// Of `/proc/PID/stat` after the command name: utime and stime (proc_pid_stat(5), fields 14 and 15).
const UTIME: usize = 11;

/// Sums over the processes; an error names the one that cannot be read.
pub fn usage(pids: &[u32]) -> Result<Usage, String> {
    let mut sum = Usage::default();
    for pid in pids {
        let unreadable = |_| format!("process {pid} (--pid) is gone or cannot be read");
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(unreadable)?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(unreadable)?;
        sum.cpu_ns += cpu_ticks(&stat).ok_or(format!("/proc/{pid}/stat has an unknown form"))? * NS_PER_TICK;
        // A zombie has no VmRSS: it uses none.
        sum.rss_kib += rss_kib(&status).unwrap_or(0);
    }
    Ok(sum)
}

/// Raises this process's limit of open files as far as it may go, since each peer has a socket; returns the
/// limit.
pub fn raise_open_files() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return Some(hard);
    }
    Some(soft)
}

/// CPU time of the whole machine since boot, in ticks of all cores together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MachineTime {
    busy: u64,
    total: u64,
}

impl MachineTime {
    /// Reads `/proc/stat`; zero where there is none.
    pub fn now() -> MachineTime {
        fs::read_to_string("/proc/stat").ok().and_then(|stat| machine_time(&stat)).unwrap_or_default()
    }

    /// Percent of all cores that were busy since `before`; 0 if no time has passed.
    pub fn busy_pct_since(self, before: MachineTime) -> f64 {
        let total = self.total.saturating_sub(before.total).max(1);
        self.busy.saturating_sub(before.busy) as f64 * 100.0 / total as f64
    }
}

/// First line of `/proc/stat` (proc_stat(5)): user, nice, system, idle, iowait, irq, softirq, steal; the
/// guest times after them are in user and nice already.
fn machine_time(stat: &str) -> Option<MachineTime> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let total = ticks.iter().sum();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some(MachineTime { busy: total - idle, total })
}

/// Receive-buffer overruns of this machine's UDP sockets on the given local ports.
pub fn udp_drops(ports: &HashSet<u16>) -> u64 {
    let tables = ["/proc/net/udp", "/proc/net/udp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines()).filter_map(|line| drops_of_line(line, ports)).sum()
}

fn cpu_ticks(stat: &str) -> Option<u64> {
    // The command name may hold spaces and parentheses, but the last one is its end.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(UTIME);
    Some(times.next()?.parse::<u64>().ok()? + times.next()?.parse::<u64>().ok()?)
}

fn rss_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn drops_of_line(line: &str, ports: &HashSet<u16>) -> Option<u64> {
    let local = line.split_whitespace().nth(1)?;
    let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
    ports.contains(&port).then(|| line.split_whitespace().last()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn cpu_time_is_read_past_an_odd_command_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 4 0 9 1 2";
        assert_eq!(cpu_ticks(stat), Some(168));
    }

    #[test]
    fn the_limit_of_open_files_is_raised_to_the_hard_one() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(raise_open_files(), Some(hard));
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap().0, hard);
    }

    #[test]
    fn the_machine_is_as_busy_as_its_ticks_say() {
        let before = machine_time("cpu  100 0 100 800 0 0 0 0 50 0\ncpu0 1").unwrap();
        let after = machine_time("cpu  140 0 120 820 10 0 0 10 70 0\n").unwrap();
        assert_eq!(after.busy_pct_since(before), 70.0);
        assert_eq!(after.busy_pct_since(after), 0.0);
        assert!(MachineTime::now().total > 0);
    }

    #[test]
    fn our_own_process_uses_cpu_and_memory() {
        let spin = std::time::Instant::now();
        let mut sum = 0u64;
        while spin.elapsed().as_millis() < 60 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let usage = usage(&[std::process::id()]).unwrap();
        assert!(usage.cpu_ns >= NS_PER_TICK && usage.rss_kib > 100, "{usage:?}");
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        assert!(usage(&[u32::MAX]).unwrap_err().contains(&u32::MAX.to_string()));
    }

    #[test]
    fn drops_are_summed_over_our_ports_only() {
        let line =
            |port: &str, drops| format!(" 7: 0100007F:{port} 00000000:0000 07 0:0 00:0 0 0 0 99 2 0 {drops}");
        let ports = HashSet::from([0x1f90]);
        assert_eq!(drops_of_line(&line("1F90", 12), &ports), Some(12));
        assert_eq!(drops_of_line(&line("1F91", 12), &ports), None);
        assert_eq!(drops_of_line("  sl  local_address rem_address", &ports), None);
    }
}
