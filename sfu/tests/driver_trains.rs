//! Trains (UDP_SEGMENT) against the real kernel, on the loopback interface: what was put in comes out as datagrams.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use sfu::driver::{Driver, DriverConfig, SocketIndex, Waker, open_sockets};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const FIRST: SocketIndex = SocketIndex::new(0);
/// Long enough for any step on a busy machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

fn driver_with(sockets: Vec<UdpSocket>, config: DriverConfig) -> Driver {
    Driver::new(sockets, &Waker::new().unwrap(), config).unwrap()
}

fn driver(ip: IpAddr) -> Driver {
    driver_with(open_sockets(&[ip], 0).unwrap(), DriverConfig::default())
}

/// A socket without UDP_GRO. At the usual limit of 208 KiB it holds 500 small datagrams, or 180 of a train.
fn receiver(ip: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, 4 << 20);
    socket.set_nonblocking(true).unwrap();
    socket
}

fn set_option(socket: &UdpSocket, level: libc::c_int, name: libc::c_int, value: libc::c_int) {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    let value = (&raw const value).cast();
    // SAFETY: the pointer is to an integer that lives across the call, and the length is that integer's.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value, length) };
    assert_eq!(result, 0);
}

/// Bytes that differ from datagram to datagram and within one.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

fn queue_train(driver: &mut Driver, to: SocketAddr, segment: usize, bytes: &[u8]) {
    let mut buffer = driver.buffer();
    assert!(buffer.is_empty() && buffer.capacity() >= driver.train_limits().bytes);
    buffer.extend_from_slice(bytes);
    driver.send_train(FIRST, to, segment, buffer).unwrap();
}

/// Turns of the driver until `count` datagrams came, and then that no more come.
fn receive(driver: &mut Driver, from: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let (mut datagrams, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    while datagrams.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} datagrams came", datagrams.len());
        turn(driver);
        while let Ok(length) = from.recv(&mut buffer) {
            datagrams.push(buffer[..length].to_vec());
        }
    }
    turn(driver);
    assert_eq!(from.recv(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
    datagrams
}

fn turn(driver: &mut Driver) {
    driver.wait(Some(Duration::ZERO)).unwrap();
    driver.reap(|_| {});
}

#[test]
fn a_train_arrives_as_single_datagrams_and_the_last_may_be_shorter() {
    for ip in [V4, V6] {
        for length in [2 * 1200, 10 * 1200, 10 * 1200 + 1, 10 * 1200 + 1199] {
            let (mut driver, receiver) = (driver(ip), receiver(ip));
            let bytes = pattern(length);
            queue_train(&mut driver, receiver.local_addr().unwrap(), 1200, &bytes);
            let count = length.div_ceil(1200);
            assert!(receive(&mut driver, &receiver, count).into_iter().eq(bytes.chunks(1200)));
            let counters = driver.counters();
            assert_eq!((counters.sent, counters.send_failed, counters.trains_refused), (count as u64, 0, 0));
            assert_eq!((counters.train_datagrams.count(), counters.train_datagrams.sum), (1, count as u64));
        }
    }
}

#[test]
fn a_train_crosses_to_another_driver_as_one_buffer() {
    let (mut client, mut server) = (driver(V4), driver(V4));
    turn(&mut server);
    let bytes = pattern(40 * 1200 + 7);
    queue_train(&mut client, server.sockets()[0].local_addr().unwrap(), 1200, &bytes);
    turn(&mut client);
    let mut received = Vec::new();
    while received.len() < 41 {
        server.wait(Some(PATIENCE)).unwrap();
        let before = received.len();
        server.reap(|datagram| received.push(datagram.payload.to_vec()));
        assert!(received.len() > before, "{before} of 41 datagrams came");
    }
    assert!(received.into_iter().eq(bytes.chunks(1200)));
    assert_eq!(server.counters().receive_buffers, 1);
}

#[test]
fn the_longest_train_that_the_limits_allow_is_one_operation() {
    for ip in [V4, V6] {
        let (mut driver, receiver) = (driver(ip), receiver(ip));
        let limits = driver.train_limits();
        assert!([64, 128].contains(&limits.segments) && limits.bytes == 65_507, "{limits:?}");
        let segment = limits.bytes.div_ceil(limits.segments);
        let bytes = pattern(limits.bytes);
        queue_train(&mut driver, receiver.local_addr().unwrap(), segment, &bytes);
        assert!(receive(&mut driver, &receiver, limits.segments).into_iter().eq(bytes.chunks(segment)));
        assert_eq!(driver.counters().train_datagrams.count(), 1);
    }
}

#[test]
fn a_train_beyond_the_limits_leaves_in_several_operations() {
    let (mut driver, receiver) = (driver(V4), receiver(V4));
    let limits = driver.train_limits();
    let (too_many, too_long) = (pattern(2 * limits.segments + 1), pattern(2 * limits.bytes));
    for (segment, bytes) in [(1, too_many), (1200, too_long)] {
        queue_train(&mut driver, receiver.local_addr().unwrap(), segment, &bytes);
        let datagrams = receive(&mut driver, &receiver, bytes.len().div_ceil(segment));
        assert!(datagrams.into_iter().eq(bytes.chunks(segment)));
    }
    assert_eq!(driver.counters().trains_refused, 0);
    // 2 x limit + 1 in three, 110 datagrams of which 54 fit into one in three.
    assert_eq!(driver.counters().train_datagrams.count(), 6);
}

#[test]
fn what_is_no_longer_than_its_segment_or_has_none_is_a_single_datagram() {
    for ip in [V4, V6] {
        let (mut driver, receiver) = (driver(ip), receiver(ip));
        for (segment, length) in [(1200, 1200), (1200, 7), (0, 900), (0, 0), (1200, 0), (usize::MAX, 900)] {
            let bytes = pattern(length);
            queue_train(&mut driver, receiver.local_addr().unwrap(), segment, &bytes);
            assert_eq!(receive(&mut driver, &receiver, 1), [bytes]);
        }
        let counters = driver.counters();
        assert_eq!((counters.sent, counters.train_datagrams.counts[0]), (6, 6));
    }
}

#[test]
fn a_socket_that_refuses_trains_loses_none_of_their_datagrams_and_has_no_trains_any_more() {
    let (mut driver, receiver) = (driver(V4), receiver(V4));
    // The kernel cuts no train without a checksum to compute.
    set_option(&driver.sockets()[0], libc::SOL_SOCKET, libc::SO_NO_CHECK, 1);
    let to = receiver.local_addr().unwrap();
    assert!(driver.train_limits().segments > 1);

    let bytes = pattern(9 * 1000 + 500);
    queue_train(&mut driver, to, 1000, &bytes);
    queue_train(&mut driver, to, 300, &bytes[..1000]);
    let expected = || bytes.chunks(1000).chain(bytes[..1000].chunks(300));
    assert!(receive(&mut driver, &receiver, 14).into_iter().eq(expected()));
    assert_eq!(driver.train_limits().segments, 1);
    assert_eq!(driver.counters().trains_refused, 2);

    queue_train(&mut driver, to, 1000, &bytes);
    queue_train(&mut driver, to, 300, &bytes[..1000]);
    assert!(receive(&mut driver, &receiver, 14).into_iter().eq(expected()), "in order");
    let counters = driver.counters();
    assert_eq!((counters.trains_refused, counters.sent, counters.send_failed), (2, 28, 0));
    assert_eq!((counters.train_datagrams.counts[0], counters.train_datagrams.count()), (28, 28));
}

#[test]
fn a_segment_beyond_the_mtu_affects_its_train_only() {
    let (mut driver, receiver) = (driver(V6), receiver(V6));
    set_option(&driver.sockets()[0], libc::IPPROTO_IPV6, libc::IPV6_MTU, 1280);
    let (to, bytes) = (receiver.local_addr().unwrap(), pattern(5000));
    for round in 1..=3 {
        queue_train(&mut driver, to, 1400, &bytes);
        assert!(
            receive(&mut driver, &receiver, 4).into_iter().eq(bytes.chunks(1400)),
            "fragmented on the way"
        );
        assert_eq!(driver.counters().trains_refused, round);
    }
    queue_train(&mut driver, to, 1232, &bytes);
    receive(&mut driver, &receiver, 5);
    assert_eq!(driver.counters().trains_refused, 3);
    assert_eq!(driver.counters().train_datagrams.counts[3], 1, "five datagrams in one operation");
}

#[test]
fn a_receiver_that_takes_nothing_at_all_does_not_switch_trains_off() {
    let mut driver = driver(V4);
    // The kernel sends nothing to port 0, with the error that also means "no trains".
    queue_train(&mut driver, SocketAddr::new(V4, 0), 1000, &pattern(3000));
    turn(&mut driver);
    turn(&mut driver);
    let counters = driver.counters();
    assert_eq!((counters.trains_refused, counters.send_failed, counters.sent), (1, 3, 0));
    assert!(driver.train_limits().segments > 1);
}

#[test]
fn one_socket_without_trains_leaves_the_others_theirs() {
    let mut driver = driver_with(open_sockets(&[V4, V4], 0).unwrap(), DriverConfig::default());
    set_option(&driver.sockets()[0], libc::SOL_SOCKET, libc::SO_NO_CHECK, 1);
    let receiver = receiver(V4);
    let to = receiver.local_addr().unwrap();
    queue_train(&mut driver, to, 1000, &pattern(4000));
    receive(&mut driver, &receiver, 4);
    assert!(driver.train_limits().segments > 1);
    driver.send_train(SocketIndex::new(1), to, 1000, pattern(4000)).unwrap();
    receive(&mut driver, &receiver, 4);
    let counters = driver.counters();
    assert_eq!((counters.trains_refused, counters.train_datagrams.counts[2]), (1, 1));
}

#[test]
fn many_refused_trains_over_few_slots_lose_nothing() {
    const TRAINS: usize = 30;
    let config = DriverConfig { ring_entries: 4, send_slots: 3, ..DriverConfig::default() };
    let (mut driver, receiver) = (driver_with(open_sockets(&[V4], 0).unwrap(), config), receiver(V4));
    set_option(&driver.sockets()[0], libc::SOL_SOCKET, libc::SO_NO_CHECK, 1);
    let to = receiver.local_addr().unwrap();
    for train in 0..TRAINS {
        queue_train(&mut driver, to, 10, &[train as u8; 100]);
    }
    let datagrams = receive(&mut driver, &receiver, 10 * TRAINS);
    let expected = (0..TRAINS).flat_map(|train| vec![vec![train as u8; 10]; 10]);
    assert!(datagrams.into_iter().eq(expected), "in order");
    assert_eq!((driver.counters().sent, driver.counters().send_queue_full), (10 * TRAINS as u64, 0));
}

#[test]
fn a_driver_dropped_with_trains_queued_sends_their_datagrams() {
    for no_trains in [false, true] {
        let (mut driver, receiver) = (driver(V4), receiver(V4));
        if no_trains {
            set_option(&driver.sockets()[0], libc::SOL_SOCKET, libc::SO_NO_CHECK, 1);
        }
        let bytes = pattern(12_345);
        queue_train(&mut driver, receiver.local_addr().unwrap(), 1200, &bytes);
        drop(driver);
        let (mut other, count) = (driver_of_nothing(), bytes.len().div_ceil(1200));
        assert!(receive(&mut other, &receiver, count).into_iter().eq(bytes.chunks(1200)));
    }
}

/// For [`receive`] where nobody sends any more.
fn driver_of_nothing() -> Driver {
    driver_with(Vec::new(), DriverConfig::default())
}

#[test]
fn a_train_without_slot_or_connection_is_given_back_and_its_datagrams_are_counted() {
    let config = DriverConfig { send_slots: 0, ..DriverConfig::default() };
    let mut driver = driver_with(open_sockets(&[V4], 0).unwrap(), config);
    let to = driver.sockets()[0].local_addr().unwrap();
    let bytes = pattern(2500);
    assert_eq!(driver.send_train(FIRST, to, 1000, bytes.clone()), Err(bytes.clone()));
    assert_eq!(driver.send_train(SocketIndex::new(1), to, 1000, bytes.clone()), Err(bytes));
    assert_eq!((driver.counters().send_queue_full, driver.counters().stream_dropped), (3, 3));
}

#[test]
fn a_queue_that_outgrows_the_cache_is_submitted_and_its_buffers_are_used_again() {
    let (mut driver, receiver) = (driver(V4), receiver(V4));
    turn(&mut driver);
    let (to, bytes) = (receiver.local_addr().unwrap(), pattern(10_000));
    let before = driver.counters().enters;
    let mut buffers = Vec::new();
    for _ in 0..200 {
        let mut buffer = driver.buffer();
        buffers.push(buffer.as_ptr());
        buffer.extend_from_slice(&bytes);
        driver.send_train(FIRST, to, 1000, buffer).unwrap();
    }
    // 2 MB: a submission every 256 KiB, of 27 trains.
    assert_eq!(driver.counters().enters - before, 7);
    buffers.sort_unstable();
    buffers.dedup();
    assert!(buffers.len() <= 28, "{} buffers", buffers.len());
    turn(&mut driver);
    assert_eq!(driver.counters().sent, 2000);
}
