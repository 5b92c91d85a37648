//! Receiving datagrams: with UDP_GRO as the trains in which they were sent, else many in one call.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;

use mio::net::UdpSocket;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, MultiHeaders, SetSockOpt, SockaddrLike, SockaddrStorage,
    recvmmsg, recvmsg, sockopt::UdpGroSegment,
};

/// A train is at most this long, bytes (an IP packet's limit).
const TRAIN: usize = 65_536;
/// Datagrams taken in one call where they come one by one.
const BATCH: usize = 32;
/// Room for each of them: more than any path's MTU that WebRTC uses.
const SINGLE: usize = TRAIN / BATCH;

/// Asks the kernel to hand over trains whole; says whether it does (Linux 5.0). Else datagrams come one by
/// one.
pub fn enable_gro(socket: &UdpSocket) -> bool {
    UdpGroSegment.set(socket, &true).is_ok()
}

/// Buffers, used again for every read.
pub struct Inbox {
    data: Vec<u8>,
    control: Vec<u8>,
    /// One for each address family: the kernel writes the length of an address into them, and nix leaves it
    /// there.
    headers: [MultiHeaders<SockaddrStorage>; 2],
    arrived: [Arrived; BATCH],
    /// How many of those are there.
    count: usize,
    /// Between their places in `data`.
    stride: usize,
}

/// One train or datagram in the buffer.
#[derive(Clone, Copy)]
struct Arrived {
    source: SocketAddr,
    len: usize,
    segment: usize,
}

const NOTHING: Arrived =
    Arrived { source: SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), len: 0, segment: 1 };

impl Inbox {
    /// Empty.
    pub fn new() -> Inbox {
        Inbox {
            data: vec![0; TRAIN],
            control: nix::cmsg_space!(i32),
            headers: [MultiHeaders::preallocate(BATCH, None), MultiHeaders::preallocate(BATCH, None)],
            arrived: [NOTHING; BATCH],
            count: 0,
            stride: TRAIN,
        }
    }

    /// Reads what is next on the socket; says whether there may be more. An error of kind `WouldBlock` says
    /// that nothing is there.
    pub fn read(&mut self, socket: &UdpSocket, gro: bool) -> io::Result<bool> {
        self.count = 0;
        if gro { self.read_train(socket) } else { self.read_batch(socket) }
    }

    /// The datagrams of the last read, in order, with their senders.
    pub fn datagrams(&mut self) -> impl Iterator<Item = (SocketAddr, &mut [u8])> {
        let places = self.data.chunks_mut(self.stride).zip(&self.arrived[..self.count]);
        places.flat_map(|(place, arrived)| {
            place[..arrived.len].chunks_mut(arrived.segment).map(|datagram| (arrived.source, datagram))
        })
    }

    fn read_train(&mut self, socket: &UdpSocket) -> io::Result<bool> {
        let mut slices = [IoSliceMut::new(&mut self.data)];
        let message = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut slices,
            Some(&mut self.control),
            MsgFlags::MSG_DONTWAIT,
        )?;
        let len = message.bytes;
        let source =
            message.address.and_then(|address| to_std(&address)).ok_or(io::ErrorKind::InvalidData)?;
        let gro = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::UdpGroSegments(size) => usize::try_from(size).ok(),
            _ => None,
        });
        // chunks() takes no 0: an empty datagram has no chunk anyway.
        self.arrived[0] = Arrived { source, len, segment: gro.unwrap_or(len).max(1) };
        (self.count, self.stride) = (1, TRAIN);
        Ok(true)
    }

    fn read_batch(&mut self, socket: &UdpSocket) -> io::Result<bool> {
        let headers = &mut self.headers[usize::from(socket.local_addr()?.is_ipv6())];
        let mut places = self.data.chunks_exact_mut(SINGLE);
        let mut slices: [_; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(places.next().unwrap_or_default())]);
        let messages =
            recvmmsg(socket.as_raw_fd(), headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
        self.stride = SINGLE;
        for message in messages {
            let source = message.address.and_then(|address| to_std(&address));
            // A datagram without a sender is none of ours; its place stays empty.
            self.arrived[self.count] = match source {
                Some(source) => Arrived { source, len: message.bytes, segment: SINGLE },
                None => NOTHING,
            };
            self.count += 1;
        }
        Ok(self.count == BATCH)
    }
}

fn to_std(address: &SockaddrStorage) -> Option<SocketAddr> {
    match address.family()? {
        AddressFamily::Inet => Some((*address.as_sockaddr_in()?).into()),
        _ => Some((*address.as_sockaddr_in6()?).into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn pair(bind: &str) -> (std::net::UdpSocket, UdpSocket) {
        let sender = std::net::UdpSocket::bind(bind).unwrap();
        let receiver = std::net::UdpSocket::bind(bind).unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        receiver.set_nonblocking(true).unwrap();
        (sender, UdpSocket::from_std(receiver))
    }

    fn lengths(inbox: &mut Inbox) -> Vec<usize> {
        inbox.datagrams().map(|(_, datagram)| datagram.len()).collect()
    }

    #[test]
    fn datagrams_are_read_with_their_source_in_either_family_and_either_way() {
        let mut inbox = Inbox::new();
        for (bind, gro) in
            [("127.0.0.1:0", true), ("[::1]:0", true), ("127.0.0.1:0", false), ("[::1]:0", false)]
        {
            let (sender, receiver) = pair(bind);
            sender.send(b"one").unwrap();
            sender.send(b"three").unwrap();
            let mut got = Vec::new();
            while inbox.read(&receiver, gro).is_ok() {
                got.extend(inbox.datagrams().map(|(source, datagram)| (source, datagram.to_vec())));
            }
            let source = sender.local_addr().unwrap();
            assert_eq!(got, [(source, b"one".to_vec()), (source, b"three".to_vec())], "{bind} {gro}");
        }
    }

    #[test]
    fn a_train_is_taken_apart_into_its_datagrams() {
        let (sender, receiver) = pair("127.0.0.1:0");
        assert!(enable_gro(&receiver));
        nix::sys::socket::setsockopt(&sender, nix::sys::socket::sockopt::UdpGsoSegment, &100).unwrap();
        sender.send(&[7; 250]).unwrap();
        let mut inbox = Inbox::new();
        inbox.read(&receiver, true).unwrap();
        assert_eq!(lengths(&mut inbox), [100, 100, 50]);
    }

    #[test]
    fn without_gro_the_kernel_takes_the_train_apart_and_one_call_reads_all_of_it() {
        let (sender, receiver) = pair("127.0.0.1:0");
        nix::sys::socket::setsockopt(&sender, nix::sys::socket::sockopt::UdpGsoSegment, &100).unwrap();
        sender.send(&[7; 250]).unwrap();
        let mut inbox = Inbox::new();
        assert!(!inbox.read(&receiver, false).unwrap());
        assert_eq!(lengths(&mut inbox), [100, 100, 50]);
    }

    #[test]
    fn a_full_batch_says_that_there_may_be_more() {
        let (sender, receiver) = pair("127.0.0.1:0");
        (0..BATCH + 1).for_each(|_| assert_eq!(sender.send(b"x").unwrap(), 1));
        let mut inbox = Inbox::new();
        assert!(inbox.read(&receiver, false).unwrap());
        assert!(!inbox.read(&receiver, false).unwrap());
        assert_eq!(inbox.read(&receiver, false).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
