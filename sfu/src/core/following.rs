//! How a viewer's track stands to its source: it waits for a key frame, catches up with the live picture or is live, and may be
//! on its way to another simulcast layer.

use super::codec::MediaKind;
use super::layers::{LayerIndex, LayerSet};
use super::packet::MediaPacket;
use super::rewrite::Source;
use super::store::{PacketStore, Stores};
use crate::control::protocol::PUBLISHER_SILENT_SECONDS;
use std::time::{Duration, Instant};

/// A key frame that is not older than this is where a new viewer starts; else the publisher is asked for one.
const FRESH_KEYFRAME: Duration = Duration::from_secs(1);
/// A publisher that was asked and has not sent one for so long does not listen, as OBS does not. Then the newest is good enough.
const KEYFRAME_PATIENCE: Duration = Duration::from_millis(500);
/// A viewer who goes to another layer has a picture meanwhile, so its new one should begin with now. Up to this age a key frame
/// does: what has come since is 10 frames, shown in one or two.
const FRESH_FOR_SWITCH: Duration = Duration::from_millis(300);
/// And for its new layer's next key frame it can wait, as long as what encoders for live video are set up to (1 to 2 s) and one
/// second. Then the newest is good enough.
const SWITCH_PATIENCE: Duration = Duration::from_secs(3);
/// A layer of which nothing has come for so long is no picture to wait with.
const FLOWS_WITHIN: Duration = Duration::from_millis(400);
/// A publisher that has sent nothing for so long has ended, and its last pictures are nobody's.
const SILENT_AFTER: Duration = Duration::from_secs(PUBLISHER_SILENT_SECONDS);
/// A viewer who catches up is sent so much at once, and then so much a second: 32 Mbit/s, several times what is published, and
/// what the links of viewers carry.
const CATCH_UP_BURST: usize = 64 << 10;
const CATCH_UP_BYTES_PER_SECOND: u128 = 4 << 20;

/// How a track stands to its source. A track of audio is always live.
#[derive(Debug)]
pub struct Following {
    phase: Phase,
    /// The layer that is sent, and the one that is to be sent.
    layer: LayerIndex,
    target: LayerIndex,
    /// Since when they differ.
    switching: Option<Instant>,
    /// Key frames of this source up to this sequence number came before too much waited for the viewer, and are no start for it.
    skipped: Option<(Option<Source>, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing can be decoded before the next key frame.
    AwaitingKeyframe {
        /// Since then.
        since: Instant,
    },
    /// The store's packets from this sequence number on are sent, a part each turn.
    CatchingUp {
        /// The next.
        from: u64,
        /// When the last part left.
        at: Option<Instant>,
    },
    /// Each packet is sent when it comes.
    Live,
}

impl Following {
    /// Nothing has been sent yet.
    pub fn new(now: Instant, kind: MediaKind) -> Following {
        Following {
            phase: match kind {
                MediaKind::Audio => Phase::Live,
                MediaKind::Video => Phase::AwaitingKeyframe { since: now },
            },
            layer: LayerIndex::default(),
            target: LayerIndex::default(),
            switching: None,
            skipped: None,
        }
    }

    /// The layer that is to be sent from its next key frame on; until then what is sent goes on.
    pub fn aim(&mut self, now: Instant, layer: LayerIndex) {
        if layer == self.target {
            return;
        }
        self.target = layer;
        if self.awaits_keyframe() {
            self.layer = layer;
        }
        self.switching = (self.layer != layer).then_some(now);
    }

    /// The layer that is sent.
    pub fn layer(&self) -> LayerIndex {
        self.layer
    }

    /// The layer that is to be sent.
    pub fn target(&self) -> LayerIndex {
        self.target
    }

    /// The layers of which packets are needed.
    pub fn layers(&self) -> LayerSet {
        LayerSet::of(self.layer).with(LayerSet::of(self.target))
    }

    /// Whether every packet of the layer is sent when it comes; `source` is where the packets sent so far come from.
    pub fn is_live(&self, source: Option<Source>, stores: &Stores) -> bool {
        let present = stores.video(self.layer).source();
        let follows = self.phase == Phase::Live && source == present;
        self.switching.is_none() && (follows || present.is_none())
    }

    /// Whether nothing of video can be sent before a key frame is at hand.
    pub fn awaits_keyframe(&self) -> bool {
        matches!(self.phase, Phase::AwaitingKeyframe { .. })
    }

    /// Whether nothing is left to catch up with.
    pub fn has_caught_up(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Whether another layer is waited for, with the picture of the present one.
    pub fn is_switching(&self) -> bool {
        self.switching.is_some()
    }

    /// Whether there is more to be sent of what the store has already, if there is another turn.
    pub fn wants_turn(&self, now: Instant, stores: &Stores) -> bool {
        match self.phase {
            Phase::Live => false,
            Phase::CatchingUp { .. } => true,
            Phase::AwaitingKeyframe { .. } => {
                let store = stores.video(self.target);
                store.newest_keyframe().is_some_and(|keyframe| self.may_start(keyframe))
                    && is_heard(now, store, SILENT_AFTER)
            }
        }
    }

    /// Nothing more is sent before a key frame that is yet to come. False if that is so already.
    pub fn skip_to_keyframe(&mut self, now: Instant, stores: &Stores) -> bool {
        if self.skips() || self.awaits_keyframe() {
            return false;
        }
        let store = stores.video(self.target);
        let newest = store.newest_keyframe().map_or(0, |keyframe| keyframe.header.sequence);
        self.skipped = Some((store.source(), newest));
        self.phase = Phase::AwaitingKeyframe { since: now };
        (self.layer, self.switching) = (self.target, None);
        true
    }

    /// Whether [`Following::skip_to_keyframe`] holds still.
    pub fn skips(&self) -> bool {
        self.skipped.is_some()
    }

    /// Whether this key frame was not skipped. Another source counts anew.
    fn may_start(&self, keyframe: &MediaPacket) -> bool {
        let header = &keyframe.header;
        self.skipped.is_none_or(|(source, newest)| source != Some(header.source) || header.sequence > newest)
    }

    /// Begins to catch up if there is a key frame to begin with; returns that and the newest packet if it does so now.
    pub fn find_start<'a>(
        &mut self,
        now: Instant,
        source: Option<Source>,
        stores: &'a Stores,
    ) -> Option<(&'a MediaPacket, &'a MediaPacket)> {
        if source != stores.video(self.layer).source() && !self.awaits_keyframe() {
            self.phase = Phase::AwaitingKeyframe { since: now };
            (self.layer, self.switching) = (self.target, None);
        }
        let store = stores.video(self.target);
        let start = (store.newest_keyframe()?, store.newest()?);
        if !self.may_start(start.0) || !self.may_begin(now, start.0, stores) {
            return None;
        }
        self.skipped = None;
        self.phase = Phase::CatchingUp { from: start.0.header.sequence, at: None };
        (self.layer, self.switching) = (self.target, None);
        Some(start)
    }

    /// Whether this key frame, the newest of the layer that is to be sent, is one to begin with.
    fn may_begin(&self, now: Instant, keyframe: &MediaPacket, stores: &Stores) -> bool {
        let (fresh, since, patience) = match (self.phase, self.switching) {
            (Phase::Live, None) => return false,
            // What has come since is a better start than the rest of an old group.
            (Phase::CatchingUp { from, .. }, None) => return keyframe.header.sequence > from,
            (Phase::AwaitingKeyframe { since }, _) => (FRESH_KEYFRAME, since, KEYFRAME_PATIENCE),
            (_, Some(since)) if is_heard(now, stores.video(self.layer), FLOWS_WITHIN) => {
                (FRESH_FOR_SWITCH, since, SWITCH_PATIENCE)
            }
            (_, Some(since)) => (FRESH_KEYFRAME, since, KEYFRAME_PATIENCE),
        };
        let age = now.saturating_duration_since(keyframe.header.received);
        let waited = now.saturating_duration_since(since);
        is_heard(now, stores.video(self.target), SILENT_AFTER) && (age <= fresh || waited >= patience)
    }

    /// Adds to `packets` what this turn allows of the way to the store's newest packet, at most `bytes_left` bytes.
    pub fn catch_up(
        &mut self,
        now: Instant,
        stores: &Stores,
        bytes_left: &mut usize,
        packets: &mut Vec<MediaPacket>,
    ) {
        let Phase::CatchingUp { from, at } = self.phase else { return };
        let since = at.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        let earned = since.as_micros().saturating_mul(CATCH_UP_BYTES_PER_SECOND) / 1_000_000;
        let allowed = earned.min(CATCH_UP_BURST as u128) as usize;
        let mut room = allowed.min(*bytes_left);
        for packet in stores.video(self.layer).since(from) {
            let bytes = packet.payload.len();
            if bytes > room {
                let at = if packet.header.sequence == from { at } else { Some(now) };
                self.phase = Phase::CatchingUp { from: packet.header.sequence, at };
                return;
            }
            room -= bytes;
            *bytes_left -= bytes;
            packets.push(packet.clone());
        }
        self.phase = Phase::Live;
    }
}

/// Whether something has come for the last `time`.
fn is_heard(now: Instant, store: &PacketStore, time: Duration) -> bool {
    store.newest().is_some_and(|newest| now.saturating_duration_since(newest.header.received) < time)
}
