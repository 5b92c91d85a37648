//! Our side of ICE (RFC 8445): a lite agent, always controlled, that answers checks and lets the client nominate.
//!
//! An ICE session is a pair of credentials, ours and the client's. A restart (RFC 8445 §9) adds a second one: both are answered
//! until the client nominates a pair with the new one, then the old one is nobody's. str0m's own agent knows one only, and is not
//! used; see [`Peer::nominated`](super::peer::Peer::nominated).

use super::stun::{self, Message, Request, TransactionId};
use crate::control::protocol::IceCredentials;
use std::net::SocketAddr;

/// Counts the ICE sessions of a peer connection: the later one has the higher number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IceSessionNumber(u32);

/// One pair of credentials.
#[derive(Debug)]
pub struct IceSession {
    /// Its place in the line of restarts.
    pub number: IceSessionNumber,
    local: IceCredentials,
    remote: IceCredentials,
}

impl IceSession {
    /// Whether the client wrote this request, and for this ICE session.
    fn is_addressed(&self, request: &Message<'_>) -> bool {
        let names = (self.local.ufrag.as_bytes(), self.remote.ufrag.as_bytes());
        request.ufrags == Some(names) && request.has_integrity(&self.local.pwd)
    }

    /// The answer to a request that came from `from`; an error for a client that does not know that it has the control.
    pub fn answer(&self, request: &Message<'_>, from: SocketAddr) -> Vec<u8> {
        if request.ice_controlled {
            stun::role_conflict(request.transaction, &self.local.pwd)
        } else {
            stun::success(request.transaction, from, &self.local.pwd)
        }
    }

    /// Whether the client wrote this response.
    pub fn is_answered_by(&self, response: &Message<'_>) -> bool {
        response.has_integrity(&self.remote.pwd)
    }
}

/// The ICE of one peer connection.
#[derive(Debug)]
pub struct LiteAgent {
    current: IceSession,
    /// Restarted, and no pair nominated yet.
    next: Option<IceSession>,
    tie_breaker: u64,
}

impl LiteAgent {
    /// `tie_breaker` is random.
    pub fn new(local: IceCredentials, remote: IceCredentials, tie_breaker: u64) -> LiteAgent {
        LiteAgent {
            current: IceSession { number: IceSessionNumber(0), local, remote },
            next: None,
            tie_breaker,
        }
    }

    /// Whether the client's credentials are as fresh as a restart wants them: both differ (RFC 8445 §9).
    pub fn is_restarted_by(&self, remote: &IceCredentials) -> bool {
        let current = &self.current.remote;
        current.ufrag != remote.ufrag && current.pwd != remote.pwd
    }

    /// Takes a second ICE session beside the current one. One that waited takes its leave: a client that restarts again did not
    /// get through with it, or never saw the answer.
    pub fn restart(&mut self, local: IceCredentials, remote: IceCredentials) {
        let last = self.next.as_ref().unwrap_or(&self.current).number;
        self.next = Some(IceSession { number: IceSessionNumber(last.0.wrapping_add(1)), local, remote });
    }

    fn sessions(&self) -> impl Iterator<Item = &IceSession> {
        [Some(&self.current), self.next.as_ref()].into_iter().flatten()
    }

    /// Whether this is a ufrag of ours.
    pub fn is_called(&self, ufrag: &[u8]) -> bool {
        self.sessions().any(|session| session.local.ufrag.as_bytes() == ufrag)
    }

    /// The ICE session of a request, if its integrity is good.
    pub fn session_of(&self, request: &Message<'_>) -> Option<&IceSession> {
        self.sessions().find(|session| session.is_addressed(request))
    }

    /// The ICE session with this number, if it is alive.
    pub fn session(&self, number: IceSessionNumber) -> Option<&IceSession> {
        self.sessions().find(|session| session.number == number)
    }

    /// The one whose nominated pair is in use.
    pub fn current(&self) -> IceSessionNumber {
        self.current.number
    }

    /// A Binding request of ours to the client; none if the ICE session has ended.
    pub fn check(&self, number: IceSessionNumber, transaction: TransactionId) -> Option<Vec<u8>> {
        let IceSession { local, remote, .. } = self.session(number)?;
        let tie_breaker = self.tie_breaker;
        let request = Request {
            to: &remote.ufrag,
            from: &local.ufrag,
            password: &remote.pwd,
            tie_breaker,
            nominates: false,
        };
        Some(request.write(transaction))
    }

    /// The client nominated a pair in this ICE session: it is the current one from now on. Says whether that ends another.
    pub fn nominated(&mut self, number: IceSessionNumber) -> bool {
        match self.next.take_if(|next| next.number == number) {
            Some(next) => {
                self.current = next;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const ID: TransactionId = TransactionId([1; 12]);

    fn credentials(ufrag: &str, pwd: &str) -> IceCredentials {
        IceCredentials { ufrag: ufrag.into(), pwd: pwd.into() }
    }

    fn agent() -> LiteAgent {
        LiteAgent::new(credentials("ours", "our password"), credentials("theirs", "their password"), 5)
    }

    fn request(to: &str, from: &str, password: &str) -> Vec<u8> {
        Request { to, from, password, tie_breaker: 1, nominates: true }.write(ID)
    }

    fn number_of(agent: &LiteAgent, datagram: &[u8]) -> Option<IceSessionNumber> {
        let message = Message::parse(datagram).unwrap();
        agent.session_of(&message).map(|session| session.number)
    }

    #[test]
    fn only_a_request_with_both_ufrags_and_the_password_is_the_clients() {
        let agent = agent();
        assert!(number_of(&agent, &request("ours", "theirs", "our password")).is_some());
        assert!(number_of(&agent, &request("ours", "theirs", "their password")).is_none());
        assert!(number_of(&agent, &request("ours", "another", "our password")).is_none());
        assert!(number_of(&agent, &request("another", "theirs", "our password")).is_none());
    }

    #[test]
    fn both_ice_sessions_are_answered_until_the_new_one_is_nominated() {
        let mut agent = agent();
        agent.restart(credentials("ours2", "our password 2"), credentials("theirs2", "their password 2"));
        let old = request("ours", "theirs", "our password");
        let new = request("ours2", "theirs2", "our password 2");
        let mixed = request("ours2", "theirs", "our password 2");
        let (first, second) = (number_of(&agent, &old).unwrap(), number_of(&agent, &new).unwrap());
        assert!(first != second && number_of(&agent, &mixed).is_none());
        assert!(!agent.nominated(first), "the old one goes on, and ends nothing");
        assert!(number_of(&agent, &new).is_some());
        assert!(agent.nominated(second));
        assert!(number_of(&agent, &old).is_none() && !agent.is_called(b"ours"));
        assert_eq!(number_of(&agent, &new), Some(second));
    }

    #[test]
    fn a_second_restart_takes_the_place_of_one_that_led_nowhere() {
        let mut agent = agent();
        agent.restart(credentials("ours2", "2"), credentials("theirs2", "2"));
        let lost = number_of(&agent, &request("ours2", "theirs2", "2")).unwrap();
        agent.restart(credentials("ours3", "3"), credentials("theirs3", "3"));
        assert!(!agent.is_called(b"ours2") && agent.is_called(b"ours") && agent.is_called(b"ours3"));
        assert!(!agent.nominated(lost), "its nomination comes too late");
        assert!(agent.is_called(b"ours3"));
    }

    #[test]
    fn a_restart_needs_a_new_ufrag_and_a_new_password() {
        let agent = agent();
        assert!(agent.is_restarted_by(&credentials("new", "new password")));
        assert!(!agent.is_restarted_by(&credentials("theirs", "new password")));
        assert!(!agent.is_restarted_by(&credentials("new", "their password")));
    }

    #[test]
    fn a_client_that_believes_itself_controlled_is_told_the_role_conflict() {
        let agent = agent();
        let confused = Request {
            to: "ours",
            from: "theirs",
            password: "our password",
            tie_breaker: 1,
            nominates: false,
        };
        let datagram = confused.write(ID);
        let message = Message::parse(&datagram).unwrap();
        let session = agent.session_of(&message).unwrap();
        let answer = session.answer(&message, SocketAddr::from(([192, 0, 2, 1], 9)));
        assert_eq!(Message::parse(&answer).unwrap().class, stun::Class::Error);
    }

    #[test]
    fn our_own_check_is_answered_by_who_knows_the_clients_password() {
        let agent = agent();
        let check = agent.check(agent.current(), ID).unwrap();
        let read = Message::parse(&check).unwrap();
        assert_eq!(read.ufrags, Some((&b"theirs"[..], &b"ours"[..])));
        assert!(read.has_integrity("their password") && read.ice_controlled && !read.use_candidate);
        let from = SocketAddr::from(([192, 0, 2, 1], 9));
        let answered = |password| {
            let answer = stun::success(ID, from, password);
            agent.current.is_answered_by(&Message::parse(&answer).unwrap())
        };
        assert!(answered("their password") && !answered("our password"));
    }
}
