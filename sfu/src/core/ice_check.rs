//! Whether somebody at an address hears us: a request proves only that the sender knows our password, and its source may be
//! forged. An address that has not answered a check of ours is sent little, and no media.

use super::ice::IceSessionNumber;
use super::stun::TransactionId;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A socket of ours and a client's address.
pub type Path = (usize, SocketAddr);

/// A good request of a client: it may be there.
#[derive(Debug, Clone, Copy)]
pub struct Heard {
    /// Where it came from.
    pub path: Path,
    /// Whose credentials it bore.
    pub ice_session: IceSessionNumber,
    /// How long it was.
    pub bytes: usize,
}

/// Between the first two transmissions of a check; doubled from one to the next (RFC 8489 §6.2.1).
const RTO: Duration = Duration::from_millis(500);
/// Transmissions of a check (Rc there).
const TRANSMISSIONS_MAX: u32 = 7;
/// The answer to the last one is awaited for so many RTO (Rm there).
const LAST_RTOS: u32 = 16;
/// What an address may be sent, in multiples of what came from it, before it has proved that it hears us: the limit of RFC 9000
/// §8.1. A reply and a check to a request's source are 1.5 of it, and the server's flight of DTLS fits.
const AMPLIFICATION_MAX: usize = 3;
/// Bytes that the first address of a session may be sent beside that: a ClientHello of ours, some 150 to 250 bytes, a few times.
/// ffmpeg throws the first one away and sends nothing that would earn it another. The client has POSTed more than that for its
/// session, so an attacker gains nothing.
const FIRST_FLIGHT_BYTES: usize = 1_500;

/// Bytes from and to an address that has proved nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowance {
    granted: usize,
    received: usize,
    sent: usize,
}

impl Allowance {
    /// That of a session's first address.
    pub fn of_first_address() -> Allowance {
        Allowance { granted: FIRST_FLIGHT_BYTES, ..Allowance::default() }
    }

    /// So many bytes came from the address.
    pub fn received(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes);
    }

    /// Whether so many bytes may be sent to it. If so, they are counted as sent.
    pub fn take(&mut self, bytes: usize) -> bool {
        let earned = self.received.saturating_mul(AMPLIFICATION_MAX);
        let fits = self.sent.saturating_add(bytes) <= self.granted.saturating_add(earned);
        if fits {
            self.sent += bytes;
        }
        fits
    }
}

/// So many at once, then one more in each interval of the session's life.
#[derive(Debug, Clone, Copy)]
pub struct Quota {
    at_once: u64,
    interval: Duration,
    taken: u64,
}

impl Quota {
    /// A full one.
    pub fn new(at_once: u64, interval: Duration) -> Quota {
        Quota { at_once, interval, taken: 0 }
    }

    /// Whether one is left at this age of the session.
    pub fn is_left(&self, age: Duration) -> bool {
        self.taken < self.at_once + age.as_secs() / self.interval.as_secs().max(1)
    }

    /// Takes one.
    pub fn take(&mut self) {
        self.taken += 1;
    }
}

/// What is to be done about a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send the request, for the first time or again.
    Send,
    /// Nothing now.
    Wait,
    /// Nobody answered.
    Failed,
}

/// A Binding request of ours, on its way until it is answered.
#[derive(Debug)]
pub struct AddressCheck {
    /// The address in question.
    pub path: Path,
    /// Ties the answer to it.
    pub transaction: TransactionId,
    /// Whose credentials it bears.
    pub ice_session: IceSessionNumber,
    /// Media moves there when it is answered.
    pub nominated: bool,
    /// What the address may be sent before.
    pub allowance: Allowance,
    transmissions: u32,
    due: Instant,
}

impl AddressCheck {
    /// A check that is due `now`.
    pub fn new(
        now: Instant,
        path: Path,
        transaction: TransactionId,
        ice_session: IceSessionNumber,
    ) -> AddressCheck {
        AddressCheck {
            path,
            transaction,
            ice_session,
            nominated: false,
            allowance: Allowance::default(),
            transmissions: 0,
            due: now,
        }
    }

    /// When [`AddressCheck::step`] has something to do.
    pub fn deadline(&self) -> Instant {
        self.due
    }

    /// Time has passed. A request that the address may not be sent is left out, as if it were lost.
    pub fn step(&mut self, now: Instant) -> Step {
        if now < self.due {
            return Step::Wait;
        }
        if self.transmissions >= TRANSMISSIONS_MAX {
            return Step::Failed;
        }
        let pause = RTO * 2u32.pow(self.transmissions);
        self.transmissions += 1;
        let is_last = self.transmissions == TRANSMISSIONS_MAX;
        self.due = now + if is_last { RTO * LAST_RTOS } else { pause };
        Step::Send
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::control::protocol::IceCredentials;
    use crate::core::ice::LiteAgent;
    use crate::core::stun::{Message, Request};

    fn number() -> IceSessionNumber {
        let credentials = |name: &str| IceCredentials { ufrag: name.into(), pwd: name.into() };
        let agent = LiteAgent::new(credentials("ours"), credentials("theirs"), 1);
        let request =
            Request { to: "ours", from: "theirs", password: "ours", tie_breaker: 2, nominates: true };
        let datagram = request.write(TransactionId([0; 12]));
        agent.session_of(&Message::parse(&datagram).unwrap()).unwrap().number
    }

    fn check(now: Instant) -> AddressCheck {
        AddressCheck::new(now, (0, SocketAddr::from(([192, 0, 2, 1], 9))), TransactionId([0; 12]), number())
    }

    #[test]
    fn a_check_is_sent_again_by_the_timers_of_the_rfc_and_then_given_up() {
        let start = Instant::now();
        let mut check = check(start);
        let mut sent = vec![];
        let failed = loop {
            let now = check.deadline();
            match check.step(now) {
                Step::Send => sent.push((now - start).as_millis()),
                Step::Wait => unreachable!("it is due"),
                Step::Failed => break (now - start).as_millis(),
            }
            assert_eq!(check.step(now), Step::Wait, "once is enough");
        };
        assert_eq!(sent, [0, 500, 1_500, 3_500, 7_500, 15_500, 31_500]);
        assert_eq!(failed, 39_500);
    }

    #[test]
    fn an_address_that_proved_nothing_is_sent_no_more_than_three_times_what_came_from_it() {
        let mut limit = Allowance::default();
        assert!(!limit.take(1));
        limit.received(100);
        assert!(limit.take(200) && !limit.take(101) && limit.take(100) && !limit.take(1));
        limit.received(1);
        assert!(limit.take(3));
    }

    #[test]
    fn a_quota_grows_with_the_age_of_the_session() {
        let mut quota = Quota::new(2, Duration::from_secs(10));
        quota.take();
        quota.take();
        assert!(!quota.is_left(Duration::from_secs(9)));
        assert!(quota.is_left(Duration::from_secs(10)));
    }
}
