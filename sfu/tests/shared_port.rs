//! One UDP port for all workers: the kernel gives a client's datagrams to any of them, and they find the worker of its session.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod plans;
mod show;
mod world;

use plans::plan_h264;
use sfu::control::protocol::EndReason;
use sfu::core::plan::{Epoch, Role};
use sfu::core::stun;
use sfu::stats::DropReason;
use show::{IDR, SLICE, Show, elsewhere, fresh_credentials, is_media};
use std::net::SocketAddr;
use std::time::Duration;
use world::{Client, ClientIndex, World};

const WORKERS: usize = 3;

/// An address whose datagrams the kernel gives to this worker.
fn landing_at(worker: usize, number: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], (6_000 + worker + WORKERS * number) as u16))
}

/// A publisher on worker 0 whose datagrams arrive at worker 1, and a viewer there whose datagrams arrive at worker 2.
fn misdirected_show() -> Show {
    let mut world = World::behind_one_port(WORKERS as u16);
    let publisher = world.join_from(0, plan_h264(Role::Publisher, Epoch(1)), landing_at(1, 0));
    let viewer = world.join_from(0, plan_h264(Role::Viewer, Epoch(0)), landing_at(2, 1));
    Show::of(world, publisher, viewer)
}

fn unknown_addresses(world: &World) -> u64 {
    (0..WORKERS).map(|worker| world.dropped(worker, DropReason::UnknownAddress)).sum()
}

#[test]
fn clients_whose_datagrams_arrive_at_any_worker_publish_and_watch() {
    let mut world = World::behind_one_port(WORKERS as u16);
    let publisher = world.join_from(1, plan_h264(Role::Publisher, Epoch(1)), landing_at(2, 0));
    let viewers: Vec<ClientIndex> = (0..WORKERS * WORKERS)
        .map(|at| {
            let address = landing_at(at / WORKERS, at + 1);
            world.join_from(at % WORKERS, plan_h264(Role::Viewer, Epoch(0)), address)
        })
        .collect();
    world.run(Duration::from_secs(1));
    for frame in 0..30 {
        world.client(publisher).send_video(frame, if frame == 0 { IDR } else { SLICE });
        world.run(Duration::from_millis(30));
    }
    for viewer in viewers {
        assert_eq!(world.client(viewer).received().len(), 30);
    }
    assert!(world.handed_over() > 30, "the publisher's frames among them");
    assert_eq!(unknown_addresses(&world), 0, "no answer left before its claim");
}

#[test]
fn lost_packets_are_asked_for_and_sent_again_by_way_of_another_worker() {
    let mut show = misdirected_show();
    show.play_with_loss(100);
    show.assert_unbroken();
    assert!(show.world.lost() >= 10);
}

#[test]
fn a_client_that_moves_is_followed_to_wherever_its_datagrams_arrive_then() {
    let mut show = misdirected_show();
    for landing in [0, 1, 2, 1] {
        let address = landing_at(landing, 20 + landing);
        show.world.client(show.viewer).move_to(address);
        show.play(200);
        assert_eq!(show.world.last_to(show.viewer), address);
    }
    show.play(10);
    assert_eq!(show.world.end_of(show.viewer), None);
}

#[test]
fn ice_restarts_by_way_of_another_worker() {
    let mut show = misdirected_show();
    for client in [show.publisher, show.viewer] {
        show.restart(client);
        show.play(40);
    }
    show.assert_unbroken();
}

#[test]
fn a_stranger_claims_no_address_by_a_request_without_integrity() {
    let mut show = misdirected_show();
    let stranger = landing_at(2, 40);
    let forged = Client::forged_binding_request(&format!("{}:x", show.world.ufrag(show.viewer)));
    show.world.inject_at(2, stranger, &forged);
    show.world.run(Duration::from_millis(20));
    assert_eq!(show.world.dropped(0, DropReason::Rejected), 1, "it was handed over and refused");
    assert_eq!(show.world.sent_to(stranger), 0);
    show.world.inject_at(2, stranger, &Client::forged_rtp(7));
    assert_eq!(show.world.dropped(2, DropReason::UnknownAddress), 1, "it is dropped where it arrives");
    show.assert_unbroken();
}

#[test]
fn a_request_for_a_session_that_is_not_there_is_not_handed_on_for_ever() {
    let mut world = World::behind_one_port(WORKERS as u16);
    let nobody = "01000000000000000000000b";
    let no_worker = "3f000000000000000000000b";
    for (ufrag, dropped_at) in [(nobody, 1), (no_worker, 2)] {
        let request = Client::forged_binding_request(&format!("{ufrag}:x"));
        world.inject_at(2, landing_at(2, 40), &request);
        world.run(Duration::from_millis(20));
        assert_eq!(world.dropped(dropped_at, DropReason::UnknownUfrag), 1);
    }
    assert_eq!(world.handed_over(), 1);
}

#[test]
fn workers_with_ports_of_their_own_hand_nothing_over() {
    let mut world = World::new(2);
    let viewer = world.join(1, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    let check = world.good_check(viewer, true);
    world.inject_at(0, elsewhere(6), &check);
    world.run(Duration::from_millis(20));
    assert_eq!((world.handed_over(), world.dropped(0, DropReason::UnknownUfrag)), (0, 1));
}

#[test]
fn the_address_of_a_session_on_another_worker_is_not_taken_by_a_request() {
    let mut show = misdirected_show();
    let publishers = show.world.client(show.publisher).address();
    for worker in [1, 2] {
        let thief =
            show.world.join_from(worker, plan_h264(Role::Viewer, Epoch(0)), landing_at(0, 30 + worker));
        show.play(30);
        for nominates in [false, true] {
            let check = show.world.good_check(thief, nominates);
            for _ in 0..20 {
                show.world.inject_at(1, publishers, &check);
                show.play(1);
            }
        }
        assert_ne!(show.world.last_to(thief), publishers);
    }
    let received = show.world.client(show.viewer).received().len() as u64;
    assert_eq!(received, show.frames, "what the publisher sends goes where it went");
}

#[test]
fn who_answers_at_an_address_has_it_whichever_worker_had_it_before() {
    let mut show = misdirected_show();
    let address = show.world.client(show.viewer).address();
    let heir = show.world.join_from(1, plan_h264(Role::Viewer, Epoch(0)), landing_at(0, 30));
    show.play(30);
    show.world.mute(show.viewer);
    show.world.client(heir).move_to(address);
    show.play(200);
    assert_eq!(show.world.last_to(heir), address);
    let before = show.world.client(heir).received().len();
    show.play(30);
    assert_eq!(show.world.client(heir).received().len(), before + 30);
    show.world.run(Duration::from_secs(40));
    assert_eq!(show.world.end_of(show.viewer), Some(EndReason::ConsentExpired));
    assert_eq!(show.world.end_of(heir), None, "what the heir sends is still handed over");
}

#[test]
fn an_address_is_nobodys_again_when_its_session_ends() {
    let mut show = misdirected_show();
    let address = show.world.client(show.viewer).address();
    let session = show.world.session(show.viewer);
    show.world.mute(show.viewer);
    show.world.delete(0, session);
    show.world.run(Duration::from_secs(5));
    show.world.inject_at(2, address, &Client::forged_rtp(7));
    assert_eq!(show.world.dropped(2, DropReason::UnknownAddress), 1, "it is dropped where it arrives");
}

#[test]
fn a_worker_that_starts_anew_is_told_again_whose_addresses_arrive_at_it() {
    let mut show = misdirected_show();
    show.world.restart_worker(1);
    show.world.run(Duration::from_millis(10));
    show.world.mute_stun(show.publisher);
    show.assert_unbroken();
}

#[test]
fn clients_of_a_worker_that_is_gone_are_strangers() {
    let mut show = misdirected_show();
    let address = show.world.client(show.publisher).address();
    show.world.restart_worker(0);
    show.world.run(Duration::from_millis(10));
    show.world.inject_at(1, address, &Client::forged_rtp(7));
    assert_eq!(show.world.dropped(1, DropReason::UnknownAddress), 1, "it is dropped where it arrives");
}

#[test]
fn a_datagram_longer_than_an_ethernet_frame_is_counted_and_not_handed_over() {
    let mut show = misdirected_show();
    let address = show.world.client(show.publisher).address();
    let mut jumbo = Client::forged_rtp(7);
    jumbo.resize(2_000, 0);
    show.world.inject_at(1, address, &jumbo);
    assert_eq!(show.world.dropped(1, DropReason::Oversize), 1);
}

#[test]
fn an_answer_to_our_check_finds_the_worker_that_asked() {
    let mut show = misdirected_show();
    let asked = landing_at(1, 50);
    let nomination = show.world.good_check(show.viewer, true);
    show.world.inject_at(1, asked, &nomination);
    show.world.run(Duration::from_millis(10));
    let transaction = show.world.asked_of(asked).expect("a check of ours");
    let theirs = show.world.client(show.viewer).credentials().pwd;
    show.world.inject_at(1, asked, &stun::success(transaction, asked, &theirs));
    show.play(1);
    assert!(show.world.to_stranger().iter().any(|sent| sent.to == asked && is_media(&sent.contents)));
}

#[test]
fn a_client_behind_tcp_is_nobody_elses() {
    let mut world = World::behind_one_port(WORKERS as u16);
    let viewer = world.join_tcp(1, plan_h264(Role::Viewer, Epoch(0)));
    world.run(Duration::from_secs(1));
    assert!(world.is_connected(viewer));
    let (socket, address) = world.way(viewer);
    let check = world.good_check(viewer, true);
    let (now, worker) = (world.now(), world.worker(0));
    worker.handle_datagram(now, socket, address, &check);
    assert!(
        worker.out.handovers.is_empty(),
        "a connection that names another worker's session is no way to it"
    );
    assert_eq!(world.dropped(0, DropReason::UnknownUfrag), 1);
}

/// A session on another worker claims the address, because of a request that somebody forged, just when its client is heard there.
#[test]
fn a_claim_for_a_forged_request_drives_nobody_out_of_his_address() {
    let mut show = misdirected_show();
    let address = landing_at(1, 60);
    let check = show.world.good_check(show.viewer, true);
    show.world.inject_at(1, address, &check);
    show.world.hold_signals(true);
    show.play(1); // worker 0 claims the address, and the claim is on its way
    let client = show.world.join_from(1, plan_h264(Role::Viewer, Epoch(0)), address);
    show.play(4);
    show.world.hold_signals(false);
    show.play(1);
    let arriving = show.world.worker(1).shared_port().unwrap();
    assert_eq!(arriving.owner((0, address)), None, "the claim is refused");
    show.play(30);
    assert!(show.world.is_connected(client));
    assert_eq!(show.world.last_to(client), address);
    let received = show.world.client(show.viewer).received().len() as u64;
    assert_eq!(received, show.frames);
}

#[test]
fn a_worker_that_is_handed_datagrams_of_nobody_says_so() {
    let mut show = misdirected_show();
    let address = show.world.client(show.publisher).address();
    show.world.restart_worker(0);
    show.world.worker(0).out.signals.clear(); // nobody is told
    for (handed_over, dropped_at) in [(true, 0), (false, 1)] {
        let before = show.world.handed_over();
        show.world.inject_at(1, address, &Client::forged_rtp(7));
        show.world.run(Duration::from_millis(5));
        assert_eq!(show.world.handed_over() > before, handed_over);
        assert_eq!(show.world.dropped(dropped_at, DropReason::UnknownAddress), 1);
    }
}

/// Claims, releases and losses cross each other on their way.
#[test]
fn whatever_clients_do_with_addresses_no_worker_is_left_with_a_claim() {
    let mut show = misdirected_show();
    let thief = show.world.join_from(1, plan_h264(Role::Viewer, Epoch(0)), landing_at(0, 9));
    show.world.run(Duration::from_secs(1));
    let clients = [show.publisher, show.viewer, thief];
    let mut state = 11u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for round in 0..600 {
        show.world.hold_signals(random(3) == 0);
        let client = clients[random(3) as usize];
        let landing = random(3) as usize;
        let address = landing_at(landing, 100 + random(7) as usize);
        match random(8) {
            0 => _ = show.world.restart(client, &fresh_credentials(round)),
            1 => show.world.client(client).move_to(landing_at(landing, 200 + round as usize)),
            nominates => {
                let check = show.world.good_check(client, nominates > 4);
                show.world.inject_at(landing, address, &check);
            }
        }
        if let Some(transaction) = show.world.asked_of(address) {
            let theirs = show.world.client(client).credentials().pwd;
            show.world.inject_at(landing, address, &stun::success(transaction, address, &theirs));
        }
        show.world.inject_at(landing, address, &Client::forged_rtp(7));
        show.play(1);
    }
    show.world.hold_signals(false);
    clients.into_iter().for_each(|client| show.world.mute(client));
    show.world.run(Duration::from_secs(60)); // consent ends, and the sessions with it
    for worker in 0..WORKERS {
        for landing in 0..WORKERS {
            // What is handed over in vain is disowned.
            (100..107).for_each(|number| {
                show.world.inject_at(
                    landing,
                    landing_at(landing, number),
                    &Client::forged_rtp(worker as u32),
                );
            });
        }
        show.world.run(Duration::from_millis(20));
    }
    for worker in 0..WORKERS {
        let port = show.world.worker(worker).shared_port().unwrap();
        assert!(port.claims_nothing() && port.owes_nothing(), "worker {worker}: {port:?}");
    }
}
