//! Send slots: everything the kernel looks at while a datagram is on its way out.

use std::mem;
use std::net::SocketAddr;
use std::ptr;

use super::address::{NAME_BYTES, encode};
use super::user_data::{SlotIndex, SocketIndex};

/// A fixed number of slots; a datagram in flight has one to itself.
///
/// The kernel holds addresses of a slot until its completion, so slots are in one boxed slice: it is allocated once, never
/// grows, and stays where it is when the driver moves.
pub(super) struct SendSlots {
    slots: Box<[Slot]>,
    free: Vec<SlotIndex>,
}

struct Slot {
    name: [u8; NAME_BYTES],
    vector: libc::iovec,
    header: libc::msghdr,
    payload: Vec<u8>,
    socket: SocketIndex,
}

impl SendSlots {
    /// `count` slots.
    pub(super) fn new(count: usize) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            slots: (0..count).map(|_| Slot::empty()).collect(),
            free: (0..count).rev().map(SlotIndex).collect(),
        }
    }

    /// Puts a datagram into a free slot; gives it back if there is none.
    pub(super) fn claim(
        &mut self,
        socket: SocketIndex,
        to: SocketAddr,
        payload: Vec<u8>,
    ) -> Result<SlotIndex, Vec<u8>> {
        let Some(index) = self.free.pop() else { return Err(payload) };
        self.slots[index.0 as usize].fill(socket, to, payload);
        Ok(index)
    }

    pub(super) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// The socket and the message of a claimed slot. The message and all it points to stay in place until the slot is
    /// released.
    pub(super) fn message(&self, index: SlotIndex) -> (SocketIndex, *const libc::msghdr) {
        let slot = &self.slots[index.0 as usize];
        (slot.socket, &raw const slot.header)
    }

    /// Frees a slot whose operation the kernel has completed, or never saw, and returns its payload.
    pub(super) fn release(&mut self, index: SlotIndex) -> Vec<u8> {
        self.free.push(index);
        mem::take(&mut self.slots[index.0 as usize].payload)
    }

    /// Leaves the slots to the kernel for good: it did not give them all back.
    pub(super) fn abandon(&mut self) {
        self.free.clear();
        mem::forget(mem::take(&mut self.slots));
    }
}

impl Slot {
    fn empty() -> Self {
        let vector = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Self {
            name: [0; NAME_BYTES],
            vector,
            header: empty_header(),
            payload: Vec::new(),
            socket: SocketIndex::new(0),
        }
    }

    /// Points the message at this slot's own fields; the slot is in its place already.
    fn fill(&mut self, socket: SocketIndex, to: SocketAddr, payload: Vec<u8>) {
        self.socket = socket;
        self.payload = payload;
        self.vector.iov_base = self.payload.as_mut_ptr().cast();
        self.vector.iov_len = self.payload.len();
        self.header.msg_namelen = encode(to, &mut self.name) as libc::socklen_t;
        self.header.msg_name = self.name.as_mut_ptr().cast();
        self.header.msg_iov = &raw mut self.vector;
        self.header.msg_iovlen = 1;
        // The one place for a train: its UDP_SEGMENT control message is written into the slot and pointed to from here.
        self.header.msg_control = ptr::null_mut();
        self.header.msg_controllen = 0;
    }
}

/// A message header without name, data and control.
pub(super) fn empty_header() -> libc::msghdr {
    // SAFETY: the type is integers and raw pointers, for all of which zero bytes are a value. Some C libraries give it
    // private padding fields, so that it cannot be written as a literal.
    unsafe { mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKET: SocketIndex = SocketIndex::new(3);

    fn to() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9))
    }

    #[test]
    fn a_payload_that_finds_no_slot_is_given_back() {
        let mut slots = SendSlots::new(2);
        let first = slots.claim(SOCKET, to(), vec![1]).expect("a slot");
        slots.claim(SOCKET, to(), vec![2]).expect("a slot");
        assert!(!slots.has_free());
        assert_eq!(slots.claim(SOCKET, to(), vec![3]), Err(vec![3]));
        assert_eq!(slots.release(first), vec![1]);
        assert_eq!(slots.claim(SOCKET, to(), vec![3]), Ok(first));
    }

    #[test]
    fn a_claimed_message_points_into_its_slot_and_stays_when_the_slots_move() {
        let mut slots = SendSlots::new(4);
        let payload = vec![7; 1200];
        let data = payload.as_ptr();
        let index = slots.claim(SOCKET, to(), payload).expect("a slot");
        let before = slots.message(index);
        let moved = Box::new(slots);
        let (socket, message) = moved.message(index);
        assert_eq!((socket, message), before);
        let slot = &moved.slots[index.0 as usize];
        assert!(ptr::eq(slot.header.msg_name.cast(), slot.name.as_ptr()));
        assert!(ptr::eq(slot.header.msg_iov, &raw const slot.vector));
        assert!(ptr::eq(slot.vector.iov_base.cast(), data));
        assert_eq!(slot.vector.iov_len, 1200);
    }
}
