//! What the layers of one simulcast publisher are: which are sent, how much, and how large their pictures are.

use super::layers::{LayerIndex, LayerState, LayerTable, Rid};
use super::plan::Epoch;
use crate::control::protocol::Layer;
use std::time::{Duration, Instant};

/// Bitrates are taken over the last two of these, and what signaling is told changes no more often.
const INTERVAL: Duration = Duration::from_secs(1);
/// A layer of which nothing has come for so long is not sent, however slow the pictures are.
const INACTIVE_AFTER: Duration = Duration::from_secs(2);
/// Nor one without which each of the others has sent so many frames: half a second at 30 a second. A layer that has a quarter of
/// their frames is still sent.
const INACTIVE_AFTER_FRAMES: u32 = 15;
/// But not sooner. Threat: a publisher that drops and resumes layers as fast as it can would have all viewers' layers chosen anew
/// each time.
const ACTIVE_AT_LEAST: Duration = Duration::from_millis(250);
/// A bitrate is news if it differs by more than one part in so many.
const NEWS: u32 = 4;

/// Measures the layers of one publisher.
#[derive(Debug)]
pub struct LayerMeter {
    table: LayerTable,
    meters: Vec<Meter>,
    /// Frames of all layers.
    frames: u32,
    measured: Instant,
    is_news: bool,
    /// Something was news since signaling was told.
    is_untold: bool,
    /// What signaling was told, and when.
    told: (Vec<Layer>, Option<Instant>),
}

#[derive(Debug, Clone, Copy, Default)]
struct Meter {
    last: Option<Instant>,
    /// Of all layers, at its last packet.
    frames: u32,
    /// Since the last measurement, and between that and the one before.
    bytes: (u64, u64),
    /// Time in which `bytes.1` came.
    before: Duration,
    /// When `bytes.0` began to come.
    since: Option<Instant>,
    size: (u16, u16),
}

impl LayerMeter {
    /// Of layers that have sent nothing yet. `None` without simulcast.
    pub fn new(now: Instant, epoch: Epoch, rids: &[String]) -> Option<LayerMeter> {
        let rids: Option<Vec<Rid>> = rids.iter().map(|rid| Rid::new(rid)).collect();
        let rids = rids.filter(|rids| !rids.is_empty())?;
        let layers = rids.iter().map(|rid| LayerState { rid: *rid, ..LayerState::default() }).collect();
        Some(LayerMeter {
            table: LayerTable { epoch, layers },
            meters: vec![Meter::default(); rids.len()],
            frames: 0,
            measured: now,
            is_news: false,
            is_untold: false,
            told: (Vec::new(), None),
        })
    }

    /// A packet of `bytes` payload bytes came; it ends a frame, or begins a picture of this size.
    pub fn note(
        &mut self,
        now: Instant,
        layer: LayerIndex,
        bytes: usize,
        ends_frame: bool,
        size: Option<(u16, u16)>,
    ) {
        let index = usize::from(layer.0);
        self.frames = self.frames.wrapping_add(u32::from(ends_frame));
        let (meter, state) = (&mut self.meters[index], &mut self.table.layers[index]);
        (meter.last, meter.frames) = (Some(now), self.frames);
        meter.bytes.0 += bytes as u64;
        meter.size = size.unwrap_or(meter.size);
        if !state.is_active {
            *meter = Meter { bytes: (bytes as u64, 0), before: Duration::ZERO, since: Some(now), ..*meter };
            state.is_active = true;
            self.is_news = true;
        }
        if state.size == (0, 0) && meter.size != (0, 0) {
            state.size = meter.size;
            self.is_news = true;
        }
        if ends_frame {
            self.note_missing(now);
        }
        self.measure(now);
    }

    fn note_missing(&mut self, now: Instant) {
        let others =
            self.table.layers.iter().filter(|layer| layer.is_active).count().saturating_sub(1) as u32;
        let missed = INACTIVE_AFTER_FRAMES * others.max(1);
        for (meter, state) in self.meters.iter().zip(&mut self.table.layers).filter(|(_, s)| s.is_active) {
            let unsent = meter.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
            let is_missed = self.frames.wrapping_sub(meter.frames) >= missed && unsent >= ACTIVE_AT_LEAST;
            if is_missed || unsent >= INACTIVE_AFTER {
                state.is_active = false;
                self.is_news = true;
            }
        }
    }

    /// Measures once in an interval.
    pub fn measure(&mut self, now: Instant) {
        if now.saturating_duration_since(self.measured) < INTERVAL {
            return;
        }
        self.note_missing(now);
        self.measured = now;
        for (meter, state) in self.meters.iter_mut().zip(&mut self.table.layers).filter(|(_, s)| s.is_active)
        {
            let present = meter.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
            if present < INTERVAL / 2 {
                continue; // too short to say anything; the next time counts it
            }
            let bits = (meter.bytes.0 + meter.bytes.1) * 8;
            let micros = (present + meter.before).as_micros().max(1) as u64;
            let bitrate = u32::try_from(bits * 1_000_000 / micros).unwrap_or(u32::MAX);
            (meter.bytes, meter.before, meter.since) = ((0, meter.bytes.0), present, Some(now));
            if bitrate.abs_diff(state.bitrate_bps) > state.bitrate_bps / NEWS || meter.size != state.size {
                (state.bitrate_bps, state.size) = (bitrate, meter.size);
                self.is_news = true;
            }
        }
    }

    /// The layers, if they have changed since the last call.
    pub fn take_news(&mut self) -> Option<LayerTable> {
        self.is_untold |= self.is_news;
        std::mem::take(&mut self.is_news).then(|| self.table.clone())
    }

    /// The layers for signaling, if it is time and [`LayerMeter::take_news`] had news since.
    pub fn take_report(&mut self, now: Instant) -> Option<Vec<Layer>> {
        let is_early = self.told.1.is_some_and(|told| now.saturating_duration_since(told) < INTERVAL);
        if is_early || !std::mem::take(&mut self.is_untold) {
            return None;
        }
        let report = self.table.report();
        let is_news = report != self.told.0;
        if is_news {
            self.told = (report.clone(), Some(now));
        }
        is_news.then_some(report)
    }

    /// When to measure again although nothing comes.
    pub fn deadline(&self) -> Option<Instant> {
        let is_sent = self.table.layers.iter().any(|layer| layer.is_active);
        (is_sent || !self.told.0.is_empty()).then_some(self.measured + INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const FRAME: Duration = Duration::from_micros(33_333);

    /// Sends `frames` frames of `bytes` bytes of each layer in `sent`; returns the news and the reports.
    fn play(meter: &mut LayerMeter, now: &mut Instant, frames: u32, sent: &[(u8, usize)]) -> (usize, usize) {
        let mut counts = (0, 0);
        for _ in 0..frames {
            for &(layer, bytes) in sent {
                meter.note(*now, LayerIndex(layer), bytes, true, None);
                counts.0 += usize::from(meter.take_news().is_some());
                counts.1 += usize::from(meter.take_report(*now).is_some());
            }
            *now += FRAME;
        }
        counts
    }

    fn meter(now: Instant) -> LayerMeter {
        let rids = ["q", "h", "f"].map(str::to_owned);
        LayerMeter::new(now, Epoch(1), &rids).unwrap()
    }

    fn active(meter: &LayerMeter) -> Vec<bool> {
        meter.table.layers.iter().map(|layer| layer.is_active).collect()
    }

    #[test]
    fn layers_are_known_at_once_and_their_bitrates_after_a_second() {
        let mut now = Instant::now();
        let mut meter = meter(now);
        assert_eq!(meter.deadline(), None);
        assert_eq!(play(&mut meter, &mut now, 1, &[(0, 1_000), (2, 10_000)]), (2, 1));
        assert_eq!(active(&meter), [true, false, true]);
        let (news, reports) = play(&mut meter, &mut now, 300, &[(0, 1_000), (2, 10_000)]);
        let rates: Vec<u32> = meter.table.layers.iter().map(|layer| layer.bitrate_bps / 10_000).collect();
        assert!((23..=25).contains(&rates[0]) && (235..=250).contains(&rates[2]), "{rates:?}");
        assert!((1..=3).contains(&news) && (1..=2).contains(&reports), "{news} news, {reports} reports");
    }

    #[test]
    fn a_layer_that_stops_is_missed_within_a_second_if_others_go_on_and_comes_back() {
        let mut now = Instant::now();
        let mut meter = meter(now);
        play(&mut meter, &mut now, 60, &[(0, 100), (1, 100), (2, 100)]);
        play(&mut meter, &mut now, 16, &[(0, 100), (1, 100)]);
        assert_eq!(active(&meter), [true, true, false]);
        play(&mut meter, &mut now, 1, &[(2, 100)]);
        assert_eq!(active(&meter), [true, true, true]);
        play(&mut meter, &mut now, 16, &[(1, 100)]);
        assert_eq!(active(&meter), [true, true, true], "two are missing, each a quarter of a second");
        play(&mut meter, &mut now, 16, &[(1, 100)]);
        assert_eq!(active(&meter), [false, true, false]);
    }

    #[test]
    fn layers_that_come_and_go_as_fast_as_they_can_are_news_a_few_times_a_second() {
        let start = Instant::now();
        let (mut meter, mut news) = (meter(start), 0);
        for packet in 0..20_000 {
            let now = start + Duration::from_micros(50) * packet;
            let layer = if packet % 100 == 0 { 1 + (packet / 100 % 2) as u8 } else { 0 };
            meter.note(now, LayerIndex(layer), 10, true, None);
            news += usize::from(meter.take_news().is_some());
        }
        assert!(news <= 12, "{news} in a second");
    }

    #[test]
    fn slow_pictures_are_not_missed_before_two_seconds() {
        let mut now = Instant::now();
        let mut meter = meter(now);
        play(&mut meter, &mut now, 1, &[(0, 100), (1, 100)]);
        meter.measure(now + Duration::from_millis(1_900));
        assert_eq!(active(&meter), [true, true, false]);
        meter.measure(now + Duration::from_millis(3_000));
        assert_eq!(active(&meter), [false; 3]);
        assert!(meter.take_news().is_some());
        assert_eq!(meter.take_report(now + Duration::from_secs(3)), Some(vec![]));
        assert_eq!(meter.deadline(), None, "nothing more to say");
    }

    #[test]
    fn a_size_is_news_when_it_becomes_known_and_a_second_later_when_it_changes() {
        let now = Instant::now();
        let mut meter = meter(now);
        meter.note(now, LayerIndex(1), 100, true, Some((640, 360)));
        assert_eq!(meter.take_news().unwrap().layers[1].size, (640, 360));
        meter.note(now, LayerIndex(1), 100, true, Some((320, 180)));
        assert_eq!(meter.take_news(), None);
        meter.note(now + INTERVAL, LayerIndex(1), 100, true, None);
        assert_eq!(meter.take_news().unwrap().layers[1].size, (320, 180));
    }
}
