//! What a new signaling process takes over from media.

use super::*;

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
    assert_eq!(world.registry.counts(NOW), Counts { publishers: 1, viewers: 1, watching: 1, streams: 1 });
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
    assert!(world.registry.listen(url, events_id(1)).is_ok(), "only its reader remembers it");
    assert!(world.registry.unsubscribe(url, events_id(1)));
    assert!(world.registry.unsubscribe(url, events_id(2)), "nobody has read it here yet");
    for gone in [1, 2] {
        assert!(world.registry.listen(url, events_id(gone)).is_err());
        assert!(!world.registry.unsubscribe(url, events_id(gone)));
    }
    assert!(world.registry.listen(url, events_id(3)).is_ok(), "its siblings go on");
}
