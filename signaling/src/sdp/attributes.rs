//! One `a=` line at a time: text in, typed attribute out.
//!
//! Each parser knows its own grammar and nothing of the lines around it. An attribute that we do not use is
//! [`Attribute::Ignored`], one that we use and cannot read is an error that names the grammar.

use super::fmtp::{Encoding, decimal};
use sfu::core::plan::{Extension, Feedback};

/// Which way media flows, seen from the writer (RFC 8866 §6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    fn parse(name: &str) -> Option<Direction> {
        Some(match name {
            "sendrecv" => Direction::SendRecv,
            "sendonly" => Direction::SendOnly,
            "recvonly" => Direction::RecvOnly,
            "inactive" => Direction::Inactive,
            _ => return None,
        })
    }

    /// Whether the writer may send.
    pub(super) fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether the writer may receive.
    pub(super) fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }
}

/// `a=setup`, RFC 4145 §4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setup {
    ActPass,
    Active,
    Passive,
    HoldConn,
}

/// `a=extmap`, RFC 8285 §8, for an extension that media understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extmap {
    pub(super) id: u16,
    pub(super) extension: Extension,
    /// The suffix; without one the extension follows its m-section.
    pub(super) direction: Option<Direction>,
}

/// What an `a=ssrc-group` pairs (RFC 5576 §4.2). Other semantics say nothing that we need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SsrcGroup {
    /// RFC 4588: the second repeats the first.
    Retransmission { media: u32, rtx: u32 },
    /// RFC 5956: the second protects the first; never accepted here.
    Correction { fec: u32 },
}

/// A typed `a=` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attribute<'a> {
    /// The mids of a BUNDLE group, separated by spaces.
    Bundle(&'a str),
    Mid(&'a str),
    Direction(Direction),
    IceUfrag(&'a str),
    IcePwd(&'a str),
    IceLite,
    /// Only counted: being ICE-lite we learn the client's addresses from its checks.
    Candidate,
    /// A SHA-256 fingerprint, or `None` for another hash.
    Fingerprint(Option<[u8; 32]>),
    Setup(Setup),
    /// Also from `a=rtcp-mux-only`, which says more (RFC 8858 §3).
    RtcpMux,
    RtcpRsize,
    BundleOnly,
    ExtmapAllowMixed,
    Rtpmap(u8, Encoding),
    Fmtp(u8, &'a str),
    /// The payload type is absent in `a=rtcp-fb:*`.
    RtcpFb(Option<u8>, Feedback),
    Extmap(Extmap),
    Ssrc(u32),
    SsrcGroup(SsrcGroup),
    /// The MediaStream's id.
    Msid(&'a str),
    /// A `rid` that the offerer sends.
    RidSend(&'a str),
    /// The simulcast streams that the offerer sends, separated by `;`.
    SimulcastSend(&'a str),
    Ignored,
}

impl<'a> Attribute<'a> {
    /// Reads what follows `a=`. `Err` says what was expected.
    pub(super) fn parse(text: &'a str) -> Result<Attribute<'a>, &'static str> {
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.trim();
        if let Some(direction) = Direction::parse(name.trim_end()) {
            return Ok(Attribute::Direction(direction));
        }
        match name.trim_end() {
            "ice-lite" => Ok(Attribute::IceLite),
            "candidate" => Ok(Attribute::Candidate),
            "rtcp-mux" | "rtcp-mux-only" => Ok(Attribute::RtcpMux),
            "rtcp-rsize" => Ok(Attribute::RtcpRsize),
            "bundle-only" => Ok(Attribute::BundleOnly),
            "extmap-allow-mixed" => Ok(Attribute::ExtmapAllowMixed),
            "mid" => Ok(Attribute::Mid(value)),
            "ice-ufrag" => Ok(Attribute::IceUfrag(value)),
            "ice-pwd" => Ok(Attribute::IcePwd(value)),
            "group" => Ok(bundle(value)),
            "msid" => Ok(Attribute::Msid(value.split(' ').next().unwrap_or_default())),
            "setup" => setup(value).ok_or("a=setup:actpass, active or passive"),
            "fingerprint" => fingerprint(value),
            "rtpmap" => rtpmap(value).ok_or("a=rtpmap:<payload type> <name>/<clock rate>"),
            "fmtp" => fmtp(value).ok_or("a=fmtp:<payload type> <parameters>"),
            "rtcp-fb" => rtcp_fb(value).ok_or("a=rtcp-fb:<payload type or *> <feedback>"),
            "extmap" => extmap(value).ok_or("a=extmap:<id>[/<direction>] <URI>"),
            "ssrc" => ssrc(value).ok_or("a=ssrc:<SSRC> <attribute>"),
            "ssrc-group" => ssrc_group(value).ok_or("a=ssrc-group:<semantics> <SSRC> <SSRC>"),
            "rid" => rid(value).ok_or("a=rid:<id> send or recv"),
            "simulcast" => simulcast(value).ok_or("a=simulcast:send <rid>;<rid>"),
            _ => Ok(Attribute::Ignored),
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_ascii_whitespace()
}

/// Only BUNDLE counts: OBS also groups for lip synchronization.
fn bundle(value: &str) -> Attribute<'_> {
    match value.split_once(' ') {
        Some(("BUNDLE", mids)) => Attribute::Bundle(mids),
        None if value == "BUNDLE" => Attribute::Bundle(""),
        _ => Attribute::Ignored,
    }
}

fn setup(value: &str) -> Option<Attribute<'_>> {
    Some(Attribute::Setup(match value {
        "actpass" => Setup::ActPass,
        "active" => Setup::Active,
        "passive" => Setup::Passive,
        "holdconn" => Setup::HoldConn,
        _ => return None,
    }))
}

/// `<hash> XX:XX:…`, RFC 8122 §5.
fn fingerprint(value: &str) -> Result<Attribute<'_>, &'static str> {
    let expected = "a=fingerprint:sha-256 and 32 hexadecimal octets with colons between them";
    let (hash, octets) = value.split_once(' ').ok_or(expected)?;
    if !hash.eq_ignore_ascii_case("sha-256") {
        return Ok(Attribute::Fingerprint(None));
    }
    let mut digest = [0; 32];
    let mut rest = octets.trim().split(':');
    for octet in &mut digest {
        *octet = rest.next().and_then(hex_octet).ok_or(expected)?;
    }
    if rest.next().is_some() { Err(expected) } else { Ok(Attribute::Fingerprint(Some(digest))) }
}

fn hex_octet(text: &str) -> Option<u8> {
    let hex = text.len() == 2 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    hex.then(|| u8::from_str_radix(text, 16).ok()).flatten()
}

/// A payload type, RFC 3551: seven bits.
pub(super) fn payload_type(text: &str) -> Option<u8> {
    decimal(text).filter(|pt| *pt <= 127)
}

fn rtpmap(value: &str) -> Option<Attribute<'_>> {
    let (pt, encoding) = value.split_once(' ')?;
    Some(Attribute::Rtpmap(payload_type(pt)?, Encoding::parse(encoding)?))
}

fn fmtp(value: &str) -> Option<Attribute<'_>> {
    let (pt, parameters) = value.split_once(' ').unwrap_or((value, ""));
    Some(Attribute::Fmtp(payload_type(pt)?, parameters))
}

fn rtcp_fb(value: &str) -> Option<Attribute<'_>> {
    let mut words = words(value);
    let pt = match words.next()? {
        "*" => None,
        pt => Some(payload_type(pt)?),
    };
    let mut feedback = Feedback::default();
    match (words.next()?, words.next()) {
        ("nack", None) => feedback.nack = true,
        ("nack", Some("pli")) => feedback.pli = true,
        ("ccm", Some("fir")) => feedback.fir = true,
        ("transport-cc", _) => feedback.transport_cc = true,
        _ => {}
    }
    Some(Attribute::RtcpFb(pt, feedback))
}

fn extmap(value: &str) -> Option<Attribute<'_>> {
    let mut words = words(value);
    let mut head = words.next()?.splitn(2, '/');
    let id = decimal(head.next()?)?;
    let direction = match head.next() {
        Some(name) => Some(Direction::parse(name)?),
        None => None,
    };
    let uri = words.next()?;
    let extension = Extension::ALL.into_iter().find(|extension| extension.uri() == uri);
    Some(
        extension
            .map_or(Attribute::Ignored, |extension| Attribute::Extmap(Extmap { id, extension, direction })),
    )
}

fn ssrc(value: &str) -> Option<Attribute<'_>> {
    Some(Attribute::Ssrc(decimal(words(value).next()?)?))
}

fn ssrc_group(value: &str) -> Option<Attribute<'_>> {
    let mut words = words(value);
    let semantics = words.next()?;
    if !matches!(semantics, "FID" | "FEC-FR" | "FEC") {
        return Some(Attribute::Ignored);
    }
    let (first, second) = (decimal(words.next()?)?, decimal(words.next()?)?);
    Some(Attribute::SsrcGroup(match semantics {
        "FID" => SsrcGroup::Retransmission { media: first, rtx: second },
        _ => SsrcGroup::Correction { fec: second },
    }))
}

fn rid(value: &str) -> Option<Attribute<'_>> {
    let mut words = words(value);
    let id = words.next()?;
    Some(match words.next()? {
        "send" => Attribute::RidSend(id),
        "recv" => Attribute::Ignored,
        _ => return None,
    })
}

/// `send <streams>`, `recv <streams>` or both in either order (RFC 8853 §5.1).
fn simulcast(value: &str) -> Option<Attribute<'_>> {
    let mut words = words(value);
    while let Some(direction) = words.next() {
        let streams = words.next()?;
        match direction {
            "send" => return Some(Attribute::SimulcastSend(streams)),
            "recv" => {}
            _ => return None,
        }
    }
    Some(Attribute::Ignored)
}
