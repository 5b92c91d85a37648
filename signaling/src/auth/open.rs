//! Which requests never left this host: those that open mode serves without a token.
//!
//! A loopback listener alone proves nothing. A proxy on this host forwards strangers to it, and a web page of a
//! stranger makes the browser on this host call it, under the page's own name (DNS rebinding) or across origins.

use hyper::header::{HOST, HeaderName, ORIGIN, VIA};
use hyper::http::request::Parts;
use hyper::{Request, Version};
use std::net::{IpAddr, Ipv6Addr};

/// What shows that a request may come from elsewhere. Its words end the sentence "the request …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is its message")]
pub enum Foreign {
    #[error("came from another host")]
    Peer,
    #[error("has no Host, or one that is not a loopback name")]
    Host,
    #[error("was made by a web page whose Origin is not a loopback name")]
    Origin,
    #[error("came through a proxy (it has a Forwarded, X-Forwarded-… or Via header)")]
    Proxied,
}

/// Says whether the request came from this very host and went through no proxy.
pub fn from_this_host(request: &Parts, peer: IpAddr) -> Result<(), Foreign> {
    if !peer.to_canonical().is_loopback() {
        return Err(Foreign::Peer);
    }
    if is_proxied(request) {
        return Err(Foreign::Proxied);
    }
    if !authority(request).is_some_and(is_loopback_authority) {
        return Err(Foreign::Host);
    }
    let mut origins = request.headers.get_all(ORIGIN).iter();
    if !origins.all(|origin| origin.to_str().is_ok_and(is_loopback_origin)) {
        return Err(Foreign::Origin);
    }
    Ok(())
}

/// `Host`, which HTTP/2 calls `:authority`; `None` if there are two that differ.
pub fn authority(request: &Parts) -> Option<&str> {
    let mut hosts = request.headers.get_all(HOST).iter();
    let header = hosts.next().and_then(|value| value.to_str().ok());
    if hosts.next().is_some() {
        return None;
    }
    match (request.uri.authority().map(|authority| authority.as_str()), header) {
        (Some(uri), Some(header)) if uri != header => None,
        (uri, header) => uri.or(header),
    }
}

/// Whether `Host` is there once, as HTTP/1.1 demands. Versions 1.0 and 2 need none.
pub fn names_its_host<B>(request: &Request<B>) -> bool {
    let hosts = request.headers().get_all(HOST).iter().count();
    hosts == 1 || (hosts == 0 && request.version() != Version::HTTP_11)
}

/// Whether a proxy says that it passed the request on.
pub fn is_proxied(request: &Parts) -> bool {
    request.headers.keys().any(is_proxy_header)
}

fn is_proxy_header(name: &HeaderName) -> bool {
    let name = name.as_str();
    name == "forwarded" || name == VIA.as_str() || name.starts_with("x-forwarded-")
}

/// `localhost`, `127.0.0.0/8` or `[::1]`, with or without a port.
pub fn is_loopback_authority(authority: &str) -> bool {
    let Ok(parsed) = authority.parse::<hyper::http::uri::Authority>() else { return false };
    if parsed.as_str().contains('@') {
        return false;
    }
    let host = parsed.host();
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match v6 {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback()),
        None => {
            let name = host.to_ascii_lowercase();
            let address = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
            address || name == "localhost" || name.ends_with(".localhost")
        }
    }
}

/// `scheme://loopback[:port]`; `null`, which sandboxed pages send, is no loopback name.
fn is_loopback_origin(origin: &str) -> bool {
    let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    rest.is_some_and(is_loopback_authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(peer: &str, headers: &[(&str, &str)]) -> Result<(), Foreign> {
        let mut request = Request::builder().uri("/demo/whip");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).expect("request").into_parts();
        from_this_host(&parts, peer.parse().expect("address"))
    }

    #[test]
    fn loopback_names_are_of_this_host() {
        for host in
            ["localhost", "localhost:8080", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080", "demo.localhost"]
        {
            assert_eq!(check("127.0.0.1", &[("host", host)]), Ok(()), "{host}");
        }
        assert_eq!(check("::ffff:127.0.0.1", &[("host", "localhost")]), Ok(()));
        assert_eq!(check("::1", &[("host", "localhost"), ("origin", "http://localhost:8080")]), Ok(()));
    }

    #[test]
    fn other_names_are_not() {
        for host in
            ["example.com", "localhost.example.com", "127.0.0.1.example.com", "10.0.0.1", "", "u@localhost"]
        {
            assert_eq!(check("127.0.0.1", &[("host", host)]), Err(Foreign::Host), "{host}");
        }
        assert_eq!(check("127.0.0.1", &[]), Err(Foreign::Host));
        let two = [("host", "localhost"), ("host", "example.com")];
        assert_eq!(check("127.0.0.1", &two), Err(Foreign::Host));
    }

    #[test]
    fn a_page_of_a_stranger_is_not() {
        for origin in ["https://example.com", "null", "http://localhost.example.com", "file://"] {
            let headers = [("host", "localhost"), ("origin", origin)];
            assert_eq!(check("127.0.0.1", &headers), Err(Foreign::Origin), "{origin}");
        }
    }

    #[test]
    fn a_proxied_request_is_not() {
        for header in ["forwarded", "via", "x-forwarded-for", "X-Forwarded-Proto", "x-forwarded-anything"] {
            let headers = [("host", "localhost"), (header, "x")];
            assert_eq!(check("127.0.0.1", &headers), Err(Foreign::Proxied), "{header}");
        }
    }

    #[test]
    fn another_host_is_not() {
        assert_eq!(check("192.0.2.1", &[("host", "localhost")]), Err(Foreign::Peer));
    }
}
