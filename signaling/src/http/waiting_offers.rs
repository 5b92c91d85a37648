//! Offers of ours that wait for their answers: bounded in all and by source, and for as long as the draft says.

use super::source::Source;
use crate::auth::Credential;
use crate::metrics::{Metrics, OfferEnd};
use crate::registry::{FreshIds, StreamName, UrlId};
use crate::sdp::CounterOffer;
use sfu::control::protocol::IceCredentials;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an offer waits for its answer (WHEP draft §4.2.2).
pub const VALID: Duration = Duration::from_secs(30);
/// Offers that wait at a time: 10 kB each, and as many as one worker could take in half a minute of joins.
const WAITING_MAX: usize = 4096;
/// Of them one source may have so many. A player answers within half a second, so an office behind one address can still
/// join at more than a hundred players a second, and it takes 64 sources that do not answer to keep others out.
const WAITING_PER_SOURCE_MAX: usize = 64;

/// Offers that wait.
pub struct CounterOffers {
    waiting: Mutex<HashMap<UrlId, Waiting>>,
    metrics: Arc<Metrics>,
}

/// What an offer promised.
#[derive(Clone)]
pub struct Waiting {
    /// What was offered.
    pub offer: CounterOffer,
    /// Of which stream.
    pub name: StreamName,
    /// On what ground it will be watched.
    pub credential: Credential,
    /// Those of the session-to-be.
    pub ids: FreshIds,
    /// Our ICE credentials, which name the worker whose candidates the offer has.
    pub local: IceCredentials,
    /// Of the media process whose certificate it has.
    pub fingerprint: [u8; 32],
    /// Who asked for it.
    pub source: Source,
    /// When it is too late for an answer.
    pub expires: Instant,
}

/// Why an offer cannot wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is its message")]
pub enum NoRoom {
    #[error(
        "{WAITING_PER_SOURCE_MAX} offers to your address wait for their answers, which is all it may have. PATCH their session URLs with the answers, DELETE those that are not wanted, or POST an offer of your own, which waits for nothing."
    )]
    Source,
    #[error(
        "Too many offers wait for their answers. Try again in a few seconds, or POST an offer of your own, which waits for nothing."
    )]
    All,
}

impl CounterOffers {
    /// None yet.
    pub fn new(metrics: Arc<Metrics>) -> CounterOffers {
        CounterOffers { waiting: Mutex::default(), metrics }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UrlId, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an offer.
    ///
    /// # Errors
    /// There is no room.
    pub fn keep(&self, waiting: Waiting, now: Instant) -> Result<(), NoRoom> {
        let mut offers = self.lock();
        self.forget_expired(&mut offers, now);
        let of_source = offers.values().filter(|other| other.source == waiting.source).count();
        if of_source >= WAITING_PER_SOURCE_MAX {
            self.metrics.offer_ended(OfferEnd::RefusedSource);
            return Err(NoRoom::Source);
        }
        if offers.len() >= WAITING_MAX {
            self.metrics.offer_ended(OfferEnd::RefusedAll);
            return Err(NoRoom::All);
        }
        offers.insert(waiting.ids.url, waiting);
        Ok(())
    }

    /// The offer behind the URL of a session-to-be.
    pub fn find(&self, url: UrlId, now: Instant) -> Option<Waiting> {
        self.lock().get(&url).filter(|waiting| waiting.expires > now).cloned()
    }

    /// Takes an offer away, so that one answer alone gets it.
    pub fn take(&self, url: UrlId) -> Option<Taken<'_>> {
        let waiting = self.lock().remove(&url)?;
        Some(Taken { offers: self, waiting, is_over: false })
    }

    /// Its player wants it no more.
    pub fn withdraw(&self, url: UrlId) {
        if let Some(taken) = self.take(url) {
            taken.over(OfferEnd::Withdrawn);
        }
    }

    /// Forgets those that nobody answered, and counts them.
    pub fn sweep(&self, now: Instant) {
        self.forget_expired(&mut self.lock(), now);
    }

    fn forget_expired(&self, offers: &mut HashMap<UrlId, Waiting>, now: Instant) {
        let expired = offers.extract_if(|_, waiting| waiting.expires <= now);
        expired.for_each(|_| self.metrics.offer_ended(OfferEnd::Expired));
    }
}

/// An offer whose answer is being followed. If that comes to nothing, because the answer was wrong or its request was broken off, it
/// waits again, beside others that have come meanwhile.
pub struct Taken<'a> {
    offers: &'a CounterOffers,
    /// The offer.
    pub waiting: Waiting,
    is_over: bool,
}

impl Taken<'_> {
    /// It does not wait any more.
    pub fn over(mut self, how: OfferEnd) {
        self.is_over = true;
        self.offers.metrics.offer_ended(how);
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.offers.lock().insert(self.waiting.ids.url, self.waiting.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Counts;
    use sfu::core::plan::StreamId;
    use std::net::{IpAddr, Ipv4Addr};

    struct World {
        offers: CounterOffers,
        metrics: Arc<Metrics>,
        now: Instant,
        template: Waiting,
    }

    impl World {
        fn new() -> World {
            let metrics = Arc::new(Metrics::new().expect("metrics"));
            let mut ssrc = 0;
            let mut new_ssrc = || {
                ssrc += 1;
                ssrc
            };
            let now = Instant::now();
            let template = Waiting {
                offer: CounterOffer::new(&[], &mut new_ssrc).expect("offer"),
                name: StreamName::parse("demo").expect("name"),
                credential: Credential::Open,
                ids: FreshIds { url: UrlId([0; 16]), etag: 1, stream: StreamId(1) },
                local: IceCredentials { ufrag: "00ffffff0000000000000001".into(), pwd: "0".repeat(32) },
                fingerprint: [0; 32],
                source: source(0),
                expires: now + VALID,
            };
            World { offers: CounterOffers::new(metrics.clone()), metrics, now, template }
        }

        /// Offer `number` to a source; it lives as long as any does.
        fn keep(&self, number: usize, source: Source) -> Result<(), NoRoom> {
            let ids = FreshIds { url: url(number), ..self.template.ids };
            let expires = self.now + VALID;
            self.offers.keep(Waiting { ids, source, expires, ..self.template.clone() }, self.now)
        }

        fn ended(&self, how: &str) -> bool {
            let text = self.metrics.render(Counts::default(), true).expect("render");
            let line = format!("uringcast_counter_offers_total{{outcome=\"{how}\"}} ");
            String::from_utf8_lossy(&text).contains(&line)
        }
    }

    fn url(number: usize) -> UrlId {
        UrlId((number as u128).to_be_bytes())
    }

    fn source(number: usize) -> Source {
        IpAddr::V4(Ipv4Addr::from_bits(number as u32)).into()
    }

    #[test]
    fn an_offer_is_gone_when_its_time_is_up_or_when_it_is_taken() {
        let world = World::new();
        world.keep(1, source(1)).expect("room");
        assert!(world.offers.find(url(1), world.now + VALID - Duration::from_millis(1)).is_some());
        assert!(world.offers.find(url(1), world.now + VALID).is_none());
        let taken = world.offers.take(url(1)).expect("taken");
        assert!(world.offers.take(url(1)).is_none());
        drop(taken); // its request was broken off
        world.offers.withdraw(url(1));
        assert!(world.offers.take(url(1)).is_none() && world.ended("withdrawn"));
    }

    #[test]
    fn a_source_that_answers_nothing_leaves_room_for_the_others() {
        let mut world = World::new();
        for number in 0..WAITING_PER_SOURCE_MAX {
            world.keep(number, source(1)).expect("room");
        }
        assert_eq!(world.keep(1000, source(1)), Err(NoRoom::Source));
        assert!(world.ended("refused_source") && !world.ended("expired"));
        world.keep(2000, source(2)).expect("another's share");
        world.offers.withdraw(url(0));
        world.keep(1000, source(1)).expect("one was withdrawn");
        world.now += VALID;
        world.keep(1, source(1)).expect("the others' time is up");
        assert!(world.ended("expired"));
    }

    #[test]
    fn offers_that_wait_are_counted_and_dead_ones_make_room() {
        let mut world = World::new();
        for number in 0..WAITING_MAX {
            world.keep(number, source(number / WAITING_PER_SOURCE_MAX)).expect("room");
        }
        assert_eq!(world.keep(WAITING_MAX, source(WAITING_MAX)), Err(NoRoom::All));
        assert!(world.ended("refused_all"));
        world.now += VALID;
        world.keep(WAITING_MAX, source(WAITING_MAX)).expect("all others are dead");
        assert_eq!(world.offers.lock().len(), 1);
    }
}
