//! Codecs as RTP names them, and the one rule of who can play what.
//!
//! Media is never transcoded: a published payload reaches a viewer only under a payload type that the viewer
//! offered for a codec that decodes it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MediaKind {
    /// `m=audio`
    Audio,
    /// `m=video`
    Video,
}

impl MediaKind {
    /// Both, in the order of their numbers.
    pub const ALL: [MediaKind; 2] = [MediaKind::Audio, MediaKind::Video];
}

impl fmt::Display for MediaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MediaKind::Audio => "audio",
            MediaKind::Video => "video",
        })
    }
}

/// A codec with the parameters that decide whether a decoder can play it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Codec {
    /// RFC 7587. Channels and in-band FEC are signalled in the payload itself, so they do not matter here.
    Opus,
    /// G.711 µ-law, RFC 3551.
    Pcmu,
    /// G.711 A-law, RFC 3551.
    Pcma,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9 {
        /// `profile-id`, 0 when absent.
        profile_id: u8,
    },
    /// AV1 RTP specification v1.0.
    Av1 {
        /// `profile`, 0 when absent.
        profile: u8,
    },
    /// RFC 6184.
    H264 {
        /// From `profile-level-id`; the level is not kept because every decoder here adapts to it.
        profile: H264Profile,
        /// `packetization-mode`, 0 when absent (RFC 6184 §8.1).
        packetization_mode: u8,
    },
    /// RFC 7798.
    H265 {
        /// `profile-id`, 1 (Main) when absent.
        profile_id: u8,
        /// `tier-flag`, 0 when absent.
        tier_flag: u8,
    },
}

/// The H264 profiles that WebRTC clients name, from `profile_idc` and `profile_iop` (RFC 6184 table 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum H264Profile {
    /// 42e0xx and its equivalents.
    ConstrainedBaseline,
    /// 4200xx.
    Baseline,
    /// 4d00xx.
    Main,
    /// 640cxx.
    ConstrainedHigh,
    /// 6400xx.
    High,
    /// Any other pair, matched by equality.
    Other {
        /// `profile_idc`.
        idc: u8,
        /// `profile_iop`.
        iop: u8,
    },
}

impl H264Profile {
    /// Reads the profile out of the first two octets of `profile-level-id` (RFC 6184 §8.1, table 5).
    pub fn from_idc_iop(idc: u8, iop: u8) -> H264Profile {
        let set1 = iop & 0x40 != 0;
        match (idc, iop) {
            (0x42, _) if set1 => H264Profile::ConstrainedBaseline,
            (0x4d, _) if iop & 0x80 != 0 => H264Profile::ConstrainedBaseline,
            (0x58, _) if iop & 0xc0 == 0xc0 => H264Profile::ConstrainedBaseline,
            (0x42, _) => H264Profile::Baseline,
            (0x58, _) if iop & 0xc0 == 0x80 => H264Profile::Baseline,
            (0x4d, _) => H264Profile::Main,
            (0x64, 0x0c) => H264Profile::ConstrainedHigh,
            (0x64, _) => H264Profile::High,
            _ => H264Profile::Other { idc, iop },
        }
    }

    /// The first two octets of a `profile-level-id` that names the profile.
    pub fn idc_iop(self) -> (u8, u8) {
        match self {
            H264Profile::ConstrainedBaseline => (0x42, 0xe0),
            H264Profile::Baseline => (0x42, 0x00),
            H264Profile::Main => (0x4d, 0x00),
            H264Profile::ConstrainedHigh => (0x64, 0x0c),
            H264Profile::High => (0x64, 0x00),
            H264Profile::Other { idc, iop } => (idc, iop),
        }
    }

    /// Whether a decoder for `self` decodes the streams of `stream` (ITU-T H.264 annex A).
    ///
    /// Baseline counts as Constrained Baseline: what they differ in, flexible macroblock ordering and its kin, no WebRTC
    /// encoder sends, yet Chromium and ffmpeg call their Constrained Baseline by the wider name.
    fn decodes(self, stream: H264Profile) -> bool {
        use H264Profile::{Baseline, ConstrainedBaseline, ConstrainedHigh, High, Main};
        self == stream
            || matches!(
                (self, stream),
                (
                    ConstrainedBaseline | Baseline | Main | ConstrainedHigh | High,
                    ConstrainedBaseline | Baseline
                ) | (High, Main | ConstrainedHigh)
            )
    }
}

impl fmt::Display for H264Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            H264Profile::ConstrainedBaseline => f.write_str("Constrained Baseline"),
            H264Profile::Baseline => f.write_str("Baseline"),
            H264Profile::Main => f.write_str("Main"),
            H264Profile::ConstrainedHigh => f.write_str("Constrained High"),
            H264Profile::High => f.write_str("High"),
            H264Profile::Other { idc, iop } => write!(f, "profile {idc:02x}{iop:02x}"),
        }
    }
}

impl Codec {
    /// Audio or video.
    pub fn kind(self) -> MediaKind {
        match self {
            Codec::Opus | Codec::Pcmu | Codec::Pcma => MediaKind::Audio,
            _ => MediaKind::Video,
        }
    }

    /// RTP clock rate in Hz.
    pub fn clock_rate(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            Codec::Pcmu | Codec::Pcma => 8_000,
            _ => 90_000,
        }
    }

    /// The encoding name of `a=rtpmap`.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Opus => "opus",
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
            Codec::Vp8 => "VP8",
            Codec::Vp9 { .. } => "VP9",
            Codec::Av1 { .. } => "AV1",
            Codec::H264 { .. } => "H264",
            Codec::H265 { .. } => "H265",
        }
    }

    /// Whether a viewer that offered `self` can play a stream published as `stream`.
    ///
    /// H264: a decoder of packetization mode 1 also takes mode 0 (RFC 6184 §6.2 is a subset of §6.3), never the
    /// other way round. Main 10 of H265 (profile 2) holds Main (1), and each profile of AV1 those below it.
    pub fn plays(self, stream: Codec) -> bool {
        match (self, stream) {
            (
                Codec::H264 { profile: offered, packetization_mode: offered_mode },
                Codec::H264 { profile, packetization_mode },
            ) => offered.decodes(profile) && offered_mode >= packetization_mode,
            (
                Codec::H265 { profile_id: offered, tier_flag: offered_tier },
                Codec::H265 { profile_id, tier_flag },
            ) => (offered == profile_id || (offered, profile_id) == (2, 1)) && offered_tier >= tier_flag,
            (Codec::Av1 { profile: offered }, Codec::Av1 { profile }) => offered >= profile,
            _ => self == stream,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Codec::H264 { profile, packetization_mode } => {
                write!(f, "H264 ({profile}, packetization-mode {packetization_mode})")
            }
            Codec::H265 { profile_id, .. } => write!(f, "H265 (profile {profile_id})"),
            Codec::Vp9 { profile_id } if *profile_id != 0 => write!(f, "VP9 (profile {profile_id})"),
            Codec::Av1 { profile } if *profile != 0 => write!(f, "AV1 (profile {profile})"),
            _ => f.write_str(self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h264(profile: H264Profile, packetization_mode: u8) -> Codec {
        Codec::H264 { profile, packetization_mode }
    }

    #[test]
    fn profile_level_ids_of_real_clients_are_named() {
        assert_eq!(H264Profile::from_idc_iop(0x42, 0xe0), H264Profile::ConstrainedBaseline);
        assert_eq!(H264Profile::from_idc_iop(0x42, 0xc0), H264Profile::ConstrainedBaseline);
        assert_eq!(H264Profile::from_idc_iop(0x42, 0x00), H264Profile::Baseline);
        assert_eq!(H264Profile::from_idc_iop(0x4d, 0x00), H264Profile::Main);
        assert_eq!(H264Profile::from_idc_iop(0x64, 0x0c), H264Profile::ConstrainedHigh);
        assert_eq!(H264Profile::from_idc_iop(0x64, 0x00), H264Profile::High);
        assert_eq!(H264Profile::from_idc_iop(0xf4, 0x00), H264Profile::Other { idc: 0xf4, iop: 0 });
    }

    #[test]
    fn the_same_profile_has_several_names() {
        for (idc, iop) in [(0x42, 0x40), (0x4d, 0x80), (0x4d, 0xc0), (0x58, 0xc0)] {
            assert_eq!(
                H264Profile::from_idc_iop(idc, iop),
                H264Profile::ConstrainedBaseline,
                "{idc:x}{iop:x}"
            );
        }
        assert_eq!(H264Profile::from_idc_iop(0x58, 0x80), H264Profile::Baseline);
        assert_eq!(H264Profile::from_idc_iop(0x58, 0x00), H264Profile::Other { idc: 0x58, iop: 0 });
        assert_eq!(H264Profile::from_idc_iop(0x4d, 0x40), H264Profile::Main);
        for (idc, iop) in (0..=255).flat_map(|idc| (0..=255).map(move |iop| (idc, iop))) {
            let profile = H264Profile::from_idc_iop(idc, iop);
            let (same_idc, same_iop) = profile.idc_iop();
            assert_eq!(H264Profile::from_idc_iop(same_idc, same_iop), profile, "{idc:02x}{iop:02x}");
        }
    }

    #[test]
    fn higher_profiles_of_h265_and_av1_play_the_lower_ones() {
        let h265 = |profile_id, tier_flag| Codec::H265 { profile_id, tier_flag };
        assert!(h265(2, 0).plays(h265(1, 0)) && !h265(1, 0).plays(h265(2, 0)));
        assert!(h265(1, 1).plays(h265(1, 0)) && !h265(1, 0).plays(h265(1, 1)));
        assert!(!h265(3, 0).plays(h265(1, 0)));
        let av1 = |profile| Codec::Av1 { profile };
        assert!(av1(1).plays(av1(0)) && !av1(0).plays(av1(1)));
        assert!(!Codec::Vp9 { profile_id: 2 }.plays(Codec::Vp9 { profile_id: 0 }));
    }

    #[test]
    fn a_baseline_decoder_never_gets_high() {
        assert!(!h264(H264Profile::Baseline, 1).plays(h264(H264Profile::High, 1)));
        assert!(h264(H264Profile::High, 1).plays(h264(H264Profile::ConstrainedBaseline, 1)));
    }

    #[test]
    fn what_chromium_and_ffmpeg_call_baseline_plays_where_only_the_constrained_profile_is_offered() {
        assert!(h264(H264Profile::ConstrainedBaseline, 1).plays(h264(H264Profile::Baseline, 1)));
        assert!(!h264(H264Profile::ConstrainedBaseline, 1).plays(h264(H264Profile::Main, 1)));
    }

    #[test]
    fn single_nal_decoders_never_get_fragmentation_units() {
        let baseline = H264Profile::Baseline;
        assert!(!h264(baseline, 0).plays(h264(baseline, 1)));
        assert!(h264(baseline, 1).plays(h264(baseline, 0)));
    }
}
