//! Names of streams, as they stand in URLs.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A stream's name: 1–64 characters of `A-Z a-z 0-9 . _ -`, the first no dot, no first path word of ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StreamName(String);

/// Longest name; fits a DNS label and a file name with room.
pub const NAME_BYTES_MAX: usize = 64;

/// First path words that mean something else, now or by contract.
const RESERVED: [&str; 20] = [
    "accounts",
    "admin",
    "api",
    "assets",
    "client",
    "docs",
    "embed",
    "favicon.ico",
    "health",
    "healthz",
    "metrics",
    "publish",
    "readyz",
    "robots.txt",
    "session",
    "static",
    "watch",
    "webrtc",
    "whep",
    "whip",
];

/// Why a text is no stream name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is its message")]
pub enum NameError {
    #[error(
        "A stream name has 1 to 64 characters, of letters, digits, dot, underscore and hyphen, and does not begin with a dot. Choose another name."
    )]
    Form,
    #[error("This name is a path of the server itself. Choose another name for the stream.")]
    Reserved,
}

impl StreamName {
    /// Checks a path segment.
    ///
    /// # Errors
    /// It cannot be a name.
    pub fn parse(text: &str) -> Result<StreamName, NameError> {
        let characters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !(1..=NAME_BYTES_MAX).contains(&text.len()) || !characters || text.starts_with('.') {
            return Err(NameError::Form);
        }
        if RESERVED.iter().any(|word| word.eq_ignore_ascii_case(text)) {
            return Err(NameError::Reserved);
        }
        Ok(StreamName(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_safe_in_urls_files_and_sdp_are_taken() {
        for good in ["demo", "a", "Studio_1.main-cam", &"x".repeat(64)] {
            assert!(StreamName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a b", "a%2fb", "ä", &"x".repeat(65)] {
            assert_eq!(StreamName::parse(bad), Err(NameError::Form), "{bad}");
        }
    }

    #[test]
    fn our_own_paths_are_no_names() {
        for word in ["api", "session", "publish", "watch", "embed", "client", "metrics", "WHIP", "accounts"] {
            assert_eq!(StreamName::parse(word), Err(NameError::Reserved), "{word}");
        }
    }
}
