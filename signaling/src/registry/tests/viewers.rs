//! Who may watch, and what.

use super::*;

#[test]
fn a_viewer_waits_for_a_publisher_on_the_same_stream() {
    let mut world = World::new();
    let viewer = world.admit(Role::Viewer, &[Codec::Vp8], Credential::Open).expect("viewer");
    let publisher = world.admit(Role::Publisher, &[Codec::Vp8], Credential::Open).expect("publisher");
    assert_eq!(viewer.plan.stream, publisher.plan.stream);
    assert_eq!((viewer.plan.epoch, publisher.plan.epoch), (Epoch(0), Epoch(NOW)));
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
    assert_eq!(world.registry.delete(url), Some(Deleted { role: Role::Viewer, session: Some(id) }));
    assert_eq!(world.registry.delete(url), None);
    assert!(world.registry.session(url).is_none());
    assert_eq!(world.registry.workers[0].sessions, 1);
    assert_eq!(world.registry.ended(id), Some(Role::Viewer));
    assert_eq!(world.registry.workers[0].sessions, 0);
    assert!(world.registry.streams.is_empty());
}

#[test]
fn a_session_that_ended_by_itself_can_be_deleted_once() {
    let mut world = World::new();
    let (viewer, url) = world.watch(&[Codec::Vp8]).expect("viewer");
    let (replaced, old) = world.join(Role::Publisher, &[Codec::Vp8], Credential::ApiToken).expect("old");
    let (new, _) = world.join(Role::Publisher, &[Codec::Vp8], Credential::ApiToken).expect("new");
    world.registry.ended(viewer);
    assert_eq!(world.registry.connected(new), vec![replaced]);
    world.registry.rebuild(2, Vec::new());
    assert!(world.registry.session(url).is_none());
    assert_eq!(world.registry.delete(url), Some(Deleted { role: Role::Viewer, session: None }));
    assert_eq!(world.registry.delete(old), Some(Deleted { role: Role::Publisher, session: None }));
    assert_eq!(world.registry.delete(url), None);
}

#[test]
fn who_still_connects_does_not_watch() {
    let mut world = World::new();
    world.publish(Codec::Vp8, Credential::Open).expect("publisher");
    let (id, _) = world.join(Role::Viewer, &[Codec::Vp8], Credential::Open).expect("viewer");
    let (never, _) = world.join(Role::Viewer, &[Codec::Vp8], Credential::Open).expect("viewer");
    let counts = |world: &World| {
        let Counts { viewers, watching, .. } = world.registry.counts(NOW);
        (viewers, watching, world.registry.live_streams(NOW)[0].viewers)
    };
    assert_eq!(counts(&world), (2, 0, 0));
    world.registry.connected(id);
    world.registry.connected(id);
    assert_eq!(counts(&world), (2, 1, 1));
    world.registry.ended(never);
    assert_eq!(counts(&world), (1, 1, 1));
    world.registry.ended(id);
    world.registry.connected(id);
    assert_eq!(counts(&world), (0, 0, 0));
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
