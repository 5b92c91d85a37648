//! What a datagram is, and the names in STUN that lead to a session: the ICE ufrag in a request, the transaction in a response. Nothing is looked up by scanning.

use super::stun::{self, TransactionId};
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

/// Smallest headers.
const RTP_HEADER_BYTES: usize = 12;
const RTCP_HEADER_BYTES: usize = 8;
const DTLS_HEADER_BYTES: usize = 13;

impl DatagramKind {
    /// Classifies a datagram. `None` for what no WebRTC client sends here.
    pub fn of(datagram: &[u8]) -> Option<DatagramKind> {
        match *datagram.first()? {
            0..=3 if datagram.len() >= stun::HEADER_BYTES && datagram[4..8] == stun::MAGIC_COOKIE => {
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

/// Length of the ufrags that [`ufrag`] makes.
pub const UFRAG_BYTES: usize = 24;

/// The ICE ufrag that names a session: worker, slot and generation in hex, then eight random digits, so that a
/// stranger who knows the scheme still cannot name a live session.
pub fn ufrag(session: SessionId, random: u32) -> String {
    let SessionId { worker: WorkerIndex(worker), slot, generation } = session;
    // 2 + 6 + 8 + 8 digits: slots are below 2^24 and workers below 2^8 by their constants.
    format!("{worker:02x}{slot:06x}{generation:08x}{random:08x}")
}

/// A transaction of ours names its worker in the first byte, so that the response finds it behind a shared port. The other 88 bits
/// are random: a response is known by its integrity, and they need only be hard to guess (RFC 8489 §6 wants 96).
pub fn transaction(worker: WorkerIndex, random: [u8; 12]) -> TransactionId {
    let mut bytes = random;
    bytes[0] = worker.0 as u8;
    TransactionId(bytes)
}

/// The worker that sent the request which this response is to.
pub fn worker_of_transaction(TransactionId(bytes): TransactionId) -> WorkerIndex {
    WorkerIndex(bytes[0].into())
}

/// Stands for the slot in ufrags that signaling chose before there was a session. No session has it.
pub const CHOSEN_SLOT: usize = 0xff_ffff;

/// A ufrag for an offer of ours, whose session is made when the answer comes: it names the worker, and is looked up there.
pub fn chosen_ufrag(worker: WorkerIndex, random: u64) -> String {
    format!("{:02x}{CHOSEN_SLOT:06x}{random:016x}", worker.0)
}

/// The worker that a ufrag names, and that must know the session.
pub fn worker_of(ufrag: &[u8]) -> Option<WorkerIndex> {
    if ufrag.len() != UFRAG_BYTES {
        return None;
    }
    let digits = std::str::from_utf8(ufrag.get(..2)?).ok()?;
    u16::from_str_radix(digits, 16).ok().map(WorkerIndex)
}

/// The slot that a ufrag names, or [`CHOSEN_SLOT`]. The caller compares the whole ufrag with that of the session in the slot.
pub fn slot_of(ufrag: &[u8]) -> Option<usize> {
    if ufrag.len() != UFRAG_BYTES {
        return None;
    }
    let digits = std::str::from_utf8(ufrag.get(2..8)?).ok()?;
    usize::from_str_radix(digits, 16).ok()
}

const _: () = assert!(crate::config::WORKERS_MAX <= 1 << 8);
const _: () = assert!(crate::config::SESSIONS_MAX <= CHOSEN_SLOT);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ufrag_names_its_slot() {
        let session = SessionId { worker: WorkerIndex(3), slot: 0x1234, generation: 9 };
        let ufrag = ufrag(session, 0xdead_beef);
        assert_eq!(slot_of(ufrag.as_bytes()), Some(0x1234));
        assert_eq!(worker_of(ufrag.as_bytes()), Some(WorkerIndex(3)));
        assert_eq!((worker_of(b"zz"), worker_of(&[b'z'; UFRAG_BYTES])), (None, None));
        assert_eq!(slot_of(b"zz"), None);
        assert_eq!(slot_of(&[0xff; UFRAG_BYTES]), None);
    }

    #[test]
    fn a_chosen_ufrag_names_its_worker_and_no_slot_that_a_session_can_have() {
        let ufrag = chosen_ufrag(WorkerIndex(0xa1), 7);
        assert_eq!(
            (worker_of(ufrag.as_bytes()), slot_of(ufrag.as_bytes())),
            (Some(WorkerIndex(0xa1)), Some(CHOSEN_SLOT))
        );
        assert_eq!(worker_of("é123456789012345678901".as_bytes()), None);

        assert_eq!(worker_of(b""), None);
    }

    #[test]
    fn only_what_a_client_may_send_here_has_a_kind() {
        let stun = [&[0, 1, 0, 0][..], &stun::MAGIC_COOKIE, &[7; 12]].concat();
        assert_eq!(DatagramKind::of(&stun), Some(DatagramKind::Stun));
        assert_eq!(DatagramKind::of(&stun[..19]), None);
        assert_eq!(DatagramKind::of(&[0; 64]), None);
        assert_eq!(DatagramKind::of(&[]), None);
        assert_eq!(DatagramKind::of(&[0x80]), None);
    }
}
