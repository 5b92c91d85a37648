//! Which streams and sessions live, and who may join them. Sans-IO: time and random numbers are arguments.
//!
//! A session goes through [`Registry::admit`], then media creates it, then [`Registry::created`] or
//! [`Registry::failed`]. What media says afterwards comes in by the methods named like its events. Media is the owner
//! of the truth: [`Registry::rebuild`] takes it over whole.

mod blob;
mod census;
mod events;
mod ice;
mod layers;
mod name;
mod placement;
mod recently_ended;
mod stream;
#[cfg(test)]
mod tests;

pub use blob::{Blob, UrlId};
pub use census::{Counts, LiveStream};
pub use events::{EventKind, EventSet, EventsId, ListenError, Listening, ReaderPlace, Scene, SubscribeError};
pub use ice::{IceGeneration, IceSession, Restart, RestartRefusal};
pub use layers::SelectError;
pub use name::{NameError, StreamName};

use crate::auth::Credential;
use events::Subscriptions;
use placement::Worker;
use recently_ended::RecentlyEnded;
use sfu::control::protocol::{IceCredentials, SessionId, SessionInfo, WorkerIndex, WorkerLoad};
use sfu::core::codec::{Codec, MediaKind};
use sfu::core::demux;
use sfu::core::plan::{Epoch, Role, SessionPlan, StreamId};
use std::collections::HashMap;
use stream::{Publisher, Stream};

/// Why a session is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is its message")]
pub enum Refusal {
    #[error(
        "Somebody already publishes this stream. Choose another name, wait until they stop, or send the API token, which takes the name over."
    )]
    Taken,
    #[error(
        "The stream's {kind} is {published}, and the player offers {offered}. Use a player that decodes it, or let the publisher send another codec or profile (H264 Constrained Baseline and VP8 play everywhere)."
    )]
    Unplayable { kind: MediaKind, published: String, offered: String },
    #[error("Nobody publishes this stream now. Try again in a few seconds.")]
    NotLive,
    #[error(
        "No media worker takes sessions: each is full, hangs or starts again. Try again later, or use another server."
    )]
    Full,
    #[error(
        "Every media worker is near its limit of load: with one more session the streams would stutter for everybody. Try again in a few seconds, or use another server."
    )]
    Saturated,
    #[error("The session's facts do not fit into its plan. Use a shorter stream name.")]
    Blob,
}

/// Who wants in.
pub struct Candidacy {
    /// To which stream.
    pub name: StreamName,
    /// On what ground.
    pub credential: Credential,
    /// From the offer; stream, epoch and blob are filled in here.
    pub plan: SessionPlan,
    /// Fresh random numbers.
    pub ids: FreshIds,
}

/// Random numbers for one admission.
#[derive(Debug, Clone, Copy)]
pub struct FreshIds {
    /// For the session's URL.
    pub url: UrlId,
    /// For its entity tag.
    pub etag: u64,
    /// For the stream, if it is a new one.
    pub stream: StreamId,
}

/// A viewer's session as it may become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prospect {
    /// Where it would be placed.
    pub worker: WorkerIndex,
    /// What the stream's publisher sends, or may send of a kind that has not arrived yet. Empty without a publisher.
    pub codecs: Vec<Codec>,
    /// The stream's id, if it is known already.
    pub stream: Option<StreamId>,
}

/// A session that media is to create.
#[derive(Debug, Clone)]
pub struct Admission {
    /// Where.
    pub worker: WorkerIndex,
    /// What.
    pub plan: SessionPlan,
    /// What we know about it.
    pub blob: Blob,
}

/// A session that lives in media.
#[derive(Debug, Clone)]
pub struct Session {
    /// Publisher or viewer.
    pub role: Role,
    /// Its m-sections by mid, in the offer's order.
    pub mids: Vec<String>,
    /// What the first of them is.
    pub kind: MediaKind,
    /// The client's ICE.
    pub ice: IceSession,
    /// The index of its first video m-section in the SDP.
    pub video_line: Option<usize>,
    /// Our facts.
    pub blob: Blob,
    /// ICE and DTLS are up, or were once.
    connected: bool,
    /// Its URL was deleted or it was replaced; media has been told and will say when it is gone.
    deleted: bool,
}

/// What a DELETE met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// Publisher or viewer.
    pub role: Role,
    /// What media must end; nothing if it is among the sessions that ended last.
    pub session: Option<SessionId>,
}

/// Every stream and session.
#[derive(Default)]
pub struct Registry {
    streams: HashMap<StreamName, Stream>,
    sessions: HashMap<SessionId, Session>,
    urls: HashMap<UrlId, SessionId>,
    subscriptions: HashMap<SessionId, Subscriptions>,
    recently_ended: RecentlyEnded,
    /// Of [`Registry::tell_numbers`].
    rounds: usize,
    workers: Vec<Worker>,
    /// The worker whose turn it is among equal ones.
    next_worker: usize,
}

impl Registry {
    /// Decides whether a session may be created and where. A publisher's epoch is above all earlier ones.
    ///
    /// # Errors
    /// It may not; the words name the cure.
    pub fn admit(&mut self, candidacy: Candidacy, now: u64) -> Result<Admission, Refusal> {
        let Candidacy { name, credential, mut plan, ids } = candidacy;
        if let Some(stream) = self.streams.get(&name) {
            match plan.role {
                Role::Publisher => stream.may_publish(credential, now)?,
                Role::Viewer => stream.may_watch(&plan, now)?,
            }
        }
        let worker = self.place_for(&plan)?;
        let blob = Blob { url: ids.url, name: name.clone(), etag: ids.etag, credential, created: now };
        plan.blob = postcard::to_stdvec(&blob).map_err(|_| Refusal::Blob)?;
        let stream = self.streams.entry(name).or_insert_with(|| Stream::new(ids.stream));
        stream.pending += 1;
        plan.stream = stream.id;
        if plan.role == Role::Publisher {
            // The clock keeps epochs rising over restarts of signaling, which forgets those of publishers that left.
            stream.epoch = Epoch(now.max(stream.epoch.0 + 1));
            plan.epoch = stream.epoch;
            stream.creating.push((plan.epoch, now));
        }
        self.worker(worker, Worker::place);
        self.next_worker = usize::from(worker.0) + 1;
        Ok(Admission { worker, plan, blob })
    }

    /// The worker that an offer of ours has named to the client already, or the best one.
    fn place_for(&self, plan: &SessionPlan) -> Result<WorkerIndex, Refusal> {
        let named = plan.local.as_ref().and_then(|local| demux::worker_of(local.ufrag.as_bytes()));
        match named {
            Some(worker) => placement::check(&self.workers, worker),
            None => placement::choose(&self.workers, self.next_worker),
        }
    }

    /// What an offer of ours to a viewer may say before the viewer is admitted.
    ///
    /// # Errors
    /// No worker would take it.
    pub fn prospect(&mut self, name: &StreamName, now: u64) -> Result<Prospect, Refusal> {
        let worker = placement::choose(&self.workers, self.next_worker)?;
        // Offers in a row must not all name the worker that was free before the first.
        self.next_worker = usize::from(worker.0) + 1;
        let stream = self.streams.get(name);
        let codecs = stream.and_then(|stream| stream.live(now)).map_or_else(Vec::new, Publisher::all_codecs);
        Ok(Prospect { worker, codecs, stream: stream.map(|stream| stream.id) })
    }

    /// Media has created what was admitted.
    pub fn created(&mut self, admission: Admission, session: SessionId) {
        self.settle(&admission);
        let info = SessionInfo {
            session,
            plan: admission.plan,
            connected: false,
            silent: false,
            codecs: Vec::new(),
            layers: Vec::new(),
        };
        self.insert(info, admission.blob);
    }

    /// Media has not created what was admitted.
    pub fn failed(&mut self, admission: &Admission) {
        self.settle(admission);
        self.worker(admission.worker, Worker::take_back);
        self.sweep(&admission.blob.name);
    }

    fn settle(&mut self, admission: &Admission) {
        if let Some(stream) = self.streams.get_mut(&admission.blob.name) {
            stream.pending = stream.pending.saturating_sub(1);
            stream.creating.retain(|(epoch, _)| *epoch != admission.plan.epoch);
        }
    }

    fn insert(&mut self, info: SessionInfo, blob: Blob) {
        let plan = info.plan;
        let stream = self.streams.entry(blob.name.clone()).or_insert_with(|| Stream::new(plan.stream));
        match plan.role {
            Role::Viewer => {
                stream.viewers += 1;
                stream.watching += usize::from(info.connected);
            }
            Role::Publisher => {
                stream.epoch = stream.epoch.max(plan.epoch);
                stream.publishers.push(Publisher {
                    session: info.session,
                    epoch: plan.epoch,
                    created: blob.created,
                    connected: info.connected,
                    silent: info.silent,
                    arriving: info.codecs,
                    planned: codecs_of(&plan),
                    layers: info.layers,
                    rids: layers::rids_of(&plan),
                });
                stream.tell();
            }
        }
        self.urls.insert(blob.url, info.session);
        let session = Session {
            role: plan.role,
            video_line: layers::video_line(&plan),
            kind: plan.sections.first().map_or(MediaKind::Audio, |section| section.kind),
            mids: plan.sections.into_iter().map(|section| section.mid).collect(),
            ice: IceSession::new(plan.remote.ice_ufrag),
            blob,
            connected: info.connected,
            deleted: false,
        };
        self.sessions.insert(info.session, session);
    }

    /// The session behind a URL.
    pub fn session(&self, url: UrlId) -> Option<&Session> {
        self.sessions.get(self.urls.get(&url)?)
    }

    /// Takes a URL away; what was there. Of a session that ended by itself the first DELETE is still to come.
    pub fn delete(&mut self, url: UrlId) -> Option<Deleted> {
        let session = self.urls.get(&url).copied();
        if let Some(id) = session {
            self.retire(id);
        }
        let role = self.recently_ended.take(url)?;
        Some(Deleted { role, session })
    }

    /// Begins an ICE restart with the client's new credentials. Until media has answered there is no second one.
    ///
    /// # Errors
    /// There is no such session, or it is being restarted.
    pub fn restart(
        &mut self,
        url: UrlId,
        remote: IceCredentials,
        etag: u64,
    ) -> Result<Restart, RestartRefusal> {
        let id = *self.urls.get(&url).ok_or(RestartRefusal::NoSession)?;
        let session = self.sessions.get_mut(&id).ok_or(RestartRefusal::NoSession)?;
        session.ice.begin(&remote.ufrag)?;
        Ok(Restart { session: id, remote, blob: Blob { etag, ..session.blob.clone() } })
    }

    /// Media has restarted ICE: from now on the new entity tag and the client's new credentials hold.
    pub fn restarted(&mut self, restart: Restart) {
        if let Some(session) = self.sessions.get_mut(&restart.session) {
            session.ice.finish(&restart.remote.ufrag);
            session.blob = restart.blob;
        }
    }

    /// Media has not restarted ICE: everything is as it was.
    pub fn not_restarted(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.ice.give_up();
        }
    }

    /// Forgets a session's URL and its place in the stream; its worker's slot is free when media says so.
    fn retire(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id).filter(|session| !session.deleted) else { return };
        session.deleted = true;
        let (url, name, role) = (session.blob.url, session.blob.name.clone(), session.role);
        let watched = session.connected;
        self.urls.remove(&url);
        self.recently_ended.push(url, role);
        self.subscriptions.remove(&id);
        if let Some(stream) = self.streams.get_mut(&name) {
            match role {
                Role::Viewer => {
                    stream.viewers = stream.viewers.saturating_sub(1);
                    stream.watching = stream.watching.saturating_sub(usize::from(watched));
                }
                Role::Publisher => {
                    stream.publishers.retain(|publisher| publisher.session != id);
                    stream.tell();
                }
            }
        }
        self.sweep(&name);
    }

    /// A session's transport is up. A publisher takes its name over now: the sessions to end.
    pub fn connected(&mut self, id: SessionId) -> Vec<SessionId> {
        self.count_in(id);
        let Some(publisher) = self.publisher(id) else { return Vec::new() };
        publisher.connected = true;
        let epoch = publisher.epoch;
        let older = self.siblings(id).filter(|publisher| publisher.epoch < epoch);
        let replaced: Vec<SessionId> = older.map(|publisher| publisher.session).collect();
        for &session in &replaced {
            self.retire(session);
        }
        self.tell(id);
        replaced
    }

    /// A viewer watches from now on.
    fn count_in(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let is_new = !std::mem::replace(&mut session.connected, true) && !session.deleted;
        if is_new
            && session.role == Role::Viewer
            && let Some(stream) = self.stream_of(id)
        {
            stream.watching += 1;
        }
    }

    /// A publisher sends this codec, in place of what it sent of that kind before.
    pub fn track(&mut self, id: SessionId, codec: Codec) {
        if let Some(publisher) = self.publisher(id) {
            publisher.arriving.retain(|arriving| arriving.kind() != codec.kind());
            publisher.arriving.push(codec);
            publisher.silent = false;
        }
        self.tell(id);
    }

    /// A publisher's packets stopped or came back.
    pub fn silence(&mut self, id: SessionId, silent: bool) {
        if let Some(publisher) = self.publisher(id) {
            publisher.silent = silent;
        }
        self.tell(id);
    }

    /// Whether somebody publishes under this name.
    pub fn is_live(&self, name: &StreamName, now: u64) -> bool {
        self.streams.get(name).is_some_and(|stream| stream.live(now).is_some())
    }

    /// A session is gone; what it was.
    pub fn ended(&mut self, id: SessionId) -> Option<Role> {
        self.retire(id);
        let session = self.sessions.remove(&id)?;
        self.worker(id.worker, |worker| worker.sessions = worker.sessions.saturating_sub(1));
        Some(session.role)
    }

    /// Takes over what media says that lives. Returned, to be ended, are sessions whose blob is not ours, and publishers
    /// that were replaced while nobody was there to end them.
    pub fn rebuild(&mut self, workers: usize, sessions: Vec<SessionInfo>) -> Vec<SessionId> {
        let recently_ended = std::mem::take(&mut self.recently_ended);
        *self = Registry { workers: vec![Worker::default(); workers], recently_ended, ..Registry::default() };
        let mut unwanted = Vec::new();
        for info in sessions {
            match postcard::from_bytes::<Blob>(&info.plan.blob) {
                Ok(blob) => {
                    self.worker(info.session.worker, |worker| worker.sessions += 1);
                    self.subscriptions.insert(info.session, Subscriptions::adopted());
                    self.insert(info, blob);
                }
                Err(_) => unwanted.push(info.session),
            }
        }
        let newest: Vec<SessionId> = self.streams.values().filter_map(Stream::newest_connected).collect();
        unwanted.extend(newest.into_iter().flat_map(|id| self.connected(id)));
        unwanted
    }

    /// What media reported of its workers.
    pub fn report(&mut self, loads: &[WorkerLoad]) {
        for (worker, load) in self.workers.iter_mut().zip(loads) {
            worker.report(*load);
        }
    }

    /// Whether a worker would take a session now.
    ///
    /// # Errors
    /// None would, and why.
    pub fn takes_sessions(&self) -> Result<(), Refusal> {
        placement::choose(&self.workers, self.next_worker).map(drop)
    }

    /// A worker does not run; it gets nothing until it reports again.
    pub fn worker_down(&mut self, worker: WorkerIndex) {
        self.worker(worker, |worker| worker.down = true);
    }

    /// How many workers it knows.
    #[cfg(test)]
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    fn worker(&mut self, index: WorkerIndex, change: impl FnOnce(&mut Worker)) {
        if let Some(worker) = self.workers.get_mut(usize::from(index.0)) {
            change(worker);
        }
    }

    fn stream_of(&mut self, id: SessionId) -> Option<&mut Stream> {
        self.streams.get_mut(&self.sessions.get(&id)?.blob.name)
    }

    fn siblings(&mut self, id: SessionId) -> impl Iterator<Item = &Publisher> {
        self.stream_of(id).into_iter().flat_map(|stream| stream.publishers.iter())
    }

    fn publisher(&mut self, id: SessionId) -> Option<&mut Publisher> {
        self.stream_of(id)?.publishers.iter_mut().find(|publisher| publisher.session == id)
    }

    fn sweep(&mut self, name: &StreamName) {
        if self.streams.get(name).is_some_and(Stream::is_idle) {
            self.streams.remove(name);
        }
    }
}

fn codecs_of(plan: &SessionPlan) -> Vec<Codec> {
    plan.sections.iter().flat_map(|section| section.payloads.iter().map(|payload| payload.codec)).collect()
}

/// The epoch of a plan that is not admitted yet.
pub const NO_EPOCH: Epoch = Epoch(0);
/// The stream of a plan that is not admitted yet.
pub const NO_STREAM: StreamId = StreamId(0);
