//! SRTP sealing with nothing around it: AES-GCM in place (RFC 7714), the least that a viewer's packet must be given.

use crate::error::Error;
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Bytes of the authentication tag.
pub const TAG_BYTES: usize = 16;

/// A viewer's key, and the counter that makes each nonce new.
#[derive(Debug)]
pub struct Sealer {
    key: LessSafeKey,
    salt: [u8; NONCE_LEN],
    packets: u64,
}

impl Sealer {
    /// AES-128-GCM with a key made from `viewer`.
    pub fn aes_128(viewer: u64) -> Result<Sealer, Error> {
        Sealer::new(&AES_128_GCM, viewer)
    }

    /// AES-256-GCM with a key made from `viewer`.
    pub fn aes_256(viewer: u64) -> Result<Sealer, Error> {
        Sealer::new(&AES_256_GCM, viewer)
    }

    fn new(algorithm: &'static Algorithm, viewer: u64) -> Result<Sealer, Error> {
        let mut bytes = [0x42; 32];
        bytes[..8].copy_from_slice(&viewer.to_be_bytes());
        let key = UnboundKey::new(algorithm, &bytes[..algorithm.key_len()])
            .map_err(|error| Error::Crypto(error.to_string()))?;
        Ok(Sealer { key: LessSafeKey::new(key), salt: [0x17; NONCE_LEN], packets: 0 })
    }

    /// Seals the packet that begins at `start` of `buffer` and ends with it: its first `header` bytes are authenticated,
    /// the rest is encrypted, the tag is appended.
    pub fn seal(&mut self, buffer: &mut Vec<u8>, start: usize, header: usize) -> Result<(), Error> {
        self.packets += 1;
        let mut nonce = self.salt;
        for (byte, count) in nonce[4..].iter_mut().zip(self.packets.to_be_bytes()) {
            *byte ^= count;
        }
        let (clear, secret) = buffer[start..].split_at_mut(header);
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(clear), secret)
            .map_err(|error| Error::Crypto(error.to_string()))?;
        buffer.extend_from_slice(tag.as_ref());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_stays_readable_the_rest_does_not_and_a_tag_follows() {
        let mut sealer = Sealer::aes_128(1).expect("a key");
        let mut buffer = vec![9; 5];
        buffer.extend([1; 100]);
        sealer.seal(&mut buffer, 5, 12).expect("sealed");
        assert_eq!(buffer.len(), 105 + TAG_BYTES);
        assert_eq!((&buffer[..5], &buffer[5..17]), (&[9; 5][..], &[1; 12][..]));
        assert_ne!(&buffer[17..105], &[1; 88]);
    }

    #[test]
    fn no_two_packets_and_no_two_viewers_are_sealed_alike() {
        let sealed = |sealer: &mut Sealer| {
            let mut buffer = vec![1; 100];
            sealer.seal(&mut buffer, 0, 12).expect("sealed");
            buffer
        };
        let (mut one, mut other) = (Sealer::aes_128(1).expect("a key"), Sealer::aes_128(2).expect("a key"));
        let first = sealed(&mut one);
        assert_ne!(first, sealed(&mut one));
        assert_ne!(first, sealed(&mut other));
        assert_ne!(first, sealed(&mut Sealer::aes_256(1).expect("a key")));
    }
}
