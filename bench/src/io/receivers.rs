//! Each way to take datagrams out of a socket, split into single ones where they come coalesced.

use super::{Method, Way};
use crate::error::Error;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrIn, recvmmsg, recvmsg};
use sfu::driver::{Driver, DriverConfig, Waker};
use std::io::{self, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// A coalesced buffer can be this long.
const BUFFER_BYTES: usize = 64 << 10;
/// Messages of one recvmmsg, and receives in flight of tokio-uring.
const BATCH: usize = 32;
/// Silence after which the rest counts as lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// Something that receives.
pub(super) trait Receiver {
    /// Takes `count` datagrams and looks at each; fewer if the rest does not come.
    fn receive(&mut self, count: usize) -> Result<usize, Error>;
}

/// What `way` needs to receive on `socket`.
pub(super) fn open(way: Way, socket: UdpSocket) -> Result<Box<dyn Receiver>, Error> {
    Ok(match way.method {
        Method::Sendmmsg => Box::new(Mmsg { socket, buffers: vec![vec![0; BUFFER_BYTES]; BATCH] }),
        Method::TokioUring => Box::new(TokioUring::new(socket)?),
        Method::Driver => {
            let driver = Driver::new(vec![socket], &Waker::new()?, DriverConfig::default())?;
            Box::new(OwnDriver { driver })
        }
        Method::Sendto | Method::Ring | Method::DriverTcp => {
            Box::new(Single { socket, buffer: vec![0; BUFFER_BYTES], control: cmsg_space!(i32) })
        }
    })
}

struct Single {
    socket: UdpSocket,
    buffer: Vec<u8>,
    control: Vec<u8>,
}

impl Receiver for Single {
    fn receive(&mut self, count: usize) -> Result<usize, Error> {
        let (fd, mut received) = (self.socket.as_raw_fd(), 0);
        while received < count {
            let mut slices = [IoSliceMut::new(&mut self.buffer)];
            let control = Some(self.control.as_mut_slice());
            match recvmsg::<SockaddrIn>(fd, &mut slices, control, MsgFlags::empty()) {
                Ok(message) => received += datagrams(&message),
                Err(Errno::EAGAIN) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(received)
    }
}

struct Mmsg {
    socket: UdpSocket,
    buffers: Vec<Vec<u8>>,
}

impl Receiver for Mmsg {
    fn receive(&mut self, count: usize) -> Result<usize, Error> {
        let (fd, mut received) = (self.socket.as_raw_fd(), 0);
        while received < count {
            // The kernel shortens the control length in the headers, so they serve one call. 32 messages share the cost.
            let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, Some(cmsg_space!(i32)));
            let mut slices: Vec<_> = self.buffers.iter_mut().map(|b| [IoSliceMut::new(b)]).collect();
            match recvmmsg(fd, &mut headers, &mut slices, MsgFlags::MSG_WAITFORONE, None) {
                Ok(messages) => received += messages.map(|message| datagrams(&message)).sum::<usize>(),
                Err(Errno::EAGAIN) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(received)
    }
}

/// How many datagrams a message holds.
fn datagrams(message: &RecvMsg<'_, '_, SockaddrIn>) -> usize {
    let segment = message.cmsgs().ok().and_then(|mut messages| {
        messages.find_map(|message| match message {
            ControlMessageOwned::UdpGroSegments(size) => usize::try_from(size).ok(),
            _ => None,
        })
    });
    segment.map_or(1, |segment| message.bytes.div_ceil(segment.max(1)))
}

struct TokioUring {
    socket: Rc<tokio_uring::net::UdpSocket>,
    buffers: Vec<Vec<u8>>,
    runtime: tokio_uring::Runtime,
}

impl TokioUring {
    fn new(socket: UdpSocket) -> io::Result<TokioUring> {
        let runtime = tokio_uring::Runtime::new(&tokio_uring::builder())?;
        let socket = Rc::new(tokio_uring::net::UdpSocket::from_std(socket));
        Ok(TokioUring { socket, buffers: vec![vec![0; BUFFER_BYTES]; BATCH], runtime })
    }
}

impl Receiver for TokioUring {
    fn receive(&mut self, count: usize) -> Result<usize, Error> {
        let (socket, buffers, runtime) = (&self.socket, &mut self.buffers, &self.runtime);
        let taking = async {
            let mut received = 0;
            while received < count {
                let task = |buffer| {
                    let socket = Rc::clone(socket);
                    tokio_uring::spawn(async move { socket.recv_from(buffer).await })
                };
                let batch = BATCH.min(count - received);
                let tasks = buffers.drain(..batch).map(task).collect::<Vec<_>>();
                for task in tasks {
                    let (result, buffer) = task.await.map_err(io::Error::other)?;
                    buffers.push(buffer);
                    result?;
                    received += 1;
                }
            }
            Ok(received)
        };
        // A receive that waits for a lost datagram would never end.
        runtime.block_on(async { timeout(PATIENCE, taking).await.map_err(io::Error::from)? })
    }
}

struct OwnDriver {
    driver: Driver,
}

impl Receiver for OwnDriver {
    fn receive(&mut self, count: usize) -> Result<usize, Error> {
        let (mut received, mut last) = (0, Instant::now());
        while received < count && last.elapsed() < PATIENCE {
            self.driver.wait(Some(PATIENCE))?;
            let before = received;
            self.driver.reap(|datagram| received += usize::from(!datagram.payload.is_empty()));
            if received > before {
                last = Instant::now();
            }
        }
        Ok(received)
    }
}
