//! RTP sealed in place for one session (RFC 3711 §3.3, RFC 7714 §8). The hottest code of the server: once a packet and viewer.

use super::cipher::Cipher;
use super::rtcp::SOURCES_MAX;
use super::{MasterKeys, Stream, Writer};
use aws_lc_rs::error::Unspecified;
use str0m_proto::crypto::SrtpProvider;

/// The highest packet index: a roll-over counter of 32 bits and a sequence number of 16.
pub const RTP_INDEX_MAX: u64 = (1 << 48) - 1;

/// Seals the RTP of one session towards its client.
///
/// 40 bytes; GCM reads one more place, the key schedule, which the crypto library keeps on the heap.
pub struct RtpSealer {
    cipher: Cipher,
}

/// Why a packet was not sealed. Its bytes may be encrypted in part: it must not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The buffer ends before the header does.
    #[error(
        "the buffer ends before the packet's header: pass where the packet begins and the length of its header"
    )]
    Short,
    /// The key has no index left for this SSRC (RFC 3711 §9.2).
    #[error("every packet index of this SSRC was used: end the session, a new one has new keys")]
    Exhausted,
    /// As many SSRCs as a session may have send RTCP already.
    #[error("RTCP was sent from {SOURCES_MAX} SSRCs already: report on fewer streams in one session")]
    TooManySources,
    /// The crypto library refused.
    #[error("the crypto library refused to encrypt: end the session, its keys cannot be used")]
    Refused,
}

impl From<Unspecified> for SealError {
    fn from(_: Unspecified) -> Self {
        SealError::Refused
    }
}

impl RtpSealer {
    /// Derives our session keys. `None` for a profile that is not ours.
    ///
    /// DTLS exports keys before the client's fingerprint is compared: send nothing before the session is connected.
    pub fn new(keys: &MasterKeys, crypto: &dyn SrtpProvider) -> Option<RtpSealer> {
        Some(RtpSealer { cipher: Cipher::new(keys, Writer::Us, Stream::Rtp, crypto)? })
    }

    /// Bytes that a packet grows by: 16 with GCM, 10 with SHA-1.
    #[inline]
    pub fn tag_bytes(&self) -> usize {
        self.cipher.tag_bytes()
    }

    /// Seals the packet that begins at `start` of `buffer` and ends with it: its first `header` bytes are authenticated, the
    /// rest is encrypted in place, the tag is appended. Allocates only if the buffer has no room for the tag.
    ///
    /// `index` is the roll-over counter and the sequence number, at most [`RTP_INDEX_MAX`]. An SSRC may use it once, or
    /// again for the same bytes.
    #[inline]
    pub fn seal(
        &self,
        buffer: &mut Vec<u8>,
        start: usize,
        header: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<(), SealError> {
        if index > RTP_INDEX_MAX {
            return Err(SealError::Exhausted);
        }
        if buffer.len().checked_sub(start).is_none_or(|packet| packet < header) {
            return Err(SealError::Short);
        }
        match &self.cipher {
            Cipher::Gcm(gcm) => {
                let (header, payload) = buffer[start..].split_at_mut(header);
                let tag = gcm.seal(ssrc, index, header, payload)?;
                buffer.extend_from_slice(&tag);
            }
            Cipher::CmSha1(cm) => {
                cm.apply(ssrc, index, &mut buffer[start + header..])?;
                let roll_over = ((index >> 16) as u32).to_be_bytes();
                let tag = cm.tag(&buffer[start..], roll_over);
                buffer.extend_from_slice(&tag);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::cipher::{CmSha1, Gcm};
    use super::super::tests::{PROFILES, ends, hex, mirrored_keys, provider};
    use super::*;
    use str0m::crypto::dtls::SrtpProfile;

    fn gcm(key: &[u8]) -> RtpSealer {
        let salt = hex("517569642070726f2071756f").try_into().expect("12 bytes");
        RtpSealer { cipher: Cipher::Gcm(Gcm::new(key, salt).expect("a key")) }
    }

    /// RFC 7714 §16: one header, one text, both key sizes.
    fn seal_gallia(key: &[u8]) -> Vec<u8> {
        let mut buffer = hex("8040f17b8041f8d35501a0b2");
        buffer.extend(b"Gallia est omnis divisa in partes tres");
        gcm(key).seal(&mut buffer, 0, 12, 0x5501_a0b2, 0xf17b).expect("sealed");
        buffer.split_off(12)
    }

    #[test]
    fn aes_128_gcm_seals_as_in_rfc_7714_section_16_1() {
        let key: Vec<u8> = (0..16).collect();
        let sealed = "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833\
                      899d7f27beb16a9152cf765ee4390cce";
        assert_eq!(seal_gallia(&key), hex(sealed));
    }

    #[test]
    fn aes_256_gcm_seals_as_in_rfc_7714_section_16_2() {
        let key: Vec<u8> = (0..32).collect();
        let sealed = "32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b\
                      7aa3db36dfffd6b0f9bb7878d7a76c13";
        assert_eq!(seal_gallia(&key), hex(sealed));
    }

    #[test]
    fn the_cm_key_stream_is_that_of_rfc_3711_appendix_b_2() {
        let salt = hex("f0f1f2f3f4f5f6f7f8f9fafbfcfd").try_into().expect("14 bytes");
        let cm = CmSha1::new(&hex("2b7e151628aed2a6abf7158809cf4f3c"), salt, &[0; 20]).expect("a key");
        let mut zeros = vec![0; 0xff02 * 16];
        cm.apply(0, 0, &mut zeros).expect("sealed");
        let first = "e03ead0935c95e80e166b16dd92b4eb4d23513162b02d0f72a43a2fe4a5f97ab41e95b3bb0a2e8dd477901e4fca894c0";
        assert_eq!(zeros[..48], hex(first));
        let last = "ec8cdf7398607cb0f2d21675ea9ea1e4362b7c3c6773516318a077d7fc5073ae6a2cc3787889374fbeb4c81b17ba6c44";
        assert_eq!(zeros[0xfeff * 16..], hex(last));
    }

    /// The packet that libsrtp checks itself with: master key, key derivation, encryption and tag in one.
    fn seal_libsrtp_packet(profile: SrtpProfile, half: &str) -> Vec<u8> {
        let mut buffer = hex("ffff800f1234decafbadcafebabe");
        buffer.extend([0xab; 16]);
        let sealer = RtpSealer::new(&mirrored_keys(profile, &hex(half)), provider()).expect("keys");
        sealer.seal(&mut buffer, 2, 12, 0xcafe_babe, 0x1234).expect("sealed");
        assert_eq!(buffer[..14], hex("ffff800f1234decafbadcafebabe"), "what stands before the text stays");
        buffer.split_off(14)
    }

    #[test]
    fn cm_sha1_seals_the_packet_that_libsrtp_knows() {
        let half = "e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6";
        let sealed = seal_libsrtp_packet(SrtpProfile::AES128_CM_SHA1_80, half);
        assert_eq!(sealed, hex("4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb"));
    }

    #[test]
    fn aes_128_gcm_seals_the_packet_that_libsrtp_knows() {
        let half = "000102030405060708090a0b0c0d0e0fa0a1a2a3a4a5a6a7a8a9aaab";
        let sealed = seal_libsrtp_packet(SrtpProfile::AEAD_AES_128_GCM, half);
        assert_eq!(sealed, hex("c5002ede04cfdd2eb91159e0880aa06ed2976826f796b201df3131a127e8a392"));
    }

    #[test]
    fn the_roll_over_counter_changes_every_byte_behind_the_header() {
        for profile in PROFILES {
            let sealer = RtpSealer::new(&ends(profile)[0], provider()).expect("keys");
            let sealed = |index: u64| {
                let mut packet = vec![0x80; 50];
                sealer.seal(&mut packet, 0, 12, 1, index).expect("sealed");
                packet.split_off(12)
            };
            let (before, after) = (sealed(0x1234), sealed(0x1_1234));
            let same = before.iter().zip(&after).filter(|(before, after)| before == after).count();
            assert!(same < 8, "{profile:?}: {same} of {} bytes are the same", before.len());
            assert_eq!(before, sealed(0x1234), "the same packet is sealed to the same bytes");
        }
    }

    #[test]
    fn a_packet_grows_by_its_tag_where_it_stands() {
        for profile in PROFILES {
            let sealer = RtpSealer::new(&ends(profile)[0], provider()).expect("keys");
            let mut buffer = Vec::with_capacity(100 + sealer.tag_bytes());
            buffer.resize(100, 0x80);
            let (place, room) = (buffer.as_ptr(), buffer.capacity());
            sealer.seal(&mut buffer, 0, 12, 1, 1).expect("sealed");
            assert_eq!((buffer.as_ptr(), buffer.capacity()), (place, room));
            assert_eq!(buffer.len(), 100 + sealer.tag_bytes());
        }
    }

    #[test]
    fn what_is_not_a_packet_is_refused() {
        let sealer = gcm(&[1; 16]);
        let mut buffer = vec![0x80; 20];
        assert_eq!(sealer.seal(&mut buffer, 21, 0, 1, 1), Err(SealError::Short));
        assert_eq!(sealer.seal(&mut buffer, 10, 12, 1, 1), Err(SealError::Short));
        assert_eq!(sealer.seal(&mut buffer, 0, 12, 1, RTP_INDEX_MAX + 1), Err(SealError::Exhausted));
        assert_eq!(buffer, [0x80; 20], "a refused packet is as it was");
        assert_eq!(sealer.seal(&mut buffer, 0, 12, 1, RTP_INDEX_MAX), Ok(()));
    }

    #[test]
    fn a_sealer_fits_a_cache_line() {
        assert_eq!(size_of::<RtpSealer>(), 40);
    }
}
