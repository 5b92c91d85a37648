//! One UDP port for all workers: to which of them the kernel gives a client's datagrams, and to which they belong.
//!
//! The kernel spreads clients over the workers' sockets by a hash of both addresses and ports (SO_REUSEPORT), so a client's
//! datagrams always reach the same worker, but seldom the one that has its session. STUN says where it belongs: a request by the
//! ufrag, a response by the transaction id. For all else the worker of the session, once a request with good integrity has come
//! from an address, **claims** it from the worker at which it arrives, which hands over what comes from there from then on.
//! So the arriving worker is the one that knows for every address whose it is, and no two sessions can have one.

use super::ice_check::Path;
use crate::control::protocol::WorkerIndex;
use std::collections::HashMap;

/// How a datagram came to this worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Socket and client.
    pub path: Path,
    /// The worker that the kernel gave it to, if it was another.
    pub via: Option<WorkerIndex>,
    /// The address is that of a living session on another worker.
    pub is_taken: bool,
}

impl Arrival {
    /// From the kernel.
    pub fn direct(path: Path) -> Arrival {
        Arrival { path, via: None, is_taken: false }
    }
}

/// What a change of an address's owner asks this worker to tell others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The sender's session is at the address: hand over what comes from there.
    Claim(Path),
    /// It is not any more.
    Release(Path),
    /// A session elsewhere is at the address now.
    Lost(Path),
}

impl Notice {
    /// Whether `earlier` says nothing more once this one is behind it.
    pub fn replaces(self, earlier: Notice) -> bool {
        use Notice::{Claim, Release};
        match (self, earlier) {
            (Claim(path) | Release(path), Claim(other) | Release(other)) => path == other,
            _ => self == earlier,
        }
    }
}

/// One worker's part.
#[derive(Debug)]
pub struct SharedPort {
    /// Sockets that are shared, numbered from 0; others (TCP) are a worker's own.
    sockets: usize,
    /// Addresses whose datagrams arrive here, and the workers that claimed them.
    elsewhere: HashMap<Path, WorkerIndex>,
    /// Addresses of sessions here whose datagrams arrive at another worker: that one.
    via: HashMap<Path, WorkerIndex>,
}

impl SharedPort {
    /// Of a worker with so many UDP sockets.
    pub fn new(sockets: usize) -> SharedPort {
        SharedPort { sockets, elsewhere: HashMap::new(), via: HashMap::new() }
    }

    /// Whether other workers have a socket of this number at the same address.
    pub fn is_shared(&self, path: Path) -> bool {
        path.0 < self.sockets
    }

    /// The worker that claimed an address whose datagrams arrive here.
    pub fn owner(&self, path: Path) -> Option<WorkerIndex> {
        self.elsewhere.get(&path).copied()
    }

    /// A session here is at the address from now on; whom to tell what.
    pub fn admitted(&mut self, Arrival { path, via, .. }: Arrival) -> Option<(WorkerIndex, Notice)> {
        match via {
            Some(via) => {
                let is_known = self.via.insert(path, via) == Some(via);
                (!is_known).then_some((via, Notice::Claim(path)))
            }
            None => self.elsewhere.remove(&path).map(|loser| (loser, Notice::Lost(path))),
        }
    }

    /// No session here is at the address any more.
    pub fn forgotten(&mut self, path: Path) -> Option<(WorkerIndex, Notice)> {
        self.via.remove(&path).map(|via| (via, Notice::Release(path)))
    }

    /// Another worker claims an address whose datagrams arrive here.
    pub fn claimed(&mut self, path: Path, by: WorkerIndex) -> Option<(WorkerIndex, Notice)> {
        let loser = self.elsewhere.insert(path, by).filter(|loser| *loser != by);
        loser.map(|loser| (loser, Notice::Lost(path)))
    }

    /// It does not want it any more.
    pub fn released(&mut self, path: Path, by: WorkerIndex) {
        if self.owner(path) == Some(by) {
            self.elsewhere.remove(&path);
        }
    }

    /// The worker at which the address arrives gave it to another. Whether it was this worker's until now.
    pub fn lost(&mut self, path: Path, to: WorkerIndex) -> bool {
        let was_ours = self.via.get(&path) == Some(&to);
        if was_ours {
            self.via.remove(&path);
        }
        was_ours
    }

    /// Another worker starts anew: it has no sessions, and knows of no claims.
    pub fn restarted(&mut self, worker: WorkerIndex) -> impl Iterator<Item = Notice> {
        self.elsewhere.retain(|_, owner| *owner != worker);
        self.via.iter().filter(move |(_, via)| **via == worker).map(|(path, _)| Notice::Claim(*path))
    }

    /// Whether nothing is known of any address.
    pub fn is_empty(&self) -> bool {
        self.elsewhere.is_empty() && self.via.is_empty()
    }
}
