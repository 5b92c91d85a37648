//! A viewer that counts all and opens little.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use str0m::format::Codec;
use str0m::media::{Direction as MediaDirection, MediaKind};
use str0m::{Rtc, RtcConfig};

use super::first::Kept;
use super::header::{Header, Kind, kind};
use super::rtcp;
use super::stream::Stream;
use crate::dtls::KeySlot;
use crate::failure::Failure;
use crate::freeze::FreezeMeter;
use crate::layers::LayerWatch;
use crate::negotiation::Offered;
use crate::packet::h264::{self, KeyMark};
use crate::packet::{sei, vp8};
use crate::peer::Context;
use crate::received::{Received, is_silent};
use crate::seq::Arrival;
use crate::srtp::{self, Direction};

/// RTP streams followed per viewer; a server that makes up more is not believed.
const MAX_STREAMS: usize = 16;
/// Between two receiver reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Between two reports with a PLI, before the first key frame.
const PLI_INTERVAL: Duration = Duration::from_millis(500);
/// RTP clock rates.
const VIDEO_RATE: u32 = 90_000;
const AUDIO_RATE: u32 = 48_000;

/// How much is opened.
#[derive(Debug, Clone, Copy)]
pub struct Sampling {
    /// One packet, and one frame, in so many.
    pub every: u64,
    /// Differs between viewers, so that not all of them open the same frame.
    pub phase: u64,
}

/// One viewer.
pub struct LightViewer {
    sampling: Sampling,
    /// Whether a join is done only with a key frame.
    expects_video: bool,
    codecs: [Option<Codec>; 128],
    slot: KeySlot,
    keys: Option<(Direction, Direction)>,
    streams: Vec<Stream>,
    /// Of the last video packet.
    video_ssrc: Option<u32>,
    layers: LayerWatch,
    freezes: FreezeMeter,
    first_rtp: Option<Instant>,
    last_rtp: Option<Instant>,
    first_key_frame: Option<Instant>,
    next_report: Option<Instant>,
    /// Where media comes from and reports go.
    remote: Option<SocketAddr>,
    /// Sender of our reports.
    ssrc: u32,
    window: Received,
    /// Lost and expected when the window began.
    base: (u64, u64),
}

/// Makes the offer: as a full viewer's, but without retransmission and transport feedback, for a light viewer
/// sends neither NACK nor TWCC and no server is to wait for them.
pub fn offer(ip: std::net::IpAddr) -> Result<Offered, Failure> {
    let mut config = RtcConfig::new()
        .set_rtp_mode(true)
        .clear_extension_map()
        .clear_codecs()
        .enable_opus(true, false)
        .enable_h264(true)
        .enable_vp8(true);
    let quiet: Vec<_> = config.codec_config().params().iter().map(|params| without_repair(*params)).collect();
    *config.codec_config() = str0m::format::CodecConfig::new_from_payload_params(quiet);
    Offered::new(config, ip, |api| {
        api.add_media(MediaKind::Audio, MediaDirection::RecvOnly, None, None, None);
        api.add_media(MediaKind::Video, MediaDirection::RecvOnly, None, None, None);
    })
}

fn without_repair(params: str0m::format::PayloadParams) -> str0m::format::PayloadParams {
    let mut quiet = str0m::format::PayloadParams::new(params.pt(), None, params.spec());
    quiet.set_fb_pli(params.fb_pli());
    quiet.set_fb_nack(false);
    quiet.set_fb_fir(false);
    quiet.set_fb_remb(false);
    quiet.set_fb_transport_cc(false);
    quiet
}

impl LightViewer {
    /// Watches what `rtc` has agreed on, once the handshake has filled the slot.
    pub fn new(rtc: &Rtc, slot: KeySlot, sampling: Sampling, expects_video: bool) -> LightViewer {
        let mut codecs = [None; 128];
        for params in rtc.codec_config().params() {
            codecs[usize::from(*params.pt() & 0x7f)] = Some(params.spec().codec);
        }
        LightViewer {
            sampling,
            expects_video,
            codecs,
            slot,
            keys: None,
            streams: Vec::with_capacity(MAX_STREAMS),
            video_ssrc: None,
            layers: LayerWatch::default(),
            freezes: FreezeMeter::default(),
            first_rtp: None,
            last_rtp: None,
            first_key_frame: None,
            next_report: None,
            remote: None,
            ssrc: (sampling.phase as u32).wrapping_mul(0x9e37_79b9) | 1,
            window: Received::default(),
            base: (0, 0),
        }
    }

    /// The peer is proven: its keys may be used. Fails if it chose a profile that we cannot open.
    pub fn connected(&mut self) -> Result<(), Failure> {
        let agreed = self.slot.get().ok_or(Failure::Srtp("none".into()))?;
        self.keys = srtp::directions(agreed);
        self.keys.is_some().then_some(()).ok_or_else(|| Failure::Srtp(agreed.profile.to_string()))
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

    /// Takes a datagram that came at `now`; says whether it was for it. What it opens, it opens in place.
    pub fn take(
        &mut self,
        datagram: &mut [u8],
        source: SocketAddr,
        now: Instant,
        context: &mut Context,
    ) -> bool {
        match kind(datagram) {
            Kind::Other => return false,
            // Before the peer is proven nothing is believed.
            _ if self.keys.is_none() => {}
            Kind::Rtp => {
                self.remote = Some(source);
                self.rtp(datagram, now, context);
            }
            Kind::Rtcp => self.rtcp(datagram, now),
        }
        true
    }

    fn rtp(&mut self, packet: &mut [u8], now: Instant, context: &mut Context) {
        let Some(header) = Header::parse(packet) else { return };
        let Some(codec) = self.codecs[usize::from(header.payload_type)] else { return };
        let Some((at, extended, arrival)) = self.count(&header, codec.is_video()) else { return };
        match arrival {
            Arrival::Duplicate => self.window.duplicates += 1,
            Arrival::TooOld => {}
            Arrival::New | Arrival::Late => {
                self.window.reordered += u64::from(arrival == Arrival::Late);
                self.window.packets += 1;
                let tag = self.keys.as_ref().map_or(0, |(inbound, _)| inbound.rtp_tag_len());
                self.window.bytes += packet.len().saturating_sub(header.len + tag) as u64;
                self.new_packet(at, extended, &header, codec, packet, (now, context));
            }
        }
    }

    /// Which stream it is of, its extended sequence number, and what it is to the stream.
    fn count(&mut self, header: &Header, video: bool) -> Option<(usize, u64, Arrival)> {
        if let Some(at) = self.streams.iter().position(|stream| stream.ssrc == header.ssrc) {
            let stream = &mut self.streams[at];
            let extended = stream.extend(header.seq);
            return Some((at, extended, stream.arrived(extended)));
        }
        if self.streams.len() == MAX_STREAMS {
            return None;
        }
        let stream = Stream::new(header, video, if video { VIDEO_RATE } else { AUDIO_RATE });
        let extended = stream.extend(header.seq);
        self.streams.push(stream);
        Some((self.streams.len() - 1, extended, Arrival::New))
    }

    fn new_packet(
        &mut self,
        at: usize,
        extended: u64,
        header: &Header,
        codec: Codec,
        packet: &mut [u8],
        (now, context): (Instant, &mut Context),
    ) {
        self.last_rtp = Some(now);
        if self.first_rtp.is_none() {
            self.first_rtp = Some(now);
            self.next_report = Some(now + PLI_INTERVAL);
        }
        let arrived_us = context.clock.micros(now);
        let every = if self.has_joined() { self.sampling.every } else { 1 };
        let stream = &mut self.streams[at];
        stream.jitter.packet(header.time, arrived_us, stream.clock_rate);
        let by_number = (extended + self.sampling.phase).is_multiple_of(every);
        if !stream.video {
            if by_number {
                self.open(at, extended, header, packet);
            }
            return;
        }
        let place = stream.frames.packet(extended, header.time, header.marker);
        let wanted = stream.frames.wants_stamp(every, self.sampling.phase);
        let kept = stream.first.packet(place.first, packet, header, extended);
        if self.layers.is_other_ssrc(header.ssrc) {
            self.window.ssrc_switches += 1;
        }
        if let Some(kept) = kept {
            self.look_for_size(at, kept, codec);
        }
        if (wanted || by_number)
            && let Some(payload) = self.open(at, extended, header, packet)
        {
            let (key, stamp) = look_into(payload, codec);
            self.window.size_switches += u64::from(self.layers.is_other_size(payload, codec));
            self.streams[at].frames.note(key, stamp);
        }
        self.video_ssrc = Some(header.ssrc);
        if place.completes {
            self.frame(at, now, context);
        }
    }

    /// A large frame may be a key frame of another layer.
    fn look_for_size(&mut self, at: usize, mut kept: Kept, codec: Codec) {
        let payload = self.open(at, kept.extended, &kept.header, &mut kept.bytes);
        let payload = payload.unwrap_or_default();
        self.window.size_switches += u64::from(self.layers.is_other_size(payload, codec));
        self.streams[at].first.recycle(kept.bytes);
    }

    /// Decrypts and checks a packet.
    fn open<'a>(
        &mut self,
        at: usize,
        extended: u64,
        header: &Header,
        packet: &'a mut [u8],
    ) -> Option<&'a [u8]> {
        let (inbound, _) = self.keys.as_ref()?;
        let index = Stream::srtp_index(extended)?;
        self.window.checked += 1;
        let payload = inbound.open_rtp(packet, header.len, self.streams[at].ssrc, index);
        self.window.bad += u64::from(payload.is_none());
        payload
    }

    fn frame(&mut self, at: usize, now: Instant, context: &mut Context) {
        let frames = &self.streams[at].frames;
        if self.first_key_frame.is_none() {
            if !frames.is_key() {
                return;
            }
            self.first_key_frame = Some(now);
        }
        self.window.frames += 1;
        if let Some(stamp) = frames.stamp() {
            context.latency.record(context.clock.micros(now).saturating_sub(stamp.sent_us));
        }
        if let Some(frozen) = self.freezes.shown(now) {
            self.window.freezes += 1;
            self.window.frozen_us += frozen.as_micros() as u64;
        }
    }

    fn rtcp(&mut self, packet: &mut [u8], now: Instant) {
        let compound = self.keys.as_ref().and_then(|(inbound, _)| inbound.open_rtcp(packet));
        let streams = &mut self.streams;
        rtcp::visit_sender_reports(compound.unwrap_or_default(), |ssrc, middle| {
            if let Some(stream) = streams.iter_mut().find(|stream| stream.ssrc == ssrc) {
                stream.sender_reported(middle, now);
            }
        });
    }

    /// When the next report is due.
    pub fn next_wake(&self) -> Option<Instant> {
        self.next_report
    }

    /// The report that is due, sealed, and where to send it; with a PLI as long as there was no key frame.
    pub fn report(&mut self, now: Instant) -> Option<(Vec<u8>, SocketAddr)> {
        let _ = self.next_report.filter(|due| *due <= now)?;
        let blocks: Vec<_> = self.streams.iter_mut().map(|stream| stream.report(now)).collect();
        let mut packet = rtcp::receiver_report(self.ssrc, &blocks);
        let waiting = !self.has_joined();
        self.next_report = Some(now + if waiting { PLI_INTERVAL } else { REPORT_INTERVAL });
        if let (true, Some(media)) = (waiting, self.video_ssrc) {
            rtcp::add_pli(&mut packet, self.ssrc, media);
            self.window.plis += 1;
        }
        let (_, outbound) = self.keys.as_mut()?;
        outbound.seal_rtcp(&mut packet)?;
        Some((packet, self.remote?))
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
        window.lost = lost.saturating_sub(self.base.0);
        window.expected = expected - self.base.1;
        for stream in self.streams.iter().filter(|stream| stream.video) {
            window.jitter_us += stream.jitter.micros(stream.clock_rate);
            window.jitter_streams += 1;
        }
        window
    }

    fn totals(&self) -> (u64, u64) {
        self.streams
            .iter()
            .fold((0, 0), |sum, stream| (sum.0 + stream.window.lost(), sum.1 + stream.window.expected()))
    }
}

/// Whether a key frame starts here, and the stamp.
fn look_into(payload: &[u8], codec: Codec) -> (bool, Option<sei::Stamp>) {
    match codec {
        Codec::H264 => (h264::key_mark(payload) != KeyMark::None, sei::read(payload)),
        Codec::Vp8 => (vp8::starts_key_frame(payload), None),
        _ => (false, None),
    }
}
