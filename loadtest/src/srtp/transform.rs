//! The two kinds of SRTP transform: AES-GCM (RFC 7714), and AES counter mode with HMAC-SHA1 (RFC 3711).

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::EncryptingKey;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use str0m::crypto::dtls::SrtpProfile;

use super::kdf::{Label, Master, apply_ctr, ctr_key};

/// Length of AES-GCM's tag, bytes.
const GCM_TAG: usize = 16;
/// Length of HMAC-SHA1-80's tag, bytes.
const SHA1_TAG: usize = 10;

/// One key of one direction, for RTP or for RTCP.
pub enum Transform {
    Gcm { key: LessSafeKey, salt: [u8; 12] },
    CounterMode { key: EncryptingKey, auth: hmac::Key, salt: [u8; 14] },
}

/// What goes into the initialisation vector.
#[derive(Clone, Copy)]
pub struct Index {
    pub ssrc: u32,
    /// RTP: roll-over counter and sequence number, 48 bits. RTCP: the SRTCP index, 31 bits.
    pub index: u64,
}

/// What the authentication covers besides the payload, in the order of the packet.
#[derive(Clone, Copy)]
pub struct Covered {
    /// Length of the part in front that stays plain.
    pub plain: usize,
    /// RTP: the roll-over counter; RTCP: E flag and index.
    pub trailer: [u8; 4],
    /// Whether AES-GCM covers the trailer too: RTCP (RFC 7714 section 17), not RTP.
    pub gcm_covers_trailer: bool,
}

impl Transform {
    /// Derives the key; `shift` is 0 for RTP.
    pub fn new(profile: SrtpProfile, master: Master<'_>, shift: u8) -> Result<Transform, Unspecified> {
        let gcm = |key| -> Result<Transform, Unspecified> {
            Ok(Transform::Gcm { key: LessSafeKey::new(key), salt: master.derive(Label::Salt, shift)? })
        };
        match profile {
            SrtpProfile::AEAD_AES_128_GCM => {
                gcm(UnboundKey::new(&AES_128_GCM, &master.derive::<16>(Label::Cipher, shift)?)?)
            }
            SrtpProfile::AEAD_AES_256_GCM => {
                gcm(UnboundKey::new(&AES_256_GCM, &master.derive::<32>(Label::Cipher, shift)?)?)
            }
            SrtpProfile::AES128_CM_SHA1_80 => Ok(Transform::CounterMode {
                key: ctr_key(&master.derive::<16>(Label::Cipher, shift)?)?,
                auth: hmac::Key::new(
                    hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                    &master.derive::<20>(Label::Auth, shift)?,
                ),
                salt: master.derive(Label::Salt, shift)?,
            }),
            _ => Err(Unspecified),
        }
    }

    /// Bytes by which a packet grows.
    pub fn tag_len(&self) -> usize {
        match self {
            Transform::Gcm { .. } => GCM_TAG,
            Transform::CounterMode { .. } => SHA1_TAG,
        }
    }

    /// Opens `packet` (which ends with its tag, the trailer taken out) in place; returns where the payload
    /// ends.
    pub fn open(&self, packet: &mut [u8], index: Index, covered: Covered) -> Result<usize, Unspecified> {
        let end = packet.len().checked_sub(self.tag_len()).filter(|end| *end >= covered.plain);
        let end = end.ok_or(Unspecified)?;
        match self {
            Transform::Gcm { key, salt } => {
                let (plain, body) = packet.split_at_mut(covered.plain);
                let mut aad = Associated::new(plain, covered)?;
                key.open_in_place(gcm_nonce(salt, index)?, Aad::from(aad.bytes()), body)?;
            }
            Transform::CounterMode { key, auth, salt } => {
                let (body, tag) = packet.split_at_mut(end);
                let expected = sha1_tag(auth, body, covered);
                aws_lc_rs::constant_time::verify_slices_are_equal(&expected.as_ref()[..SHA1_TAG], tag)?;
                apply_ctr(key, counter_iv(salt, index), &mut body[covered.plain..])?;
            }
        }
        Ok(end)
    }

    /// Seals `packet` in place and appends the tag.
    pub fn seal(&self, packet: &mut Vec<u8>, index: Index, covered: Covered) -> Result<(), Unspecified> {
        match self {
            Transform::Gcm { key, salt } => {
                let (plain, body) = packet.split_at_mut(covered.plain);
                let mut aad = Associated::new(plain, covered)?;
                let nonce = gcm_nonce(salt, index)?;
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad.bytes()), body)?;
                packet.extend_from_slice(tag.as_ref());
            }
            Transform::CounterMode { key, auth, salt } => {
                apply_ctr(key, counter_iv(salt, index), &mut packet[covered.plain..])?;
                let tag = sha1_tag(auth, packet, covered);
                packet.extend_from_slice(&tag.as_ref()[..SHA1_TAG]);
            }
        }
        Ok(())
    }
}

/// Associated data without an allocation: an RTP header with all its extensions fits.
struct Associated {
    bytes: [u8; 256],
    len: usize,
}

impl Associated {
    fn new(plain: &[u8], covered: Covered) -> Result<Associated, Unspecified> {
        let (mut bytes, mut len) = ([0; 256], plain.len());
        bytes.get_mut(..len).ok_or(Unspecified)?.copy_from_slice(plain);
        if covered.gcm_covers_trailer {
            bytes.get_mut(len..len + 4).ok_or(Unspecified)?.copy_from_slice(&covered.trailer);
            len += 4;
        }
        Ok(Associated { bytes, len })
    }

    fn bytes(&mut self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn sha1_tag(auth: &hmac::Key, body: &[u8], covered: Covered) -> hmac::Tag {
    let mut context = hmac::Context::with_key(auth);
    context.update(body);
    context.update(&covered.trailer);
    context.sign()
}

/// RFC 7714 sections 8.1 and 9.1: two zero bytes, SSRC, 48 bits of index, XOR salt.
fn gcm_nonce(salt: &[u8; 12], index: Index) -> Result<Nonce, Unspecified> {
    let mut nonce = [0; 12];
    nonce[2..6].copy_from_slice(&index.ssrc.to_be_bytes());
    nonce[6..].copy_from_slice(&index.index.to_be_bytes()[2..]);
    nonce.iter_mut().zip(salt).for_each(|(byte, salt)| *byte ^= salt);
    Nonce::try_assume_unique_for_key(&nonce)
}

/// RFC 3711 section 4.1.1.
fn counter_iv(salt: &[u8; 14], index: Index) -> [u8; 16] {
    let mut iv = [0; 16];
    iv[4..8].copy_from_slice(&index.ssrc.to_be_bytes());
    iv[8..14].copy_from_slice(&index.index.to_be_bytes()[2..]);
    iv.iter_mut().zip(salt).for_each(|(byte, salt)| *byte ^= salt);
    iv
}
