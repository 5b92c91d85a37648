//! The watching side of a session: which packets a viewer is sent, and under which numbers.

use super::codec::{Codec, MediaKind};
use super::egress::{Egress, Sent, Trains};
use super::extensions::ExtensionIds;
use super::header::HeaderWriter;
use super::ntp::{NtpClock, NtpTime};
use super::packet::MediaPacket;
use super::plan::{MediaSection, Payload, PayloadType, SessionPlan, Ssrc};
use super::reports::{REPORT_INTERVAL, Reports};
use super::retransmission::Retransmissions;
use super::rewrite::RtpRewriter;
use super::rtcp::ReportBlock;
use super::srtp::{MasterKeys, RtpSealer};
use super::store::PacketStore;
use crate::stats::JoinPhase;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use str0m_proto::crypto::SrtpProvider;

/// A key frame that is not older than this is where a new viewer starts; else the publisher is asked for one.
const FRESH_KEYFRAME: Duration = Duration::from_secs(1);
/// A publisher that was asked and has not sent one for so long does not listen, as OBS does not. Then the newest is good enough.
const KEYFRAME_PATIENCE: Duration = Duration::from_millis(500);
/// Payload bytes that a viewer who catches up is sent in one turn: with 30 frames a second 16 Mbit/s.
const CATCH_UP_BYTES: usize = 64 << 10;

/// A connected viewer. What each packet needs comes first.
pub struct Viewer {
    sealer: RtpSealer,
    /// Our socket and its address.
    pub path: (usize, SocketAddr),
    /// By [`MediaKind`].
    tracks: [Option<Track>; MediaKind::ALL.len()],
    transport_sequence: u16,
    next_report: Option<Instant>,
    /// What it asked to have again.
    pub retransmissions: Retransmissions,
    /// RTCP to it and from it.
    pub reports: Box<Reports>,
    /// When its session was made.
    pub created: Instant,
    first_packet_sent: bool,
    first_keyframe_sent: bool,
}

/// One of the viewer's m-sections.
pub struct Track {
    /// What was negotiated.
    section: Box<MediaSection>,
    /// The SSRC of its packets.
    pub ssrc: Ssrc,
    /// Where lost packets are sent again, if the viewer takes them there.
    pub rtx: Option<RtxStream>,
    /// Makes the headers of what is sent under `ssrc`.
    pub header: HeaderWriter,
    allow_mixed: bool,
    /// A receiver report has named the SSRC, so packets need not name the section.
    heard: bool,
    /// The published codec and the payload under which this viewer receives it.
    payload: Option<(Codec, Payload)>,
    rewriter: RtpRewriter,
    phase: Phase,
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
    pub header: Box<HeaderWriter>,
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
    },
    /// Each packet is sent when it comes.
    Live,
}

/// A packet on its way to a viewer.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing {
    /// Its place among the packets of the turn.
    pub packet: usize,
    /// As this viewer offered it.
    pub payload: Payload,
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

/// What became of the packets of a turn beside those that go out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Withheld {
    /// How many come from before the switch to this source.
    pub too_old: u64,
    /// The viewer offered no payload type that plays the codec.
    pub codec_mismatch: bool,
}

impl Viewer {
    /// A viewer that has been sent nothing. `first_sequence` yields a random number for each track. `None` for an SRTP profile
    /// that is not ours.
    pub fn new(
        now: Instant,
        plan: &SessionPlan,
        (keys, crypto): (&MasterKeys, &dyn SrtpProvider),
        path: (usize, SocketAddr),
        mut first_sequence: impl FnMut() -> u16,
    ) -> Option<Viewer> {
        let mut track =
            |kind| plan.section(kind).and_then(|section| Track::new(now, plan, section, &mut first_sequence));
        Some(Viewer {
            sealer: RtpSealer::new(keys, crypto)?,
            path,
            tracks: MediaKind::ALL.map(&mut track),
            transport_sequence: 0,
            next_report: None,
            retransmissions: Retransmissions::default(),
            reports: Box::new(Reports::new(plan.stream, keys, crypto)?),
            created: now,
            first_packet_sent: false,
            first_keyframe_sent: false,
        })
    }

    /// Its tracks.
    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.tracks.iter().flatten()
    }

    /// The kind of the track with this SSRC.
    pub fn kind_of(&self, ssrc: Ssrc) -> Option<MediaKind> {
        self.tracks().find(|track| track.ssrc == ssrc).map(|track| track.section.kind)
    }

    /// Every SSRC under which it is sent something.
    pub fn ssrcs(&self) -> Vec<Ssrc> {
        self.tracks()
            .flat_map(|track| [Some(track.ssrc), track.rtx.as_ref().map(|rtx| rtx.ssrc)])
            .flatten()
            .collect()
    }

    /// Whether every packet is sent when it comes. Else [`Viewer::gather`] says what is sent.
    pub fn is_live(&self, stores: &Stores) -> bool {
        let Some(track) = &self.tracks[MediaKind::Video as usize] else { return true };
        let source = stores[MediaKind::Video as usize].source();
        source.is_none() || (track.phase == Phase::Live && track.rewriter.source() == source)
    }

    /// For a viewer that is not live: fills `packets` with what it can be sent in this turn, the `pending` audio among it. Returns
    /// how many packets of video are withheld because no key frame is at hand.
    pub fn gather(
        &mut self,
        now: Instant,
        stores: &Stores,
        pending: &[MediaPacket],
        packets: &mut Vec<MediaPacket>,
    ) -> u64 {
        packets.clear();
        packets.extend(pending.iter().filter(|packet| packet.header.kind() == MediaKind::Audio).cloned());
        let Some(track) = &mut self.tracks[MediaKind::Video as usize] else { return 0 };
        let store = &stores[MediaKind::Video as usize];
        if track.find_start(now, store) {
            // What its timestamps mean has changed.
            self.next_report = None;
        }
        match track.phase {
            Phase::CatchingUp { from } => {
                track.catch_up(from, store, packets);
                0
            }
            Phase::AwaitingKeyframe { .. } | Phase::Live => (pending.len() - packets.len()) as u64,
        }
    }

    /// Numbers the packets of this turn for this viewer.
    pub fn number(
        &mut self,
        now: Instant,
        packets: &[MediaPacket],
        outgoing: &mut Vec<Outgoing>,
    ) -> Withheld {
        let mut withheld = Withheld::default();
        // Video first: a shorter audio packet may then ride at the end of its train.
        for kind in [MediaKind::Video, MediaKind::Audio] {
            let Some(track) = &mut self.tracks[kind as usize] else { continue };
            for (index, packet) in
                packets.iter().enumerate().filter(|(_, packet)| packet.header.kind() == kind)
            {
                match track.number(now, index, packet) {
                    Numbered::Out(out) => outgoing.push(out),
                    Numbered::TooOld => withheld.too_old += 1,
                    Numbered::CodecMismatch => withheld.codec_mismatch = true,
                }
            }
        }
        withheld
    }

    /// Finds what the viewer asked to have again, and numbers it. Returns how many packets are no longer there and how many would
    /// have been too much.
    pub fn number_again(
        &mut self,
        stores: &Stores,
        packets: &mut Vec<MediaPacket>,
        outgoing: &mut Vec<Outgoing>,
    ) -> (u64, u64) {
        let (mut expired, mut beyond_budget) = (0, 0);
        for (kind, sequence) in self.retransmissions.take() {
            let Some(track) = &mut self.tracks[kind as usize] else { continue };
            let Some(packet) = track.sent_as(sequence, &stores[kind as usize]) else {
                expired += 1;
                continue;
            };
            if !self.retransmissions.spend(packet.payload.len()) {
                beyond_budget += 1;
            } else if let Some(out) = track.number_again(packets.len(), packet) {
                outgoing.push(out);
                packets.push(packet.clone());
            }
        }
        (expired, beyond_budget)
    }

    /// Sends numbered packets.
    pub fn send(
        &mut self,
        time: NtpTime,
        packets: &[MediaPacket],
        outgoing: &[Outgoing],
        trains: &mut dyn Trains,
    ) -> Sent {
        let mut egress = Egress {
            sealer: &self.sealer,
            path: self.path,
            tracks: &mut self.tracks,
            abs_send_time: time.abs_send_time(),
            transport_sequence: &mut self.transport_sequence,
        };
        egress.send(packets, outgoing, trains)
    }

    /// Sends a sender report if one is due.
    pub fn report(&mut self, now: Instant, clock: &NtpClock, trains: &mut dyn Trains) {
        if self.next_report.is_some_and(|next| now < next) {
            return;
        }
        self.next_report = Some(now + REPORT_INTERVAL);
        let mut buffer = trains.buffer();
        // Without its reports a viewer still plays.
        if self.reports.write(now, clock, self.tracks.iter().flatten(), &mut buffer).is_ok() {
            trains.send(self.path.0, self.path.1, buffer.len(), buffer);
        }
    }

    /// The viewer says what it receives.
    pub fn received(&mut self, now: NtpTime, block: &ReportBlock) {
        if let Some(track) = self.tracks.iter_mut().flatten().find(|track| track.ssrc == block.source) {
            track.heard();
            self.reports.received(now, block);
        }
    }

    /// The phases of the join that these packets, now sent, complete.
    pub fn phases_reached(
        &mut self,
        packets: &[MediaPacket],
        outgoing: &[Outgoing],
    ) -> impl Iterator<Item = JoinPhase> + use<> {
        let first_packet = !std::mem::replace(&mut self.first_packet_sent, true);
        let keyframe = !self.first_keyframe_sent
            && outgoing
                .iter()
                .map(|out| &packets[out.packet].header)
                .any(|header| header.keyframe && header.kind() == MediaKind::Video);
        self.first_keyframe_sent |= keyframe;
        let first_packet = first_packet.then_some(JoinPhase::FirstPacket);
        first_packet.into_iter().chain(keyframe.then_some(JoinPhase::FirstKeyframe))
    }
}

/// A stream's recent packets by [`MediaKind`].
pub type Stores = [PacketStore; MediaKind::ALL.len()];

enum Numbered {
    Out(Outgoing),
    TooOld,
    CodecMismatch,
}

impl Track {
    fn new(
        now: Instant,
        plan: &SessionPlan,
        section: &MediaSection,
        first_sequence: &mut impl FnMut() -> u16,
    ) -> Option<Track> {
        let pair = section.ssrcs.first()?;
        let header =
            HeaderWriter::new(ExtensionIds::of(section), section.mid.as_bytes(), plan.extmap_allow_mixed);
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

    /// Begins to catch up if there is a key frame to begin with; true if a new source is followed now.
    fn find_start(&mut self, now: Instant, store: &PacketStore) -> bool {
        let is_new = self.rewriter.source() != store.source();
        if is_new && !matches!(self.phase, Phase::AwaitingKeyframe { .. }) {
            self.phase = Phase::AwaitingKeyframe { since: now };
        }
        let (Some(keyframe), Some(newest)) = (store.newest_keyframe(), store.newest()) else { return false };
        let begins = match self.phase {
            Phase::Live => false,
            // What has come since is a better start than the rest of an old group.
            Phase::CatchingUp { from } => keyframe.header.sequence > from,
            Phase::AwaitingKeyframe { since } => {
                let age = now.saturating_duration_since(keyframe.header.received);
                age <= FRESH_KEYFRAME || now.saturating_duration_since(since) >= KEYFRAME_PATIENCE
            }
        };
        if begins {
            self.rewriter.switch(&keyframe.header, newest.header.timestamp, now);
            self.phase = Phase::CatchingUp { from: keyframe.header.sequence };
        }
        begins && is_new
    }

    fn catch_up(&mut self, from: u64, store: &PacketStore, packets: &mut Vec<MediaPacket>) {
        let mut bytes = 0;
        for packet in store.since(from) {
            if bytes >= CATCH_UP_BYTES {
                self.phase = Phase::CatchingUp { from: packet.header.sequence };
                return;
            }
            bytes += packet.payload.len();
            packets.push(packet.clone());
        }
        self.phase = Phase::Live;
    }

    fn number(&mut self, now: Instant, index: usize, packet: &MediaPacket) -> Numbered {
        let header = &packet.header;
        let Some(payload) = self.payload_for(header.source.codec) else { return Numbered::CodecMismatch };
        if self.rewriter.source() != Some(header.source) {
            self.rewriter.switch(header, header.timestamp, now);
        }
        let Some((sequence, timestamp)) = self.rewriter.rewrite(header.sequence, header.timestamp, now)
        else {
            return Numbered::TooOld;
        };
        self.newest = Some((timestamp, header.captured, header.source.codec.clock_rate()));
        Numbered::Out(Outgoing { packet: index, payload, sequence, timestamp, occasion: Occasion::First })
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

    fn heard(&mut self) {
        if !std::mem::replace(&mut self.heard, true) {
            self.set_header();
        }
    }

    /// The header follows from what was negotiated, and from how a lost packet is sent again.
    fn set_header(&mut self) {
        let ids = ExtensionIds::of(&self.section);
        let mid = self.section.mid.as_bytes();
        let exact = self.payload.is_some_and(|(_, payload)| payload.repeats_exactly());
        self.header = match (exact, self.heard) {
            (true, _) => HeaderWriter::new(ids.without_times(), mid, self.allow_mixed),
            (false, false) => HeaderWriter::new(ids, mid, self.allow_mixed),
            (false, true) => HeaderWriter::new(ids, b"", self.allow_mixed),
        };
    }

    /// Finds a packet again that was sent under this sequence number.
    fn sent_as<'a>(&self, sequence: u16, store: &'a PacketStore) -> Option<&'a MediaPacket> {
        store.get(self.rewriter.source()?, self.rewriter.source_sequence(sequence)?)
    }

    /// Numbers a packet that is sent again.
    fn number_again(&mut self, index: usize, packet: &MediaPacket) -> Option<Outgoing> {
        let header = &packet.header;
        let (_, payload) = self.payload.filter(|(codec, _)| *codec == header.source.codec)?;
        let (sequence, timestamp) = self.rewriter.rewritten(header.sequence, header.timestamp)?;
        let occasion = match payload.rtx {
            None => Occasion::Again,
            Some(pt) => {
                let rtx = self.rtx.as_mut()?;
                rtx.sequence += 1;
                Occasion::Rtx(pt, rtx.sequence)
            }
        };
        Some(Outgoing { packet: index, payload, sequence, timestamp, occasion })
    }
}
