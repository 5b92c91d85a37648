//! For whom a request is counted, where each source has a share of something.

use super::Peer;
use crate::auth::open;
use hyper::HeaderMap;
use hyper::header::HeaderName;
use hyper::http::request::Parts;
use std::net::{IpAddr, SocketAddr};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// A site has as many IPv6 addresses of one such prefix as it likes (RFC 4291 §2.5.1).
const V6_PREFIX: u128 = !0 << 64;

/// An IPv4 address, or an IPv6 /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// Of the peer. A proxy on this host is believed whom it speaks for: nobody else can come from loopback. It must set or append
    /// X-Forwarded-For; one that passes the client's own on lets clients choose.
    pub fn of(head: &Parts, peer: Peer) -> Source {
        let remote = peer.remote.ip();
        let client = (remote.is_loopback() && open::is_proxied(head)).then(|| forwarded_for(&head.headers));
        Source::from(client.flatten().unwrap_or(remote))
    }
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Source {
        Source(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & V6_PREFIX).into()),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// The last entry is the proxy's own word; what stands before it was in the request that it got.
fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all(FORWARDED_FOR).iter().next_back()?;
    let last = last.to_str().ok()?.rsplit(',').next()?.trim();
    // Some proxies add the port.
    last.parse().ok().or_else(|| last.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(remote: &str, headers: &[(&str, &str)]) -> Source {
        let mut request = hyper::Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).expect("request").into_parts();
        let remote = format!("{remote}:1").parse().expect("address");
        Source::of(&head, Peer { remote, local: remote, tls: false })
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_network() {
        assert_eq!(source("192.0.2.1", &[]), source("[::ffff:192.0.2.1]", &[]));
        assert_ne!(source("192.0.2.1", &[]), source("192.0.2.2", &[]));
        assert_eq!(source("[2001:db8::1]", &[]), source("[2001:db8::ffff:0:0:1]", &[]));
        assert_ne!(source("[2001:db8::1]", &[]), source("[2001:db8:0:1::1]", &[]));
    }

    #[test]
    fn a_proxy_on_this_host_speaks_for_the_last_that_it_names() {
        let chain = ("x-forwarded-for", "203.0.113.9, 192.0.2.1");
        assert_eq!(source("127.0.0.1", &[chain]), source("192.0.2.1", &[]));
        let two = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "192.0.2.1")];
        assert_eq!(source("[::1]", &two), source("192.0.2.1", &[]));
        let with_port = ("x-forwarded-for", "203.0.113.9, 192.0.2.1:5678");
        assert_eq!(source("127.0.0.1", &[with_port]), source("192.0.2.1", &[]));
        assert_eq!(source("127.0.0.1", &[("x-forwarded-for", "unknown")]), source("127.0.0.1", &[]));
    }

    #[test]
    fn nobody_else_may_say_who_he_is() {
        let claim = ("x-forwarded-for", "192.0.2.1");
        assert_eq!(source("198.51.100.7", &[claim]), source("198.51.100.7", &[]));
    }
}
