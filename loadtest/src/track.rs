//! One RTP stream of a publisher: when its next media is due, and how it leaves.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::Rtc;
use str0m::media::{Mid, Pt, Rid};
use str0m::rtp::RtpWrite;

use crate::clock::WallClock;
use crate::packet::sei::Stamp;
use crate::publisher::Sent;
use crate::video::{CLOCK_RATE, VideoLoop};

/// A key frame is made at most this often, as encoders do.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(300);
/// A frame that leaves this much after its time says that the generator is too slow.
const LATE: Duration = Duration::from_millis(10);
/// Further behind than this, frames are left out instead of sent in a burst.
const TOO_LATE: Duration = Duration::from_millis(500);
/// Sequence numbers start low, so that no receiver has to guess the roll-over counter (RFC 3711 section
/// 3.3.1).
const FIRST_SEQ: u64 = 1000;
/// A browser's pacer lets packets go this often, at this multiple of the bitrate (libwebrtc's pacing).
const PACER_TICK: Duration = Duration::from_millis(5);
const PACER_FACTOR: f64 = 2.5;

/// Where and how packets of one stream go out.
pub struct Track {
    mid: Mid,
    rid: Option<Rid>,
    pt: Pt,
    seq: u64,
    /// Media sent so far, in units of `interval`.
    pub sent: u64,
    pub interval: Duration,
    /// RTP clock units per interval.
    step: f64,
    /// When unit 0 was due.
    pub epoch: Option<Instant>,
}

impl Track {
    /// One frame or packet each `seconds`.
    pub fn new(mid: Mid, rid: Option<Rid>, pt: Pt, seconds: f64, clock_rate: u32) -> Track {
        let (interval, step) = (Duration::from_secs_f64(seconds), seconds * f64::from(clock_rate));
        Track { mid, rid, pt, seq: FIRST_SEQ, sent: 0, interval, step, epoch: None }
    }

    /// When the next unit is due.
    pub fn due(&self) -> Option<Instant> {
        Some(self.epoch? + self.interval.mul_f64(self.sent as f64))
    }

    /// RTP time of the unit that is due.
    fn time(&self) -> u32 {
        (self.sent as f64 * self.step).round() as u64 as u32
    }

    /// Hands one packet to the session.
    pub fn write(&mut self, rtc: &mut Rtc, payload: Arc<[u8]>, marker: bool, nackable: bool, now: Instant) {
        self.write_at(rtc, payload, marker, nackable, (self.time(), now));
    }

    fn write_at(
        &mut self,
        rtc: &mut Rtc,
        payload: Arc<[u8]>,
        marker: bool,
        nackable: bool,
        (time, now): (u32, Instant),
    ) {
        let write =
            RtpWrite::new(self.pt, self.seq.into(), time, now, payload).marker(marker).nackable(nackable);
        if let Some(stream) = rtc.direct_api().stream_tx_by_mid(self.mid, self.rid) {
            stream.write_rtp(write);
            self.seq += 1;
        }
    }
}

struct Encoding {
    video: Arc<VideoLoop>,
    /// Bytes that a browser's pacer lets go per tick.
    per_tick: usize,
}

impl Encoding {
    fn new(video: Arc<VideoLoop>) -> Encoding {
        let per_tick = video.bitrate() * PACER_FACTOR / 8.0 * PACER_TICK.as_secs_f64();
        Encoding { video, per_tick: per_tick as usize }
    }
}

/// A video stream that plays its loop, in one of its encodings.
pub struct VideoTrack {
    pub track: Track,
    /// The cheapest first.
    encodings: Vec<Encoding>,
    encoding: usize,
    /// The one that the next key frame starts.
    wanted: usize,
    /// Place in the loop of the next frame.
    place: usize,
    last_key: Option<Instant>,
    key_wanted: bool,
    /// Whether packets leave evenly; else a frame at once.
    paced: bool,
    /// Of frames on their way out: payload, marker, RTP time.
    queue: VecDeque<(Arc<[u8]>, bool, u32)>,
    next_tick: Option<Instant>,
}

impl VideoTrack {
    /// Starts with the first of the encodings, paced as a browser does, or each frame at once.
    pub fn new(
        mid: Mid,
        rid: Option<Rid>,
        pt: Pt,
        encodings: Vec<Arc<VideoLoop>>,
        paced: bool,
    ) -> VideoTrack {
        let frames_per_second = encodings.first().map_or(1, |video| video.settings.fps);
        let track = Track::new(mid, rid, pt, 1.0 / f64::from(frames_per_second), CLOCK_RATE);
        VideoTrack {
            track,
            encodings: encodings.into_iter().map(Encoding::new).collect(),
            encoding: 0,
            wanted: 0,
            place: 0,
            last_key: None,
            key_wanted: false,
            paced,
            queue: VecDeque::new(),
            next_tick: None,
        }
    }

    /// A key frame is asked for; says whether the request is for this stream.
    pub fn want_key_frame(&mut self, mid: Mid, rid: Option<Rid>) {
        if mid == self.track.mid && (rid.is_none() || rid == self.track.rid) {
            self.key_wanted = true;
        }
    }

    /// Another encoding is to be played; it starts with a key frame.
    pub fn want_encoding(&mut self, encoding: usize) {
        if encoding < self.encodings.len() {
            self.wanted = encoding;
            self.key_wanted |= self.wanted != self.encoding;
        }
    }

    /// When there is something to do.
    pub fn next_wake(&self) -> Option<Instant> {
        let tick = self.next_tick.filter(|_| !self.queue.is_empty());
        [self.track.due(), tick].into_iter().flatten().min()
    }

    /// Does what is due; says whether anything was.
    pub fn act(&mut self, rtc: &mut Rtc, clock: &WallClock, sent: &mut Sent, now: Instant) -> bool {
        if self.track.due().is_some_and(|due| due <= now) {
            self.skip_what_is_too_late(sent, now);
            self.queue_frame(clock, sent, now);
            self.flush(rtc, now);
            return true;
        }
        if !self.queue.is_empty() && self.next_tick.is_some_and(|tick| tick <= now) {
            self.flush(rtc, now);
            return true;
        }
        false
    }

    fn skip_what_is_too_late(&mut self, sent: &mut Sent, now: Instant) {
        let behind = self.track.due().map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        if behind > LATE {
            sent.late += 1;
        }
        if behind > TOO_LATE {
            let skipped = (behind.as_secs_f64() / self.track.interval.as_secs_f64()) as u64;
            self.track.sent += skipped;
            sent.skipped += skipped;
            self.key_wanted = true;
        }
    }

    fn queue_frame(&mut self, clock: &WallClock, sent: &mut Sent, now: Instant) {
        let key_allowed = self.last_key.is_none_or(|last| now - last >= KEY_FRAME_INTERVAL);
        if self.place >= self.encodings[self.encoding].video.frames.len() || self.key_wanted && key_allowed {
            self.place = 0;
        }
        if self.place == 0 {
            sent.adaptations += u64::from(self.wanted != self.encoding);
            self.encoding = self.wanted;
            self.last_key = Some(now);
            self.key_wanted = false;
        }
        let frame = &self.encodings[self.encoding].video.frames[self.place];
        let stamp = Stamp { sent_us: clock.micros(now), frame: self.track.sent as u32 };
        let payloads = frame.lead(stamp).into_iter().chain(frame.slices.iter().cloned());
        let (time, before) = (self.track.time(), self.queue.len());
        self.queue.extend(payloads.map(|payload| (payload, false, time)));
        if let Some((_, marker, _)) = self.queue.back_mut() {
            *marker = true;
        }
        sent.frames += 1;
        sent.packets += (self.queue.len() - before) as u64;
        sent.video_bytes +=
            self.queue.iter().skip(before).map(|(payload, ..)| payload.len() as u64).sum::<u64>();
        self.track.sent += 1;
        self.place += 1;
    }

    fn flush(&mut self, rtc: &mut Rtc, now: Instant) {
        if self.next_tick.is_some_and(|tick| tick > now) && self.paced {
            return;
        }
        let mut budget = if self.paced { self.encodings[self.encoding].per_tick } else { usize::MAX };
        while budget > 0
            && let Some((payload, marker, time)) = self.queue.pop_front()
        {
            budget = budget.saturating_sub(payload.len());
            self.track.write_at(rtc, payload, marker, true, (time, now));
        }
        self.next_tick = Some(now + PACER_TICK);
    }
}
