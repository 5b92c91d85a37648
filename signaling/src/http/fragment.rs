//! SDP fragments of PATCH requests and of their answers (`application/trickle-ice-sdpfrag`, RFC 8840 §4.4, RFC 9725 §4.3).
//!
//! Line based and in one pass; every bound below is checked before the work that it bounds. An ICE-lite server learns the
//! addresses of its clients from their checks, so of candidates only the form is looked at.

use crate::sdp::ICE_SESSION_LINES;
use sfu::control::protocol::IceCredentials;
use sfu::core::codec::MediaKind;
use sfu::core::plan::{are_ice_credentials, is_token};

/// Bytes of a fragment: [`CANDIDATES_MAX`] candidates of 120 bytes, and room.
const BYTES_MAX: usize = 32 << 10;
/// Lines of a fragment: its candidates, and an m-line with mid and credentials for each of the m-sections.
const LINES_MAX: usize = 512;
/// Candidates in one fragment, as many as in an offer: ten addresses, UDP and two kinds of TCP, for both m-sections, four
/// times over.
const CANDIDATES_MAX: usize = 256;
/// RFC 8839 §5.4.
const CREDENTIAL_BYTES_MAX: usize = 256;

/// Why a text is no fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// A bound of the parser.
    #[error(
        "The fragment is too large: at most {max} {what} are accepted. Spread the candidates over several PATCH requests."
    )]
    TooLarge {
        /// What there is too much of, in the plural.
        what: &'static str,
        /// The largest accepted number of them.
        max: usize,
    },
    /// There is not one line in it.
    #[error(
        "The body is empty. Send an SDP fragment with the ICE credentials and the candidates (RFC 8840 §4.4)."
    )]
    Empty,
    /// A line that cannot be read.
    #[error("Line {line} of the SDP fragment is malformed: expected {expected} (RFC 8840 §4.4).")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// The grammar that the line breaks.
        expected: &'static str,
    },
    /// One BUNDLE group has one ICE session.
    #[error(
        "The fragment has two different values of a=ice-ufrag or a=ice-pwd; all of a session's m-sections share one transport."
    )]
    SeveralSessions,
    /// Half of a restart.
    #[error(
        "The fragment has a new a=ice-ufrag and no a=ice-pwd of at least 22 characters; an ICE restart needs both (RFC 9725 §4.3.3)."
    )]
    HalfCredentials,
}

/// What a fragment says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fragment {
    /// User name fragment of the ICE session that it belongs to.
    pub ufrag: Option<String>,
    pwd: Option<String>,
    /// How many candidates it brings, those included that nobody here can use.
    pub candidates: usize,
    /// No more candidates will come. Not to be trusted: requests overtake each other.
    pub end_of_candidates: bool,
}

impl Fragment {
    /// Reads a fragment.
    ///
    /// Real ones have no m-line at all (whip-whep's restart) or several, `RTP/AVP` in it, credentials above or below it, component
    /// 0 and addresses in brackets (@eyevinn/whip-web-client), or a bare `a=` (Firefox's end of candidates through whip.js).
    ///
    /// # Errors
    /// It is empty or too large, or one of its lines breaks the grammar.
    pub fn parse(body: &str) -> Result<Fragment, FragmentError> {
        within(body.len(), BYTES_MAX, "bytes")?;
        let mut fragment = Fragment::default();
        let mut lines = 0;
        for (index, line) in body.lines().enumerate() {
            within(index + 1, LINES_MAX, "lines")?;
            let line = line.trim_end();
            if !line.is_empty() {
                lines += 1;
                fragment.line(index + 1, line)?;
            }
        }
        if lines == 0 { Err(FragmentError::Empty) } else { Ok(fragment) }
    }

    fn line(&mut self, number: usize, line: &str) -> Result<(), FragmentError> {
        let malformed = |expected| FragmentError::Malformed { line: number, expected };
        match line.split_once('=') {
            Some(("a", attribute)) => self.attribute(number, attribute),
            Some(("m", media)) if is_media_line(media) => Ok(()),
            Some(("m", _)) => Err(malformed("m=<media> <port> <protocol> <formats>")),
            // Lines of whole descriptions (v=, c=, …) are passed over as those of unknown attributes are.
            Some((kind, _)) if kind.len() == 1 && kind.as_bytes()[0].is_ascii_lowercase() => Ok(()),
            _ => Err(malformed("<letter>=<value>")),
        }
    }

    fn attribute(&mut self, line: usize, attribute: &str) -> Result<(), FragmentError> {
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        let value = value.trim();
        match name {
            "ice-ufrag" => set(&mut self.ufrag, line, value),
            "ice-pwd" => set(&mut self.pwd, line, value),
            "end-of-candidates" => {
                self.end_of_candidates = true;
                Ok(())
            }
            "mid" if !is_token(value) => Err(FragmentError::Malformed { line, expected: "a=mid:<token>" }),
            // An empty candidate is how browsers' scripts see the end of gathering.
            "candidate" if !value.is_empty() => self.candidate(line, value),
            _ => Ok(()),
        }
    }

    /// Unknown transports, names that nobody can resolve (`….local`) and strange components are no errors (RFC 9725 §4.3.2).
    fn candidate(&mut self, line: usize, value: &str) -> Result<(), FragmentError> {
        self.candidates += 1;
        within(self.candidates, CANDIDATES_MAX, "candidates")?;
        let expected =
            "a=candidate:<foundation> <component> <transport> <priority> <address> <port> typ <type>";
        if is_candidate(value) { Ok(()) } else { Err(FragmentError::Malformed { line, expected }) }
    }

    /// The credentials with which ICE is to restart.
    ///
    /// # Errors
    /// They are not whole.
    pub fn credentials(&self) -> Result<IceCredentials, FragmentError> {
        match (&self.ufrag, &self.pwd) {
            (Some(ufrag), Some(pwd)) if are_ice_credentials(ufrag, pwd) => {
                Ok(IceCredentials { ufrag: ufrag.clone(), pwd: pwd.clone() })
            }
            _ => Err(FragmentError::HalfCredentials),
        }
    }
}

/// Keeps the value that every level and m-section must agree on.
fn set(slot: &mut Option<String>, line: usize, value: &str) -> Result<(), FragmentError> {
    let ice_char = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    if value.is_empty() || value.len() > CREDENTIAL_BYTES_MAX || !value.bytes().all(ice_char) {
        return Err(FragmentError::Malformed { line, expected: "at most 256 letters, digits, + and /" });
    }
    match slot {
        Some(known) if known != value => Err(FragmentError::SeveralSessions),
        _ => {
            *slot = Some(value.to_owned());
            Ok(())
        }
    }
}

fn within(count: usize, max: usize, what: &'static str) -> Result<(), FragmentError> {
    if count > max { Err(FragmentError::TooLarge { what, max }) } else { Ok(()) }
}

/// `<media> <port> <protocol> <format>…`
fn is_media_line(media: &str) -> bool {
    let mut words = media.split_ascii_whitespace();
    let (Some(_), Some(port), Some(_), Some(_)) = (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    port.split('/').next().is_some_and(|port| port.parse::<u16>().is_ok())
}

/// `candidate-attribute` of RFC 8839 §5.1, with the component id free and the address any word.
fn is_candidate(value: &str) -> bool {
    let words: Vec<&str> = value.split_ascii_whitespace().take(8).collect();
    let [_, component, _, priority, _, port, "typ", _] = words[..] else { return false };
    component.parse::<u16>().is_ok() && priority.parse::<u32>().is_ok() && port.parse::<u16>().is_ok()
}

/// Our half of a restarted ICE session.
#[derive(Debug, Clone, Copy)]
pub struct Restarted<'a> {
    /// The mids of the BUNDLE group, its tagged one first.
    pub mids: &'a [String],
    /// What the tagged m-section is.
    pub kind: MediaKind,
    /// Our new credentials.
    pub local: &'a IceCredentials,
    /// Where media listens for this client best. Only one address: whip-whep joins several lines with commas.
    pub candidate: Option<&'a str>,
}

impl Restarted<'_> {
    /// The body of the 200: the lines of RFC 9725's figure 4, CRLF at the end of each, which whip-whep looks for.
    pub fn write(&self) -> String {
        let IceCredentials { ufrag, pwd } = self.local;
        let mut lines: Vec<String> = ICE_SESSION_LINES.map(str::to_owned).into();
        lines.push(format!("a=group:BUNDLE {}", self.mids.join(" ")));
        lines.push(format!("m={} 9 UDP/TLS/RTP/SAVPF 0", self.kind));
        lines.extend(self.mids.first().map(|mid| format!("a=mid:{mid}")));
        lines.push(format!("a=ice-ufrag:{ufrag}"));
        lines.push(format!("a=ice-pwd:{pwd}"));
        lines.extend(self.candidate.map(|candidate| format!("a=candidate:{candidate}")));
        lines.push("a=end-of-candidates".to_owned());
        lines.iter().map(|line| format!("{line}\r\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n";
    const MEDIA: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n";

    fn parse(parts: &[&str]) -> Result<Fragment, FragmentError> {
        Fragment::parse(&parts.concat())
    }

    fn fragment(candidates: usize, end_of_candidates: bool) -> Fragment {
        let (ufrag, pwd) = (Some("EsAw".to_owned()), Some("P2uYro0UCOQ4zxjKXaWCBui1".to_owned()));
        Fragment { ufrag, pwd, candidates, end_of_candidates }
    }

    #[test]
    fn the_fragments_of_the_rfc_are_read() {
        let candidates = "a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n\
                          a=candidate:473322822 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active generation 0\r\n";
        let trickle = ["a=group:BUNDLE 0 1\r\n", MEDIA, CREDENTIALS, candidates, "a=end-of-candidates\r\n"];
        assert_eq!(parse(&trickle), Ok(fragment(2, true)));
        let restart =
            ["a=ice-options:trickle ice2\r\na=group:BUNDLE 0 1\r\n", MEDIA, CREDENTIALS, candidates];
        assert_eq!(parse(&restart), Ok(fragment(2, false)));
    }

    #[test]
    fn credentials_may_stand_above_or_below_the_m_line_or_alone() {
        assert_eq!(parse(&[CREDENTIALS, MEDIA]), Ok(fragment(0, false)));
        assert_eq!(parse(&[MEDIA, CREDENTIALS]), Ok(fragment(0, false)));
        assert_eq!(parse(&[CREDENTIALS]), Ok(fragment(0, false)));
        let eyevinn = "m=audio 9 RTP/AVP 0\na=mid:0\na=ice-ufrag:EsAw\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\n\
                       a=candidate:1 0 UDP 1 [2001:db8::1] 9 typ host\nm=video 9 RTP/AVP 0\na=mid:1\na=ice-ufrag:EsAw\n";
        assert_eq!(parse(&[eyevinn]), Ok(fragment(1, false)));
    }

    #[test]
    fn candidates_that_nobody_here_can_use_are_no_errors() {
        for candidate in [
            "1 1 udp 1 3b3f2a90-1111-4222-8333-944455556666.local 9 typ host",
            "1 2 UDP 2130379007 10.0.0.1 9 typ host",
            "1 0 udp 1 10.0.0.1 9 typ host",
            "1 1 TCP 1 10.0.0.1 9 typ host tcptype passive",
            "1 1 sctp 1 10.0.0.1 9 typ host",
            "1 1 udp 1 [fd00::1] 9 typ srflx raddr 10.0.0.1 rport 9",
            "a+b/c 1 udp 4294967295 fd00::1 65535 typ relay",
        ] {
            let line = format!("a=candidate:{candidate}\r\n");
            assert_eq!(parse(&[CREDENTIALS, MEDIA, &line]), Ok(fragment(1, false)), "{candidate}");
        }
    }

    #[test]
    fn the_empty_candidate_of_browsers_is_passed_over() {
        for line in ["a=\r\n", "a=candidate:\r\n", "a=candidate: \r\n", "\r\n", "a=something:else\r\n"] {
            assert_eq!(parse(&[CREDENTIALS, MEDIA, line]), Ok(fragment(0, false)), "{line:?}");
        }
        assert_eq!(parse(&["a=end-of-candidates\r\n"]).map(|fragment| fragment.end_of_candidates), Ok(true));
    }

    #[test]
    fn texts_that_are_no_fragments_are_malformed() {
        for bad in [
            "hello",
            "{\"candidate\":1}",
            "candidate=1",
            "A=x",
            "=x",
            "m=audio",
            "m=audio x y z",
            "m=audio 9 RTP/AVP",
        ] {
            assert!(matches!(parse(&[bad]), Err(FragmentError::Malformed { line: 1, .. })), "{bad:?}");
        }
        for bad in [
            "ice-ufrag:",
            "ice-ufrag:a b",
            "ice-pwd:\u{e4}",
            "mid:",
            "mid:a b",
            "candidate:1 1 udp",
            "candidate:1 1 udp x 10.0.0.1 9 typ host",
            "candidate:1 1 udp 1 10.0.0.1 70000 typ host",
            "candidate:1 1 udp 1 10.0.0.1 9 host",
        ] {
            let line = format!("a={bad}\r\n");
            assert!(
                matches!(parse(&[MEDIA, &line]), Err(FragmentError::Malformed { line: 3, .. })),
                "{bad:?}"
            );
        }
        assert_eq!(parse(&[]), Err(FragmentError::Empty));
        assert_eq!(parse(&["\r\n\r\n"]), Err(FragmentError::Empty));
    }

    #[test]
    fn sizes_and_counts_are_bounded() {
        let too_large = |what, max| Err(FragmentError::TooLarge { what, max });
        assert_eq!(parse(&["a=x\n".repeat(LINES_MAX + 1).as_str()]), too_large("lines", LINES_MAX));
        assert_eq!(parse(&["x".repeat(BYTES_MAX + 1).as_str()]), too_large("bytes", BYTES_MAX));
        let candidate = "a=candidate:1 1 udp 1 10.0.0.1 9 typ host\n";
        assert_eq!(
            parse(&[&candidate.repeat(CANDIDATES_MAX)]).map(|fragment| fragment.candidates),
            Ok(CANDIDATES_MAX)
        );
        assert_eq!(parse(&[&candidate.repeat(CANDIDATES_MAX + 1)]), too_large("candidates", CANDIDATES_MAX));
        let long = format!("a=ice-ufrag:{}\n", "x".repeat(CREDENTIAL_BYTES_MAX + 1));
        assert!(matches!(parse(&[&long]), Err(FragmentError::Malformed { .. })));
    }

    #[test]
    fn damaged_fragments_are_read_or_refused_and_never_more_than_they_were() {
        let whole =
            [CREDENTIALS, MEDIA, "a=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n", "a=end-of-candidates\r\n"]
                .concat();
        let damages = ["", "\0", "=", " ", ":", "\r\n", "9", "\u{e4}", "a=candidate:"];
        for at in 0..=whole.len() {
            let (head, tail) = whole.split_at(at);
            for damage in damages {
                for text in
                    [format!("{head}{damage}"), format!("{head}{damage}{tail}"), format!("{damage}{tail}")]
                {
                    let Ok(fragment) = Fragment::parse(&text) else { continue };
                    assert!(fragment.candidates <= text.matches("a=candidate:").count(), "{text:?}");
                    assert!(fragment.ufrag.is_none_or(|ufrag| text.contains(&ufrag)), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn two_ice_sessions_in_one_fragment_are_refused() {
        assert_eq!(
            parse(&[CREDENTIALS, MEDIA, "a=ice-ufrag:other\r\n"]),
            Err(FragmentError::SeveralSessions)
        );
        assert_eq!(
            parse(&[CREDENTIALS, "a=ice-pwd:0123456789012345678901\r\n"]),
            Err(FragmentError::SeveralSessions)
        );
    }

    #[test]
    fn a_restart_needs_both_credentials_in_full_length() {
        let credentials = |text: &str| Fragment::parse(text).and_then(|fragment| fragment.credentials());
        assert_eq!(credentials(CREDENTIALS).map(|given| given.ufrag), Ok("EsAw".to_owned()));
        for half in [
            "a=ice-ufrag:EsAw",
            "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1",
            "a=ice-ufrag:abc\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1",
            "a=ice-ufrag:EsAw\na=ice-pwd:short",
        ] {
            assert_eq!(credentials(half), Err(FragmentError::HalfCredentials), "{half}");
        }
    }

    #[test]
    fn the_answer_to_a_restart_reads_as_the_rfc_shows_it_and_as_a_fragment() {
        let local = IceCredentials { ufrag: "ours".into(), pwd: "p".repeat(24) };
        let mids = ["0".to_owned(), "1".to_owned()];
        let candidate = Some("1 1 udp 2130706431 198.51.100.1 8200 typ host");
        let text = Restarted { mids: &mids, kind: MediaKind::Audio, local: &local, candidate }.write();
        let lines = [
            "a=ice-lite",
            "a=ice-options:trickle ice2",
            "a=group:BUNDLE 0 1",
            "m=audio 9 UDP/TLS/RTP/SAVPF 0",
            "a=mid:0",
            "a=ice-ufrag:ours",
            "a=ice-pwd:pppppppppppppppppppppppp",
            "a=candidate:1 1 udp 2130706431 198.51.100.1 8200 typ host",
            "a=end-of-candidates",
            "",
        ];
        assert_eq!(text, lines.join("\r\n"));
        assert_eq!(Fragment::parse(&text).and_then(|fragment| fragment.credentials()), Ok(local));
    }
}
