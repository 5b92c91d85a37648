//! Why media could not start. Each message says what is wrong and how to mend it, in one line.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A cause that keeps the media process from starting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The kernel has no io_uring at all (ENOSYS).
    #[error(
        "this kernel has no io_uring: run Linux 6.1 or newer built with CONFIG_IO_URING=y; in a container, start it with a \
         seccomp profile that knows io_uring_setup, io_uring_enter and io_uring_register"
    )]
    IoUringMissing,
    /// The kernel has io_uring and refuses it (EPERM, EACCES).
    #[error("{}", forbidden(*sysctl))]
    IoUringForbidden {
        /// `kernel.io_uring_disabled`: 0 allowed, 1 privileged or `io_uring_group` only, 2 nobody; none if the kernel
        /// has no such key.
        sysctl: Option<u8>,
    },
    /// The kernel is older than the features that the driver needs.
    #[error("kernel {found} is too old: upgrade to Linux 6.1 or newer (io_uring with deferred task work)")]
    KernelTooOld {
        /// The release that `uname -r` prints.
        found: String,
    },
    /// An io_uring operation that the driver needs is missing although the kernel is new enough.
    #[error("this kernel's io_uring lacks {operation}: run an unmodified Linux 6.1 or newer")]
    OperationMissing {
        /// The operation's name in `io_uring_enter(2)`.
        operation: &'static str,
    },
    /// The ring's memory did not fit the limit on locked memory (ENOMEM).
    #[error("{}", locked(*limit))]
    LockedMemory {
        /// RLIMIT_MEMLOCK in bytes; none is unlimited.
        limit: Option<u64>,
    },
    /// Too few file descriptors for the sockets and sessions asked for.
    #[error(
        "{needed} file descriptors are needed and the hard limit is {limit}: raise it with `ulimit -Hn {needed}` as root, or \
         LimitNOFILE={needed} in the systemd unit"
    )]
    FileDescriptors {
        /// The hard limit of RLIMIT_NOFILE.
        limit: u64,
        /// What sockets and sessions may take together.
        needed: u64,
    },
    /// There is nothing to bind.
    #[error(
        "this machine has no usable network address: bring an interface up (`ip link set lo up` is the least), or name one with --bind"
    )]
    NoAddress,
    /// Another process holds the port.
    #[error(
        "UDP {addr} is taken by another process (`ss -ulnp` names it): stop it, or choose another --udp-port"
    )]
    PortTaken {
        /// What was to be bound.
        addr: SocketAddr,
    },
    /// Another process holds the TCP port.
    #[error(
        "TCP {addr} is taken by another process (`ss -tlnp` names it): stop it, choose another --tcp-port, or --tcp-port 0 to \
         serve clients over UDP alone"
    )]
    TcpPortTaken {
        /// What was to be bound.
        addr: SocketAddr,
    },
    /// A TCP listener could not be opened for another reason.
    #[error(
        "TCP listener on {addr} failed ({source}): choose another --tcp-port (below 1024 it takes CAP_NET_BIND_SERVICE), or \
         --tcp-port 0 to serve clients over UDP alone"
    )]
    TcpListener {
        /// What was to be bound.
        addr: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No interface has the address.
    #[error(
        "{} is not an address of this machine (`ip addr` lists them): correct --bind; behind 1:1 NAT bind the private address \
         and give the public one as --public-ip",
        addr.ip()
    )]
    AddressNotHere {
        /// What was to be bound.
        addr: SocketAddr,
    },
    /// The process may not bind the port.
    #[error(
        "no permission to bind UDP {addr}: choose an --udp-port from 1024 up, or give the process CAP_NET_BIND_SERVICE"
    )]
    Permission {
        /// What was to be bound.
        addr: SocketAddr,
    },
    /// A socket could not be opened for another reason.
    #[error(
        "UDP socket on {addr} failed ({source}): check --bind and whether this address family is enabled"
    )]
    Socket {
        /// What was to be bound.
        addr: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A ring could not be set up for another reason.
    #[error(
        "io_uring set-up failed ({source}): `uringcast check` tests the kernel alone; report this with `uname -r`"
    )]
    Ring {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The control socket could not be opened.
    #[error("control socket {} failed ({source}): check that its directory exists and is writable, or set --control", path.display())]
    Control {
        /// The socket's path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A live media process answers on the control socket.
    #[error("another media process listens on {}: stop it, or set another --control and --udp-port", path.display())]
    ControlInUse {
        /// The socket's path.
        path: PathBuf,
    },
    /// DTLS could not be set up.
    #[error(transparent)]
    Identity(#[from] crate::core::identity::IdentityError),
    /// A thread could not be started.
    #[error(
        "a thread could not be started ({0}): raise the limit on processes (`ulimit -u`, TasksMax= in systemd)"
    )]
    Thread(io::Error),
    /// A core to pin to does not exist, or is not in this process's CPU set.
    #[error(
        "core {core} cannot be used by this process: choose --cores from those that `taskset -cp $$` prints"
    )]
    CoreMissing {
        /// The core's number.
        core: usize,
    },
}

fn locked(limit: Option<u64>) -> String {
    match limit {
        Some(bytes) => format!(
            "no memory for a ring, the limit on locked memory is {bytes} bytes: raise it with `ulimit -l unlimited`, or \
             LimitMEMLOCK=infinity in the systemd unit"
        ),
        None => "no memory for a ring: free some, or raise the memory limit of the container or systemd unit"
            .to_owned(),
    }
}

fn forbidden(sysctl: Option<u8>) -> String {
    match sysctl {
        Some(value @ 1..) => format!(
            "io_uring is switched off by the sysctl kernel.io_uring_disabled={value}: run `sysctl -w kernel.io_uring_disabled=0` \
             as root{}",
            if value == 1 { ", or put this user's group into kernel.io_uring_group" } else { "" }
        ),
        Some(0) | None => "io_uring is forbidden by a seccomp profile (the defaults of Docker and containerd do so): start the \
             container with `--security-opt seccomp=PROFILE.json` where PROFILE.json allows io_uring_setup, io_uring_enter \
             and io_uring_register"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_ring_names_the_sysctl_or_the_seccomp_profile() {
        let text = |sysctl| StartError::IoUringForbidden { sysctl }.to_string();
        assert!(text(Some(2)).contains("kernel.io_uring_disabled=2"));
        assert!(!text(Some(2)).contains("io_uring_group"));
        assert!(text(Some(1)).contains("kernel.io_uring_group"));
        for no_sysctl in [Some(0), None] {
            assert!(text(no_sysctl).contains("--security-opt seccomp="));
        }
    }

    #[test]
    fn every_message_is_one_line() {
        let addr = SocketAddr::from(([192, 0, 2, 1], 8200));
        let io = || io::Error::from_raw_os_error(libc::EIO);
        let all = [
            StartError::IoUringMissing,
            StartError::IoUringForbidden { sysctl: Some(1) },
            StartError::IoUringForbidden { sysctl: None },
            StartError::KernelTooOld { found: "5.15.0".into() },
            StartError::OperationMissing { operation: "RECVMSG" },
            StartError::LockedMemory { limit: Some(65_536) },
            StartError::LockedMemory { limit: None },
            StartError::FileDescriptors { limit: 1024, needed: 16_500 },
            StartError::PortTaken { addr },
            StartError::TcpPortTaken { addr },
            StartError::TcpListener { addr, source: io() },
            StartError::AddressNotHere { addr },
            StartError::Permission { addr },
            StartError::Socket { addr, source: io() },
            StartError::Ring { source: io() },
            StartError::Control { path: "/run/c".into(), source: io() },
            StartError::ControlInUse { path: "/run/c".into() },
            StartError::CoreMissing { core: 9 },
        ];
        for error in all {
            let text = error.to_string();
            assert!(text.contains(": ") && !text.contains('\n') && !text.contains("  "), "{text}");
        }
    }
}
