//! STUN Binding messages (RFC 8489) as ICE uses them (RFC 8445 §7): read from strangers, written with short-term credentials.

use aws_lc_rs::{constant_time, hmac};
use crc::{CRC_32_ISO_HDLC, Crc};
use std::net::{IpAddr, SocketAddr};

/// The message header.
pub const HEADER_BYTES: usize = 20;
/// In every message since RFC 5389, behind type and length.
pub const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;

/// Of an attribute: type and length.
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// HMAC-SHA1.
const INTEGRITY_BYTES: usize = 20;
const FINGERPRINT_BYTES: usize = 4;
/// What FINGERPRINT's CRC is combined with (RFC 8489 §14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554e;
const CRC_32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// The priority of a peer-reflexive candidate of ours (RFC 8445 §5.1.2.1): type preference 110, the highest local preference,
/// component 1.
const PEER_REFLEXIVE_PRIORITY: u32 = (110 << 24) | (65_535 << 8) | 255;

/// 96 random bits that tie a response to its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionId(pub [u8; 12]);

/// What a Binding message is, and its type on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Wants an answer.
    Request = 0x0001,
    /// Wants none.
    Indication = 0x0011,
    /// The answer.
    Success = 0x0101,
    /// A refusal.
    Error = 0x0111,
}

impl Class {
    fn of(kind: u16) -> Option<Class> {
        [Class::Request, Class::Indication, Class::Success, Class::Error]
            .into_iter()
            .find(|class| *class as u16 == kind)
    }
}

/// A received Binding message. Nothing of it is true before [`Message::has_integrity`] says so.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Request or response.
    pub class: Class,
    /// Which transaction.
    pub transaction: TransactionId,
    /// Our ufrag and the client's, in a request.
    pub ufrags: Option<(&'a [u8], &'a [u8])>,
    /// The request nominates the pair that it checks (RFC 8445 §7.1.2).
    pub use_candidate: bool,
    /// The sender believes that we are in control (RFC 8445 §7.1.3).
    pub ice_controlled: bool,
    /// What MESSAGE-INTEGRITY covers, and its value.
    integrity: Option<(&'a [u8], &'a [u8])>,
}

impl<'a> Message<'a> {
    /// Reads a whole datagram. `None` for anything but a well-formed Binding message. Attributes behind MESSAGE-INTEGRITY are
    /// nobody's word and left out (RFC 8489 §14.5), as are those that are not known here.
    pub fn parse(datagram: &'a [u8]) -> Option<Message<'a>> {
        let (header, mut rest) = datagram.split_at_checked(HEADER_BYTES)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[4..8] != MAGIC_COOKIE || length != rest.len() {
            return None;
        }
        let mut message = Message {
            class: Class::of(u16::from_be_bytes([header[0], header[1]]))?,
            transaction: TransactionId(header[8..].try_into().ok()?),
            ufrags: None,
            use_candidate: false,
            ice_controlled: false,
            integrity: None,
        };
        while message.integrity.is_none() && !rest.is_empty() {
            let at = datagram.len() - rest.len();
            let (kind, value, behind) = attribute(rest)?;
            match kind {
                USERNAME if message.ufrags.is_none() => message.ufrags = Some(split_username(value)?),
                USE_CANDIDATE => message.use_candidate = true,
                ICE_CONTROLLED => message.ice_controlled = true,
                MESSAGE_INTEGRITY if value.len() != INTEGRITY_BYTES => return None,
                MESSAGE_INTEGRITY => message.integrity = Some((&datagram[..at], value)),
                _ => {}
            }
            rest = behind;
        }
        Some(message)
    }

    /// Whether the sender knew the password.
    pub fn has_integrity(&self, password: &str) -> bool {
        let Some((covered, tag)) = self.integrity else { return false };
        constant_time::verify_slices_are_equal(integrity(covered, password).as_ref(), tag).is_ok()
    }
}

/// The type and value of the first attribute, and what is behind its padding.
fn attribute(attributes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (header, rest) = attributes.split_at_checked(ATTRIBUTE_HEADER_BYTES)?;
    let bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let (padded, behind) = rest.split_at_checked(bytes.next_multiple_of(4))?;
    Some((u16::from_be_bytes([header[0], header[1]]), &padded[..bytes], behind))
}

/// The receiver's ufrag, a colon, and the sender's (RFC 8445 §7.2.2).
fn split_username(username: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = username.iter().position(|&byte| byte == b':')?;
    Some((&username[..colon], &username[colon + 1..]))
}

/// HMAC-SHA1 over all that is in front of MESSAGE-INTEGRITY, with the length that the message has up to its end.
fn integrity(covered: &[u8], password: &str) -> hmac::Tag {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let length = covered.len() - HEADER_BYTES + ATTRIBUTE_HEADER_BYTES + INTEGRITY_BYTES;
    let mut context = hmac::Context::with_key(&key);
    context.update(&covered[..2]);
    context.update(&(length as u16).to_be_bytes());
    context.update(&covered[4..]);
    context.sign()
}

/// Who says what to whom in a request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The ufrag of the receiver.
    pub to: &'a str,
    /// The ufrag of the sender.
    pub from: &'a str,
    /// The password of the receiver.
    pub password: &'a str,
    /// Settles who is in control when both believe that they are.
    pub tie_breaker: u64,
    /// The sender is in control and chooses the pair.
    pub nominates: bool,
}

impl Request<'_> {
    /// The datagram.
    pub fn write(&self, transaction: TransactionId) -> Vec<u8> {
        let mut writer = Writer::new(Class::Request, transaction);
        writer.attribute(USERNAME, format!("{}:{}", self.to, self.from).as_bytes());
        writer.attribute(PRIORITY, &PEER_REFLEXIVE_PRIORITY.to_be_bytes());
        let role = if self.nominates { ICE_CONTROLLING } else { ICE_CONTROLLED };
        writer.attribute(role, &self.tie_breaker.to_be_bytes());
        if self.nominates {
            writer.attribute(USE_CANDIDATE, &[]);
        }
        writer.finish(self.password)
    }
}

/// The answer to a good request, which tells its sender the address that it came from.
pub fn success(transaction: TransactionId, mapped: SocketAddr, password: &str) -> Vec<u8> {
    let mut writer = Writer::new(Class::Success, transaction);
    writer.xor_mapped_address(mapped);
    writer.finish(password)
}

/// The answer to a client that believes that we are in control: it takes the control itself then (RFC 8445 §7.2.5.1).
pub fn role_conflict(transaction: TransactionId, password: &str) -> Vec<u8> {
    let mut writer = Writer::new(Class::Error, transaction);
    writer.attribute(ERROR_CODE, b"\0\0\x04\x57Role Conflict"); // 487: class 4, number 87
    writer.finish(password)
}

/// A message that is being written.
struct Writer {
    bytes: Vec<u8>,
    transaction: TransactionId,
}

impl Writer {
    fn new(class: Class, transaction: TransactionId) -> Writer {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend((class as u16).to_be_bytes());
        bytes.extend([0, 0]); // the length, when it is known
        bytes.extend(MAGIC_COOKIE);
        bytes.extend(transaction.0);
        Writer { bytes, transaction }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend((value.len() as u16).to_be_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// RFC 8489 §14.2: a NAT that rewrites addresses does not know this one.
    fn xor_mapped_address(&mut self, address: SocketAddr) {
        let mut mask = MAGIC_COOKIE.to_vec();
        mask.extend(self.transaction.0);
        let (family, ip) = match address.ip().to_canonical() {
            IpAddr::V4(ip) => (1, ip.octets().to_vec()),
            IpAddr::V6(ip) => (2, ip.octets().to_vec()),
        };
        let mut value = vec![0, family];
        value.extend(address.port().to_be_bytes().iter().zip(&mask).map(|(byte, mask)| byte ^ mask));
        value.extend(ip.iter().zip(&mask).map(|(byte, mask)| byte ^ mask));
        self.attribute(XOR_MAPPED_ADDRESS, &value);
    }

    fn finish(mut self, password: &str) -> Vec<u8> {
        let tag = integrity(&self.bytes, password);
        self.attribute(MESSAGE_INTEGRITY, tag.as_ref());
        let length = self.bytes.len() - HEADER_BYTES + ATTRIBUTE_HEADER_BYTES + FINGERPRINT_BYTES;
        self.bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        let fingerprint = CRC_32.checksum(&self.bytes) ^ FINGERPRINT_XOR;
        self.attribute(FINGERPRINT, &fingerprint.to_be_bytes());
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use str0m::ice::StunMessage;

    const ID: TransactionId = TransactionId([7; 12]);
    const PASSWORD: &str = "0123456789abcdefghijkl";

    fn request(nominates: bool) -> Request<'static> {
        Request { to: "server", from: "client", password: PASSWORD, tie_breaker: 9, nominates }
    }

    fn stranger_verifies(bytes: &[u8]) -> StunMessage<'_> {
        let sha1 = str0m_aws_lc_rs::default_provider().sha1_hmac_provider;
        let message = StunMessage::parse(bytes).unwrap();
        assert!(message.verify(PASSWORD.as_bytes(), |key, parts| sha1.sha1_hmac(key, parts)));
        message
    }

    /// RFC 5769 §2.1: a request of another implementation, padded with spaces.
    const SAMPLE: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x10STUN test client\x00\x24\x00\x04\x6e\x00\x01\xff\
        \x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\x00\x06\x00\x09evtj:h6vY\x20\x20\x20\
        \x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\
        \x80\x28\x00\x04\xe5\x7a\x3b\xcf";

    #[test]
    fn the_rfcs_sample_request_is_read_and_its_integrity_verified() {
        let message = Message::parse(SAMPLE).unwrap();
        assert_eq!(message.class, Class::Request);
        assert_eq!(message.ufrags, Some((&b"evtj"[..], &b"h6vY"[..])));
        assert!(message.ice_controlled && !message.use_candidate);
        assert!(message.has_integrity("VOkJxbRl1RmTxUk/WvJxBt"));
        assert!(!message.has_integrity("VOkJxbRl1RmTxUk/WvJxBu"));
    }

    #[test]
    fn what_is_written_another_implementation_reads() {
        let bytes = request(true).write(ID);
        let read = stranger_verifies(&bytes);
        assert_eq!(read.split_username(), Some(("server", "client")));
        assert!(read.use_candidate() && read.ice_controlling() == Some(9));
        let bytes = request(false).write(ID);
        let read = stranger_verifies(&bytes);
        assert!(!read.use_candidate() && read.ice_controlled() == Some(9));
        let bytes = role_conflict(ID, PASSWORD);
        assert_eq!(stranger_verifies(&bytes).error_code(), Some((487, "Role Conflict")));
        for address in ["192.0.2.7:4711", "[2001:db8::9]:4711"] {
            let address: SocketAddr = address.parse().unwrap();
            let bytes = success(ID, address, PASSWORD);
            assert_eq!(stranger_verifies(&bytes).mapped_address(), Some(address));
            assert!(Message::parse(&bytes).unwrap().has_integrity(PASSWORD));
        }
    }

    #[test]
    fn the_longest_credentials_fit() {
        let (to, from) = ("s".repeat(24), "c".repeat(256));
        let bytes = Request { to: &to, from: &from, ..request(false) }.write(ID);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.ufrags, Some((to.as_bytes(), from.as_bytes())));
        assert!(message.has_integrity(PASSWORD));
    }

    #[test]
    fn an_attribute_that_somebody_appended_behind_the_integrity_says_nothing() {
        let mut bytes = request(false).write(ID);
        bytes.truncate(bytes.len() - ATTRIBUTE_HEADER_BYTES - FINGERPRINT_BYTES);
        bytes.extend([0x00, 0x25, 0, 0]);
        let length = (bytes.len() - HEADER_BYTES) as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        let message = Message::parse(&bytes).unwrap();
        assert!(message.has_integrity(PASSWORD), "the rest is genuine");
        assert!(!message.use_candidate);
    }

    #[test]
    fn no_cut_and_no_flipped_bit_is_taken_for_the_message() {
        let whole = request(true).write(ID);
        let behind_integrity = whole.len() - ATTRIBUTE_HEADER_BYTES - FINGERPRINT_BYTES;
        for end in 0..whole.len() {
            assert!(Message::parse(&whole[..end]).is_none(), "{end} bytes");
        }
        for bit in 0..behind_integrity * 8 {
            let mut bent = whole.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            let genuine = Message::parse(&bent).is_some_and(|message| message.has_integrity(PASSWORD));
            assert!(!genuine, "bit {bit}");
        }
    }

    #[test]
    fn no_rubbish_in_a_good_header_does_harm() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        for round in 0..20_000 {
            let mut bytes = request(true).write(ID);
            bytes.truncate(HEADER_BYTES + 4 * (round % 30));
            let length = bytes.len() - HEADER_BYTES;
            bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            let first = HEADER_BYTES + usize::from(random()) % (length + 1);
            bytes[first..].iter_mut().for_each(|byte| *byte = random() % 40);
            let genuine = Message::parse(&bytes).is_some_and(|message| message.has_integrity(PASSWORD));
            assert!(!genuine || first > length - 8, "{bytes:?}");
        }
    }
}
