//! The door, over the loopback interface: who is passed on to which worker, and who is closed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use sfu::config::{TCP_REQUEST_SECONDS, TCP_WAITING_PER_SOURCE};
use sfu::control::protocol::{SessionId, WorkerIndex};
use sfu::core::demux;
use sfu::core::framing::FRAME_BYTES_MAX;
use sfu::door::Door;
use sfu::driver::Waker;
use sfu::error::StartError;
use sfu::mesh::{Inbox, NEWCOMERS_MAX, Newcomer};
use sfu::stats::StreamEnd;
use sfu::worker::Mesh;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PATIENCE: Duration = Duration::from_secs(10);

struct World {
    door: Door,
    mesh: Arc<Mesh>,
}

fn world(workers: usize) -> World {
    let wakers = (0..workers).map(|_| Waker::new().unwrap()).collect();
    let mesh = Arc::new(Mesh { inboxes: (0..workers).map(|_| Inbox::new()).collect(), wakers });
    World { door: Door::open(&[V4], 0, Arc::clone(&mesh)).unwrap(), mesh }
}

impl World {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.door.addresses[0]).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        stream
    }

    fn newcomer(&self, worker: usize) -> Newcomer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.mesh.inboxes[worker].newcomers.pop() {
                Some(newcomer) => return newcomer,
                None => assert!(Instant::now() < deadline, "nobody came: {:?}", self.door.refused()),
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn until_refused(&self, why: StreamEnd, count: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.door.refused()[why as usize] < count {
            assert!(Instant::now() < deadline, "{why:?}: {:?}", self.door.refused());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn nobody_came(&self) -> bool {
        self.mesh.inboxes.iter().all(|inbox| inbox.newcomers.is_empty())
    }
}

/// A framed Binding request for a session of this worker.
fn request(worker: u16) -> Vec<u8> {
    let session = SessionId { worker: WorkerIndex(worker), slot: 3, generation: 1 };
    let username = demux::ufrag(session, 7) + ":theirs_";
    let mut stun = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    stun.extend([9; 12]);
    stun.extend([0, 6, 0, username.len() as u8]);
    stun.extend(username.as_bytes());
    stun.resize(stun.len().next_multiple_of(4), 0);
    stun[3] = (stun.len() - 20) as u8;
    framed(&stun)
}

fn framed(datagram: &[u8]) -> Vec<u8> {
    [&(datagram.len() as u16).to_be_bytes(), datagram].concat()
}

fn is_closed(mut stream: TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_connection_goes_to_the_worker_that_its_request_names_with_all_that_was_read() {
    let world = world(3);
    let more = [request(2), framed(b"and more")].concat();
    let client = world.send(&more);
    let newcomer = world.newcomer(2);
    assert_eq!((newcomer.listener, newcomer.peer), (0, client.local_addr().unwrap()));
    assert!(more.starts_with(&newcomer.bytes) && newcomer.bytes.len() >= request(2).len());
    (&newcomer.stream).write_all(b"hello").unwrap();
    let (mut client, mut read) = (client, [0; 5]);
    client.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"hello", "it is open");
    assert!(world.nobody_came());
}

#[test]
fn a_request_that_comes_byte_by_byte_behind_empty_frames_is_understood() {
    let world = world(1);
    let mut client = world.connect();
    client.set_nodelay(true).unwrap();
    let bytes = [&[0; 6][..], &request(0)].concat();
    for byte in &bytes {
        client.write_all(&[*byte]).unwrap();
    }
    assert_eq!(world.newcomer(0).bytes, bytes);
}

#[test]
fn what_is_no_request_to_a_session_of_ours_is_closed() {
    let world = world(2);
    let mut response = request(0);
    response[2] = 1;
    let junk: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        &framed(&[0x16, 3, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        &response,
        &request(2), // there is no such worker
        &((FRAME_BYTES_MAX + 1) as u16).to_be_bytes(),
        &vec![0; 2 * FRAME_BYTES_MAX],
        &framed(&[0xff; 100]),
    ];
    for (count, bytes) in (1..).zip(junk) {
        let stream = world.send(bytes);
        world.until_refused(StreamEnd::NotStun, count);
        assert!(is_closed(stream));
    }
    assert!(world.nobody_came());
}

#[test]
fn a_connection_that_says_nothing_or_too_little_is_closed_after_some_seconds() {
    let world = world(1);
    let began = Instant::now();
    let silent = world.connect();
    let slow = world.send(&request(0)[..10]);
    drop(world.connect());
    world.until_refused(StreamEnd::NoRequest, 3);
    assert!(began.elapsed() >= Duration::from_secs(TCP_REQUEST_SECONDS));
    assert!(is_closed(silent) && is_closed(slow) && world.nobody_came());
}

#[test]
fn of_one_source_only_so_many_wait_and_the_oldest_makes_room_for_one_that_may_speak() {
    let world = world(1);
    let mut waiting: Vec<TcpStream> = (0..TCP_WAITING_PER_SOURCE).map(|_| world.connect()).collect();
    let speaks = world.send(&request(0));
    world.newcomer(0);
    world.until_refused(StreamEnd::TooMany, 1);
    assert!(is_closed(waiting.remove(0)));
    waiting[0].write_all(&request(0)).unwrap();
    world.newcomer(0);
    drop(speaks);
}

#[test]
fn a_worker_that_does_not_take_its_newcomers_gets_no_more_than_its_lane_holds() {
    let world = world(1);
    let mut clients = Vec::new();
    for _ in 0..NEWCOMERS_MAX {
        clients.push(world.send(&request(0)));
        let deadline = Instant::now() + PATIENCE;
        while world.mesh.inboxes[0].newcomers.len() < clients.len() {
            assert!(Instant::now() < deadline, "{} came", clients.len());
            thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(is_closed(world.send(&request(0))));
    world.until_refused(StreamEnd::TooMany, 1);
}

#[test]
fn both_families_have_listeners_of_their_own_and_a_closed_door_frees_its_port() {
    let mesh = Arc::new(Mesh { inboxes: vec![Inbox::new()], wakers: vec![Waker::new().unwrap()] });
    let open = |port| Door::open(&[V4, Ipv6Addr::LOCALHOST.into()], port, Arc::clone(&mesh));
    let port = Door::open(&[V4], 0, Arc::clone(&mesh)).unwrap().addresses[0].port();
    let door = open(port).unwrap();
    assert_eq!(door.addresses, [V4, Ipv6Addr::LOCALHOST.into()].map(|ip| SocketAddr::new(ip, port)));
    let mut client = TcpStream::connect(door.addresses[1]).unwrap();
    client.write_all(&request(0)).unwrap();
    while mesh.inboxes[0].newcomers.is_empty() {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(mesh.inboxes[0].newcomers.pop().unwrap().listener, 1);
    assert!(matches!(open(port), Err(StartError::TcpPortTaken { addr }) if addr == door.addresses[0]));
    drop(door);
    open(port).unwrap();
}
