//! SRTP for viewers that open only some of their packets, and therefore do it themselves.

mod kdf;
mod transform;

use aws_lc_rs::error::Unspecified;

use crate::dtls::Agreed;
use kdf::{Master, RTCP};
use transform::{Covered, Index, Transform};

/// E flag of SRTCP (RFC 3711 section 3.4): encrypted.
const ENCRYPTED: u32 = 1 << 31;
/// What stays plain of an RTCP packet: its header and the sender's SSRC.
const RTCP_PLAIN: usize = 8;
/// E flag and index behind an RTCP packet.
const RTCP_TRAILER: usize = 4;

/// One direction of a session.
pub struct Direction {
    rtp: Transform,
    rtcp: Transform,
    /// Of the next RTCP packet to be sealed.
    rtcp_index: u32,
}

/// Both directions: what we receive and what we send. `None` if the profile is unknown.
pub fn directions(agreed: &Agreed) -> Option<(Direction, Direction)> {
    let salts = agreed.profile.keying_material_len();
    let key = match agreed.profile {
        str0m::crypto::dtls::SrtpProfile::AEAD_AES_256_GCM => 32,
        _ => 16,
    };
    let salt = (salts / 2).checked_sub(key)?;
    let material = &agreed.material;
    let of = |server: usize| {
        let salts = 2 * key + server * salt;
        let master = Master {
            key: material.get(server * key..(server + 1) * key)?,
            salt: material.get(salts..salts + salt)?,
        };
        Direction::new(agreed.profile, master).ok()
    };
    let (client, server) = (of(0)?, of(1)?);
    Some(if agreed.client { (server, client) } else { (client, server) })
}

impl Direction {
    fn new(profile: str0m::crypto::dtls::SrtpProfile, master: Master<'_>) -> Result<Direction, Unspecified> {
        Ok(Direction {
            rtp: Transform::new(profile, master, 0)?,
            rtcp: Transform::new(profile, master, RTCP)?,
            rtcp_index: 0,
        })
    }

    /// Bytes by which sealing lengthens an RTP packet.
    pub fn rtp_tag_len(&self) -> usize {
        self.rtp.tag_len()
    }

    /// Opens an RTP packet in place and returns its payload, padding taken off. `index` is the roll-over
    /// counter and the sequence number, `header` the length of the header. `None` if it is forged or damaged.
    pub fn open_rtp<'a>(
        &self,
        packet: &'a mut [u8],
        header: usize,
        ssrc: u32,
        index: u64,
    ) -> Option<&'a [u8]> {
        let end = self.rtp.open(packet, Index { ssrc, index }, rtp_covered(header, index)).ok()?;
        let payload = &packet[header..end];
        let padded = packet[0] & 0x20 != 0;
        let padding = if padded { usize::from(*payload.last()?) } else { 0 };
        payload.get(..payload.len().checked_sub(padding)?)
    }

    /// Seals an RTP packet.
    pub fn seal_rtp(&self, packet: &mut Vec<u8>, header: usize, ssrc: u32, index: u64) -> Option<()> {
        self.rtp.seal(packet, Index { ssrc, index }, rtp_covered(header, index)).ok()
    }

    /// Opens a compound RTCP packet in place. `None` if it is forged, damaged or not encrypted.
    pub fn open_rtcp<'a>(&self, packet: &'a mut [u8]) -> Option<&'a [u8]> {
        // AES-GCM has its tag before the trailer, HMAC-SHA1 behind it; the transform wants it last.
        let gcm = matches!(self.rtcp, Transform::Gcm { .. });
        let at = packet.len().checked_sub(RTCP_TRAILER + if gcm { 0 } else { self.rtcp.tag_len() })?;
        let trailer: [u8; 4] = packet.get(at..at + RTCP_TRAILER)?.try_into().ok()?;
        packet.copy_within(at + RTCP_TRAILER.., at);
        let len = packet.len() - RTCP_TRAILER;
        let word = u32::from_be_bytes(trailer);
        let ssrc = u32::from_be_bytes(packet.get(4..RTCP_PLAIN)?.try_into().ok()?);
        if word & ENCRYPTED == 0 {
            return None;
        }
        let index = Index { ssrc, index: (word & !ENCRYPTED).into() };
        let end = self.rtcp.open(&mut packet[..len], index, rtcp_covered(trailer)).ok()?;
        Some(&packet[..end])
    }

    /// Seals a compound RTCP packet.
    pub fn seal_rtcp(&mut self, packet: &mut Vec<u8>) -> Option<()> {
        let trailer = (ENCRYPTED | self.rtcp_index).to_be_bytes();
        let ssrc = u32::from_be_bytes(packet.get(4..RTCP_PLAIN)?.try_into().ok()?);
        let index = Index { ssrc, index: self.rtcp_index.into() };
        self.rtcp.seal(packet, index, rtcp_covered(trailer)).ok()?;
        let gcm = matches!(self.rtcp, Transform::Gcm { .. });
        let at = if gcm { packet.len() } else { packet.len() - self.rtcp.tag_len() };
        packet.splice(at..at, trailer);
        self.rtcp_index += 1;
        Some(())
    }
}

fn rtp_covered(header: usize, index: u64) -> Covered {
    let trailer = ((index >> 16) as u32).to_be_bytes();
    Covered { plain: header, trailer, gcm_covers_trailer: false }
}

fn rtcp_covered(trailer: [u8; 4]) -> Covered {
    Covered { plain: RTCP_PLAIN, trailer, gcm_covers_trailer: true }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use str0m::crypto::dtls::SrtpProfile;

    use super::*;

    const PROFILES: [SrtpProfile; 3] =
        [SrtpProfile::AES128_CM_SHA1_80, SrtpProfile::AEAD_AES_128_GCM, SrtpProfile::AEAD_AES_256_GCM];

    fn both_ends(profile: SrtpProfile) -> [(Direction, Direction); 2] {
        [true, false].map(|client| {
            let material = (0..profile.keying_material_len() as u8).collect();
            directions(&Agreed { material, profile, client }).unwrap()
        })
    }

    fn rtp(payload: &[u8], padding: u8) -> Vec<u8> {
        let first = if padding > 0 { 0xa0 } else { 0x80 };
        let mut packet = vec![first, 96, 0, 7, 0, 0, 0, 1, 0, 0, 0, 42];
        packet.extend_from_slice(payload);
        packet.resize(packet.len() + usize::from(padding), padding);
        packet
    }

    #[test]
    fn what_one_end_seals_the_other_opens_whatever_the_profile() {
        for profile in PROFILES {
            let [(_, client_out), (server_in, _)] = both_ends(profile);
            let mut packet = rtp(b"hello", 4);
            client_out.seal_rtp(&mut packet, 12, 42, 1 << 16 | 7).unwrap();
            let mut wrong_counter = packet.clone();
            assert_eq!(server_in.open_rtp(&mut wrong_counter, 12, 42, 7), None, "{profile}");
            assert_eq!(
                server_in.open_rtp(&mut packet, 12, 42, 1 << 16 | 7),
                Some(&b"hello"[..]),
                "{profile}"
            );
        }
    }

    #[test]
    fn one_flipped_bit_anywhere_is_noticed() {
        for profile in PROFILES {
            let [(_, client_out), (server_in, _)] = both_ends(profile);
            let mut packet = rtp(b"hello", 0);
            client_out.seal_rtp(&mut packet, 12, 42, 7).unwrap();
            for at in 0..packet.len() {
                let mut damaged = packet.clone();
                damaged[at] ^= 1;
                assert_eq!(server_in.open_rtp(&mut damaged, 12, 42, 7), None, "{profile} {at}");
            }
        }
    }

    #[test]
    fn rtcp_goes_both_ways_with_a_rising_index_and_damage_is_noticed() {
        for profile in PROFILES {
            let [(_, mut client_out), (server_in, _)] = both_ends(profile);
            let report = [0x80, 201, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4];
            for index in 0..2 {
                let mut packet = report.to_vec();
                client_out.seal_rtcp(&mut packet).unwrap();
                let mut damaged = packet.clone();
                damaged[9] ^= 1;
                assert_eq!(server_in.open_rtcp(&mut damaged), None);
                assert_eq!(server_in.open_rtcp(&mut packet), Some(&report[..]), "{profile} {index}");
            }
            assert_eq!(server_in.open_rtcp(&mut [0x80, 201, 0, 1]), None);
        }
    }
}
