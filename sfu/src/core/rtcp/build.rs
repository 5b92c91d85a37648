//! Writes our RTCP. A compound packet is one after the other, a report first (RFC 3550 §6.1).

use super::items::SenderInfo;
use super::{VERSION, packet_type};
use crate::core::plan::Ssrc;

/// How many SSRCs one BYE holds: its count has five bits.
const BYE_SOURCES_MAX: usize = 31;
/// SDES item type, RFC 3550 §6.5.1.
const CNAME: u8 = 1;
const CNAME_BYTES_MAX: usize = 255;

/// The name that a participant's streams have in common, RFC 7022.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cname(Box<str>);

/// A text that is no [`Cname`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CnameError {
    /// Over 255 bytes.
    #[error("a CNAME of {0} bytes: its length has one byte, so use 255 bytes at most")]
    TooLong(usize),
}

impl Cname {
    /// Takes a text of at most 255 bytes.
    pub fn new(text: &str) -> Result<Cname, CnameError> {
        match text.len() {
            0..=CNAME_BYTES_MAX => Ok(Cname(text.into())),
            bytes => Err(CnameError::TooLong(bytes)),
        }
    }
}

/// Appends an SR without report blocks, RFC 3550 §6.4.1.
pub fn sender_report(out: &mut Vec<u8>, sender: Ssrc, info: &SenderInfo) {
    header(out, 0, packet_type::SENDER_REPORT, 6);
    out.extend(sender.0.to_be_bytes());
    out.extend(info.ntp.to_be_bytes());
    for word in [info.rtp_timestamp, info.packets, info.octets] {
        out.extend(word.to_be_bytes());
    }
}

/// Appends an SDES with the CNAME of one stream, RFC 3550 §6.5.
pub fn source_description(out: &mut Vec<u8>, source: Ssrc, cname: &Cname) {
    // A null ends the items and more of them fill the word.
    let item_bytes = (2 + cname.0.len() + 1).next_multiple_of(4);
    header(out, 1, packet_type::SOURCE_DESCRIPTION, 1 + item_bytes / 4);
    out.extend(source.0.to_be_bytes());
    let end = out.len() + item_bytes;
    out.extend([CNAME, cname.0.len() as u8]);
    out.extend_from_slice(cname.0.as_bytes());
    out.resize(end, 0);
}

/// Appends a BYE for every 31 streams, none for none. RFC 3550 §6.6.
pub fn bye(out: &mut Vec<u8>, sources: &[Ssrc]) {
    for sources in sources.chunks(BYE_SOURCES_MAX) {
        header(out, sources.len() as u8, packet_type::BYE, sources.len());
        for source in sources {
            out.extend(source.0.to_be_bytes());
        }
    }
}

/// `words` is the length of what follows in words of four bytes.
fn header(out: &mut Vec<u8>, count: u8, packet_type: u8, words: usize) {
    out.extend([VERSION << 6 | count, packet_type]);
    out.extend((words as u16).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::{Compound, Feedback};
    use super::*;

    fn cname(text: &str) -> Cname {
        Cname::new(text).expect("short enough")
    }

    #[test]
    fn a_sender_report_is_28_bytes() {
        let mut out = vec![];
        let info = SenderInfo { ntp: 0x0102_0304_0506_0708, rtp_timestamp: 9, packets: 10, octets: 11 };
        sender_report(&mut out, Ssrc(0xaabb_ccdd), &info);
        let expected = [
            [0x80, 200, 0, 6],
            [0xaa, 0xbb, 0xcc, 0xdd],
            [1, 2, 3, 4],
            [5, 6, 7, 8],
            [0, 0, 0, 9],
            [0, 0, 0, 10],
            [0, 0, 0, 11],
        ];
        assert_eq!(out, expected.concat());
    }

    #[test]
    fn a_cname_ends_with_one_to_four_nulls() {
        let sdes = |text| {
            let mut out = vec![];
            source_description(&mut out, Ssrc(1), &cname(text));
            out
        };
        assert_eq!(sdes("x"), [0x81, 202, 0, 2, 0, 0, 0, 1, 1, 1, b'x', 0]);
        assert_eq!(sdes("xy"), [0x81, 202, 0, 3, 0, 0, 0, 1, 1, 2, b'x', b'y', 0, 0, 0, 0]);
        assert_eq!(sdes(""), [0x81, 202, 0, 2, 0, 0, 0, 1, 1, 0, 0, 0]);
        assert_eq!(sdes("abcde").len(), 16);
        assert_eq!(sdes(&"n".repeat(255)).len(), 8 + 260);
    }

    #[test]
    fn a_cname_has_255_bytes_at_most() {
        assert!(Cname::new(&"n".repeat(255)).is_ok());
        assert_eq!(Cname::new(&"n".repeat(256)), Err(CnameError::TooLong(256)));
        assert_eq!(Cname::new(&"ü".repeat(128)), Err(CnameError::TooLong(256)));
    }

    #[test]
    fn a_bye_holds_31_streams_and_the_next_one_the_rest() {
        let sources: Vec<Ssrc> = (0..40).map(Ssrc).collect();
        let mut out = vec![];
        bye(&mut out, &sources);
        assert_eq!(out[..8], [0x80 | 31, 203, 0, 31, 0, 0, 0, 0]);
        let read: Vec<Ssrc> = Compound::new(&out)
            .flat_map(|feedback| match feedback {
                Feedback::Bye { sources } => sources.collect(),
                _ => vec![],
            })
            .collect();
        assert_eq!(read, sources);
        out.clear();
        bye(&mut out, &[]);
        assert!(out.is_empty());
    }

    #[test]
    fn packets_make_a_compound_by_standing_in_a_row() {
        let info = SenderInfo { ntp: u64::MAX, rtp_timestamp: u32::MAX, packets: 1, octets: 2 };
        let mut out = b"something else".to_vec();
        let start = out.len();
        sender_report(&mut out, Ssrc(5), &info);
        source_description(&mut out, Ssrc(5), &cname("a name"));
        bye(&mut out, &[Ssrc(5)]);
        let mut compound = Compound::new(&out[start..]);
        let report = compound.next();
        assert!(
            matches!(report, Some(Feedback::Report { sender: Ssrc(5), sender_info: Some(read), .. }) if read == info)
        );
        assert!(matches!(compound.next(), Some(Feedback::SourceDescription)));
        assert!(matches!(compound.next(), Some(Feedback::Bye { .. })));
        assert!(compound.next().is_none() && !compound.is_malformed());
    }
}
