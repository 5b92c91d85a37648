//! A whole media process on a thread, and signaling's end of its control socket.

#![allow(dead_code, reason = "each test binary uses its part")]

use sfu::config::MediaConfig;
use sfu::control::frame::{Decoder, encode};
use sfu::control::protocol::{
    CreateError, Created, Event, Hello, IceCredentials, Request, RequestId, RestartError, RestartedIce,
    SessionId, WorkerIndex, WorkerLoad,
};
use sfu::core::plan::SessionPlan;
use sfu::error::StartError;
use sfu::stats::WorkerSnapshot;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A media process on a thread of this one.
pub struct Media {
    /// Its control socket.
    pub control: PathBuf,
    /// Ends with it.
    pub thread: JoinHandle<Result<(), StartError>>,
}

/// Media on two workers at free ports; the name keeps tests apart.
pub fn start(name: &str) -> Media {
    start_with(config(name))
}

/// Media that is configured otherwise.
pub fn start_with(config: MediaConfig) -> Media {
    let control = config.control.clone();
    let thread = thread::spawn(move || sfu::run(config, || {}));
    Media { control, thread }
}

/// The configuration of [`start`].
pub fn config(name: &str) -> MediaConfig {
    let directory = std::env::temp_dir().join(format!("sfu-control-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap().iter().map(|core| core.id).take(2).collect();
    MediaConfig {
        control: directory.join(name),
        bind: vec![Ipv4Addr::LOCALHOST.into()],
        udp_mux: false,
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
        let hosts: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let free = |port: u16| hosts.iter().all(|host| UdpSocket::bind((*host, port)).is_ok());
        if first < u16::MAX - count && (first..first + count).all(free) {
            return first;
        }
    }
}

/// Signaling's end of a connection.
pub struct Signaling {
    /// The connection.
    pub stream: UnixStream,
    decoder: Decoder,
}

impl Signaling {
    /// Waits for media and its greeting.
    pub fn connect(control: &Path) -> (Signaling, Hello) {
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

    /// Sends a request.
    pub fn ask(&mut self, request: &Request) {
        self.stream.write_all(&encode(request).unwrap()).unwrap();
    }

    /// The next event that is no load report; those come unasked between all others.
    pub fn event(&mut self) -> Event {
        loop {
            match self.any_event() {
                Event::Load(_) => {}
                event => return event,
            }
        }
    }

    /// The next load report.
    pub fn load(&mut self) -> Vec<WorkerLoad> {
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

    /// The counters of all workers.
    pub fn stats(&mut self) -> Vec<WorkerSnapshot> {
        self.ask(&Request::Stats);
        loop {
            if let Event::Stats(workers) = self.any_event() {
                return workers;
            }
        }
    }

    /// Creates a session.
    pub fn create(&mut self, worker: u16, plan: SessionPlan) -> Result<SessionId, CreateError> {
        self.create_session(worker, plan).map(|created| created.session)
    }

    /// The same, with what the SDP answer would say.
    pub fn create_session(&mut self, worker: u16, plan: SessionPlan) -> Result<Created, CreateError> {
        let request = RequestId(u64::from(worker) + 100);
        self.ask(&Request::Create { request, worker: WorkerIndex(worker), plan });
        loop {
            match self.event() {
                Event::Created { request: answered, result } if answered == request => return result,
                Event::Connected { .. } | Event::Track { .. } | Event::Silence { .. } => {}
                other => panic!("expected the answer to a create, not {other:?}"),
            }
        }
    }

    /// Restarts a session's ICE.
    pub fn restart_ice(
        &mut self,
        session: SessionId,
        remote: &IceCredentials,
        blob: &[u8],
    ) -> Result<RestartedIce, RestartError> {
        let request = RequestId(500);
        self.ask(&Request::RestartIce { request, session, remote: remote.clone(), blob: blob.into() });
        loop {
            match self.event() {
                Event::IceRestarted { request: answered, result } if answered == request => return result,
                Event::Connected { .. } | Event::Track { .. } | Event::Silence { .. } => {}
                other => panic!("expected the answer to a restart, not {other:?}"),
            }
        }
    }
}
