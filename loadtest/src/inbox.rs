//! Receiving datagrams, one by one or, with UDP_GRO, as the trains in which they were sent.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use mio::net::UdpSocket;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SetSockOpt, SockaddrLike, SockaddrStorage, recvmsg, sockopt::UdpGroSegment,
};

/// A train is at most this long, bytes (an IP packet's limit).
const TRAIN: usize = 65_536;

/// Asks the kernel to hand over trains whole; says whether it does (Linux 5.0). Else datagrams come one by
/// one.
pub fn enable_gro(socket: &UdpSocket) -> bool {
    UdpGroSegment.set(socket, &true).is_ok()
}

/// Buffers for one read.
pub struct Inbox {
    data: Vec<u8>,
    control: Vec<u8>,
}

/// One read: datagrams of one sender.
pub struct Train<'a> {
    pub source: SocketAddr,
    bytes: &'a [u8],
    segment: usize,
}

impl Train<'_> {
    /// The datagrams, in order; all equally long but the last.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks(self.segment)
    }
}

impl Inbox {
    pub fn new() -> Inbox {
        Inbox { data: vec![0; TRAIN], control: nix::cmsg_space!(i32) }
    }

    /// Reads what is next on the socket; an error of kind `WouldBlock` says that nothing is there.
    pub fn read(&mut self, socket: &UdpSocket) -> io::Result<Train<'_>> {
        let mut slices = [IoSliceMut::new(&mut self.data)];
        let message = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut slices,
            Some(&mut self.control),
            MsgFlags::MSG_DONTWAIT,
        )?;
        let length = message.bytes;
        let source =
            message.address.and_then(|address| to_std(&address)).ok_or(io::ErrorKind::InvalidData)?;
        let gro = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::UdpGroSegments(size) => usize::try_from(size).ok(),
            _ => None,
        });
        // chunks() takes no 0: an empty datagram has no chunk anyway.
        let segment = gro.unwrap_or(length).max(1);
        Ok(Train { source, bytes: &self.data[..length], segment })
    }
}

fn to_std(address: &SockaddrStorage) -> Option<SocketAddr> {
    match address.family()? {
        nix::sys::socket::AddressFamily::Inet => Some((*address.as_sockaddr_in()?).into()),
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

    #[test]
    fn single_datagrams_are_read_with_their_source() {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let (sender, receiver) = pair(bind);
            sender.send(b"one").unwrap();
            sender.send(b"three").unwrap();
            let mut inbox = Inbox::new();
            for expected in [&b"one"[..], b"three"] {
                let train = inbox.read(&receiver).unwrap();
                assert_eq!(train.source, sender.local_addr().unwrap());
                assert_eq!(train.datagrams().collect::<Vec<_>>(), [expected]);
            }
            assert_eq!(inbox.read(&receiver).err().unwrap().kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn a_train_is_taken_apart_into_its_datagrams() {
        let (sender, receiver) = pair("127.0.0.1:0");
        assert!(enable_gro(&receiver));
        nix::sys::socket::setsockopt(&sender, nix::sys::socket::sockopt::UdpGsoSegment, &100).unwrap();
        sender.send(&[7; 250]).unwrap();
        let mut inbox = Inbox::new();
        let train = inbox.read(&receiver).unwrap();
        assert_eq!(train.datagrams().map(<[u8]>::len).collect::<Vec<_>>(), [100, 100, 50]);
    }

    #[test]
    fn without_gro_the_kernel_takes_the_train_apart() {
        let (sender, receiver) = pair("127.0.0.1:0");
        nix::sys::socket::setsockopt(&sender, nix::sys::socket::sockopt::UdpGsoSegment, &100).unwrap();
        sender.send(&[7; 250]).unwrap();
        let mut inbox = Inbox::new();
        assert_eq!(inbox.read(&receiver).unwrap().datagrams().count(), 1);
    }
}
