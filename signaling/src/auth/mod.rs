//! Who may do what: the API token allows everything, open mode allows some things without it.

pub mod open;
pub mod token;

use crate::config::OpenMode;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use open::Foreign;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};
use token::ApiToken;

/// On what ground a session was allowed. A publisher may be replaced by one with the same ground or a better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Credential {
    /// Open mode: nobody knows who it is.
    Open,
    /// The API token.
    ApiToken,
}

/// Why a request is answered with 401, or with 400 if it contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is its message")]
pub enum Denied {
    #[error(
        "The bearer token is not the API token. Send `Authorization: Bearer <API token>`; the server keeps it in STATE_DIR/api-token unless --api-token or --api-token-file says otherwise."
    )]
    WrongToken,
    #[error(
        "This needs `Authorization: Bearer <API token>`. The server keeps the token in STATE_DIR/api-token unless --api-token or --api-token-file says otherwise; --open lets anyone publish and watch."
    )]
    TokenNeeded,
    #[error(
        "Without a token only requests from this host are served, and the request {0}. Send `Authorization: Bearer <API token>` (kept in STATE_DIR/api-token), or start the server with --open, which lets anyone publish and watch."
    )]
    Foreign(Foreign),
    #[error(
        "The request has one token in its Authorization header and another in ?access_token=. Send one of them (RFC 6750 §2)."
    )]
    TwoTokens,
}

/// The doorkeeper.
pub struct Access {
    token: RwLock<ApiToken>,
    open: OpenMode,
}

impl Access {
    /// Knows the token and who needs none.
    pub fn new(token: ApiToken, open: OpenMode) -> Access {
        Access { token: RwLock::new(token), open }
    }

    /// Takes another token from now on; sessions that live stay.
    pub fn set_token(&self, token: ApiToken) {
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// May this request publish or watch?
    ///
    /// # Errors
    /// It may not; the words name the cure.
    pub fn media(&self, request: &Parts, peer: IpAddr) -> Result<Credential, Denied> {
        let denied = match self.header_or_query(request) {
            Ok(()) => return Ok(Credential::ApiToken),
            Err(Denied::TwoTokens) => return Err(Denied::TwoTokens),
            Err(denied) => denied,
        };
        match self.open {
            OpenMode::Everyone => Ok(Credential::Open),
            OpenMode::Off => Err(denied),
            OpenMode::ThisHost => {
                open::from_this_host(request, peer).map(|()| Credential::Open).map_err(Denied::Foreign)
            }
        }
    }

    /// May this request see what goes on here: metrics and the list of streams?
    ///
    /// # Errors
    /// It may not; the words name the cure.
    pub fn operator(&self, request: &Parts, peer: IpAddr) -> Result<(), Denied> {
        let from_here = open::from_this_host(request, peer).is_ok();
        if from_here { Ok(()) } else { self.bearer(request) }
    }

    /// A request has one token (RFC 6750 §2). The same one twice does no harm: who follows a redirect may send both.
    fn header_or_query(&self, request: &Parts) -> Result<(), Denied> {
        match (in_header(request), in_query(request)) {
            (Ok(header), Some(query)) if query.as_deref() != Some(header) => Err(Denied::TwoTokens),
            (Ok(header), _) => self.compare(header),
            (Err(_), Some(query)) => self.compare(&query.ok_or(Denied::WrongToken)?),
            (Err(denied), None) => Err(denied),
        }
    }

    fn bearer(&self, request: &Parts) -> Result<(), Denied> {
        self.compare(in_header(request)?)
    }

    fn compare(&self, given: &str) -> Result<(), Denied> {
        let token = self.token.read().unwrap_or_else(PoisonError::into_inner);
        if token.matches(given) { Ok(()) } else { Err(Denied::WrongToken) }
    }
}

/// RFC 6750 §2.1, and the bare token without a scheme, as @eyevinn/webrtc-player sends it.
fn in_header(request: &Parts) -> Result<&str, Denied> {
    let header = request.headers.get(AUTHORIZATION).ok_or(Denied::TokenNeeded)?;
    let text = header.to_str().map_err(|_| Denied::WrongToken)?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        Some(_) => Err(Denied::WrongToken),
        None if text.eq_ignore_ascii_case("bearer") => Err(Denied::TokenNeeded),
        None => Ok(text),
    }
}

/// RFC 6750 §2.3, for clients that a redirect robbed of their Authorization: browsers drop it between origins (Fetch
/// standard, HTTP-redirect fetch). `None` if the query has no token, `Some(None)` if it cannot be read.
fn in_query(request: &Parts) -> Option<Option<Cow<'_, str>>> {
    let mut pairs = request.uri.query()?.split('&');
    let given = pairs.find_map(|pair| pair.strip_prefix("access_token="))?;
    Some(percent_decode_str(given).decode_utf8().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TokenSource;
    use std::path::Path;

    const TOKEN: &str = "0123456789abcdef";

    fn access(open: OpenMode) -> Access {
        let token = ApiToken::find(&TokenSource::Value(TOKEN.into()), Path::new("/")).expect("token");
        Access::new(token, open)
    }

    fn request(headers: &[(&str, &str)]) -> Parts {
        request_to("/demo/whip", headers)
    }

    fn request_to(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = hyper::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("request").into_parts().0
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const AWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn the_token_opens_everything_from_everywhere() {
        let with_token = request(&[("authorization", "bearer 0123456789abcdef"), ("via", "proxy")]);
        assert_eq!(access(OpenMode::Off).media(&with_token, AWAY), Ok(Credential::ApiToken));
        assert_eq!(access(OpenMode::Off).operator(&with_token, AWAY), Ok(()));
    }

    #[test]
    fn the_token_in_the_query_opens_an_endpoint_and_no_more() {
        let access = access(OpenMode::Off);
        for query in ["access_token=0123456789abcdef", "a=b&access_token=%30123456789abcdef&c"] {
            let redirected = request_to(&format!("/demo/whip?{query}"), &[("origin", "null")]);
            assert_eq!(access.media(&redirected, AWAY), Ok(Credential::ApiToken), "{query}");
            assert_eq!(access.operator(&redirected, AWAY), Err(Denied::TokenNeeded), "{query}");
        }
        for query in [
            "access_token=",
            "access_token=%ff",
            "access_token=other",
            "access_token=other&access_token=0123456789abcdef",
        ] {
            let wrong = request_to(&format!("/demo/whip?{query}"), &[]);
            assert_eq!(access.media(&wrong, AWAY), Err(Denied::WrongToken), "{query}");
        }
        let other_name = request_to("/demo/whip?my_access_token=0123456789abcdef", &[]);
        assert_eq!(access.media(&other_name, AWAY), Err(Denied::TokenNeeded));
    }

    #[test]
    fn two_tokens_that_differ_are_one_too_many_and_the_same_twice_is_not() {
        let bearer = format!("Bearer {TOKEN}");
        for open in [OpenMode::Off, OpenMode::ThisHost, OpenMode::Everyone] {
            let ask = |query: &str, header: &str| {
                let request =
                    request_to(&format!("/demo/whip?access_token={query}"), &[("authorization", header)]);
                access(open).media(&request, AWAY)
            };
            assert_eq!(ask("other", &bearer), Err(Denied::TwoTokens));
            assert_eq!(ask(TOKEN, "Bearer other"), Err(Denied::TwoTokens));
            assert_eq!(ask("%ff", &bearer), Err(Denied::TwoTokens));
            assert_eq!(ask(TOKEN, &bearer), Ok(Credential::ApiToken));
            assert_eq!(ask(TOKEN, TOKEN), Ok(Credential::ApiToken));
            assert_eq!(ask(TOKEN, "Basic b2JzOnN0dWRpbw=="), Ok(Credential::ApiToken), "for somebody else");
            assert_eq!(ask(TOKEN, "Bearer"), Ok(Credential::ApiToken), "an empty field of a form");
        }
    }

    #[test]
    fn a_bare_token_needs_no_scheme() {
        let bare = request(&[("authorization", "0123456789abcdef")]);
        assert_eq!(access(OpenMode::Off).media(&bare, AWAY), Ok(Credential::ApiToken));
    }

    #[test]
    fn open_to_this_host_is_closed_to_the_rest() {
        let access = access(OpenMode::ThisHost);
        assert_eq!(access.media(&request(&[("host", "localhost")]), HERE), Ok(Credential::Open));
        let rebound = request(&[("host", "example.com")]);
        assert_eq!(access.media(&rebound, HERE), Err(Denied::Foreign(Foreign::Host)));
    }

    #[test]
    fn open_to_everyone_asks_nobody_but_keeps_the_operators_door() {
        let access = access(OpenMode::Everyone);
        let stranger = request(&[("host", "example.com"), ("authorization", "Bearer other")]);
        assert_eq!(access.media(&stranger, AWAY), Ok(Credential::Open));
        assert_eq!(access.operator(&stranger, AWAY), Err(Denied::WrongToken));
    }

    #[test]
    fn closed_needs_the_token_even_from_here() {
        let access = access(OpenMode::Off);
        assert_eq!(access.media(&request(&[("host", "localhost")]), HERE), Err(Denied::TokenNeeded));
        let basic = request(&[("authorization", "Basic 0123456789abcdef")]);
        assert_eq!(access.media(&basic, HERE), Err(Denied::WrongToken));
    }
}
