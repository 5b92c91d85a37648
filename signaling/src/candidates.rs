//! Which addresses of media a client is told, and in which order.

use std::net::{IpAddr, SocketAddr};

/// The answer must stay below 8192 bytes for ffmpeg, and every candidate costs a client checks.
const CANDIDATES_MAX: usize = 16;

/// Over TCP a client opens a connection to each, so it is told the best only; they add 0.7 kB to the answer.
pub const TCP_CANDIDATES_MAX: usize = 8;

/// The candidates of one worker, best first, because ffmpeg reads the first one only: the public addresses, the
/// address that the client's HTTP reached (it can evidently reach that one), global, private, loopback.
///
/// Behind 1:1 NAT the private addresses of a family that has a public one are left out, except for a client that came
/// in on one.
pub fn ordered(bound: &[SocketAddr], public: &[IpAddr], reached: IpAddr) -> Vec<SocketAddr> {
    let Some(port) = bound.first().map(SocketAddr::port) else { return Vec::new() };
    let translated = |address: &IpAddr| public.iter().any(|public| public.is_ipv4() == address.is_ipv4());
    let mut local: Vec<IpAddr> = bound
        .iter()
        .map(SocketAddr::ip)
        .filter(|address| *address == reached || scope(*address) != Scope::Private || !translated(address))
        .filter(|address| !public.contains(address))
        .collect();
    local.sort_by_key(|address| (*address != reached, scope(*address)));
    let all = public.iter().copied().chain(local);
    all.take(CANDIDATES_MAX).map(|address| SocketAddr::new(address, port)).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Global,
    Private,
    Loopback,
}

fn scope(address: IpAddr) -> Scope {
    match address {
        address if address.is_loopback() => Scope::Loopback,
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let carrier_nat = a == 100 && (64..128).contains(&b);
            if v4.is_private() || v4.is_link_local() || carrier_nat { Scope::Private } else { Scope::Global }
        }
        IpAddr::V6(v6) if v6.is_unique_local() || v6.is_unicast_link_local() => Scope::Private,
        IpAddr::V6(_) => Scope::Global,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(bound: &[&str], public: &[&str], reached: &str) -> Vec<String> {
        let ip = |text: &&str| text.parse::<IpAddr>().expect("address");
        let bound: Vec<SocketAddr> = bound.iter().map(|text| SocketAddr::new(ip(text), 8201)).collect();
        let public: Vec<IpAddr> = public.iter().map(ip).collect();
        let ordered = ordered(&bound, &public, ip(&reached));
        assert!(ordered.iter().all(|candidate| candidate.port() == 8201));
        ordered.iter().map(|candidate| candidate.ip().to_string()).collect()
    }

    #[test]
    fn a_client_of_this_host_gets_loopback_first_and_the_rest_after_it() {
        let all = ["127.0.0.1", "::1", "10.0.0.5", "198.51.100.7"];
        assert_eq!(order(&all, &[], "127.0.0.1"), ["127.0.0.1", "198.51.100.7", "10.0.0.5", "::1"]);
    }

    #[test]
    fn the_address_that_http_reached_comes_before_better_looking_ones() {
        assert_eq!(order(&["198.51.100.7", "10.0.0.5"], &[], "10.0.0.5"), ["10.0.0.5", "198.51.100.7"]);
        assert_eq!(order(&["fd00::1", "2001:db8::1"], &[], "203.0.113.1"), ["2001:db8::1", "fd00::1"]);
    }

    #[test]
    fn a_public_address_stands_for_the_private_ones_of_its_family() {
        let bound = ["10.0.0.5", "172.17.0.1", "fd00::1"];
        assert_eq!(order(&bound, &["203.0.113.9"], "192.0.2.1"), ["203.0.113.9", "fd00::1"]);
        assert_eq!(order(&bound, &["203.0.113.9"], "10.0.0.5"), ["203.0.113.9", "10.0.0.5", "fd00::1"]);
    }

    #[test]
    fn where_nothing_is_bound_there_is_no_candidate() {
        assert!(ordered(&[], &["203.0.113.9".parse().expect("address")], [127, 0, 0, 1].into()).is_empty());
    }

    #[test]
    fn a_public_address_that_is_also_bound_is_told_once() {
        assert_eq!(order(&["198.51.100.7"], &["198.51.100.7"], "198.51.100.7"), ["198.51.100.7"]);
    }
}
