//! Each way to send a batch of 64 datagrams or trains.
//!
//! Trains are made by the UDP_SEGMENT option of the sending socket, which every method can use alike.

use super::tcp::TcpDriver;
use super::{Method, PAYLOAD, Way};
use crate::error::Error;
use crate::inputs::DATAGRAM_BYTES;
use crate::ring::{Payload, SendRing, Shot};
use crate::sink::Sink;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg, setsockopt, sockopt};
use sfu::driver::{Driver, DriverConfig, SocketIndex, Waker};
use std::io::{self, IoSlice};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

/// Sends in a batch.
pub(super) const BATCH: usize = 64;

/// Something that sends batches.
pub(super) trait Sender {
    /// Sends [`BATCH`] times and returns when the kernel has taken all. `turn` counts the batches.
    fn send(&mut self, turn: usize) -> Result<(), Error>;

    /// Datagrams that arrived since the last call at receivers of the sender's own.
    fn drain(&mut self) -> io::Result<u64> {
        Ok(0)
    }
}

/// Opens the sockets and whatever else `way` needs to send to `sink`.
pub(super) fn open(way: Way, sink: &Sink) -> Result<Box<dyn Sender>, Error> {
    let line = Line::open(way, sink)?;
    Ok(match way.method {
        Method::DriverTcp => Box::new(TcpDriver::open(line.sockets, line.targets.len(), line.payload)?),
        Method::Sendto => Box::new(line),
        Method::Sendmmsg => Box::new(Mmsg::new(line)),
        Method::TokioUring => Box::new(TokioUring::new(line)?),
        Method::Driver => Box::new(OwnDriver::new(line)?),
        Method::Ring => {
            let ring = SendRing::new(&line.sockets, BATCH as u32)?;
            Box::new(BareRing { line, ring })
        }
    })
}

/// What all methods share: one socket for all targets, or a connected one for each.
struct Line {
    way: Way,
    sockets: Vec<UdpSocket>,
    targets: Vec<SocketAddrV4>,
    payload: &'static [u8],
}

impl Line {
    fn open(way: Way, sink: &Sink) -> io::Result<Line> {
        let targets = sink.targets().to_vec();
        let count = if way.connected { targets.len() } else { 1 };
        let sockets = (0..count).map(|_| sink.sending_socket()).collect::<io::Result<Vec<_>>>()?;
        for (socket, target) in sockets.iter().zip(&targets) {
            if way.connected {
                socket.connect(target)?;
            }
            if way.train > 1 {
                setsockopt(socket, sockopt::UdpGsoSegment, &(DATAGRAM_BYTES as i32))?;
            }
        }
        Ok(Line { way, sockets, targets, payload: &PAYLOAD[..usize::from(way.train) * DATAGRAM_BYTES] })
    }

    /// The number of the socket for the `shot`th send, and the address if the socket has none.
    fn aim(&self, shot: usize) -> (usize, Option<SocketAddrV4>) {
        let target = shot % self.targets.len();
        if self.way.connected { (target, None) } else { (0, Some(self.targets[target])) }
    }
}

impl Sender for Line {
    fn send(&mut self, _turn: usize) -> Result<(), Error> {
        for shot in 0..BATCH {
            match self.aim(shot) {
                (socket, Some(to)) => self.sockets[socket].send_to(self.payload, to)?,
                (socket, None) => self.sockets[socket].send(self.payload)?,
            };
        }
        Ok(())
    }
}

struct Mmsg {
    line: Line,
    headers: MultiHeaders<SockaddrIn>,
    slices: Vec<[IoSlice<'static>; 1]>,
    addresses: Vec<Option<SockaddrIn>>,
}

impl Mmsg {
    fn new(line: Line) -> Mmsg {
        let address = |shot| line.aim(shot).1.map(SockaddrIn::from);
        let addresses = (0..BATCH).map(address).collect();
        let slices = vec![[IoSlice::new(line.payload)]; BATCH];
        Mmsg { headers: MultiHeaders::preallocate(BATCH, None), slices, addresses, line }
    }
}

impl Sender for Mmsg {
    fn send(&mut self, turn: usize) -> Result<(), Error> {
        // One call has one socket: connected, the whole batch goes to one peer, the next batch to the next.
        let socket = &self.line.sockets[turn % self.line.sockets.len()];
        let mut sent = 0;
        while sent < BATCH {
            let (slices, addresses) = (&self.slices[sent..], &self.addresses[sent..]);
            let fd = socket.as_raw_fd();
            sent += sendmmsg(fd, &mut self.headers, slices, addresses, [], MsgFlags::empty())?.count();
        }
        Ok(())
    }
}

struct TokioUring {
    way: Way,
    sockets: Vec<Rc<tokio_uring::net::UdpSocket>>,
    aims: Vec<(usize, Option<SocketAddrV4>)>,
    payload: &'static [u8],
    runtime: tokio_uring::Runtime,
}

impl TokioUring {
    fn new(line: Line) -> io::Result<TokioUring> {
        let runtime = tokio_uring::Runtime::new(&tokio_uring::builder())?;
        let aims = (0..BATCH).map(|shot| line.aim(shot)).collect();
        let wrap = |socket| Rc::new(tokio_uring::net::UdpSocket::from_std(socket));
        let sockets = line.sockets.into_iter().map(wrap).collect();
        Ok(TokioUring { way: line.way, sockets, aims, payload: line.payload, runtime })
    }
}

impl Sender for TokioUring {
    fn send(&mut self, _turn: usize) -> Result<(), Error> {
        let (way, payload) = (self.way, self.payload);
        let task = |&(socket, to): &(usize, Option<SocketAddrV4>)| {
            let socket = Rc::clone(&self.sockets[socket]);
            async move {
                match (to.map(Into::into), way.zero_copy) {
                    (None, false) => socket.send(payload).await.0,
                    (None, true) => socket.send_zc(payload).await.0,
                    (Some(to), false) => socket.send_to(payload, to).await.0,
                    (to, true) => socket.sendmsg_zc(vec![payload], to, None::<&'static [u8]>).await.0,
                }
            }
        };
        self.runtime.block_on(async {
            let tasks = self.aims.iter().map(|aim| tokio_uring::spawn(task(aim))).collect::<Vec<_>>();
            for task in tasks {
                task.await.map_err(io::Error::other)??;
            }
            Ok(())
        })
    }
}

struct OwnDriver {
    driver: Driver,
    targets: Vec<SocketAddrV4>,
    payload: &'static [u8],
}

impl OwnDriver {
    fn new(line: Line) -> Result<OwnDriver, Error> {
        let driver = Driver::new(line.sockets, &Waker::new()?, DriverConfig::default())?;
        Ok(OwnDriver { driver, targets: line.targets, payload: line.payload })
    }
}

impl Sender for OwnDriver {
    fn send(&mut self, _turn: usize) -> Result<(), Error> {
        for shot in 0..BATCH {
            // The driver takes the payload by value, so this copy is part of its way.
            let buffer = self.payload.to_vec();
            let to = self.targets[shot % self.targets.len()];
            // A datagram that found no slot is missed at the sink.
            let _ = self.driver.send(SocketIndex::new(0), to.into(), buffer);
        }
        self.driver.wait(Some(Duration::ZERO))?;
        self.driver.reap(|_| {});
        Ok(())
    }
}

struct BareRing {
    line: Line,
    ring: SendRing,
}

impl Sender for BareRing {
    fn send(&mut self, _turn: usize) -> Result<(), Error> {
        for shot in 0..BATCH {
            let (socket, to) = self.line.aim(shot);
            let (payload, zero_copy) = (Payload::Shared(self.line.payload), self.line.way.zero_copy);
            self.ring.push(Shot { socket: socket as u32, to, payload, zero_copy })?;
        }
        Ok(self.ring.flush()?)
    }
}
