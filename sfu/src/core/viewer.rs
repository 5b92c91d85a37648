//! The watching side of a connected session: its tracks, its keys, what it asked for, and all that is sent to it.

use super::codec::MediaKind;
use super::egress::{Egress, Sent, Trains};
use super::layers::{LayerIndex, LayerSet};
use super::ntp::{NtpTime, Turn};
use super::packet::MediaPacket;
use super::plan::{SessionPlan, Ssrc};
use super::reports::{REPORT_INTERVAL, Reports};
use super::retransmission::Retransmissions;
use super::rtcp::ReportBlock;
use super::srtp::{MasterKeys, RtpSealer};
use super::store::Stores;
use super::track::{Numbered, Outgoing, Track};
use crate::stats::JoinPhase;
use std::net::SocketAddr;
use std::time::Instant;
use str0m_proto::crypto::SrtpProvider;

/// Of IPv4, in front of every datagram: an empty packet is not free either.
const IP_AND_UDP_BYTES: usize = 28;

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

/// What a viewer that is not live was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gathered {
    /// Packets of video withheld because no key frame is at hand.
    pub withheld: u64,
    /// The layer of which a key frame is waited for while its packets or those of another come.
    pub wants_keyframe: Option<LayerIndex>,
    /// It can be sent more before the next packet comes.
    pub wants_turn: bool,
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
    /// A viewer that has been sent nothing: its session is from `created`, it is connected `now`. `first_sequence` yields random
    /// numbers. `None` for an SRTP profile that is not ours.
    pub fn new(
        (created, now): (Instant, Instant),
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
            created,
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

    /// The kind of the track with this SSRC, if what is lost of it is sent again.
    pub fn repeated(&self, ssrc: Ssrc) -> Option<MediaKind> {
        self.tracks().find(|track| track.ssrc == ssrc && track.is_repeated()).map(|track| track.section.kind)
    }

    /// Every SSRC under which it is sent something.
    pub fn ssrcs(&self) -> Vec<Ssrc> {
        let rtx = |track: &Track| track.rtx.as_ref().map(|rtx| rtx.ssrc);
        self.tracks().flat_map(|track| [Some(track.ssrc), rtx(track)]).flatten().collect()
    }

    /// Whether every packet is sent when it comes. Else [`Viewer::gather`] says what is sent.
    pub fn is_live(&self, stores: &Stores) -> bool {
        self.video().is_none_or(|track| track.is_live(stores))
    }

    fn video(&self) -> Option<&Track> {
        self.tracks[MediaKind::Video as usize].as_ref()
    }

    /// The simulcast layer that it is to be sent from now on.
    pub fn aim(&mut self, now: Instant, layer: LayerIndex) {
        if let Some(track) = &mut self.tracks[MediaKind::Video as usize] {
            track.following.aim(now, layer);
        }
    }

    /// The layer that it is sent, and the one that it is to be sent.
    pub fn layers(&self) -> (LayerIndex, LayerIndex) {
        self.video().map(|track| (track.following.layer(), track.following.target())).unwrap_or_default()
    }

    /// The layers of which it needs the packets.
    pub fn taken(&self) -> LayerSet {
        self.video().map(|track| track.following.layers()).unwrap_or_default()
    }

    /// Whether this packet is for it: audio, or of the layer that it is sent.
    pub fn takes(&self, packet: &MediaPacket) -> bool {
        packet.header.kind() == MediaKind::Audio
            || self.video().is_some_and(|track| track.takes(&packet.header))
    }

    /// Whether packets for it are sent as they come, and those of video not from the store or not at all.
    pub fn has_caught_up(&self) -> bool {
        self.video().is_none_or(|track| track.following.has_caught_up())
    }

    /// What waits for this viewer is too much: nothing of video is sent before a key frame that is yet to come. False if that is
    /// so already, or it watches no video.
    pub fn skip_to_keyframe(&mut self, now: Instant, stores: &Stores) -> bool {
        let video = MediaKind::Video as usize;
        self.tracks[video].as_mut().is_some_and(|track| track.following.skip_to_keyframe(now, stores))
    }

    /// Whether it waits for a key frame because too much waited for it.
    pub fn skips(&self) -> bool {
        self.tracks().any(|track| track.following.skips())
    }

    /// For a viewer that is not live: fills `packets` with what it can be sent in this turn, of video at most `bytes_left` bytes,
    /// and the `pending` audio.
    pub fn gather(
        &mut self,
        now: Instant,
        stores: &Stores,
        pending: &[MediaPacket],
        bytes_left: &mut usize,
        packets: &mut Vec<MediaPacket>,
    ) -> Gathered {
        packets.clear();
        packets.extend(pending.iter().filter(|packet| packet.header.kind() == MediaKind::Audio).cloned());
        let Some(track) = &mut self.tracks[MediaKind::Video as usize] else { return Gathered::default() };
        if track.find_start(now, stores) {
            // What its timestamps mean has changed.
            self.next_report = None;
        }
        let of_layer = pending.iter().filter(|packet| track.takes(&packet.header));
        let mut withheld = 0;
        if track.following.awaits_keyframe() {
            withheld = of_layer.count() as u64;
        } else if track.following.has_caught_up() {
            // On the way to another layer.
            packets.extend(of_layer.filter(|packet| Some(packet.header.source) == track.source()).cloned());
        } else {
            track.following.catch_up(now, stores, bytes_left, packets);
        }
        let waits = withheld > 0 || track.following.is_switching();
        Gathered {
            withheld,
            wants_keyframe: waits.then(|| track.following.target()),
            wants_turn: track.following.wants_turn(now, stores),
        }
    }

    /// Numbers the packets of this turn for this viewer.
    pub fn number(&mut self, packets: &[MediaPacket], outgoing: &mut Vec<Outgoing>) -> Withheld {
        let mut withheld = Withheld::default();
        // Video first: a shorter audio packet may then ride at the end of its train.
        for kind in [MediaKind::Video, MediaKind::Audio] {
            let Some(track) = &mut self.tracks[kind as usize] else { continue };
            let mut newest = None;
            let layer = track.following.layer();
            for (index, packet) in packets.iter().enumerate() {
                if packet.header.source.layer != layer || packet.header.kind() != kind {
                    continue;
                }
                match track.number(index, packet) {
                    Numbered::Out(out) => {
                        outgoing.push(out);
                        newest = Some(&packet.header);
                    }
                    Numbered::TooOld => withheld.too_old += 1,
                    Numbered::CodecMismatch => withheld.codec_mismatch = true,
                }
            }
            newest.into_iter().for_each(|header| track.note_newest(header));
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
            let Some(packet) = track.sent_as(sequence, stores) else {
                expired += 1;
                continue;
            };
            let sealed_and_wrapped = self.sealer.tag_bytes() + IP_AND_UDP_BYTES;
            let may_send = |bytes: usize| self.retransmissions.spend(bytes + sealed_and_wrapped);
            match track.number_again(packets.len(), packet, may_send) {
                Some(out) => {
                    outgoing.push(out);
                    packets.push(packet.clone());
                }
                None => beyond_budget += 1,
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
    pub fn report(&mut self, turn: Turn, trains: &mut dyn Trains) {
        if self.next_report.is_some_and(|next| turn.now < next) {
            return;
        }
        self.next_report = Some(turn.now + REPORT_INTERVAL);
        let mut buffer = trains.buffer();
        // Without its reports a viewer still plays.
        if self.reports.write(turn, self.tracks.iter().flatten(), &mut buffer).is_ok() {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::core::codec::Codec;
    use crate::core::extensions::PassThrough;
    use crate::core::packet::PacketHeader;
    use crate::core::plan::{
        DtlsRole, Epoch, Feedback, MediaSection, Payload, PayloadType, PeerCertificate, RemoteTransport,
        Role, SsrcPair, StreamId,
    };
    use crate::core::retransmission::Request;
    use crate::core::rewrite::Source;
    use std::time::Duration;
    use str0m::crypto::dtls::SrtpProfile;

    fn plan() -> SessionPlan {
        let feedback = Feedback { nack: true, ..Feedback::default() };
        let payload =
            Payload { pt: PayloadType(96), rtx: Some(PayloadType(97)), codec: Codec::Opus, feedback };
        SessionPlan {
            role: Role::Viewer,
            stream: StreamId(1),
            epoch: Epoch(0),
            remote: RemoteTransport {
                ice_ufrag: String::new(),
                ice_pwd: String::new(),
                fingerprint: [0; 32],
                dtls_role: DtlsRole::Passive,
                certificate: PeerCertificate::Ecdsa,
            },
            sections: vec![MediaSection {
                mid: "0".into(),
                kind: MediaKind::Audio,
                payloads: vec![payload],
                extensions: vec![],
                ssrcs: vec![SsrcPair { media: Ssrc(1), rtx: Some(Ssrc(2)) }],
                rids: vec![],
            }],
            local: None,
            extmap_allow_mixed: false,
            blob: vec![],
        }
    }

    fn empty_packet(now: Instant, sequence: u64) -> MediaPacket {
        let header = PacketHeader {
            stream: StreamId(1),
            source: Source { epoch: Epoch(1), ssrc: Ssrc(9), codec: Codec::Opus, layer: LayerIndex(0) },
            sequence,
            timestamp: 0,
            marker: false,
            keyframe: true,
            captured: now,
            received: now,
            extensions: PassThrough::EMPTY,
        };
        MediaPacket { header, payload: [].into() }
    }

    #[test]
    fn empty_packets_are_no_way_past_the_budget_and_what_is_refused_uses_up_no_number() {
        MasterKeys::leave(&[7; 88], SrtpProfile::AEAD_AES_256_GCM, false);
        let keys = MasterKeys::take().unwrap();
        let crypto = str0m_aws_lc_rs::default_provider().srtp_provider;
        let (start, to) = (Instant::now(), SocketAddr::from(([127, 0, 0, 1], 9)));
        let mut viewer = Viewer::new((start, start), &plan(), (&keys, crypto), (0, to), || 0).unwrap();
        let (mut stores, mut outgoing) = (Stores::default(), Vec::new());
        let packets: Vec<_> = (0..200).map(|sequence| empty_packet(start, sequence)).collect();
        packets.iter().for_each(|packet| assert!(stores.insert(packet.clone())));
        viewer.number(&packets, &mut outgoing);
        outgoing.clear();
        for round in 1..=50 {
            let now = start + Duration::from_millis(100 * round);
            for sequence in 0..200 {
                let asked = viewer.retransmissions.request(now, None, MediaKind::Audio, sequence);
                assert_eq!(asked, Request::Taken);
            }
            viewer.number_again(&stores, &mut Vec::new(), &mut outgoing);
        }
        assert!((500..1_200).contains(&outgoing.len()), "{} of 10,000", outgoing.len());
        let numbers: Vec<u64> =
            outgoing.iter().filter_map(|out| out.rtx().map(|(_, number)| number)).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "a receiver would miss the others");
    }
}
