//! From what a multishot receive leaves in a buffer to single datagrams.

use std::net::SocketAddr;

use io_uring::types::RecvMsgOut;

use super::address::{NAME_BYTES, decode};
use super::cmsg::{GRO_ROOM, decode_gro};
use super::slots::empty_header;
use super::user_data::SocketIndex;

/// One received datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The socket it came in on.
    pub socket: SocketIndex,
    /// Who sent it, as far as UDP can be trusted.
    pub from: SocketAddr,
    /// Its bytes; may be empty.
    pub payload: &'a [u8],
}

/// Room for the sender's address, in whole words so that what follows is aligned.
const NAME_ROOM: usize = NAME_BYTES.next_multiple_of(size_of::<usize>());
/// `struct io_uring_recvmsg_out`: four 32-bit numbers.
const OUT_BYTES: usize = 16;
/// What lies before the payload in a buffer.
pub(super) const HEADER_BYTES: usize = OUT_BYTES + NAME_ROOM + GRO_ROOM;

/// The message that a multishot receive is submitted with: how much room name and control have in each buffer.
pub(super) fn message() -> libc::msghdr {
    let mut header = empty_header();
    header.msg_namelen = NAME_ROOM as libc::socklen_t;
    header.msg_controllen = GRO_ROOM as _;
    header
}

/// What one buffer holds: one datagram, or several of one sender that were coalesced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arrival<'a> {
    pub(super) from: SocketAddr,
    payload: &'a [u8],
    segment: Option<usize>,
}

impl<'a> Arrival<'a> {
    /// Reads a buffer that was received into with `message`; none if it is incomplete.
    pub(super) fn parse(buffer: &'a [u8], message: &libc::msghdr) -> Option<Self> {
        let out = RecvMsgOut::parse(buffer, message).ok()?;
        let (name, control) = (out.name_data().len(), out.control_data().len());
        if out.is_payload_truncated() || out.is_control_data_truncated() {
            return None;
        }
        let name = buffer.get(OUT_BYTES..OUT_BYTES + name)?;
        let control = buffer.get(OUT_BYTES + NAME_ROOM..OUT_BYTES + NAME_ROOM + control)?;
        let payload = buffer.get(HEADER_BYTES..HEADER_BYTES + out.payload_data().len())?;
        Some(Self { from: decode(name)?, payload, segment: decode_gro(control) })
    }

    /// The single datagrams, in the order they were sent. Only the last may be shorter than the others.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let size = self.segment.unwrap_or(self.payload.len()).max(1);
        // `chunks` of nothing is nothing, but an empty datagram is one.
        let empty = self.payload.is_empty().then_some(self.payload);
        empty.into_iter().chain(self.payload.chunks(size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::address::encode;
    use crate::driver::cmsg::tests::with_int;

    /// A buffer as the kernel fills it.
    fn buffer(control: &[u8], payload: &[u8], flags: i32) -> Vec<u8> {
        let mut name = [0; NAME_BYTES];
        let name_length = encode(sender(), &mut name);
        let mut bytes = Vec::new();
        for number in [name_length, control.len(), payload.len(), flags as usize] {
            bytes.extend((number as u32).to_ne_bytes());
        }
        bytes.extend(&name[..name_length]);
        bytes.resize(OUT_BYTES + NAME_ROOM, 0);
        bytes.extend(control);
        bytes.resize(HEADER_BYTES, 0);
        bytes.extend(payload);
        bytes
    }

    fn sender() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 7], 4000))
    }

    fn datagrams(buffer: &[u8]) -> Vec<Vec<u8>> {
        let arrival = Arrival::parse(buffer, &message()).expect("complete");
        assert_eq!(arrival.from, sender());
        arrival.datagrams().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn a_buffer_without_a_segment_size_is_one_datagram() {
        assert_eq!(datagrams(&buffer(&[], b"hello", 0)), [b"hello"]);
        assert_eq!(datagrams(&buffer(&[], b"", 0)), [b""]);
    }

    #[test]
    fn a_coalesced_buffer_is_split_and_the_last_may_be_shorter() {
        let control = with_int(libc::SOL_UDP, libc::UDP_GRO, 4);
        assert_eq!(datagrams(&buffer(&control, b"aaaabbbbcc", 0)), [&b"aaaa"[..], b"bbbb", b"cc"]);
        assert_eq!(datagrams(&buffer(&control, b"aaaabbbb", 0)), [b"aaaa", b"bbbb"]);
        assert_eq!(datagrams(&buffer(&control, b"aa", 0)), [b"aa"]);
    }

    #[test]
    fn a_foreign_or_senseless_control_message_splits_nothing() {
        for (level, kind, size) in [
            (libc::SOL_SOCKET, libc::UDP_GRO, 2),
            (libc::SOL_UDP, libc::UDP_GRO, 0),
            (libc::SOL_UDP, libc::UDP_GRO, -5),
        ] {
            assert_eq!(datagrams(&buffer(&with_int(level, kind, size), b"whole", 0)), [b"whole"]);
        }
    }

    #[test]
    fn a_cut_buffer_is_refused() {
        let whole = buffer(&[], b"hello", 0);
        for length in 0..HEADER_BYTES {
            assert_eq!(Arrival::parse(&whole[..length], &message()), None);
        }
        for flag in [libc::MSG_TRUNC, libc::MSG_CTRUNC] {
            assert_eq!(Arrival::parse(&buffer(&[], b"hello", flag), &message()), None);
        }
    }
}
