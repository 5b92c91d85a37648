//! One stream: who publishes it, who may, and what a viewer must be able to play.

use super::Refusal;
use super::events::Scene;
use crate::auth::Credential;
use sfu::control::protocol::{Layer, PUBLISHER_SILENT_SECONDS, SessionId};
use sfu::core::codec::{Codec, MediaKind};
use sfu::core::plan::{Epoch, MediaSection, SessionPlan, StreamId};
use tokio::sync::watch;

/// A publisher of a stream.
#[derive(Debug, Clone)]
pub struct Publisher {
    /// Its session.
    pub session: SessionId,
    /// Its place in line.
    pub epoch: Epoch,
    /// Unix seconds.
    pub created: u64,
    /// ICE and DTLS are up.
    pub connected: bool,
    /// Its packets stopped.
    pub silent: bool,
    /// What arrives.
    pub arriving: Vec<Codec>,
    /// What it may send.
    pub planned: Vec<Codec>,
    /// The simulcast layers that arrive.
    pub layers: Vec<Layer>,
    /// Those that it may send.
    pub rids: Vec<String>,
}

impl Publisher {
    /// Whether its name is taken by it. One that is still connecting gets as long as one that fell silent.
    fn is_live(&self, now: u64) -> bool {
        !self.silent && (self.connected || is_young(self.created, now))
    }

    /// Whether its packets arrive.
    fn is_on_air(&self) -> bool {
        self.connected && !self.silent && !self.arriving.is_empty()
    }
}

fn is_young(since: u64, now: u64) -> bool {
    now < since.saturating_add(PUBLISHER_SILENT_SECONDS)
}

/// A stream with at least one session.
#[derive(Debug)]
pub struct Stream {
    /// Its id in media.
    pub id: StreamId,
    /// Highest epoch given.
    pub epoch: Epoch,
    /// In the order in which they came. More than one only while a new one takes over.
    pub publishers: Vec<Publisher>,
    /// Sessions of viewers.
    pub viewers: usize,
    /// Those of them whose transport is up: they watch, or wait for a publisher.
    pub watching: usize,
    /// Sessions that media is creating.
    pub pending: usize,
    /// The publishers among them: epoch, and since when in Unix seconds.
    pub creating: Vec<(Epoch, u64)>,
    /// What its viewers were told last.
    pub told: watch::Sender<Scene>,
}

impl Stream {
    /// A stream without sessions.
    pub fn new(id: StreamId) -> Stream {
        let (publishers, creating, told) = (Vec::new(), Vec::new(), watch::Sender::default());
        Stream { id, epoch: Epoch(0), publishers, viewers: 0, watching: 0, pending: 0, creating, told }
    }

    /// Whether nobody needs it any more.
    pub fn is_idle(&self) -> bool {
        self.publishers.is_empty() && self.viewers == 0 && self.pending == 0
    }

    /// The publisher that viewers see.
    pub fn live(&self, now: u64) -> Option<&Publisher> {
        self.publishers
            .iter()
            .filter(|publisher| publisher.is_live(now))
            .max_by_key(|publisher| publisher.epoch)
    }

    /// How things are now.
    pub fn scene(&self) -> Scene {
        let on_air = self.publishers.iter().filter(|publisher| publisher.is_on_air());
        let publisher = on_air.max_by_key(|publisher| publisher.epoch);
        Scene {
            active: publisher.is_some(),
            viewers: self.watching,
            layers: publisher.map(|publisher| publisher.layers.clone()).unwrap_or_default(),
            version: self.told.borrow().version,
        }
    }

    /// Tells the viewers who listen, if it is something that they must hear at once.
    pub fn tell(&self) {
        self.tell_if(Scene::is_turned_into);
    }

    /// Tells them whatever has changed.
    pub fn tell_numbers(&self) {
        self.tell_if(Scene::ne);
    }

    fn tell_if(&self, worth_it: impl FnOnce(&Scene, &Scene) -> bool) {
        let scene = self.scene();
        self.told.send_if_modified(|told| {
            let worth_it = worth_it(told, &scene);
            if worth_it {
                *told = Scene { version: told.version + 1, ..scene };
            }
            worth_it
        });
    }

    /// The simulcast layers that the newest publisher may send.
    pub fn rids(&self) -> &[String] {
        let newest = self.publishers.iter().max_by_key(|publisher| publisher.epoch);
        newest.map_or(&[], |publisher| &publisher.rids)
    }

    /// May somebody with `credential` publish here? A live name yields to its own credential and to the API token;
    /// two who are both nobody cannot be told apart, so the first one stays.
    pub fn may_publish(&self, credential: Credential, now: u64) -> Result<(), Refusal> {
        let coming = self.creating.iter().any(|(_, since)| is_young(*since, now));
        let taken = coming || self.live(now).is_some();
        if taken && credential == Credential::Open { Err(Refusal::Taken) } else { Ok(()) }
    }

    /// The publisher that took the name over last.
    pub fn newest_connected(&self) -> Option<SessionId> {
        let connected = self.publishers.iter().filter(|publisher| publisher.connected);
        connected.max_by_key(|publisher| publisher.epoch).map(|publisher| publisher.session)
    }

    /// Can the viewer play what is published? Without a publisher it waits.
    pub fn may_watch(&self, viewer: &SessionPlan, now: u64) -> Result<(), Refusal> {
        let Some(publisher) = self.live(now) else { return Ok(()) };
        for section in &viewer.sections {
            let codecs = publisher.codecs(section.kind);
            let plays = |codec: &Codec| section.payload_for(*codec).is_some();
            let playable = match codecs {
                Codecs::Arriving(ref codecs) => codecs.iter().all(plays),
                Codecs::Planned(ref codecs) => codecs.is_empty() || codecs.iter().any(plays),
            };
            if !playable {
                return Err(Refusal::Unplayable {
                    kind: section.kind,
                    published: codecs.names(),
                    offered: offered(section),
                });
            }
        }
        Ok(())
    }
}

/// What a publisher sends of one kind: what arrives, or before that, what it may send.
enum Codecs {
    Arriving(Vec<Codec>),
    Planned(Vec<Codec>),
}

impl Codecs {
    fn names(&self) -> String {
        let (Codecs::Arriving(codecs) | Codecs::Planned(codecs)) = self;
        names(codecs)
    }
}

impl Publisher {
    /// What arrives or may arrive, of both kinds.
    pub fn all_codecs(&self) -> Vec<Codec> {
        let of_kind = |kind| match self.codecs(kind) {
            Codecs::Arriving(codecs) | Codecs::Planned(codecs) => codecs,
        };
        MediaKind::ALL.into_iter().flat_map(of_kind).collect()
    }

    fn codecs(&self, kind: MediaKind) -> Codecs {
        let of_kind =
            |codecs: &[Codec]| codecs.iter().copied().filter(|codec| codec.kind() == kind).collect();
        let arriving: Vec<Codec> = of_kind(&self.arriving);
        if arriving.is_empty() { Codecs::Planned(of_kind(&self.planned)) } else { Codecs::Arriving(arriving) }
    }
}

fn offered(section: &MediaSection) -> String {
    let codecs: Vec<Codec> = section.payloads.iter().map(|payload| payload.codec).collect();
    names(&codecs)
}

fn names(codecs: &[Codec]) -> String {
    let mut names: Vec<String> = codecs.iter().map(Codec::to_string).collect();
    names.dedup();
    names.join(", ")
}
