//! One m-section of a viewer: the numbers under which it is sent packets.

use super::codec::Codec;
use super::extensions::ExtensionIds;
use super::following::Following;
use super::header::HeaderWriter;
use super::packet::{MediaPacket, PacketHeader};
use super::plan::{MediaSection, Payload, PayloadType, SessionPlan, Ssrc};
use super::rewrite::{RtpRewriter, Source};
use super::store::Stores;
use super::vp8::{PictureNumbers, PictureShift};
use std::time::Instant;

/// The original sequence number in front of a retransmitted payload (RFC 4588 §4).
pub const RTX_HEADER_BYTES: usize = 2;
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
    /// How it stands to its source.
    pub following: Following,
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
    /// What its picture numbers are shifted by.
    pub pictures: PictureShift,
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
            following: Following::new(now, section.kind),
            packets_sent: 0,
            octets_sent: 0,
            newest: None,
        })
    }

    /// Where its packets come from now.
    pub fn source(&self) -> Option<Source> {
        self.rewriter.source()
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

    /// Whether every packet of its layer is sent when it comes.
    pub fn is_live(&self, stores: &Stores) -> bool {
        self.following.is_live(self.source(), stores)
    }

    /// Begins to catch up if there is a key frame to begin with; true if it does so now.
    pub fn find_start(&mut self, now: Instant, stores: &Stores) -> bool {
        let Some((keyframe, newest)) = self.following.find_start(now, self.source(), stores) else {
            return false;
        };
        self.switch(keyframe, &newest.header);
        self.note_newest(&newest.header);
        true
    }

    /// Follows the source of `first` from this packet on.
    fn switch(&mut self, first: &MediaPacket, newest: &PacketHeader) {
        self.rewriter.switch(&first.header, newest, self.shown());
        self.rewriter.join_pictures(PictureNumbers::of(first));
    }

    /// Notes what the RTP clock shows, for sender reports; what is sent to catch up says nothing about it.
    pub fn note_newest(&mut self, header: &PacketHeader) {
        if self.newest.is_some_and(|(_, captured, _)| captured > header.captured) {
            return;
        }
        if let Some((_, timestamp)) =
            self.rewriter.rewritten(header.source, header.sequence, header.timestamp)
        {
            self.newest = Some((timestamp, header.captured, header.source.codec.clock_rate()));
        }
    }

    /// What the RTP clock shows: the newest timestamp, and when its media was captured.
    fn shown(&self) -> Option<(u32, Instant)> {
        self.newest.map(|(timestamp, captured, _)| (timestamp, captured))
    }

    /// Whether packets with this header are sent here.
    pub fn takes(&self, header: &PacketHeader) -> bool {
        header.kind() == self.section.kind && header.source.layer == self.following.layer()
    }

    /// Numbers a packet that is sent for the first time.
    pub fn number(&mut self, index: usize, packet: &MediaPacket) -> Numbered {
        let header = &packet.header;
        let Some(Payload { pt, .. }) = self.payload_for(header.source.codec) else {
            return Numbered::CodecMismatch;
        };
        if self.rewriter.source() != Some(header.source) {
            self.switch(packet, header);
        }
        let Some((sequence, timestamp)) = self.rewriter.rewrite(header.sequence, header.timestamp) else {
            return Numbered::TooOld;
        };
        let pictures = self.rewriter.picture_shift(header.source);
        self.rewriter.note_pictures(sequence, PictureNumbers::of(packet));
        let bytes = self.header.bytes(&header.extensions) + packet.payload.len();
        let occasion = Occasion::First;
        Numbered::Out(Outgoing { packet: index, pt, bytes, sequence, timestamp, pictures, occasion })
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
    pub fn sent_as<'a>(&self, sequence: u16, stores: &'a Stores) -> Option<&'a MediaPacket> {
        let (source, sequence) = self.rewriter.source_sequence(sequence)?;
        stores.get(source, sequence)
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
        let (sequence, timestamp) =
            self.rewriter.rewritten(header.source, header.sequence, header.timestamp)?;
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
        let pictures = self.rewriter.picture_shift(header.source);
        Some(Outgoing { packet: index, pt: payload.pt, bytes, sequence, timestamp, pictures, occasion })
    }
}
