//! One UDP port for all workers: to which of them the kernel gives a client's datagrams, and to which they belong.
//!
//! The kernel spreads clients over the workers' sockets by a hash of both addresses and ports (SO_REUSEPORT), so a client's
//! datagrams always reach the same worker, but seldom the one that has its session. STUN says where it belongs: a request by the
//! ufrag, a response by the transaction id. For all else the worker of the session, once a request with good integrity has come
//! from an address, **claims** it from the worker at which it arrives, which hands over what comes from there from then on.
//! So the arriving worker knows for every address whose it is, and an address has one session.

use super::ice_check::Path;
use crate::control::protocol::WorkerIndex;
use std::collections::HashMap;

/// Where a datagram came from, and by way of whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Socket and client.
    pub path: Path,
    /// The worker that the kernel gave it to, if it was another, and whose that worker takes the address for.
    pub via: Option<(WorkerIndex, Holder)>,
}

/// Whose an address is, in the eyes of a worker that hands a datagram over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// It was not claimed.
    Nobody,
    /// The worker that it is handed over to.
    Receiver,
    /// Of a session on a third worker, or on the one that hands over: not to be taken from it by a request alone.
    Another,
}

impl Origin {
    /// From the kernel.
    pub fn direct(path: Path) -> Origin {
        Origin { path, via: None }
    }

    /// Whether another worker says that the address is of a session elsewhere.
    pub fn is_taken(&self) -> bool {
        matches!(self.via, Some((_, Holder::Another)))
    }
}

/// What one worker tells another about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The sender's session is at the address: hand over what comes from there. Whether the client has answered a check of ours
    /// there, so that others who are there must go.
    Claim(Path, bool),
    /// It is not, or not any more.
    Release(Path),
    /// A session elsewhere is at the address.
    Lost(Path),
}

/// Whom to tell what.
pub type Told = (WorkerIndex, Notice);

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

    /// A session here is at the address from now on, and has proved it or not.
    pub fn admitted(&mut self, Origin { path, via }: Origin, is_proven: bool) -> Option<Told> {
        match via {
            Some((via, _)) => {
                let is_known = self.via.insert(path, via) == Some(via);
                (!is_known).then_some((via, Notice::Claim(path, is_proven)))
            }
            None => self.elsewhere.remove(&path).map(|loser| (loser, Notice::Lost(path))),
        }
    }

    /// No session here is at the address any more.
    pub fn forgotten(&mut self, path: Path) -> Option<Told> {
        self.via.remove(&path).map(|via| (via, Notice::Release(path)))
    }

    /// Another worker claims an address whose datagrams arrive here, and which is not that of a session here. A request from
    /// there may have been forged, so a claim for no more than that does not take it from a third.
    pub fn claimed(&mut self, path: Path, by: WorkerIndex, is_proven: bool) -> Option<Told> {
        match self.owner(path).filter(|owner| *owner != by) {
            Some(_) if !is_proven => Some((by, Notice::Lost(path))),
            loser => {
                self.elsewhere.insert(path, by);
                loser.map(|loser| (loser, Notice::Lost(path)))
            }
        }
    }

    /// A worker does not want it, or not any more.
    pub fn released(&mut self, path: Path, by: WorkerIndex) {
        if self.owner(path) == Some(by) {
            self.elsewhere.remove(&path);
        }
    }

    /// The worker at which the address arrives says that it is another's. Whether it was this worker's until now.
    pub fn lost(&mut self, path: Path, at: WorkerIndex) -> bool {
        let was_ours = self.via.get(&path) == Some(&at);
        if was_ours {
            self.via.remove(&path);
        }
        was_ours
    }

    /// Another worker starts anew: it has no sessions, and knows of no claims.
    pub fn restarted(&mut self, worker: WorkerIndex) -> impl Iterator<Item = Told> {
        self.elsewhere.retain(|_, owner| *owner != worker);
        let arriving = self.via.iter().filter(move |(_, via)| **via == worker);
        arriving.map(move |(path, _)| (worker, Notice::Claim(*path, false)))
    }

    /// Whether nothing is claimed from other workers.
    pub fn claims_nothing(&self) -> bool {
        self.via.is_empty()
    }

    /// Whether nothing is claimed from this worker.
    pub fn owes_nothing(&self) -> bool {
        self.elsewhere.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: Path = (0, std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9));
    const A: WorkerIndex = WorkerIndex(1);
    const B: WorkerIndex = WorkerIndex(2);

    fn by_way_of(worker: WorkerIndex) -> Origin {
        Origin { path: PATH, via: Some((worker, Holder::Nobody)) }
    }

    #[test]
    fn an_address_is_claimed_once_and_released() {
        let mut port = SharedPort::new(1);
        assert_eq!(port.admitted(by_way_of(A), false), Some((A, Notice::Claim(PATH, false))));
        assert_eq!(port.admitted(by_way_of(A), true), None);
        assert_eq!(port.forgotten(PATH), Some((A, Notice::Release(PATH))));
        assert_eq!(port.forgotten(PATH), None);
        assert!(port.claims_nothing());
    }

    #[test]
    fn a_claim_without_proof_takes_nothing_from_a_third_worker() {
        let mut port = SharedPort::new(1);
        assert_eq!(port.claimed(PATH, A, false), None);
        assert_eq!(port.claimed(PATH, B, false), Some((B, Notice::Lost(PATH))));
        assert_eq!(port.owner(PATH), Some(A));
        assert_eq!(port.claimed(PATH, B, true), Some((A, Notice::Lost(PATH))));
        assert_eq!(port.owner(PATH), Some(B));
    }

    #[test]
    fn a_release_that_a_later_claim_overtook_changes_nothing() {
        let mut port = SharedPort::new(1);
        assert_eq!(port.claimed(PATH, A, false), None);
        assert_eq!(port.claimed(PATH, B, true), Some((A, Notice::Lost(PATH))));
        port.released(PATH, A);
        assert_eq!(port.owner(PATH), Some(B));
        port.released(PATH, B);
        assert!(port.owes_nothing());
    }

    #[test]
    fn a_session_here_takes_what_was_claimed_from_here() {
        let mut port = SharedPort::new(1);
        assert_eq!(port.claimed(PATH, A, false), None);
        assert_eq!(port.admitted(Origin::direct(PATH), true), Some((A, Notice::Lost(PATH))));
        assert!(port.owes_nothing());
    }

    #[test]
    fn an_old_loss_by_way_of_another_worker_changes_nothing() {
        let mut port = SharedPort::new(1);
        assert_eq!(port.admitted(by_way_of(A), false), Some((A, Notice::Claim(PATH, false))));
        assert_eq!(port.admitted(by_way_of(B), false), Some((B, Notice::Claim(PATH, false))));
        assert!(!port.lost(PATH, A));
        assert!(port.lost(PATH, B));
    }
}
