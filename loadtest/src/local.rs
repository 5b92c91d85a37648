//! The local end of a peer: which address to bind, its UDP socket and its ICE candidate.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use socket2::{Domain, Protocol, Socket, Type};
use str0m::Candidate;
use ureq::http::Uri;

use crate::failure::Failure;
use crate::plan::numbered;

/// Asked for as receive buffer, bytes: over a second of 2.5 Mbit/s where the system allows it.
const RECEIVE_BUFFER: usize = 1 << 20;

/// A UDP port of its own on `ip`, and the host candidate that names it.
pub fn open_candidate(ip: IpAddr) -> Result<(Socket, Candidate), Failure> {
    let (socket, local) = open_socket(ip).map_err(|error| Failure::Socket(error.to_string()))?;
    let candidate = Candidate::host(local, "udp").map_err(|error| Failure::Socket(error.to_string()))?;
    Ok((socket, candidate))
}

/// Addresses of the UDP candidates (RFC 8839 section 5.1) of a description.
pub fn candidate_ips(sdp: &str) -> Vec<IpAddr> {
    let ip = |line: &str| {
        let mut words = line.trim().strip_prefix("a=candidate:")?.split_ascii_whitespace().skip(2);
        let udp = words.next()?.eq_ignore_ascii_case("udp");
        words.nth(1)?.parse().ok().filter(|_| udp)
    };
    sdp.lines().filter_map(ip).collect()
}

/// Where to bind instead if no candidate fits the address that HTTP goes by: a server reached on 127.0.0.1
/// may offer its outer addresses only, and the media of a distant one may be elsewhere.
pub fn better_ip(bound: IpAddr, candidates: &[IpAddr]) -> Option<IpAddr> {
    let fits = |ip: &IpAddr| ip.is_ipv4() == bound.is_ipv4() && ip.is_loopback() == bound.is_loopback();
    if candidates.iter().any(fits) {
        return None;
    }
    candidates.iter().find_map(|ip| source_ip_towards(SocketAddr::new(*ip, 9))).filter(|ip| *ip != bound)
}

/// The address from which the system would send to `remote`; nothing is sent.
pub fn source_ip_towards(remote: SocketAddr) -> Option<IpAddr> {
    let any = if remote.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = std::net::UdpSocket::bind(any).ok()?;
    socket.connect(remote).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The local address from which the host of `url` is reached; media sockets are bound to it.
pub fn local_ip_towards(url: &str) -> Result<IpAddr, String> {
    let uri: Uri = numbered(url, 1).parse().map_err(|_| format!("\"{url}\" is no URL"))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_string();
    let port = uri.port_u16().unwrap_or(443);
    let remotes =
        (host.as_str(), port).to_socket_addrs().map_err(|error| format!("cannot resolve {host}: {error}"))?;
    // IPv4 first: "localhost" often names ::1 too, where few servers listen.
    let mut remotes: Vec<_> = remotes.collect();
    remotes.sort_by_key(|remote| remote.is_ipv6());
    remotes.into_iter().find_map(source_ip_towards).ok_or_else(|| format!("no route to {host}"))
}

fn open_socket(ip: IpAddr) -> std::io::Result<(Socket, SocketAddr)> {
    let address = SocketAddr::new(ip, 0);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // The system's limit may give less.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.bind(&address.into())?;
    let local = socket.local_addr()?.as_socket().ok_or(std::io::ErrorKind::Unsupported)?;
    Ok((socket, local))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn candidates_are_read_from_an_answer_and_others_passed_over() {
        let sdp = "v=0\r\na=candidate:1 1 udp 2130706431 192.0.2.7 8200 typ host\r\n\
                   a=candidate:2 1 UDP 1 2001:db8::1 8200 typ host\r\n\
                   a=candidate:3 1 tcp 1 192.0.2.8 9 typ host tcptype active\r\n\
                   a=candidate:4 1 udp 1 abc.local 9 typ host\r\na=candidate:5\r\n";
        assert_eq!(
            candidate_ips(sdp),
            ["192.0.2.7".parse::<IpAddr>().unwrap(), "2001:db8::1".parse().unwrap()]
        );
    }

    #[test]
    fn the_socket_moves_only_if_no_candidate_fits_it() {
        let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        let bound = |ip: &str| ip.parse::<IpAddr>().unwrap();
        assert_eq!(better_ip(bound("127.0.0.1"), &ips(&["192.0.2.9", "127.0.0.1"])), None);
        assert_eq!(better_ip(bound("192.0.2.2"), &ips(&["127.0.0.1"])), Some(bound("127.0.0.1")));
        assert_eq!(better_ip(bound("127.0.0.1"), &[]), None);
    }

    #[test]
    fn a_loopback_server_is_reached_from_loopback() {
        assert!(local_ip_towards("http://127.0.0.1:8080/whip").unwrap().is_loopback());
        assert!(local_ip_towards("http://[::1]:8080/whip").unwrap().is_ipv6());
    }
}
