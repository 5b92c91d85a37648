//! Who may take a name, and when.

use super::*;

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
