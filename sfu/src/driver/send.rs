//! The way out: single datagrams and trains into slots, ended sends out of them.
//!
//! A send ends within the system call that submits it, unless the socket's buffer is full. So what is queued is submitted
//! as soon as it would outgrow the cache, and the memory of the ended sends is written again while it is still there.

use std::net::SocketAddr;
use std::time::Duration;

use super::outgoing::{Origin, Outgoing, Rest};
use super::trains::{Refusal, TrainLimits};
use super::user_data::{Operation, SlotIndex, SocketIndex};
use super::{Completion, Driver};

/// Bytes queued before they are submitted: half of the smallest L2 cache of a server core (512 KiB), because the kernel's
/// copies need room beside them.
const QUEUED_BYTES_MAX: usize = 256 << 10;

impl Driver {
    /// An empty buffer with room for the longest train. Through [`Driver::send_train`] it comes back to the driver, and is
    /// used again when the kernel has sent it.
    pub fn buffer(&mut self) -> Vec<u8> {
        self.spare.take()
    }

    /// Takes back a buffer that was not sent.
    pub fn give_back(&mut self, buffer: Vec<u8>) {
        self.spare.put(buffer);
    }

    /// What one train may carry now: `segments` is 1 when the kernel has refused trains on all sockets.
    pub fn train_limits(&self) -> TrainLimits {
        self.trains.best()
    }

    /// Queues one datagram, for TCP behind its length; it leaves with the next [`Driver::wait`], or earlier if the queue fills up.
    ///
    /// A payload that finds no slot is given back and counted. What the kernel does with the others is counted when it is
    /// known; UDP may lose them after that.
    pub fn send(&mut self, socket: SocketIndex, to: SocketAddr, payload: Vec<u8>) -> Result<(), Vec<u8>> {
        if !self.is_datagram_socket(socket) {
            return self.queue_stream(socket, to, payload.len(), payload);
        }
        self.queue(Outgoing::single(socket, to, payload))
    }

    /// Queues datagrams of `segment` bytes each, one behind the other in `bytes`; the last may be shorter. A `segment` of 0
    /// is as long as `bytes`. They leave and are counted as by [`Driver::send`], all of them or none.
    ///
    /// What exceeds the [`TrainLimits`], or what the kernel refuses as a train, goes out in smaller trains or singly, in
    /// the same order.
    pub fn send_train(
        &mut self,
        socket: SocketIndex,
        to: SocketAddr,
        segment: usize,
        bytes: Vec<u8>,
    ) -> Result<(), Vec<u8>> {
        if !self.is_datagram_socket(socket) {
            return self.queue_stream(socket, to, segment, bytes);
        }
        self.queue(Outgoing::train(socket, to, segment, bytes))
    }

    fn queue(&mut self, outgoing: Outgoing) -> Result<(), Vec<u8>> {
        self.try_queue(outgoing).map_err(|outgoing| {
            self.counters.send_queue_full += outgoing.datagrams() as u64;
            outgoing.bytes
        })
    }

    fn try_queue(&mut self, outgoing: Outgoing) -> Result<(), Outgoing> {
        if usize::from(outgoing.socket.get()) >= self.sockets.len() {
            return Err(outgoing);
        }
        self.reclaim_if_due();
        self.send_rest();
        if !self.rest.is_empty() || !self.slots.has_free() {
            return Err(outgoing);
        }
        let step = outgoing.step(self.trains.of(outgoing.socket));
        if step >= outgoing.bytes.len() {
            return self.launch(outgoing);
        }
        self.rest.push_back(Rest::new(outgoing, step));
        self.send_rest();
        Ok(())
    }

    fn launch(&mut self, outgoing: Outgoing) -> Result<(), Outgoing> {
        let bytes = outgoing.bytes.len();
        let slot = self.slots.claim(outgoing)?;
        if !self.start(Operation::Send(slot)) {
            return Err(self.slots.release(slot));
        }
        self.queued_bytes += bytes;
        Ok(())
    }

    /// Goes on with trains that leave in several operations, as far as there are slots; [`Driver::reap`] finds the others.
    pub(super) fn send_rest(&mut self) {
        while !self.rest.is_empty() {
            self.reclaim_if_due();
            let Some(first) = self.rest.front().filter(|_| self.slots.has_free()) else { return };
            let next = first.next(self.spare.take());
            if let Err(next) = self.launch(next) {
                self.spare.put(next.bytes);
                return;
            }
            if self.rest.front_mut().is_some_and(Rest::advance)
                && let Some(ended) = self.rest.pop_front()
            {
                self.spare.put(ended.into_bytes());
            }
        }
    }

    fn reclaim_if_due(&mut self) {
        if !self.slots.has_free() || self.queued_bytes >= QUEUED_BYTES_MAX || self.ring.is_full() {
            self.reclaim();
        }
    }

    /// Lets the kernel end the sends that are queued. Receives are left for the next reap.
    pub(super) fn reclaim(&mut self) {
        // An error leaves no slot free, which the caller finds out, and comes back from the next wait. If all sends wait for
        // room in a socket's buffer, there is nothing to submit and this costs no system call.
        let _ = self.ring.submit_and_wait(Some(Duration::ZERO));
        self.queued_bytes = 0;
        while let Some(Completion { operation, result, .. }) = self.ring.next_send() {
            if let Some(Operation::Send(slot)) = operation {
                self.sent(slot, result);
            }
        }
    }

    /// A send has ended.
    pub(super) fn sent(&mut self, slot: SlotIndex, result: i32) {
        let outgoing = self.slots.release(slot);
        let datagrams = outgoing.datagrams();
        if result >= 0 {
            self.taken(&outgoing, datagrams as u64);
        } else if datagrams > 1
            && let Some(refusal) = Refusal::of(-result, outgoing.segment())
        {
            self.counters.trains_refused += 1;
            self.rest.push_back(Rest::singly(outgoing, refusal));
            return;
        } else {
            self.counters.send_failed += datagrams as u64;
        }
        self.spare.put(outgoing.bytes);
    }

    fn taken(&mut self, outgoing: &Outgoing, datagrams: u64) {
        self.counters.sent += datagrams;
        if outgoing.origin != Origin::Single {
            self.counters.train_datagrams.observe(datagrams);
        }
        if outgoing.origin == Origin::Refused(Refusal::Trains) && self.trains.switch_off(outgoing.socket) {
            let address = self.sockets[usize::from(outgoing.socket.get())].local_addr().ok();
            tracing::warn!(
                ?address,
                "the network interface refuses UDP_SEGMENT: datagrams of this socket are sent one by one from now on, at \
                 several times the cost; switch on its checksum offload (`ethtool -K IFACE tx on`) and restart"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::{DriverConfig, Waker, open_sockets};
    use std::net::Ipv4Addr;

    const SOCKET: SocketIndex = SocketIndex::new(0);

    fn driver(send_slots: usize) -> Driver {
        let sockets = open_sockets(&[Ipv4Addr::LOCALHOST.into()], 0).expect("socket");
        let config = DriverConfig { send_slots, ..DriverConfig::default() };
        Driver::new(sockets, &Waker::new().expect("eventfd"), config).expect("driver")
    }

    /// A train of three in a slot, of which the kernel was not told.
    fn in_flight(driver: &mut Driver) -> SlotIndex {
        let to = driver.sockets[0].local_addr().expect("address");
        let train = Outgoing::train(SOCKET, to, 1000, vec![0; 2500]);
        driver.slots.claim(train).expect("a slot")
    }

    fn finish(driver: &mut Driver) {
        while driver.slots.in_use() > 0 || !driver.rest.is_empty() {
            driver.wait(Some(Duration::ZERO)).expect("ring");
            driver.reap(|_| {});
        }
    }

    #[test]
    fn each_refusal_sends_the_datagrams_singly_and_only_those_of_the_way_switch_trains_off() {
        let refusals =
            [(libc::EIO, true), (libc::EOPNOTSUPP, true), (libc::EINVAL, true), (libc::EMSGSIZE, false)];
        for (errno, switched_off) in refusals {
            let mut driver = driver(4);
            let slot = in_flight(&mut driver);
            driver.sent(slot, -errno);
            assert!(driver.train_limits().segments > 1, "not before a datagram went out alone");
            finish(&mut driver);
            let counters = driver.counters();
            assert_eq!((counters.trains_refused, counters.sent, counters.send_failed), (1, 3, 0));
            assert_eq!(driver.train_limits().segments == 1, switched_off, "errno {errno}");
        }
    }

    #[test]
    fn a_train_that_fails_for_another_reason_fails_with_all_its_datagrams() {
        let mut driver = driver(4);
        let slot = in_flight(&mut driver);
        driver.sent(slot, -libc::ENETUNREACH);
        finish(&mut driver);
        let counters = driver.counters();
        assert_eq!((counters.trains_refused, counters.sent, counters.send_failed), (0, 0, 3));
    }

    #[test]
    fn datagrams_of_a_refused_train_wait_for_slots_and_nothing_overtakes_them() {
        let mut driver = driver(2);
        let (refused, busy) = (in_flight(&mut driver), in_flight(&mut driver));
        driver.sent(refused, -libc::EMSGSIZE);
        // One slot is free and is used again and again; the other never ends.
        driver.send_rest();
        assert_eq!((driver.slots.in_use(), driver.rest.is_empty()), (2, true));
        let refused_too = busy;
        driver.sent(refused_too, -libc::EMSGSIZE);
        finish(&mut driver);
        assert_eq!((driver.counters().sent, driver.counters().trains_refused), (6, 2));
    }

    #[test]
    fn while_a_refused_train_waits_for_a_slot_new_ones_are_given_back() {
        let mut driver = driver(1);
        let refused = in_flight(&mut driver);
        driver.sent(refused, -libc::EMSGSIZE);
        let busy = in_flight(&mut driver);
        let to = driver.sockets[0].local_addr().expect("address");
        assert_eq!(driver.send(SOCKET, to, vec![1]), Err(vec![1]));
        driver.sent(busy, 2500);
        finish(&mut driver);
        assert_eq!((driver.counters().sent, driver.counters().send_queue_full), (6, 1));
    }
}
