//! One UDP port for all workers: what the kernel takes to find the socket of a datagram, if each client had a connected socket
//! of its own to keep its datagrams on its worker's core.

use crate::clock::ThreadClock;
use crate::error::Error;
use crate::stats::Figure;
use nix::sys::socket::{MsgFlags, recv};
use sfu::driver::{open_shared_sockets, raise_descriptor_limit};
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// Connected sockets beside those of the workers.
const CONNECTED: [u16; 5] = [0, 10, 100, 1_000, 5_000];
/// Workers that share the port.
const WORKERS: usize = 2;
/// Rounds, of which the medians are told, and datagrams of each.
const ROUNDS: usize = 15;
const DATAGRAMS: u32 = 500;
/// As long as a small RTCP packet.
const DATAGRAM: [u8; 100] = [0x80; 100];
/// File descriptors beside the connected sockets.
const DESCRIPTORS_BESIDE: u64 = 100;

/// Nanoseconds to send a datagram and have it delivered.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Connected sockets at the port.
    pub connected: u16,
    /// From a client that has one of them; that of the workers if there are none.
    pub client: Figure,
    /// From anybody else.
    pub stranger: Figure,
}

/// Measures each number of connected sockets.
pub fn run(progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>, Error> {
    let most = CONNECTED.iter().max().copied().unwrap_or(0);
    raise_descriptor_limit(u64::from(most) + DESCRIPTORS_BESIDE)?;
    let rows = CONNECTED.into_iter().map(|connected| {
        progress(&format!("{connected} connected sockets"));
        row(connected)
    });
    rows.collect()
}

fn row(connected: u16) -> Result<Row, Error> {
    let clock = ThreadClock::calibrate()?;
    let host = Ipv4Addr::LOCALHOST;
    let mut sockets = open_shared_sockets(&[host.into()], 0)?;
    let server = sockets[0].local_addr()?;
    let shared = || open_shared_sockets(&[host.into()], server.port());
    for _ in 1..WORKERS {
        sockets.append(&mut shared()?);
    }
    let (client, stranger) = (UdpSocket::bind((host, 0))?, UdpSocket::bind((host, 0))?);
    for number in 0..connected {
        let socket = shared()?.remove(0);
        // In the middle of the others, which are those of clients elsewhere.
        let peer = match number == connected / 2 {
            true => client.local_addr()?,
            false => SocketAddr::from((Ipv4Addr::new(127, 1, (number >> 8) as u8, number as u8), 9)),
        };
        socket.connect(peer)?;
        sockets.push(socket);
    }
    let (mut by_client, mut by_stranger) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        by_client.push(send(clock, &client, server)?);
        by_stranger.push(send(clock, &stranger, server)?);
        sockets.iter().for_each(drain);
    }
    Ok(Row { connected, client: Figure::of(&by_client), stranger: Figure::of(&by_stranger) })
}

/// Delivery on the loopback interface is on the sender's time.
fn send(clock: ThreadClock, from: &UdpSocket, to: SocketAddr) -> Result<f64, Error> {
    let (time, sent) =
        clock.time(|| (0..DATAGRAMS).try_for_each(|_| from.send_to(&DATAGRAM, to).map(|_| ())));
    sent?;
    Ok(time.as_nanos() as f64 / f64::from(DATAGRAMS))
}

fn drain(socket: &UdpSocket) {
    let mut buffer = [0; 2_048];
    while recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).is_ok() {}
}

/// The rows as a table.
pub fn table(rows: &[Row]) -> String {
    let mut text =
        "| connected sockets | a client's datagram | a stranger's |\n|---:|---:|---:|\n".to_owned();
    for Row { connected, client, stranger } in rows {
        let _ = writeln!(text, "| {connected} | {:.0} ns | {:.0} ns |", client.median, stranger.median);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_datagrams_take_a_time_that_is_seen() {
        let row = row(20).expect("sockets");
        assert!(row.client.median > 0.0 && row.stranger.median > 0.0, "{row:?}");
        assert!(table(&[row]).contains("| 20 |"));
    }
}
