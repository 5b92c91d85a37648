//! SRTCP both ways (RFC 3711 §3.4, RFC 7714 §9).
//!
//! A packet is eight bytes in clear, the encrypted rest, and the index with the bit that says "encrypted". GCM's tag stands
//! before that word, SHA-1's after it.

use super::cipher::{Cipher, GCM_TAG_BYTES, SHA1_TAG_BYTES};
use super::replay::ReplayWindow;
use super::seal::SealError;
use super::{MasterKeys, Stream, Writer};
use aws_lc_rs::error::Unspecified;
use str0m_proto::crypto::SrtpProvider;

/// How many SSRCs one side of a session may send RTCP from. Browsers use one or two; ours are two a track.
pub const SOURCES_MAX: usize = 32;
/// The highest SRTCP index: 31 bits.
pub const RTCP_INDEX_MAX: u32 = (1 << 31) - 1;
/// Header and sender SSRC, which stay in clear.
const CLEAR_BYTES: usize = 8;
const INDEX_BYTES: usize = 4;
const ENCRYPTED: u32 = 1 << 31;
const VERSION: u8 = 2;

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
        let packet = buffer.get(start..).ok_or(SealError::Short)?;
        let clear = *packet.first_chunk().ok_or(SealError::Short)?;
        let ssrc = sender(clear);
        let index = next_index(&mut self.sources, ssrc)?;
        let word = (ENCRYPTED | index).to_be_bytes();
        match &self.cipher {
            Cipher::Gcm(gcm) => {
                let rest = &mut buffer[start + CLEAR_BYTES..];
                let tag = gcm.seal(ssrc, index.into(), &associated(clear, word), rest)?;
                buffer.extend_from_slice(&tag);
                buffer.extend_from_slice(&word);
            }
            Cipher::CmSha1(cm) => {
                cm.apply(ssrc, index.into(), &mut buffer[start + CLEAR_BYTES..])?;
                let tag = cm.tag(&buffer[start..], word);
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
fn associated(clear: [u8; CLEAR_BYTES], word: [u8; INDEX_BYTES]) -> [u8; CLEAR_BYTES + INDEX_BYTES] {
    let mut associated = [0; CLEAR_BYTES + INDEX_BYTES];
    associated[..CLEAR_BYTES].copy_from_slice(&clear);
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
        let sealed = Sealed::parse(packet, &self.cipher).ok_or(OpenError::Malformed)?;
        let source = self.sources.iter().position(|(ssrc, _)| *ssrc == sealed.ssrc);
        let mut window = source.map(|at| self.sources[at].1).unwrap_or_default();
        if !window.is_fresh(sealed.index) {
            return Err(OpenError::Replayed);
        }
        let opened = sealed.open(&self.cipher, scratch).map_err(|_| OpenError::NotAuthentic)?;
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
    clear: [u8; CLEAR_BYTES],
    tag: &'a [u8],
    word: [u8; INDEX_BYTES],
    ssrc: u32,
    index: u32,
}

impl<'a> Sealed<'a> {
    fn parse(packet: &'a [u8], cipher: &Cipher) -> Option<Sealed<'a>> {
        let (body, tag, word) = match cipher {
            Cipher::Gcm(_) => {
                let (front, word) = packet.split_last_chunk::<INDEX_BYTES>()?;
                let (body, tag) = front.split_last_chunk::<GCM_TAG_BYTES>()?;
                (body, &tag[..], *word)
            }
            Cipher::CmSha1(_) => {
                let (front, tag) = packet.split_last_chunk::<SHA1_TAG_BYTES>()?;
                let (body, word) = front.split_last_chunk::<INDEX_BYTES>()?;
                (body, &tag[..], *word)
            }
        };
        let clear: [u8; CLEAR_BYTES] = *body.first_chunk()?;
        let index = u32::from_be_bytes(word);
        let is_srtcp = clear[0] >> 6 == VERSION && index & ENCRYPTED != 0;
        let ssrc = sender(clear);
        is_srtcp.then_some(Sealed { body, clear, tag, word, ssrc, index: index & !ENCRYPTED })
    }

    fn open<'s>(&self, cipher: &Cipher, scratch: &'s mut Vec<u8>) -> Result<&'s [u8], Unspecified> {
        scratch.clear();
        scratch.extend_from_slice(self.body);
        match cipher {
            Cipher::Gcm(gcm) => {
                scratch.extend_from_slice(self.tag);
                let associated = associated(self.clear, self.word);
                gcm.open(self.ssrc, self.index.into(), &associated, &mut scratch[CLEAR_BYTES..])?;
                scratch.truncate(self.body.len());
            }
            Cipher::CmSha1(cm) => {
                cm.verify(self.tag, self.body, self.word)?;
                cm.apply(self.ssrc, self.index.into(), &mut scratch[CLEAR_BYTES..])?;
            }
        }
        Ok(scratch)
    }
}

fn sender(clear: [u8; CLEAR_BYTES]) -> u32 {
    u32::from_be_bytes([clear[4], clear[5], clear[6], clear[7]])
}

#[cfg(test)]
mod tests {
    use super::super::cipher::Gcm;
    use super::super::tests::{PROFILES, ends, hex, mirrored_keys, provider};
    use super::*;
    use str0m::crypto::dtls::SrtpProfile;

    /// A receiver report without blocks from SSRC 1.
    const REPORT: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 1];

    fn sealer(profile: SrtpProfile) -> RtcpSealer {
        RtcpSealer::new(&ends(profile)[1], provider()).expect("keys")
    }

    fn opener(profile: SrtpProfile) -> RtcpOpener {
        RtcpOpener::new(&ends(profile)[0], provider()).expect("keys")
    }

    /// What `sealer` makes of a report from `ssrc` with some text behind it.
    fn sealed(sealer: &mut RtcpSealer, ssrc: u32) -> Vec<u8> {
        let mut buffer = REPORT.to_vec();
        buffer[4..8].copy_from_slice(&ssrc.to_be_bytes());
        buffer.extend(b"text");
        sealer.seal(&mut buffer, 0).expect("sealed");
        buffer
    }

    /// RFC 7714 §17: one compound packet, both key sizes.
    fn seal_mars(key: &[u8]) -> Vec<u8> {
        let salt = hex("517569642070726f2071756f").try_into().expect("12 bytes");
        let cipher = Cipher::Gcm(Gcm::new(key, salt).expect("a key"));
        let mut sealer = RtcpSealer { cipher, sources: vec![(0x4d61_7273, 0x5d4)] };
        let mut buffer = hex("81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61");
        buffer.extend(hex(&"deadbeef".repeat(5)));
        sealer.seal(&mut buffer, 0).expect("sealed");
        buffer
    }

    #[test]
    fn aes_128_gcm_seals_as_in_rfc_7714_section_17_1() {
        let key: Vec<u8> = (0..16).collect();
        let sealed = "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b\
                      4686303ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4";
        assert_eq!(seal_mars(&key), hex(sealed));
    }

    #[test]
    fn aes_256_gcm_seals_as_in_rfc_7714_section_17_3() {
        let key: Vec<u8> = (0..32).collect();
        let sealed = "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be8415f6\
                      58c61de0476f1b6fad1d1eb30c4446839f57ff6f6cb26ac3be800005d4";
        assert_eq!(seal_mars(&key), hex(sealed));
    }

    /// The packet that libsrtp checks itself with; its first index is 1.
    #[test]
    fn cm_sha1_seals_the_packet_that_libsrtp_knows() {
        let material = hex("e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6");
        let keys = mirrored_keys(SrtpProfile::AES128_CM_SHA1_80, &material);
        let mut sealer = RtcpSealer::new(&keys, provider()).expect("keys");
        sealer.sources.push((0xcafe_babe, 1));
        let mut buffer = hex("81c8000bcafebabe");
        buffer.extend([0xab; 16]);
        sealer.seal(&mut buffer, 0).expect("sealed");
        let sealed = "81c8000bcafebabe7128035be487b9bdbef89041f977a5a880000001993e08cd54d6c1230798";
        assert_eq!(buffer, hex(sealed));
    }

    #[test]
    fn what_one_end_seals_the_other_opens() {
        for profile in PROFILES {
            let (mut sealer, mut opener) = (sealer(profile), opener(profile));
            for text in [&b""[..], b"t", b"some feedback"] {
                let plain = [&REPORT[..], text].concat();
                let mut buffer = [&b"in front"[..], &plain].concat();
                sealer.seal(&mut buffer, 8).expect("sealed");
                assert_eq!(buffer.len(), 8 + plain.len() + sealer.growth_bytes());
                assert_eq!(buffer[..8], *b"in front");
                assert_eq!(opener.open(&buffer[8..], &mut vec![9; 99]), Ok(&plain[..]), "{profile:?}");
            }
        }
    }

    #[test]
    fn every_sender_counts_from_0() {
        let mut sealer = sealer(SrtpProfile::AEAD_AES_256_GCM);
        let mut index = |ssrc| sealed(&mut sealer, ssrc).split_off(28);
        assert_eq!(index(7), [0x80, 0, 0, 0]);
        assert_eq!(index(7), [0x80, 0, 0, 1]);
        assert_eq!(index(8), [0x80, 0, 0, 0]);
        assert_eq!(index(7), [0x80, 0, 0, 2]);
    }

    #[test]
    fn the_last_index_is_followed_by_none() {
        for profile in PROFILES {
            let mut sealer = sealer(profile);
            sealer.sources.push((1, RTCP_INDEX_MAX));
            let mut buffer = REPORT.to_vec();
            assert_eq!(sealer.seal(&mut buffer, 0), Ok(()));
            assert_eq!(opener(profile).open(&buffer, &mut vec![]), Ok(&REPORT[..]));
            for _ in 0..3 {
                let mut buffer = REPORT.to_vec();
                assert_eq!(sealer.seal(&mut buffer, 0), Err(SealError::Exhausted));
                assert_eq!(buffer, REPORT, "a refused packet is as it was");
            }
        }
    }

    #[test]
    fn of_500_copies_of_a_datagram_one_is_heard() {
        for profile in PROFILES {
            let (mut opener, mut scratch) = (opener(profile), vec![]);
            let datagram = sealed(&mut sealer(profile), 1);
            let results: Vec<_> =
                (0..500).map(|_| opener.open(&datagram, &mut scratch).map(<[u8]>::len)).collect();
            assert_eq!(results[0], Ok(12));
            assert!(results[1..].iter().all(|result| *result == Err(OpenError::Replayed)), "{profile:?}");
        }
    }

    #[test]
    fn reordered_reports_are_heard_and_very_late_ones_are_not() {
        let profile = SrtpProfile::AEAD_AES_128_GCM;
        let (mut sealer, mut opener, mut scratch) = (sealer(profile), opener(profile), vec![]);
        let datagrams: Vec<_> = (0..200).map(|_| sealed(&mut sealer, 1)).collect();
        assert!(opener.open(&datagrams[199], &mut scratch).is_ok());
        assert!(opener.open(&datagrams[72], &mut scratch).is_ok());
        assert_eq!(opener.open(&datagrams[71], &mut scratch), Err(OpenError::Replayed));
    }

    #[test]
    fn a_forged_bit_anywhere_is_heard_as_a_forgery_and_changes_nothing() {
        for profile in PROFILES {
            let (mut opener, mut scratch) = (opener(profile), vec![]);
            let datagram = sealed(&mut sealer(profile), 1);
            for bit in 0..datagram.len() * 8 {
                let mut forged = datagram.clone();
                forged[bit / 8] ^= 0x80 >> (bit % 8);
                let error = opener.open(&forged, &mut scratch).map(<[u8]>::len);
                assert!(
                    matches!(error, Err(OpenError::NotAuthentic | OpenError::Malformed)),
                    "{profile:?} {bit}"
                );
            }
            assert!(opener.sources.is_empty());
            assert!(opener.open(&datagram, &mut scratch).is_ok(), "the window never moved");
        }
    }

    #[test]
    fn what_is_not_srtcp_is_malformed() {
        for profile in PROFILES {
            let (mut opener, mut scratch) = (opener(profile), vec![]);
            let datagram = sealed(&mut sealer(profile), 1);
            let shortest = CLEAR_BYTES + opener.cipher.tag_bytes() + INDEX_BYTES;
            for bytes in 0..shortest {
                assert_eq!(opener.open(&vec![0x80; bytes], &mut scratch), Err(OpenError::Malformed));
            }
            let forged = vec![0x80; shortest];
            assert_eq!(opener.open(&forged, &mut scratch), Err(OpenError::NotAuthentic));
            let version_1 = [&[0x40][..], &forged[1..]].concat();
            assert_eq!(opener.open(&version_1, &mut scratch), Err(OpenError::Malformed));
            let in_clear = [&[0x80][..], &vec![0; shortest - 1]].concat();
            assert_eq!(opener.open(&in_clear, &mut scratch), Err(OpenError::Malformed));
            assert!(opener.open(&datagram, &mut scratch).is_ok());
        }
    }

    #[test]
    fn a_client_may_send_from_so_many_ssrcs_and_no_more() {
        let profile = SrtpProfile::AES128_CM_SHA1_80;
        let (mut opener, mut scratch) = (opener(profile), vec![]);
        for ssrc in 0..SOURCES_MAX as u32 {
            // A sealer each, because a sealer has the same bound.
            assert!(opener.open(&sealed(&mut sealer(profile), ssrc), &mut scratch).is_ok());
        }
        let one_more = sealed(&mut sealer(profile), 99);
        assert_eq!(opener.open(&one_more, &mut scratch), Err(OpenError::TooManySources));
        let mut known = sealer(profile);
        sealed(&mut known, 5);
        assert!(opener.open(&sealed(&mut known, 5), &mut scratch).is_ok(), "the old ones go on");
    }

    #[test]
    fn we_send_from_so_many_ssrcs_and_no_more() {
        let mut sealer = sealer(SrtpProfile::AEAD_AES_256_GCM);
        for ssrc in 0..SOURCES_MAX as u32 {
            sealed(&mut sealer, ssrc);
        }
        let mut buffer = [0x80, 201, 0, 1, 0, 0, 1, 0].to_vec();
        assert_eq!(sealer.seal(&mut buffer, 0), Err(SealError::TooManySources));
        assert_eq!(sealer.seal(&mut buffer, 1), Err(SealError::Short));
    }
}
