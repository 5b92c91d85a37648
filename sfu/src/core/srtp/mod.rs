//! SRTP with the keys that DTLS exported: what a session's own keys seal, open and authenticate (RFC 3711, RFC 7714).
//!
//! [`RtpSealer`] seals what goes to a viewer. [`RtcpSealer`] and [`RtcpOpener`] do both directions of its RTCP. [`PeerRtp`]
//! checks the first packet of every SSRC of a publisher before str0m may see it: str0m ties an SSRC to a track when it first
//! sees it, and checks the packet afterwards, so one forged packet could take a publisher's track away.

mod cipher;
mod replay;
mod rtcp;
mod seal;
#[cfg(test)]
mod stock;

pub use rtcp::{OpenError, RTCP_INDEX_MAX, RtcpOpener, RtcpSealer, SOURCES_MAX};
pub use seal::{RTP_INDEX_MAX, RtpSealer, SealError};

use cipher::Cipher;
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

    /// The master key and salt that `writer` writes with.
    fn of(&self, writer: Writer) -> Option<(&[u8], &[u8])> {
        let (key, salt) = match self.profile {
            SrtpProfile::AES128_CM_SHA1_80 => (16, 14),
            SrtpProfile::AEAD_AES_128_GCM => (16, 12),
            SrtpProfile::AEAD_AES_256_GCM => (32, 12),
            _ => return None,
        };
        let is_client = self.we_are_client == (writer == Writer::Us);
        let side = usize::from(!is_client);
        let key_at = side * key;
        let salt_at = 2 * key + side * salt;
        Some((self.material.get(key_at..key_at + key)?, self.material.get(salt_at..salt_at + salt)?))
    }
}

/// Whose half of the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    Us,
    Peer,
}

/// RTP and RTCP have keys of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Rtp,
    Rtcp,
}

/// Labels of RFC 3711 §4.3.2.
struct Labels {
    encryption: u8,
    authentication: u8,
    salt: u8,
}

impl Stream {
    fn labels(self) -> Labels {
        match self {
            Stream::Rtp => Labels { encryption: 0, authentication: 1, salt: 2 },
            Stream::Rtcp => Labels { encryption: 3, authentication: 4, salt: 5 },
        }
    }
}

/// Checks RTP that a peer sent.
pub struct PeerRtp {
    cipher: Cipher,
}

impl PeerRtp {
    /// Derives the peer's session keys. `None` for a profile that is not ours.
    pub fn new(master: &MasterKeys, crypto: &dyn SrtpProvider) -> Option<PeerRtp> {
        Some(PeerRtp { cipher: Cipher::new(master, Writer::Peer, Stream::Rtp, crypto)? })
    }

    /// Whether this is the authentic packet of an SSRC whose roll-over counter is still 0.
    pub fn authenticates(&self, packet: &[u8]) -> bool {
        let Some(header) = header_bytes(packet) else { return false };
        let ssrc = u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        let Some(tag_at) = packet.len().checked_sub(self.cipher.tag_bytes()).filter(|at| *at >= header)
        else {
            return false;
        };
        match &self.cipher {
            Cipher::Gcm(gcm) => {
                let mut sealed = packet[header..].to_vec();
                gcm.open(ssrc, sequence.into(), &packet[..header], &mut sealed).is_ok()
            }
            Cipher::CmSha1(cm) => cm.verify(&packet[tag_at..], &packet[..tag_at], [0; 4]).is_ok(),
        }
    }
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

    pub(super) fn hex(text: &str) -> Vec<u8> {
        let digits = text.as_bytes().chunks(2);
        digits.map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).unwrap_or(0)).collect()
    }

    pub(super) const PROFILES: [SrtpProfile; 3] =
        [SrtpProfile::AEAD_AES_256_GCM, SrtpProfile::AEAD_AES_128_GCM, SrtpProfile::AES128_CM_SHA1_80];

    pub(super) fn provider() -> &'static dyn SrtpProvider {
        str0m_aws_lc_rs::default_provider().srtp_provider
    }

    fn salt_bytes(profile: SrtpProfile) -> usize {
        if profile == SrtpProfile::AES128_CM_SHA1_80 { 14 } else { 12 }
    }

    /// Keys of a server whose two halves are the same: the master key, then the salt.
    pub(super) fn mirrored_keys(profile: SrtpProfile, half: &[u8]) -> MasterKeys {
        let (key, salt) = half.split_at(half.len() - salt_bytes(profile));
        MasterKeys { material: [key, key, salt, salt].concat(), profile, we_are_client: false }
    }

    /// The two ends of a session.
    pub(super) fn ends(profile: SrtpProfile) -> [MasterKeys; 2] {
        let key_bytes = if profile == SrtpProfile::AEAD_AES_256_GCM { 32 } else { 16 };
        let material: Vec<u8> = (0..2 * (key_bytes + salt_bytes(profile)) as u8).collect();
        [false, true].map(|we_are_client| MasterKeys { material: material.clone(), profile, we_are_client })
    }

    #[test]
    fn keys_are_derived_as_in_rfc_3711_appendix_b_3() {
        let crypto = str0m_aws_lc_rs::default_provider().srtp_provider;
        let (key, salt) = (hex("E1F97A0D3E018BE0D64FA32C06DE4139"), hex("0EC675AD498AFEEBB6960B3AABE6"));
        let (mut cipher, mut auth) = ([0; 16], [0; 20]);
        derive(crypto, &key, &salt, 0, &mut cipher);
        derive(crypto, &key, &salt, 1, &mut auth);
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
