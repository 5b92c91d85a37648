//! What signaling finds again after its own restart: it travels with the session plan and comes back in the hello.

use super::StreamName;
use crate::auth::Credential;
use crate::random;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The secret in a session URL: 128 random bits, because whoever knows the URL may end the session (RFC 9725 §5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UrlId(pub [u8; 16]);

impl UrlId {
    /// Reads the path segment.
    pub fn parse(text: &str) -> Option<UrlId> {
        let digits =
            text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let number = u128::from_str_radix(text, 16).ok().filter(|_| digits)?;
        Some(UrlId(number.to_be_bytes()))
    }
}

impl fmt::Display for UrlId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&random::hex(&self.0))
    }
}

/// Never the secret: this is what reaches logs.
impl fmt::Debug for UrlId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UrlId({}…)", random::hex(&self.0[..2]))
    }
}

/// Signaling's facts about a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// The secret of its URL.
    pub url: UrlId,
    /// The stream's name.
    pub name: StreamName,
    /// The opaque part of the ICE session's entity tag.
    pub etag: u64,
    /// On what ground it was allowed.
    pub credential: Credential,
    /// When, in Unix seconds.
    pub created: u64,
}

impl Blob {
    /// As media keeps it. Empty only if memory for it could not be had.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// The entity tag as the header has it: strong, quoted (RFC 9110 §8.8.3).
    pub fn etag(&self) -> String {
        Blob::etag_of(self.etag)
    }

    /// The same for a session that is not there yet.
    pub fn etag_of(etag: u64) -> String {
        format!("\"{etag:016x}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_url_reads_back_and_nothing_else_does() {
        let id = UrlId([7; 16]);
        assert_eq!(UrlId::parse(&id.to_string()), Some(id));
        for bad in
            ["", "07", &"g".repeat(32), &"0".repeat(33), &"A".repeat(32), "+0000000000000000000000000000000"]
        {
            assert_eq!(UrlId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn debug_output_keeps_the_secret() {
        assert!(!format!("{:?}", UrlId([7; 16])).contains("070707"));
    }
}
