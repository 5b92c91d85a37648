//! From numbered packets to sealed trains: a new header, a copy of the payload, and the viewer's encryption, all in the buffer
//! that the kernel takes.
//!
//! Consecutive packets of a viewer leave as one train (UDP_SEGMENT). Its segments are equal but for the last, which may be
//! shorter, so packets a few bytes short get RTP padding (RFC 3550 §5.1).

use super::header::Fields;
use super::packet::MediaPacket;
use super::srtp::RtpSealer;
use super::track::{Occasion, Outgoing, Track};
use std::net::SocketAddr;

/// Padding that a packet is given to make it as long as its neighbours. Encoders cut a frame into packets that differ by a byte
/// or two; more would cost more on the wire than a train saves.
const PADDING_MAX: usize = 16;
/// Marker bit in a header's second byte, padding bit in its first (RFC 3550 §5.1).
const MARKER: u8 = 0x80;
const PADDING: u8 = 0x20;

/// What one send operation may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainLimits {
    /// Datagrams; 1 where trains do not work.
    pub segments: usize,
    /// Bytes of all datagrams together, at most 65,507.
    pub bytes: usize,
}

/// Takes trains to the kernel.
pub trait Trains {
    /// What a train may be.
    fn limits(&self) -> TrainLimits;
    /// An empty buffer with room for the longest train.
    fn buffer(&mut self) -> Vec<u8>;
    /// Takes datagrams of `segment` bytes, one behind the other; the last may be shorter.
    fn send(&mut self, socket: usize, to: SocketAddr, segment: usize, datagrams: Vec<u8>);
    /// Bytes that this way takes now, with the length in front of each datagram. UDP takes any number.
    fn room(&self, socket: usize, to: SocketAddr) -> usize {
        let _ = (socket, to);
        usize::MAX
    }
}

/// One viewer's half of what is sent to him.
pub struct Egress<'a> {
    /// Encrypts.
    pub sealer: &'a RtpSealer,
    /// Our socket and his address.
    pub path: (usize, SocketAddr),
    /// By [`MediaKind`](super::codec::MediaKind).
    pub tracks: &'a mut [Option<Track>],
    /// `abs-send-time` of this turn.
    pub abs_send_time: [u8; 3],
    /// The transport-wide sequence number of his last packet.
    pub transport_sequence: &'a mut u16,
}

/// What was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// RTP packets.
    pub packets: u64,
    /// Their bytes, header, payload and authentication tag.
    pub bytes: u64,
    /// Packets that could not be encrypted and were not sent.
    pub unsealed: u64,
}

impl Egress<'_> {
    /// Sends `outgoing`, whose packets are in `packets`.
    pub fn send(
        &mut self,
        packets: &[MediaPacket],
        mut outgoing: &[Outgoing],
        trains: &mut dyn Trains,
    ) -> Sent {
        let (limits, mut sent) = (trains.limits(), Sent::default());
        // A packet that is sent again bit by bit must not have been padded to the length of its neighbours.
        let exact = self.tracks.iter().flatten().any(Track::repeats_exactly);
        let padding_max = if exact { 0 } else { PADDING_MAX };
        while !outgoing.is_empty() {
            let sizes = outgoing.iter().map(|out| out.bytes + self.sealer.tag_bytes());
            let train = Train::of(sizes, padding_max, limits);
            let (members, rest) = outgoing.split_at(train.packets);
            outgoing = rest;
            let mut buffer = trains.buffer();
            for (index, out) in members.iter().enumerate() {
                let last = index + 1 == members.len();
                let pad_to = if last { 0 } else { train.segment };
                let sealed = self.write(&mut buffer, &packets[out.packet], out, pad_to);
                sent.packets += u64::from(sealed);
                sent.unsealed += u64::from(!sealed);
            }
            sent.bytes += buffer.len() as u64;
            if !buffer.is_empty() {
                trains.send(self.path.0, self.path.1, train.segment, buffer);
            }
        }
        sent
    }

    /// Appends one sealed packet, padded to `pad_to` bytes if it is shorter; false if it could not be sealed.
    fn write(&mut self, buffer: &mut Vec<u8>, packet: &MediaPacket, out: &Outgoing, pad_to: usize) -> bool {
        let Some(track) = &mut self.tracks[packet.header.kind() as usize] else { return false };
        *self.transport_sequence = self.transport_sequence.wrapping_add(1);
        let (pt, index) = out.rtx().unwrap_or((out.pt, out.sequence));
        let (ssrc, header) = track.stream(out.occasion);
        let fields = Fields {
            second_byte: if packet.header.marker { MARKER | pt.0 } else { pt.0 },
            sequence: index as u16,
            timestamp: out.timestamp,
            ssrc,
            abs_send_time: self.abs_send_time,
            transport_sequence: *self.transport_sequence,
        };
        let start = buffer.len();
        header.write(buffer, &fields, &packet.header.extensions);
        let header_bytes = buffer.len() - start;
        if out.rtx().is_some() {
            buffer.extend_from_slice(&(out.sequence as u16).to_be_bytes());
        }
        let payload = buffer.len();
        buffer.extend_from_slice(&packet.payload);
        out.pictures.apply(&mut buffer[payload..]);
        let padding = pad_to.saturating_sub(buffer.len() - start + self.sealer.tag_bytes());
        if padding > 0 {
            buffer[start] |= PADDING;
            buffer.resize(buffer.len() + padding - 1, 0);
            buffer.push(padding as u8);
        }
        if self.sealer.seal(buffer, start, header_bytes, ssrc.0, index).is_err() {
            buffer.truncate(start);
            return false;
        }
        if out.occasion == Occasion::First {
            track.packets_sent += 1;
            track.octets_sent += packet.payload.len() as u64;
        }
        true
    }
}

/// Packets that leave together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Train {
    packets: usize,
    /// Bytes of each but the last.
    segment: usize,
}

impl Train {
    /// The longest train at the front of packets with these `sizes`, of which there is one at least.
    fn of(mut sizes: impl Iterator<Item = usize>, padding_max: usize, limits: TrainLimits) -> Train {
        let first = sizes.next().unwrap_or(0);
        let (mut shortest, mut longest) = (first, first);
        let mut packets = 1;
        for size in sizes {
            let (low, high) = (shortest.min(size), longest.max(size));
            if packets >= limits.segments || high * packets + size > limits.bytes {
                break;
            }
            if high - low > padding_max {
                // A shorter one may still be the last.
                packets += usize::from(size < longest);
                break;
            }
            (shortest, longest) = (low, high);
            packets += 1;
        }
        Train { packets, segment: longest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TrainLimits = TrainLimits { segments: 64, bytes: 65_507 };

    fn trains(sizes: &[usize], padding_max: usize, limits: TrainLimits) -> Vec<(usize, usize)> {
        let mut rest = sizes;
        let mut found = vec![];
        while !rest.is_empty() {
            let train = Train::of(rest.iter().copied(), padding_max, limits);
            found.push((train.packets, train.segment));
            rest = &rest[train.packets..];
        }
        found
    }

    #[test]
    fn a_frame_cut_about_equally_leaves_as_one_train_of_its_longest_packet() {
        assert_eq!(trains(&[1100, 1100, 1101, 1101], PADDING_MAX, LIMITS), [(4, 1101)]);
        assert_eq!(trains(&[1101, 1100, 1101, 1100], PADDING_MAX, LIMITS), [(4, 1101)]);
    }

    #[test]
    fn a_shorter_packet_ends_a_train_and_a_longer_one_begins_the_next() {
        assert_eq!(trains(&[1200, 1200, 300, 1200], PADDING_MAX, LIMITS), [(3, 1200), (1, 1200)]);
        assert_eq!(trains(&[300, 1200, 1200, 80], PADDING_MAX, LIMITS), [(1, 300), (3, 1200)]);
    }

    #[test]
    fn what_must_stay_as_it_is_leaves_with_its_equals_only() {
        assert_eq!(trains(&[1100, 1100, 1101, 1101], 0, LIMITS), [(2, 1100), (2, 1101)]);
    }

    #[test]
    fn no_train_exceeds_what_the_kernel_takes() {
        assert_eq!(trains(&[1232; 60], PADDING_MAX, LIMITS), [(53, 1232), (7, 1232)]);
        assert_eq!(trains(&[100; 70], PADDING_MAX, LIMITS), [(64, 100), (6, 100)]);
        let none = TrainLimits { segments: 1, ..LIMITS };
        assert_eq!(trains(&[100, 100, 50], PADDING_MAX, none), [(1, 100), (1, 100), (1, 50)]);
    }
}
