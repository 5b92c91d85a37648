//! The answer text: RFC 9429 §5.3.1 with the rules of RFC 9725 §4.4 and the WHEP draft §4.5.
//!
//! What clients need beyond the RFCs: CRLF everywhere, `v=0` first, candidates in the first section (some clients
//! read only that one, ffmpeg only its first UDP host line), and at most 8192 bytes for ffmpeg. The RFCs want them in
//! the section that tags the BUNDLE group (RFC 9143 §7.3), which is nearly always the same one.

use super::attributes::Direction;
use super::candidate::candidates;
use super::parse::{Format, Offer, Section};
use sfu::core::codec::MediaKind;
use sfu::core::plan::{
    DtlsRole, Extension, Feedback, MediaSection, Payload, Role, SessionPlan, is_token_char,
};
use std::fmt::{Arguments, Write};
use std::net::SocketAddr;

/// What we say of our ICE at the session level, in answers and again when ICE restarts (RFC 9725 §4.3.3): we only answer
/// checks, take candidates that come later, and keep to RFC 8445 (§10 there).
pub const ICE_SESSION_LINES: [&str; 2] = ["a=ice-lite", "a=ice-options:trickle ice2"];

/// Our half of the session.
#[derive(Clone, Copy)]
pub struct LocalDescription<'a> {
    /// ICE user name fragment: ice-chars, RFC 8839 §5.4.
    pub ice_ufrag: &'a str,
    /// ICE password: ice-chars.
    pub ice_pwd: &'a str,
    /// SHA-256 of our DTLS certificate.
    pub fingerprint: [u8; 32],
    /// Host candidates over UDP, the most preferred first, all of them: there is no trickle from the server.
    pub candidates: &'a [SocketAddr],
    /// The same over TCP, to which clients connect (RFC 6544).
    pub tcp_candidates: &'a [SocketAddr],
    /// Session id of the o= line; its top bit is dropped (RFC 9429 §5.2.1).
    pub origin_id: u64,
    /// MediaStream id of a viewer's answer, the same for audio and video. Token characters; others become `_`.
    pub msid: &'a str,
    /// RTCP CNAME of a viewer's streams. Token characters; others become `_`.
    pub cname: &'a str,
}

/// The answer to `offer`. `plan` must be the one that [`plan`](super::plan()) made of it.
pub fn answer(offer: &Offer, plan: &SessionPlan, local: &LocalDescription<'_>) -> String {
    let setup = match plan.remote.dtls_role {
        DtlsRole::Active => "active",
        DtlsRole::Passive => "passive",
    };
    write(offer, &plan.sections, Writer { role: plan.role, setup, local })
}

/// What of a description is not in its sections.
#[derive(Clone, Copy)]
pub(super) struct Writer<'a> {
    /// The other side's.
    pub(super) role: Role,
    /// The value of `a=setup`.
    pub(super) setup: &'static str,
    pub(super) local: &'a LocalDescription<'a>,
}

/// Our description: `sections` in the form in which they are offered in `offer`.
pub(super) fn write(offer: &Offer, sections: &[MediaSection], writer: Writer<'_>) -> String {
    let Writer { role, setup, local } = writer;
    let mut answer = Answer { text: String::with_capacity(8192), role, setup, local };
    answer.session(offer);
    let tag = offer.accepted_bundle().first().copied();
    for (index, (offered, accepted)) in offer.sections.iter().zip(sections).enumerate() {
        answer.data_channel(offer, index);
        answer.section(offered, accepted);
        if index == 0 || (tag.is_some() && offered.mid.as_deref() == tag) {
            answer.candidates();
        }
    }
    answer.data_channel(offer, sections.len());
    answer.text
}

struct Answer<'a> {
    text: String,
    role: Role,
    setup: &'static str,
    local: &'a LocalDescription<'a>,
}

/// Writes one line in the words of `format!`.
macro_rules! line {
    ($answer:expr, $($text:tt)+) => { $answer.line(format_args!($($text)+)) };
}

impl Answer<'_> {
    fn line(&mut self, text: Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.text.write_fmt(text);
        self.text.push_str("\r\n");
    }

    fn session(&mut self, offer: &Offer) {
        line!(self, "v=0");
        // The version stays: there is no renegotiation (RFC 9725 §3).
        line!(self, "o=- {} 1 IN IP4 127.0.0.1", self.local.origin_id & (u64::MAX >> 1));
        line!(self, "s=-");
        line!(self, "t=0 0");
        ICE_SESSION_LINES.iter().for_each(|text| line!(self, "{text}"));
        let bundle = offer.accepted_bundle();
        if !bundle.is_empty() {
            line!(self, "a=group:BUNDLE {}", bundle.join(" "));
        }
        if offer.session.extmap_allow_mixed {
            line!(self, "a=extmap-allow-mixed");
        }
    }

    /// Declines the data channel that stands after so many sections with media.
    fn data_channel(&mut self, offer: &Offer, after: usize) {
        let Some(declined) = offer.data_channel.as_ref().filter(|offered| offered.after == after) else {
            return;
        };
        line!(self, "{}", declined.media_line());
        line!(self, "c=IN IP4 0.0.0.0");
        if let Some(mid) = &declined.mid {
            line!(self, "a=mid:{mid}");
        }
    }

    fn section(&mut self, offered: &Section, accepted: &MediaSection) {
        let formats = || offered.formats.iter().filter_map(|format| Answered::of(format, accepted));
        let numbers: Vec<String> = formats().map(|format| format.pt().to_string()).collect();
        line!(self, "m={} 9 {} {}", accepted.kind, offered.protocol, numbers.join(" "));
        line!(self, "c=IN IP4 0.0.0.0");
        if offered.mid.is_some() {
            line!(self, "a=mid:{}", accepted.mid);
        }
        line!(self, "a={}", if self.role == Role::Publisher { "recvonly" } else { "sendonly" });
        self.transport(offered);
        self.extensions(offered, accepted);
        formats().for_each(|format| self.format(format));
        match self.role {
            Role::Publisher => self.simulcast(accepted),
            Role::Viewer => self.sources(accepted),
        }
    }

    /// The same in each section: browsers read the tagged one, simpler clients any.
    fn transport(&mut self, offered: &Section) {
        line!(self, "a=ice-ufrag:{}", self.local.ice_ufrag);
        line!(self, "a=ice-pwd:{}", self.local.ice_pwd);
        let octets: Vec<String> = self.local.fingerprint.iter().map(|octet| format!("{octet:02X}")).collect();
        line!(self, "a=fingerprint:sha-256 {}", octets.join(":"));
        let setup = self.setup;
        line!(self, "a=setup:{setup}");
        line!(self, "a=rtcp-mux");
        line!(self, "a=rtcp-mux-only");
        if offered.rtcp_rsize {
            line!(self, "a=rtcp-rsize");
        }
    }

    fn extensions(&mut self, offered: &Section, accepted: &MediaSection) {
        if offered.level.extmap_allow_mixed {
            line!(self, "a=extmap-allow-mixed");
        }
        for &(id, extension) in &accepted.extensions {
            line!(self, "a=extmap:{id}{} {}", suffix(offered, id, extension), extension.uri());
        }
    }

    fn format(&mut self, format: Answered<'_>) {
        let pt = format.pt();
        match format {
            Answered::Media(payload, offered) => {
                let channels = if payload.codec.clock_rate() == 48_000 { "/2" } else { "" };
                let (name, clock_rate) = (payload.codec.name(), payload.codec.clock_rate());
                line!(self, "a=rtpmap:{pt} {name}/{clock_rate}{channels}");
                feedback_names(payload.feedback).for_each(|name| line!(self, "a=rtcp-fb:{pt} {name}"));
                let parameters = offered.parameters.answer(payload.codec, self.role);
                if !parameters.is_empty() {
                    line!(self, "a=fmtp:{pt} {parameters}");
                }
            }
            Answered::Retransmission(payload, _) => {
                line!(self, "a=rtpmap:{pt} rtx/{}", payload.codec.clock_rate());
                line!(self, "a=fmtp:{pt} apt={}", payload.pt.0);
            }
        }
    }

    fn simulcast(&mut self, accepted: &MediaSection) {
        for rid in &accepted.rids {
            line!(self, "a=rid:{rid} recv");
        }
        if !accepted.rids.is_empty() {
            line!(self, "a=simulcast:recv {}", accepted.rids.join(";"));
        }
    }

    fn sources(&mut self, accepted: &MediaSection) {
        let (stream, cname) = (token(self.local.msid), token(self.local.cname));
        let track = match accepted.kind {
            MediaKind::Audio => "audio",
            MediaKind::Video => "video",
        };
        line!(self, "a=msid:{stream} {track}");
        for pair in &accepted.ssrcs {
            if let Some(rtx) = pair.rtx {
                line!(self, "a=ssrc-group:FID {} {}", pair.media.0, rtx.0);
            }
            for ssrc in [Some(pair.media), pair.rtx].into_iter().flatten() {
                line!(self, "a=ssrc:{} cname:{cname}", ssrc.0);
                line!(self, "a=ssrc:{} msid:{stream} {track}", ssrc.0);
            }
        }
    }

    fn candidates(&mut self) {
        for candidate in candidates(self.local.candidates, self.local.tcp_candidates) {
            line!(self, "a=candidate:{candidate}");
        }
        line!(self, "a=end-of-candidates");
    }
}

/// An offered payload type that the plan accepted.
#[derive(Clone, Copy)]
enum Answered<'a> {
    Media(&'a Payload, &'a Format),
    Retransmission(&'a Payload, u8),
}

impl<'a> Answered<'a> {
    fn of(format: &'a Format, accepted: &'a MediaSection) -> Option<Answered<'a>> {
        accepted.payloads.iter().find_map(|payload| match format.pt {
            pt if payload.pt.0 == pt => Some(Answered::Media(payload, format)),
            pt if payload.rtx.is_some_and(|rtx| rtx.0 == pt) => Some(Answered::Retransmission(payload, pt)),
            _ => None,
        })
    }

    fn pt(self) -> u8 {
        match self {
            Answered::Media(payload, _) => payload.pt.0,
            Answered::Retransmission(_, pt) => pt,
        }
    }
}

fn feedback_names(feedback: Feedback) -> impl Iterator<Item = &'static str> {
    let names = [
        (feedback.nack, "nack"),
        (feedback.pli, "nack pli"),
        (feedback.fir, "ccm fir"),
        (feedback.transport_cc, "transport-cc"),
    ];
    names.into_iter().filter(|(answered, _)| *answered).map(|(_, name)| name)
}

/// A direction that the offer gave to an extension is answered from our side (RFC 8285 §6).
fn suffix(offered: &Section, id: u8, extension: Extension) -> &'static str {
    let extmap =
        offered.extmaps.iter().find(|extmap| extmap.extension == extension && extmap.id == u16::from(id));
    match extmap.and_then(|extmap| extmap.direction) {
        Some(Direction::SendOnly) => "/recvonly",
        Some(Direction::RecvOnly) => "/sendonly",
        Some(Direction::SendRecv | Direction::Inactive) | None => "",
    }
}

/// Only characters of a token, so that no caller's text can end a line or start an attribute.
pub(super) fn token(text: &str) -> String {
    text.chars().map(|c| if is_token_char(c) { c } else { '_' }).collect()
}
