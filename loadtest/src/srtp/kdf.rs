//! Session keys from master keys (RFC 3711 section 4.3.1).

use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;

/// What a derived key is for; RTCP's labels are these plus 3.
#[derive(Debug, Clone, Copy)]
pub enum Label {
    Cipher = 0,
    Auth = 1,
    Salt = 2,
}

/// From the label of RTP to the one of RTCP.
pub const RTCP: u8 = 3;

/// One direction's master key and salt.
#[derive(Clone, Copy)]
pub struct Master<'a> {
    /// 16 or 32 bytes.
    pub key: &'a [u8],
    /// 12 or 14 bytes.
    pub salt: &'a [u8],
}

impl Master<'_> {
    /// Derives `N` bytes for the label, shifted by 0 or [`RTCP`].
    pub fn derive<const N: usize>(&self, label: Label, shift: u8) -> Result<[u8; N], Unspecified> {
        let mut iv = [0; 16];
        iv[..self.salt.len()].copy_from_slice(self.salt);
        iv[7] ^= label as u8 + shift;
        let mut bytes = [0; N];
        apply_ctr(&ctr_key(self.key)?, iv, &mut bytes)?;
        Ok(bytes)
    }
}

/// A key for [`apply_ctr`].
pub fn ctr_key(key: &[u8]) -> Result<EncryptingKey, Unspecified> {
    let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
    EncryptingKey::ctr(UnboundCipherKey::new(algorithm, key)?)
}

/// AES in counter mode: encrypts what is plain and decrypts what is not.
pub fn apply_ctr(key: &EncryptingKey, iv: [u8; 16], bytes: &mut [u8]) -> Result<(), Unspecified> {
    key.less_safe_encrypt(bytes, EncryptionContext::Iv128(FixedLength::from(iv))).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_test_vectors_of_rfc_3711_appendix_b_3_come_out() {
        let hex = |text: &str| {
            (0..text.len() / 2)
                .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
                .collect::<Vec<_>>()
        };
        let (key, salt) = (hex("E1F97A0D3E018BE0D64FA32C06DE4139"), hex("0EC675AD498AFEEBB6960B3AABE6"));
        let master = Master { key: &key, salt: &salt };
        let cipher = master.derive::<16>(Label::Cipher, 0).unwrap();
        assert_eq!(cipher.to_vec(), hex("C61E7A93744F39EE10734AFE3FF7A087"));
        let session_salt = master.derive::<14>(Label::Salt, 0).unwrap();
        assert_eq!(session_salt.to_vec(), hex("30CBBC08863D8C85D49DB34A9AE1"));
        let auth = master.derive::<20>(Label::Auth, 0).unwrap();
        assert_eq!(auth.to_vec(), hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
    }
}
