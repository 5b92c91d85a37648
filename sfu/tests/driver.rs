//! The driver against the real kernel, on the loopback interface.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use sfu::driver::{Driver, DriverConfig, DriverError, SocketIndex, Waker, open_sockets};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const FIRST: SocketIndex = SocketIndex::new(0);
/// Long enough for any step on a busy machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Silence after which no more datagrams are expected.
const SILENCE: Duration = Duration::from_millis(200);

type Received = (SocketIndex, SocketAddr, Vec<u8>);

fn driver_with(addresses: &[IpAddr], config: DriverConfig) -> (Driver, Waker) {
    let waker = Waker::new().unwrap();
    let driver = Driver::new(open_sockets(addresses, 0).unwrap(), &waker, config).unwrap();
    (driver, waker)
}

fn driver(addresses: &[IpAddr]) -> Driver {
    driver_with(addresses, DriverConfig::default()).0
}

fn address(driver: &Driver, socket: u16) -> SocketAddr {
    driver.sockets()[usize::from(socket)].local_addr().unwrap()
}

fn reap(driver: &mut Driver) -> Vec<Received> {
    let mut received = Vec::new();
    driver.reap(|datagram| received.push((datagram.socket, datagram.from, datagram.payload.to_vec())));
    received
}

/// Turns until `count` datagrams are there.
fn receive(driver: &mut Driver, count: usize) -> Vec<Received> {
    let deadline = Instant::now() + PATIENCE;
    let mut received = Vec::new();
    while received.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} datagrams came", received.len());
        driver.wait(Some(Duration::from_millis(100))).unwrap();
        received.extend(reap(driver));
    }
    received
}

/// Turns until nothing comes any more; how many datagrams came.
fn receive_all(driver: &mut Driver) -> usize {
    let (mut total, mut last) = (0, Instant::now());
    while last.elapsed() < SILENCE {
        driver.wait(Some(SILENCE)).unwrap();
        let count = reap(driver).len();
        if count > 0 {
            (total, last) = (total + count, Instant::now());
        }
    }
    total
}

/// One datagram per `segment` bytes of `bytes`, handed to the kernel as a single train.
fn send_train(from: &UdpSocket, to: SocketAddr, bytes: &[u8], segment: libc::c_int) {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    let value = (&raw const segment).cast();
    // SAFETY: the pointer is to an integer that lives across the call, and the length is that integer's.
    let result =
        unsafe { libc::setsockopt(from.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, value, length) };
    assert_eq!(result, 0);
    assert_eq!(from.send_to(bytes, to).unwrap(), bytes.len());
}

#[test]
fn two_drivers_echo_over_ipv4_and_ipv6() {
    let (mut client, mut server) = (driver(&[V4, V6]), driver(&[V4, V6]));
    for (socket, ip) in [(0, V4), (1, V6)] {
        let index = SocketIndex::new(socket);
        let there = address(&server, socket);
        assert_eq!(there.ip(), ip);
        client.send(index, there, b"ping".to_vec()).unwrap();
        client.wait(Some(Duration::ZERO)).unwrap();

        assert_eq!(receive(&mut server, 1), [(index, address(&client, socket), b"ping".to_vec())]);
        server.send(index, address(&client, socket), b"pong".to_vec()).unwrap();
        server.wait(Some(Duration::ZERO)).unwrap();

        assert_eq!(receive(&mut client, 1), [(index, there, b"pong".to_vec())]);
    }
    let counters = client.counters();
    assert_eq!((counters.received, counters.sent, counters.send_failed), (2, 2, 0));
}

#[test]
fn the_largest_and_the_empty_datagram_arrive_whole() {
    let (mut driver, sender) = (driver(&[V4]), UdpSocket::bind((V4, 0)).unwrap());
    let largest = (0..65_507u32).map(|i| i as u8).collect::<Vec<_>>();
    for payload in [&largest[..], b""] {
        sender.send_to(payload, address(&driver, 0)).unwrap();
        assert_eq!(receive(&mut driver, 1)[0].2, payload);
    }
}

#[test]
fn a_wait_ends_at_its_timeout() {
    let mut driver = driver(&[V4]);
    driver.wait(Some(Duration::ZERO)).unwrap();
    let started = Instant::now();
    driver.wait(Some(Duration::from_millis(30))).unwrap();
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(30) && waited < PATIENCE, "{waited:?}");
}

#[test]
fn a_turn_without_work_or_time_makes_no_system_call() {
    let mut driver = driver(&[V4]);
    driver.wait(Some(Duration::ZERO)).unwrap();
    let before = driver.counters().enters;
    for _ in 0..100 {
        driver.wait(Some(Duration::ZERO)).unwrap();
        assert!(reap(&mut driver).is_empty());
    }
    assert_eq!(driver.counters().enters, before);
}

#[test]
fn a_turn_that_never_blocks_still_receives() {
    let (mut driver, sender) = (driver(&[V4]), UdpSocket::bind((V4, 0)).unwrap());
    driver.wait(Some(Duration::ZERO)).unwrap();
    sender.send_to(b"polled", address(&driver, 0)).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while driver.counters().received == 0 {
        assert!(Instant::now() < deadline);
        driver.wait(Some(Duration::ZERO)).unwrap();
        driver.reap(|_| {});
    }
}

#[test]
fn a_batch_of_sends_costs_one_system_call() {
    let mut driver = driver(&[V4]);
    driver.wait(Some(Duration::ZERO)).unwrap();
    let (before, to) = (driver.counters().enters, address(&driver, 0));
    for _ in 0..100 {
        driver.send(FIRST, to, vec![0; 100]).unwrap();
    }
    driver.wait(None).unwrap();
    assert_eq!(driver.counters().enters - before, 1);
}

#[test]
fn a_wake_from_another_thread_ends_an_endless_wait() {
    let (mut driver, waker) = driver_with(&[V4], DriverConfig::default());
    for _ in 0..3 {
        let waker = waker.clone();
        let waking = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            waker.wake();
        });
        driver.wait(None).unwrap();
        driver.reap(|_| panic!("nobody sends"));
        waking.join().unwrap();
    }
    assert_eq!(driver.counters().wakes, 3);
}

#[test]
fn a_wake_before_the_wait_is_not_forgotten() {
    let (mut driver, waker) = driver_with(&[V4], DriverConfig::default());
    waker.wake();
    driver.wait(None).unwrap();
}

#[test]
fn no_timeout_is_too_long() {
    let (mut driver, waker) = driver_with(&[V4], DriverConfig::default());
    waker.wake();
    driver.wait(Some(Duration::MAX)).unwrap();
}

#[test]
fn no_message_of_many_threads_waits_for_a_wake_that_never_comes() {
    const THREADS: usize = 4;
    const MESSAGES: usize = 5_000;
    let (mut driver, waker) = driver_with(&[V4], DriverConfig::default());
    let (sender, mailbox) = mpsc::channel();
    let threads = (0..THREADS).map(|_| {
        let (sender, waker) = (sender.clone(), waker.clone());
        thread::spawn(move || {
            for message in 0..MESSAGES {
                sender.send(message).unwrap();
                waker.wake();
            }
        })
    });
    let threads = threads.collect::<Vec<_>>();
    let mut read = 0;
    while read < THREADS * MESSAGES {
        let started = Instant::now();
        driver.wait(Some(PATIENCE)).unwrap();
        assert!(started.elapsed() < PATIENCE, "stuck after {read} messages");
        driver.reap(|_| {});
        read += mailbox.try_iter().count();
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_train_arrives_coalesced_and_is_handed_out_as_single_datagrams() {
    for ip in [V4, V6] {
        let (mut driver, sender) = (driver(&[ip]), UdpSocket::bind((ip, 0)).unwrap());
        let train = (0..10_500u32).map(|i| (i / 1000) as u8).collect::<Vec<_>>();
        send_train(&sender, address(&driver, 0), &train, 1000);

        let received = receive(&mut driver, 11);
        assert!(received.iter().all(|(_, from, _)| *from == sender.local_addr().unwrap()));
        let payloads = received.iter().map(|(_, _, payload)| payload.as_slice());
        assert!(payloads.eq(train.chunks(1000)));
        assert_eq!(driver.counters().receive_buffers, 1);
    }
}

#[test]
fn a_burst_over_few_buffers_starves_no_socket() {
    let config = DriverConfig { recv_buffers: 16, ..DriverConfig::default() };
    let (mut driver, _) = driver_with(&[V4, V6], config);
    let sender = UdpSocket::bind((V4, 0)).unwrap();
    let to = address(&driver, 0);
    let mut numbers = 0..20_000u32;
    let mut send = move |number: u32| assert_eq!(sender.send_to(&number.to_be_bytes(), to).unwrap(), 4);
    // The burst meets a worker that is busy elsewhere, then one that hurries.
    numbers.by_ref().take(1_000).for_each(&mut send);
    let burst = thread::spawn(move || numbers.for_each(send));
    let received = receive_all(&mut driver);
    burst.join().unwrap();

    assert!(driver.counters().receive_buffers_exhausted > 0);
    assert_eq!(
        received as u64 + driver.dropped_by_kernel(),
        20_000,
        "only a full socket buffer may lose datagrams"
    );
    for (socket, ip) in [(0, V4), (1, V6)] {
        let later = UdpSocket::bind((ip, 0)).unwrap();
        later.send_to(b"later", address(&driver, socket)).unwrap();
        assert_eq!(receive(&mut driver, 1)[0].2, b"later");
    }
}

#[test]
fn more_sends_than_slots_leave_in_several_submissions() {
    const SENDS: u32 = 2_000;
    let config = DriverConfig { ring_entries: 4, send_slots: 8, ..DriverConfig::default() };
    let (mut driver, _) = driver_with(&[V4, V4], config);
    let to = address(&driver, 1);
    for number in 0..SENDS {
        driver
            .send(FIRST, to, number.to_be_bytes().to_vec())
            .expect("the loopback interface takes all at once");
    }
    let received = receive(&mut driver, SENDS as usize);
    let numbers = received.iter().map(|(_, _, payload)| payload.as_slice());
    assert!(numbers.eq((0..SENDS).map(u32::to_be_bytes)), "what came in between the sends is kept, in order");
    let counters = driver.counters();
    assert_eq!((counters.sent, counters.send_queue_full, counters.send_failed), (SENDS.into(), 0, 0));
}

#[test]
fn a_send_without_a_slot_or_connection_gives_the_payload_back() {
    let (mut driver, _) = driver_with(&[V4], DriverConfig { send_slots: 0, ..DriverConfig::default() });
    let to = address(&driver, 0);
    assert_eq!(driver.send(FIRST, to, vec![1, 2, 3]), Err(vec![1, 2, 3]));
    assert_eq!(driver.send(SocketIndex::new(1), to, vec![4]), Err(vec![4]));
    assert_eq!((driver.counters().send_queue_full, driver.counters().stream_dropped), (1, 1));
}

#[test]
fn a_datagram_found_while_looking_for_a_slot_ends_the_next_wait() {
    let (mut driver, _) = driver_with(&[V4], DriverConfig { send_slots: 0, ..DriverConfig::default() });
    let sender = UdpSocket::bind((V4, 0)).unwrap();
    driver.wait(Some(Duration::ZERO)).unwrap();
    sender.send_to(b"early", address(&driver, 0)).unwrap();
    driver.send(FIRST, address(&driver, 0), vec![0]).unwrap_err();
    let started = Instant::now();
    driver.wait(Some(PATIENCE)).unwrap();
    assert!(started.elapsed() < PATIENCE);
    assert_eq!(reap(&mut driver)[0].2, b"early");
}

#[test]
fn one_reap_is_bounded_and_the_next_turns_bring_the_rest() {
    let (mut driver, sender) = (driver(&[V4]), UdpSocket::bind((V4, 0)).unwrap());
    driver.wait(Some(Duration::ZERO)).unwrap();
    for _ in 0..10 {
        send_train(&sender, address(&driver, 0), &[0; 5000], 100);
    }
    let (mut received, mut largest) = (0, 0);
    while received < 500 {
        driver.wait(Some(PATIENCE)).unwrap();
        let count = reap(&mut driver).len();
        assert!(count > 0, "{received} of 500 datagrams came");
        (received, largest) = (received + count, largest.max(count));
    }
    // 128, and what the last buffer of 50 has beyond.
    assert!((128..128 + 50).contains(&largest), "{largest}");
}

#[test]
fn a_socket_that_always_fails_ends_the_driver_instead_of_spinning() {
    let (not_a_socket, _writer) = std::io::pipe().unwrap();
    let socket = UdpSocket::from(OwnedFd::from(not_a_socket));
    let mut driver = Driver::new(vec![socket], &Waker::new().unwrap(), DriverConfig::default()).unwrap();
    let failure = (0..10_000).find_map(|_| {
        driver.reap(|_| {});
        driver.wait(Some(Duration::ZERO)).err()
    });
    match failure {
        Some(DriverError::Receive(error)) => assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_datagram_that_the_kernel_refuses_is_counted() {
    let mut driver = driver(&[V4]);
    driver.send(FIRST, SocketAddr::new(V6, 9), vec![0]).unwrap();
    driver.send(FIRST, address(&driver, 0), vec![0; 70_000]).unwrap();
    driver.wait(Some(Duration::ZERO)).unwrap();
    driver.reap(|_| {});
    assert_eq!((driver.counters().send_failed, driver.counters().sent), (2, 0));
}

#[test]
fn a_driver_dropped_with_work_in_flight_sends_what_was_queued() {
    let receiver = UdpSocket::bind((V4, 0)).unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    for round in 0..50u8 {
        let mut driver = driver(&[V4, V6]);
        driver.wait(Some(Duration::ZERO)).unwrap();
        // Unread datagrams, armed receives, an armed wake and unsubmitted sends.
        receiver.send_to(&[0; 9000], address(&driver, 0)).unwrap();
        driver.send(FIRST, address(&driver, 0), vec![round; 9000]).unwrap();
        driver.send(FIRST, receiver.local_addr().unwrap(), vec![round; 9000]).unwrap();
        drop(driver);
        let mut payload = [0; 9000];
        assert_eq!(receiver.recv(&mut payload).unwrap(), payload.len());
        assert!(payload.iter().all(|byte| *byte == round));
    }
}

#[test]
fn dropping_a_driver_ends_its_operations_instead_of_waiting_for_them() {
    let started = Instant::now();
    let receives_queued = driver(&[V4, V6]);
    let mut receives_armed = driver(&[V4, V6]);
    receives_armed.wait(Some(Duration::ZERO)).unwrap();
    drop(receives_queued);
    drop(receives_armed);
    // An operation that does not end is given up after a second, and its memory lost.
    assert!(started.elapsed() < Duration::from_millis(900));
}

#[test]
fn a_port_is_free_again_after_its_driver() {
    for _ in 0..20 {
        let driver = driver(&[V4, V6]);
        let port = address(&driver, 0).port();
        drop(driver);
        open_sockets(&[V4], port).expect("within the patience of open_sockets");
    }
}
