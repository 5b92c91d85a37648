//! ICE restarts.

use super::*;

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
