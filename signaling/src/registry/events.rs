//! What viewers are told about their stream while they watch (draft-ietf-wish-whep-02 core extensions, "Server Sent
//! Events extension"): who subscribed, and to what.
//!
//! A stream has one [`Scene`]. Listeners see its newest state and nothing that lay in between, so one that reads slowly
//! costs no more than one that reads.

use super::{Registry, SessionId, StreamName, UrlId};
use crate::random;
use sfu::control::protocol::Layer;
use sfu::core::plan::Role;
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// Event streams of one session. A player needs one; a page that was loaded anew may leave one behind.
const STREAMS_PER_SESSION_MAX: usize = 4;
/// Answers of one session that go on. Each event stream has one reader; as many may still be on their way to readers who have come
/// back since, or who do not read.
const READERS_PER_SESSION_MAX: usize = 2 * STREAMS_PER_SESSION_MAX;
/// Deleted event streams of one session that are remembered: all that a session may have had before a restart of signaling, and
/// as many that were made since.
const DELETED_MAX: usize = 2 * STREAMS_PER_SESSION_MAX;
/// With so many viewers more a stream's numbers are told one round later. A round is two seconds, so that a stream costs a thousand
/// small writes a second at most.
const VIEWERS_PER_ROUND: usize = 2000;

/// A kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Somebody publishes.
    Active,
    /// Nobody publishes any more.
    Inactive,
    /// The simulcast layers that are published.
    Layers,
    /// How many watch.
    ViewerCount,
    /// This server goes: start a new session.
    Reconnect,
}

impl EventKind {
    /// Every kind that is sent.
    pub const ALL: [EventKind; 5] = [
        EventKind::Active,
        EventKind::Inactive,
        EventKind::Layers,
        EventKind::ViewerCount,
        EventKind::Reconnect,
    ];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Active => "active",
            EventKind::Inactive => "inactive",
            EventKind::Layers => "layers",
            EventKind::ViewerCount => "viewercount",
            EventKind::Reconnect => "reconnect",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<EventKind> {
        EventKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventSet(u8);

impl EventSet {
    /// All.
    pub const ALL: EventSet = EventSet((1 << EventKind::ALL.len()) - 1);

    /// Whether `kind` is among them.
    pub fn contains(self, kind: EventKind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }
}

impl FromIterator<EventKind> for EventSet {
    fn from_iter<I: IntoIterator<Item = EventKind>>(kinds: I) -> EventSet {
        EventSet(kinds.into_iter().fold(0, |set, kind| set | 1 << kind as u8))
    }
}

/// The last part of an event stream's URL: unguessable, because an EventSource cannot send a token. It carries what was
/// subscribed to, so that a new signaling process serves it as the old one did.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EventsId {
    /// What is told.
    pub wanted: EventSet,
    /// 128 random bits.
    pub secret: UrlId,
}

impl EventsId {
    /// Reads the path segment.
    pub fn parse(text: &str) -> Option<EventsId> {
        let (wanted, secret) = text.split_at_checked(2)?;
        let wanted = u8::from_str_radix(wanted, 16).ok().map(EventSet)?;
        let id = EventsId { wanted, secret: UrlId::parse(secret)? };
        (wanted.0 != 0 && wanted.0 & !EventSet::ALL.0 == 0 && id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for EventsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", random::hex(&[self.wanted.0]), self.secret)
    }
}

/// Never the secret, as with [`UrlId`].
impl fmt::Debug for EventsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventsId({:?})", self.wanted)
    }
}

/// What can be told about a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scene {
    /// A publisher's packets arrive.
    pub active: bool,
    /// Viewers whose transport is up.
    pub viewers: usize,
    /// Its publisher's simulcast layers.
    pub layers: Vec<Layer>,
    /// Counts the scenes that listeners were woken for.
    pub version: u64,
}

impl Scene {
    /// Whether a viewer must hear of `other` at once. Numbers that go up and down can wait.
    pub fn is_turned_into(&self, other: &Scene) -> bool {
        let shape = |layer: &Layer| (layer.rid.clone(), layer.width, layer.height);
        self.active != other.active || !self.layers.iter().map(shape).eq(other.layers.iter().map(shape))
    }
}

/// Everything that one GET of an event stream needs.
pub struct Listening {
    /// The viewer's stream.
    pub name: StreamName,
    /// The index of the viewer's video m-section.
    pub video_line: Option<usize>,
    /// How things are.
    pub scene: Scene,
    /// How they become.
    pub changes: watch::Receiver<Scene>,
    /// Closed or changed when this GET is over: the session ended, the event stream was deleted, or another GET came.
    pub turn: watch::Receiver<u64>,
}

/// A place among the readers of a session, to be kept until nothing more is sent.
#[derive(Debug)]
pub struct ReaderPlace(#[expect(dead_code, reason = "it counts by being there")] Arc<()>);

/// Why an event stream is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is its message")]
pub enum ListenError {
    #[error("There is no such event stream; it was deleted, or its session ended.")]
    NoStream,
    #[error(
        "This session has {READERS_PER_SESSION_MAX} answers with events open, which is all it may have. Close those that are not read any more."
    )]
    TooMany,
}

/// Why there is no event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is its message")]
pub enum SubscribeError {
    #[error(
        "There is no such playback session; it may have ended, or the server's offer is not answered yet. POST an offer to the endpoint for a new one."
    )]
    NoSession,
    #[error(
        "This session has {STREAMS_PER_SESSION_MAX} event streams, which is all it may have. DELETE one of them."
    )]
    TooMany,
}

/// The event streams of one session.
#[derive(Default)]
pub(super) struct Subscriptions {
    streams: Vec<(EventsId, watch::Sender<u64>)>,
    /// The session is older than this signaling process, so there may be streams that only their readers remember.
    adopted: bool,
    /// The last that were deleted since, which must not come back so.
    deleted: Vec<EventsId>,
    /// As often shared as there are readers, and once more.
    readers: Arc<()>,
}

impl Subscriptions {
    /// Those of a session that media brought along.
    pub fn adopted() -> Subscriptions {
        Subscriptions { adopted: true, ..Subscriptions::default() }
    }

    fn add(&mut self, id: EventsId) -> Result<(), SubscribeError> {
        if self.streams.len() >= STREAMS_PER_SESSION_MAX {
            return Err(SubscribeError::TooMany);
        }
        self.streams.push((id, watch::Sender::new(0)));
        Ok(())
    }

    fn place(&self) -> Result<ReaderPlace, ListenError> {
        let readers = Arc::strong_count(&self.readers) - 1;
        if readers < READERS_PER_SESSION_MAX {
            Ok(ReaderPlace(Arc::clone(&self.readers)))
        } else {
            Err(ListenError::TooMany)
        }
    }

    fn find(&mut self, id: EventsId) -> Option<&watch::Sender<u64>> {
        if !self.knows(id) && self.may_be_old(id) {
            self.add(id).ok()?;
        }
        self.streams.iter().find(|(known, _)| *known == id).map(|(_, turn)| turn)
    }

    fn remove(&mut self, id: EventsId) -> bool {
        let found = self.knows(id) || self.may_be_old(id);
        self.streams.retain(|(known, _)| *known != id);
        if found && self.adopted {
            self.deleted.truncate(DELETED_MAX - 1);
            self.deleted.insert(0, id);
        }
        found
    }

    fn knows(&self, id: EventsId) -> bool {
        self.streams.iter().any(|(known, _)| *known == id)
    }

    fn may_be_old(&self, id: EventsId) -> bool {
        self.adopted && !self.deleted.contains(&id)
    }
}

impl Registry {
    /// Makes an event stream for a viewer.
    ///
    /// # Errors
    /// There is no such viewer, or it has too many.
    pub fn subscribe(&mut self, url: UrlId, id: EventsId) -> Result<(), SubscribeError> {
        let session = self.viewer(url).ok_or(SubscribeError::NoSession)?;
        self.subscriptions.entry(session).or_default().add(id)
    }

    /// One reader of an event stream; an earlier reader of it is done.
    ///
    /// # Errors
    /// There is no such event stream, or its session has too many readers.
    pub fn listen(&mut self, url: UrlId, id: EventsId) -> Result<(Listening, ReaderPlace), ListenError> {
        let id_of_session = self.viewer(url).ok_or(ListenError::NoStream)?;
        let session = self.sessions.get(&id_of_session).ok_or(ListenError::NoStream)?;
        let stream = self.streams.get(&session.blob.name).ok_or(ListenError::NoStream)?;
        let subscriptions = self.subscriptions.get_mut(&id_of_session).ok_or(ListenError::NoStream)?;
        let place = subscriptions.place();
        let turn = subscriptions.find(id).ok_or(ListenError::NoStream)?;
        let place = place?;
        turn.send_modify(|turn| *turn += 1);
        let turn = turn.subscribe();
        let listening = Listening {
            name: session.blob.name.clone(),
            video_line: session.video_line,
            scene: stream.scene(),
            changes: stream.told.subscribe(),
            turn,
        };
        Ok((listening, place))
    }

    /// Ends an event stream; whether there was one.
    pub fn unsubscribe(&mut self, url: UrlId, id: EventsId) -> bool {
        let Some(session) = self.viewer(url) else { return false };
        self.subscriptions.get_mut(&session).is_some_and(|subscriptions| subscriptions.remove(id))
    }

    /// One round of telling how many watch and how many bits the layers have. Streams with more viewers are left out of some
    /// rounds.
    pub fn tell_numbers(&mut self) {
        self.rounds += 1;
        for stream in self.streams.values() {
            let every = 1 + stream.watching / VIEWERS_PER_ROUND;
            if self.rounds.is_multiple_of(every) {
                stream.tell_numbers();
            }
        }
    }

    /// Tells those who watch the stream of `id`, if it is something that they must hear at once.
    pub(super) fn tell(&mut self, id: SessionId) {
        if let Some(stream) = self.stream_of(id) {
            stream.tell();
        }
    }

    fn viewer(&self, url: UrlId) -> Option<SessionId> {
        let session = *self.urls.get(&url)?;
        self.sessions.get(&session).filter(|session| session.role == Role::Viewer).map(|_| session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_streams_url_reads_back_and_nothing_else_does() {
        let wanted: EventSet = [EventKind::Active, EventKind::Reconnect].into_iter().collect();
        let id = EventsId { wanted, secret: UrlId([7; 16]) };
        assert_eq!(EventsId::parse(&id.to_string()), Some(id));
        let secret = UrlId([7; 16]).to_string();
        for bad in [
            "",
            "0",
            "11",
            &secret,
            &format!("00{secret}"),
            &format!("ff{secret}"),
            &format!("é{secret}"),
            &format!("+1{secret}"),
        ] {
            assert_eq!(EventsId::parse(bad), None, "{bad}");
        }
        assert!(!format!("{id:?}").contains("07"));
    }

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::parse(kind.name()), Some(kind));
            assert!(EventSet::ALL.contains(kind));
        }
        assert_eq!(EventKind::parse("scte35"), None);
    }
}
