//! Which session a datagram belongs to: by source address, else by the ICE ufrag. Nothing is looked up by scanning.

use crate::control::protocol::{SessionId, WorkerIndex};

/// What the first byte says (RFC 7983), RTP and RTCP told apart by RFC 5761.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatagramKind {
    /// STUN with the magic cookie.
    Stun,
    /// A DTLS record.
    Dtls,
    /// SRTP.
    Rtp,
    /// SRTCP.
    Rtcp,
}

/// Smallest STUN message and SRTP header in bytes.
const STUN_HEADER_BYTES: usize = 20;
const RTP_HEADER_BYTES: usize = 12;
const RTCP_HEADER_BYTES: usize = 8;
const DTLS_HEADER_BYTES: usize = 13;
const STUN_MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const STUN_BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const STUN_USERNAME: u16 = 0x0006;
const STUN_USE_CANDIDATE: u16 = 0x0025;

impl DatagramKind {
    /// Classifies a datagram. `None` for what no WebRTC client sends here.
    pub fn of(datagram: &[u8]) -> Option<DatagramKind> {
        match *datagram.first()? {
            0..=3 if datagram.len() >= STUN_HEADER_BYTES && datagram[4..8] == STUN_MAGIC_COOKIE => {
                Some(DatagramKind::Stun)
            }
            20..=63 if datagram.len() >= DTLS_HEADER_BYTES => Some(DatagramKind::Dtls),
            128..=191 if datagram.len() >= RTCP_HEADER_BYTES && (192..=223).contains(&datagram[1]) => {
                Some(DatagramKind::Rtcp)
            }
            128..=191 if datagram.len() >= RTP_HEADER_BYTES => Some(DatagramKind::Rtp),
            _ => None,
        }
    }
}

/// Our half of a Binding request's USERNAME, the text before the colon (RFC 8445 §7.2.2). `None` for anything but a
/// well-formed Binding request.
pub fn local_ufrag(stun: &[u8]) -> Option<&[u8]> {
    attribute(stun, STUN_USERNAME)?.split(|&b| b == b':').next()
}

/// Whether a Binding request nominates the pair that it checks (USE-CANDIDATE, RFC 8445 §7.1.2).
pub fn nominates(stun: &[u8]) -> bool {
    attribute(stun, STUN_USE_CANDIDATE).is_some()
}

/// The first attribute of this type in a Binding request.
fn attribute(stun: &[u8], wanted: u16) -> Option<&[u8]> {
    if stun.get(..2)? != STUN_BINDING_REQUEST {
        return None;
    }
    let mut rest = stun.get(STUN_HEADER_BYTES..)?;
    while let Some((header, body)) = rest.split_at_checked(4) {
        let kind = u16::from_be_bytes([header[0], header[1]]);
        let bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if kind == wanted {
            return body.get(..bytes);
        }
        rest = body.get(bytes.next_multiple_of(4)..)?;
    }
    None
}

/// Length of the ufrags that [`ufrag`] makes.
pub const UFRAG_BYTES: usize = 24;

/// The ICE ufrag that names a session: worker, slot and generation in hex, then eight random digits, so that a
/// stranger who knows the scheme still cannot name a live session.
pub fn ufrag(session: SessionId, random: u32) -> String {
    let SessionId { worker: WorkerIndex(worker), slot, generation } = session;
    // 2 + 6 + 8 + 8 digits: slots are below 2^24 and workers below 2^8 by their constants.
    format!("{worker:02x}{slot:06x}{generation:08x}{random:08x}")
}

/// The worker that a ufrag names, and that must know the session.
pub fn worker_of(ufrag: &[u8]) -> Option<WorkerIndex> {
    if ufrag.len() != UFRAG_BYTES {
        return None;
    }
    let digits = std::str::from_utf8(ufrag.get(..2)?).ok()?;
    u16::from_str_radix(digits, 16).ok().map(WorkerIndex)
}

/// The slot that a ufrag names. The caller compares the whole ufrag with that of the session in the slot.
pub fn slot_of(ufrag: &[u8]) -> Option<usize> {
    if ufrag.len() != UFRAG_BYTES {
        return None;
    }
    let digits = std::str::from_utf8(ufrag.get(2..8)?).ok()?;
    usize::from_str_radix(digits, 16).ok()
}

const _: () = assert!(crate::config::WORKERS_MAX <= 1 << 8);
const _: () = assert!(crate::config::SESSIONS_MAX <= 1 << 24);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn binding_request(username: &[u8]) -> Vec<u8> {
        let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        message.extend([7; 12]);
        message.extend([0x80, 0x22, 0, 3, b'a', b'b', b'c', 0]); // SOFTWARE, padded
        message.extend(STUN_USERNAME.to_be_bytes());
        message.extend(u16::try_from(username.len()).unwrap().to_be_bytes());
        message.extend(username);
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    #[test]
    fn a_binding_request_names_its_session() {
        let session = SessionId { worker: WorkerIndex(3), slot: 0x1234, generation: 9 };
        let ours = ufrag(session, 0xdead_beef);
        let message = binding_request(format!("{ours}:theirs").as_bytes());
        assert_eq!(DatagramKind::of(&message), Some(DatagramKind::Stun));
        let found = local_ufrag(&message).unwrap();
        assert_eq!(found, ours.as_bytes());
        assert_eq!((worker_of(found), slot_of(found)), (Some(WorkerIndex(3)), Some(0x1234)));
        assert!(!nominates(&message));
        let nominating = [&message[..], &[0, 0x25, 0, 0]].concat();
        assert!(nominates(&nominating));
    }

    #[test]
    fn truncated_and_foreign_messages_name_nothing() {
        let whole = binding_request(b"0123456789:x");
        for end in 0..whole.len() {
            let found = local_ufrag(&whole[..end]);
            assert!(found.is_none(), "{end} bytes named {found:?}");
        }
        let mut response = whole;
        response[..2].copy_from_slice(&[0x01, 0x01]);
        assert_eq!(local_ufrag(&response), None);
        assert_eq!((slot_of(b"zz"), worker_of(b"zz"), worker_of(&[b'z'; UFRAG_BYTES])), (None, None, None));
        assert_eq!(slot_of(&[0xff; UFRAG_BYTES]), None);
        assert_eq!(DatagramKind::of(&[0; 64]), None);
        assert_eq!(DatagramKind::of(&[]), None);
        assert_eq!(DatagramKind::of(&[0x80]), None);
    }
}
