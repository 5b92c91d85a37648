//! The session keys of one writer for RTP or RTCP, and the transforms of each profile.

use super::{MasterKeys, Stream, Writer, derive};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{constant_time, hmac};
use str0m::crypto::dtls::SrtpProfile;
use str0m_proto::crypto::SrtpProvider;

/// Bytes of AEAD_AES_128_GCM's and AEAD_AES_256_GCM's tag (RFC 7714 §14.2).
pub(super) const GCM_TAG_BYTES: usize = 16;
/// Bytes of AES_CM_128_HMAC_SHA1_80's tag (RFC 3711 §8.2).
pub(super) const SHA1_TAG_BYTES: usize = 10;
const SHA1_KEY_BYTES: usize = 20;

/// What one writer does to its RTP, or to its RTCP.
pub(super) enum Cipher {
    Gcm(Gcm),
    /// Boxed, because its 1.7 KB would spread out the profile that nearly everyone negotiates.
    CmSha1(Box<CmSha1>),
}

impl Cipher {
    /// Derives the session keys. `None` for a profile that is not ours.
    pub(super) fn new(
        master: &MasterKeys,
        writer: Writer,
        stream: Stream,
        crypto: &dyn SrtpProvider,
    ) -> Option<Cipher> {
        let (key, salt) = master.of(writer)?;
        let labels = stream.labels();
        let mut cipher_key = [0; 32];
        let cipher_key = &mut cipher_key[..key.len()];
        derive(crypto, key, salt, labels.encryption, cipher_key);
        if master.profile == SrtpProfile::AES128_CM_SHA1_80 {
            let (mut auth, mut session_salt) = ([0; SHA1_KEY_BYTES], [0; 14]);
            derive(crypto, key, salt, labels.authentication, &mut auth);
            derive(crypto, key, salt, labels.salt, &mut session_salt);
            return CmSha1::new(cipher_key, session_salt, &auth).map(|cm| Cipher::CmSha1(Box::new(cm)));
        }
        let mut session_salt = [0; 12];
        derive(crypto, key, salt, labels.salt, &mut session_salt);
        Gcm::new(cipher_key, session_salt).map(Cipher::Gcm)
    }

    #[inline]
    pub(super) fn tag_bytes(&self) -> usize {
        match self {
            Cipher::Gcm(_) => GCM_TAG_BYTES,
            Cipher::CmSha1(_) => SHA1_TAG_BYTES,
        }
    }
}

/// RFC 7714.
pub(super) struct Gcm {
    key: LessSafeKey,
    salt: [u8; 12],
}

impl Gcm {
    pub(super) fn new(key: &[u8], salt: [u8; 12]) -> Option<Gcm> {
        let algorithm = if key.len() == 32 { &AES_256_GCM } else { &AES_128_GCM };
        Some(Gcm { key: LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?), salt })
    }

    /// RFC 7714 §8.1 and §9.1 in one: an SRTCP index leaves the bytes of the roll-over counter's upper half 0.
    #[inline]
    fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let position = ((u128::from(ssrc) << 48) | u128::from(index)).to_be_bytes();
        Nonce::assume_unique_for_key(std::array::from_fn(|at| position[4 + at] ^ self.salt[at]))
    }

    /// Encrypts in place and returns the tag.
    #[inline]
    pub(super) fn seal(
        &self,
        ssrc: u32,
        index: u64,
        authenticated: &[u8],
        text: &mut [u8],
    ) -> Result<[u8; GCM_TAG_BYTES], Unspecified> {
        let nonce = self.nonce(ssrc, index);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(authenticated), text)?;
        tag.as_ref().try_into().map_err(|_| Unspecified)
    }

    /// Decrypts what ends with its tag, in place; returns the text in front of the tag.
    pub(super) fn open<'a>(
        &self,
        ssrc: u32,
        index: u64,
        authenticated: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], Unspecified> {
        self.key.open_in_place(self.nonce(ssrc, index), Aad::from(authenticated), sealed)
    }
}

/// RFC 3711's default transforms with an 80-bit tag. Both key schedules are kept, so a packet costs neither again.
pub(super) struct CmSha1 {
    encryption: EncryptingKey,
    authentication: hmac::Key,
    salt: [u8; 14],
}

impl CmSha1 {
    pub(super) fn new(key: &[u8], salt: [u8; 14], authentication: &[u8]) -> Option<CmSha1> {
        let encryption = EncryptingKey::ctr(UnboundCipherKey::new(&AES_128, key).ok()?).ok()?;
        let authentication = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, authentication);
        Some(CmSha1 { encryption, authentication, salt })
    }

    /// Encrypts or decrypts in place: the key stream is the same (RFC 3711 §4.1.1).
    pub(super) fn apply(&self, ssrc: u32, index: u64, text: &mut [u8]) -> Result<(), Unspecified> {
        let position = ((u128::from(ssrc) << 64) | (u128::from(index) << 16)).to_be_bytes();
        let mut counter = position;
        for (byte, salt) in counter.iter_mut().zip(self.salt) {
            *byte ^= salt;
        }
        self.encryption.less_safe_encrypt(text, EncryptionContext::Iv128(counter.into()))?;
        Ok(())
    }

    /// The tag of a packet followed by its index as far as the packet does not carry it (RFC 3711 §4.2).
    pub(super) fn tag(&self, packet: &[u8], index: [u8; 4]) -> [u8; SHA1_TAG_BYTES] {
        let mut context = hmac::Context::with_key(&self.authentication);
        context.update(packet);
        context.update(&index);
        let tag = context.sign();
        std::array::from_fn(|at| tag.as_ref()[at])
    }

    pub(super) fn verify(&self, tag: &[u8], packet: &[u8], index: [u8; 4]) -> Result<(), Unspecified> {
        constant_time::verify_slices_are_equal(&self.tag(packet, index), tag)
    }
}
