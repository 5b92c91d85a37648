//! A viewer that behaves as a player does: decrypts everything, sends RR, NACK and TWCC (str0m does), puts
//! frames together, asks for a key frame when only that helps, and keeps account.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use str0m::change::SdpApi;
use str0m::format::Codec;
use str0m::media::{Direction, KeyframeRequestKind, MediaKind, Mid, Pt};
use str0m::rtp::RtpPacket;
use str0m::{Event, Rtc, RtcConfig};

use crate::failure::Failure;
use crate::frames::{Frame, Frames, Packet};
use crate::freeze::FreezeMeter;
use crate::jitter::Jitter;
use crate::layers::LayerWatch;
use crate::negotiation::Offered;
use crate::packet::h264::{self, KeyMark};
use crate::packet::{sei, vp8};
use crate::peer::Context;
use crate::received::{Received, is_silent};
use crate::seq::{Arrival, SeqWindow};
use crate::video;

/// Between two PLIs.
const PLI_INTERVAL: Duration = Duration::from_millis(500);
/// RTP streams followed per viewer; a server that makes up more is not believed.
const MAX_STREAMS: usize = 16;

/// One viewer.
pub struct Viewer {
    video_mid: Mid,
    /// Whether a join is done only with a key frame.
    expects_video: bool,
    codecs: HashMap<Pt, Codec>,
    streams: HashMap<u32, SeqWindow>,
    /// Of the video, once there is some.
    jitter: Option<Jitter>,
    layers: LayerWatch,
    frames: Frames,
    freezes: FreezeMeter,
    first_rtp: Option<Instant>,
    last_rtp: Option<Instant>,
    first_key_frame: Option<Instant>,
    last_pli: Option<Instant>,
    window: Received,
    /// Lost and expected when the window began.
    base: (u64, u64),
}

/// Makes the offer: recvonly audio and video, every codec whose key frames can be told.
pub fn offer(ip: IpAddr) -> Result<(Offered, Mid), Failure> {
    let config = RtcConfig::new()
        .set_rtp_mode(true)
        .clear_codecs()
        .enable_opus(true, false)
        .enable_h264(true)
        .enable_vp8(true);
    let mut video_mid = None;
    let declare = |api: &mut SdpApi<'_>| {
        api.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
        video_mid = Some(api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None));
    };
    let offered = Offered::new(config, ip, declare)?;
    Ok((offered, video_mid.ok_or_else(|| Failure::Answer("nothing was offered".into()))?))
}

impl Viewer {
    /// Watches what `rtc` has agreed on.
    pub fn new(rtc: &Rtc, video_mid: Mid, expects_video: bool) -> Self {
        let codecs = rtc.codec_config().params().iter().map(|p| (p.pt(), p.spec().codec)).collect();
        Viewer {
            video_mid,
            expects_video,
            codecs,
            streams: HashMap::new(),
            jitter: None,
            layers: LayerWatch::default(),
            frames: Frames::default(),
            freezes: FreezeMeter::default(),
            first_rtp: None,
            last_rtp: None,
            first_key_frame: None,
            last_pli: None,
            window: Received::default(),
            base: (0, 0),
        }
    }

    /// Whether all that is expected has come.
    pub fn has_joined(&self) -> bool {
        self.first_key_frame.is_some() || !self.expects_video && self.first_rtp.is_some()
    }

    /// When the first RTP packet came.
    pub fn first_rtp(&self) -> Option<Instant> {
        self.first_rtp
    }

    /// When the first key frame was whole.
    pub fn first_key_frame(&self) -> Option<Instant> {
        self.first_key_frame
    }

    /// Takes note of what came.
    pub fn on_event(&mut self, event: Event, now: Instant, context: &mut Context) {
        if let Event::RtpPacket(packet) = event {
            self.on_packet(&packet, now, context);
        }
    }

    /// When a PLI may be due.
    pub fn next_wake(&self) -> Option<Instant> {
        (self.first_rtp.is_some() && self.frames.needs_key_frame()).then_some(self.last_pli? + PLI_INTERVAL)
    }

    /// Asks for a key frame if only that helps; says whether it did.
    pub fn act(&mut self, rtc: &mut Rtc, now: Instant) -> bool {
        let recently = self.last_pli.is_some_and(|last| now - last < PLI_INTERVAL);
        if self.first_rtp.is_none() || !self.frames.needs_key_frame() || recently {
            return false;
        }
        let mut api = rtc.direct_api();
        let Some(stream) = api.stream_rx_by_mid(self.video_mid, None) else { return false };
        stream.request_keyframe(KeyframeRequestKind::Pli);
        self.last_pli = Some(now);
        self.window.plis += 1;
        true
    }

    /// The longest pause of the picture since this was last asked.
    pub fn take_longest_pause(&mut self, now: Instant) -> Option<Duration> {
        self.freezes.take_longest(now)
    }

    /// Starts a new measured window.
    pub fn begin_window(&mut self) {
        self.base = self.totals();
        self.window = Received::default();
    }

    /// Counters of the window so far.
    pub fn window(&self, now: Instant) -> Received {
        let (lost, expected) = self.totals();
        let mut window = self.window;
        window.silent = u64::from(is_silent(self.last_rtp, now));
        // What was missing at the start of the window may have come in it.
        window.lost = lost.saturating_sub(self.base.0);
        window.expected = expected - self.base.1;
        if let Some(jitter) = &self.jitter {
            (window.jitter_us, window.jitter_streams) = (jitter.micros(video::CLOCK_RATE), 1);
        }
        window
    }

    fn totals(&self) -> (u64, u64) {
        self.streams.values().fold((0, 0), |sum, stream| (sum.0 + stream.lost(), sum.1 + stream.expected()))
    }

    fn on_packet(&mut self, packet: &RtpPacket, now: Instant, context: &mut Context) {
        self.first_rtp.get_or_insert(now);
        self.last_rtp = Some(now);
        if !self.count(packet) {
            return;
        }
        let codec = self.codecs.get(&packet.header.payload_type);
        if let Some(codec) = codec.copied().filter(|codec| codec.is_video()) {
            self.note_video(*packet.header.ssrc, packet.header.timestamp, context.clock.micros(now));
            self.window.size_switches += u64::from(self.layers.is_other_size(&packet.payload, codec));
            let packet = describe(packet, codec);
            let Viewer { frames, freezes, first_key_frame, window, .. } = self;
            frames.insert(packet, now, |frame| {
                first_key_frame.get_or_insert(now);
                shown(frame, now, freezes, window, context);
            });
        }
    }

    fn note_video(&mut self, ssrc: u32, time: u32, arrived_us: u64) {
        let jitter = self.jitter.get_or_insert_default();
        if self.layers.is_other_ssrc(ssrc) {
            self.window.ssrc_switches += 1;
            *jitter = Jitter::default();
        }
        jitter.packet(time, arrived_us, video::CLOCK_RATE);
    }

    /// Says whether the packet is new.
    fn count(&mut self, packet: &RtpPacket) -> bool {
        let (ssrc, seq) = (*packet.header.ssrc, *packet.seq_no);
        let full = self.streams.len() == MAX_STREAMS;
        let arrival = match self.streams.get_mut(&ssrc) {
            Some(stream) => stream.arrived(seq),
            None if full => Arrival::TooOld,
            None => {
                self.streams.insert(ssrc, SeqWindow::starting_at(seq));
                Arrival::New
            }
        };
        let new = matches!(arrival, Arrival::New | Arrival::Late);
        if new {
            self.window.packets += 1;
            self.window.checked += 1;
            self.window.bytes += packet.payload.len() as u64;
            self.window.reordered += u64::from(arrival == Arrival::Late);
        }
        new
    }
}

fn shown(
    frame: Frame,
    now: Instant,
    freezes: &mut FreezeMeter,
    window: &mut Received,
    context: &mut Context,
) {
    window.frames += 1;
    if let Some(frozen) = freezes.shown(now) {
        window.freezes += 1;
        window.frozen_us += frozen.as_micros() as u64;
    }
    match frame.stamp {
        Some(stamp) => context.latency.record(context.clock.micros(now).saturating_sub(stamp.sent_us)),
        None => window.unstamped += 1,
    }
}

fn describe(packet: &RtpPacket, codec: Codec) -> Packet {
    let (key_start, stamp) = match codec {
        Codec::H264 => (h264::key_mark(&packet.payload) != KeyMark::None, sei::read(&packet.payload)),
        Codec::Vp8 => (vp8::starts_key_frame(&packet.payload), None),
        _ => (false, None),
    };
    Packet {
        seq: *packet.seq_no,
        time: packet.header.timestamp,
        marker: packet.header.marker,
        key_start,
        empty: packet.payload.is_empty(),
        stamp,
    }
}
