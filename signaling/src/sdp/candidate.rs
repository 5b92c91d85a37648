//! Our candidates as attributes: host candidates over UDP (RFC 8445 §5.1.2), then over TCP (RFC 6544 §4.5).

use std::net::{IpAddr, SocketAddr};

/// Type preference of host candidates over UDP (RFC 8445 §5.1.2.2).
const UDP_PREFERENCE: u32 = 126;
/// Of those over TCP: lower, because a lost packet holds up all that follow it (RFC 6544 §4.2), and what browsers use.
const TCP_PREFERENCE: u32 = 90;
/// Direction preference of a passive host candidate, in the upper three bits of its local preference (RFC 6544 §4.2).
const PASSIVE: u32 = 4;
/// What is left of the local preference for the order of the candidates.
const OTHER_PREFERENCE_MAX: u32 = (1 << 13) - 1;

/// The values of the candidate attributes for component 1, the most preferred first. All of UDP come before the first of TCP,
/// because ffmpeg reads one line only. A client connects to the TCP candidates; we connect to nobody.
pub fn candidates(udp: &[SocketAddr], tcp: &[SocketAddr]) -> Vec<String> {
    let mut foundations = Foundations::default();
    let mut all = Vec::with_capacity(udp.len() + tcp.len());
    for (address, local_preference) in udp.iter().zip((0..=u32::from(u16::MAX)).rev()) {
        let (ip, port) = (address.ip(), address.port());
        let foundation = foundations.of("udp", ip);
        let priority = priority(UDP_PREFERENCE, local_preference);
        all.push(format!("{foundation} 1 udp {priority} {ip} {port} typ host"));
    }
    for (address, other_preference) in tcp.iter().zip((0..=OTHER_PREFERENCE_MAX).rev()) {
        let (ip, port) = (address.ip(), address.port());
        let foundation = foundations.of("tcp", ip);
        let priority = priority(TCP_PREFERENCE, (PASSIVE << 13) | other_preference);
        all.push(format!("{foundation} 1 tcp {priority} {ip} {port} typ host tcptype passive"));
    }
    all
}

/// RFC 8445 §5.1.2.1, for component 1.
fn priority(type_preference: u32, local_preference: u32) -> u32 {
    (type_preference << 24) | (local_preference << 8) | (256 - 1)
}

/// A number for each pair of protocol and address (RFC 8445 §5.1.1.3).
#[derive(Default)]
struct Foundations(Vec<(&'static str, IpAddr)>);

impl Foundations {
    fn of(&mut self, protocol: &'static str, ip: IpAddr) -> usize {
        let known = self.0.iter().position(|known| *known == (protocol, ip));
        known.map_or_else(
            || {
                self.0.push((protocol, ip));
                self.0.len()
            },
            |index| index + 1,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_udp_candidate_is_preferred_to_every_tcp_candidate_and_each_has_its_foundation() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("address");
        let udp = [address("192.0.2.1:8201"), address("[2001:db8::1]:8201")];
        let tcp = [address("192.0.2.1:8200"), address("[2001:db8::1]:8200")];
        assert_eq!(
            candidates(&udp, &tcp),
            [
                "1 1 udp 2130706431 192.0.2.1 8201 typ host",
                "2 1 udp 2130706175 2001:db8::1 8201 typ host",
                "3 1 tcp 1520435199 192.0.2.1 8200 typ host tcptype passive",
                "4 1 tcp 1520434943 2001:db8::1 8200 typ host tcptype passive",
            ]
        );
    }
}
