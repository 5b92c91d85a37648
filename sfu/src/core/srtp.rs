//! Authenticates SRTP packets with a session's own keys, before str0m may see them.
//!
//! str0m ties an SSRC to a track when it first sees it, and checks the packet afterwards: one forged packet could take a
//! publisher's track away. So the first packet of every SSRC is checked here (RFC 3711, RFC 7714).

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{constant_time, hmac};
use std::cell::RefCell;
use str0m::crypto::dtls::SrtpProfile;
use str0m_proto::crypto::SrtpProvider;

/// The master keys of one session as DTLS exported them (RFC 5764 §4.2).
pub struct MasterKeys {
    material: Vec<u8>,
    profile: SrtpProfile,
    /// We are the DTLS client, so the peer writes with the server's half.
    we_are_client: bool,
}

thread_local! {
    /// The keys that passed through DTLS on this thread and were not yet taken. Whatever is done to a session, it is settled
    /// before another is touched, and settling takes what is here: so it belongs to the session at hand.
    static EXPORTED: RefCell<Option<MasterKeys>> = const { RefCell::new(None) };
}

impl MasterKeys {
    /// Leaves the keys for [`MasterKeys::take`] on the same thread.
    pub fn leave(material: &[u8], profile: SrtpProfile, we_are_client: bool) {
        let keys = MasterKeys { material: material.to_vec(), profile, we_are_client };
        EXPORTED.with_borrow_mut(|exported| *exported = Some(keys));
    }

    /// The keys that were left last, once.
    pub fn take() -> Option<MasterKeys> {
        EXPORTED.take()
    }

    /// The peer's master key and salt.
    fn of_peer(&self) -> Option<(&[u8], &[u8])> {
        let (key, salt) = match self.profile {
            SrtpProfile::AES128_CM_SHA1_80 => (16, 14),
            SrtpProfile::AEAD_AES_128_GCM => (16, 12),
            SrtpProfile::AEAD_AES_256_GCM => (32, 12),
            _ => return None,
        };
        let side = usize::from(self.we_are_client);
        let key_at = side * key;
        let salt_at = 2 * key + side * salt;
        Some((self.material.get(key_at..key_at + key)?, self.material.get(salt_at..salt_at + salt)?))
    }
}

/// Checks RTP that a peer sent.
pub enum PeerRtp {
    /// RFC 7714.
    Gcm {
        /// Session encryption key.
        key: LessSafeKey,
        /// Session salt.
        salt: [u8; 12],
    },
    /// RFC 3711 with an 80-bit tag.
    Sha1 {
        /// Session authentication key.
        key: hmac::Key,
    },
}

/// Labels of RFC 3711 §4.3.2.
const LABEL_RTP_ENCRYPTION: u8 = 0;
const LABEL_RTP_AUTHENTICATION: u8 = 1;
const LABEL_RTP_SALT: u8 = 2;
const SHA1_TAG_BYTES: usize = 10;
const GCM_TAG_BYTES: usize = 16;

impl PeerRtp {
    /// Derives the peer's session keys. `None` for a profile that is not ours.
    pub fn new(master: &MasterKeys, crypto: &dyn SrtpProvider) -> Option<PeerRtp> {
        let (key, salt) = master.of_peer()?;
        let derive = |label, out: &mut [u8]| derive(crypto, key, salt, label, out);
        if master.profile == SrtpProfile::AES128_CM_SHA1_80 {
            let mut bytes = [0; 20];
            derive(LABEL_RTP_AUTHENTICATION, &mut bytes);
            return Some(PeerRtp::Sha1 { key: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &bytes) });
        }
        let mut bytes = [0; 32];
        let bytes = &mut bytes[..key.len()];
        derive(LABEL_RTP_ENCRYPTION, bytes);
        let mut salt = [0; 12];
        derive(LABEL_RTP_SALT, &mut salt);
        let algorithm = if bytes.len() == 32 { &AES_256_GCM } else { &AES_128_GCM };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, bytes).ok()?);
        Some(PeerRtp::Gcm { key, salt })
    }

    /// Whether this is the authentic packet of an SSRC whose roll-over counter is still 0.
    pub fn authenticates(&self, packet: &[u8]) -> bool {
        let Some(header) = header_bytes(packet) else { return false };
        match self {
            PeerRtp::Gcm { key, salt } => {
                let mut sealed = packet[header..].to_vec();
                let nonce = Nonce::assume_unique_for_key(gcm_nonce(*salt, packet));
                sealed.len() >= GCM_TAG_BYTES
                    && key.open_in_place(nonce, Aad::from(&packet[..header]), &mut sealed).is_ok()
            }
            PeerRtp::Sha1 { key } => {
                let Some(tag_at) = packet.len().checked_sub(SHA1_TAG_BYTES).filter(|at| *at >= header) else {
                    return false;
                };
                let mut context = hmac::Context::with_key(key);
                context.update(&packet[..tag_at]);
                context.update(&[0; 4]); // roll-over counter
                let tag = context.sign();
                constant_time::verify_slices_are_equal(&tag.as_ref()[..SHA1_TAG_BYTES], &packet[tag_at..])
                    .is_ok()
            }
        }
    }
}

/// RFC 7714 §8.1 with a roll-over counter of 0.
fn gcm_nonce(salt: [u8; 12], packet: &[u8]) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[2..6].copy_from_slice(&packet[8..12]);
    nonce[10..].copy_from_slice(&packet[2..4]);
    std::array::from_fn(|at| nonce[at] ^ salt[at])
}

/// Length of the RTP header with CSRCs and extensions (RFC 3550 §5.1), if the packet is that long.
fn header_bytes(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let mut bytes = 12 + 4 * usize::from(first & 0x0f);
    if first & 0x10 != 0 {
        let words = packet.get(bytes + 2..bytes + 4)?;
        bytes += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
    }
    (bytes <= packet.len()).then_some(bytes)
}

/// The key derivation of RFC 3711 §4.3.3 with a key derivation rate of 0.
fn derive(crypto: &dyn SrtpProvider, key: &[u8], salt: &[u8], label: u8, out: &mut [u8]) {
    let mut input = [0; 16];
    input[..salt.len()].copy_from_slice(salt);
    input[7] ^= label;
    for (round, out) in out.chunks_mut(16).enumerate() {
        input[14..].copy_from_slice(&(round as u16).to_be_bytes());
        let mut block = [0; 32];
        match key.len() {
            32 => crypto.srtp_aes_256_ecb_round(key, &input, &mut block),
            _ => crypto.srtp_aes_128_ecb_round(key, &input, &mut block),
        }
        out.copy_from_slice(&block[..out.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits = text.as_bytes().chunks(2);
        digits.map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).unwrap_or(0)).collect()
    }

    #[test]
    fn keys_are_derived_as_in_rfc_3711_appendix_b_3() {
        let crypto = str0m_aws_lc_rs::default_provider().srtp_provider;
        let (key, salt) = (hex("E1F97A0D3E018BE0D64FA32C06DE4139"), hex("0EC675AD498AFEEBB6960B3AABE6"));
        let (mut cipher, mut auth) = ([0; 16], [0; 20]);
        derive(crypto, &key, &salt, LABEL_RTP_ENCRYPTION, &mut cipher);
        derive(crypto, &key, &salt, LABEL_RTP_AUTHENTICATION, &mut auth);
        assert_eq!(cipher.to_vec(), hex("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(auth.to_vec(), hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
    }

    #[test]
    fn odd_headers_are_measured_or_refused() {
        assert_eq!(header_bytes(&[0x80; 12]), Some(12));
        assert_eq!(header_bytes(&[0x82; 12]), None);
        let mut extended = vec![0x90; 12];
        extended.extend([0xbe, 0xde, 0, 1, 0x10, 0x30, 0, 0]);
        assert_eq!(header_bytes(&extended), Some(20));
        extended[15] = 0xff;
        assert_eq!(header_bytes(&extended), None);
        assert_eq!(header_bytes(&[]), None);
    }
}
