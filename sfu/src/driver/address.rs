//! Socket addresses as the bytes of `sockaddr_in` and `sockaddr_in6`, read and written without a cast.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for either family: `sockaddr_in6` is the longer one.
pub(super) const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();
const V4_BYTES: usize = size_of::<libc::sockaddr_in>();
const V6_BYTES: usize = size_of::<libc::sockaddr_in6>();

/// Writes `address` as the kernel wants it and says how many bytes that took.
pub(super) fn encode(address: SocketAddr, name: &mut [u8; NAME_BYTES]) -> usize {
    name[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(v4) => {
            name[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            name[4..8].copy_from_slice(&v4.ip().octets());
            name[8..V4_BYTES].fill(0);
            V4_BYTES
        }
        SocketAddr::V6(v6) => {
            name[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            name[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
            name[8..24].copy_from_slice(&v6.ip().octets());
            name[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            V6_BYTES
        }
    }
}

/// Reads an address that the kernel wrote; none if it is neither IPv4 nor IPv6, or cut short.
///
/// The flow label is left out: it may differ from packet to packet, and addresses are compared.
pub(super) fn decode(name: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = name.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let ip: [u8; 4] = *rest.first_chunk()?;
            Some(SocketAddrV4::new(Ipv4Addr::from(ip), port).into())
        }
        libc::AF_INET6 => {
            let (_flow, rest) = rest.split_first_chunk::<4>()?;
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            let scope = u32::from_ne_bytes(*rest.first_chunk()?);
            Some(SocketAddrV6::new(Ipv6Addr::from(*ip), port, 0, scope).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(address: SocketAddr) -> Vec<u8> {
        let mut name = [0xAA; NAME_BYTES];
        let length = encode(address, &mut name);
        name[..length].to_vec()
    }

    #[test]
    fn ipv4_and_ipv6_survive_a_round_trip() {
        let v6 = SocketAddrV6::new("fe80::1:2".parse().expect("address"), 65_535, 0, 7);
        for address in [SocketAddr::from(([192, 0, 2, 9], 8200)), v6.into(), SocketAddr::from(([0; 16], 0))] {
            assert_eq!(decode(&encoded(address)), Some(address));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_socket2_crate() {
        for text in ["192.0.2.9:8200", "[2001:db8::9]:8201", "[fe80::1%3]:1"] {
            let address: SocketAddr = text.parse().expect("address");
            let theirs = socket2::SockAddr::from(address);
            assert_eq!(encoded(address).len(), theirs.len() as usize);
            // SAFETY: the storage is at least `len` bytes long and initialized up to there.
            let theirs =
                unsafe { std::slice::from_raw_parts(theirs.as_ptr().cast::<u8>(), theirs.len() as usize) };
            assert_eq!(encoded(address), theirs, "{text}");
        }
    }

    #[test]
    fn a_flow_label_does_not_make_another_address() {
        let labelled = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 9, 0x1_2345, 0);
        assert_eq!(decode(&encoded(labelled.into())), Some(SocketAddr::from((Ipv6Addr::LOCALHOST, 9))));
    }

    #[test]
    fn a_short_or_foreign_name_is_no_address() {
        let v6 = encoded(SocketAddr::from((Ipv6Addr::LOCALHOST, 9)));
        for length in 0..V6_BYTES {
            assert_eq!(decode(&v6[..length]), None);
        }
        assert_eq!(decode(&encoded(SocketAddr::from(([1, 2, 3, 4], 5)))[..7]), None);
        assert_eq!(decode(&[libc::AF_UNIX as u8; NAME_BYTES]), None);
    }
}
