//! What the kernel and the process's limits allow, asked once at start.

use std::fmt;
use std::fs;
use std::io;

use io_uring::{IoUring, Probe, opcode};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::trains::TrainLimits;
use crate::error::StartError;

/// The first kernel with IORING_SETUP_DEFER_TASKRUN, the youngest feature that the driver cannot do without.
const OLDEST_KERNEL: KernelVersion = KernelVersion { major: 6, minor: 1 };
/// Entries of the ring that is built and dropped to see whether it can be.
const PROBE_ENTRIES: u32 = 8;

/// Major and minor number of a Linux release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The 6 of 6.1.
    pub major: u32,
    /// The 1 of 6.1.
    pub minor: u32,
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What [`probe`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelFacts {
    /// What `uname -r` prints.
    pub release: String,
    /// Its first two numbers.
    pub version: KernelVersion,
    /// File descriptors that this process may have open.
    pub descriptors: u64,
    /// How many datagrams leave in one operation.
    pub trains: TrainLimits,
}

/// Checks that a [`Driver`](super::Driver) can run here, and raises the limit on file descriptors to its maximum.
///
/// `descriptors_needed` is what sockets, rings and sessions may take together. Any thread may ask; nothing stays open.
pub fn probe(descriptors_needed: u64) -> Result<KernelFacts, StartError> {
    let release = kernel_release();
    let version = check_version(&release)?;
    let ring = ring_builder().build(PROBE_ENTRIES).map_err(ring_error)?;
    check_operations(&ring)?;
    let descriptors = raise_descriptor_limit(descriptors_needed)?;
    Ok(KernelFacts { release, version, descriptors, trains: TrainLimits::probe() })
}

/// The flags of every ring of the driver; the probe tries the same ones.
pub(super) fn ring_builder() -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder
        // One thread submits, so the kernel may skip a lock, and completions are posted only while that thread waits: no
        // interrupt of the worker in the middle of a packet.
        .setup_single_issuer()
        .setup_defer_taskrun()
        // Tells without a system call whether completions wait to be posted.
        .setup_taskrun_flag()
        // One bad submission does not hold up those behind it.
        .setup_submit_all();
    builder
}

fn kernel_release() -> String {
    match fs::read_to_string("/proc/sys/kernel/osrelease") {
        Ok(release) => release.trim().to_owned(),
        Err(error) => format!("(unknown, /proc cannot be read: {error})"),
    }
}

fn check_version(release: &str) -> Result<KernelVersion, StartError> {
    parse_release(release)
        .filter(|version| *version >= OLDEST_KERNEL)
        .ok_or_else(|| StartError::KernelTooOld { found: release.to_owned() })
}

/// The first two numbers of a release such as `6.8.0-41-generic` or `6.12-rc1`.
fn parse_release(release: &str) -> Option<KernelVersion> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some(KernelVersion { major: numbers.next()?.ok()?, minor: numbers.next()?.ok()? })
}

fn check_operations(ring: &IoUring) -> Result<(), StartError> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(ring_error)?;
    let needed = [
        (opcode::RecvMsgMulti::CODE, "RECVMSG"),
        (opcode::SendMsg::CODE, "SENDMSG"),
        (opcode::Read::CODE, "READ"),
        (opcode::Recv::CODE, "RECV"),
        (opcode::Send::CODE, "SEND"),
    ];
    match needed.into_iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, operation)) => Err(StartError::OperationMissing { operation }),
        None => Ok(()),
    }
}

/// Raises the soft limit on open files to the hard one and says what it is then.
///
/// `needed` is what sockets, rings and sessions may take together; a hard limit below it is an error.
pub fn raise_descriptor_limit(needed: u64) -> Result<u64, StartError> {
    let (soft, hard) = descriptor_limits();
    if hard < needed {
        return Err(StartError::FileDescriptors { limit: hard, needed });
    }
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() && soft < needed {
        return Err(StartError::FileDescriptors { limit: soft, needed });
    }
    Ok(descriptor_limits().0)
}

/// Soft and hard limit. A limit that cannot be read counts as none: what fails later says so.
fn descriptor_limits() -> (u64, u64) {
    getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((RLIM_INFINITY, RLIM_INFINITY))
}

/// A descriptor was refused: the limit is too low by at least one.
pub(super) fn out_of_descriptors() -> StartError {
    let limit = descriptor_limits().0;
    StartError::FileDescriptors { limit, needed: limit.saturating_add(1) }
}

/// Why a ring could not be set up, with the limits and switches that explain it.
pub(super) fn ring_error(source: io::Error) -> StartError {
    let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    let locked = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(RLIM_INFINITY, |(soft, _)| soft);
    explain(source, sysctl.and_then(|text| text.trim().parse().ok()), locked)
}

fn explain(source: io::Error, sysctl: Option<u8>, locked_bytes: u64) -> StartError {
    match source.raw_os_error() {
        Some(libc::ENOSYS) => StartError::IoUringMissing,
        Some(libc::EPERM | libc::EACCES) => StartError::IoUringForbidden { sysctl },
        Some(libc::ENOMEM) => {
            StartError::LockedMemory { limit: (locked_bytes != RLIM_INFINITY).then_some(locked_bytes) }
        }
        Some(libc::EMFILE | libc::ENFILE) => out_of_descriptors(),
        _ => StartError::Ring { source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(errno: i32) -> StartError {
        explain(io::Error::from_raw_os_error(errno), Some(2), 65_536)
    }

    #[test]
    fn each_refusal_of_a_ring_has_its_own_cause() {
        assert!(matches!(explained(libc::ENOSYS), StartError::IoUringMissing));
        assert!(matches!(explained(libc::EPERM), StartError::IoUringForbidden { sysctl: Some(2) }));
        assert!(matches!(explained(libc::EACCES), StartError::IoUringForbidden { sysctl: Some(2) }));
        assert!(matches!(explained(libc::ENOMEM), StartError::LockedMemory { limit: Some(65_536) }));
        assert!(matches!(explained(libc::EMFILE), StartError::FileDescriptors { .. }));
        assert!(matches!(explained(libc::EINVAL), StartError::Ring { .. }));
    }

    #[test]
    fn an_unlimited_lock_is_not_blamed() {
        let error = explain(io::Error::from_raw_os_error(libc::ENOMEM), None, RLIM_INFINITY);
        assert!(matches!(error, StartError::LockedMemory { limit: None }));
    }

    #[test]
    fn kernels_from_6_1_up_are_new_enough() {
        for release in ["6.1.0", "6.1.0-18-amd64", "6.12-rc1", "7.0", "6.18.44-x"] {
            check_version(release).expect(release);
        }
        for release in ["6.0.19", "5.15.0-101-generic", "4.4.0", "", "Linux", "6"] {
            match check_version(release) {
                Err(StartError::KernelTooOld { found }) => assert_eq!(found, release),
                other => assert!(other.is_err(), "{release}: {other:?}"),
            }
        }
    }

    #[test]
    fn more_descriptors_than_the_hard_limit_are_refused() {
        let (_, hard) = descriptor_limits();
        if let Some(needed) = hard.checked_add(1) {
            match raise_descriptor_limit(needed) {
                Err(StartError::FileDescriptors { limit, needed: n }) => {
                    assert_eq!((limit, n), (hard, needed))
                }
                other => assert!(other.is_err(), "{other:?}"),
            }
        }
    }

    #[test]
    fn this_machine_passes_and_its_limit_is_raised() {
        let facts = probe(64).expect("a kernel that can run the driver");
        assert!(facts.version >= OLDEST_KERNEL);
        assert_eq!(facts.descriptors, descriptor_limits().1);
    }
}
