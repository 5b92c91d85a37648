//! A network of our own: no firewall rule, no other program's traffic, and an interface that drops what is sent.

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getgid, getuid};
use std::fs;
use std::io;
use std::process::Command;

/// The interface whose peer is down: the kernel does all of a send up to the queue of the device and drops there, where
/// a network card would take over.
const SINK: &str = "bench-sink";
/// Its address. 198.18.0.0/15 is for benchmarks (RFC 2544).
pub const SINK_ADDRESS: [u8; 4] = [198, 18, 0, 1];

/// What the namespace offers.
#[derive(Debug)]
pub struct Network {
    /// In a namespace of our own, or why not.
    pub own: Result<(), String>,
    /// [`SINK_ADDRESS`] exists and drops, or why not.
    pub sink: Result<(), String>,
}

impl Network {
    /// Leaves the host's network for an own one. Must come before any other thread is started.
    ///
    /// Root needs nothing else; others need user namespaces. Where it is forbidden the benchmarks run on the host's
    /// loopback interface, and say so.
    pub fn isolate() -> Network {
        let own = enter();
        let sink = match &own {
            Ok(()) => create_sink(),
            Err(_) => Err("it needs an own network namespace".into()),
        };
        Network { own, sink }
    }
}

fn enter() -> Result<(), String> {
    // Without it the new namespace would have no loopback interface, and there is no way back.
    ip(&["-V"])?;
    let (uid, gid) = (getuid(), getgid());
    if uid.is_root() {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| format!("unshare: {errno}"))?;
    } else {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
            .map_err(|errno| format!("unshare with a user namespace: {errno}"))?;
        let map =
            |file: &str, line: String| fs::write(file, line).map_err(|error| format!("{file}: {error}"));
        map("/proc/self/setgroups", "deny".into())?;
        map("/proc/self/uid_map", format!("0 {uid} 1"))?;
        map("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    ip(&["link", "set", "lo", "up"])
}

fn create_sink() -> Result<(), String> {
    let peer = format!("{SINK}-x");
    let [a, b, c, d] = SINK_ADDRESS;
    ip(&["link", "add", SINK, "type", "veth", "peer", "name", &peer])?;
    ip(&["link", "set", SINK, "arp", "off"])?;
    ip(&["link", "set", SINK, "up"])?;
    ip(&["addr", "add", &format!("{a}.{b}.{c}.{d}/15"), "dev", SINK])
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let command = || format!("ip {}", arguments.join(" "));
    let output =
        Command::new("ip").args(arguments).output().map_err(|error| format!("{}: {error}", command()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", command(), String::from_utf8_lossy(&output.stderr).trim()))
}

/// Buffers (a train is one) that the sink has dropped since it was made.
pub fn sink_drops() -> io::Result<u64> {
    let table = fs::read_to_string("/proc/thread-self/net/dev")?;
    drops_of(SINK, &table).ok_or_else(|| io::Error::other("the sink interface is not in /proc/net/dev"))
}

/// The 12th number of a line is what the transmit side dropped.
fn drops_of(interface: &str, table: &str) -> Option<u64> {
    let prefix = format!("{interface}:");
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(&prefix))?;
    line.split_whitespace().nth(11)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drops_are_read_from_the_right_line_and_column() {
        let table = "Inter-|   Receive\n face |bytes\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n\
                     bench-sink: 0 0 0 0 0 0 0 0 0 0 0 22000 0 0 0 0\n";
        assert_eq!(drops_of("bench-sink", table), Some(22_000));
        assert_eq!(drops_of("lo", table), Some(12));
        assert_eq!(drops_of("eth0", table), None);
    }
}
