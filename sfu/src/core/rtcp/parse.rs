//! Reads compound RTCP, also of reduced size (RFC 5506), in one pass and without allocation.

use super::items::{FirEntries, NackedSequences, ReportBlocks, SenderInfo, Sources};
use super::{HEADER_BYTES, VERSION, packet_type};
use crate::core::plan::Ssrc;

/// What one RTCP packet says.
#[derive(Debug, Clone)]
pub enum Feedback<'a> {
    /// RR, or SR if the client sends media too.
    Report {
        /// Who reports.
        sender: Ssrc,
        /// What an SR says about the reporter's own stream.
        sender_info: Option<SenderInfo>,
        /// What it receives; at most 31.
        blocks: ReportBlocks<'a>,
    },
    /// Generic NACK, RFC 4585 §6.2.1.
    Nack {
        /// The stream that misses packets.
        media: Ssrc,
        /// The missing packets.
        sequences: NackedSequences<'a>,
    },
    /// Picture loss indication, RFC 4585 §6.3.1.
    Pli {
        /// The stream that needs a key frame.
        media: Ssrc,
    },
    /// Full intra request, RFC 5104 §4.3.1.
    Fir {
        /// Who asks: sequence numbers count per asker.
        sender: Ssrc,
        /// One for each stream.
        entries: FirEntries<'a>,
    },
    /// Transport-wide congestion control, draft-holmer-rmcat-transport-wide-cc-extensions-01.
    TransportCc {
        /// From the base sequence number on.
        report: &'a [u8],
    },
    /// Receiver estimated maximum bitrate, draft-alvestrand-rmcat-remb-03.
    Remb {
        /// In bits per second, all streams together.
        bitrate_bps: u64,
        /// The streams that share it.
        sources: Sources<'a>,
    },
    /// SDES.
    SourceDescription,
    /// BYE: these streams of the client ended.
    Bye {
        /// At most 31.
        sources: Sources<'a>,
    },
    /// XR, RFC 3611.
    ExtendedReport,
    /// A packet type or feedback format that we do not read.
    Other,
}

/// The packets of one datagram, in order. After the last, [`Compound::is_malformed`] says whether there was more that could
/// not be read.
///
/// A datagram names at most 17 sequence numbers in 4 bytes: some 6000 of 1472 bytes, each read once.
#[derive(Debug, Clone)]
pub struct Compound<'a> {
    rest: &'a [u8],
    is_malformed: bool,
}

impl<'a> Compound<'a> {
    /// Nothing is read before the first `next`.
    pub fn new(datagram: &'a [u8]) -> Compound<'a> {
        Compound { rest: datagram, is_malformed: false }
    }

    /// Whether a packet's length or content reached past its end. It and all behind it were not read.
    pub fn is_malformed(&self) -> bool {
        self.is_malformed
    }
}

impl<'a> Iterator for Compound<'a> {
    type Item = Feedback<'a>;

    fn next(&mut self) -> Option<Feedback<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let read = Packet::split(self.rest).and_then(|(packet, rest)| Some((packet.read()?, rest)));
        let Some((feedback, rest)) = read else {
            self.rest = &[];
            self.is_malformed = true;
            return None;
        };
        self.rest = rest;
        Some(feedback)
    }
}

/// One packet without header and padding.
struct Packet<'a> {
    /// Report count, source count or feedback format.
    count: u8,
    packet_type: u8,
    body: &'a [u8],
}

impl<'a> Packet<'a> {
    /// The first packet, and what follows it.
    fn split(bytes: &'a [u8]) -> Option<(Packet<'a>, &'a [u8])> {
        let header: [u8; HEADER_BYTES] = *bytes.first_chunk()?;
        let words = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let (packet, rest) = bytes.split_at_checked(HEADER_BYTES + 4 * words)?;
        let mut body = &packet[HEADER_BYTES..];
        if header[0] & 0x20 != 0 {
            let padding = usize::from(*body.last()?);
            body = body.get(..body.len().checked_sub(padding)?).filter(|_| padding > 0)?;
        }
        let packet = Packet { count: header[0] & 0x1f, packet_type: header[1], body };
        (header[0] >> 6 == VERSION).then_some((packet, rest))
    }

    /// `None` if the body is shorter than what it promises.
    fn read(&self) -> Option<Feedback<'a>> {
        match self.packet_type {
            packet_type::SENDER_REPORT => self.report(true),
            packet_type::RECEIVER_REPORT => self.report(false),
            packet_type::SOURCE_DESCRIPTION => Some(Feedback::SourceDescription),
            packet_type::BYE => Some(Feedback::Bye { sources: Sources::new(self.body, self.count)? }),
            packet_type::TRANSPORT_FEEDBACK => self.transport_feedback(),
            packet_type::PAYLOAD_FEEDBACK => self.payload_feedback(),
            packet_type::EXTENDED_REPORT => Some(Feedback::ExtendedReport),
            _ => Some(Feedback::Other),
        }
    }

    /// RFC 3550 §6.4.1 and §6.4.2.
    fn report(&self, sends: bool) -> Option<Feedback<'a>> {
        let (sender, mut rest) = ssrc(self.body)?;
        let mut sender_info = None;
        if sends {
            let info;
            (info, rest) = rest.split_first_chunk::<{ SenderInfo::BYTES }>()?;
            sender_info = Some(SenderInfo::read(info));
        }
        Some(Feedback::Report { sender, sender_info, blocks: ReportBlocks::new(rest, self.count)? })
    }

    /// RFC 4585 §6.2.
    fn transport_feedback(&self) -> Option<Feedback<'a>> {
        let (_, media, control) = self.feedback()?;
        Some(match self.count {
            1 => Feedback::Nack { media, sequences: NackedSequences::new(control) },
            15 => Feedback::TransportCc { report: control },
            _ => Feedback::Other,
        })
    }

    /// RFC 4585 §6.3.
    fn payload_feedback(&self) -> Option<Feedback<'a>> {
        let (sender, media, control) = self.feedback()?;
        Some(match self.count {
            1 => Feedback::Pli { media },
            4 => Feedback::Fir { sender, entries: FirEntries::new(control) },
            15 if control.starts_with(b"REMB") => remb(&control[4..])?,
            _ => Feedback::Other,
        })
    }

    /// Sender, media source and feedback control information, RFC 4585 §6.1.
    fn feedback(&self) -> Option<(Ssrc, Ssrc, &'a [u8])> {
        let (sender, rest) = ssrc(self.body)?;
        let (media, control) = ssrc(rest)?;
        Some((sender, media, control))
    }
}

fn ssrc(bytes: &[u8]) -> Option<(Ssrc, &[u8])> {
    let (ssrc, rest) = bytes.split_first_chunk()?;
    Some((Ssrc(u32::from_be_bytes(*ssrc)), rest))
}

/// A number of SSRCs, then an exponent of 6 bits and a mantissa of 18.
fn remb(control: &[u8]) -> Option<Feedback<'_>> {
    let (number, sources) = control.split_first_chunk::<4>()?;
    let [count, high, middle, low] = *number;
    let mantissa = u32::from_be_bytes([0, high & 3, middle, low]);
    let bitrate_bps = u64::try_from(u128::from(mantissa) << (high >> 2)).unwrap_or(u64::MAX);
    Some(Feedback::Remb { bitrate_bps, sources: Sources::new(sources, count)? })
}

#[cfg(test)]
mod tests {
    use super::super::build;
    use super::super::tests::{RECEIVER_REPORT, SENDER_REPORT, bytes};
    use super::*;

    const NACK: &str = "81cd0004 00000001 000003e8 00640003 fffe8001";
    const PLI: &str = "81ce0002 00000001 000003e8";
    const FIR: &str = "84ce0006 00000001 00000000 000003e8 07000000 000003e9 ff000000";
    const REMB: &str = "8fce0006 00000001 00000000 52454d42 020fd090 000003e8 000003e9";
    const TRANSPORT_CC: &str = "8fcd0005 00000001 000003e8 00010002 00000100 20020a14";
    const SDES: &str = "81ca0002 00000001 01017800";
    const XR: &str = "80cf0004 00000001 04000002 e0000000 00000000";
    const BYE: &str = "82cb0004 00000001 00000002 03627965 00000000";
    const APP: &str = "80cc0002 00000001 41424344";
    const ALL: [&str; 11] =
        [RECEIVER_REPORT, NACK, PLI, FIR, REMB, TRANSPORT_CC, SDES, XR, BYE, APP, SENDER_REPORT];

    /// All of the datagram in words, so that a test shows what is expected.
    fn describe(datagram: &[u8]) -> Vec<String> {
        let mut compound = Compound::new(datagram);
        let mut told: Vec<String> = compound.by_ref().map(|feedback| tell(&feedback)).collect();
        if compound.is_malformed() {
            told.push("malformed".into());
        }
        told
    }

    fn tell(feedback: &Feedback<'_>) -> String {
        let list = |sources: &Sources<'_>| sources.clone().map(|ssrc| ssrc.0).collect::<Vec<_>>();
        match feedback {
            Feedback::Report { sender, sender_info, blocks } => {
                let sources: Vec<_> = blocks.clone().map(|block| block.source.0).collect();
                format!(
                    "{} from {} on {sources:?}",
                    if sender_info.is_some() { "SR" } else { "RR" },
                    sender.0
                )
            }
            Feedback::Nack { media, sequences } => {
                format!("NACK of {} for {:?}", media.0, sequences.clone().collect::<Vec<_>>())
            }
            Feedback::Pli { media } => format!("PLI for {}", media.0),
            Feedback::Fir { sender, entries } => {
                let entries: Vec<_> = entries.clone().map(|entry| (entry.media.0, entry.sequence)).collect();
                format!("FIR from {} for {entries:?}", sender.0)
            }
            Feedback::TransportCc { report } => format!("TWCC of {} bytes", report.len()),
            Feedback::Remb { bitrate_bps, sources } => format!("REMB {bitrate_bps} for {:?}", list(sources)),
            Feedback::SourceDescription => "SDES".into(),
            Feedback::Bye { sources } => format!("BYE of {:?}", list(sources)),
            Feedback::ExtendedReport => "XR".into(),
            Feedback::Other => "other".into(),
        }
    }

    #[test]
    fn a_compound_packet_is_read_in_order() {
        let told = describe(&bytes(&ALL.join(" ")));
        let expected = [
            "RR from 1 on [1000]",
            "NACK of 1000 for [100, 101, 102, 65534, 65535, 14]",
            "PLI for 1000",
            "FIR from 1 for [(1000, 7), (1001, 255)]",
            "REMB 2000000 for [1000, 1001]",
            "TWCC of 12 bytes",
            "SDES",
            "XR",
            "BYE of [1, 2]",
            "other",
            "SR from 1 on []",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn feedback_may_come_alone() {
        assert_eq!(describe(&bytes(PLI)), ["PLI for 1000"]);
        assert!(describe(&[]).is_empty());
    }

    #[test]
    fn an_absurd_bitrate_is_the_greatest_there_is() {
        let remb = |number: &str| describe(&bytes(&format!("8fce0004 00000001 00000000 52454d42 {number}")));
        assert_eq!(remb("00ffffff"), [format!("REMB {} for []", u64::MAX)]);
        assert_eq!(remb("00000000"), ["REMB 0 for []"]);
        assert_eq!(remb("01000000"), ["malformed"], "it promises an SSRC");
    }

    #[test]
    fn padding_is_not_content() {
        assert_eq!(
            describe(&bytes("a1cd0004 00000001 000003e8 00640000 00000004")),
            ["NACK of 1000 for [100]"]
        );
        assert_eq!(describe(&bytes("a1cd0003 00000001 000003e8 00000000")), ["malformed"]);
        assert_eq!(describe(&bytes("a1cd0003 00000001 000003e8 0000000d")), ["malformed"]);
        assert_eq!(describe(&bytes("a0c90000")), ["malformed"]);
    }

    #[test]
    fn what_was_valid_in_front_of_a_bad_packet_counts() {
        let behind_pli = |words: &str| describe(&bytes(&format!("{PLI} {words} {PLI}")));
        let ends = ["PLI for 1000", "malformed"];
        assert_eq!(behind_pli("81ce0099"), ends, "longer than the datagram");
        assert_eq!(behind_pli("41ce0002 00000001 000003e8"), ends, "version 1");
        assert_eq!(behind_pli("82c90007 00000001 0 0 0 0 0 0"), ends, "two blocks promised, one there");
        assert_eq!(behind_pli("82cb0001 00000001"), ends, "two sources promised, one there");
        assert_eq!(behind_pli("81ce0001 00000001"), ends, "no media source");
        assert_eq!(behind_pli("80c80005 00000001 0 0 0 0"), ends, "no octet count");
        assert_eq!(describe(&[&bytes(PLI)[..], &[0x80, 201, 0]].concat()), ends, "cut in the header");
    }

    /// A small generator: a test must fail the same way twice.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 33) as usize) % limit.max(1)
        }
    }

    #[test]
    fn no_mutation_of_valid_packets_is_read_past_its_end_or_forever() {
        let mut random = Random(7);
        let mut valid: Vec<Vec<u8>> = ALL.iter().map(|words| bytes(words)).collect();
        let mut built = vec![];
        let info = SenderInfo { ntp: 1, rtp_timestamp: 2, packets: 3, octets: 4 };
        build::sender_report(&mut built, Ssrc(1), &info);
        build::bye(&mut built, &[Ssrc(1), Ssrc(2)]);
        valid.push(built);
        let (mut read, mut malformed) = (0, 0);
        for _ in 0..100_000 {
            let mut datagram = vec![];
            for _ in 0..=random.below(4) {
                datagram.extend_from_slice(&valid[random.below(valid.len())]);
            }
            mutate(&mut datagram, &mut random);
            let told = describe(&datagram);
            assert!(told.len() <= datagram.len() / 4 + 1);
            assert!(told.iter().map(String::len).sum::<usize>() <= 64 * (datagram.len() + 1));
            malformed += usize::from(told.last().is_some_and(|last| last == "malformed"));
            read += told.len();
        }
        assert!(read > 100_000 && malformed > 10_000, "{read} read, {malformed} datagrams malformed");
    }

    fn mutate(datagram: &mut Vec<u8>, random: &mut Random) {
        for _ in 0..=random.below(3) {
            let at = random.below(datagram.len());
            match random.below(5) {
                0 => datagram.truncate(at),
                1 => datagram.insert(at.min(datagram.len()), random.below(256) as u8),
                2 => drop(datagram.splice(..at, [])),
                _ => datagram.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
            }
        }
    }
}
