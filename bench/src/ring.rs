//! A send ring with nothing around it: the floor that the server's own ring is held against, and the io_uring variants
//! that the server does not use (zero copy, connected sockets).
//!
//! The only file here with `unsafe`: a submission carries addresses, and the kernel reads from them later.

use io_uring::types::Fixed;
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::io;
use std::mem;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

/// Bytes on their way out.
#[derive(Debug)]
pub enum Payload {
    /// Read by many sends.
    Shared(&'static [u8]),
    /// Of this send alone; [`SendRing::buffer`] gives it back.
    Own(Vec<u8>),
}

impl Payload {
    fn bytes(&self) -> &[u8] {
        match self {
            Payload::Shared(bytes) => bytes,
            Payload::Own(bytes) => bytes,
        }
    }
}

/// One send.
#[derive(Debug)]
pub struct Shot {
    /// Place in the sockets that the ring was built with.
    pub socket: u32,
    /// None for a connected socket.
    pub to: Option<SocketAddrV4>,
    /// What; a train if the socket has UDP_SEGMENT set and this is longer.
    pub payload: Payload,
    /// IORING_OP_SEND_ZC instead of IORING_OP_SEND.
    pub zero_copy: bool,
}

/// A ring that sends in batches. It belongs to the thread that built it.
pub struct SendRing {
    ring: IoUring,
    /// Boxed once and never resized: the kernel holds addresses into it.
    slots: Box<[Slot]>,
    free: Vec<u32>,
    spare: Vec<Vec<u8>>,
    failed: u64,
}

struct Slot {
    to: libc::sockaddr_in,
    payload: Payload,
}

impl SendRing {
    /// A ring for batches of `batch` sends (a power of two) on `sockets`.
    pub fn new(sockets: &[UdpSocket], batch: u32) -> io::Result<SendRing> {
        // The flags of the server's ring.
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .build(batch)?;
        let descriptors = sockets.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>();
        ring.submitter().register_files(&descriptors)?;
        let slots = (0..batch).map(|_| Slot { to: wire_address(None), payload: Payload::Shared(&[]) });
        Ok(SendRing {
            ring,
            slots: slots.collect(),
            free: (0..batch).rev().collect(),
            spare: vec![],
            failed: 0,
        })
    }

    /// Sends that are queued or with the kernel. When they are as many as the ring holds, [`SendRing::push`] flushes first.
    pub fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Queues a send; it leaves with the next [`SendRing::flush`].
    pub fn push(&mut self, shot: Shot) -> io::Result<()> {
        if self.free.is_empty() {
            self.flush()?;
        }
        let Some(index) = self.free.pop() else { return Err(io::ErrorKind::WouldBlock.into()) };
        let slot = &mut self.slots[index as usize];
        slot.payload = shot.payload;
        slot.to = wire_address(shot.to);
        let entry = entry(slot, shot.socket, shot.to.is_some(), shot.zero_copy).user_data(index.into());
        // SAFETY: the entry's addresses are of a slot, which does not move, and of its payload, whose bytes are on the heap
        // or static. Both stay untouched until the send's last completion returns the slot to `free`.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.map_err(|full| {
            self.free.push(index); // the kernel never saw it
            io::Error::other(full)
        })
    }

    /// Submits what is queued and waits until the kernel is done with all of it.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.in_flight() > 0 {
            match self.ring.submit_and_wait(self.in_flight()) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => self.reap(),
            }
        }
        Ok(())
    }

    /// An empty buffer, reused if a send has ended.
    pub fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Sends that the kernel refused.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Capacity of the buffers that wait for [`SendRing::buffer`]. Grows only while buffers are allocated.
    pub fn spare_bytes(&self) -> usize {
        self.spare.iter().map(Vec::capacity).sum()
    }

    fn reap(&mut self) {
        for completion in self.ring.completion() {
            let flags = completion.flags();
            if completion.result() < 0 && !cqueue::notif(flags) {
                self.failed += 1;
            }
            // A zero-copy send completes twice: when it was queued, and when its memory is free again.
            if cqueue::more(flags) {
                continue;
            }
            let index = completion.user_data() as u32;
            let payload = mem::replace(&mut self.slots[index as usize].payload, Payload::Shared(&[]));
            if let Payload::Own(mut buffer) = payload {
                buffer.clear();
                self.spare.push(buffer);
            }
            self.free.push(index);
        }
    }
}

impl Drop for SendRing {
    fn drop(&mut self) {
        if self.flush().is_err() {
            // The kernel may still read this memory; losing it is the only safe way on.
            mem::forget(mem::take(&mut self.slots));
        }
    }
}

fn entry(slot: &Slot, socket: u32, addressed: bool, zero_copy: bool) -> squeue::Entry {
    let (bytes, file) = (slot.payload.bytes(), Fixed(socket));
    let (to, to_length) = match addressed {
        true => (&raw const slot.to, size_of::<libc::sockaddr_in>()),
        false => (ptr::null(), 0),
    };
    let (data, length, to_length) = (bytes.as_ptr(), bytes.len() as u32, to_length as libc::socklen_t);
    if zero_copy {
        opcode::SendZc::new(file, data, length).dest_addr(to.cast()).dest_addr_len(to_length).build()
    } else {
        opcode::Send::new(file, data, length).dest_addr(to.cast()).dest_addr_len(to_length).build()
    }
}

fn wire_address(address: Option<SocketAddrV4>) -> libc::sockaddr_in {
    let (ip, port) = address.map_or(([0; 4], 0), |address| (address.ip().octets(), address.port()));
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(ip) },
        sin_zero: [0; 8],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{Sink, SinkKind};

    fn shot(sink: &Sink, payload: Payload, zero_copy: bool) -> Shot {
        Shot { socket: 0, to: Some(sink.targets()[0]), payload, zero_copy }
    }

    #[test]
    fn more_sends_than_the_batch_holds_all_arrive_once() {
        let sink = Sink::open(SinkKind::Loopback, 1).expect("sockets");
        let mut ring = SendRing::new(&[sink.sending_socket().expect("a socket")], 4).expect("a ring");
        for length in 1..=11 {
            ring.push(shot(&sink, Payload::Own(vec![7; length]), length % 2 == 0)).expect("queued");
        }
        ring.flush().expect("sent");
        assert_eq!(ring.failed(), 0);
        assert_eq!(sink.drain().expect("drained"), (1..=11).sum::<u64>());
    }

    #[test]
    fn a_buffer_comes_back_empty_when_its_send_has_ended() {
        let sink = Sink::open(SinkKind::Loopback, 1).expect("sockets");
        let mut ring = SendRing::new(&[sink.sending_socket().expect("a socket")], 4).expect("a ring");
        ring.push(shot(&sink, Payload::Own(Vec::from([1; 900])), false)).expect("queued");
        ring.flush().expect("sent");
        let buffer = ring.buffer();
        assert!(buffer.is_empty() && buffer.capacity() >= 900);
    }

    #[test]
    fn what_is_queued_leaves_before_the_ring_is_dropped() {
        let sink = Sink::open(SinkKind::Loopback, 1).expect("sockets");
        let mut ring = SendRing::new(&[sink.sending_socket().expect("a socket")], 4).expect("a ring");
        ring.push(shot(&sink, Payload::Shared(b"goodbye"), false)).expect("queued");
        drop(ring);
        assert_eq!(sink.drain().expect("drained"), 7);
    }

    #[test]
    fn a_refused_send_is_counted() {
        let sink = Sink::open(SinkKind::Loopback, 1).expect("sockets");
        let mut ring = SendRing::new(&[sink.sending_socket().expect("a socket")], 4).expect("a ring");
        ring.push(Shot { to: None, ..shot(&sink, Payload::Shared(b"nowhere"), false) }).expect("queued");
        ring.flush().expect("done");
        assert_eq!(ring.failed(), 1);
    }
}
