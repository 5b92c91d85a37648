//! Data channels in an offer. Nothing here has any, but MediaMTX's player always offers one beside its media. The WHEP draft says
//! nothing of it, so a viewer gets its media and an m-section with port 0 (RFC 9429 §5.3.1); a publisher gets none of
//! that (RFC 9725 §4.4.3).

use super::attributes::Attribute;

/// The formats of an m= line for data channels over DTLS (RFC 8841 §4.2), with their only association.
const PROTOCOLS: [&str; 2] = ["UDP/DTLS/SCTP", "TCP/DTLS/SCTP"];
const USAGE: &str = "webrtc-datachannel";

/// An m-section for data channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DataChannel {
    /// Of its m= line, counted from 1.
    pub(super) line: usize,
    /// How many m-sections with media stand before it.
    pub(super) after: usize,
    protocol: &'static str,
    /// `None` also for an empty one.
    pub(super) mid: Option<String>,
}

impl DataChannel {
    /// Reads `application <port> <protocol> webrtc-datachannel`; `None` if it is something else.
    pub(super) fn parse(line: usize, after: usize, text: &str) -> Option<DataChannel> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let ["application", port, offered, USAGE] = words[..] else { return None };
        port.parse::<u16>().ok()?;
        let protocol = PROTOCOLS.into_iter().find(|protocol| *protocol == offered)?;
        Some(DataChannel { line, after, protocol, mid: None })
    }

    /// Takes its name; the first counts. Nothing else matters of what is declined.
    pub(super) fn attribute(&mut self, attribute: Attribute<'_>) {
        match attribute {
            Attribute::Mid("") => {}
            Attribute::Mid(mid) => _ = self.mid.get_or_insert_with(|| mid.to_owned()),
            _ => {}
        }
    }

    /// The m= line of the answer, which declines it.
    pub(super) fn media_line(&self) -> String {
        format!("m=application 0 {} {USAGE}", self.protocol)
    }
}
