//! STUN and TURN servers that clients are told of, and the credentials for them.

use super::ConfigError;
use super::values::Reader;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A day: sessions of a broadcast last hours, and TURN asks for the credentials again whenever an allocation is refreshed.
const LIFETIME_DEFAULT: Duration = Duration::from_secs(86_400);
/// Seconds; a month is long enough to be forgotten.
const LIFETIME_MAX: f64 = 30.0 * 86_400.0;
/// A minute is the least that survives a slow join.
const LIFETIME_MIN: f64 = 60.0;

/// What every client is told.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct IceServers {
    /// In the order in which they were written.
    pub urls: Vec<IceServerUrl>,
    /// For those among them that are TURN servers.
    pub turn: TurnCredentials,
}

/// How a client identifies itself to a TURN server.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum TurnCredentials {
    /// There is no TURN server.
    #[default]
    None,
    /// The same for everybody (RFC 8489 §9.2).
    Static {
        /// User name.
        username: String,
        /// Password.
        credential: String,
    },
    /// Made for each answer, valid for a time: what coturn calls `use-auth-secret`.
    Secret {
        /// Shared with the TURN server.
        secret: String,
        /// Follows the expiry in the user name; empty for none.
        username: String,
        /// How long they are good.
        lifetime: Duration,
    },
}

/// A `stun:`, `stuns:`, `turn:` or `turns:` URL (RFC 7064 §3.1, RFC 7065 §3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceServerUrl(String);

impl IceServerUrl {
    /// Whether it needs credentials.
    pub fn is_turn(&self) -> bool {
        self.0.starts_with("turn")
    }
}

impl fmt::Display for IceServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for IceServerUrl {
    type Err = ();

    fn from_str(text: &str) -> Result<IceServerUrl, ()> {
        let (scheme, rest) = text.split_once(':').ok_or(())?;
        let (server, query) =
            rest.split_once('?').map_or((rest, None), |(server, query)| (server, Some(query)));
        let query_is_good = match scheme {
            "stun" | "stuns" => query.is_none(),
            "turn" | "turns" => matches!(query, None | Some("transport=udp" | "transport=tcp")),
            _ => false,
        };
        let authority: hyper::http::uri::Authority = server.parse().map_err(|_| ())?;
        let plain = server.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
        let port = server.strip_prefix(authority.host()).ok_or(())?;
        let port_is_good = match port.strip_prefix(':') {
            Some(port) => port.parse().is_ok_and(|port: u16| port > 0),
            None => port.is_empty(),
        };
        if query_is_good && plain && port_is_good && !authority.host().is_empty() {
            Ok(IceServerUrl(text.to_owned()))
        } else {
            Err(())
        }
    }
}

impl Reader<'_> {
    /// Servers and credentials that fit to each other.
    pub(super) fn ice_servers(&mut self) -> IceServers {
        let urls: Vec<IceServerUrl> = self.many("ice-server");
        let turn = self.turn_credentials();
        let wanted = urls.iter().any(IceServerUrl::is_turn);
        // A server that was written and could not be read has been complained about already.
        let all_read = self.written("ice-server") == urls.len();
        match &turn {
            Some(TurnCredentials::None) if wanted => self.complain(
                "a turn: server in --ice-server needs credentials: give --turn-username and --turn-credential, or --turn-secret",
            ),
            Some(TurnCredentials::Static { .. } | TurnCredentials::Secret { .. }) if !wanted && all_read => {
                self.complain("credentials for TURN are given but no server: add --ice-server turn:HOST");
            }
            _ => {}
        }
        IceServers { urls, turn: turn.unwrap_or_default() }
    }

    /// `None` after a complaint.
    fn turn_credentials(&mut self) -> Option<TurnCredentials> {
        let username = self.one::<String>("turn-username");
        let credential = self.one::<String>("turn-credential");
        let secret = self.one::<String>("turn-secret");
        let lifetime = self.turn_lifetime(secret.is_some());
        for text in [&username, &credential].into_iter().flatten() {
            if !fits_link(text) {
                return self.contradiction(
                    "--turn-username and --turn-credential must be visible ASCII without , ; \" and \\: OBS takes commas and semicolons for separators",
                );
            }
        }
        match (username, credential, secret) {
            (None, None, None) => Some(TurnCredentials::None),
            (Some(username), Some(credential), None) => Some(TurnCredentials::Static { username, credential }),
            (username, None, Some(secret)) => {
                Some(TurnCredentials::Secret { secret, username: username.unwrap_or_default(), lifetime })
            }
            (_, Some(_), Some(_)) => self.contradiction(
                "--turn-credential and --turn-secret exclude each other: the secret makes a credential for each client",
            ),
            (Some(_), None, None) => {
                self.contradiction("--turn-username needs --turn-credential, or --turn-secret")
            }
            (None, Some(_), None) => self.contradiction("--turn-credential needs --turn-username"),
        }
    }

    fn turn_lifetime(&mut self, has_secret: bool) -> Duration {
        let Some(seconds) = self.one::<f64>("turn-lifetime") else { return LIFETIME_DEFAULT };
        if !(LIFETIME_MIN..=LIFETIME_MAX).contains(&seconds) {
            self.complain("--turn-lifetime must lie between 60 seconds and 30 days (2592000)");
            return LIFETIME_DEFAULT;
        }
        if !has_secret {
            self.complain("--turn-lifetime means nothing without --turn-secret");
        }
        Duration::from_secs_f64(seconds)
    }

    fn complain(&mut self, text: &'static str) {
        self.errors.push(ConfigError::Contradiction(text));
    }
}

/// Whether a text can stand in quotes in a Link header that simple parsers read.
fn fits_link(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && !b",;\"\\".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_stun_and_turn_servers_are_known() {
        for good in [
            "stun:stun.example.com",
            "stun:192.0.2.1:3478",
            "stuns:stun.example.com:5349",
            "turn:[2001:db8::1]:3478",
            "turn:turn.example.com?transport=udp",
            "turns:turn.example.com:443?transport=tcp",
        ] {
            assert_eq!(good.parse::<IceServerUrl>().map(|url| url.to_string()), Ok(good.to_owned()));
        }
    }

    #[test]
    fn what_a_browser_would_refuse_is_refused_here() {
        for bad in [
            "",
            "stun.example.com",
            "stun:",
            "http://example.com",
            "stun://example.com",
            "stun:example.com?transport=udp",
            "turn:example.com?transport=sctp",
            "turn:user@example.com",
            "turn:example.com:0",
            "turn:example.com:x",
            "turn:example.com/path",
            "turn:exa;mple.com",
            "turn:exa mple.com",
            "turn:example.com>",
            "TURN:example.com",
        ] {
            assert!(bad.parse::<IceServerUrl>().is_err(), "{bad}");
        }
    }
}
