//! One m-section of a viewer: how it stands to its source, and the numbers under which it is sent packets.

use super::codec::{Codec, MediaKind};
use super::extensions::ExtensionIds;
use super::header::HeaderWriter;
use super::packet::{MediaPacket, PacketHeader};
use super::plan::{MediaSection, Payload, PayloadType, SessionPlan, Ssrc};
use super::rewrite::RtpRewriter;
use super::store::PacketStore;
use crate::control::protocol::PUBLISHER_SILENT_SECONDS;
use std::time::{Duration, Instant};

/// A key frame that is not older than this is where a new viewer starts; else the publisher is asked for one.
const FRESH_KEYFRAME: Duration = Duration::from_secs(1);
/// A publisher that was asked and has not sent one for so long does not listen, as OBS does not. Then the newest is good enough.
const KEYFRAME_PATIENCE: Duration = Duration::from_millis(500);
/// The original sequence number in front of a retransmitted payload (RFC 4588 §4).
pub const RTX_HEADER_BYTES: usize = 2;
/// A publisher that has sent nothing for so long has ended, and its last pictures are nobody's.
const SILENT_AFTER: Duration = Duration::from_secs(PUBLISHER_SILENT_SECONDS);
/// A viewer who catches up is sent so much at once, and then so much a second: 32 Mbit/s, several times what is published, and
/// what the links of viewers carry.
const CATCH_UP_BURST: usize = 64 << 10;
const CATCH_UP_BYTES_PER_SECOND: u128 = 4 << 20;

/// One of the viewer's m-sections.
pub struct Track {
    /// What was negotiated.
    pub section: Box<MediaSection>,
    /// The SSRC of its packets.
    pub ssrc: Ssrc,
    /// Where lost packets are sent again, if the viewer takes them there.
    pub rtx: Option<RtxStream>,
    /// Makes the headers of what is sent under `ssrc`.
    header: HeaderWriter,
    allow_mixed: bool,
    /// A receiver report has named the SSRC, so packets need not name the section.
    heard: bool,
    /// The published codec and the payload under which this viewer receives it.
    payload: Option<(Codec, Payload)>,
    rewriter: RtpRewriter,
    phase: Phase,
    /// Key frames up to this sequence number came before too much waited for the viewer, and are no start for it.
    skipped: Option<u64>,
    /// Packets sent under `ssrc`, retransmissions not counted.
    pub packets_sent: u64,
    /// Their payload bytes.
    pub octets_sent: u64,
    /// The newest packet sent: its timestamp as sent, when its media was captured, and the rate of the clock.
    newest: Option<(u32, Instant, u32)>,
}

/// The retransmissions of a track (RFC 4588).
pub struct RtxStream {
    /// Theirs alone.
    pub ssrc: Ssrc,
    /// Makes their headers. Each names the section: they are few, and Firefox drops an SSRC that no packet has named with its
    /// section when packets of another SSRC have, although the answer declares both.
    header: Box<HeaderWriter>,
    /// Of the newest, extended.
    sequence: u64,
}

/// How a track stands to its source.
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

/// A packet on its way to a viewer.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing {
    /// Its place among the packets of the turn.
    pub packet: usize,
    /// As this viewer offered it, for what is sent under the media's SSRC.
    pub pt: PayloadType,
    /// Its length before it is sealed and without padding.
    pub bytes: usize,
    /// Extended, as sent the first time.
    pub sequence: u64,
    /// As sent.
    pub timestamp: u32,
    /// Why it is sent.
    pub occasion: Occasion,
}

/// The first time, or again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// The first time.
    First,
    /// Again, under its own number.
    Again,
    /// Again, as the packet of the RTX stream with this extended sequence number (RFC 4588).
    Rtx(PayloadType, u64),
}

impl Outgoing {
    /// Payload type and sequence number in the RTX stream.
    pub fn rtx(&self) -> Option<(PayloadType, u64)> {
        match self.occasion {
            Occasion::Rtx(pt, sequence) => Some((pt, sequence)),
            Occasion::First | Occasion::Again => None,
        }
    }
}

/// What became of a packet.
pub enum Numbered {
    /// It goes out.
    Out(Outgoing),
    /// It is from before the switch to this source.
    TooOld,
    /// The viewer offered no payload type that plays the codec.
    CodecMismatch,
}

impl Track {
    /// A track that has been sent nothing. `None` if the section has no SSRC.
    pub fn new(
        now: Instant,
        plan: &SessionPlan,
        section: &MediaSection,
        first_sequence: &mut impl FnMut() -> u16,
    ) -> Option<Track> {
        let pair = section.ssrcs.first()?;
        let header = HeaderWriter::new(
            ExtensionIds::of(&section.extensions),
            section.mid.as_bytes(),
            plan.extmap_allow_mixed,
        );
        Some(Track {
            section: Box::new(section.clone()),
            ssrc: pair.media,
            rtx: pair.rtx.map(|ssrc| RtxStream {
                ssrc,
                header: Box::new(header.clone()),
                sequence: u64::from(first_sequence() & 0x7fff),
            }),
            header,
            allow_mixed: plan.extmap_allow_mixed,
            heard: false,
            payload: None,
            rewriter: RtpRewriter::new(first_sequence()),
            phase: match section.kind {
                MediaKind::Audio => Phase::Live,
                MediaKind::Video => Phase::AwaitingKeyframe { since: now },
            },
            skipped: None,
            packets_sent: 0,
            octets_sent: 0,
            newest: None,
        })
    }

    /// The SSRC and the headers of what is sent on this occasion.
    pub fn stream(&self, occasion: Occasion) -> (Ssrc, &HeaderWriter) {
        match (occasion, &self.rtx) {
            (Occasion::Rtx(..), Some(rtx)) => (rtx.ssrc, &rtx.header),
            _ => (self.ssrc, &self.header),
        }
    }

    /// The RTP timestamp of what is captured at `now`, once something has been sent.
    pub fn timestamp_at(&self, now: Instant) -> Option<u32> {
        let (timestamp, captured, clock_rate) = self.newest?;
        let since = now.saturating_duration_since(captured).as_micros();
        Some(timestamp.wrapping_add((since * u128::from(clock_rate) / 1_000_000) as u32))
    }

    /// Whether every packet of `store` is sent when it comes.
    pub fn is_live(&self, store: &PacketStore) -> bool {
        store.source().is_none() || (self.phase == Phase::Live && self.rewriter.source() == store.source())
    }

    /// Whether nothing of video can be sent before a key frame is at hand.
    pub fn awaits_keyframe(&self) -> bool {
        matches!(self.phase, Phase::AwaitingKeyframe { .. })
    }

    /// Whether the viewer is sent more of what the store has already, if it is given another turn.
    pub fn wants_turn(&self, now: Instant, store: &PacketStore) -> bool {
        match self.phase {
            Phase::Live => false,
            Phase::CatchingUp { .. } => true,
            Phase::AwaitingKeyframe { .. } => self.may_start(store) && is_heard(now, store),
        }
    }

    /// Nothing more is sent before a key frame that is yet to come. False if that is so already.
    pub fn skip_to_keyframe(&mut self, now: Instant, store: &PacketStore) -> bool {
        if self.skipped.is_some() || self.awaits_keyframe() {
            return false;
        }
        self.skipped = Some(store.newest_keyframe().map_or(0, |keyframe| keyframe.header.sequence));
        self.phase = Phase::AwaitingKeyframe { since: now };
        true
    }

    /// Whether [`Track::skip_to_keyframe`] holds still.
    pub fn skips(&self) -> bool {
        self.skipped.is_some()
    }

    /// Whether there is a key frame from which the viewer may be sent what follows.
    fn may_start(&self, store: &PacketStore) -> bool {
        // Another source counts anew.
        let skipped = self.skipped.filter(|_| self.rewriter.source() == store.source());
        store.newest_keyframe().is_some_and(|keyframe| skipped.is_none_or(|it| keyframe.header.sequence > it))
    }

    /// Begins to catch up if there is a key frame to begin with; true if it does so now.
    pub fn find_start(&mut self, now: Instant, store: &PacketStore) -> bool {
        if self.rewriter.source() != store.source() && !matches!(self.phase, Phase::AwaitingKeyframe { .. }) {
            self.phase = Phase::AwaitingKeyframe { since: now };
        }
        let (Some(keyframe), Some(newest)) = (store.newest_keyframe(), store.newest()) else { return false };
        let begins = match self.phase {
            Phase::Live => false,
            // What has come since is a better start than the rest of an old group.
            Phase::CatchingUp { from, .. } => keyframe.header.sequence > from,
            Phase::AwaitingKeyframe { since } => {
                let age = now.saturating_duration_since(keyframe.header.received);
                let waited = now.saturating_duration_since(since);
                let is_good = age <= FRESH_KEYFRAME || waited >= KEYFRAME_PATIENCE;
                self.may_start(store) && is_heard(now, store) && is_good
            }
        };
        if begins {
            self.rewriter.switch(&keyframe.header, &newest.header, now);
            self.phase = Phase::CatchingUp { from: keyframe.header.sequence, at: None };
            self.skipped = None;
            self.note_newest(&newest.header);
        }
        begins
    }

    /// Adds to `packets` what this turn allows of the way to the store's newest packet, at most `bytes_left` bytes.
    pub fn catch_up(
        &mut self,
        now: Instant,
        store: &PacketStore,
        bytes_left: &mut usize,
        packets: &mut Vec<MediaPacket>,
    ) {
        let Phase::CatchingUp { from, at } = self.phase else { return };
        let since = at.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        let earned = since.as_micros().saturating_mul(CATCH_UP_BYTES_PER_SECOND) / 1_000_000;
        let allowed = earned.min(CATCH_UP_BURST as u128) as usize;
        let mut room = allowed.min(*bytes_left);
        for packet in store.since(from) {
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

    /// Notes what the RTP clock shows, for sender reports; what is sent to catch up says nothing about it.
    pub fn note_newest(&mut self, header: &PacketHeader) {
        if self.newest.is_some_and(|(_, captured, _)| captured > header.captured) {
            return;
        }
        if let Some((_, timestamp)) = self.rewriter.rewritten(header.sequence, header.timestamp) {
            self.newest = Some((timestamp, header.captured, header.source.codec.clock_rate()));
        }
    }

    /// Numbers a packet that is sent for the first time.
    pub fn number(&mut self, now: Instant, index: usize, packet: &MediaPacket) -> Numbered {
        let header = &packet.header;
        let is_followed = self.rewriter.source() == Some(header.source);
        let known = if is_followed { self.payload.map(|(_, payload)| payload.pt) } else { None };
        let Some(pt) = known.or_else(|| Some(self.payload_for(header.source.codec)?.pt)) else {
            return Numbered::CodecMismatch;
        };
        if !is_followed {
            self.rewriter.switch(header, header, now);
        }
        let Some((sequence, timestamp)) = self.rewriter.rewrite(header.sequence, header.timestamp, now)
        else {
            return Numbered::TooOld;
        };
        let bytes = self.header.bytes(&header.extensions) + packet.payload.len();
        Numbered::Out(Outgoing { packet: index, pt, bytes, sequence, timestamp, occasion: Occasion::First })
    }

    fn payload_for(&mut self, codec: Codec) -> Option<Payload> {
        match self.payload {
            Some((known, payload)) if known == codec => Some(payload),
            _ => {
                let offered = *self.section.payload_for(codec)?;
                let payload = Payload { rtx: offered.rtx.filter(|_| self.rtx.is_some()), ..offered };
                self.payload = Some((codec, payload));
                self.set_header();
                Some(payload)
            }
        }
    }

    /// A receiver report has named the SSRC.
    pub fn heard(&mut self) {
        if !std::mem::replace(&mut self.heard, true) {
            self.set_header();
        }
    }

    /// Whether a lost packet is sent again at all.
    pub fn is_repeated(&self) -> bool {
        self.payload.is_some_and(|(_, payload)| payload.rtx.is_some() || payload.repeats_exactly())
    }

    /// Whether a lost packet is sent again bit by bit.
    pub fn repeats_exactly(&self) -> bool {
        self.payload.is_some_and(|(_, payload)| payload.repeats_exactly())
    }

    /// The header follows from what was negotiated, and from how a lost packet is sent again.
    fn set_header(&mut self) {
        let ids = ExtensionIds::of(&self.section.extensions);
        let mid = self.section.mid.as_bytes();
        let exact = self.repeats_exactly();
        self.header = match (exact, self.heard) {
            (true, _) => HeaderWriter::new(ids.without_times(), mid, self.allow_mixed),
            (false, false) => HeaderWriter::new(ids, mid, self.allow_mixed),
            (false, true) => HeaderWriter::new(ids, b"", self.allow_mixed),
        };
    }

    /// Finds a packet again that was sent under this sequence number.
    pub fn sent_as<'a>(&self, sequence: u16, store: &'a PacketStore) -> Option<&'a MediaPacket> {
        store.get(self.rewriter.source()?, self.rewriter.source_sequence(sequence)?)
    }

    /// Numbers a packet that is sent again, if `may_send` its bytes. It is not asked for what the viewer did not negotiate to be
    /// sent again.
    pub fn number_again(
        &mut self,
        index: usize,
        packet: &MediaPacket,
        may_send: impl FnOnce(usize) -> bool,
    ) -> Option<Outgoing> {
        let header = &packet.header;
        let (_, payload) = self.payload.filter(|(codec, _)| *codec == header.source.codec)?;
        let (sequence, timestamp) = self.rewriter.rewritten(header.sequence, header.timestamp)?;
        let length = packet.payload.len();
        let (bytes, occasion) = match (payload.rtx, &mut self.rtx) {
            (Some(pt), Some(rtx)) => {
                let bytes = rtx.header.bytes(&header.extensions) + RTX_HEADER_BYTES + length;
                if !may_send(bytes) {
                    return None;
                }
                rtx.sequence += 1;
                (bytes, Occasion::Rtx(pt, rtx.sequence))
            }
            _ if payload.repeats_exactly() => {
                let bytes = self.header.bytes(&header.extensions) + length;
                (bytes, may_send(bytes).then_some(Occasion::Again)?)
            }
            _ => return None,
        };
        Some(Outgoing { packet: index, pt: payload.pt, bytes, sequence, timestamp, occasion })
    }
}

/// Whether the publisher still sends.
fn is_heard(now: Instant, store: &PacketStore) -> bool {
    store.newest().is_some_and(|newest| now.saturating_duration_since(newest.header.received) < SILENT_AFTER)
}
