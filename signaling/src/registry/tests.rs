use super::*;
use sfu::control::protocol::{IceCredentials, Layer, LayerChoice, PUBLISHER_SILENT_SECONDS};
use sfu::core::codec::H264Profile;
use sfu::core::plan::{
    DtlsRole, Feedback, MediaSection, Payload, PayloadType, PeerCertificate, RemoteTransport, Ssrc, SsrcPair,
};

const NOW: u64 = 1_000_000;
const HIGH: Codec = Codec::H264 { profile: H264Profile::High, packetization_mode: 1 };
const BASELINE: Codec = Codec::H264 { profile: H264Profile::ConstrainedBaseline, packetization_mode: 1 };

fn plan(role: Role, codecs: &[Codec]) -> SessionPlan {
    let payloads = codecs.iter().enumerate().map(|(index, codec)| Payload {
        pt: PayloadType(96 + index as u8),
        rtx: None,
        codec: *codec,
        feedback: Feedback::default(),
    });
    let section = MediaSection {
        mid: "0".into(),
        kind: codecs[0].kind(),
        payloads: payloads.collect(),
        extensions: Vec::new(),
        ssrcs: vec![SsrcPair { media: Ssrc(1), rtx: None }],
        rids: Vec::new(),
    };
    let remote = RemoteTransport {
        ice_ufrag: "abcd".into(),
        ice_pwd: "0123456789012345678901".into(),
        fingerprint: [0; 32],
        dtls_role: DtlsRole::Passive,
        certificate: PeerCertificate::Ecdsa,
    };
    SessionPlan {
        role,
        stream: NO_STREAM,
        epoch: NO_EPOCH,
        remote,
        sections: vec![section],
        local: None,
        extmap_allow_mixed: false,
        blob: Vec::new(),
    }
}

/// A registry with two workers and a media process that always says yes.
struct World {
    registry: Registry,
    next: u32,
    now: u64,
}

impl World {
    fn new() -> World {
        let mut registry = Registry::default();
        registry.rebuild(2, Vec::new());
        World { registry, next: 0, now: NOW }
    }

    fn admit(&mut self, role: Role, codecs: &[Codec], credential: Credential) -> Result<Admission, Refusal> {
        self.next += 1;
        let ids = FreshIds {
            url: UrlId([self.next as u8; 16]),
            etag: u64::from(self.next),
            stream: StreamId(u64::from(self.next)),
        };
        let name = StreamName::parse("demo").expect("name");
        self.registry.admit(Candidacy { name, credential, plan: plan(role, codecs), ids }, self.now)
    }

    /// Admits a viewer who has been told of this worker.
    fn admit_told(&mut self, worker: WorkerIndex) -> Result<Admission, Refusal> {
        self.next += 1;
        let url = UrlId([self.next as u8; 16]);
        let ids = FreshIds { url, etag: 1, stream: StreamId(u64::from(self.next)) };
        let local = IceCredentials { ufrag: demux::chosen_ufrag(worker, 1), pwd: "0".repeat(32) };
        let plan = SessionPlan { local: Some(local), ..plan(Role::Viewer, &[HIGH]) };
        let name = StreamName::parse("demo").expect("name");
        self.registry.admit(Candidacy { name, credential: Credential::Open, plan, ids }, self.now)
    }

    fn join(
        &mut self,
        role: Role,
        codecs: &[Codec],
        credential: Credential,
    ) -> Result<(SessionId, UrlId), Refusal> {
        let admission = self.admit(role, codecs, credential)?;
        let id = SessionId { worker: admission.worker, slot: self.next, generation: 0 };
        let url = admission.blob.url;
        self.registry.created(admission, id);
        Ok((id, url))
    }

    fn publish(&mut self, codec: Codec, credential: Credential) -> Result<SessionId, Refusal> {
        let (id, _) = self.join(Role::Publisher, &[codec], credential)?;
        self.registry.connected(id);
        self.registry.track(id, codec);
        Ok(id)
    }

    fn watch(&mut self, codecs: &[Codec]) -> Result<(SessionId, UrlId), Refusal> {
        self.join(Role::Viewer, codecs, Credential::Open)
    }
}

#[test]
fn a_viewer_waits_for_a_publisher_on_the_same_stream() {
    let mut world = World::new();
    let viewer = world.admit(Role::Viewer, &[Codec::Vp8], Credential::Open).expect("viewer");
    let publisher = world.admit(Role::Publisher, &[Codec::Vp8], Credential::Open).expect("publisher");
    assert_eq!(viewer.plan.stream, publisher.plan.stream);
    assert_eq!((viewer.plan.epoch, publisher.plan.epoch), (Epoch(0), Epoch(NOW)));
}

#[test]
fn sessions_spread_over_the_workers_while_they_are_being_created() {
    let mut world = World::new();
    let first = world.admit(Role::Viewer, &[Codec::Vp8], Credential::Open).expect("first");
    let second = world.admit(Role::Viewer, &[Codec::Vp8], Credential::Open).expect("second");
    assert_ne!(first.worker, second.worker);
    world.registry.failed(&second);
    let third = world.admit(Role::Viewer, &[Codec::Vp8], Credential::Open).expect("third");
    assert_eq!(third.worker, second.worker);
}

#[test]
fn in_open_mode_a_live_name_is_taken() {
    let mut world = World::new();
    world.publish(Codec::Vp8, Credential::Open).expect("first");
    assert_eq!(world.publish(Codec::Vp8, Credential::Open), Err(Refusal::Taken));
}

#[test]
fn a_silent_publisher_is_replaced() {
    let mut world = World::new();
    let first = world.publish(Codec::Vp8, Credential::Open).expect("first");
    world.registry.silence(first, true);
    let (second, _) = world.join(Role::Publisher, &[Codec::Vp8], Credential::Open).expect("second");
    assert_eq!(world.registry.connected(second), vec![first]);
}

#[test]
fn a_publisher_that_never_connects_holds_its_name_for_three_seconds() {
    let mut world = World::new();
    world.join(Role::Publisher, &[Codec::Vp8], Credential::Open).expect("first");
    world.now += 2;
    assert_eq!(world.publish(Codec::Vp8, Credential::Open), Err(Refusal::Taken));
    world.now += 1;
    assert!(world.publish(Codec::Vp8, Credential::Open).is_ok());
}

#[test]
fn of_two_publishers_that_come_at_once_one_gets_the_name() {
    let mut world = World::new();
    let publisher = |world: &mut World| world.admit(Role::Publisher, &[Codec::Vp8], Credential::Open);
    let first = publisher(&mut world).expect("first");
    assert_eq!(publisher(&mut world).err(), Some(Refusal::Taken));
    world.registry.failed(&first);
    publisher(&mut world).expect("free again");
    world.now += PUBLISHER_SILENT_SECONDS;
    publisher(&mut world).expect("free for want of an answer");
}

#[test]
fn a_worker_that_does_not_run_gets_nothing_until_it_reports_again() {
    let mut world = World::new();
    let running = |up| WorkerLoad { up, ..WorkerLoad::default() };
    let place =
        |world: &mut World| world.watch(&[Codec::Vp8]).map(|(session, _)| session.worker).expect("viewer");
    world.registry.report(&[running(false), running(true)]);
    assert_eq!([place(&mut world), place(&mut world)], [WorkerIndex(1), WorkerIndex(1)]);
    world.registry.report(&[running(true), running(true)]);
    assert_eq!(place(&mut world), WorkerIndex(0));
    world.registry.worker_down(WorkerIndex(0));
    assert_eq!(place(&mut world), WorkerIndex(1));
    world.registry.worker_down(WorkerIndex(1));
    assert_eq!(world.watch(&[Codec::Vp8]).err(), Some(Refusal::Full));
}

/// The loads of four workers, the second of which is saturated by something that is not ours.
fn four_loads(sessions: [u64; 4], cost: f64) -> [WorkerLoad; 4] {
    std::array::from_fn(|index| {
        let busy_ratio = if index == 1 { 0.95 } else { 0.1 + cost * sessions[index] as f64 };
        WorkerLoad { up: true, busy_ratio, sessions: sessions[index] }
    })
}

/// Viewers of one stream join; after every `storm` of them media reports. How many each worker got.
fn thousand_joins(storm: usize, cost: f64) -> [u64; 4] {
    let mut world = World::new();
    world.registry.rebuild(4, Vec::new());
    let mut sessions = [0; 4];
    for join in 0..1000 {
        if join % storm == 0 {
            world.registry.report(&four_loads(sessions, cost));
        }
        let (session, _) = world.watch(&[Codec::Vp8]).expect("there is room");
        sessions[usize::from(session.worker.0)] += 1;
    }
    sessions
}

#[test]
fn a_thousand_viewers_spread_over_the_workers_that_have_room() {
    for (storm, cost) in [(1000, 0.0004), (100, 0.0004), (10, 0.0004), (100, 0.002), (1, 0.001)] {
        let sessions = thousand_joins(storm, cost);
        assert_eq!(sessions[1], 0, "the saturated one gets none");
        let [a, _, c, d] = sessions;
        let (most, least) = (a.max(c).max(d) as f64, a.min(c).min(d) as f64);
        assert!(most / least <= 1.1, "{sessions:?} in storms of {storm}");
    }
}

#[test]
fn when_every_worker_is_saturated_a_viewer_is_asked_to_come_again_and_later_gets_in() {
    let mut world = World::new();
    let busy = |busy_ratio| WorkerLoad { up: true, busy_ratio, sessions: 400 };
    (0..4).for_each(|_| world.registry.report(&[busy(0.9), busy(0.86)]));
    assert_eq!(world.watch(&[Codec::Vp8]).err(), Some(Refusal::Saturated));
    assert_eq!(world.registry.takes_sessions(), Err(Refusal::Saturated));
    assert!(world.registry.streams.is_empty(), "a refused viewer leaves nothing behind");
    world.registry.report(&[busy(0.9), busy(0.6)]);
    assert_eq!(world.watch(&[Codec::Vp8]).map(|(session, _)| session.worker), Ok(WorkerIndex(1)));
}

#[test]
fn the_token_takes_over_only_when_the_new_publisher_is_connected() {
    let mut world = World::new();
    let first = world.publish(Codec::Vp8, Credential::ApiToken).expect("first");
    let (second, _) = world.join(Role::Publisher, &[Codec::Vp8], Credential::ApiToken).expect("second");
    assert_eq!(world.registry.counts(NOW).publishers, 2);
    assert_eq!(world.registry.connected(second), vec![first]);
    assert_eq!(world.registry.counts(NOW).publishers, 1);
    assert_eq!(world.registry.ended(first), Some(Role::Publisher));
    assert_eq!(world.registry.counts(NOW).streams, 1);
}

#[test]
fn an_overtaken_publisher_that_connects_late_ends_nobody() {
    let mut world = World::new();
    let (early, _) = world.join(Role::Publisher, &[Codec::Vp8], Credential::ApiToken).expect("early");
    let (late, _) = world.join(Role::Publisher, &[Codec::Vp8], Credential::ApiToken).expect("late");
    assert_eq!(world.registry.connected(late), vec![early]);
    assert_eq!(world.registry.connected(early), Vec::new());
    assert_eq!(world.registry.counts(NOW).publishers, 1);
}

#[test]
fn a_viewer_that_cannot_play_the_stream_is_told_why() {
    let mut world = World::new();
    world.publish(HIGH, Credential::Open).expect("publisher");
    let refusal = world.watch(&[Codec::Vp8, BASELINE]).expect_err("cannot play High");
    let words = refusal.to_string();
    assert!(words.contains("The stream's video is H264 (High, packetization-mode 1)"), "{words}");
    assert!(words.contains("VP8, H264 (Constrained Baseline, packetization-mode 1)"), "{words}");
    assert!(world.watch(&[Codec::Vp8, HIGH]).is_ok());
    assert!(world.watch(&[Codec::Opus]).is_ok());
}

#[test]
fn before_the_first_packet_any_common_codec_will_do() {
    let mut world = World::new();
    world.join(Role::Publisher, &[Codec::Vp8, HIGH], Credential::Open).expect("publisher");
    assert!(world.watch(&[Codec::Vp8]).is_ok());
    assert!(matches!(world.watch(&[BASELINE]), Err(Refusal::Unplayable { .. })));
}

#[test]
fn a_deleted_url_is_gone_at_once_and_the_slot_when_media_says_so() {
    let mut world = World::new();
    let (id, url) = world.watch(&[Codec::Vp8]).expect("viewer");
    assert_eq!(world.registry.delete(url), Some(id));
    assert_eq!(world.registry.delete(url), None);
    assert!(world.registry.session(url).is_none());
    assert_eq!(world.registry.workers[0].sessions, 1);
    assert_eq!(world.registry.ended(id), Some(Role::Viewer));
    assert_eq!(world.registry.workers[0].sessions, 0);
    assert!(world.registry.streams.is_empty());
}

fn credentials(ufrag: &str) -> IceCredentials {
    IceCredentials { ufrag: ufrag.into(), pwd: "0123456789012345678901".into() }
}

#[test]
fn an_ice_restart_changes_tag_and_credentials_when_media_agrees() {
    let mut world = World::new();
    let (id, url) = world.watch(&[Codec::Vp8]).expect("viewer");
    let session = |world: &World| world.registry.session(url).expect("session").clone();
    let first = session(&world);
    let restart = world.registry.restart(url, credentials("wxyz"), 77).expect("restart");
    assert_eq!((restart.session, restart.blob.etag), (id, 77));
    assert_eq!(session(&world).blob, first.blob, "not yet");
    world.registry.restarted(restart.clone());
    let after = session(&world);
    assert_eq!(after.blob, Blob { etag: 77, ..first.blob });
    assert_eq!(
        after.blob,
        postcard::from_bytes(&restart.blob.encode()).expect("blob"),
        "media keeps the same"
    );
    assert_eq!(after.ice.generation("wxyz"), IceGeneration::Current);
    assert_eq!(after.ice.generation("abcd"), IceGeneration::Previous);
}

#[test]
fn an_ice_restart_that_media_refuses_changes_nothing() {
    let mut world = World::new();
    let (id, url) = world.watch(&[Codec::Vp8]).expect("viewer");
    let before = world.registry.session(url).expect("session").clone();
    world.registry.restart(url, credentials("wxyz"), 77).expect("restart");
    let second = world.registry.restart(url, credentials("stuv"), 78);
    assert_eq!(second, Err(RestartRefusal::Concurrent));
    world.registry.not_restarted(id);
    let after = world.registry.session(url).expect("session");
    assert_eq!((&after.blob, &after.ice), (&before.blob, &before.ice));
    assert!(world.registry.restart(url, credentials("stuv"), 78).is_ok());
}

#[test]
fn an_ended_session_restarts_no_more() {
    let mut world = World::new();
    let (id, url) = world.watch(&[Codec::Vp8]).expect("viewer");
    let restart = world.registry.restart(url, credentials("wxyz"), 77).expect("restart");
    world.registry.ended(id);
    world.registry.restarted(restart);
    world.registry.not_restarted(id);
    assert!(world.registry.session(url).is_none());
    let late = world.registry.restart(url, credentials("stuv"), 78);
    assert_eq!(late, Err(RestartRefusal::NoSession));
}

#[test]
fn a_restarted_signaling_knows_what_lives() {
    let mut world = World::new();
    let publisher = world.admit(Role::Publisher, &[Codec::Vp8], Credential::ApiToken).expect("publisher");
    let viewer = world.admit(Role::Viewer, &[Codec::Vp8], Credential::Open).expect("viewer");
    let url = viewer.blob.url;
    let stream = viewer.plan.stream;
    let info = |slot, plan: &SessionPlan, codecs: Vec<Codec>| SessionInfo {
        session: SessionId { worker: WorkerIndex(0), slot, generation: 0 },
        plan: plan.clone(),
        connected: true,
        silent: false,
        codecs,
        layers: Vec::new(),
    };
    let mut strange = info(3, &viewer.plan, Vec::new());
    strange.plan.blob = vec![0xff];
    let sessions =
        vec![info(1, &publisher.plan, vec![Codec::Vp8]), info(2, &viewer.plan, Vec::new()), strange.clone()];

    let mut world = World::new();
    assert_eq!(world.registry.rebuild(2, sessions), vec![strange.session]);
    assert_eq!(world.registry.counts(NOW), Counts { publishers: 1, viewers: 1, streams: 1 });
    assert_eq!(world.registry.live_streams(NOW)[0].codecs, vec![Codec::Vp8]);
    assert!(world.registry.session(url).is_some());
    let next = world.admit(Role::Publisher, &[Codec::Vp8], Credential::ApiToken).expect("next");
    assert_eq!((next.plan.stream, next.plan.epoch), (stream, Epoch(NOW + 1)));
    assert_eq!(next.worker, WorkerIndex(1));
}

#[test]
fn a_takeover_that_nobody_saw_is_finished_after_a_restart() {
    let mut world = World::new();
    let mut publisher = |slot, connected| {
        let plan = world.admit(Role::Publisher, &[Codec::Vp8], Credential::ApiToken).expect("publisher").plan;
        let session = SessionId { worker: WorkerIndex(0), slot, generation: 0 };
        SessionInfo { session, plan, connected, silent: false, codecs: Vec::new(), layers: Vec::new() }
    };
    let (old, new, coming) = (publisher(1, true), publisher(2, true), publisher(3, false));
    let mut registry = Registry::default();
    assert_eq!(registry.rebuild(2, vec![new, old.clone(), coming]), vec![old.session]);
    assert_eq!(registry.counts(NOW).publishers, 2);
    assert_eq!(registry.ended(old.session), Some(Role::Publisher));
}

fn events_id(secret: u8) -> EventsId {
    EventsId { wanted: EventSet::ALL, secret: UrlId([secret; 16]) }
}

fn layers(rid: &str, bitrate_bps: u32) -> Vec<Layer> {
    vec![Layer { rid: rid.into(), bitrate_bps, width: 320, height: 180 }]
}

impl World {
    /// A viewer who listens.
    fn listen(&mut self) -> (SessionId, UrlId, Listening) {
        let (session, url) = self.watch(&[Codec::Vp8]).expect("viewer");
        self.registry.subscribe(url, events_id(1)).expect("subscribed");
        (session, url, self.registry.listen(url, events_id(1)).expect("listening"))
    }
}

/// Whether a listener was woken; it has looked then.
fn woken(listening: &mut Listening) -> bool {
    let woken = listening.changes.has_changed().expect("the stream is there");
    listening.scene = listening.changes.borrow_and_update().clone();
    woken
}

fn is_over(listening: &Listening) -> bool {
    listening.turn.has_changed().unwrap_or(true)
}

#[test]
fn a_publisher_is_active_while_its_packets_arrive() {
    let mut world = World::new();
    let (.., mut viewer) = world.listen();
    assert!(!viewer.scene.active);
    let (publisher, _) = world.join(Role::Publisher, &[Codec::Vp8], Credential::Open).expect("publisher");
    world.registry.connected(publisher);
    assert!(!woken(&mut viewer), "nothing arrives yet");
    world.registry.track(publisher, Codec::Vp8);
    assert!(woken(&mut viewer) && viewer.scene.active);
    world.registry.silence(publisher, true);
    assert!(woken(&mut viewer) && !viewer.scene.active);
    world.registry.silence(publisher, false);
    assert!(woken(&mut viewer) && viewer.scene.active);
    world.registry.ended(publisher);
    assert!(woken(&mut viewer) && !viewer.scene.active);
}

#[test]
fn who_comes_while_somebody_publishes_hears_so_at_once() {
    let mut world = World::new();
    world.publish(Codec::Vp8, Credential::Open).expect("publisher");
    let (.., viewer) = world.listen();
    assert!(viewer.scene.active);
    assert_eq!((viewer.scene.viewers, viewer.video_line), (1, Some(0)));
}

#[test]
fn the_number_of_viewers_is_told_in_rounds() {
    let mut world = World::new();
    let (.., mut viewer) = world.listen();
    let (other, _) = world.watch(&[Codec::Vp8]).expect("other");
    assert!(!woken(&mut viewer), "not for each one that joins");
    world.registry.tell_numbers();
    assert!(woken(&mut viewer));
    assert_eq!(viewer.scene.viewers, 2);
    world.registry.tell_numbers();
    assert!(!woken(&mut viewer), "nothing has changed");
    world.registry.ended(other);
    world.registry.tell_numbers();
    assert!(woken(&mut viewer));
    assert_eq!(viewer.scene.viewers, 1);
}

#[test]
fn thousands_of_viewers_hear_their_number_less_often() {
    let mut world = World::new();
    let (.., mut viewer) = world.listen();
    let wakes = |world: &mut World, viewer: &mut Listening| {
        let name = StreamName::parse("demo").expect("name");
        let mut round = |_: &u32| {
            world.registry.streams.get_mut(&name).expect("stream").viewers += 1;
            world.registry.tell_numbers();
            woken(viewer)
        };
        (0..12).filter(|index| round(index)).count()
    };
    assert_eq!(wakes(&mut world, &mut viewer), 12);
    world.registry.streams.values_mut().for_each(|stream| stream.viewers = 5000);
    assert_eq!(wakes(&mut world, &mut viewer), 4);
}

#[test]
fn layers_are_told_at_once_when_they_come_or_go_and_their_bit_rates_in_rounds() {
    let mut world = World::new();
    let publisher = world.publish(Codec::Vp8, Credential::Open).expect("publisher");
    let (.., mut viewer) = world.listen();
    world.registry.layers(publisher, layers("h", 1_000_000));
    assert!(woken(&mut viewer));
    assert_eq!(viewer.scene.layers, layers("h", 1_000_000));
    world.registry.layers(publisher, layers("h", 1_100_000));
    assert!(!woken(&mut viewer));
    world.registry.tell_numbers();
    assert!(woken(&mut viewer));
    assert_eq!(viewer.scene.layers, layers("h", 1_100_000));
    world.registry.layers(publisher, layers("l", 1_100_000));
    assert!(woken(&mut viewer));
}

#[test]
fn event_streams_end_with_their_session() {
    let mut world = World::new();
    let (ended, _, first) = world.listen();
    let (_, deleted, second) = world.listen();
    let (.., third) = world.listen();
    world.registry.ended(ended);
    assert!(is_over(&first) && !is_over(&second));
    world.registry.delete(deleted);
    assert!(is_over(&second) && !is_over(&third));
    assert_eq!(world.registry.subscribe(deleted, events_id(1)), Err(SubscribeError::NoSession));
    assert!(world.registry.subscriptions.len() == 1, "nothing is left behind");
    world.registry.rebuild(0, Vec::new());
    assert!(is_over(&third));
}

#[test]
fn a_deleted_event_stream_is_gone_and_its_siblings_are_not() {
    let mut world = World::new();
    let (_, url, listening) = world.listen();
    world.registry.subscribe(url, events_id(2)).expect("another");
    assert!(world.registry.unsubscribe(url, events_id(1)));
    assert!(is_over(&listening));
    assert!(world.registry.listen(url, events_id(1)).is_none());
    assert!(!world.registry.unsubscribe(url, events_id(1)));
    assert!(world.registry.listen(url, events_id(2)).is_some());
}

#[test]
fn a_second_reader_takes_the_place_of_the_first() {
    let mut world = World::new();
    let (_, url, first) = world.listen();
    let second = world.registry.listen(url, events_id(1)).expect("second");
    assert!(is_over(&first) && !is_over(&second));
}

#[test]
fn a_session_has_few_event_streams_and_a_publisher_none() {
    let mut world = World::new();
    let (_, url, _) = world.listen();
    (2..=4).for_each(|secret| world.registry.subscribe(url, events_id(secret)).expect("room"));
    assert_eq!(world.registry.subscribe(url, events_id(5)), Err(SubscribeError::TooMany));
    assert!(world.registry.unsubscribe(url, events_id(3)));
    assert_eq!(world.registry.subscribe(url, events_id(5)), Ok(()));
    let (_, publisher) = world.join(Role::Publisher, &[Codec::Vp8], Credential::Open).expect("publisher");
    assert_eq!(world.registry.subscribe(publisher, events_id(1)), Err(SubscribeError::NoSession));
}

#[test]
fn an_event_stream_outlives_a_restart_of_signaling_unless_it_was_deleted() {
    let mut world = World::new();
    let viewer = world.admit(Role::Viewer, &[Codec::Vp8], Credential::Open).expect("viewer");
    let url = viewer.blob.url;
    let info = SessionInfo {
        session: SessionId { worker: WorkerIndex(0), slot: 1, generation: 0 },
        plan: viewer.plan,
        connected: true,
        silent: false,
        codecs: Vec::new(),
        layers: Vec::new(),
    };
    world.registry.rebuild(2, vec![info]);
    assert!(world.registry.listen(url, events_id(1)).is_some(), "only its reader remembers it");
    assert!(world.registry.unsubscribe(url, events_id(1)));
    assert!(world.registry.listen(url, events_id(1)).is_none());
}

#[test]
fn a_viewer_chooses_among_the_layers_of_its_publisher() {
    let mut world = World::new();
    let wish = |rid: &str| LayerChoice { rid: Some(rid.into()), ..LayerChoice::default() };
    let (viewer, url) = world.watch(&[Codec::Vp8]).expect("viewer");
    assert_eq!(world.registry.may_select(url, &LayerChoice::default()), Ok((viewer, 0)));
    assert_eq!(world.registry.may_select(url, &wish("h")), Err(SelectError::OneLayer));
    let mut plan = plan(Role::Publisher, &[Codec::Vp8]);
    plan.sections[0].rids = vec!["h".into(), "l".into()];
    let name = StreamName::parse("demo").expect("name");
    let ids = FreshIds { url: UrlId([99; 16]), etag: 9, stream: StreamId(9) };
    let candidacy = Candidacy { name, credential: Credential::Open, plan, ids };
    let admission = world.registry.admit(candidacy, NOW).expect("publisher");
    let publisher = SessionId { worker: admission.worker, slot: 99, generation: 0 };
    world.registry.created(admission, publisher);
    assert_eq!(world.registry.may_select(url, &wish("l")), Ok((viewer, 0)));
    assert_eq!(world.registry.may_select(url, &wish("x")), Err(SelectError::Unknown("h, l".into())));
    assert_eq!(world.registry.may_select(UrlId([99; 16]), &wish("l")), Err(SelectError::NoVideo));
    let (_, deaf) = world.watch(&[Codec::Opus]).expect("without video");
    assert_eq!(world.registry.may_select(deaf, &wish("l")), Err(SelectError::NoVideo));
}

#[test]
fn an_offer_of_ours_names_what_is_published_and_a_worker_that_the_viewer_then_gets() {
    let mut world = World::new();
    let name = StreamName::parse("demo").expect("name");
    let empty = world.registry.prospect(&name, world.now).expect("prospect");
    assert_eq!((empty.codecs, empty.stream), (Vec::new(), None));
    world.join(Role::Publisher, &[Codec::Vp8, HIGH], Credential::Open).expect("publisher");
    let planned = world.registry.prospect(&name, world.now).expect("prospect");
    assert_eq!(planned.codecs, [Codec::Vp8, HIGH], "before anything arrives, all that may");
    world.publish(HIGH, Credential::ApiToken).expect("publisher");
    let prospect = world.registry.prospect(&name, world.now).expect("prospect");
    assert_eq!(prospect.codecs, [HIGH]);
    assert_ne!(prospect.worker, planned.worker, "offers take turns");
    for worker in [WorkerIndex(0), WorkerIndex(1), WorkerIndex(1)] {
        let admission = world.admit_told(worker).expect("viewer");
        assert_eq!((admission.worker, Some(admission.plan.stream)), (worker, prospect.stream));
    }
    assert_eq!(world.admit_told(WorkerIndex(2)).err(), Some(Refusal::Full), "there is no such worker");
    world.registry.worker_down(WorkerIndex(1));
    assert_eq!(world.admit_told(WorkerIndex(1)).err(), Some(Refusal::Full));
}

#[test]
fn after_a_change_of_codec_new_viewers_are_measured_by_the_new_one() {
    let mut world = World::new();
    let publisher = world.publish(Codec::Vp8, Credential::Open).expect("publisher");
    world.watch(&[Codec::Vp8]).expect("viewer");
    world.registry.track(publisher, HIGH);
    match world.watch(&[Codec::Vp8]) {
        Err(Refusal::Unplayable { published, offered, .. }) => {
            assert_eq!((published.as_str(), offered.as_str()), ("H264 (High, packetization-mode 1)", "VP8"));
        }
        other => panic!("{other:?}"),
    }
    world.watch(&[Codec::Vp8, HIGH]).expect("viewer of both");
}
