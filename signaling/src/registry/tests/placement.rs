//! Which worker takes a session.

use super::*;

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
