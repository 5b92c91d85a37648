//! A publisher and a viewer joined without a server: what one sends, the other sees.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use str0m::RtcConfig;

use crate::audio;
use crate::clock::WallClock;
use crate::engine::{Collected, Command, Engine};
use crate::joining::{Id, JoinTimes, Outcome};
use crate::negotiation::Connecting;
use crate::peer::{Context, Peer};
use crate::publisher::{self, Layer, Media, Publisher};
use crate::role::Role;
use crate::video::{VideoLoop, VideoSettings};
use crate::viewer::Viewer;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Pair {
    publisher: Engine,
    viewer: Engine,
    outcomes: Receiver<Outcome>,
}

fn media() -> Arc<Media> {
    let settings = VideoSettings { width: 320, height: 180, fps: 30, bitrate: 1_000_000, gop_frames: 30 };
    let video = Arc::new(VideoLoop::encode(settings).unwrap());
    Arc::new(Media { video: vec![Layer::fixed(None, video)], audio: audio::opus_loop(), paced: false })
}

fn viewing_rtc() -> str0m::Rtc {
    RtcConfig::new()
        .set_rtp_mode(true)
        .clear_codecs()
        .enable_opus(true, false)
        .enable_h264(true)
        .build(Instant::now())
}

/// The publisher offers, the viewer answers; both are driven by engines of their own.
fn pair() -> Pair {
    let (tell, outcomes) = mpsc::channel();
    let clock = WallClock::new();
    let engine = |name: &str| {
        let context = Context::new(clock, tell.clone());
        Engine::start(name.into(), context).unwrap()
    };
    let media = media();
    let (offered, mids) = publisher::offer(&media, LOOPBACK).unwrap();
    let (viewing, answer) = Connecting::answering(viewing_rtc(), LOOPBACK, &offered.offer).unwrap();
    let publishing = offered.answered(&answer).unwrap();
    let now = Instant::now();
    let give_up = now + Duration::from_secs(10);
    let publisher = Publisher::new(media, clock, &publishing.rtc, &mids, 0.0).unwrap();
    let viewer = Box::new(Viewer::new(&viewing.rtc, mids.video().unwrap(), true));
    let pair = Pair { publisher: engine("publisher"), viewer: engine("viewer"), outcomes };
    let add = |engine: &Engine, id, connecting, role| {
        let peer = Peer::new(id, connecting, role, now, give_up);
        assert!(engine.commander().tell(Command::Add(Box::new(peer))));
    };
    add(&pair.viewer, Id::Viewer(0), viewing, Role::Viewer(viewer));
    add(&pair.publisher, Id::Publisher(0), publishing, Role::Publisher(publisher));
    pair
}

impl Pair {
    fn wait_joined(&self) -> Vec<JoinTimes> {
        let next = || match self.outcomes.recv_timeout(Duration::from_secs(15)).unwrap() {
            Outcome::Joined(_, times) => times,
            other => panic!("{other:?}"),
        };
        vec![next(), next()]
    }

    fn measure(&self, time: Duration) -> (Collected, Collected) {
        self.publisher.begin_window();
        self.viewer.begin_window();
        std::thread::sleep(time);
        (self.publisher.collect().unwrap(), self.viewer.collect().unwrap())
    }
}

#[test]
fn a_viewer_sees_the_frames_that_a_publisher_sends_and_reads_their_latency() {
    let pair = pair();
    let joined = pair.wait_joined();
    let times = joined.iter().find(|times| times.first_rtp.is_some()).unwrap();
    assert!(times.first_key_frame.unwrap() >= times.first_rtp.unwrap());
    let (sent, received) = pair.measure(Duration::from_secs(2));
    assert!(sent.sent.frames >= 50, "{:?}", sent.sent);
    assert!(received.received.frames.abs_diff(sent.sent.frames) <= 10, "{:?}", received.received);
    assert!(
        received.received.packets.abs_diff(sent.sent.packets) <= 80,
        "{:?} {:?}",
        sent.sent,
        received.received
    );
    assert_eq!((received.received.lost, received.received.unstamped), (0, 0));
    assert_eq!(received.latency.count(), received.received.frames);
    let p50 = received.latency.quantile(0.5).unwrap();
    assert!((1..50_000).contains(&p50), "{p50} µs");
    pair.publisher.stop();
    pair.viewer.stop();
}

#[test]
fn a_viewer_whose_publisher_leaves_is_reported_as_lost() {
    let pair = pair();
    pair.wait_joined();
    pair.publisher.stop();
    let outcome = pair.outcomes.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(matches!(outcome, Outcome::Lost(Id::Viewer(0))), "{outcome:?}");
    pair.viewer.stop();
}

#[test]
fn a_join_that_nobody_answers_fails_with_its_cause() {
    let (tell, outcomes) = mpsc::channel();
    let context = Context::new(WallClock::new(), tell);
    let engine = Engine::start("alone".into(), context).unwrap();
    let media = media();
    let (offered, mids) = publisher::offer(&media, LOOPBACK).unwrap();
    let (silent, answer) = Connecting::answering(viewing_rtc(), LOOPBACK, &offered.offer).unwrap();
    let connecting = offered.answered(&answer).unwrap();
    let publisher = Publisher::new(media, WallClock::new(), &connecting.rtc, &mids, 0.0).unwrap();
    let now = Instant::now();
    let peer = Peer::new(
        Id::Publisher(0),
        connecting,
        Role::Publisher(publisher),
        now,
        now + Duration::from_millis(300),
    );
    assert!(engine.commander().tell(Command::Add(Box::new(peer))));
    match outcomes.recv_timeout(Duration::from_secs(5)).unwrap() {
        Outcome::Failed(Id::Publisher(0), failure) => assert_eq!(failure.cause(), "ice"),
        other => panic!("{other:?}"),
    }
    drop(silent);
    engine.stop();
}

#[test]
fn a_simulcast_offer_names_three_layers_and_each_is_played() {
    let settings = VideoSettings { width: 320, height: 180, fps: 30, bitrate: 200_000, gop_frames: 30 };
    let video = Arc::new(VideoLoop::encode(settings).unwrap());
    let layer = |rid| Layer::fixed(Some(rid), video.clone());
    let media = Media { video: ["q", "h", "f"].map(layer).into(), audio: audio::opus_loop(), paced: false };
    let (offered, _) = publisher::offer(&media, LOOPBACK).unwrap();
    assert!(offered.offer.contains("a=simulcast:send q;h;f\r\n"), "{}", offered.offer);
    assert_eq!(offered.offer.matches("a=rid:").count(), 3);
}
