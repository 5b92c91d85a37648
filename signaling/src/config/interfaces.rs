//! What this host offers: addresses and cores.

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use std::net::IpAddr;

/// Every address on which media can be reached: of interfaces that are up, without IPv6 link-local addresses, which
/// a candidate cannot name (they need a zone).
pub fn usable_addresses(loopback: bool) -> std::io::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for interface in getifaddrs()? {
        let address = interface.address.as_ref().and_then(|storage| {
            let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        });
        let Some(address) = address.filter(|_| interface.flags.contains(InterfaceFlags::IFF_UP)) else {
            continue;
        };
        if is_usable(address, loopback) && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

fn is_usable(address: IpAddr, loopback: bool) -> bool {
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    !link_local
        && !address.is_unspecified()
        && !address.is_multicast()
        && (loopback || !address.is_loopback())
}

/// `bind` with `0.0.0.0` and `::` replaced by the `usable` addresses of their family; nothing stands for both.
pub fn named(bind: &[IpAddr], usable: &[IpAddr]) -> Vec<IpAddr> {
    if bind.is_empty() {
        return usable.to_vec();
    }
    let stands_for = |address: &IpAddr| -> Vec<IpAddr> {
        let family = usable.iter().filter(|usable| usable.is_ipv4() == address.is_ipv4());
        if address.is_unspecified() { family.copied().collect() } else { vec![*address] }
    };
    let mut named = Vec::new();
    for address in bind.iter().flat_map(stands_for) {
        if !named.contains(&address) {
            named.push(address);
        }
    }
    named
}

/// The cores that this process may run on, ascending.
pub fn allowed_cores() -> Vec<usize> {
    let mut cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    cores.sort_unstable();
    cores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_and_unwanted_loopback_addresses_are_left_out() {
        let usable = |text: &str, loopback| is_usable(text.parse().expect("address"), loopback);
        assert!(usable("192.0.2.1", false));
        assert!(usable("2001:db8::1", false));
        assert!(!usable("fe80::1", true));
        assert!(!usable("127.0.0.1", false));
        assert!(usable("127.0.0.1", true));
        assert!(!usable("0.0.0.0", true));
    }

    #[test]
    fn an_unspecified_address_stands_for_those_of_its_family() {
        let list = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().expect("address")).collect()
        };
        let usable = list(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
        assert_eq!(named(&[], &usable), usable);
        assert_eq!(named(&list(&["0.0.0.0"]), &usable), usable[..2]);
        assert_eq!(named(&list(&["::"]), &usable), usable[2..]);
        let listed_too = list(&["192.0.2.2", "0.0.0.0", "2001:db8::9"]);
        assert_eq!(named(&listed_too, &usable), list(&["192.0.2.2", "192.0.2.1", "2001:db8::9"]));
    }
}
