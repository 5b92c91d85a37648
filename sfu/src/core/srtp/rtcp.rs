//! SRTCP both ways (RFC 3711 §3.4, RFC 7714 §9).
//!
//! A packet is eight bytes in clear, the encrypted rest, and the index with the bit that says "encrypted". GCM's tag stands
//! before that word, SHA-1's after it.

use super::cipher::{Cipher, GCM_TAG_BYTES, SHA1_TAG_BYTES};
use super::replay::ReplayWindow;
use super::seal::SealError;
use super::{MasterKeys, Stream, Writer};
use str0m_proto::crypto::SrtpProvider;

/// How many SSRCs one side of a session may send RTCP from. Browsers use one or two; ours are two a track.
pub const SOURCES_MAX: usize = 32;
/// The highest SRTCP index: 31 bits.
pub const RTCP_INDEX_MAX: u32 = (1 << 31) - 1;
/// Header and sender SSRC, which stay in clear.
const CLEAR_BYTES: usize = 8;
const INDEX_BYTES: usize = 4;
const ENCRYPTED: u32 = 1 << 31;

/// Seals our RTCP: one index per sender SSRC, from 0.
pub struct RtcpSealer {
    cipher: Cipher,
    /// SSRC and next index.
    sources: Vec<(u32, u32)>,
}

impl RtcpSealer {
    /// Derives our session keys. `None` for a profile that is not ours.
    pub fn new(keys: &MasterKeys, crypto: &dyn SrtpProvider) -> Option<RtcpSealer> {
        Some(RtcpSealer { cipher: Cipher::new(keys, Writer::Us, Stream::Rtcp, crypto)?, sources: Vec::new() })
    }

    /// Bytes that a packet grows by: 20 with GCM, 14 with SHA-1.
    pub fn growth_bytes(&self) -> usize {
        self.cipher.tag_bytes() + INDEX_BYTES
    }

    /// Seals in place the compound packet that begins at `start` of `buffer` and ends with it. Its first packet names the
    /// sender, whose index it uses up, even if it fails.
    pub fn seal(&mut self, buffer: &mut Vec<u8>, start: usize) -> Result<(), SealError> {
        let packet = buffer.get_mut(start..).ok_or(SealError::Short)?;
        let (clear, rest) = packet.split_at_mut_checked(CLEAR_BYTES).ok_or(SealError::Short)?;
        let ssrc = u32::from_be_bytes([clear[4], clear[5], clear[6], clear[7]]);
        let index = next_index(&mut self.sources, ssrc)?;
        let word = (ENCRYPTED | index).to_be_bytes();
        match &self.cipher {
            Cipher::Gcm(gcm) => {
                let tag = gcm.seal(ssrc, index.into(), &associated(clear, word), rest)?;
                buffer.extend_from_slice(&tag);
                buffer.extend_from_slice(&word);
            }
            Cipher::CmSha1(cm) => {
                cm.apply(ssrc, index.into(), rest)?;
                let tag = cm.tag(packet, word);
                buffer.extend_from_slice(&word);
                buffer.extend_from_slice(&tag);
            }
        }
        Ok(())
    }
}

/// Takes the next index of `ssrc`. A key must not see one twice, so the last is followed by none.
fn next_index(sources: &mut Vec<(u32, u32)>, ssrc: u32) -> Result<u32, SealError> {
    let Some((_, next)) = sources.iter_mut().find(|(known, _)| *known == ssrc) else {
        if sources.len() == SOURCES_MAX {
            return Err(SealError::TooManySources);
        }
        sources.push((ssrc, 1));
        return Ok(0);
    };
    let index = *next;
    if index > RTCP_INDEX_MAX {
        return Err(SealError::Exhausted);
    }
    *next += 1;
    Ok(index)
}

/// What GCM authenticates besides the text (RFC 7714 §9.2).
fn associated(clear: &[u8], word: [u8; INDEX_BYTES]) -> [u8; CLEAR_BYTES + INDEX_BYTES] {
    let mut associated = [0; CLEAR_BYTES + INDEX_BYTES];
    associated[..CLEAR_BYTES].copy_from_slice(clear);
    associated[CLEAR_BYTES..].copy_from_slice(&word);
    associated
}

/// Opens the client's SRTCP.
pub struct RtcpOpener {
    cipher: Cipher,
    /// Who sent something authentic so far; at most [`SOURCES_MAX`].
    sources: Vec<(u32, ReplayWindow)>,
}

/// Why a datagram is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The client did not write this.
    #[error("SRTCP that the client's keys do not authenticate: forged, or of an earlier session")]
    NotAuthentic,
    /// Its index was used before, or is over 127 older than the newest.
    #[error("SRTCP that came before: the network or somebody on it repeats datagrams")]
    Replayed,
    /// Too short, not version 2, or not encrypted, which RFC 8827 §6.5 rules out.
    #[error("not SRTCP: too short, not version 2, or not encrypted")]
    Malformed,
    /// The client sent from [`SOURCES_MAX`] SSRCs already.
    #[error("SRTCP from more than {SOURCES_MAX} SSRCs: a client needs one for each of its streams")]
    TooManySources,
}

impl RtcpOpener {
    /// Derives the client's session keys. `None` for a profile that is not ours.
    pub fn new(keys: &MasterKeys, crypto: &dyn SrtpProvider) -> Option<RtcpOpener> {
        Some(RtcpOpener {
            cipher: Cipher::new(keys, Writer::Peer, Stream::Rtcp, crypto)?,
            sources: Vec::new(),
        })
    }

    /// Decrypts a datagram into `scratch`, whose bytes it replaces, and returns the compound packet. Only an authentic
    /// packet changes what the opener knows.
    pub fn open<'a>(&mut self, packet: &[u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], OpenError> {
        let sealed = Sealed::parse(packet, &self.cipher)?;
        let source = self.sources.iter().position(|(ssrc, _)| *ssrc == sealed.ssrc);
        let mut window = source.map(|at| self.sources[at].1).unwrap_or_default();
        if !window.is_fresh(sealed.index) {
            return Err(OpenError::Replayed);
        }
        let opened = sealed.open(&self.cipher, scratch)?;
        window.mark(sealed.index);
        match source {
            Some(at) => self.sources[at].1 = window,
            None if self.sources.len() == SOURCES_MAX => return Err(OpenError::TooManySources),
            None => self.sources.push((sealed.ssrc, window)),
        }
        Ok(opened)
    }
}

/// The parts of an SRTCP packet.
struct Sealed<'a> {
    /// Everything but index and tag.
    body: &'a [u8],
    tag: &'a [u8],
    word: [u8; INDEX_BYTES],
    ssrc: u32,
    index: u32,
}

impl<'a> Sealed<'a> {
    fn parse(packet: &'a [u8], cipher: &Cipher) -> Result<Sealed<'a>, OpenError> {
        let body_bytes = packet
            .len()
            .checked_sub(cipher.tag_bytes() + INDEX_BYTES)
            .filter(|bytes| *bytes >= CLEAR_BYTES && packet[0] >> 6 == 2)
            .ok_or(OpenError::Malformed)?;
        let (body, trailer) = packet.split_at(body_bytes);
        let (tag, word) = match cipher {
            Cipher::Gcm(_) => trailer.split_at(GCM_TAG_BYTES),
            Cipher::CmSha1(_) => {
                let (word, tag) = trailer.split_at(trailer.len() - SHA1_TAG_BYTES);
                (tag, word)
            }
        };
        let word = [word[0], word[1], word[2], word[3]];
        let index = u32::from_be_bytes(word);
        if index & ENCRYPTED == 0 {
            return Err(OpenError::Malformed);
        }
        let ssrc = u32::from_be_bytes([body[4], body[5], body[6], body[7]]);
        Ok(Sealed { body, tag, word, ssrc, index: index & !ENCRYPTED })
    }

    fn open<'s>(&self, cipher: &Cipher, scratch: &'s mut Vec<u8>) -> Result<&'s [u8], OpenError> {
        scratch.clear();
        scratch.extend_from_slice(self.body);
        match cipher {
            Cipher::Gcm(gcm) => {
                scratch.extend_from_slice(self.tag);
                let associated = associated(&self.body[..CLEAR_BYTES], self.word);
                gcm.open(self.ssrc, self.index.into(), &associated, &mut scratch[CLEAR_BYTES..])
                    .map_err(|_| OpenError::NotAuthentic)?;
                scratch.truncate(self.body.len());
            }
            Cipher::CmSha1(cm) => {
                if !cm.is_tag(self.tag, self.body, self.word) {
                    return Err(OpenError::NotAuthentic);
                }
                cm.apply(self.ssrc, self.index.into(), &mut scratch[CLEAR_BYTES..])
                    .map_err(|_| OpenError::NotAuthentic)?;
            }
        }
        Ok(scratch)
    }
}
