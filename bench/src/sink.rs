//! Where the benchmarks send to.

use crate::netns::{SINK_ADDRESS, sink_drops};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

/// Receive buffer of each receiver, in bytes: a batch of trains of 40 to one receiver is booked as 6 MB.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// What becomes of the datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SinkKind {
    /// Delivered to sockets on the loopback interface; the sender's CPU pays for the delivery.
    Loopback,
    /// The same, and the sockets take trains whole (UDP_GRO).
    LoopbackGro,
    /// Dropped where a network card would take them.
    Dropped,
}

impl SinkKind {
    /// As on the command line and in JSON.
    pub const NAMES: [(&str, SinkKind); 3] = [
        ("loopback", SinkKind::Loopback),
        ("loopback-gro", SinkKind::LoopbackGro),
        ("dropped", SinkKind::Dropped),
    ];
}

impl fmt::Display for SinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SinkKind::Loopback => "loopback",
            SinkKind::LoopbackGro => "loopback, receivers with GRO",
            SinkKind::Dropped => "dropped at the device",
        })
    }
}

/// A number of destinations of one kind.
#[derive(Debug)]
pub struct Sink {
    kind: SinkKind,
    receivers: Vec<UdpSocket>,
    targets: Vec<SocketAddrV4>,
    drops_before: u64,
}

impl Sink {
    /// `count` destinations: one socket each, or for [`SinkKind::Dropped`] one address each.
    pub fn open(kind: SinkKind, count: usize) -> io::Result<Sink> {
        if kind == SinkKind::Dropped {
            let targets = (0..count).map(dropped_target).collect();
            return Ok(Sink { kind, receivers: vec![], targets, drops_before: sink_drops()? });
        }
        let gro = kind == SinkKind::LoopbackGro;
        let receivers = (0..count).map(|_| receiver(gro)).collect::<io::Result<Vec<_>>>()?;
        let targets = receivers.iter().map(local_v4).collect::<io::Result<_>>()?;
        Ok(Sink { kind, receivers, targets, drops_before: 0 })
    }

    /// What becomes of the datagrams.
    pub fn kind(&self) -> SinkKind {
        self.kind
    }

    /// The destinations.
    pub fn targets(&self) -> &[SocketAddrV4] {
        &self.targets
    }

    /// A new socket that can send to the destinations, on an own port.
    pub fn sending_socket(&self) -> io::Result<UdpSocket> {
        let local = match self.kind {
            SinkKind::Dropped => Ipv4Addr::from(SINK_ADDRESS),
            SinkKind::Loopback | SinkKind::LoopbackGro => Ipv4Addr::LOCALHOST,
        };
        UdpSocket::bind((local, 0))
    }

    /// Takes everything out of the receivers' buffers; bytes that had been delivered.
    pub fn drain(&self) -> io::Result<u64> {
        self.receivers.iter().map(drain).sum()
    }

    /// Buffers that were dropped at the device; 0 for the other kinds.
    pub fn dropped(&self) -> io::Result<u64> {
        match self.kind {
            SinkKind::Dropped => Ok(sink_drops()? - self.drops_before),
            SinkKind::Loopback | SinkKind::LoopbackGro => Ok(0),
        }
    }
}

/// 250 addresses of a block, then the next block.
fn dropped_target(index: usize) -> SocketAddrV4 {
    let [a, b, ..] = SINK_ADDRESS;
    let (block, host) = (1 + index / 250 % 250, 1 + index % 250);
    SocketAddrV4::new(Ipv4Addr::new(a, b, block as u8, host as u8), 4_000)
}

fn receiver(gro: bool) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    enlarge(&socket)?;
    setsockopt(&socket, sockopt::UdpGroSegment, &gro)?;
    Ok(socket)
}

/// Gives a socket a receive buffer that holds a batch, as far as the system allows.
pub fn enlarge(socket: &UdpSocket) -> io::Result<()> {
    // The forced option needs CAP_NET_ADMIN on the host; the plain one is cut to net.core.rmem_max.
    setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES)
        .or_else(|_| setsockopt(socket, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES))?;
    Ok(())
}

/// The IPv4 address a socket is bound to.
pub fn local_v4(socket: &UdpSocket) -> io::Result<SocketAddrV4> {
    match socket.local_addr()? {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

fn drain(socket: &UdpSocket) -> io::Result<u64> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
    let mut bytes = 0;
    loop {
        // With MSG_TRUNC the datagram's length comes back and nothing is copied.
        match recv(socket.as_raw_fd(), &mut [], flags) {
            Ok(length) => bytes += length as u64,
            Err(Errno::EAGAIN) => return Ok(bytes),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn what_was_sent_to_a_loopback_sink_is_drained_once() {
        let sink = Sink::open(SinkKind::Loopback, 3).expect("sockets");
        let socket = sink.sending_socket().expect("a socket");
        for target in sink.targets() {
            socket.send_to(&[0; 100], target).expect("sent");
        }
        assert_eq!(sink.drain().expect("drained"), 300);
        assert_eq!(sink.drain().expect("drained"), 0);
    }

    #[test]
    fn a_sink_has_the_same_name_on_the_command_line_and_in_json() {
        for (name, kind) in SinkKind::NAMES {
            assert_eq!(serde_json::to_value(kind).expect("json"), name);
        }
    }

    #[test]
    fn dropped_targets_are_all_different() {
        let targets = (0..3_000).map(dropped_target).collect::<HashSet<_>>();
        assert_eq!(targets.len(), 3_000);
    }
}
