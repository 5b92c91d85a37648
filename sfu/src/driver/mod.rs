//! One worker's I/O: its io_uring, UDP sockets, TCP connections, receive buffers and send slots.
//!
//! This is the only code that talks to the kernel about datagrams. A turn of a worker is [`Driver::wait`], then
//! [`Driver::reap`], then any number of [`Driver::send`] and [`Driver::send_train`]; what was sent leaves with the next wait, in one system call.

mod address;
mod buffers;
mod cmsg;
mod connection;
mod counters;
mod outgoing;
mod probe;
mod receive;
mod ring;
mod send;
mod slots;
mod socket;
mod spare;
mod streams;
mod trains;
mod user_data;
mod waker;

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::Duration;

use io_uring::types::{Fd, Fixed};
use io_uring::{opcode, squeue};

use self::buffers::BufferRing;
use self::outgoing::Rest;
use self::receive::Arrival;
use self::ring::{Completion, Ring};
use self::slots::SendSlots;
use self::spare::SpareBuffers;
use self::streams::Streams;
use self::trains::Trains;
use self::user_data::Operation;
use crate::error::StartError;

pub use self::connection::STREAM_QUEUE_BYTES;
pub use self::counters::{DriverCounters, StreamEnd, TrainSizes};
pub use self::probe::{KernelFacts, KernelVersion, probe, raise_descriptor_limit};
pub use self::receive::Datagram;
pub use self::socket::{
    BufferSizes, RECEIVE_BUFFER_BYTES, SEND_BUFFER_BYTES, open_listeners, open_shared_sockets, open_sockets,
    prepare_stream,
};
pub use self::trains::TrainLimits;
pub use self::user_data::SocketIndex;
pub use self::waker::Waker;

/// Datagrams that one [`Driver::reap`] hands out, and then the rest of a coalesced buffer at most. One armed socket delivers
/// 32 a wait (a limit of the kernel), so this is a full wait of four sockets: 128 µs at 1 µs a datagram before the worker
/// sees its timers again.
const DATAGRAMS_PER_REAP: u64 = 128;
/// Spare buffers per ring entry: one in a submission, and one that the caller writes meanwhile.
const SPARE_PER_ENTRY: usize = 2;
/// Receives that fail in a row before the driver gives up. A socket fails for a moment when memory is short; one that
/// always fails would keep the worker spinning.
const FAILURES_IN_A_ROW_MAX: u32 = 1000;

/// Capacities of a [`Driver`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverConfig {
    /// Operations submitted by one system call at most; a power of two. 256 sends of 1.9 µs hide the cost of the call.
    pub ring_entries: u32,
    /// Receive buffers, each 68 KiB of address space; memory is used where data arrives. A power of two. 256 are the 32 that
    /// the kernel fills per socket and wait, for eight sockets.
    pub recv_buffers: u16,
    /// Send operations in flight at most, each a datagram or a train. A send ends within its system call unless the
    /// socket's send buffer is full; 1024 are one full submission and three that wait for room.
    pub send_slots: usize,
    /// TCP connections at once. Each is one file descriptor, and up to [`STREAM_QUEUE_BYTES`] while its client is slow: 1 GiB if
    /// all are.
    pub connections: usize,
}

/// Buffers for what comes over TCP, each 16 KiB: of more connections than that with data at once, some are read a turn later.
const STREAM_BUFFERS: u16 = 64;

impl Default for DriverConfig {
    fn default() -> Self {
        Self { ring_entries: 256, recv_buffers: 256, send_slots: 1024, connections: 4096 }
    }
}

/// A driver that cannot go on; its worker must be built anew.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The kernel refused the ring.
    #[error("io_uring_enter failed ({0}): the worker must be restarted")]
    Enter(io::Error),
    /// Receives failed again and again.
    #[error("receiving failed {FAILURES_IN_A_ROW_MAX} times in a row ({0}): the worker must be restarted")]
    Receive(io::Error),
}

/// One worker's ring and sockets. It belongs to the thread that built it.
///
/// On drop, what is queued is still submitted, then every operation is ended before its memory is freed. The fields drop
/// in their order: first the ring, then the memory the kernel was shown, last the sockets.
pub struct Driver {
    ring: Ring,
    buffers: BufferRing,
    stream_buffers: BufferRing,
    slots: SendSlots,
    /// Memory for trains, not known to the kernel.
    spare: SpareBuffers,
    /// Trains that leave in several operations, oldest first: each was in a slot, or found one free.
    rest: VecDeque<Rest>,
    trains: Trains,
    /// Bytes of the sends queued since the last submission.
    queued_bytes: usize,
    /// The message of every receive. Boxed, so that it stays in place when the driver moves.
    receive_message: Box<libc::msghdr>,
    waker: Waker,
    /// Operations without a completion to come: started anew at the end of every reap.
    disarmed: Vec<Operation>,
    /// Receives and wakes that failed since the last one that did not.
    failures_in_a_row: u32,
    last_failure: i32,
    counters: DriverCounters,
    streams: Streams,
    sockets: Vec<UdpSocket>,
    /// What the kernel had dropped before this driver had the sockets.
    dropped_before: u64,
    /// The kernel accepts submissions only of the thread that built the ring: not `Send`.
    _thread: PhantomData<*const ()>,
}

impl Driver {
    /// Builds the ring on the calling thread and starts to receive on `sockets`, as [`open_sockets`] gives them.
    ///
    /// `waker` must not be shared with another driver.
    pub fn new(sockets: Vec<UdpSocket>, waker: &Waker, config: DriverConfig) -> Result<Self, StartError> {
        Self::build(sockets, waker, config).map_err(probe::ring_error)
    }

    fn build(sockets: Vec<UdpSocket>, waker: &Waker, config: DriverConfig) -> io::Result<Self> {
        let count = u16::try_from(sockets.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let buffers = BufferRing::new(config.recv_buffers)?;
        let stream_buffers = BufferRing::for_streams(STREAM_BUFFERS)?;
        let slots = SendSlots::new(config.send_slots);
        let ring = Ring::new(config.ring_entries, completions_max(&buffers, &sockets, config))?;
        buffers.register(&ring.submitter())?;
        stream_buffers.register(&ring.submitter())?;
        for socket in &sockets {
            // io_uring answers EAGAIN at once for a non-blocking socket instead of waiting for data.
            socket.set_nonblocking(false)?;
        }
        let descriptors = sockets.iter().map(UdpSocket::as_raw_fd).chain([waker.fd()]).collect::<Vec<_>>();
        ring.submitter().register_files(&descriptors)?;
        let receives = (0..count).map(|index| Operation::Receive(SocketIndex::new(index)));
        let mut driver = Self {
            disarmed: receives.chain([Operation::Wake]).collect(),
            ring,
            buffers,
            stream_buffers,
            slots,
            spare: SpareBuffers::new(config.ring_entries as usize * SPARE_PER_ENTRY),
            rest: VecDeque::with_capacity(config.send_slots + 1),
            trains: Trains::new(TrainLimits::probe(), count),
            queued_bytes: 0,
            receive_message: Box::new(receive::message()),
            waker: waker.clone(),
            failures_in_a_row: 0,
            last_failure: 0,
            counters: DriverCounters::default(),
            streams: Streams::new(config.connections),
            dropped_before: dropped_by_kernel(&sockets),
            sockets,
            _thread: PhantomData,
        };
        // A driver before this one may have ended between reading a wake and saying so.
        driver.waker.acknowledge();
        driver.rearm();
        Ok(driver)
    }

    /// Submits what is queued and waits for a completion, a wake or `timeout`: none is for ever, zero does not block. It may
    /// return early, for a signal for example.
    ///
    /// A mailbox must be looked at after the [`Driver::reap`] that follows, not before it: a wake that comes in between
    /// would be lost.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<(), DriverError> {
        if self.failures_in_a_row >= FAILURES_IN_A_ROW_MAX {
            return Err(DriverError::Receive(io::Error::from_raw_os_error(self.last_failure)));
        }
        self.send_streams();
        // An operation that found no room in the queue must not wait for a completion that may never come.
        let unsent = !self.rest.is_empty() && self.slots.has_free() || self.has_unsent_streams();
        let stuck = !self.disarmed.is_empty() || unsent;
        let timeout = if stuck { Some(Duration::ZERO) } else { timeout };
        self.queued_bytes = 0;
        self.ring.submit_and_wait(timeout).map_err(DriverError::Enter)
    }

    /// Handles completions and calls `on` for each received datagram. A bounded number: the next wait returns at once if
    /// more are there. If `on` panics, the buffer that it was given is lost to the driver.
    pub fn reap(&mut self, mut on: impl FnMut(Datagram<'_>)) {
        let enough = self.counters.received + DATAGRAMS_PER_REAP;
        while self.counters.received < enough
            && let Some(completion) = self.ring.next()
        {
            match completion.operation {
                Some(Operation::Receive(socket)) => self.received(socket, completion, &mut on),
                Some(Operation::Send(slot)) => self.sent(slot, completion.result),
                Some(Operation::Wake) => self.woken(completion.result),
                Some(Operation::StreamReceive(connection)) => {
                    self.stream_received(connection, completion, &mut on);
                }
                Some(Operation::StreamSend(connection)) => self.stream_sent(connection, completion.result),
                None => {}
            }
        }
        // Buffers first: a receive that starts with none would end at once.
        self.buffers.publish();
        self.stream_buffers.publish();
        self.rearm();
        self.send_rest();
    }

    fn received(&mut self, socket: SocketIndex, completion: Completion, on: &mut impl FnMut(Datagram<'_>)) {
        if !completion.more() {
            self.disarmed.push(Operation::Receive(socket));
        }
        match -completion.result {
            libc::ENOBUFS => self.counters.receive_buffers_exhausted += 1,
            errno @ 1.. => {
                self.counters.receive_failed += 1;
                self.failed(errno);
            }
            _ => self.failures_in_a_row = 0,
        }
        let Some(filled) = self.buffers.filled(completion.result, completion.flags) else { return };
        match Arrival::parse(self.buffers.bytes(&filled), &self.receive_message) {
            Some(arrival) => {
                self.counters.receive_buffers += 1;
                for payload in arrival.datagrams() {
                    self.counters.received += 1;
                    on(Datagram { socket, from: arrival.from, payload });
                }
            }
            None => self.counters.receive_malformed += 1,
        }
        self.buffers.recycle(filled);
    }

    fn woken(&mut self, result: i32) {
        self.disarmed.push(Operation::Wake);
        if result < 0 {
            self.failed(-result);
        } else {
            self.counters.wakes += 1;
            self.waker.acknowledge();
        }
    }

    fn failed(&mut self, errno: i32) {
        self.failures_in_a_row += 1;
        self.last_failure = errno;
    }

    /// What was done so far.
    pub fn counters(&self) -> DriverCounters {
        DriverCounters { enters: self.ring.enters, ..self.counters }
    }

    /// Datagrams that the kernel dropped because a socket's receive buffer was full. One system call a socket: to be asked once
    /// a second, not once a turn.
    pub fn dropped_by_kernel(&self) -> u64 {
        dropped_by_kernel(&self.sockets).saturating_sub(self.dropped_before)
    }

    /// The sockets, in the order of their [`SocketIndex`].
    pub fn sockets(&self) -> &[UdpSocket] {
        &self.sockets
    }

    fn rearm(&mut self) {
        while let Some(&operation) = self.disarmed.last()
            && self.start(operation)
        {
            self.disarmed.pop();
        }
    }

    /// Queues an operation, unless there is no reason for it any more. False if there is no room even after a submission.
    fn start(&mut self, operation: Operation) -> bool {
        let Some(entry) = self.entry(operation) else { return true };
        let entry = entry.user_data(operation.pack());
        // SAFETY: every pointer in an entry is to memory that this driver owns and that does not move: the slots and the
        // receive message are boxed, the counter is in the waker's `Arc`, the receive buffers are mappings, what a connection
        // sends is on the heap. A slot is released when its send has ended, a connection when both of its operations have, the
        // others on drop, after the ring was drained; else they are leaked.
        let started = unsafe { self.ring.push(&entry) };
        match operation {
            Operation::StreamReceive(index) => self.streams.started(index, started, false),
            Operation::StreamSend(index) => self.streams.started(index, false, started),
            _ => {}
        }
        started
    }

    fn entry(&self, operation: Operation) -> Option<squeue::Entry> {
        let file = |socket: SocketIndex| Fixed(socket.get().into());
        Some(match operation {
            Operation::Receive(socket) => {
                opcode::RecvMsgMulti::new(file(socket), &raw const *self.receive_message, buffers::DATAGRAMS)
                    .build()
            }
            Operation::Send(slot) => {
                let (socket, message) = self.slots.message(slot);
                opcode::SendMsg::new(file(socket), message).build()
            }
            Operation::Wake => {
                let file = Fixed(self.sockets.len() as u32);
                opcode::Read::new(file, self.waker.counter(), size_of::<u64>() as u32).build()
            }
            Operation::StreamReceive(index) => {
                let connection = self.streams.get(index).filter(|connection| connection.may_receive())?;
                let receive = opcode::Recv::new(Fd(connection.fd()), ptr::null_mut(), 0);
                receive.buf_group(buffers::STREAMS).build().flags(squeue::Flags::BUFFER_SELECT)
            }
            Operation::StreamSend(index) => {
                let connection = self.streams.get(index)?;
                let bytes = connection.unsent();
                opcode::Send::new(Fd(connection.fd()), bytes.as_ptr(), bytes.len() as u32)
                    .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
                    .build()
            }
        })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // A train that the kernel refuses now still goes out singly.
        self.reclaim();
        self.send_rest();
        self.send_streams();
        self.ring.drain();
        if self.ring.in_flight() == 0 {
            // Frees the ports now; else the kernel holds them until it has torn the ring down, later and elsewhere.
            let _ = self.ring.submitter().unregister_files();
            return;
        }
        // The kernel may still read or write this memory. Losing it is the only safe way on.
        self.buffers.abandon();
        self.stream_buffers.abandon();
        self.streams.abandon();
        self.slots.abandon();
        mem::forget(mem::replace(&mut self.receive_message, Box::new(receive::message())));
        mem::forget(self.waker.clone());
    }
}

fn dropped_by_kernel(sockets: &[UdpSocket]) -> u64 {
    sockets.iter().filter_map(|socket| socket::kernel_drops(socket).ok()).sum()
}

/// Completions that can wait at once: each buffer once, each send once, the end of each receive, the
/// wake, and a receive and a send of each connection.
fn completions_max(buffers: &BufferRing, sockets: &[UdpSocket], config: DriverConfig) -> u32 {
    let streams = 2 * config.connections;
    let completions = usize::from(buffers.count()) + config.send_slots + sockets.len() + 1 + streams;
    u32::try_from(completions).unwrap_or(u32::MAX)
}
