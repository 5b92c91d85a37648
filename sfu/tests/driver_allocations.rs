//! Sending trains allocates nothing once it is under way.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod counting;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use counting::allocations;
use sfu::driver::{Driver, DriverConfig, SocketIndex, Waker, open_sockets};

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
    let before = allocations();
    // A turn that reaps its full share of datagrams leaves ended sends to the next one, which then needs more buffers.
    (0..3).for_each(|_| turn(&mut driver, to, &payload));
    assert!(allocations() > before, "the first buffers are allocated, and seen");

    let (before, sent) = (allocations(), driver.counters());
    for _ in 0..20 {
        turn(&mut driver, to, &payload);
    }
    assert_eq!(allocations() - before, 0);
    let counters = driver.counters();
    let trains = (20 * TRAINS_PER_TURN) as u64;
    assert!(counters.train_datagrams.count() - sent.train_datagrams.count() >= trains);
    assert_eq!((counters.send_failed, counters.send_queue_full, counters.trains_refused), (0, 0, 0));
    assert!(counters.received > 0, "receiving is part of the turn");
}
