//! Sessions whose ICE credentials signaling chose before they were made, because a client had to be told them in an offer.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod plans;
mod world;

use plans::plan_h264;
use sfu::control::protocol::{CreateError, EndReason, IceCredentials, RequestId, WorkerIndex};
use sfu::core::demux::chosen_ufrag;
use sfu::core::outbox::SessionEvent;
use sfu::core::plan::{Epoch, Role, SessionPlan};
use sfu::stats::DropReason;
use std::time::Duration;
use world::{Client, World};

const PWD: &str = "chosenchosenchosenchosen";

fn viewer(ufrag: String) -> SessionPlan {
    let local = Some(IceCredentials { ufrag, pwd: PWD.into() });
    SessionPlan { local, ..plan_h264(Role::Viewer, Epoch(0)) }
}

fn refusal(world: &mut World, worker: usize, plan: SessionPlan) -> Option<CreateError> {
    let now = world.now();
    world.worker(worker).create(now, RequestId(99), plan);
    match world.worker(worker).out.events.pop_front() {
        Some(SessionEvent::Created { result, .. }) => result.err(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_viewer_connects_with_credentials_that_it_knew_before_its_session() {
    let mut world = World::new(2);
    let ufrag = chosen_ufrag(WorkerIndex(1), 5);
    let early = Client::forged_binding_request(&format!("{ufrag}:theirs"));
    world.inject(1, &early);
    assert_eq!(world.dropped(1, DropReason::UnknownUfrag), 1, "nobody answers before the session is there");
    let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
    let viewer = world.join(1, viewer(ufrag.clone()));
    assert_eq!(world.ufrag(viewer), ufrag);
    world.run(Duration::from_secs(1));
    world.client(publisher).send_video(0, &[0x65, 0x88, 0x84, 0x00]);
    world.run(Duration::from_millis(100));
    assert_eq!(world.client(viewer).received().len(), 1);
}

#[test]
fn credentials_lead_to_one_session_and_are_free_again_when_it_has_ended() {
    let mut world = World::new(1);
    let ufrag = chosen_ufrag(WorkerIndex(0), 5);
    let first = world.join(0, viewer(ufrag.clone()));
    assert_eq!(refusal(&mut world, 0, viewer(ufrag.clone())), Some(CreateError::Credentials));
    world.run(Duration::from_secs(1));
    let session = world.session(first);
    world.delete(0, session);
    // It lingers for what the client sent before it knew.
    world.run(Duration::from_secs(3));
    assert!(world.events().contains(&SessionEvent::Ended(session, EndReason::Deleted)));
    assert_eq!(refusal(&mut world, 0, viewer(ufrag)), None);
}

#[test]
fn credentials_that_would_lead_elsewhere_are_refused() {
    let mut world = World::new(1);
    let other_worker = chosen_ufrag(WorkerIndex(1), 5);
    let a_slot = format!("00000000{:016x}", 5);
    for ufrag in [other_worker, a_slot, "abcd".to_owned(), "z".repeat(24)] {
        let refused = refusal(&mut world, 0, viewer(ufrag.clone()));
        assert_eq!(refused, Some(CreateError::Credentials), "{ufrag}");
    }
}
