//! The sessions that ended last, for clients whose DELETE comes afterwards.
//!
//! A player that closes DTLS and then sends its DELETE (whip-whep does) meets a session that has ended in between. It did
//! everything right, so it is told the same as if the DELETE had come first, once, as long as the session is among the last.

use super::UrlId;
use sfu::core::plan::Role;
use std::collections::VecDeque;

/// So many are remembered, 17 bytes each. A DELETE follows within a second or two, in which few servers end more; where a large
/// stream ends, the clients that come too late are told 404, and lose nothing.
pub(super) const RECENTLY_ENDED_MAX: usize = 4096;

/// The last ones, oldest first.
#[derive(Default)]
pub(super) struct RecentlyEnded(VecDeque<(UrlId, Role)>);

impl RecentlyEnded {
    /// One more; the oldest is forgotten for it.
    pub fn push(&mut self, url: UrlId, role: Role) {
        if self.0.len() >= RECENTLY_ENDED_MAX {
            self.0.pop_front();
        }
        self.0.push_back((url, role));
    }

    /// Forgets one; what it was. The youngest are asked for most.
    pub fn take(&mut self, url: UrlId) -> Option<Role> {
        let index = self.0.iter().rposition(|(ended, _)| *ended == url)?;
        self.0.remove(index).map(|(_, role)| role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_for_the_youngest() {
        let mut ended = RecentlyEnded::default();
        let url = |number: usize| UrlId((number as u128).to_be_bytes());
        (0..=RECENTLY_ENDED_MAX).for_each(|number| ended.push(url(number), Role::Viewer));
        assert_eq!(ended.take(url(0)), None);
        assert_eq!(ended.take(url(1)), Some(Role::Viewer));
        assert_eq!(ended.take(url(1)), None);
        assert_eq!(ended.0.len(), RECENTLY_ENDED_MAX - 1);
    }
}
