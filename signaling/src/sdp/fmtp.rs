//! Codecs as `a=rtpmap` names them and the `a=fmtp` parameters that matter to a server that never decodes.

use sfu::core::codec::{Codec, H264Profile};
use sfu::core::plan::Role;
use std::fmt::Write;

/// What an `a=rtpmap` names, as far as we care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Opus,
    Pcmu,
    Pcma,
    Vp8,
    Vp9,
    Av1,
    H264,
    H265,
    /// RFC 4588, with its clock rate in Hz.
    Rtx(u32),
    /// Known to exist, not accepted: red, ulpfec, flexfec, telephone-event, CN, G722 and all others.
    ///
    /// Audio as red (RFC 2198) carries every frame twice, and a viewer that has not negotiated it hears nothing unless
    /// somebody takes each packet apart for it. Without it in our answer no publisher sends it, so everybody hears the same
    /// Opus, whose own in-band correction and NACK are for what is lost.
    Other,
}

impl Encoding {
    /// Reads `<name>/<clock>[/<channels>]`. Names are case-insensitive (RFC 4855 §3), and GStreamer leaves out the
    /// channels of Opus although RFC 7587 §7 fixes them at 2.
    pub(super) fn parse(rtpmap: &str) -> Option<Encoding> {
        let mut parts = rtpmap.trim().split('/');
        let name = parts.next()?.to_ascii_lowercase();
        let clock: u32 = parts.next()?.parse().ok()?;
        let channels: u32 = parts.next().map_or(Some(1), |channels| channels.parse().ok())?;
        Some(match (name.as_str(), clock, channels) {
            ("opus", 48_000, 1 | 2) => Encoding::Opus,
            ("pcmu", 8_000, 1) => Encoding::Pcmu,
            ("pcma", 8_000, 1) => Encoding::Pcma,
            ("vp8", 90_000, _) => Encoding::Vp8,
            ("vp9", 90_000, _) => Encoding::Vp9,
            ("av1", 90_000, _) => Encoding::Av1,
            ("h264", 90_000, _) => Encoding::H264,
            ("h265", 90_000, _) => Encoding::H265,
            ("rtx", clock, _) => Encoding::Rtx(clock),
            _ => Encoding::Other,
        })
    }

    /// How `a=rtpmap` names a codec.
    pub(super) fn of(codec: Codec) -> Encoding {
        match codec {
            Codec::Opus => Encoding::Opus,
            Codec::Pcmu => Encoding::Pcmu,
            Codec::Pcma => Encoding::Pcma,
            Codec::Vp8 => Encoding::Vp8,
            Codec::Vp9 { .. } => Encoding::Vp9,
            Codec::Av1 { .. } => Encoding::Av1,
            Codec::H264 { .. } => Encoding::H264,
            Codec::H265 { .. } => Encoding::H265,
        }
    }

    /// The static payload types that need no `a=rtpmap` (RFC 3551 table 4).
    pub(super) fn of_static_payload_type(pt: u8) -> Encoding {
        match pt {
            0 => Encoding::Pcmu,
            8 => Encoding::Pcma,
            _ => Encoding::Other,
        }
    }

    /// The codec, or `None` for what we do not accept, which includes unreadable parameters and H264's interleaved
    /// packetization-mode 2. H264 that names no packetization-mode has `mode`.
    pub(super) fn codec(self, parameters: &Parameters, mode: u8) -> Option<Codec> {
        if parameters.broken {
            return None;
        }
        Some(match self {
            Encoding::Opus => Codec::Opus,
            Encoding::Pcmu => Codec::Pcmu,
            Encoding::Pcma => Codec::Pcma,
            Encoding::Vp8 => Codec::Vp8,
            Encoding::Vp9 => Codec::Vp9 { profile_id: parameters.octet("profile-id", 0)? },
            Encoding::Av1 => Codec::Av1 { profile: parameters.octet("profile", 0)? },
            Encoding::H264 => h264(parameters, mode)?,
            Encoding::H265 => Codec::H265 {
                profile_id: parameters.octet("profile-id", 1)?,
                tier_flag: parameters.octet("tier-flag", 0)?,
            },
            Encoding::Rtx(_) | Encoding::Other => return None,
        })
    }
}

fn h264(parameters: &Parameters, mode: u8) -> Option<Codec> {
    // Without profile-level-id: Baseline, level 1 (RFC 6184 §8.1).
    let [_, idc, iop, _level] = parameters.get("profile-level-id").unwrap_or(0x42_00_0a).to_be_bytes();
    let packetization_mode = parameters.octet("packetization-mode", mode)?;
    (packetization_mode <= 1)
        .then(|| Codec::H264 { profile: H264Profile::from_idc_iop(idc, iop), packetization_mode })
}

/// The parameters that we read or answer. All are decimal numbers but `profile-level-id` and `tx-mode`.
const KNOWN: [&str; 18] = [
    "apt",
    "minptime",
    "useinbandfec",
    "usedtx",
    "cbr",
    "maxaveragebitrate",
    "stereo",
    "sprop-stereo",
    "level-asymmetry-allowed",
    "packetization-mode",
    "profile-level-id",
    "profile-id",
    "level-idx",
    "profile",
    "tier",
    "tier-flag",
    "level-id",
    "tx-mode",
];

/// The known parameters of one payload type, in the offer's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    values: Vec<(&'static str, u32)>,
    /// Whether a known name has a value that is none of ours. That spoils its payload type alone: other codecs use
    /// the same names with other grammars, MPEG-4's `profile-level-id` for one.
    broken: bool,
}

impl Parameters {
    /// Adds the parameters of one `a=fmtp` value. The first mention of a name counts, so this holds at most
    /// [`KNOWN`]`.len()` of them.
    pub(super) fn extend(&mut self, text: &str) {
        for parameter in text.split(';') {
            let Some((name, value)) = parameter.split_once('=') else { continue };
            let name = name.trim();
            let Some(known) = KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(name)) else {
                continue;
            };
            if self.get(known).is_none() {
                match number(known, value.trim()) {
                    Some(number) => self.values.push((known, number)),
                    None => self.broken = true,
                }
            }
        }
    }

    /// A parameter's value.
    pub(super) fn get(&self, name: &str) -> Option<u32> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// A parameter that must fit an octet: `None` when it does not, `default` when it is absent.
    fn octet(&self, name: &str, default: u8) -> Option<u8> {
        self.get(name).map_or(Some(default), |value| u8::try_from(value).ok())
    }

    /// The `a=fmtp` value of our answer for `codec`; empty when there is nothing to say.
    pub(super) fn answer(&self, codec: Codec, role: Role) -> String {
        let mut text = String::new();
        for &(name, value) in self.values.iter().filter(|(name, _)| answered(codec, role).contains(name)) {
            push(&mut text, name, value);
        }
        if codec == Codec::Opus {
            self.answer_stereo(role, &mut text);
        }
        text
    }

    /// `stereo` says what the writer likes to receive and `sprop-stereo` what it is likely to send, each for itself
    /// (RFC 7587 §7.1), so neither is an echo.
    ///
    /// A publisher always reads `stereo=1`: we forward what comes, a mono source costs nothing more, and without it
    /// Firefox encodes mono although its own offer says stereo, as Chrome does by common report. A viewer reads
    /// both if it asked for stereo: some decoders open their second channel only then.
    fn answer_stereo(&self, role: Role, text: &mut String) {
        match role {
            Role::Publisher => push(text, "stereo", 1),
            Role::Viewer if self.get("stereo") == Some(1) => {
                push(text, "stereo", 1);
                push(text, "sprop-stereo", 1);
            }
            Role::Viewer => {}
        }
    }
}

/// What an answer repeats as offered: the parameters that must be symmetric and the ones that describe the accepted
/// configuration. Limits of the offerer's own decoder (`max-fs`, `maxplaybackrate`) would become ours, and
/// `sprop-…` describes a sender, so both stay out.
///
/// Those of Opus say what their writer likes to receive (RFC 7587 §7.1). A publisher receives nothing, so there they are
/// wishes for its own encoder, which obeys the answer alone: they come back to it. To a viewer they would promise how a
/// stream is encoded that is not made for it.
fn answered(codec: Codec, role: Role) -> &'static [&'static str] {
    match codec {
        Codec::Opus if role == Role::Publisher => {
            &["minptime", "useinbandfec", "usedtx", "cbr", "maxaveragebitrate"]
        }
        Codec::Opus => &["minptime", "useinbandfec"],
        Codec::H264 { .. } => &["level-asymmetry-allowed", "packetization-mode", "profile-level-id"],
        Codec::H265 { .. } => &["level-id", "profile-id", "tier-flag", "tx-mode"],
        Codec::Vp9 { .. } => &["profile-id"],
        Codec::Av1 { .. } => &["level-idx", "profile", "tier"],
        Codec::Pcmu | Codec::Pcma | Codec::Vp8 => &[],
    }
}

fn push(text: &mut String, name: &str, value: u32) {
    let separator = if text.is_empty() { "" } else { ";" };
    // Writing to a String cannot fail.
    let _ = match name {
        "profile-level-id" => write!(text, "{separator}{name}={value:06x}"),
        "tx-mode" => write!(text, "{separator}{name}=SRST"),
        _ => write!(text, "{separator}{name}={value}"),
    };
}

fn number(name: &str, value: &str) -> Option<u32> {
    match name {
        "profile-level-id" => {
            let hex = value.len() == 6 && value.bytes().all(|digit| digit.is_ascii_hexdigit());
            hex.then(|| u32::from_str_radix(value, 16).ok()).flatten()
        }
        // The other modes of RFC 7798 §7.1 spread one stream over several SSRCs or transports.
        "tx-mode" => value.eq_ignore_ascii_case("SRST").then_some(0),
        _ => decimal(value),
    }
}

/// Digits only: `parse` alone would take a sign.
pub(super) fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}
