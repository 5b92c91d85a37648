//! What this machine's generator can take in: trains of sealed packets, sent by one thread to light viewers on
//! another, over loopback, at rising rates. No server is needed.

use std::io::{IoSlice, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
use str0m::RtcConfig;
use str0m::crypto::dtls::SrtpProfile;

use crate::clock::WallClock;
use crate::dtls::{self, Agreed};
use crate::engine::{Command, Engine};
use crate::joining::Id;
use crate::light::viewer::{LightViewer, Sampling};
use crate::local::open_candidate;
use crate::negotiation::Connecting;
use crate::packet::sei::{self, Stamp};
use crate::peer::{Context, Peer};
use crate::proc;
use crate::role::Role;
use crate::srtp::{self, Direction};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Packets of a frame, and their payload: about what 2.5 Mbit/s at 30 frames a second has.
const TRAIN: usize = 10;
const PAYLOAD: usize = 1140;
const HEADER: usize = 12;
const SSRC: u32 = 7;
/// Offered packets per second.
const RATES: [f64; 6] = [300e3, 600e3, 900e3, 1200e3, 1600e3, 2400e3];
/// Time for which each rate is offered.
const STEP: Duration = Duration::from_secs(2);
/// After sending, until what is queued has been read.
const SETTLE: Duration = Duration::from_millis(300);
/// Share of packets below which a rate counts as held: the sender too must reach it.
const HELD: f64 = 0.999;

/// What to test.
pub struct SelfTest {
    pub viewers: usize,
    pub gro: bool,
    /// One packet, and one frame, in so many is opened.
    pub sample: u64,
}

/// What came of one offered rate.
struct Outcome {
    sent: u64,
    received: u64,
    bad: u64,
    seconds: f64,
    cpu: Duration,
}

impl SelfTest {
    /// Runs all rates and prints a line for each.
    pub fn run(&self, screen: &mut dyn Write) -> Result<(), String> {
        self.run_rates(screen, &RATES)
    }

    fn run_rates(&self, screen: &mut dyn Write, rates: &[f64]) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("self-test: {error}");
        proc::raise_open_files();
        let clock = WallClock::new();
        let (tell, _outcomes) = mpsc::channel();
        let context = Context::new(clock, tell);
        let engine = Engine::start("viewers".into(), context).map_err(|error| failed(&error))?;
        let mut sender = Sender::new(clock).ok_or("self-test: the crypto library makes no keys")?;
        for index in 0..self.viewers {
            let peer = self.viewer(index, &mut sender).map_err(|error| failed(&error))?;
            engine.commander().tell(Command::Add(Box::new(peer)));
        }
        // The first train starts each viewer's counts and is its key frame.
        sender.round().map_err(|error| failed(&error))?;
        std::thread::sleep(SETTLE);
        let mut best: f64 = 0.0;
        let mut cost = Duration::ZERO;
        for &rate in rates {
            let outcome = offer(&engine, &mut sender, rate).map_err(|error| failed(&error))?;
            let taken = outcome.received as f64 / outcome.seconds;
            let whole = outcome.received as f64 >= outcome.sent as f64 * HELD;
            let ns = outcome.cpu.as_nanos() as f64 / outcome.received.max(1) as f64;
            if whole && taken > best {
                (best, cost) = (taken, Duration::from_nanos(ns as u64));
            }
            let lost = 100.0 - outcome.received as f64 * 100.0 / outcome.sent.max(1) as f64;
            let line = format!(
                "{:>8.0} packets/s offered, {:>8.0} sent, {taken:>8.0} taken in, lost {lost:.3} %, bad {}, \
                 {ns:.0} ns CPU each\n",
                rate,
                outcome.sent as f64 / outcome.seconds,
                outcome.bad
            );
            // A closed terminal does not end the test.
            let _ = screen.write_all(line.as_bytes());
        }
        engine.stop();
        let line = format!(
            "{} viewers on one thread, trains of {TRAIN}, gro {}, one in {} opened: {best:.0} packets/s without \
             loss at {} ns CPU each, so {:.0} on a core of its own\n",
            self.viewers,
            if self.gro { "on" } else { "off" },
            self.sample,
            cost.as_nanos(),
            1e9 / cost.as_nanos().max(1) as f64,
        );
        let _ = screen.write_all(line.as_bytes());
        Ok(())
    }

    /// A viewer that is past its handshake.
    fn viewer(&self, index: usize, sender: &mut Sender) -> Result<Peer, String> {
        let (socket, candidate) = open_candidate(LOOPBACK).map_err(|error| error.to_string())?;
        let (rtc, keys) = dtls::build(RtcConfig::new(), Instant::now());
        // The slot of a fresh session is empty.
        let _ = keys.set(agreed(true));
        sender.payload_type = h264_payload_type(&rtc).ok_or("no H264 is configured")?;
        let sampling = Sampling { every: self.sample, phase: index as u64 };
        let mut viewer = LightViewer::new(&rtc, keys.clone(), sampling, true);
        viewer.connected().map_err(|error| error.to_string())?;
        let local = candidate.addr();
        sender.viewers.push(SockaddrStorage::from(local));
        let connecting = Connecting { rtc, keys, socket, local };
        let now = Instant::now();
        let never = now + Duration::from_secs(3600);
        let mut peer = Peer::new(Id::Viewer(index), connecting, Role::Light(Box::new(viewer)), now, never);
        if self.gro {
            peer.receive_trains();
        }
        Ok(peer)
    }
}

/// Both ends' keys.
fn agreed(client: bool) -> Agreed {
    let profile = SrtpProfile::AEAD_AES_128_GCM;
    Agreed { material: (0..profile.keying_material_len() as u8).collect(), profile, client }
}

fn h264_payload_type(rtc: &str0m::Rtc) -> Option<u8> {
    let h264 = |params: &&str0m::format::PayloadParams| params.spec().codec == str0m::format::Codec::H264;
    rtc.codec_config().params().iter().find(h264).map(|params| *params.pt())
}

fn offer(engine: &Engine, sender: &mut Sender, rate: f64) -> Result<Outcome, nix::Error> {
    engine.begin_window();
    // The answer says that the window has begun: what is sent before that would count as lost.
    engine.collect();
    let began = Instant::now();
    let round = Duration::from_secs_f64((sender.viewers.len() * TRAIN) as f64 / rate);
    let (mut rounds, mut due) = (0, began);
    while began.elapsed() < STEP {
        sender.round()?;
        rounds += 1;
        due += round;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let seconds = began.elapsed().as_secs_f64();
    std::thread::sleep(SETTLE);
    let collected = engine.collect().unwrap_or_default();
    Ok(Outcome {
        sent: rounds * (sender.viewers.len() * TRAIN) as u64,
        received: collected.received.packets,
        bad: collected.received.bad,
        seconds,
        cpu: collected.cpu,
    })
}

/// Sends the same sealed train to every viewer, as a server's keys would not allow but its packets look.
struct Sender {
    socket: UdpSocket,
    keys: Direction,
    clock: WallClock,
    viewers: Vec<SockaddrStorage>,
    payload_type: u8,
    index: u64,
    time: u32,
}

impl Sender {
    fn new(clock: WallClock) -> Option<Sender> {
        let socket = UdpSocket::bind(SocketAddr::new(LOOPBACK, 0)).ok()?;
        let (_, keys) = srtp::directions(&agreed(false))?;
        Some(Sender { socket, keys, clock, viewers: Vec::new(), payload_type: 0, index: 1, time: 0 })
    }

    /// One frame to each viewer.
    fn round(&mut self) -> Result<(), nix::Error> {
        let train = self.train();
        let segment = (train.len() / TRAIN) as u16;
        for viewer in &self.viewers {
            let slices = [IoSlice::new(&train)];
            let control = [ControlMessage::UdpGsoSegments(&segment)];
            sendmsg(self.socket.as_raw_fd(), &slices, &control, MsgFlags::empty(), Some(viewer))?;
        }
        Ok(())
    }

    fn train(&mut self) -> Vec<u8> {
        let stamp = Stamp { sent_us: self.clock.micros(Instant::now()), frame: self.time };
        let mut train = Vec::new();
        for i in 0..TRAIN {
            let marker = if i + 1 == TRAIN { 0x80 } else { 0 };
            let mut packet = vec![0x80, marker | self.payload_type];
            packet.extend((self.index as u16).to_be_bytes());
            packet.extend(self.time.to_be_bytes());
            packet.extend(SSRC.to_be_bytes());
            match i {
                0 => packet.extend(sei::write(stamp, PAYLOAD)),
                // An IDR slice in one NAL unit: the viewers wait for a key frame first.
                _ => packet.push(0x65),
            }
            packet.resize(HEADER + PAYLOAD, 1);
            // Fails for no packet of this size.
            let _ = self.keys.seal_rtp(&mut packet, HEADER, SSRC, self.index);
            train.extend(packet);
            self.index += 1;
        }
        self.time = self.time.wrapping_add(3000);
        train
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_self_test_takes_in_all_that_it_sends_and_finds_it_in_order() {
        let mut screen = Vec::new();
        let test = SelfTest { viewers: 20, gro: true, sample: 10 };
        test.run_rates(&mut screen, &[20e3]).unwrap();
        let text = String::from_utf8(screen).unwrap();
        assert!(text.contains("lost 0.000 %, bad 0"), "{text}");
    }
}
