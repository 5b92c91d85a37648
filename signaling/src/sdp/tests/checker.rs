//! Reads an offer and its answer line by line, knowing nothing of the code that wrote the answer.

use super::{
    CANDIDATES, TCP_CANDIDATES, answer_to, candidates, lines_with, local, offer_named, tcp_candidates,
};
use sfu::core::plan::Role;

struct Description<'a> {
    session: Vec<&'a str>,
    sections: Vec<Media<'a>>,
}

struct Media<'a> {
    words: Vec<&'a str>,
    lines: Vec<&'a str>,
}

impl<'a> Description<'a> {
    fn read(text: &'a str) -> Description<'a> {
        let mut description = Description { session: Vec::new(), sections: Vec::new() };
        // What stands before the first line is forgiven, and so it is here.
        for line in text.trim_start_matches(['\u{feff}', '\r', '\n']).lines() {
            match line.strip_prefix("m=") {
                Some(words) => description
                    .sections
                    .push(Media { words: words.split_ascii_whitespace().collect(), lines: Vec::new() }),
                None => match description.sections.last_mut() {
                    Some(section) => section.lines.push(line),
                    None => description.session.push(line),
                },
            }
        }
        description
    }

    fn bundle(&self) -> Vec<&'a str> {
        values(&self.session, "a=group:BUNDLE ")
    }
}

impl<'a> Media<'a> {
    fn values(&self, prefix: &str) -> Vec<&'a str> {
        values(&self.lines, prefix)
    }

    fn count(&self, line: &str) -> usize {
        self.lines.iter().filter(|candidate| **candidate == line).count()
    }

    fn one(&self, prefix: &str) -> &'a str {
        let values = self.values(prefix);
        assert_eq!(values.len(), 1, "exactly one {prefix}");
        values[0]
    }

    /// The value of `a=mid`, unless it is empty.
    fn mid(&self) -> Option<&'a str> {
        self.values("a=mid:").first().map(|mid| mid.trim()).filter(|mid| !mid.is_empty())
    }

    fn payload_types(&self) -> &[&'a str] {
        &self.words[3..]
    }

    /// `<name>/<clock>` in lower case.
    fn encoding(&self, pt: &str) -> Option<String> {
        let rtpmap = self.values(&format!("a=rtpmap:{pt} "));
        let known = match pt {
            "0" => Some("pcmu/8000".to_owned()),
            "8" => Some("pcma/8000".to_owned()),
            _ => None,
        };
        rtpmap.last().map_or(known, |text| {
            let text = text.trim().to_ascii_lowercase();
            Some(text.splitn(3, '/').take(2).collect::<Vec<_>>().join("/"))
        })
    }

    fn parameters(&self, pt: &str) -> Vec<&'a str> {
        let fmtp = self.values(&format!("a=fmtp:{pt} "));
        fmtp.iter().flat_map(|text| text.split(';')).map(str::trim).collect()
    }
}

fn values<'a>(lines: &[&'a str], prefix: &str) -> Vec<&'a str> {
    lines.iter().filter_map(|line| line.strip_prefix(prefix)).collect()
}

/// Fails the test unless `answer` is a right answer to `offer`.
pub(super) fn check(offer: &str, answer: &str, role: Role) {
    check_text(answer);
    let (offer, answer) = (Description::read(offer), Description::read(answer));
    check_session(&offer, &answer);
    assert_eq!(offer.sections.len(), answer.sections.len(), "one section for each offered one");
    for (index, (offered, answered)) in offer.sections.iter().zip(&answer.sections).enumerate() {
        check_lines(offered, answered, role);
        check_transport(&offer, answered);
        check_formats(offered, answered, role);
        check_feedback(offered, answered, role);
        check_extensions(offered, answered, role);
        let tag = answer.bundle().first().and_then(|group| group.split(' ').next());
        check_candidates(answered, index == 0 || (tag.is_some() && answered.mid() == tag));
        match role {
            Role::Publisher => check_simulcast(offered, answered),
            Role::Viewer => check_sources(answered),
        }
    }
}

fn check_text(answer: &str) {
    assert!(answer.starts_with("v=0\r\n"));
    assert!(answer.ends_with("\r\n"));
    assert!(!answer.replace("\r\n", "").contains(['\r', '\n']), "CRLF and nothing else");
    assert!(answer.len() <= 8192, "ffmpeg reads 8192 bytes, this answer has {}", answer.len());
    for line in answer.lines() {
        let (kind, value) = line.split_once('=').unwrap();
        assert!("vosctam".contains(kind) && kind.len() == 1 && !value.is_empty(), "{line}");
    }
}

fn check_session(offer: &Description<'_>, answer: &Description<'_>) {
    let kinds: String = answer.session.iter().map(|line| &line[..1]).collect();
    assert!(kinds.starts_with("vosta"), "RFC 8866 §5 orders the lines: {kinds}");
    assert_eq!(values(&answer.session, "o=").len(), 1);
    assert_eq!(values(&answer.session, "a=ice-lite").len(), 1);
    assert_eq!(values(&answer.session, "a=group:").len(), offer.bundle().len());
    assert_eq!(answer.bundle(), offer.bundle());
    assert_eq!(
        answer.session.contains(&"a=extmap-allow-mixed"),
        offer.session.contains(&"a=extmap-allow-mixed")
    );
}

fn check_lines(offered: &Media<'_>, answered: &Media<'_>, role: Role) {
    assert_eq!(answered.words[0], offered.words[0], "media");
    assert_eq!(answered.words[1], "9", "port");
    assert_eq!(answered.words[2], offered.words[2], "protocol");
    assert_eq!(answered.values("a=mid:"), Vec::from_iter(offered.mid()), "the offered mid and no other");
    let directions: Vec<_> = ["sendrecv", "sendonly", "recvonly", "inactive"]
        .into_iter()
        .filter(|direction| answered.count(&format!("a={direction}")) == 1)
        .collect();
    assert_eq!(directions, [if role == Role::Publisher { "recvonly" } else { "sendonly" }]);
    assert_eq!(answered.count("a=rtcp-mux"), 1);
    assert_eq!(answered.count("a=rtcp-mux-only"), 1);
    assert_eq!(answered.count("a=rtcp-rsize") == 1, offered.count("a=rtcp-rsize") > 0);
    assert_eq!(answered.count("a=bundle-only"), 0, "offers only, RFC 9143 §6");
    let mixed = "a=extmap-allow-mixed";
    assert_eq!(answered.count(mixed), offered.count(mixed).min(1), "at the offer's own level");
}

fn check_transport(offer: &Description<'_>, answered: &Media<'_>) {
    let addresses = candidates();
    let local = local(&addresses);
    assert_eq!(answered.one("a=ice-ufrag:"), local.ice_ufrag);
    assert_eq!(answered.one("a=ice-pwd:"), local.ice_pwd);
    let octets: Vec<String> = local.fingerprint.iter().map(|octet| format!("{octet:02X}")).collect();
    assert_eq!(answered.one("a=fingerprint:"), format!("sha-256 {}", octets.join(":")));
    let tag = offer.bundle().first().map(|group| group.split(' ').next().unwrap());
    let tagged = offer
        .sections
        .iter()
        .find(|section| tag.is_some() && section.values("a=mid:").first() == tag.as_ref());
    let tagged = tagged.unwrap_or(&offer.sections[0]);
    let setup = [tagged.values("a=setup:"), values(&offer.session, "a=setup:")].concat();
    let expected = match setup[0].trim() {
        "actpass" | "active" => "passive",
        "passive" => "active",
        other => panic!("setup:{other} must not be answered"),
    };
    assert_eq!(answered.one("a=setup:"), expected);
}

/// Payload types: known to the offer, in its order, complete, and with the meaning that the offer gave them.
fn check_formats(offered: &Media<'_>, answered: &Media<'_>, role: Role) {
    let mut rest = offered.payload_types().iter();
    for pt in answered.payload_types() {
        assert!(rest.any(|candidate| candidate == pt), "{pt} was not offered here");
        assert_eq!(answered.values(&format!("a=rtpmap:{pt} ")).len(), 1);
        assert_eq!(answered.encoding(pt), offered.encoding(pt));
    }
    for line in ["a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"].iter().flat_map(|prefix| answered.values(prefix)) {
        assert!(answered.payload_types().contains(&line.split(' ').next().unwrap()), "{line}");
    }
    for pt in offered.payload_types() {
        let encoding = offered.encoding(pt).unwrap_or_default();
        let accepted = answered.payload_types().contains(pt);
        match encoding.split('/').next().unwrap() {
            "opus" | "pcmu" | "pcma" | "vp8" | "vp9" | "av1" | "h264" | "h265" => {
                assert!(accepted, "{encoding}")
            }
            "rtx" => check_retransmission(offered, answered, pt, accepted),
            _ => assert!(!accepted, "{encoding}"),
        }
        if accepted {
            check_parameters(offered, answered, pt, &encoding, role);
        }
    }
}

fn check_retransmission(offered: &Media<'_>, answered: &Media<'_>, pt: &str, accepted: bool) {
    let apt = values(&offered.parameters(pt), "apt=").first().copied().unwrap_or_default();
    assert_eq!(accepted, answered.payload_types().contains(&apt), "rtx {pt} of {apt}");
    if accepted {
        assert_eq!(answered.parameters(pt), [format!("apt={apt}")]);
    }
}

fn check_parameters(offered: &Media<'_>, answered: &Media<'_>, pt: &str, encoding: &str, role: Role) {
    let (mine, theirs) = (answered.parameters(pt), offered.parameters(pt));
    for parameter in mine.iter().filter(|parameter| !parameter.contains("stereo")) {
        assert!(theirs.contains(parameter), "{parameter} of {pt} was not offered");
    }
    if encoding.starts_with("h264") {
        let symmetric = |parameter: &&&str| {
            ["level-asymmetry-allowed=", "packetization-mode=", "profile-level-id="]
                .iter()
                .any(|name| parameter.starts_with(name))
        };
        assert_eq!(mine.len(), theirs.iter().filter(symmetric).count(), "H264 {mine:?} for {theirs:?}");
    }
    if encoding.starts_with("opus") {
        let stereo = theirs.contains(&"stereo=1");
        assert_eq!(mine.contains(&"stereo=1"), role == Role::Publisher || stereo);
        assert_eq!(mine.contains(&"sprop-stereo=1"), role == Role::Viewer && stereo);
        assert!(answered.values(&format!("a=rtpmap:{pt} ")) == ["opus/48000/2"]);
    }
}

fn check_feedback(offered: &Media<'_>, answered: &Media<'_>, role: Role) {
    for line in answered.values("a=rtcp-fb:") {
        let (pt, feedback) = line.split_once(' ').unwrap();
        let offered_as = |pt: &str| offered.values(&format!("a=rtcp-fb:{pt} ")).contains(&feedback);
        assert!(offered_as(pt) || offered_as("*"), "{line} was not offered");
        assert!(role == Role::Publisher || feedback != "transport-cc", "{line}");
        assert_ne!(feedback, "goog-remb", "{line} is never sent");
        assert_eq!(answered.values("a=rtcp-fb:").iter().filter(|other| **other == line).count(), 1);
    }
    let media = |pt: &&&str| answered.encoding(pt).is_some_and(|encoding| !encoding.starts_with("rtx"));
    for pt in answered.payload_types().iter().filter(media) {
        let of =
            |section: &Media<'_>, name: &str| section.values(&format!("a=rtcp-fb:{pt} ")).contains(&name);
        let wanted = |name: &str| of(offered, name) || offered.values("a=rtcp-fb:* ").contains(&name);
        for name in ["nack", "nack pli", "ccm fir"] {
            assert_eq!(of(answered, name), wanted(name), "{name} of {pt}");
        }
    }
}

/// The ends of the URIs that an answer accepts, in a section of this media and for this role.
fn accepted_extensions(media: &str, role: Role) -> Vec<&'static str> {
    let mut accepted = vec![":sdes:mid", "/abs-capture-time"];
    accepted.extend(match media {
        "audio" => &[":ssrc-audio-level"][..],
        _ => &[":video-orientation", "/playout-delay", "#dependency-descriptor-rtp-header-extension"],
    });
    accepted.extend(match (role, media) {
        (Role::Viewer, _) => &["/abs-send-time"][..],
        (Role::Publisher, "audio") => &["-transport-wide-cc-extensions-01"],
        (Role::Publisher, _) => {
            &["-transport-wide-cc-extensions-01", "sdes:rtp-stream-id", "sdes:repaired-rtp-stream-id"]
        }
    });
    accepted
}

fn check_extensions(offered: &Media<'_>, answered: &Media<'_>, role: Role) {
    let accepted = accepted_extensions(offered.words[0], role);
    let useless = if role == Role::Publisher { ["recvonly", "inactive"] } else { ["sendonly", "inactive"] };
    for line in offered.values("a=extmap:") {
        let (id, uri) = line.split_once(' ').unwrap();
        let uri = uri.split(' ').next().unwrap();
        let (id, direction) = id.split_once('/').unwrap_or((id, "sendrecv"));
        let flows = id.parse::<u16>().unwrap() <= 14 && !useless.contains(&direction);
        let named = !uri.ends_with(":sdes:mid") || offered.mid().is_some();
        let wanted = flows && named && accepted.iter().any(|end| uri.ends_with(end));
        let found = answered.values("a=extmap:").iter().any(|line| line.split(' ').nth(1) == Some(uri));
        assert_eq!(found, wanted, "{line} for a {role:?}");
    }
    let mut ids = Vec::new();
    for line in answered.values("a=extmap:") {
        let (id, uri) = line.split_once(' ').unwrap();
        let (id, suffix) = id.split_once('/').map_or((id, None), |(id, suffix)| (id, Some(suffix)));
        let mirrored = match suffix {
            Some("sendonly") => format!("{id}/recvonly {uri}"),
            Some("recvonly") => format!("{id}/sendonly {uri}"),
            None => format!("{id} {uri}"),
            Some(other) => panic!("direction {other} in an answer"),
        };
        let same = |offered: &&str| offered.split(' ').take(2).eq(mirrored.split(' '));
        assert!(offered.values("a=extmap:").iter().any(same), "{line} was not offered");
        assert!(!ids.contains(&id), "{id} twice");
        ids.push(id);
    }
}

fn check_candidates(answered: &Media<'_>, wanted: bool) {
    let lines = answered.values("a=candidate:");
    if !wanted {
        assert!(lines.is_empty() && answered.count("a=end-of-candidates") == 0);
        return;
    }
    assert_eq!(answered.lines.last(), Some(&"a=end-of-candidates"));
    assert_eq!(lines.len(), CANDIDATES.len() + TCP_CANDIDATES.len());
    let words: Vec<Vec<&str>> = lines.iter().map(|line| line.split(' ').collect()).collect();
    let priorities: Vec<u32> = words.iter().map(|words| words[3].parse().unwrap()).collect();
    assert!(priorities.windows(2).all(|pair| pair[0] > pair[1]), "the first is preferred");
    assert_eq!(priorities[0], 2_130_706_431, "RFC 8445 §5.1.2.1");
    let (udp, tcp) = words.split_at(CANDIDATES.len());
    assert!(udp.iter().all(|words| words[2] == "udp" && words.len() == 8), "the first of all is of UDP");
    assert!(tcp.iter().all(|words| words[2] == "tcp" && words[8..] == ["tcptype", "passive"]));
    for (words, address) in words.iter().zip(candidates().into_iter().chain(tcp_candidates())) {
        assert_eq!((words[1], words[6], words[7]), ("1", "typ", "host"));
        assert_eq!((words[4], words[5]), (&*address.ip().to_string(), &*address.port().to_string()));
        for other in &words_of_other_ip(&lines, words[4]) {
            assert_ne!(words[0], *other, "a foundation for each address");
        }
    }
}

fn words_of_other_ip<'a>(lines: &[&'a str], ip: &str) -> Vec<&'a str> {
    let others = lines.iter().filter(|line| line.split(' ').nth(4) != Some(ip));
    others.map(|line| line.split(' ').next().unwrap()).collect()
}

fn check_simulcast(offered: &Media<'_>, answered: &Media<'_>) {
    assert!(answered.values("a=ssrc").is_empty() && answered.values("a=msid").is_empty());
    let layers = offered.values("a=simulcast:send ").first().map(|text| text.split(';').count());
    let answered_layers = answered.values("a=simulcast:recv ").first().map(|text| text.split(';').count());
    assert_eq!(answered_layers, layers, "OBS counts the semicolons");
    assert_eq!(answered.values("a=simulcast").len(), usize::from(layers.is_some()));
    assert_eq!(answered.values("a=rid:").len(), layers.unwrap_or(0));
    assert!(answered.values("a=rid:").iter().all(|rid| rid.ends_with(" recv")));
}

fn check_sources(answered: &Media<'_>) {
    assert!(answered.values("a=rid:").is_empty() && answered.values("a=simulcast").is_empty());
    let track = answered.words[0];
    assert_eq!(answered.one("a=msid:"), format!("concert {track}"), "the same stream in each section");
    let lines = answered.lines.join("\n");
    let with_rtx = lines_with(&lines, "a=rtpmap:").iter().any(|line| line.contains(" rtx/"));
    let groups = answered.values("a=ssrc-group:FID ");
    assert_eq!(groups.len(), usize::from(with_rtx));
    let mut named: Vec<&str> =
        answered.values("a=ssrc:").iter().map(|line| line.split(' ').next().unwrap()).collect();
    named.dedup();
    assert_eq!(named.len(), 1 + groups.len());
    for ssrc in &named {
        assert_eq!(answered.count(&format!("a=ssrc:{ssrc} cname:uringcast")), 1);
        assert_eq!(answered.count(&format!("a=ssrc:{ssrc} msid:concert {track}")), 1);
    }
    assert!(groups.iter().all(|group| *group == named.join(" ")));
}

/// What the checker must notice: each line of an answer, changed alone, spoils it.
const SPOILED: [(&str, &str); 28] = [
    ("a=rtcp-mux-only\r\n", ""),
    ("a=rtcp-mux\r\n", ""),
    ("a=rtcp-rsize\r\n", ""),
    ("a=ice-lite\r\n", ""),
    ("a=sendonly", "a=recvonly"),
    ("a=setup:passive", "a=setup:active"),
    ("a=mid:1", "a=mid:2"),
    ("a=group:BUNDLE 0 1", "a=group:BUNDLE 1 0"),
    ("a=ice-pwd:", "a=ice-pwd:x"),
    ("a=fingerprint:sha-256 00", "a=fingerprint:sha-256 01"),
    ("SAVPF 96 97 98 99", "SAVPF 98 99 96 97"),
    ("SAVPF 96 97 98", "SAVPF 96 98"),
    ("a=rtpmap:96 VP8", "a=rtpmap:96 VP9"),
    ("a=rtcp-fb:96 nack\r\n", "a=rtcp-fb:96 nack\r\na=rtcp-fb:96 transport-cc\r\n"),
    ("a=rtcp-fb:96 nack pli\r\n", ""),
    ("a=fmtp:97 apt=96", "a=fmtp:97 apt=98"),
    ("profile-level-id=42e01f", "profile-level-id=42001f"),
    ("a=extmap:4 ", "a=extmap:6 "),
    ("a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\r\n", ""),
    ("a=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay\r\n", ""),
    (
        "a=extmap:4 ",
        "a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\na=extmap:4 ",
    ),
    ("a=sendonly", "a=extmap-allow-mixed\r\na=sendonly"),
    ("a=msid:concert video", "a=msid:other video"),
    ("a=ssrc-group:FID ", "a=ssrc-group:FID 1 "),
    ("a=end-of-candidates\r\n", ""),
    ("a=candidate:1 1 udp 2130706431", "a=candidate:1 1 udp 1"),
    ("a=mid:1", "a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\na=mid:1"),
    ("s=-\r\n", "s=-\n"),
];

#[test]
fn the_checker_notices_every_spoiled_line() {
    let offer = offer_named("chromium-156-whep");
    let answer = answer_to(&offer, Role::Viewer).unwrap();
    check(&offer, &answer, Role::Viewer);
    for (from, to) in SPOILED {
        let spoiled = answer.replace(from, to);
        assert_ne!(spoiled, answer, "{from}");
        let noticed = std::panic::catch_unwind(|| check(&offer, &spoiled, Role::Viewer)).is_err();
        assert!(noticed, "{from:?} -> {to:?}");
    }
}
