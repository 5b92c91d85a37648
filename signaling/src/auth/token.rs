//! The API token: given, read from a file, or generated once and kept.

use crate::config::TokenSource;
use crate::error::StartError;
use crate::random;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use subtle::ConstantTimeEq;

/// The generated token's file in the state directory.
pub const FILE: &str = "api-token";
/// Shorter tokens can be guessed.
const BYTES_MIN: usize = 16;
/// A header of ours and no more.
const BYTES_MAX: usize = 1024;

/// The token that allows everything.
#[derive(Clone)]
pub struct ApiToken(String);

impl ApiToken {
    /// Finds the token, and generates it the first time.
    ///
    /// # Errors
    /// The file cannot be read or written, or its text is no token.
    pub fn find(source: &TokenSource, state_dir: &Path) -> Result<ApiToken, StartError> {
        match source {
            TokenSource::Value(text) => ApiToken::parse(text).map_err(StartError::TokenValue),
            TokenSource::File(path) => ApiToken::read(path)?.ok_or_else(|| StartError::TokenFile {
                path: path.clone(),
                cause: io::ErrorKind::NotFound.into(),
            }),
            TokenSource::Generated => {
                let path = state_dir.join(FILE);
                match ApiToken::read(&path)? {
                    Some(token) => Ok(token),
                    None => ApiToken::generate(path),
                }
            }
        }
    }

    /// Whether `given` is the token, in a time that does not tell how much of it is right.
    pub fn matches(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }

    fn parse(text: &str) -> Result<ApiToken, &'static str> {
        let text = text.trim();
        match text.len() {
            0 => Err("empty"),
            length if length < BYTES_MIN => Err("shorter than 16 characters, so it can be guessed"),
            length if length > BYTES_MAX => Err("longer than 1024 characters"),
            _ if !text.bytes().all(|byte| byte.is_ascii_graphic()) => Err("not visible ASCII"),
            _ => Ok(ApiToken(text.to_owned())),
        }
    }

    fn read(path: &Path) -> Result<Option<ApiToken>, StartError> {
        match fs::read_to_string(path) {
            Ok(text) => ApiToken::parse(&text)
                .map(Some)
                .map_err(|problem| StartError::TokenText { path: path.to_owned(), problem }),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(StartError::TokenFile { path: path.to_owned(), cause }),
        }
    }

    fn generate(path: PathBuf) -> Result<ApiToken, StartError> {
        let token = random::hex(&random::bytes::<32>().map_err(|_| StartError::Random)?);
        write_private(&path, &format!("{token}\n")).map_err(|cause| StartError::StateDir { path, cause })?;
        Ok(ApiToken(token))
    }
}

/// Writes a file that only its owner may read, whole or not at all.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let _ = fs::remove_file(&unfinished);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("uringcast-token-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("folder");
        path
    }

    #[test]
    fn a_generated_token_is_kept_and_private() {
        let folder = folder("kept");
        let first = ApiToken::find(&TokenSource::Generated, &folder).expect("token");
        let second = ApiToken::find(&TokenSource::Generated, &folder).expect("token");
        assert!(second.matches(&first.0));
        assert_eq!(first.0.len(), 64);
        let mode = fs::metadata(folder.join(FILE)).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_token_is_compared_whole() {
        let token = ApiToken::parse("0123456789abcdef").expect("token");
        assert!(token.matches("0123456789abcdef"));
        assert!(!token.matches("0123456789abcde"));
        assert!(!token.matches("0123456789abcdeF"));
        assert!(!token.matches(""));
    }

    #[test]
    fn weak_and_missing_tokens_are_refused() {
        let find = |source| ApiToken::find(&source, Path::new("/nonexistent"));
        assert!(find(TokenSource::Value("short".into())).is_err());
        assert!(find(TokenSource::Value("with a space in it".into())).is_err());
        assert!(find(TokenSource::File("/nonexistent/token".into())).is_err());
        assert!(find(TokenSource::Generated).is_err());
    }
}
