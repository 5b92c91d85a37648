//! Who may wait at the door: connections that have not yet said to which session they belong.
//!
//! They are strangers, so they are few: of one source, and of all. The oldest has to make room for a new one, so that
//! connections that say nothing cannot keep out those that would, also behind one address: where UDP is blocked, many
//! clients have the same.

use crate::config::{TCP_WAITING_MAX, TCP_WAITING_PER_SOURCE};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};

/// A waiting connection. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// The connections that wait.
#[derive(Debug, Default)]
pub struct Waiting {
    next: u64,
    sources: BTreeMap<Ticket, IpAddr>,
    by_source: HashMap<IpAddr, usize>,
}

impl Waiting {
    /// A connection came from there. Returns its ticket, and that of a connection which must be closed to make room.
    pub fn enter(&mut self, from: IpAddr) -> (Ticket, Option<Ticket>) {
        let source = source(from);
        let evicted = self.evicted_by(source);
        evicted.into_iter().for_each(|ticket| self.leave(ticket));
        let ticket = Ticket(self.next);
        self.next += 1;
        self.sources.insert(ticket, source);
        *self.by_source.entry(source).or_default() += 1;
        (ticket, evicted)
    }

    /// The oldest of the source if that has all its places, else the oldest of all if there is no other place.
    fn evicted_by(&self, newcomer: IpAddr) -> Option<Ticket> {
        let is_crowded = self.by_source.get(&newcomer).is_some_and(|count| *count >= TCP_WAITING_PER_SOURCE);
        let is_full = self.sources.len() >= TCP_WAITING_MAX;
        let mut waiting = self.sources.iter().filter(|(_, source)| !is_crowded || **source == newcomer);
        waiting.next().filter(|_| is_crowded || is_full).map(|(ticket, _)| *ticket)
    }

    /// It does not wait any more.
    pub fn leave(&mut self, ticket: Ticket) {
        let Some(source) = self.sources.remove(&ticket) else { return };
        if let Some(count) = self.by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&source);
            }
        }
    }
}

/// What one party can be expected to hold: an IPv4 address, or the /64 of an IPv6 address.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn address(number: usize) -> IpAddr {
        IpAddr::from((number as u32).to_be_bytes())
    }

    #[test]
    fn the_oldest_of_a_source_that_has_all_its_places_makes_room_for_its_newest() {
        let mut waiting = Waiting::default();
        let other = waiting.enter(address(2)).0;
        let tickets: Vec<Ticket> = (0..TCP_WAITING_PER_SOURCE).map(|_| waiting.enter(address(1)).0).collect();
        assert_eq!(waiting.enter(address(1)).1, Some(tickets[0]));
        assert_eq!(waiting.enter(address(3)).1, None);
        waiting.leave(tickets[3]);
        waiting.leave(tickets[3]);
        assert_eq!(waiting.enter(address(1)).1, None, "a place is free once");
        assert_eq!(waiting.enter(address(1)).1, Some(tickets[1]));
        assert!(waiting.sources.contains_key(&other), "others stay, however old they are");
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one_source() {
        let mut waiting = Waiting::default();
        let first = waiting.enter("2001:db8::1".parse().unwrap()).0;
        for host in 1..TCP_WAITING_PER_SOURCE {
            assert_eq!(waiting.enter(format!("2001:db8::2:{host:x}").parse().unwrap()).1, None);
        }
        assert_eq!(waiting.enter("2001:db8:0:1::1".parse().unwrap()).1, None);
        assert_eq!(waiting.enter("2001:db8::ffff:1".parse().unwrap()).1, Some(first));
    }

    #[test]
    fn the_oldest_makes_room_for_the_newest() {
        let mut waiting = Waiting::default();
        let first = waiting.enter(address(0)).0;
        for number in 1..TCP_WAITING_MAX {
            assert_eq!(waiting.enter(address(number)).1, None);
        }
        assert_eq!(waiting.enter(address(TCP_WAITING_MAX)).1, Some(first));
        assert_eq!(waiting.sources.len(), TCP_WAITING_MAX);
        assert_eq!(waiting.by_source.len(), TCP_WAITING_MAX, "nothing is kept of one that left");
    }
}
