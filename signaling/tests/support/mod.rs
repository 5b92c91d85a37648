//! A media process that only talks, a server beside it, and a client that sends exactly the bytes it is given.
#![allow(dead_code, reason = "each test file uses its own part")]

use sfu::control::protocol::{
    CreateError, Created, Event, Hello, IceCredentials, LOAD_INTERVAL_MS, LayerChoice, PROTOCOL_VERSION,
    Request, RestartError, RestartedIce, SessionId, SessionInfo, WorkerInfo, WorkerLoad,
};
use sfu::core::plan::SessionPlan;
use sfu::stats::WorkerSnapshot;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for a busy machine, short enough to notice a hang.
const PATIENCE: Duration = Duration::from_secs(10);

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The header that shows it.
pub fn bearer() -> (&'static str, String) {
    ("Authorization", format!("Bearer {TOKEN}"))
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// How the fake answers a create.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Agree,
    Refuse(CreateError),
    RefuseRestarts(RestartError),
    /// As one whose clients are behind TCP.
    AgreeOverTcp,
    StaySilent,
}

struct State {
    manner: Manner,
    loads: Vec<WorkerLoad>,
    created: Vec<(SessionId, SessionPlan)>,
    /// So many of them went down with a crash.
    lost: usize,
    restarted: Vec<(SessionId, IceCredentials)>,
    deleted: Vec<SessionId>,
    selected: Vec<(SessionId, LayerChoice)>,
    waiting: Vec<Request>,
    peer: Option<UnixStream>,
}

/// A media process that keeps no session and sends no packet.
#[derive(Clone)]
pub struct FakeMedia(Arc<Mutex<State>>);

impl FakeMedia {
    /// With two idle workers.
    pub fn listen(path: &Path) -> FakeMedia {
        let listener = UnixListener::bind(path).expect("control socket");
        let state = State {
            manner: Manner::Agree,
            loads: vec![idle(); 2],
            created: Vec::new(),
            lost: 0,
            restarted: Vec::new(),
            deleted: Vec::new(),
            selected: Vec::new(),
            waiting: Vec::new(),
            peer: None,
        };
        let media = FakeMedia(Arc::new(Mutex::new(state)));
        let (accepting, reporting) = (media.clone(), media.clone());
        thread::spawn(move || {
            loop {
                thread::sleep(Duration::from_millis(LOAD_INTERVAL_MS));
                reporting.report();
            }
        });
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                accepting.converse(stream);
            }
        });
        media
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("state")
    }

    fn converse(&self, mut stream: UnixStream) {
        let worker = |index: u16| WorkerInfo {
            core: usize::from(index),
            addresses: vec![SocketAddr::from(([127, 0, 0, 1], 8200 + index))],
            tcp_addresses: vec![SocketAddr::from(([127, 0, 0, 1], 8200))],
        };
        let sessions = self.living();
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            config_hash: 0,
            fingerprint: [7; 32],
            workers: (0..self.state().loads.len() as u16).map(worker).collect(),
            sessions,
        };
        // Nothing may come before the hello.
        write_event(&mut stream, &Event::Hello(hello));
        self.state().peer = Some(stream.try_clone().expect("clone"));
        self.report();
        while let Some(request) = read_request(&mut stream) {
            self.answer(request);
        }
        self.state().peer = None;
    }

    fn answer(&self, request: Request) {
        let event = match request {
            Request::Create { request, worker, plan } => {
                let mut state = self.state();
                let result = match state.manner {
                    Manner::Agree | Manner::AgreeOverTcp | Manner::RefuseRestarts(_) => {
                        let slot = state.created.len() as u32;
                        let session = SessionId { worker, slot, generation: 1 };
                        state.created.push((session, plan));
                        Ok(Created { session, ice_ufrag: "srvr".into(), ice_pwd: "p".repeat(22) })
                    }
                    Manner::Refuse(error) => Err(error),
                    Manner::StaySilent => {
                        state.waiting.push(Request::Create { request, worker, plan });
                        return;
                    }
                };
                Event::Created { request, result }
            }
            Request::RestartIce { request, session, remote, blob } => {
                let mut state = self.state();
                let result = match state.manner {
                    Manner::RefuseRestarts(error) => Err(error),
                    Manner::StaySilent => {
                        state.waiting.push(Request::RestartIce { request, session, remote, blob });
                        return;
                    }
                    Manner::Agree | Manner::AgreeOverTcp | Manner::Refuse(_) => {
                        let plan = state.created.iter_mut().find(|(created, _)| *created == session);
                        let (_, plan) = plan.expect("a session that was created");
                        (plan.remote.ice_ufrag, plan.remote.ice_pwd) =
                            (remote.ufrag.clone(), remote.pwd.clone());
                        plan.blob = blob;
                        state.restarted.push((session, remote));
                        let ufrag = format!("srv{}", state.restarted.len() + 1);
                        let local = IceCredentials { ufrag, pwd: "q".repeat(22) };
                        Ok(RestartedIce { local, over_tcp: state.manner == Manner::AgreeOverTcp })
                    }
                };
                Event::IceRestarted { request, result }
            }
            Request::Delete { session } => {
                self.state().deleted.push(session);
                Event::Ended { session, reason: sfu::control::protocol::EndReason::Deleted }
            }
            Request::SelectLayer { session, choice } => {
                self.state().selected.push((session, choice));
                return;
            }
            Request::Stats => {
                let worker =
                    WorkerSnapshot { rtp_packets_out: 42, elapsed_ns: 1, ..WorkerSnapshot::default() };
                Event::Stats(vec![worker.clone(), worker])
            }
            Request::Shutdown => return,
        };
        self.send(&event);
    }

    /// Says something to signaling.
    pub fn send(&self, event: &Event) {
        if let Some(peer) = self.state().peer.as_mut() {
            write_event(peer, event);
        }
    }

    fn report(&self) {
        let loads = self.state().loads.clone();
        self.send(&Event::Load(loads));
    }

    /// From now on it reports these loads, one for each worker.
    pub fn be_busy(&self, busy_ratios: &[f64]) {
        self.state().loads =
            busy_ratios.iter().map(|&busy_ratio| WorkerLoad { busy_ratio, ..idle() }).collect();
        self.report();
    }

    pub fn behave(&self, manner: Manner) {
        self.state().manner = manner;
    }

    /// Sessions created so far.
    pub fn created(&self) -> Vec<(SessionId, SessionPlan)> {
        self.state().created.clone()
    }

    pub fn last_created(&self) -> SessionId {
        self.created().last().expect("a session").0
    }

    pub fn deleted(&self) -> Vec<SessionId> {
        self.state().deleted.clone()
    }

    /// Layers that viewers chose, in their order.
    pub fn selected(&self) -> Vec<(SessionId, LayerChoice)> {
        self.state().selected.clone()
    }

    /// Restarts that it made, with the client's credentials.
    pub fn restarted(&self) -> Vec<(SessionId, IceCredentials)> {
        self.state().restarted.clone()
    }

    fn living(&self) -> Vec<SessionInfo> {
        let state = self.state();
        let living =
            state.created[state.lost..].iter().filter(|(session, _)| !state.deleted.contains(session));
        let info = |(session, plan): &(SessionId, SessionPlan)| SessionInfo {
            session: *session,
            plan: plan.clone(),
            connected: true,
            silent: false,
            codecs: Vec::new(),
            layers: Vec::new(),
        };
        living.map(info).collect()
    }

    /// Requests that were left without an answer.
    pub fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// Agrees to what waits.
    pub fn answer_late(&self) {
        self.behave(Manner::Agree);
        self.answer_waiting();
    }

    /// Answers what waits as it now behaves.
    pub fn answer_waiting(&self) {
        let waiting = std::mem::take(&mut self.state().waiting);
        for request in waiting {
            self.answer(request);
        }
    }

    /// Breaks the connection, as a crash would: the next one starts without sessions.
    pub fn hang_up(&self) {
        let created = self.created().len();
        self.state().lost = created;
        self.disconnect();
    }

    /// Breaks the connection, as the end of signaling would: the sessions live on.
    pub fn disconnect(&self) {
        if let Some(peer) = self.state().peer.take() {
            let _ = peer.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn idle() -> WorkerLoad {
    WorkerLoad { up: true, busy_ratio: 0.0, sessions: 0 }
}

fn write_event(peer: &mut UnixStream, event: &Event) {
    let body = postcard::to_stdvec(event).expect("event");
    let mut frame = (body.len() as u32).to_le_bytes().to_vec();
    frame.extend(body);
    let _ = peer.write_all(&frame);
}

fn read_request(stream: &mut UnixStream) -> Option<Request> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut frame = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut frame).ok()?;
    postcard::from_bytes(&frame).ok()
}

/// `uringcast signaling` beside a fake media process.
pub struct Server {
    pub media: FakeMedia,
    pub address: SocketAddr,
    pub folder: PathBuf,
    child: Child,
}

impl Server {
    /// Starts with these flags on top, in a folder of its own, and waits until it is ready.
    pub fn start(name: &str, flags: &[&str]) -> Server {
        let folder = std::env::temp_dir().join(format!("uringcast-http-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("folder");
        let control = folder.join("control.sock");
        let media = FakeMedia::listen(&control);
        let mut child = Command::new(env!("CARGO_BIN_EXE_uringcast"))
            .args(["signaling", "--http", "127.0.0.1:0", "--api-token", TOKEN, "--log", "off"])
            .arg("--control")
            .arg(&control)
            .arg("--state-dir")
            .arg(&folder)
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .expect("server");
        let screen = BufReader::new(child.stdout.take().expect("stdout"));
        let address = address_on(screen);
        let server = Server { media, address, folder, child };
        eventually("ready", || server.get("/readyz").status == 200);
        server
    }

    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], "")
    }

    /// Sends one request on a connection of its own. `Host` is added unless it is among the headers.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let mut text =
            format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            text += &format!("Host: {}\r\n", self.address);
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        let mut stream = self.connect();
        stream.write_all(format!("{text}\r\n{body}").as_bytes()).expect("send");
        Response::read(stream)
    }

    /// Posts an offer.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], offer: &str) -> Response {
        let headers = [headers, &[("Content-Type", "application/sdp")]].concat();
        self.request("POST", path, &headers, offer)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream
    }

    /// The value of one line of `/metrics`.
    pub fn metric(&self, line: &str) -> Option<f64> {
        let text = self.get("/metrics").body;
        text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' ')?.parse().ok())
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, signal).expect("signal");
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        let mut code = None;
        eventually("exit", || {
            code = self.child.try_wait().expect("wait");
            code.is_some()
        });
        code.and_then(|status| status.code())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The first screen says where the kernel put us.
fn address_on(screen: impl BufRead) -> SocketAddr {
    let lines = screen.lines().map_while(Result::ok);
    let listens = lines.into_iter().find(|line| line.contains("Listens")).expect("first screen");
    let address = listens.split("http ").nth(1).expect("listener");
    address.split(',').next().expect("address").trim().parse().expect("address")
}

/// What came back.
#[derive(Debug, Default)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    pub fn read(mut stream: TcpStream) -> Response {
        let mut bytes = Vec::new();
        // A reset after the answer, because we had more to send, is no failure of the answer.
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return Response::default() };
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_ascii_lowercase(), value.to_owned()))
        };
        Response { status, headers: lines.filter_map(header).collect(), body: body.to_owned() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The `detail` of a problem, checked to be one of this status.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let json: serde_json::Value = serde_json::from_str(&self.body).expect("JSON");
        assert_eq!(json["status"], status);
        assert!(json["type"].is_string() && json["title"].is_string());
        json["detail"].as_str().expect("detail").to_owned()
    }

    /// The path of the Location of a 201.
    pub fn session(&self) -> String {
        assert_eq!(self.status, 201, "{self:?}");
        let location = self.header("location").expect("Location");
        location.find("/session/").map(|start| location[start..].to_owned()).expect("session URL")
    }
}
