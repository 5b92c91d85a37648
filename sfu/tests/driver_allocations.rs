//! Sending trains allocates nothing once it is under way.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use sfu::driver::{Driver, DriverConfig, SocketIndex, Waker, open_sockets};

/// The system's allocator, counting what each thread asks of it.
struct Counting;

thread_local! {
    /// Needs no allocation itself: the value is a constant and has no destructor.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY: every call goes to the system's allocator with the caller's own arguments; counting touches no memory but an
// integer of the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are this function's too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are this function's too.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are this function's too.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are this function's too.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SOCKET: SocketIndex = SocketIndex::new(0);
/// Trains in one turn: more than a ring has entries, and several times the bytes that are queued at once.
const TRAINS_PER_TURN: usize = 300;

/// One turn of a worker: trains and single datagrams of many sizes, all of which come back.
fn turn(driver: &mut Driver, to: SocketAddr, payload: &[u8]) {
    for train in 0..TRAINS_PER_TURN {
        let mut buffer = driver.buffer();
        buffer.extend_from_slice(&payload[..payload.len() * (train % 10 + 1) / 10]);
        driver.send_train(SOCKET, to, 1200, buffer).unwrap();
    }
    driver.wait(Some(Duration::ZERO)).unwrap();
    driver.reap(|datagram| assert!(datagram.payload.len() <= 1200));
}

#[test]
fn thousands_of_trains_leave_without_an_allocation() {
    let sockets = open_sockets(&[Ipv4Addr::LOCALHOST.into()], 0).unwrap();
    let mut driver = Driver::new(sockets, &Waker::new().unwrap(), DriverConfig::default()).unwrap();
    let to = driver.sockets()[0].local_addr().unwrap();
    let payload = vec![7; 12_000];
    let before = ALLOCATIONS.get();
    // A turn that reaps its full share of datagrams leaves ended sends to the next one, which then needs more buffers.
    (0..3).for_each(|_| turn(&mut driver, to, &payload));
    assert!(ALLOCATIONS.get() > before, "the first buffers are allocated, and seen");

    let (before, sent) = (ALLOCATIONS.get(), driver.counters());
    for _ in 0..20 {
        turn(&mut driver, to, &payload);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    let counters = driver.counters();
    let trains = (20 * TRAINS_PER_TURN) as u64;
    assert!(counters.train_datagrams.count() - sent.train_datagrams.count() >= trains);
    assert_eq!((counters.send_failed, counters.send_queue_full, counters.trains_refused), (0, 0, 0));
    assert!(counters.received > 0, "receiving is part of the turn");
}
