//! The ICE session behind a session URL, and how one follows another. A client's user name fragment is its name: a new one
//! asks for a restart (RFC 9725 §4.3.3).

use super::Blob;
use sfu::control::protocol::{IceCredentials, SessionId};

/// Earlier ICE sessions whose late requests are told apart from restarts. A client that restarts more often within the time
/// that a request may be late is not served better by more.
const PREVIOUS_MAX: usize = 4;

/// Which ICE session of a client a user name fragment names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IceGeneration {
    /// The one that lives.
    Current,
    /// One that a restart replaced.
    Previous,
    /// The one that media is just starting.
    Coming,
    /// None that we know.
    New,
}

/// A session's ICE, seen from signaling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceSession {
    current: String,
    /// The newest first.
    previous: Vec<String>,
    coming: Option<String>,
}

/// A restart that media is to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// Of which session.
    pub session: SessionId,
    /// The client's new credentials.
    pub remote: IceCredentials,
    /// What we will know about the session: the new entity tag.
    pub blob: Blob,
}

/// Why a restart is not even tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is its message")]
pub enum RestartRefusal {
    #[error("There is no such session; it may have ended. POST an offer to the endpoint for a new one.")]
    NoSession,
    #[error(
        "Another ICE restart of this session is in progress. Wait for its answer, then restart with credentials of its own if it is still needed."
    )]
    Concurrent,
}

impl IceSession {
    /// The first one of a session.
    pub fn new(ufrag: String) -> IceSession {
        IceSession { current: ufrag, previous: Vec::new(), coming: None }
    }

    /// Whose user name fragment this is.
    pub fn generation(&self, ufrag: &str) -> IceGeneration {
        match ufrag {
            _ if ufrag == self.current => IceGeneration::Current,
            _ if self.coming.as_deref() == Some(ufrag) => IceGeneration::Coming,
            _ if self.previous.iter().any(|previous| previous == ufrag) => IceGeneration::Previous,
            _ => IceGeneration::New,
        }
    }

    /// One restart at a time: media would answer two in turn, and which of them the client believes is not ours to know.
    pub(super) fn begin(&mut self, ufrag: &str) -> Result<(), RestartRefusal> {
        if self.coming.is_some() {
            return Err(RestartRefusal::Concurrent);
        }
        self.coming = Some(ufrag.to_owned());
        Ok(())
    }

    /// The new one lives.
    pub(super) fn finish(&mut self, ufrag: &str) {
        self.coming = None;
        self.previous.insert(0, std::mem::replace(&mut self.current, ufrag.to_owned()));
        self.previous.truncate(PREVIOUS_MAX);
    }

    /// The old one lives on.
    pub(super) fn give_up(&mut self) {
        self.coming = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restart(ice: &mut IceSession, ufrag: &str) {
        ice.begin(ufrag).expect("no other restart");
        ice.finish(ufrag);
    }

    #[test]
    fn a_fragment_is_known_by_its_ice_session() {
        let mut ice = IceSession::new("first".into());
        assert_eq!(ice.generation("first"), IceGeneration::Current);
        assert_eq!(ice.generation("second"), IceGeneration::New);
        ice.begin("second").expect("no other restart");
        assert_eq!(
            (ice.generation("first"), ice.generation("second")),
            (IceGeneration::Current, IceGeneration::Coming)
        );
        ice.finish("second");
        assert_eq!(
            (ice.generation("first"), ice.generation("second")),
            (IceGeneration::Previous, IceGeneration::Current)
        );
    }

    #[test]
    fn one_restart_goes_on_at_a_time_and_a_failed_one_leaves_no_trace() {
        let mut ice = IceSession::new("first".into());
        ice.begin("second").expect("no other restart");
        assert_eq!(ice.begin("third"), Err(RestartRefusal::Concurrent));
        ice.give_up();
        assert_eq!(ice, IceSession::new("first".into()));
    }

    #[test]
    fn only_so_many_earlier_ice_sessions_are_remembered() {
        let mut ice = IceSession::new("0".into());
        (1..10).for_each(|index| restart(&mut ice, &index.to_string()));
        let previous: Vec<usize> =
            (0..9).filter(|index| ice.generation(&index.to_string()) == IceGeneration::Previous).collect();
        assert_eq!(previous, [5, 6, 7, 8]);
    }
}
