//! Send slots: everything the kernel looks at while a datagram or a train is on its way out.

use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::ptr;

use super::address::{NAME_BYTES, encode};
use super::cmsg::{SEGMENT_ROOM, encode_segment};
use super::outgoing::Outgoing;
use super::user_data::{SlotIndex, SocketIndex};

/// A fixed number of slots; a send operation in flight has one to itself.
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
    control: [u8; SEGMENT_ROOM],
    outgoing: Outgoing,
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

    /// Puts an operation into a free slot; gives it back if there is none.
    pub(super) fn claim(&mut self, outgoing: Outgoing) -> Result<SlotIndex, Outgoing> {
        let Some(index) = self.free.pop() else { return Err(outgoing) };
        self.slots[index.0 as usize].fill(outgoing);
        Ok(index)
    }

    pub(super) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The socket and the message of a claimed slot. The message and all it points to stay in place until the slot is
    /// released.
    pub(super) fn message(&self, index: SlotIndex) -> (SocketIndex, *const libc::msghdr) {
        let slot = &self.slots[index.0 as usize];
        (slot.outgoing.socket, &raw const slot.header)
    }

    /// Frees a slot whose operation the kernel has completed, or never saw, and returns what it carried.
    pub(super) fn release(&mut self, index: SlotIndex) -> Outgoing {
        self.free.push(index);
        mem::replace(&mut self.slots[index.0 as usize].outgoing, nothing())
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
            control: [0; SEGMENT_ROOM],
            outgoing: nothing(),
        }
    }

    /// Points the message at this slot's own fields; the slot is in its place already.
    fn fill(&mut self, outgoing: Outgoing) {
        self.outgoing = outgoing;
        let outgoing = &mut self.outgoing;
        self.vector.iov_base = outgoing.bytes.as_mut_ptr().cast();
        self.vector.iov_len = outgoing.bytes.len();
        self.header.msg_namelen = encode(outgoing.to, &mut self.name) as libc::socklen_t;
        self.header.msg_name = self.name.as_mut_ptr().cast();
        self.header.msg_iov = &raw mut self.vector;
        self.header.msg_iovlen = 1;
        // A single datagram has no control message: some kernels refuse one on IPv6. Neither has a segment beyond 16 bits,
        // which is longer than any datagram and refused without it.
        let segment = u16::try_from(outgoing.segment()).ok().filter(|_| outgoing.datagrams() > 1);
        match segment {
            Some(segment) => {
                self.control = encode_segment(segment);
                self.header.msg_control = self.control.as_mut_ptr().cast();
                self.header.msg_controllen = SEGMENT_ROOM as _;
            }
            None => {
                self.header.msg_control = ptr::null_mut();
                self.header.msg_controllen = 0;
            }
        }
    }
}

/// What a free slot carries. Allocates nothing.
fn nothing() -> Outgoing {
    Outgoing::single(SocketIndex::new(0), SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0), Vec::new())
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

    fn datagram(payload: Vec<u8>) -> Outgoing {
        Outgoing::single(SOCKET, SocketAddr::from(([127, 0, 0, 1], 9)), payload)
    }

    #[test]
    fn what_finds_no_slot_is_given_back() {
        let mut slots = SendSlots::new(2);
        let first = slots.claim(datagram(vec![1])).expect("a slot");
        slots.claim(datagram(vec![2])).expect("a slot");
        assert!(!slots.has_free());
        assert_eq!(slots.claim(datagram(vec![3])), Err(datagram(vec![3])));
        assert_eq!(slots.release(first), datagram(vec![1]));
        assert_eq!(slots.claim(datagram(vec![3])), Ok(first));
    }

    #[test]
    fn a_claimed_message_points_into_its_slot_and_stays_when_the_slots_move() {
        let mut slots = SendSlots::new(4);
        let payload = vec![7; 1200];
        let data = payload.as_ptr();
        let train = Outgoing::train(SOCKET, SocketAddr::from(([127, 0, 0, 1], 9)), 500, payload);
        let index = slots.claim(train).expect("a slot");
        let before = slots.message(index);
        let moved = Box::new(slots);
        let (socket, message) = moved.message(index);
        assert_eq!((socket, message), before);
        let slot = &moved.slots[index.0 as usize];
        assert!(ptr::eq(slot.header.msg_name.cast(), slot.name.as_ptr()));
        assert!(ptr::eq(slot.header.msg_iov, &raw const slot.vector));
        assert!(ptr::eq(slot.header.msg_control.cast(), slot.control.as_ptr()));
        assert!(ptr::eq(slot.vector.iov_base.cast(), data));
        assert_eq!(slot.vector.iov_len, 1200);
    }

    #[test]
    fn a_slot_that_carried_a_train_carries_a_single_datagram_without_control_message() {
        let mut slots = SendSlots::new(1);
        let to = SocketAddr::from(([127, 0, 0, 1], 9));
        for (length, controlled) in [(1001, true), (1000, false), (0, false), (2000, true)] {
            let index = slots.claim(Outgoing::train(SOCKET, to, 1000, vec![0; length])).expect("a slot");
            let header = &slots.slots[index.0 as usize].header;
            assert_eq!((!header.msg_control.is_null(), header.msg_controllen > 0), (controlled, controlled));
            slots.release(index);
        }
    }
}
