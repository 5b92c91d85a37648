//! The recent packets of one track, kept once for all viewers of a worker: for retransmission, and for the start of a new
//! viewer at the newest key frame.

use super::codec::MediaKind;
use super::layers::{LayerIndex, LayerSet};
use super::packet::{MediaPacket, PacketHeader};
use super::rewrite::Source;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Packets are kept so long at least, if they fit: a NACK may be repeated for two seconds.
const KEPT_FOR: Duration = Duration::from_millis(2_500);
/// Payload bytes of one layer: 13 s of 2.5 Mbit/s, more than the group of pictures of any encoder that is set up for live video.
const BYTES_MAX: usize = 4 << 20;
/// Sequence numbers between the oldest and the newest packet: 4 MiB of packets of 512 bytes.
const SPAN_MAX: u64 = 8_192;
/// The first packets of a publication may come after later ones, or after a NACK: so far before what came first.
const BEGINNING_REPAIRED: u64 = 64;

/// A stream's recent packets, those of each layer apart.
#[derive(Debug, Default)]
pub struct Stores {
    audio: PacketStore,
    /// By [`LayerIndex`], as far as one has come.
    video: Vec<PacketStore>,
}

static EMPTY: PacketStore = PacketStore {
    source: None,
    packets: VecDeque::new(),
    first: 0,
    bytes: 0,
    keyframe: None,
    has_forgotten: false,
};

impl Stores {
    /// Keeps a packet; see [`PacketStore::insert`].
    pub fn insert(&mut self, packet: MediaPacket) -> bool {
        let Source { codec, layer, .. } = packet.header.source;
        match codec.kind() {
            MediaKind::Audio => self.audio.insert(packet),
            MediaKind::Video => {
                let index = usize::from(layer.0);
                if self.video.len() <= index {
                    self.video.resize_with(index + 1, PacketStore::default);
                }
                self.video[index].insert(packet)
            }
        }
    }

    /// The packets of a layer of the video.
    pub fn video(&self, layer: LayerIndex) -> &PacketStore {
        self.video.get(usize::from(layer.0)).unwrap_or(&EMPTY)
    }

    /// The packet with this sequence number of `source`.
    pub fn get(&self, source: Source, sequence: u64) -> Option<&MediaPacket> {
        let store = match source.codec.kind() {
            MediaKind::Audio => &self.audio,
            MediaKind::Video => self.video(source.layer),
        };
        store.get(source, sequence)
    }

    /// Forgets what is kept of these layers.
    pub fn forget(&mut self, layers: LayerSet) {
        for layer in layers.iter() {
            if let Some(store) = self.video.get_mut(usize::from(layer.0)) {
                *store = PacketStore::default();
            }
        }
    }
}

/// The recent packets of a layer, or of the audio.
#[derive(Debug, Default)]
pub struct PacketStore {
    source: Option<Source>,
    /// By sequence number without gaps: what is missing has an empty place.
    packets: VecDeque<Option<MediaPacket>>,
    /// The sequence number of the first place.
    first: u64,
    /// Payload bytes of all.
    bytes: usize,
    /// Where the newest key frame begins.
    keyframe: Option<u64>,
    /// Something was before the first place.
    has_forgotten: bool,
}

impl PacketStore {
    /// Keeps a packet. False if it is here already, or older than all that is kept. A packet of a new source replaces all.
    pub fn insert(&mut self, packet: MediaPacket) -> bool {
        let header = &packet.header;
        let sequence = header.sequence;
        let reach = self.first + self.packets.len() as u64;
        if self.source != Some(header.source) || sequence >= reach.saturating_add(SPAN_MAX) {
            self.restart(header.source, sequence);
        }
        if sequence < self.first && !self.has_forgotten && self.first - sequence <= BEGINNING_REPAIRED {
            (sequence..self.first).for_each(|_| self.packets.push_front(None));
            self.first = sequence;
        }
        let Some(place) = sequence.checked_sub(self.first).map(|place| place as usize) else { return false };
        if self.packets.get(place).is_some_and(Option::is_some) {
            return false;
        }
        let now = header.received;
        if header.keyframe {
            self.keyframe = Some(self.start_of_keyframe(header));
        }
        self.bytes += packet.payload.len();
        if self.packets.len() <= place {
            self.packets.resize_with(place + 1, || None);
        }
        self.packets[place] = Some(packet);
        self.forget_old(now);
        true
    }

    /// Parameter sets and each slice may count as the start of a key frame; it starts with the first of them. An older key frame
    /// than the newest changes nothing.
    fn start_of_keyframe(&self, header: &PacketHeader) -> u64 {
        match self.newest_keyframe().map(|packet| &packet.header) {
            Some(known) if known.timestamp == header.timestamp => known.sequence.min(header.sequence),
            Some(known) => known.sequence.max(header.sequence),
            None => header.sequence,
        }
    }

    fn restart(&mut self, source: Source, first: u64) {
        self.packets.clear();
        *self = PacketStore {
            source: Some(source),
            first,
            packets: std::mem::take(&mut self.packets),
            ..PacketStore::default()
        };
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some(oldest) = self.packets.front() {
            let too_many = self.bytes > BYTES_MAX || self.packets.len() as u64 > SPAN_MAX;
            let needed = self.keyframe == Some(self.first);
            let old = oldest
                .as_ref()
                .is_none_or(|packet| now.saturating_duration_since(packet.header.received) > KEPT_FOR);
            if !too_many && (needed || !old) {
                return;
            }
            if let Some(packet) = self.packets.pop_front().flatten() {
                self.bytes -= packet.payload.len();
            }
            self.first += 1;
            self.has_forgotten = true;
        }
    }

    /// The packet with this sequence number of `source`.
    pub fn get(&self, source: Source, sequence: u64) -> Option<&MediaPacket> {
        if self.source != Some(source) {
            return None;
        }
        self.packets.get(sequence.checked_sub(self.first)? as usize)?.as_ref()
    }

    /// Where the packets come from.
    pub fn source(&self) -> Option<Source> {
        self.source
    }

    /// The first packet of the newest key frame, if it is still here.
    pub fn newest_keyframe(&self) -> Option<&MediaPacket> {
        self.get(self.source?, self.keyframe?)
    }

    /// The packets from `sequence` on.
    pub fn since(&self, sequence: u64) -> impl Iterator<Item = &MediaPacket> + Clone {
        let from = sequence.saturating_sub(self.first).min(self.packets.len() as u64) as usize;
        self.packets.range(from..).flatten()
    }

    /// The packet with the highest sequence number.
    pub fn newest(&self) -> Option<&MediaPacket> {
        self.packets.back()?.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::codec::Codec;
    use crate::core::extensions::PassThrough;
    use crate::core::packet::PacketHeader;
    use crate::core::plan::{Epoch, Ssrc, StreamId};

    fn packet(at: Instant, epoch: u64, sequence: u64, keyframe: bool, bytes: usize) -> MediaPacket {
        let header = PacketHeader {
            stream: StreamId(1),
            source: source(epoch),
            sequence,
            timestamp: 0,
            marker: true,
            keyframe,
            captured: at,
            received: at,
            extensions: PassThrough::EMPTY,
        };
        MediaPacket { header, payload: vec![0; bytes].into() }
    }

    fn source(epoch: u64) -> Source {
        Source { epoch: Epoch(epoch), ssrc: Ssrc(7), codec: Codec::Vp8, layer: LayerIndex(0) }
    }

    #[test]
    fn packets_are_found_by_number_whatever_the_order_they_came_in() {
        let (mut store, now) = (PacketStore::default(), Instant::now());
        for sequence in [100, 103, 102] {
            assert!(store.insert(packet(now, 1, sequence, false, 10)));
        }
        assert!(!store.insert(packet(now, 1, 102, false, 10)), "twice");
        assert!(store.insert(packet(now, 1, 98, false, 10)), "the beginning, repaired");
        assert!(!store.insert(packet(now, 1, 10, false, 10)), "from long before");
        let found: Vec<bool> = (97..105).map(|sequence| store.get(source(1), sequence).is_some()).collect();
        assert_eq!(found, [false, true, false, true, false, true, true, false]);
    }

    #[test]
    fn old_packets_go_but_not_those_since_the_newest_key_frame() {
        let (mut store, start) = (PacketStore::default(), Instant::now());
        store.insert(packet(start, 1, 0, false, 10));
        store.insert(packet(start, 1, 1, true, 10));
        store.insert(packet(start + KEPT_FOR * 2, 1, 2, false, 10));
        assert!(store.get(source(1), 0).is_none());
        assert!(store.get(source(1), 1).is_some(), "the key frame's group is whole");
        assert!(!store.insert(packet(start, 1, 0, false, 10)), "forgotten is forgotten");
        let mut next = packet(start + KEPT_FOR * 2, 1, 3, true, 10);
        next.header.timestamp = 3_000;
        store.insert(next);
        assert!(store.get(source(1), 1).is_none());
        assert!(store.get(source(1), 2).is_some());
    }

    #[test]
    fn bytes_and_span_are_bounded_even_without_a_new_key_frame() {
        let (mut store, now) = (PacketStore::default(), Instant::now());
        store.insert(packet(now, 1, 0, true, 10));
        for sequence in 1..=SPAN_MAX + 10 {
            store.insert(packet(now, 1, sequence, false, 1_200));
        }
        assert!(store.bytes <= BYTES_MAX && store.packets.len() as u64 <= SPAN_MAX);
        assert_eq!(store.newest_keyframe(), None, "a group without its beginning starts nobody");
        assert!(store.insert(packet(now, 1, 1 << 40, true, 10)), "a far jump");
        assert_eq!(store.packets.len(), 1);
    }

    #[test]
    fn a_new_source_replaces_all() {
        let (mut store, now) = (PacketStore::default(), Instant::now());
        store.insert(packet(now, 1, 5, true, 10));
        store.insert(packet(now, 2, 5, true, 10));
        assert!(store.get(source(1), 5).is_none() && store.get(source(2), 5).is_some());
    }

    #[test]
    fn a_viewer_finds_the_newest_key_frame_and_all_that_followed() {
        let (mut store, now) = (PacketStore::default(), Instant::now());
        store.insert(packet(now, 1, 5, false, 10));
        assert_eq!(store.newest_keyframe(), None);
        store.insert(packet(now, 1, 6, true, 10));
        store.insert(packet(now, 1, 8, false, 10));
        assert_eq!(store.newest_keyframe().map(|packet| packet.header.sequence), Some(6));
        let numbers = |from| store.since(from).map(|packet| packet.header.sequence).collect::<Vec<_>>();
        assert_eq!(numbers(6), [6, 8]);
        assert_eq!(numbers(0), [5, 6, 8]);
        assert!(numbers(9).is_empty() && numbers(1 << 40).is_empty());
        assert_eq!(store.newest().map(|packet| packet.header.sequence), Some(8));
    }

    #[test]
    fn a_key_frame_of_parameter_sets_and_slices_begins_with_its_first_packet() {
        let (mut store, now) = (PacketStore::default(), Instant::now());
        let at = |sequence, timestamp| {
            let mut packet = packet(now, 1, sequence, true, 10);
            packet.header.timestamp = timestamp;
            packet
        };
        let begin = |store: &PacketStore| store.newest_keyframe().map(|packet| packet.header.sequence);
        for sequence in [11, 10, 12] {
            store.insert(at(sequence, 3_000));
        }
        assert_eq!(begin(&store), Some(10));
        store.insert(at(20, 6_000));
        store.insert(at(13, 3_000));
        assert_eq!(begin(&store), Some(20), "a late slice of the older one changes nothing");
    }
}
