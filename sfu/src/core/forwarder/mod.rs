//! One worker's sessions and streams, without sockets, threads or clocks: the sans-IO core that `worker.rs` drives
//! and that tests drive with virtual time.
//!
//! Here: the lives of sessions. `ingress.rs`: datagrams in. `ice.rs`: STUN, and where media goes. `port.rs`: whose an address is.
//! `fan_out.rs`: packets out. `feedback.rs`: viewers' RTCP. `streams.rs`: clients behind TCP.

mod fan_out;
mod feedback;
mod ice;
mod ingress;
mod port;
mod streams;

pub use fan_out::GROUP_PACKETS_MAX;

use crate::config::SESSIONS_MAX;
use crate::control::protocol::{
    CreateError, Created, EndReason, IceCredentials, RequestId, SessionId, WorkerIndex,
};
use crate::core::demux;
use crate::core::dtls::HandshakeError;
use crate::core::extensions::PassThrough;
use crate::core::ice::LiteAgent;
use crate::core::ice_check::Path;
use crate::core::identity::Identity;
use crate::core::layers::LayerSet;
use crate::core::meters::Meters;
use crate::core::ntp::NtpClock;
use crate::core::outbox::{Outbox, SessionEvent, Transmit};
use crate::core::packet::MediaPacket;
use crate::core::peer::Drained;
use crate::core::plan::{Role, SessionPlan, StreamId};
use crate::core::session::{Life, RoleState, Session};
use crate::core::shared_port::SharedPort;
use crate::core::srtp::MasterKeys;
use crate::core::streams::Streams;
use crate::core::stun::TransactionId;
use crate::core::track::Outgoing;
use crate::core::viewer::Viewer;
use crate::mesh::{Signal, WorkerSet};
use crate::stats::{DropReason, JoinPhase, WorkerSnapshot};
use slab::Slab;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;
use str0m::Event;

/// Fills a buffer with random bytes: the kernel's in production, seeded in tests.
pub type Random = Box<dyn FnMut(&mut [u8]) + Send>;

/// The forwarding core of one worker.
///
/// After each input its owner empties [`Forwarder::out`]; [`Forwarder::fan_out`] ends a turn.
pub struct Forwarder {
    worker: WorkerIndex,
    others: WorkerSet,
    identity: Identity,
    random: Random,
    clock: NtpClock,
    sessions: Slab<Session>,
    /// Connected viewers by the slot of their session: all that the fan-out touches, without the rest of the session between.
    viewers: Vec<Option<Viewer>>,
    next_generation: u32,
    addresses: HashMap<Path, usize>,
    /// If all workers share a port, whose datagrams arrive where.
    shared_port: Option<SharedPort>,
    /// Whose check of an address an answer belongs to.
    checks: HashMap<TransactionId, usize>,
    /// The slots of sessions whose ufrag signaling chose.
    chosen: HashMap<Vec<u8>, usize>,
    streams: Streams,
    timers: BinaryHeap<Reverse<(Instant, usize, u32)>>,
    drained: Drained,
    /// Header extensions of the packet that str0m is decrypting.
    arriving: PassThrough,
    /// Viewers who asked for packets again in this turn.
    to_retransmit: Vec<usize>,
    /// What one viewer is sent; emptied for the next.
    outgoing: Vec<Outgoing>,
    /// The packets of a viewer who is not sent those of the turn.
    gathered: Vec<MediaPacket>,
    /// Streams of which a viewer has more to be sent than one turn allows, and when they go on.
    to_catch_up: Vec<StreamId>,
    catch_up_at: Option<Instant>,
    /// What is left for such viewers in this turn.
    catch_up_bytes: usize,
    /// The stream at hand has such a viewer.
    wants_turn: bool,
    /// Layers of the stream at hand of which a viewer waits for a key frame, and those of which viewers need the packets.
    wants_keyframes: LayerSet,
    taken: LayerSet,
    /// A viewer's RTCP in clear.
    rtcp: Vec<u8>,
    closing: bool,
    /// What must leave after each turn.
    pub out: Outbox,
    /// Counters.
    pub meters: Meters,
    /// When the packets came in that were forwarded since the worker last asked.
    pub forwarded: Vec<Instant>,
}

impl Forwarder {
    /// A core without sessions. `others` are the workers beside it.
    pub fn new(
        worker: WorkerIndex,
        others: WorkerSet,
        identity: Identity,
        random: Random,
        clock: NtpClock,
    ) -> Forwarder {
        Forwarder {
            worker,
            others,
            identity,
            random,
            clock,
            sessions: Slab::new(),
            viewers: Vec::new(),
            next_generation: 0,
            addresses: HashMap::new(),
            shared_port: None,
            checks: HashMap::new(),
            chosen: HashMap::new(),
            streams: Streams::default(),
            timers: BinaryHeap::new(),
            drained: Drained::default(),
            arriving: PassThrough::EMPTY,
            to_retransmit: Vec::new(),
            outgoing: Vec::new(),
            gathered: Vec::new(),
            to_catch_up: Vec::new(),
            catch_up_at: None,
            catch_up_bytes: 0,
            wants_turn: false,
            wants_keyframes: LayerSet::default(),
            taken: LayerSet::default(),
            rtcp: Vec::new(),
            closing: false,
            out: Outbox::default(),
            meters: Meters::new(),
            forwarded: Vec::new(),
        }
    }

    /// Builds a session and answers with [`SessionEvent::Created`].
    pub fn create(&mut self, now: Instant, request: RequestId, plan: SessionPlan) {
        let result = self.try_create(now, plan);
        self.out.events.push_back(SessionEvent::Created { request, result: result.clone() });
        if let Ok(created) = result {
            self.settle(now, created.session.slot as usize);
        }
    }

    fn try_create(&mut self, now: Instant, plan: SessionPlan) -> Result<Created, CreateError> {
        plan.validate().map_err(CreateError::Plan)?;
        if self.closing {
            return Err(CreateError::ShuttingDown);
        }
        if self.sessions.len() >= SESSIONS_MAX {
            return Err(CreateError::Full);
        }
        if plan.local.as_ref().is_some_and(|local| !self.may_use(local)) {
            return Err(CreateError::Credentials);
        }
        let slot = self.sessions.vacant_key();
        let id = SessionId { worker: self.worker, slot: slot as u32, generation: self.next_generation };
        let local = plan.local.clone().unwrap_or_else(|| self.fresh_credentials(id));
        let remote =
            IceCredentials { ufrag: plan.remote.ice_ufrag.clone(), pwd: plan.remote.ice_pwd.clone() };
        let ice = LiteAgent::new(local.clone(), remote, u64::from_be_bytes(self.random_bytes()));
        let (identity, drained) = (&self.identity, &mut self.drained);
        let build = || Session::new(now, id, plan, ice, identity, drained);
        // str0m checks what it is given with assertions, so a plan that it refuses may arrive as a panic.
        let Ok(Ok(session)) = catch_unwind(AssertUnwindSafe(build)) else {
            // What it left must not go out with the next session's.
            self.drained = Drained::default();
            return Err(CreateError::Refused);
        };
        let role = session.plan.role;
        if session.plan.local.is_some() {
            self.chosen.insert(local.ufrag.clone().into_bytes(), slot);
        }
        self.sessions.insert(session);
        *self.sessions_of(role) += 1;
        self.next_generation = self.next_generation.wrapping_add(1);
        Ok(Created { session: id, ice_ufrag: local.ufrag, ice_pwd: local.pwd })
    }

    fn random_bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.random)(&mut bytes);
        bytes
    }

    fn fresh_credentials(&mut self, session: SessionId) -> IceCredentials {
        let (tag, secret) = (self.random_bytes(), self.random_bytes());
        IceCredentials {
            ufrag: demux::ufrag(session, u32::from_be_bytes(tag)),
            pwd: format!("{:032x}", u128::from_be_bytes(secret)),
        }
    }

    /// Whether credentials that signaling chose lead here, and to nobody else.
    fn may_use(&self, local: &IceCredentials) -> bool {
        demux::slot_of(local.ufrag.as_bytes()) == Some(demux::CHOSEN_SLOT)
            && demux::worker_of(local.ufrag.as_bytes()) == Some(self.worker)
            && !self.chosen.contains_key(local.ufrag.as_bytes())
    }

    /// Ends a session with a goodbye to the client.
    pub fn delete(&mut self, now: Instant, session: SessionId) {
        let slot = session.slot as usize;
        if self.sessions.get(slot).is_some_and(|found| found.id == session && !found.is_ending()) {
            self.close(now, slot, EndReason::Deleted);
        }
    }

    /// Ends every session and takes no new ones.
    pub fn shut_down(&mut self, now: Instant) {
        self.closing = true;
        let slots: Vec<usize> = self.sessions.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            if self.sessions.get(slot).is_some_and(|session| matches!(session.life, Life::Over { .. })) {
                self.forget(slot);
            } else {
                self.close(now, slot, EndReason::Shutdown);
            }
        }
    }

    /// The same after a fault of the loop that drives it. What was not handed over then may be half done, and goes nowhere.
    pub fn fail(&mut self, now: Instant) {
        self.out = Outbox::default();
        self.abandon();
        self.shut_down(now);
    }

    /// Whether [`Forwarder::shut_down`] has finished.
    pub fn is_shut_down(&self) -> bool {
        self.closing && self.sessions.is_empty()
    }

    fn close(&mut self, now: Instant, slot: usize, reason: EndReason) {
        self.guarded(now, slot, |core| {
            core.say_bye(slot);
            core.detach(slot);
            core.cancel_check(slot);
            if let Some(session) = core.sessions.get_mut(slot) {
                session.close(now, reason, &mut core.drained);
            }
        });
    }

    /// When the next turn is due.
    pub fn deadline(&self) -> Option<Instant> {
        let timers = self.timers.peek().map(|Reverse((at, ..))| *at);
        [timers, self.catch_up_at].into_iter().flatten().min()
    }

    /// Runs what is due, at most `limit` sessions; the rest stays due.
    pub fn handle_timeout(&mut self, now: Instant, limit: usize) {
        for _ in 0..limit {
            let Some(&Reverse((at, slot, generation))) = self.timers.peek() else { return };
            if at > now {
                return;
            }
            self.timers.pop();
            let Some(session) = self.sessions.get_mut(slot) else { continue };
            if session.id.generation != generation || session.scheduled != Some(at) {
                continue; // an older entry of the session, or another session's
            }
            session.scheduled = None;
            self.guarded(now, slot, |core| core.expire(now, slot));
        }
    }

    fn expire(&mut self, now: Instant, slot: usize) {
        self.follow_rival(now, slot);
        self.step_check(now, slot);
        self.forget_addresses(now, slot);
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if session.is_forgotten(now) {
            return self.forget(slot);
        }
        if let Some(
            reason @ (EndReason::ConnectTimeout | EndReason::ConsentExpired | EndReason::DtlsFailed),
        ) = session.over(now)
        {
            self.end(slot, reason);
            return self.forget(slot);
        }
        if session.peer.deadline() <= now && session.peer.handle_timeout(now, &mut self.drained).is_err() {
            self.meters.dropped(DropReason::Rejected, 1);
        }
        let id = session.id;
        if let RoleState::Publisher(publisher) = &mut session.role {
            if let Some(silent) = publisher.check_silence(now) {
                self.out.events.push_back(SessionEvent::Silence(id, silent));
            }
            let sent = publisher.request_keyframes(now, &mut session.peer, &mut self.drained);
            self.meters.counters.keyframe_requests += sent.unwrap_or(0);
            if let Some(layers) = &mut publisher.layers {
                layers.measure(now);
            }
            self.tell_layers(now, slot);
        }
    }

    /// Runs `act` on a session and settles it. A panic in it, most likely an assertion of str0m about odd input,
    /// costs this session only.
    fn guarded(&mut self, now: Instant, slot: usize, act: impl FnOnce(&mut Forwarder)) {
        self.caught(slot, |core| {
            act(core);
            core.settle(now, slot);
        });
    }

    /// The same for what leaves nothing to settle.
    fn caught(&mut self, slot: usize, act: impl FnOnce(&mut Forwarder)) {
        if catch_unwind(AssertUnwindSafe(|| act(self))).is_err() {
            self.abandon();
            self.end(slot, EndReason::Fault);
            self.forget(slot);
        }
    }

    /// What a session left in the middle of something must not go out with the next one's.
    fn abandon(&mut self) {
        self.drained = Drained::default();
        drop((MasterKeys::take(), HandshakeError::take()));
    }

    /// Hands over what a session produced, follows its events, and ends or reschedules it.
    fn settle(&mut self, now: Instant, slot: usize) {
        if let Some(keys) = MasterKeys::take()
            && let Some(session) = self.sessions.get_mut(slot)
        {
            session.set_keys(keys, self.identity.srtp_provider());
        }
        if let Some(error) = HandshakeError::take()
            && let Some(session) = self.sessions.get_mut(slot)
        {
            session.handshake_error = Some(error);
        }
        loop {
            self.hand_over(now, slot);
            if self.drained.events.is_empty() {
                break;
            }
            for event in std::mem::take(&mut self.drained.events) {
                self.follow(now, slot, event);
            }
        }
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if let Some(reason) = session.over(now) {
            self.end(slot, reason);
            self.linger(now, slot);
        }
        self.schedule(now, slot);
    }

    /// Puts a session's deadline into the timers, unless an earlier one is there.
    fn schedule(&mut self, now: Instant, slot: usize) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let deadline = session.deadline(now);
        if session.scheduled.is_none_or(|scheduled| deadline < scheduled) {
            session.scheduled = Some(deadline);
            self.timers.push(Reverse((deadline, slot, session.id.generation)));
        }
    }

    /// What str0m wants sent goes where media goes.
    fn hand_over(&mut self, now: Instant, slot: usize) {
        for contents in std::mem::take(&mut self.drained.datagrams) {
            let Some(session) = self.sessions.get_mut(slot) else { continue };
            match session.paths.selected().filter(|_| session.paths.may_send(now, contents.len())) {
                Some((socket, to)) => self.out.transmits.push(Transmit { socket, to, contents }),
                None => self.withhold(now, slot, contents),
            }
        }
    }

    fn follow(&mut self, now: Instant, slot: usize, event: Event) {
        match event {
            Event::Connected => self.attach(now, slot),
            Event::RtpPacket(rtp) => self.published(now, slot, rtp),
            _ => {}
        }
    }

    /// ICE and DTLS are up: the session takes its place in the stream.
    fn attach(&mut self, now: Instant, slot: usize) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if !matches!(session.life, Life::Connecting { .. }) {
            return;
        }
        session.life = Life::Connected;
        // The client has answered what was sent there and nowhere else.
        drop(session.paths.proven());
        if let Some(path) = session.paths.selected() {
            session.paths.consented(now, path);
        }
        let (id, stream, role) = (session.id, session.plan.stream, session.plan.role);
        self.out.events.push_back(SessionEvent::Connected(id));
        match role {
            Role::Publisher => {
                if let RoleState::Publisher(publisher) = &mut session.role {
                    publisher.connected(now);
                }
                self.streams.entry(stream).publishers.push(slot);
            }
            Role::Viewer => self.seat(now, slot),
        }
    }

    /// A connected viewer takes its place among the stream's viewers.
    fn seat(&mut self, now: Instant, slot: usize) {
        let Some(viewer) = self.new_viewer(now, slot) else {
            return self.close(now, slot, EndReason::DtlsFailed);
        };
        let Some(session) = self.sessions.get(slot) else { return };
        let stream = session.plan.stream;
        self.meters.joined(JoinPhase::Dtls, now.saturating_duration_since(session.created));
        if self.viewers.len() <= slot {
            self.viewers.resize_with(slot + 1, || None);
        }
        self.viewers[slot] = Some(viewer);
        self.retarget(now, slot);
        let layer = self.viewers[slot].as_ref().map(Viewer::layers).unwrap_or_default().1;
        let entry = self.streams.entry(stream);
        entry.viewers.push(slot);
        let is_first = entry.viewers.len() == 1;
        let may_start = entry.stores.video(layer).newest_keyframe().is_some();
        // The turn ends with a subscription, if the viewer takes what this worker does not have. The worker that has the publisher
        // answers with a group of pictures or asks for a key frame.
        self.streams.mark_busy(stream);
        if !may_start && !self.want_local_keyframe(now, stream, layer) && !is_first {
            self.broadcast(&Signal::WantKeyframe(stream, layer));
        }
    }

    /// `None` if DTLS chose an SRTP profile that is not ours.
    fn new_viewer(&mut self, now: Instant, slot: usize) -> Option<Viewer> {
        let session = self.sessions.get_mut(slot)?;
        let keys = session.keys.take()?;
        let crypto = self.identity.srtp_provider();
        let random = &mut self.random;
        let first_sequence = || {
            let mut bytes = [0; 2];
            random(&mut bytes);
            u16::from_be_bytes(bytes)
        };
        Viewer::new(
            (session.created, now),
            &session.plan,
            (&keys, crypto),
            session.paths.selected()?,
            first_sequence,
        )
    }

    /// Takes a session out of its stream.
    fn detach(&mut self, slot: usize) {
        let Some(session) = self.sessions.get(slot) else { return };
        let id = session.plan.stream;
        if self.streams.leave(id, slot) {
            self.broadcast(&Signal::Unsubscribe(id));
        }
        self.streams.tidy(id);
    }

    /// Reports the end of a session. Nothing more is sent to it.
    fn end(&mut self, slot: usize, reason: EndReason) {
        let Some(session) = self.sessions.get(slot) else { return };
        if matches!(session.life, Life::Over { .. }) {
            return;
        }
        let (id, role) = (session.id, session.plan.role);
        if let (EndReason::DtlsFailed, Some(error)) = (reason, &session.handshake_error) {
            tracing::warn!(session = %id, "DTLS failed: {error}");
        }
        self.detach(slot);
        if let Some(viewer) = self.viewers.get_mut(slot) {
            *viewer = None;
        }
        self.cancel_check(slot);
        *self.sessions_of(role) -= 1;
        self.out.events.push_back(SessionEvent::Ended(id, reason));
    }

    /// A session is over. The client may not know it yet; what it still sends is not counted as a stranger's.
    fn linger(&mut self, now: Instant, slot: usize) {
        match self.sessions.get_mut(slot) {
            Some(session) if !self.closing => session.linger(now),
            _ => self.forget(slot),
        }
    }

    /// Frees the slot of a session that was reported as ended.
    fn forget(&mut self, slot: usize) {
        let Some(session) = self.sessions.try_remove(slot) else { return };
        for address in session.paths.known() {
            self.forget_address(address);
        }
        if let Some(chosen) = &session.plan.local {
            self.chosen.remove(chosen.ufrag.as_bytes());
        }
        let no_claims = self.shared_port.as_ref().is_none_or(SharedPort::claims_nothing);
        let all_gone = self.addresses.is_empty() && self.checks.is_empty() && no_claims;
        debug_assert!(
            !self.sessions.is_empty() || all_gone,
            "an address, a check or a claim was left behind"
        );
    }

    /// Tells the other workers that this one starts anew.
    pub fn announce_restart(&mut self) {
        self.broadcast(&Signal::Restarted);
    }

    /// The counters.
    pub fn snapshot(&self) -> WorkerSnapshot {
        self.meters.snapshot()
    }

    /// The gauge of sessions with this role.
    fn sessions_of(&mut self, role: Role) -> &mut u64 {
        match role {
            Role::Publisher => &mut self.meters.counters.publishers,
            Role::Viewer => &mut self.meters.counters.viewers,
        }
    }
}
