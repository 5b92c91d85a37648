//! How far a peer's join has come, and what became of it.

use std::time::{Duration, Instant};

use crate::failure::Failure;

/// Publisher or viewer, and its number from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id {
    Publisher(usize),
    Viewer(usize),
}

/// How long each part of a join took, from the start of the POST.
#[derive(Debug, Clone, Copy, Default)]
pub struct JoinTimes {
    /// The answer is here.
    pub answered: Duration,
    /// ICE and DTLS are done.
    pub connected: Duration,
    /// Viewers: the first RTP packet.
    pub first_rtp: Option<Duration>,
    /// Viewers: the first whole key frame.
    pub first_key_frame: Option<Duration>,
}

/// What became of a peer.
#[derive(Debug)]
pub enum Outcome {
    /// A publisher is connected, or a viewer has its first key frame.
    Joined(Id, JoinTimes),
    /// It never got that far.
    Failed(Id, Failure),
    /// It had joined and then lost its connection.
    Lost(Id),
}

/// One peer's join.
pub struct Joining {
    id: Id,
    started: Instant,
    give_up: Instant,
    answered: Duration,
    ice_done: bool,
    connected: Option<Duration>,
    joined: bool,
    ended: bool,
}

impl Joining {
    /// The answer is here. `started` is when the POST was sent; without success by `give_up` the join has failed.
    pub fn new(id: Id, now: Instant, started: Instant, give_up: Instant) -> Joining {
        let answered = now - started;
        Joining {
            id,
            started,
            give_up,
            answered,
            ice_done: false,
            connected: None,
            joined: false,
            ended: false,
        }
    }

    /// ICE has found a way.
    pub fn ice_done(&mut self) {
        self.ice_done = true;
    }

    /// DTLS is done too.
    pub fn connected(&mut self, now: Instant) {
        self.ice_done = true;
        self.connected = Some(now - self.started);
    }

    /// Whether DTLS is done.
    pub fn is_connected(&self) -> bool {
        self.connected.is_some()
    }

    /// Whether it is decided in favour.
    pub fn has_joined(&self) -> bool {
        self.joined
    }

    /// Whether nothing more will come of it.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// When it is given up, if it is not decided.
    pub fn give_up(&self) -> Option<Instant> {
        (!self.joined).then_some(self.give_up)
    }

    /// It has all that it joined for: the first RTP packet and the first whole key frame, if it is a viewer.
    pub fn succeed(&mut self, first_rtp: Option<Instant>, first_key_frame: Option<Instant>) -> Outcome {
        self.joined = true;
        let since = |at: Instant| at - self.started;
        let times = JoinTimes {
            answered: self.answered,
            connected: self.connected.unwrap_or_default(),
            first_rtp: first_rtp.map(since),
            first_key_frame: first_key_frame.map(since),
        };
        Outcome::Joined(self.id, times)
    }

    /// Why it has failed, if its time is over.
    pub fn overdue(&self, now: Instant, has_rtp: bool) -> Option<Failure> {
        let _ = self.give_up().filter(|give_up| now >= *give_up)?;
        Some(match (self.ice_done, self.connected) {
            (false, _) => Failure::Ice,
            (true, None) => Failure::Dtls,
            (true, Some(_)) if has_rtp => Failure::NoKeyFrame,
            (true, Some(_)) => Failure::NoRtp,
        })
    }

    /// It is over; nothing if it was before.
    pub fn end(&mut self, failure: Failure) -> Option<Outcome> {
        let ended = std::mem::replace(&mut self.ended, true);
        (!ended).then_some(match self.joined {
            true => Outcome::Lost(self.id),
            false => Outcome::Failed(self.id, failure),
        })
    }

    /// It is over by our own wish.
    pub fn leave(&mut self) {
        self.ended = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(15);

    fn joining(now: Instant) -> Joining {
        Joining::new(Id::Viewer(0), now, now, now + TIMEOUT)
    }

    #[test]
    fn a_join_fails_for_what_it_waited_for_last() {
        let now = Instant::now();
        let mut joining = joining(now);
        let late = now + TIMEOUT;
        assert!(joining.overdue(now, false).is_none());
        assert!(matches!(joining.overdue(late, false), Some(Failure::Ice)));
        joining.ice_done();
        assert!(matches!(joining.overdue(late, false), Some(Failure::Dtls)));
        joining.connected(now);
        assert!(matches!(joining.overdue(late, false), Some(Failure::NoRtp)));
        assert!(matches!(joining.overdue(late, true), Some(Failure::NoKeyFrame)));
    }

    #[test]
    fn it_ends_once_as_lost_if_it_had_joined_and_as_failed_else() {
        let now = Instant::now();
        let mut failed = joining(now);
        assert!(matches!(failed.end(Failure::Closed), Some(Outcome::Failed(..))));
        assert!(failed.end(Failure::Closed).is_none());
        let mut joined = joining(now);
        joined.connected(now + Duration::from_millis(3));
        let outcome = joined.succeed(Some(now + Duration::from_millis(5)), None);
        let Outcome::Joined(_, times) = outcome else { unreachable!("{outcome:?}") };
        assert_eq!((times.connected.as_millis(), times.first_rtp.map(|rtp| rtp.as_millis())), (3, Some(5)));
        assert!(joined.overdue(now + TIMEOUT, false).is_none());
        assert!(matches!(joined.end(Failure::Closed), Some(Outcome::Lost(_))));
    }
}
