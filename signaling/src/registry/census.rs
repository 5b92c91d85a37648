//! How many publish and watch, and what.

use super::{Registry, StreamName};
use sfu::core::codec::Codec;

/// A row of the list of streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveStream {
    /// Its name.
    pub name: StreamName,
    /// What arrives.
    pub codecs: Vec<Codec>,
    /// Those who watch: viewers whose transport is up.
    pub viewers: usize,
    /// Since when, in Unix seconds.
    pub since: u64,
}

/// Sessions by role, and live streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Publisher sessions.
    pub publishers: usize,
    /// Viewer sessions.
    pub viewers: usize,
    /// Those of them whose transport is up.
    pub watching: usize,
    /// Streams that somebody publishes now.
    pub streams: usize,
}

impl Registry {
    /// The live streams by name.
    pub fn live_streams(&self, now: u64) -> Vec<LiveStream> {
        let mut rows: Vec<LiveStream> = self
            .streams
            .iter()
            .filter_map(|(name, stream)| {
                let publisher = stream.live(now)?;
                let codecs = publisher.arriving.clone();
                Some(LiveStream {
                    name: name.clone(),
                    codecs,
                    viewers: stream.watching,
                    since: publisher.created,
                })
            })
            .collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    /// For the gauges.
    pub fn counts(&self, now: u64) -> Counts {
        let mut counts = Counts::default();
        for stream in self.streams.values() {
            counts.publishers += stream.publishers.len();
            counts.viewers += stream.viewers;
            counts.watching += stream.watching;
            counts.streams += usize::from(stream.live(now).is_some());
        }
        counts
    }
}
