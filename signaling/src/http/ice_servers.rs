//! `Link` headers that name STUN and TURN servers to clients (RFC 9725 §4.6).

use crate::config::{IceServers, TurnCredentials};
use crate::time::unix_seconds;
use aws_lc_rs::hmac;
use base64::prelude::{BASE64_STANDARD, Engine};
use hyper::HeaderMap;
use hyper::header::{HeaderValue, LINK};
use std::sync::{PoisonError, RwLock};

/// The servers that clients are told of.
pub struct ToldServers(RwLock<IceServers>);

impl ToldServers {
    /// These, for now.
    pub fn new(servers: IceServers) -> ToldServers {
        ToldServers(RwLock::new(servers))
    }

    /// Others from now on. Credentials that clients have already are good for as long as the TURN servers take them.
    pub fn set(&self, servers: IceServers) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = servers;
    }

    /// Adds their headers, with credentials that are made now.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        let servers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        add(headers, &servers, unix_seconds());
    }
}

/// Adds a header for each server. One server a line: parsers that split at every comma get along with that. The type of the
/// credential stood in the drafts of RFC 9725; MediaMTX's clients take no credential without it, and others pass over it.
fn add(headers: &mut HeaderMap, servers: &IceServers, now: u64) {
    if servers.urls.is_empty() {
        return;
    }
    let credentials = credentials(&servers.turn, now).map_or_else(String::new, |(username, credential)| {
        format!("; username=\"{username}\"; credential=\"{credential}\"; credential-type=\"password\"")
    });
    for url in &servers.urls {
        let parameters = if url.is_turn() { credentials.as_str() } else { "" };
        let link = HeaderValue::try_from(format!("<{url}>; rel=\"ice-server\"{parameters}"));
        headers.extend(link.ok().map(|link| (LINK, link)));
    }
}

/// User name and password.
fn credentials(turn: &TurnCredentials, now: u64) -> Option<(String, String)> {
    match turn {
        TurnCredentials::None => None,
        TurnCredentials::Static { username, credential } => Some((username.clone(), credential.clone())),
        TurnCredentials::Secret { secret, username, lifetime } => {
            let expiry = now + lifetime.as_secs();
            let username =
                if username.is_empty() { expiry.to_string() } else { format!("{expiry}:{username}") };
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
            let credential = BASE64_STANDARD.encode(hmac::sign(&key, username.as_bytes()));
            Some((username, credential))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn links(servers: &[&str], turn: TurnCredentials) -> Vec<String> {
        let urls = servers.iter().map(|url| url.parse().expect("URL")).collect();
        let mut headers = HeaderMap::new();
        add(&mut headers, &IceServers { urls, turn }, 1_000_000);
        headers.get_all(LINK).iter().map(|link| link.to_str().expect("ASCII").to_owned()).collect()
    }

    #[test]
    fn each_server_has_a_line_and_only_turn_has_credentials() {
        let turn = TurnCredentials::Static { username: "user".into(), credential: "myPassword".into() };
        let expected = [
            "<stun:stun.example.net>; rel=\"ice-server\"",
            "<turn:turn.example.net?transport=udp>; rel=\"ice-server\"; username=\"user\"; credential=\"myPassword\"; \
             credential-type=\"password\"",
        ];
        assert_eq!(links(&["stun:stun.example.net", "turn:turn.example.net?transport=udp"], turn), expected);
        assert!(links(&[], TurnCredentials::None).is_empty());
    }

    #[test]
    fn a_secret_makes_the_credentials_that_coturn_expects() {
        let credentials = |username: &str| {
            let lifetime = Duration::from_secs(600);
            links(
                &["turn:t"],
                TurnCredentials::Secret { secret: "north".into(), username: username.into(), lifetime },
            )
        };
        // printf '1000600:viewer' | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(
            credentials("viewer"),
            [
                "<turn:t>; rel=\"ice-server\"; username=\"1000600:viewer\"; credential=\"Cf81QOaQ8LITxEPvlCpnq6xfiY0=\"; credential-type=\"password\""
            ]
        );
        // printf 1000600 | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(
            credentials(""),
            [
                "<turn:t>; rel=\"ice-server\"; username=\"1000600\"; credential=\"HpDldf0chzhAme2mgP9t+HkbPpc=\"; credential-type=\"password\""
            ]
        );
    }
}
