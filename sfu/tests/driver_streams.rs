//! TCP connections of the driver, over the loopback interface.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use sfu::core::framing::FRAME_BYTES_MAX;
use sfu::driver::{
    Driver, DriverConfig, STREAM_QUEUE_BYTES, SocketIndex, StreamEnd, Waker, open_listeners, open_sockets,
    prepare_stream,
};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The driver has one UDP socket; the listener comes after it.
const TCP: SocketIndex = SocketIndex::new(1);
const PATIENCE: Duration = Duration::from_secs(10);

struct World {
    driver: Driver,
    listener: TcpListener,
}

/// A client's end and the address by which the driver knows it.
struct Client {
    stream: TcpStream,
    address: SocketAddr,
}

fn world_with(config: DriverConfig) -> World {
    let listener = open_listeners(&[V4], 0).unwrap().remove(0);
    listener.set_nonblocking(false).unwrap();
    let driver = Driver::new(open_sockets(&[V4], 0).unwrap(), &Waker::new().unwrap(), config).unwrap();
    World { driver, listener }
}

fn world() -> World {
    world_with(DriverConfig::default())
}

fn framed(datagrams: &[&[u8]]) -> Vec<u8> {
    datagrams.iter().flat_map(|bytes| [&(bytes.len() as u16).to_be_bytes(), *bytes].concat()).collect()
}

impl World {
    /// A connection that the driver has not taken over yet, and the driver's end of it.
    fn connect(&self) -> (Client, TcpStream) {
        let stream = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (ours, address) = self.listener.accept().unwrap();
        prepare_stream(&ours).unwrap();
        (Client { stream, address }, ours)
    }

    fn client(&mut self) -> Client {
        let (client, ours) = self.connect();
        self.driver.adopt(ours, TCP, client.address, &[], |_| panic!("nothing was sent")).unwrap();
        client
    }

    fn turn(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        self.driver.wait(Some(Duration::from_millis(20))).unwrap();
        let mut received = Vec::new();
        self.driver.reap(|datagram| {
            assert_eq!(datagram.socket, TCP);
            received.push((datagram.from, datagram.payload.to_vec()));
        });
        received
    }

    /// Turns until `enough`.
    fn until(
        &mut self,
        mut enough: impl FnMut(&mut Driver, &[(SocketAddr, Vec<u8>)]) -> bool,
    ) -> Vec<Vec<u8>> {
        let (deadline, mut received) = (Instant::now() + PATIENCE, Vec::new());
        while !enough(&mut self.driver, &received) {
            assert!(Instant::now() < deadline, "{} datagrams, {:?}", received.len(), self.driver.counters());
            received.extend(self.turn());
        }
        received.into_iter().map(|(_, payload)| payload).collect()
    }

    fn receive(&mut self, count: usize) -> Vec<Vec<u8>> {
        self.until(|_, received| received.len() >= count)
    }

    fn ended(&self, why: StreamEnd) -> u64 {
        self.driver.counters().connections_ended[why as usize]
    }

    fn until_ended(&mut self, address: SocketAddr) {
        let mut ended = None;
        self.until(|driver, _| {
            ended = ended.or(driver.next_ended());
            ended.is_some()
        });
        assert_eq!(ended, Some((TCP, address)));
        assert_eq!(self.driver.room(TCP, address), 0, "there is no way to it any more");
    }

    fn until_released(&mut self) {
        self.until(|driver, _| driver.counters().connections == 0);
    }
}

impl Client {
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Everything up to the end of the stream.
    fn read_all(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).unwrap();
        bytes
    }
}

#[test]
fn datagrams_cross_in_both_directions_in_order() {
    let mut world = world();
    let mut client = world.client();
    client.send(&framed(&[b"one", b"two", b"three"]));
    assert_eq!(world.receive(3), [&b"one"[..], b"two", b"three"]);
    world.driver.send(TCP, client.address, b"single".to_vec()).unwrap();
    world.driver.send_train(TCP, client.address, 4, b"aaaabbbbcc".to_vec()).unwrap();
    let expected = framed(&[b"single", b"aaaa", b"bbbb", b"cc"]);
    world.until(|driver, _| driver.room(TCP, client.address) == STREAM_QUEUE_BYTES);
    let mut read = vec![0; expected.len()];
    client.stream.read_exact(&mut read).unwrap();
    assert_eq!(read, expected);
    assert_eq!(world.driver.counters().framed, 4);
}

#[test]
fn a_datagram_that_comes_byte_by_byte_is_one_datagram() {
    let mut world = world();
    let mut client = world.client();
    client.stream.set_nodelay(true).unwrap();
    let stream = framed(&[b"slowly", b"and", b"again"]);
    let (mut received, mut bytes) = (Vec::new(), stream.iter());
    while received.len() < 3 {
        if let Some(byte) = bytes.next() {
            client.send(&[*byte]);
        }
        received.extend(world.turn().into_iter().map(|(_, payload)| payload));
    }
    assert_eq!(received, [&b"slowly"[..], b"and", b"again"]);
}

#[test]
fn what_was_read_before_the_driver_took_over_is_not_lost() {
    let mut world = world();
    let (mut client, ours) = world.connect();
    let early = framed(&[b"early", b"cut in two"]);
    let (before, after) = early.split_at(9);
    let mut received = Vec::new();
    let taken = |datagram: sfu::driver::Datagram<'_>| received.push(datagram.payload.to_vec());
    world.driver.adopt(ours, TCP, client.address, before, taken).unwrap();
    assert_eq!(received, [b"early"]);
    client.send(after);
    assert_eq!(world.receive(1), [b"cut in two"]);
}

#[test]
fn a_frame_longer_than_any_datagram_ends_the_connection_and_what_came_before_it_counts() {
    let mut world = world();
    let mut client = world.client();
    client.send(&framed(&[b"good"]));
    client.send(&((FRAME_BYTES_MAX + 1) as u16).to_be_bytes());
    assert_eq!(world.receive(1), [b"good"]);
    world.until_ended(client.address);
    assert_eq!(world.ended(StreamEnd::Oversize), 1);
    world.until_released();
    assert!(client.read_all().is_empty());
}

#[test]
fn a_client_that_closes_in_the_middle_of_a_frame_is_gone_and_its_half_is_nothing() {
    let mut world = world();
    let mut client = world.client();
    client.send(&framed(&[b"whole"]));
    client.send(&[0, 9, b'h', b'a', b'l', b'f']);
    client.stream.shutdown(Shutdown::Both).unwrap();
    assert_eq!(world.receive(1), [b"whole"]);
    world.until_ended(client.address);
    assert_eq!(world.ended(StreamEnd::Peer), 1);
    world.until_released();
    assert_eq!(world.driver.counters().received, 1);
}

#[test]
fn a_connection_that_is_reset_is_gone_too() {
    let mut world = world();
    let client = world.client();
    socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client.stream);
    world.until_ended(client.address);
    assert_eq!(world.ended(StreamEnd::Peer), 1);
    world.until_released();
}

#[test]
fn for_a_client_that_does_not_read_only_so_much_waits_and_the_rest_is_dropped_whole() {
    let mut world = world();
    let mut client = world.client();
    let train = vec![7; 10 * 1000];
    let (deadline, mut taken) = (Instant::now() + PATIENCE, 0);
    loop {
        assert!(Instant::now() < deadline, "the kernel took {taken} trains");
        let queued = world.driver.send_train(TCP, client.address, 1000, train.clone());
        let refused = queued.is_err();
        assert!(queued.map_or_else(|bytes| bytes == train, |()| true), "what is refused is given back");
        if refused {
            break;
        }
        taken += 1;
        world.turn();
    }
    assert!(world.driver.room(TCP, client.address) < 10 * 1002);
    assert_eq!(world.driver.counters().stream_dropped, 10);
    client.stream.set_nonblocking(true).unwrap();
    let (mut total, mut buffer) = (0, vec![0; 1 << 20]);
    while total < taken * 10 * 1002 {
        match client.stream.read(&mut buffer) {
            Ok(bytes) => total += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => drop(world.turn()),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(total, taken * 10 * 1002, "whole trains and nothing else");
    world.until(|driver, _| driver.room(TCP, client.address) == STREAM_QUEUE_BYTES);
}

#[test]
fn what_was_sent_before_the_driver_closes_a_connection_arrives() {
    let mut world = world();
    let mut client = world.client();
    world.driver.send(TCP, client.address, b"goodbye".to_vec()).unwrap();
    world.driver.close(TCP, client.address);
    assert!(world.driver.send(TCP, client.address, b"too late".to_vec()).is_err());
    world.until_released();
    assert_eq!(client.read_all(), framed(&[b"goodbye"]));
    assert_eq!((world.ended(StreamEnd::Session), world.driver.next_ended()), (1, None));
}

#[test]
fn a_client_that_sends_on_after_its_connection_was_closed_is_not_heard() {
    let mut world = world();
    let mut client = world.client();
    client.send(&framed(&[b"first"]));
    world.receive(1);
    world.driver.close(TCP, client.address);
    // The other end may be gone already.
    let _ = client.stream.write_all(&framed(&[b"second"]));
    world.until_released();
    assert_eq!(world.driver.counters().received, 1);
}

#[test]
fn more_connections_than_a_driver_may_have_are_refused() {
    let mut world = world_with(DriverConfig { connections: 2, ..DriverConfig::default() });
    let clients = [world.client(), world.client()];
    let (third, ours) = world.connect();
    world.driver.adopt(ours, TCP, third.address, &[], |_| {}).unwrap_err();
    assert_eq!((world.ended(StreamEnd::TooMany), world.driver.counters().connections), (1, 2));
    drop(clients);
    world.until_released();
    let (fourth, ours) = world.connect();
    world.driver.adopt(ours, TCP, fourth.address, &[], |_| {}).unwrap();
}

#[test]
fn a_client_that_comes_back_from_the_same_port_takes_the_place_of_its_old_connection() {
    let mut world = world();
    let (mut old, ours_old) = world.connect();
    let (mut new, ours_new) = world.connect();
    let address = old.address;
    world.driver.adopt(ours_old, TCP, address, &[], |_| {}).unwrap();
    world.driver.adopt(ours_new, TCP, address, &[], |_| {}).unwrap();
    world.driver.send(TCP, address, b"to the new one".to_vec()).unwrap();
    world.until(|driver, _| driver.counters().connections == 1);
    assert_eq!(world.driver.next_ended(), None, "the client is not gone");
    world.driver.close(TCP, address);
    world.until_released();
    assert!(old.read_all().is_empty());
    assert_eq!(new.read_all(), framed(&[b"to the new one"]));
}

#[test]
fn many_clients_who_send_at_once_are_all_heard_with_few_buffers() {
    let mut world = world();
    let mut clients: Vec<Client> = (0..200).map(|_| world.client()).collect();
    for client in &mut clients {
        client.send(&framed(&[&[1; 1200], &[2; 1200]]));
    }
    assert_eq!(world.receive(400).len(), 400);
    assert_eq!(world.driver.counters().connections, 200);
}

#[test]
fn a_driver_that_ends_sends_what_was_queued_and_closes_its_connections() {
    let mut world = world();
    let mut client = world.client();
    world.driver.send(TCP, client.address, b"last words".to_vec()).unwrap();
    drop(world.driver);
    assert_eq!(client.read_all(), framed(&[b"last words"]));
}
