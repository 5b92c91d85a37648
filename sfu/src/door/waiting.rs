//! Who may wait at the door: connections that have not yet said to which session they belong.
//!
//! They are strangers, so they are few: of one source, and of all. The oldest has to make room for a new one, so that
//! connections that say nothing cannot keep out those that would.

use crate::config::{TCP_WAITING_MAX, TCP_WAITING_PER_SOURCE};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};

/// A waiting connection. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Whether a connection may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Too many of its source wait already.
    Refused,
    /// It may, under this ticket; the connection of the other one must be closed.
    Admitted(Ticket, Option<Ticket>),
}

/// The connections that wait.
#[derive(Debug, Default)]
pub struct Waiting {
    next: u64,
    sources: BTreeMap<Ticket, IpAddr>,
    by_source: HashMap<IpAddr, usize>,
}

impl Waiting {
    /// A connection came from there.
    pub fn enter(&mut self, from: IpAddr) -> Entry {
        let source = source(from);
        if self.by_source.get(&source).is_some_and(|count| *count >= TCP_WAITING_PER_SOURCE) {
            return Entry::Refused;
        }
        let oldest = self.sources.keys().next().copied();
        let evicted = oldest.filter(|_| self.sources.len() >= TCP_WAITING_MAX);
        evicted.into_iter().for_each(|ticket| self.leave(ticket));
        let ticket = Ticket(self.next);
        self.next += 1;
        self.sources.insert(ticket, source);
        *self.by_source.entry(source).or_default() += 1;
        Entry::Admitted(ticket, evicted)
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
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;

    fn admitted(entry: Entry) -> (Ticket, Option<Ticket>) {
        match entry {
            Entry::Admitted(ticket, evicted) => (ticket, evicted),
            Entry::Refused => panic!("refused"),
        }
    }

    fn address(number: usize) -> IpAddr {
        IpAddr::from((number as u32).to_be_bytes())
    }

    #[test]
    fn a_source_has_so_many_places_and_gets_one_back_when_a_connection_leaves() {
        let mut waiting = Waiting::default();
        let tickets: Vec<Ticket> =
            (0..TCP_WAITING_PER_SOURCE).map(|_| admitted(waiting.enter(address(1))).0).collect();
        assert_eq!(waiting.enter(address(1)), Entry::Refused);
        admitted(waiting.enter(address(2)));
        waiting.leave(tickets[3]);
        waiting.leave(tickets[3]);
        admitted(waiting.enter(address(1)));
        assert_eq!(waiting.enter(address(1)), Entry::Refused);
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one_source() {
        let mut waiting = Waiting::default();
        for host in 0..TCP_WAITING_PER_SOURCE {
            admitted(waiting.enter(format!("2001:db8::{host:x}").parse().unwrap()));
        }
        assert_eq!(waiting.enter("2001:db8::ffff:1".parse().unwrap()), Entry::Refused);
        admitted(waiting.enter("2001:db8:0:1::1".parse().unwrap()));
    }

    #[test]
    fn the_oldest_makes_room_for_the_newest() {
        let mut waiting = Waiting::default();
        let first = admitted(waiting.enter(address(0))).0;
        for number in 1..TCP_WAITING_MAX {
            assert_eq!(admitted(waiting.enter(address(number))).1, None);
        }
        assert_eq!(admitted(waiting.enter(address(TCP_WAITING_MAX))).1, Some(first));
        assert_eq!(waiting.sources.len(), TCP_WAITING_MAX);
        assert_eq!(waiting.by_source.len(), TCP_WAITING_MAX, "nothing is kept of one that left");
    }
}
