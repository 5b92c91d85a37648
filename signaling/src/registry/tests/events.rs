//! What viewers hear of their stream.

use super::*;

fn layers(rid: &str, bitrate_bps: u32) -> Vec<Layer> {
    vec![Layer { rid: rid.into(), bitrate_bps, width: 320, height: 180 }]
}

impl World {
    /// A viewer who listens.
    fn listen(&mut self) -> (SessionId, UrlId, Listening) {
        let (session, url) = self.watch(&[Codec::Vp8]).expect("viewer");
        self.registry.subscribe(url, events_id(1)).expect("subscribed");
        (session, url, self.registry.listen(url, events_id(1)).expect("listening").0)
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
            world.registry.streams.get_mut(&name).expect("stream").watching += 1;
            world.registry.tell_numbers();
            woken(viewer)
        };
        (0..12).filter(|index| round(index)).count()
    };
    assert_eq!(wakes(&mut world, &mut viewer), 12);
    world.registry.streams.values_mut().for_each(|stream| stream.watching = 5000);
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
    assert!(world.registry.listen(url, events_id(1)).is_err());
    assert!(!world.registry.unsubscribe(url, events_id(1)));
    assert!(world.registry.listen(url, events_id(2)).is_ok());
}

#[test]
fn a_second_reader_takes_the_place_of_the_first() {
    let mut world = World::new();
    let (_, url, first) = world.listen();
    let (second, _) = world.registry.listen(url, events_id(1)).expect("second");
    assert!(is_over(&first) && !is_over(&second));
}

#[test]
fn a_session_has_few_readers_until_their_answers_have_ended() {
    let mut world = World::new();
    let (_, url, _) = world.listen();
    let listen = |world: &mut World, secret| world.registry.listen(url, events_id(secret));
    let mut readers: Vec<_> = (1..=8).map(|_| listen(&mut world, 1).expect("a place")).collect();
    assert_eq!(listen(&mut world, 1).err(), Some(ListenError::TooMany));
    assert!(!is_over(&readers[7].0), "who is refused ends nobody's answer");
    assert_eq!(listen(&mut world, 9).err(), Some(ListenError::NoStream));
    readers.remove(0);
    assert!(listen(&mut world, 1).is_ok(), "there is room again");
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
