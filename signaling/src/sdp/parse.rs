//! Lines of an offer into an [`Offer`].
//!
//! Line based, one pass, no recursion. Every bound below is checked before the work that it bounds, so the cost of
//! the worst offer is [`LINES_MAX`] lines times a look at no more than [`FORMATS_MAX`] entries.

use super::attributes::{Attribute, Direction, Extmap, Setup, SsrcGroup, payload_type};
use super::certificate;
use super::data_channel::DataChannel;
use super::error::OfferError;
use super::fmtp::{Encoding, Parameters};
use sfu::core::codec::{Codec, MediaKind};
use sfu::core::plan::{Feedback, PeerCertificate};

/// Bytes of an offer; Chromium's largest has 6 KiB.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;
/// Lines of an offer; Chromium's largest has 200.
pub(super) const LINES_MAX: usize = 2000;
/// Bytes of one line, without its end.
pub(super) const LINE_BYTES_MAX: usize = 4096;
/// m-sections: two are useful, more are read only to name what is wrong.
pub(super) const SECTIONS_MAX: usize = 16;
/// Payload types of one m-section: there are no more.
pub(super) const FORMATS_MAX: usize = 128;
/// Candidates of an offer: ten addresses, UDP and two kinds of TCP, on both sections, four times over.
pub(super) const CANDIDATES_MAX: usize = 256;
/// SSRCs, SSRC groups, header extensions or rids of one m-section; eight layers with RTX and FEC have 24 SSRCs.
pub(super) const ENTRIES_MAX: usize = 32;

/// The transport protocols of an m= line that RFC 9429 §5.1.2 wants taken, and answered as offered. All mean RTP over
/// DTLS-SRTP, because an offer without a fingerprint is refused anyway.
const PROTOCOLS: [&str; 8] = [
    "UDP/TLS/RTP/SAVPF",
    "UDP/TLS/RTP/SAVP",
    "TCP/DTLS/RTP/SAVPF",
    "TCP/DTLS/RTP/SAVP",
    "RTP/SAVPF",
    "RTP/SAVP",
    "RTP/AVPF",
    "RTP/AVP",
];

/// A parsed offer: typed and normalised, not yet judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// How many BUNDLE groups there are.
    pub(super) bundles: usize,
    /// The mids of the first BUNDLE group.
    pub(super) bundle: Vec<String>,
    pub(super) ice_lite: bool,
    pub(super) session: Level,
    /// In the order of their m= lines, never empty.
    pub(super) sections: Vec<Section>,
    /// The m-section without media among them.
    pub(super) data_channel: Option<DataChannel>,
    candidates: usize,
    /// The kind of certificate that its client is known to have.
    pub(super) certificate: PeerCertificate,
}

/// What may stand at the session or at the media level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) ice_ufrag: Option<String>,
    pub(super) ice_pwd: Option<String>,
    pub(super) sha256: Option<[u8; 32]>,
    /// Whether there is any fingerprint, also one of another hash.
    pub(super) fingerprint: bool,
    pub(super) setup: Option<Setup>,
    pub(super) direction: Option<Direction>,
    pub(super) extmap_allow_mixed: bool,
}

/// One m-section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) kind: MediaKind,
    pub(super) protocol: &'static str,
    pub(super) port: u16,
    /// `None` also for an empty one.
    pub(super) mid: Option<String>,
    pub(super) level: Level,
    pub(super) bundle_only: bool,
    pub(super) rtcp_mux: bool,
    pub(super) rtcp_rsize: bool,
    /// In the order of the m= line.
    pub(super) formats: Vec<Format>,
    /// `a=rtcp-fb:*`.
    pub(super) feedback: Feedback,
    pub(super) extmaps: Vec<Extmap>,
    /// Each once.
    pub(super) ssrcs: Vec<u32>,
    pub(super) ssrc_groups: Vec<SsrcGroup>,
    /// The MediaStream of the first `a=msid`, unless it says `-`, which means none.
    pub(super) stream: Option<String>,
    /// `a=rid:… send`.
    pub(super) rids: Vec<String>,
    /// `a=simulcast:send`: the first alternative of each stream.
    pub(super) simulcast: Vec<String>,
}

/// One payload type of an m= line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) pt: u8,
    pub(super) encoding: Encoding,
    pub(super) parameters: Parameters,
    pub(super) feedback: Feedback,
}

impl Format {
    pub(super) fn new(pt: u8) -> Format {
        let encoding = Encoding::of_static_payload_type(pt);
        Format { pt, encoding, parameters: Parameters::default(), feedback: Feedback::default() }
    }

    /// The codec, if we accept it. `mode` is the packetization-mode of H264 that names none.
    pub(super) fn codec(&self, mode: u8) -> Option<Codec> {
        self.encoding.codec(&self.parameters, mode)
    }
}

impl Offer {
    /// Reads an offer. What we do not use is skipped, what we use and cannot read is an error with its line. A byte order
    /// mark and empty lines before the first one are forgiven: text editors leave them in what is sent by hand.
    pub fn parse(body: &str) -> Result<Offer, OfferError> {
        within(body.len(), BODY_BYTES_MAX, "bytes")?;
        let mut lines = body.strip_prefix('\u{feff}').unwrap_or(body).lines().enumerate();
        if lines.by_ref().map(|(_, line)| line.trim_end()).find(|line| !line.is_empty()) != Some("v=0") {
            return Err(OfferError::NotSdp);
        }
        let mut offer = Offer::empty();
        for (index, line) in lines {
            within(index + 1, LINES_MAX, "lines")?;
            within(line.len(), LINE_BYTES_MAX, "bytes in one line")?;
            offer.line(index + 1, line)?;
        }
        offer.certificate = certificate::of(body);
        if offer.sections.is_empty() { Err(OfferError::NoMedia) } else { Ok(offer) }
    }

    pub(super) fn empty() -> Offer {
        Offer {
            bundles: 0,
            bundle: Vec::new(),
            ice_lite: false,
            session: Level::default(),
            sections: Vec::new(),
            data_channel: None,
            candidates: 0,
            certificate: PeerCertificate::Any,
        }
    }

    fn line(&mut self, line: usize, text: &str) -> Result<(), OfferError> {
        let malformed = |expected| OfferError::Malformed { line, expected };
        match text.split_once('=') {
            Some(("a", attribute)) => self.attribute(Attribute::parse(attribute).map_err(malformed)?),
            Some(("m", media)) => self.media(line, media),
            Some((kind, _)) if kind.len() == 1 => Ok(()),
            None if text.trim().is_empty() => Ok(()),
            _ => Err(malformed("<letter>=<value>")),
        }
    }

    fn media(&mut self, line: usize, text: &str) -> Result<(), OfferError> {
        within(self.sections.len() + 1, SECTIONS_MAX, "m= sections")?;
        let data_channel = DataChannel::parse(line, self.sections.len(), text);
        if self.data_channel.is_none() && data_channel.is_some() {
            self.data_channel = data_channel;
        } else {
            self.sections.push(Section::parse(line, text)?);
        }
        Ok(())
    }

    fn attribute(&mut self, attribute: Attribute<'_>) -> Result<(), OfferError> {
        if let Some(open) = self.data_channel.as_mut().filter(|last| last.after == self.sections.len()) {
            open.attribute(attribute);
            return Ok(());
        }
        match attribute {
            Attribute::Ignored => Ok(()),
            Attribute::Candidate => {
                self.candidates += 1;
                within(self.candidates, CANDIDATES_MAX, "candidates")
            }
            attribute => match self.sections.last_mut() {
                Some(section) => section.attribute(attribute),
                None => {
                    self.session_attribute(attribute);
                    Ok(())
                }
            },
        }
    }

    fn session_attribute(&mut self, attribute: Attribute<'_>) {
        match attribute {
            Attribute::Bundle(mids) => self.bundle(mids),
            Attribute::IceLite => self.ice_lite = true,
            attribute => _ = self.session.attribute(attribute),
        }
    }

    fn bundle(&mut self, mids: &str) {
        self.bundles += 1;
        if self.bundles == 1 {
            // One more than can be right is enough to see that it is wrong.
            self.bundle = mids.split_ascii_whitespace().take(SECTIONS_MAX + 1).map(str::to_owned).collect();
        }
    }

    /// The mids of the first BUNDLE group that stand for media; a declined section leaves it (RFC 9143 §7.3.3).
    pub(super) fn accepted_bundle(&self) -> Vec<&str> {
        let declined = self.data_channel.as_ref().and_then(|data_channel| data_channel.mid.as_deref());
        self.bundle.iter().map(String::as_str).filter(|mid| Some(*mid) != declined).collect()
    }

    /// The m-section whose transport the whole BUNDLE group uses: the group's first (RFC 9143 §7.2).
    pub(super) fn tagged(&self) -> Option<&Section> {
        let tag = self.accepted_bundle().first().copied();
        let tagged = self.sections.iter().find(|section| tag.is_some() && section.mid.as_deref() == tag);
        tagged.or_else(|| self.sections.first())
    }
}

impl Level {
    /// Takes what belongs to both levels and says whether it did. The first mention counts.
    fn attribute(&mut self, attribute: Attribute<'_>) -> bool {
        match attribute {
            Attribute::IceUfrag(ufrag) => _ = self.ice_ufrag.get_or_insert_with(|| ufrag.to_owned()),
            Attribute::IcePwd(pwd) => _ = self.ice_pwd.get_or_insert_with(|| pwd.to_owned()),
            Attribute::Fingerprint(sha256) => {
                self.fingerprint = true;
                self.sha256 = self.sha256.or(sha256);
            }
            Attribute::Setup(setup) => _ = self.setup.get_or_insert(setup),
            Attribute::Direction(direction) => _ = self.direction.get_or_insert(direction),
            Attribute::ExtmapAllowMixed => self.extmap_allow_mixed = true,
            _ => return false,
        }
        true
    }
}

impl Section {
    /// Reads `<media> <port>[/<count>] <protocol> <payload type>…`.
    fn parse(line: usize, text: &str) -> Result<Section, OfferError> {
        let expected = "m=<media> <port> <protocol> <payload types from 0 to 127>";
        let malformed = OfferError::Malformed { line, expected };
        let mut words = text.split_ascii_whitespace();
        let kind = match words.next() {
            Some("audio") => MediaKind::Audio,
            Some("video") => MediaKind::Video,
            Some(_) => return Err(OfferError::UnsupportedMedia { line }),
            None => return Err(malformed),
        };
        let port = words.next().and_then(|port| port.split('/').next()?.parse().ok());
        let (Some(port), Some(offered)) = (port, words.next()) else { return Err(malformed) };
        let protocol = PROTOCOLS.into_iter().find(|protocol| *protocol == offered);
        let protocol = protocol.ok_or(OfferError::UnsupportedProtocol { line })?;
        let mut formats: Vec<Format> = Vec::new();
        for (index, pt) in words.enumerate() {
            within(index + 1, FORMATS_MAX, "payload types in one m= section")?;
            let pt = payload_type(pt).ok_or_else(|| malformed.clone())?;
            if !formats.iter().any(|format| format.pt == pt) {
                formats.push(Format::new(pt));
            }
        }
        if formats.is_empty() { Err(malformed) } else { Ok(Section::new(kind, protocol, port, formats)) }
    }

    pub(super) fn new(kind: MediaKind, protocol: &'static str, port: u16, formats: Vec<Format>) -> Section {
        Section {
            kind,
            protocol,
            port,
            mid: None,
            level: Level::default(),
            bundle_only: false,
            rtcp_mux: false,
            rtcp_rsize: false,
            formats,
            feedback: Feedback::default(),
            extmaps: Vec::new(),
            ssrcs: Vec::new(),
            ssrc_groups: Vec::new(),
            stream: None,
            rids: Vec::new(),
            simulcast: Vec::new(),
        }
    }

    fn attribute(&mut self, attribute: Attribute<'_>) -> Result<(), OfferError> {
        if self.level.attribute(attribute) {
            return Ok(());
        }
        match attribute {
            Attribute::Mid("") => {}
            Attribute::Mid(mid) => _ = self.mid.get_or_insert_with(|| mid.to_owned()),
            Attribute::BundleOnly => self.bundle_only = true,
            Attribute::RtcpMux => self.rtcp_mux = true,
            Attribute::RtcpRsize => self.rtcp_rsize = true,
            Attribute::Rtpmap(pt, encoding) => self.format(pt, |format| format.encoding = encoding),
            Attribute::RtcpFb(None, feedback) => merge(&mut self.feedback, feedback),
            Attribute::RtcpFb(Some(pt), feedback) => {
                self.format(pt, |format| merge(&mut format.feedback, feedback));
            }
            Attribute::Fmtp(pt, text) => self.format(pt, |format| format.parameters.extend(text)),
            Attribute::Msid("-") => {}
            Attribute::Msid(stream) => _ = self.stream.get_or_insert_with(|| stream.to_owned()),
            entry => return self.entry(entry),
        }
        Ok(())
    }

    /// The attributes that form lists.
    fn entry(&mut self, attribute: Attribute<'_>) -> Result<(), OfferError> {
        match attribute {
            Attribute::Extmap(extmap) => insert(&mut self.extmaps, extmap, "header extensions"),
            Attribute::Ssrc(ssrc) => insert(&mut self.ssrcs, ssrc, "SSRCs"),
            Attribute::SsrcGroup(group) => insert(&mut self.ssrc_groups, group, "SSRC groups"),
            Attribute::RidSend(rid) => insert(&mut self.rids, rid.to_owned(), "rids"),
            Attribute::SimulcastSend(streams) if self.simulcast.is_empty() => {
                within(streams.split(';').count(), ENTRIES_MAX, "simulcast streams")?;
                self.simulcast = streams.split(';').map(first_alternative).collect();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Changes a format of the m= line; an attribute of any other payload type means nothing.
    fn format(&mut self, pt: u8, change: impl FnOnce(&mut Format)) {
        if let Some(format) = self.formats.iter_mut().find(|format| format.pt == pt) {
            change(format);
        }
    }
}

/// Of the alternatives of one simulcast stream we take the first, which the offerer prefers (RFC 8853 §5.2); a `~`
/// says only that the stream starts paused.
fn first_alternative(stream: &str) -> String {
    stream.split(',').next().unwrap_or_default().trim_start_matches('~').to_owned()
}

fn merge(into: &mut Feedback, feedback: Feedback) {
    into.nack |= feedback.nack;
    into.pli |= feedback.pli;
    into.fir |= feedback.fir;
    into.transport_cc |= feedback.transport_cc;
}

fn insert<T: PartialEq>(entries: &mut Vec<T>, entry: T, what: &'static str) -> Result<(), OfferError> {
    if !entries.contains(&entry) {
        within(entries.len() + 1, ENTRIES_MAX, what)?;
        entries.push(entry);
    }
    Ok(())
}

fn within(count: usize, max: usize, what: &'static str) -> Result<(), OfferError> {
    if count > max { Err(OfferError::TooLarge { what, max }) } else { Ok(()) }
}
