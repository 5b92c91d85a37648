//! A whole media process, spoken to over its control socket as signaling does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod plans;

use plans::plan_h264;
use sfu::config::MediaConfig;
use sfu::control::frame::{Decoder, encode};
use sfu::control::protocol::{
    CreateError, Created, EndReason, Event, Hello, PROTOCOL_VERSION, Request, RequestId, SessionId,
    WorkerIndex, WorkerLoad,
};
use sfu::core::plan::{Epoch, Role, SessionPlan};
use sfu::error::StartError;
use sfu::stats::{StreamEnd, WorkerSnapshot};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use str0m::ice::{StunMessageBuilder, TransId};

const PATIENCE: Duration = Duration::from_secs(10);

/// A media process on a thread of this one.
struct Media {
    control: PathBuf,
    thread: JoinHandle<Result<(), StartError>>,
}

/// Media on two workers at free ports; the name keeps tests apart.
fn start(name: &str) -> Media {
    let config = config(name);
    let control = config.control.clone();
    let thread = thread::spawn(move || sfu::run(config, || {}));
    Media { control, thread }
}

fn config(name: &str) -> MediaConfig {
    let directory = std::env::temp_dir().join(format!("sfu-control-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap().iter().map(|core| core.id).take(2).collect();
    MediaConfig {
        control: directory.join(name),
        bind: vec![Ipv4Addr::LOCALHOST.into()],
        udp_port: free_ports(cores.len() as u16),
        tcp_port: Some(0),
        cores,
        config_hash: 42,
    }
}

/// The first of `count` UDP ports in a row that are free now.
fn free_ports(count: u16) -> u16 {
    loop {
        let first = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let free = |port: u16| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if first < u16::MAX - count && (first..first + count).all(free) {
            return first;
        }
    }
}

/// Signaling's end of a connection.
struct Signaling {
    stream: UnixStream,
    decoder: Decoder,
}

impl Signaling {
    fn connect(control: &Path) -> (Signaling, Hello) {
        let started = Instant::now();
        let stream = loop {
            match UnixStream::connect(control) {
                Ok(stream) => break stream,
                Err(error) if started.elapsed() > PATIENCE => panic!("no media: {error}"),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut signaling = Signaling { stream, decoder: Decoder::default() };
        match signaling.event() {
            Event::Hello(hello) => (signaling, hello),
            other => panic!("media must greet first, not {other:?}"),
        }
    }

    fn ask(&mut self, request: &Request) {
        self.stream.write_all(&encode(request).unwrap()).unwrap();
    }

    /// The next event that is no load report; those come unasked between all others.
    fn event(&mut self) -> Event {
        loop {
            match self.any_event() {
                Event::Load(_) => {}
                event => return event,
            }
        }
    }

    fn load(&mut self) -> Vec<WorkerLoad> {
        loop {
            if let Event::Load(workers) = self.any_event() {
                return workers;
            }
        }
    }

    fn any_event(&mut self) -> Event {
        let mut buffer = [0; 4096];
        loop {
            if let Some(event) = self.decoder.next_message().unwrap() {
                return event;
            }
            let bytes = match self.stream.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.unwrap(),
            };
            assert!(bytes > 0, "media closed the connection");
            self.decoder.push(&buffer[..bytes]);
        }
    }

    fn create(&mut self, worker: u16, plan: SessionPlan) -> Result<SessionId, CreateError> {
        self.create_all(worker, plan).map(|created| created.session)
    }

    fn create_all(&mut self, worker: u16, plan: SessionPlan) -> Result<Created, CreateError> {
        let request = RequestId(u64::from(worker) + 100);
        self.ask(&Request::Create { request, worker: WorkerIndex(worker), plan });
        match self.event() {
            Event::Created { request: answered, result } if answered == request => result,
            other => panic!("expected the answer to a create, not {other:?}"),
        }
    }

    fn stats_until(&mut self, mut enough: impl FnMut(&[WorkerSnapshot]) -> bool) {
        let started = Instant::now();
        loop {
            self.ask(&Request::Stats);
            let Event::Stats(workers) = self.event() else { panic!("expected stats") };
            if enough(&workers) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{workers:?}");
        }
    }
}

fn viewer() -> SessionPlan {
    let mut plan = plan_h264(Role::Viewer, Epoch(0));
    plan.blob = b"what signaling wants to know".to_vec();
    plan
}

#[test]
fn sessions_outlive_a_signaling_process_and_answer_to_the_next() {
    let media = start("outlive");
    let (mut first, hello) = Signaling::connect(&media.control);
    assert_eq!((hello.protocol, hello.config_hash), (PROTOCOL_VERSION, 42));
    assert!(hello.sessions.is_empty());
    let mode = std::fs::metadata(&media.control).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let session = first.create(0, viewer()).unwrap();
    drop(first);
    let (mut second, hello) = Signaling::connect(&media.control);
    assert_eq!(hello.sessions.len(), 1);
    assert_eq!(hello.sessions[0].session, session);
    assert_eq!(hello.sessions[0].plan, viewer());
    second.ask(&Request::Delete { session });
    assert_eq!(second.event(), Event::Ended { session, reason: EndReason::Deleted });
    second.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
    assert!(!media.control.exists(), "the socket is removed");
}

#[test]
fn a_new_signaling_process_takes_the_place_of_the_old_one() {
    let media = start("replace");
    let (mut old, _) = Signaling::connect(&media.control);
    let (mut new, _) = Signaling::connect(&media.control);
    let mut rest = Vec::new();
    old.stream.read_to_end(&mut rest).expect("the old one is cut off");
    new.create(0, viewer()).unwrap();
    new.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
}

#[test]
fn plans_that_make_no_sense_and_workers_that_are_not_there_are_refused() {
    let media = start("refuse");
    let (mut signaling, _) = Signaling::connect(&media.control);
    let mut twice = viewer();
    twice.sections.push(twice.sections[0].clone());
    assert!(matches!(signaling.create(0, twice), Err(CreateError::Plan(_))));
    assert_eq!(signaling.create(63, viewer()), Err(CreateError::NoWorker));
    signaling.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
}

#[test]
fn stats_come_from_every_worker() {
    let media = start("stats");
    let (mut signaling, hello) = Signaling::connect(&media.control);
    signaling.create(0, viewer()).unwrap();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.send_to(b"\xffnoise from nowhere", hello.workers[0].addresses[0]).unwrap();
    let started = Instant::now();
    loop {
        signaling.ask(&Request::Stats);
        let Event::Stats(workers) = signaling.event() else { panic!("expected stats") };
        assert_eq!(workers.len(), hello.workers.len());
        // A worker may have been asked already when the session was made.
        if workers[0].viewers == 1 && workers[0].dropped.iter().sum::<u64>() == 1 {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "the session or the noise was never counted");
    }
    signaling.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
}

#[test]
fn the_load_of_every_worker_comes_unasked_and_counts_its_sessions() {
    let media = start("load");
    let (mut signaling, hello) = Signaling::connect(&media.control);
    let first = signaling.load();
    assert_eq!(first.len(), hello.workers.len());
    assert!(first.iter().all(|worker| worker.up && worker.sessions == 0), "{first:?}");
    signaling.create(0, viewer()).unwrap();
    let started = Instant::now();
    while signaling.load()[0].sessions != 1 {
        assert!(started.elapsed() < PATIENCE, "the session was never reported");
    }
    let last = signaling.load();
    assert!(last.iter().all(|worker| (0.0..=1.0).contains(&worker.busy_ratio)), "{last:?}");
    assert!(last[1..].iter().all(|worker| worker.sessions == 0), "{last:?}");
    signaling.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
}

#[test]
fn a_second_media_process_on_the_same_socket_does_not_start() {
    let media = start("twice");
    let (mut signaling, _) = Signaling::connect(&media.control);
    let error = sfu::run(config("twice"), || {}).unwrap_err();
    assert!(matches!(error, StartError::ControlInUse { .. }), "{error}");
    signaling.create(0, viewer()).expect("the first one is undisturbed");
    signaling.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
}

#[test]
fn bytes_of_another_protocol_cost_the_connection_only() {
    let media = start("foreign");
    let (mut stranger, _) = Signaling::connect(&media.control);
    stranger.stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    stranger.stream.read_to_end(&mut rest).expect("the stranger is cut off");
    let (mut signaling, _) = Signaling::connect(&media.control);
    signaling.create(0, viewer()).unwrap();
    signaling.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
}

/// A framed Binding request of a client of this session.
fn check(created: &Created, password: &str) -> Vec<u8> {
    let username = format!("{}:{}", created.ice_ufrag, viewer().remote.ice_ufrag);
    let message =
        StunMessageBuilder::new().binding().request().username(&username).prio(1).ice_controlling(1);
    let provider = str0m_aws_lc_rs::default_provider().sha1_hmac_provider;
    let mut bytes = vec![0; 500];
    let length = message
        .build(TransId::new())
        .to_bytes(Some(password.as_bytes()), &mut bytes, |key, parts| provider.sha1_hmac(key, parts))
        .unwrap();
    [&(length as u16).to_be_bytes(), &bytes[..length]].concat()
}

fn connect_and_send(server: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

#[test]
fn a_tcp_client_with_good_credentials_is_answered_until_its_session_ends_and_others_are_closed() {
    let media = start("tcp");
    let (mut signaling, hello) = Signaling::connect(&media.control);
    let server = hello.workers[0].tcp_addresses[0];
    assert!(hello.workers.iter().all(|worker| worker.tcp_addresses == [server]), "one port for all workers");
    let last = hello.workers.len() - 1;
    let created = signaling.create_all(last as u16, viewer()).unwrap();
    let mut rest = Vec::new();

    let _ = connect_and_send(server, b"GET / HTTP/1.1\r\n\r\n").read_to_end(&mut rest);
    let mut forged = connect_and_send(server, &check(&created, "not the password"));
    forged.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "strangers get no answer");

    let mut client = connect_and_send(server, &check(&created, &created.ice_pwd));
    let mut answer = [0; 4];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer[2..], [1, 1], "a Binding success response behind its length");
    signaling.stats_until(|workers| {
        let (first, last) = (&workers[0].tcp_ended, &workers[last]);
        let rejected = last.tcp_ended[StreamEnd::Rejected as usize];
        last.tcp_connections == 1 && rejected == 1 && first[StreamEnd::NotStun as usize] == 1
    });

    signaling.ask(&Request::Delete { session: created.session });
    client.read_to_end(&mut rest).unwrap();
    assert!(matches!(signaling.event(), Event::Ended { .. }));
    signaling.stats_until(|workers| {
        workers[last].tcp_connections == 0 && workers[last].tcp_ended[StreamEnd::Session as usize] == 1
    });
    signaling.ask(&Request::Shutdown);
    media.thread.join().unwrap().unwrap();
}
