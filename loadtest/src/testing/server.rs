//! A small WHIP/WHEP server for tests: one thread, one UDP socket, str0m without tricks. It loses and delays
//! what it sends to viewers exactly as told, so that a run's figures can be held against the truth.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use str0m::change::SdpOffer;
use str0m::format::Codec;
use str0m::media::{KeyframeRequestKind, MediaKind, Mid, Pt, Rid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpPacket, RtpWrite};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

/// How long each layer has its turn, if layers alternate.
const LAYER_TURN: Duration = Duration::from_millis(1_500);

/// What the server does wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Of 1000 RTP packets to viewers, so many are dropped.
    pub drop_per_mille: u64,
    /// RTP packets to viewers wait so long.
    pub delay: Duration,
    /// Dropped packets are sent again when asked for.
    pub retransmits: bool,
    /// Key frames are withheld, and PLI too.
    pub no_key_frames: bool,
    /// Of a simulcast the smallest and the largest layer are forwarded in turn, all under the viewer's one SSRC.
    pub alternates_layers: bool,
    /// Every request is refused with 401.
    pub refuses: bool,
}

/// A running server; ends when dropped.
pub struct Server {
    pub base: String,
    /// Sessions that were made, and those that were ended with DELETE.
    pub created: Arc<AtomicU64>,
    pub deleted: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

struct Request {
    publishes: bool,
    offer: String,
    reply: Sender<String>,
}

impl Server {
    pub fn start(faults: Faults) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (tell, requests) = mpsc::channel();
        let (created, deleted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let ended = Arc::new(AtomicBool::new(false));
        let (counts, over) = ((created.clone(), deleted.clone()), ended.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (tell, (created, deleted)) = (tell.clone(), counts.clone());
                std::thread::spawn(move || serve(stream.unwrap(), faults, &tell, &created, &deleted));
            }
        });
        std::thread::spawn(move || Forwarder::new(faults).run(&requests, &over));
        Server { base, created, deleted, ended }
    }
}

fn serve(
    mut stream: TcpStream,
    faults: Faults,
    tell: &Sender<Request>,
    created: &AtomicU64,
    deleted: &AtomicU64,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let from = head.len();
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = head[from..].to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let (status, answer) = if faults.refuses {
        ("401 Unauthorized", r#"{"detail":"this key is unknown"}"#.to_string())
    } else if head.starts_with("DELETE") {
        deleted.fetch_add(1, Ordering::Relaxed);
        ("200 OK", String::new())
    } else {
        let (reply, answer) = mpsc::channel();
        let publishes = head.contains("/whip ");
        tell.send(Request { publishes, offer: String::from_utf8(body).unwrap(), reply }).unwrap();
        created.fetch_add(1, Ordering::Relaxed);
        ("201 Created", answer.recv().unwrap())
    };
    let headers = "Content-Type: application/sdp\r\nLocation: /session/1\r\nConnection: close\r\n";
    let length = answer.len();
    let response = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{answer}");
    stream.write_all(response.as_bytes()).unwrap();
}

struct Client {
    rtc: Rtc,
    publishes: bool,
    mids: Vec<(MediaKind, Mid)>,
    wake: Instant,
    /// Continues the numbers over a change of publisher: video, audio.
    numbering: [Numbering; 2],
}

/// A publisher and its layer.
type Source = (usize, Option<Rid>);

#[derive(Default)]
struct Numbering {
    source: Option<Source>,
    ahead: u64,
    highest: u64,
}

impl Numbering {
    fn number(&mut self, source: Source, seq: u64) -> u64 {
        if self.source.replace(source) != Some(source) {
            self.ahead = (self.highest + 1).wrapping_sub(seq);
        }
        let number = seq.wrapping_add(self.ahead);
        self.highest = self.highest.max(number);
        number
    }
}

impl Client {
    fn mid(&self, kind: MediaKind) -> Option<Mid> {
        self.mids.iter().find(|(known, _)| *known == kind).map(|(_, mid)| *mid)
    }

    /// What it calls this codec, if it was agreed on.
    fn pt(&self, kind: MediaKind, codec: Codec) -> Option<Pt> {
        let agreed = self.rtc.media(self.mid(kind)?)?.remote_pts();
        agreed.iter().find(|pt| self.codec(**pt) == Some(codec)).copied()
    }

    fn codec(&self, pt: Pt) -> Option<Codec> {
        let params = self.rtc.codec_config().params().iter().find(|params| params.pt() == pt)?;
        Some(params.spec().codec)
    }
}

struct Forwarder {
    faults: Faults,
    socket: UdpSocket,
    local: SocketAddr,
    clients: Vec<Client>,
    delayed: VecDeque<(Instant, Vec<u8>, SocketAddr)>,
    random: u64,
    /// The layer that is forwarded, if only one is, and since when.
    layer: Option<Rid>,
    layer_since: Instant,
}

impl Forwarder {
    fn new(faults: Faults) -> Forwarder {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let local = socket.local_addr().unwrap();
        Forwarder {
            faults,
            socket,
            local,
            clients: Vec::new(),
            delayed: VecDeque::new(),
            random: 1,
            layer: None,
            layer_since: Instant::now(),
        }
    }

    fn run(mut self, requests: &Receiver<Request>, ended: &AtomicBool) {
        let mut buffer = vec![0; 2000];
        while !ended.load(Ordering::Relaxed) {
            requests.try_iter().for_each(|request| self.accept(&request));
            if let Ok((size, source)) = self.socket.recv_from(&mut buffer) {
                let now = Instant::now();
                let datagram = Receive::new(Protocol::Udp, source, self.local, &buffer[..size]).unwrap();
                let input = Input::Receive(now, datagram);
                if let Some(i) = self.clients.iter().position(|client| client.rtc.accepts(&input)) {
                    let _ = self.clients[i].rtc.handle_input(input);
                    self.drain(i, now);
                }
            }
            let now = Instant::now();
            for i in 0..self.clients.len() {
                if self.clients[i].wake <= now {
                    let _ = self.clients[i].rtc.handle_input(Input::Timeout(now));
                    self.drain(i, now);
                }
            }
            self.send_delayed(now);
        }
    }

    fn accept(&mut self, request: &Request) {
        let config = RtcConfig::new().set_rtp_mode(true).set_ice_lite(true).clear_codecs();
        let mut rtc =
            config.enable_opus(true, false).enable_h264(true).enable_vp8(true).build(Instant::now());
        rtc.add_local_candidate(Candidate::host(self.local, "udp").unwrap());
        let answer = rtc.sdp_api().accept_offer(SdpOffer::from_sdp_string(&request.offer).unwrap()).unwrap();
        let wake = Instant::now();
        self.clients.push(Client {
            rtc,
            publishes: request.publishes,
            mids: Vec::new(),
            wake,
            numbering: Default::default(),
        });
        request.reply.send(answer.to_sdp_string()).unwrap();
    }

    fn drain(&mut self, i: usize, now: Instant) {
        loop {
            match self.clients[i].rtc.poll_output().unwrap() {
                Output::Timeout(at) => {
                    self.clients[i].wake = at;
                    return;
                }
                Output::Transmit(datagram) => {
                    self.send(i, datagram.contents.to_vec(), datagram.destination, now)
                }
                Output::Event(event) => self.event(i, event, now),
            }
        }
    }

    fn event(&mut self, i: usize, event: Event, now: Instant) {
        match event {
            Event::MediaAdded(added) => self.clients[i].mids.push((added.kind, added.mid)),
            Event::RtpPacket(packet) if self.clients[i].publishes => self.forward(i, &packet, now),
            Event::KeyframeRequest(_) if !self.faults.no_key_frames => self.ask_publisher(now),
            _ => {}
        }
    }

    fn ask_publisher(&mut self, now: Instant) {
        for client in self.clients.iter_mut().filter(|client| client.publishes) {
            let Some(mid) = client.mid(MediaKind::Video) else { continue };
            if let Some(stream) = client.rtc.direct_api().stream_rx_by_mid(mid, self.layer) {
                stream.request_keyframe(KeyframeRequestKind::Pli);
                client.wake = now;
            }
        }
    }

    fn forward(&mut self, from: usize, packet: &RtpPacket, now: Instant) {
        let Some(codec) = self.clients[from].codec(packet.header.payload_type) else { return };
        let video = codec.is_video();
        let kind = if video { MediaKind::Video } else { MediaKind::Audio };
        let key = crate::packet::h264::key_mark(&packet.payload) != crate::packet::h264::KeyMark::None;
        if video && key && self.faults.no_key_frames {
            return;
        }
        let mut source = (from, None);
        if video && self.faults.alternates_layers {
            source.1 = self.rid_of(from, packet);
            if !self.takes_layer(source.1, key, now) {
                return;
            }
        }
        let nackable = video && self.faults.retransmits;
        for client in self.clients.iter_mut().filter(|client| !client.publishes && client.rtc.is_connected())
        {
            let (Some(mid), Some(pt)) = (client.mid(kind), client.pt(kind, codec)) else { continue };
            let number = client.numbering[usize::from(!video)].number(source, *packet.seq_no);
            let mut api = client.rtc.direct_api();
            let Some(stream) = api.stream_tx_by_mid(mid, None) else { continue };
            let write =
                RtpWrite::new(pt, number.into(), packet.header.timestamp, now, packet.payload.clone());
            stream.write_rtp(write.marker(packet.header.marker).nackable(nackable));
            client.wake = now;
        }
    }

    fn rid_of(&mut self, from: usize, packet: &RtpPacket) -> Option<Rid> {
        self.clients[from].rtc.direct_api().stream_rx(&packet.header.ssrc)?.rid()
    }

    /// Whether packets of this layer are forwarded now; a key frame of the other one ends a layer's turn.
    fn takes_layer(&mut self, rid: Option<Rid>, key: bool, now: Instant) -> bool {
        let [small, large] = ["q", "f"].map(Rid::from);
        let over = self.layer.is_none() || now - self.layer_since >= LAYER_TURN;
        let next = Some(if self.layer == Some(large) { small } else { large });
        if over && key && rid == next {
            (self.layer, self.layer_since) = (rid, now);
        }
        self.layer == rid && rid.is_some()
    }

    fn send(&mut self, i: usize, bytes: Vec<u8>, to: SocketAddr, now: Instant) {
        // RFC 7983: 128 to 191 is RTP or RTCP; RTCP has types 192 to 223 in its second byte (RFC 5761).
        let rtp = (128..192).contains(&bytes[0]) && !(192..224).contains(&bytes[1]);
        let to_viewer = rtp && !self.clients[i].publishes;
        if to_viewer && self.next_random() % 1000 < self.faults.drop_per_mille {
            return;
        }
        let delay = if to_viewer { self.faults.delay } else { Duration::ZERO };
        self.delayed.push_back((now + delay, bytes, to));
        self.send_delayed(now);
    }

    fn send_delayed(&mut self, now: Instant) {
        let due = self.delayed.iter().filter(|(at, ..)| *at <= now);
        for (_, bytes, to) in due {
            self.socket.send_to(bytes, to).unwrap();
        }
        self.delayed.retain(|(at, ..)| *at > now);
    }

    fn next_random(&mut self) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }
}
