//! The UDP sockets of one worker and the TCP sockets of all: opened, bound and tuned.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::{Duration, Instant};

use libc::c_int;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::error::StartError;

/// Receive buffer asked for, in bytes; the kernel books twice as much for its own overhead.
///
/// A datagram of 1.2 kB is booked as 2.3 kB. 2 x 4 MiB hold 3,600 of them: 70 ms of the 50,000 datagrams a second that a
/// busy or attacked port sees, against the 208 KiB default that holds 90.
pub const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Send buffer asked for, in bytes: 13 ms of a link with 2.5 Gbit/s. More would be delay, not throughput.
pub const SEND_BUFFER_BYTES: usize = 4 << 20;

/// How long a taken port is tried again. The kernel frees a port 28–43 ms after the end of a process whose sockets were
/// registered in a ring, so a restart meets its own predecessor.
const BIND_PATIENCE: Duration = Duration::from_millis(200);
/// Pause between two tries.
const BIND_PAUSE: Duration = Duration::from_millis(5);

/// Connections that wait to be accepted. The kernel cuts it to `net.core.somaxconn`, 4096 since Linux 5.4.
const BACKLOG: c_int = 1024;
/// Bytes that the kernel takes from us beyond what is on its way to the client: a train, so that the link is never idle. What is
/// more waits here, where it is counted and where a viewer can be set back to the next key frame.
const UNSENT_BYTES: u32 = 64 << 10;
/// A client that has taken nothing for so long, or whose network has gone, is disconnected. Consent expires 20 s later.
const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Listens for TCP on each of `addresses` at `port`, in that order. The sockets do not block. A taken port is tried again for
/// 200 ms.
pub fn open_listeners(addresses: &[IpAddr], port: u16) -> Result<Vec<TcpListener>, StartError> {
    let deadline = Instant::now() + BIND_PATIENCE;
    addresses
        .iter()
        .map(|&ip| {
            let addr = SocketAddr::new(ip, port);
            listen(addr, deadline).map_err(|source| match source.raw_os_error() {
                Some(libc::EADDRINUSE) => StartError::TcpPortTaken { addr },
                Some(libc::EADDRNOTAVAIL) => StartError::AddressNotHere { addr },
                _ => StartError::TcpListener { addr, source },
            })
        })
        .collect()
}

fn listen(addr: SocketAddr, deadline: Instant) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of a server before this one may still be closing; another listener is refused nevertheless.
    socket.set_reuse_address(true)?;
    bind(&socket, addr, deadline)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Makes a connection fit for media: nothing waits for more to come, little waits in the kernel, and a client that is gone is
/// found out.
pub fn prepare_stream(stream: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES)
}

/// Opens one UDP socket on each of `addresses` at `port`, in that order.
///
/// IPv6 sockets carry IPv6 only. Datagrams of one flow may arrive coalesced (UDP_GRO). Spoofed ICMP cannot shrink the path
/// MTU, and routers on a narrow IPv4 path may fragment. A taken port is tried again for 200 ms. What buffer sizes the
/// kernel granted is read with [`BufferSizes::of`].
pub fn open_sockets(addresses: &[IpAddr], port: u16) -> Result<Vec<UdpSocket>, StartError> {
    open_all(addresses, port, false)
}

/// The same for a port that other sockets of this process have, too, each opened with this function. The kernel spreads clients
/// over them by a hash of both addresses and ports, and anew when one is closed (SO_REUSEPORT).
pub fn open_shared_sockets(addresses: &[IpAddr], port: u16) -> Result<Vec<UdpSocket>, StartError> {
    open_all(addresses, port, true)
}

fn open_all(addresses: &[IpAddr], port: u16, is_shared: bool) -> Result<Vec<UdpSocket>, StartError> {
    let deadline = Instant::now() + BIND_PATIENCE;
    addresses
        .iter()
        .map(|&ip| {
            let addr = SocketAddr::new(ip, port);
            open(addr, is_shared, deadline).map_err(|source| socket_error(addr, source))
        })
        .collect()
}

fn open(addr: SocketAddr, is_shared: bool, deadline: Instant) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(is_shared)?;
    set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, 1)?;
    ignore_icmp_mtu(&socket, addr)?;
    raise_buffers(&socket)?;
    bind(&socket, addr, deadline)?;
    Ok(socket.into())
}

fn bind(socket: &Socket, addr: SocketAddr, deadline: Instant) -> io::Result<()> {
    loop {
        match socket.bind(&addr.into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(BIND_PAUSE);
            }
            result => return result,
        }
    }
}

/// OMIT: the interface's MTU counts and not the one that an ICMP message claims, which anyone can send; and DF is not set.
fn ignore_icmp_mtu(socket: &Socket, addr: SocketAddr) -> io::Result<()> {
    match addr {
        SocketAddr::V4(_) => {
            set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT)
        }
        SocketAddr::V6(_) => {
            set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_OMIT)
        }
    }
}

/// The forced options pass over the sysctl limits and need CAP_NET_ADMIN; the plain ones are cut to the limits silently.
fn raise_buffers(socket: &Socket) -> io::Result<()> {
    if set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES as c_int).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    }
    if set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SEND_BUFFER_BYTES as c_int).is_err() {
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    }
    Ok(())
}

fn set_option(socket: &Socket, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the pointer is to an integer that lives across the call, and the length is that integer's.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Why a socket on `addr` could not be had.
fn socket_error(addr: SocketAddr, source: io::Error) -> StartError {
    match source.raw_os_error() {
        Some(libc::EADDRINUSE) => StartError::PortTaken { addr },
        Some(libc::EADDRNOTAVAIL) => StartError::AddressNotHere { addr },
        Some(libc::EACCES | libc::EPERM) => StartError::Permission { addr },
        Some(libc::EMFILE | libc::ENFILE) => super::probe::out_of_descriptors(),
        _ => StartError::Socket { addr, source },
    }
}

/// The buffer sizes that the kernel granted a socket, in bytes, in the unit of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferSizes {
    /// Of [`RECEIVE_BUFFER_BYTES`].
    pub receive: usize,
    /// Of [`SEND_BUFFER_BYTES`].
    pub send: usize,
}

impl BufferSizes {
    /// What `socket` has. The kernel reports the doubled value, this is the half.
    pub fn of(socket: &UdpSocket) -> io::Result<Self> {
        let socket = socket2::SockRef::from(socket);
        Ok(Self { receive: socket.recv_buffer_size()? / 2, send: socket.send_buffer_size()? / 2 })
    }

    /// One line with the cure if a buffer is smaller than wanted: bursts are lost in the kernel then.
    pub fn warning(&self) -> Option<String> {
        let mut cures = Vec::new();
        if self.receive < RECEIVE_BUFFER_BYTES {
            cures.push(format!("net.core.rmem_max={RECEIVE_BUFFER_BYTES}"));
        }
        if self.send < SEND_BUFFER_BYTES {
            cures.push(format!("net.core.wmem_max={SEND_BUFFER_BYTES}"));
        }
        (!cures.is_empty()).then(|| {
            format!(
                "UDP buffers are {} bytes (receive) and {} bytes (send), bursts will be lost: run `sysctl -w {}` as root and \
                 restart",
                self.receive,
                self.send,
                cures.join(" ")
            )
        })
    }
}

/// Datagrams that `socket` has dropped since it was opened because its receive buffer was full.
pub(super) fn kernel_drops(socket: &UdpSocket) -> io::Result<u64> {
    let mut info = [0u32; libc::SK_MEMINFO_DROPS as usize + 1];
    let mut length = size_of_val(&info) as libc::socklen_t;
    let (fd, out) = (socket.as_raw_fd(), info.as_mut_ptr().cast());
    // SAFETY: the kernel writes at most `length` bytes, which is the size of the array behind the pointer.
    let result = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, out, &raw mut length) };
    if result == 0 {
        Ok(info[libc::SK_MEMINFO_DROPS as usize].into())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "tests")]
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn each_cause_of_a_failed_bind_has_its_own_error() {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
        let of = |errno| socket_error(addr, io::Error::from_raw_os_error(errno));
        assert!(matches!(of(libc::EADDRINUSE), StartError::PortTaken { addr: a } if a == addr));
        assert!(matches!(of(libc::EADDRNOTAVAIL), StartError::AddressNotHere { addr: a } if a == addr));
        assert!(matches!(of(libc::EACCES), StartError::Permission { addr: a } if a == addr));
        assert!(matches!(of(libc::EPERM), StartError::Permission { .. }));
        assert!(matches!(of(libc::EMFILE), StartError::FileDescriptors { .. }));
        assert!(matches!(of(libc::EAFNOSUPPORT), StartError::Socket { .. }));
    }

    #[test]
    fn an_address_that_is_not_here_is_not_blamed_on_the_tcp_port() {
        let elsewhere = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77));
        let opened = open_listeners(&[elsewhere], 0);
        assert!(
            matches!(opened, Err(StartError::AddressNotHere { addr }) if addr.ip() == elsewhere),
            "{opened:?}"
        );
    }

    #[test]
    fn a_port_that_stays_taken_is_reported_after_some_patience() {
        let holder = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let addr = holder.local_addr().expect("address");
        let started = Instant::now();
        match open_sockets(&[addr.ip()], addr.port()) {
            Err(StartError::PortTaken { addr: taken }) => assert_eq!(taken, addr),
            other => panic!("{other:?}"),
        }
        assert!(started.elapsed() >= BIND_PATIENCE);
    }

    #[test]
    fn a_port_that_is_freed_within_the_patience_is_had() {
        let holder = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let addr = holder.local_addr().expect("address");
        let freeing = thread::spawn(move || {
            thread::sleep(BIND_PATIENCE / 4);
            drop(holder);
        });
        let sockets = open_sockets(&[addr.ip()], addr.port()).expect("freed in time");
        assert_eq!(sockets[0].local_addr().expect("address"), addr);
        freeing.join().expect("thread");
    }

    #[test]
    fn an_address_of_another_machine_is_named() {
        // 203.0.113.0/24 is reserved for documentation (RFC 5737).
        match open_sockets(&[Ipv4Addr::new(203, 0, 113, 1).into()], 0) {
            Err(StartError::AddressNotHere { addr }) => assert_eq!(addr.ip(), Ipv4Addr::new(203, 0, 113, 1)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ipv4_and_ipv6_wildcards_share_a_port() {
        let v6 = open_sockets(&[Ipv6Addr::UNSPECIFIED.into()], 0).expect("IPv6");
        let port = v6[0].local_addr().expect("address").port();
        open_sockets(&[Ipv4Addr::UNSPECIFIED.into()], port).expect("IPv4 beside it");
    }

    #[test]
    fn small_buffers_are_reported_with_their_sysctl() {
        let full = BufferSizes { receive: RECEIVE_BUFFER_BYTES, send: SEND_BUFFER_BYTES };
        assert_eq!(full.warning(), None);
        let warning = BufferSizes { receive: 212_992, ..full }.warning().expect("a warning");
        assert!(warning.contains("net.core.rmem_max=4194304") && !warning.contains("wmem_max"), "{warning}");
    }

    #[test]
    fn datagrams_that_found_a_full_buffer_are_counted_by_the_kernel() {
        let sockets = open_sockets(&[Ipv4Addr::LOCALHOST.into()], 0).expect("socket");
        socket2::SockRef::from(&sockets[0]).set_recv_buffer_size(2304).expect("a tiny buffer");
        assert_eq!(kernel_drops(&sockets[0]).expect("counter"), 0);
        for _ in 0..100 {
            sockets[0].send_to(&[0; 1000], sockets[0].local_addr().expect("address")).expect("sent");
        }
        assert!(kernel_drops(&sockets[0]).expect("counter") > 90);
    }
}
