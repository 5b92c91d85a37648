//! Simulcast: which layer a viewer is sent, and how it goes from one to another; real WebRTC peers, virtual time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod plans;
mod simulcast;
mod world;

use plans::{plan_h264, plan_simulcast};
use sfu::control::protocol::{Layer, LayerChoice};
use sfu::core::layers::LayerIndex;
use sfu::core::outbox::SessionEvent;
use sfu::core::plan::{Epoch, Role, SessionPlan};
use sfu::stats::DropReason;
use simulcast::{Encoder, FRAME, RIDS, order, picture, seen};
use std::time::Duration;
use world::{ClientIndex, World};

fn publisher(world: &mut World, worker: usize) -> Encoder {
    let publisher = world.join(worker, plan_simulcast(Epoch(1), &RIDS));
    world.run(Duration::from_secs(1));
    Encoder::new(publisher)
}

fn viewer() -> SessionPlan {
    plan_h264(Role::Viewer, Epoch(0))
}

fn rid(name: &str) -> LayerChoice {
    LayerChoice { rid: Some(name.into()), ..LayerChoice::default() }
}

fn reports(world: &World) -> Vec<Vec<Layer>> {
    let layers = |event: &SessionEvent| match event {
        SessionEvent::Layers(_, layers) => Some(layers.clone()),
        _ => None,
    };
    world.events().iter().filter_map(layers).collect()
}

#[test]
fn a_viewer_without_a_wish_is_sent_the_largest_layer_alone_and_signaling_hears_of_all() {
    let mut world = World::new(1);
    let mut encoder = publisher(&mut world, 0);
    encoder.publish(&mut world, 15);
    let late = world.join(0, viewer());
    encoder.publish(&mut world, 90);
    let seen = seen(&mut world, late);
    assert_eq!(order(&seen), [2]);
    assert!(seen.len() >= 100, "from the first key frame on: {}", seen.len());
    let last = reports(&world).pop().unwrap();
    let sizes: Vec<_> = last.iter().map(|layer| (layer.rid.as_str(), layer.width, layer.height)).collect();
    assert_eq!(sizes, [("q", 320, 180), ("h", 640, 360), ("f", 1280, 720)]);
    assert!(last.windows(2).all(|pair| pair[0].bitrate_bps > 0 && pair[0].bitrate_bps < pair[1].bitrate_bps));
    assert!((2..=4).contains(&reports(&world).len()), "{:?}", reports(&world));
    assert!(world.dropped(0, DropReason::UnselectedLayer) >= 170, "what nobody takes is counted");
}

#[test]
fn a_viewer_goes_to_the_layer_that_it_wants_at_its_next_key_frame_and_not_before() {
    let mut world = World::new(1);
    let mut encoder = publisher(&mut world, 0);
    let watcher = world.join(0, viewer());
    let other = world.join(0, viewer());
    world.run(Duration::from_secs(1));
    encoder.publish(&mut world, 30);
    let wishes = [
        (rid("q"), 0),
        (LayerChoice { max_height: Some(500), ..LayerChoice::default() }, 1),
        (LayerChoice { max_width: Some(1), ..LayerChoice::default() }, 0),
        (rid("f"), 2),
        (rid("h"), 1),
        (rid("nobody's"), 2),
        (rid("h"), 1),
        (LayerChoice::default(), 2),
    ];
    for (choice, layer) in wishes {
        encoder.asked.clear();
        let before = seen(&mut world, watcher).len();
        world.select_layer(watcher, choice.clone());
        encoder.publish(&mut world, 30);
        let now = seen(&mut world, watcher);
        assert_eq!(now.last().unwrap().layer, layer, "{choice:?}");
        assert_eq!(now.len(), before + 30, "the old layer until then, and no frame twice: {choice:?}");
        let asked: Vec<&str> = encoder.asked.iter().map(|rid| &**rid).collect();
        assert!(asked.len() <= 2 && asked.iter().all(|rid| *rid == RIDS[layer]), "{choice:?}: {asked:?}");
    }
    let seen_by_watcher = seen(&mut world, watcher);
    assert_eq!(order(&seen_by_watcher), [2, 0, 1, 0, 2, 1, 2, 1, 2]);
    let steps = seen_by_watcher.windows(2).map(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp));
    assert!(steps.clone().all(|step| (2_000..=4_000).contains(&step)), "{:?}", steps.collect::<Vec<_>>());
    assert_eq!(order(&seen(&mut world, other)), [2], "others are not disturbed");
}

#[test]
fn a_viewer_whose_connection_takes_nothing_for_long_keeps_its_layer_and_goes_on() {
    let mut world = World::new(2);
    let mut encoder = publisher(&mut world, 0);
    let alone = world.join_tcp(1, viewer());
    world.run(Duration::from_secs(1));
    encoder.publish(&mut world, 60);
    world.set_room(alone, 0);
    encoder.publish(&mut world, 240);
    let before = world.client(alone).received().len();
    world.set_room(alone, 256 << 10);
    encoder.publish(&mut world, 120);
    assert!(world.client(alone).received().len() > before + 30, "{before}");
}

#[test]
fn a_wish_from_before_the_connection_holds() {
    let mut world = World::new(1);
    let mut encoder = publisher(&mut world, 0);
    encoder.publish(&mut world, 10);
    let early = world.join(0, viewer());
    world.select_layer(early, rid("q"));
    encoder.publish(&mut world, 60);
    assert_eq!(order(&seen(&mut world, early)), [0]);
}

#[test]
fn a_layer_that_vanishes_is_replaced_by_the_next_lower_one_until_it_comes_back() {
    let mut world = World::new(1);
    let mut encoder = publisher(&mut world, 0);
    let (automatic, named) = (world.join(0, viewer()), world.join(0, viewer()));
    world.select_layer(named, rid("f"));
    world.run(Duration::from_secs(1));
    encoder.publish(&mut world, 60);
    encoder.layers = vec![0, 1];
    encoder.publish(&mut world, 60);
    for viewer in [automatic, named] {
        let seen = seen(&mut world, viewer);
        assert_eq!(order(&seen), [2, 1]);
        assert!(seen.iter().filter(|seen| seen.layer == 1).count() >= 35, "{}", seen.len());
    }
    let sent: Vec<_> = reports(&world).pop().unwrap().into_iter().map(|layer| layer.rid).collect();
    assert_eq!(sent, ["q", "h"]);
    (encoder.layers, encoder.due) = (vec![0, 1, 2], vec![2]);
    encoder.publish(&mut world, 60);
    for viewer in [automatic, named] {
        let seen = seen(&mut world, viewer);
        assert_eq!(order(&seen), [2, 1, 2]);
        assert_eq!(seen.iter().rev().take_while(|seen| seen.layer == 2).count(), 60, "at once");
    }
}

#[test]
fn an_encoder_that_ignores_requests_is_waited_for_and_then_its_last_key_frame_is_good_enough() {
    let mut world = World::new(1);
    let mut encoder = publisher(&mut world, 0);
    (encoder.listens, encoder.interval) = (false, 60);
    let viewer = world.join(0, viewer());
    world.run(Duration::from_secs(1));
    encoder.publish(&mut world, 80);
    world.select_layer(viewer, rid("q"));
    encoder.publish(&mut world, 60);
    let natural = seen(&mut world, viewer);
    let first = natural.iter().find(|seen| seen.layer == 0).unwrap();
    assert_eq!((order(&natural), first.frame), (vec![2, 0], 120), "its own next key frame");
    assert_eq!(natural.len(), 140, "with a picture until then");
    encoder.interval = 0;
    world.select_layer(viewer, rid("h"));
    encoder.publish(&mut world, 80);
    assert_eq!(seen(&mut world, viewer).last().unwrap().layer, 0);
    encoder.publish(&mut world, 30);
    let stored = seen(&mut world, viewer);
    let first = stored.iter().find(|seen| seen.layer == 1).unwrap();
    assert_eq!((order(&stored), first.frame), (vec![2, 0, 1], 120), "the last one there was");
    assert_eq!(stored.last().unwrap().frame, encoder.frame - 1, "and all that followed");
}

#[test]
fn what_is_lost_around_a_switch_comes_again_from_the_layer_it_belongs_to() {
    for has_rtx in [true, false] {
        let mut world = World::new(1);
        let mut encoder = publisher(&mut world, 0);
        let mut plan = viewer();
        if !has_rtx {
            plan.sections[0].payloads[0].rtx = None;
            plan.sections[0].ssrcs[0].rtx = None;
        }
        let viewer = world.join(0, plan);
        world.run(Duration::from_secs(1));
        encoder.publish(&mut world, 30);
        for (turn, name) in ["q", "f", "h", "q"].into_iter().enumerate() {
            for frame in 0..20 {
                // The last of the old layer, the key frame, and those after it.
                world.lose_next_to(viewer, matches!(frame, 1..=4) || frame % 7 == turn);
                if frame == 2 {
                    world.select_layer(viewer, rid(name));
                }
                encoder.publish(&mut world, 1);
            }
        }
        encoder.publish(&mut world, 30);
        world.run(Duration::from_secs(1));
        let seen = seen(&mut world, viewer);
        assert_eq!((order(&seen), seen.len()), (vec![2, 0, 2, 1, 0], 140), "rtx: {has_rtx}");
        assert!(world.lost() >= 20, "{}", world.lost());
        assert_eq!(world.dropped(0, DropReason::RetransmissionExpired), 0);
    }
}

#[test]
fn what_a_publisher_loses_of_a_layer_is_asked_for_again() {
    let mut world = World::new(1);
    let mut encoder = publisher(&mut world, 0);
    let viewer = world.join(0, viewer());
    world.run(Duration::from_secs(1));
    encoder.publish(&mut world, 20);
    for _ in 0..10 {
        world.lose_next_from(encoder.publisher, true);
        encoder.publish(&mut world, 6);
    }
    world.select_layer(viewer, rid("q"));
    for _ in 0..10 {
        world.lose_next_from(encoder.publisher, true);
        encoder.publish(&mut world, 6);
    }
    world.run(Duration::from_secs(1));
    let seen = seen(&mut world, viewer);
    assert_eq!((order(&seen), seen.len(), world.lost()), (vec![2, 0], 140, 20));
    assert_eq!(world.snapshot(0).rtp_lost_packets, 0);
}

#[test]
fn another_worker_is_sent_the_layers_that_its_viewers_take_and_no_others() {
    let mut world = World::new(3);
    let mut encoder = publisher(&mut world, 0);
    encoder.publish(&mut world, 20);
    let far = world.join(1, viewer());
    encoder.publish(&mut world, 40);
    assert_eq!(order(&seen(&mut world, far)), [2]);
    assert!(world.take_crossed(1).iter().all(|layer| *layer == LayerIndex(2)), "not even at the beginning");
    world.select_layer(far, rid("q"));
    encoder.publish(&mut world, 150);
    let seen_far = seen(&mut world, far);
    assert_eq!(order(&seen_far), [2, 0]);
    assert_eq!(seen_far.iter().filter(|seen| seen.layer == 0).count(), 149);
    world.take_crossed(1);
    encoder.publish(&mut world, 10);
    assert_eq!(world.take_crossed(1), [LayerIndex(0); 10], "the other one was let go");
    let second = world.join(1, viewer());
    encoder.publish(&mut world, 40);
    assert_eq!(order(&seen(&mut world, second)), [2], "and is fetched again for who takes it");
    assert_eq!(order(&seen(&mut world, far)), [2, 0]);
    assert!(world.take_crossed(2).is_empty());
}

#[test]
fn a_far_viewer_waits_for_the_key_frame_that_the_publisher_was_asked_for() {
    let mut world = World::new(2);
    let mut encoder = publisher(&mut world, 0);
    let far = world.join(1, viewer());
    world.run(Duration::from_secs(1));
    encoder.publish(&mut world, 60);
    encoder.asked.clear();
    world.select_layer(far, rid("h"));
    encoder.publish(&mut world, 60);
    let seen = seen(&mut world, far);
    assert_eq!((order(&seen), seen.len()), (vec![2, 1], 120));
    assert!(encoder.asked.iter().all(|rid| &**rid == "h") && (1..=2).contains(&encoder.asked.len()));
}

#[test]
fn viewers_follow_from_a_simulcast_to_one_layer_and_to_a_simulcast_again_wherever_they_are() {
    let mut world = World::new(3);
    let mut encoder = publisher(&mut world, 0);
    let viewers = [0, 1, 2].map(|worker| world.join(worker, viewer()));
    viewers.iter().for_each(|viewer| world.select_layer(*viewer, rid("h")));
    world.run(Duration::from_secs(1));
    encoder.publish(&mut world, 30);
    let single = world.join(1, plan_h264(Role::Publisher, Epoch(2)));
    world.run(Duration::from_secs(1));
    for frame in 0..30 {
        world.client(single).send_video(frame, &picture(0, frame, frame == 0));
        world.run(FRAME);
    }
    let third = world.join(2, plan_simulcast(Epoch(3), &["f", "h"]));
    world.run(Duration::from_secs(1));
    let mut encoder = Encoder { layers: vec![0, 1], ..Encoder::new(third) };
    encoder.publish(&mut world, 30);
    for viewer in viewers {
        let seen = seen(&mut world, viewer);
        assert_eq!((order(&seen), seen.len()), (vec![1, 0, 1], 90));
    }
    let watched = world.take_crossed(0);
    assert!(watched.iter().rev().take(20).all(|layer| *layer == LayerIndex(1)), "{watched:?}");
}

#[test]
fn a_publisher_that_ends_leaves_viewers_waiting_and_the_next_one_finds_them() {
    let mut world = World::new(2);
    let mut encoder = publisher(&mut world, 0);
    let viewers = [world.join(0, viewer()), world.join(1, viewer())];
    world.run(Duration::from_secs(1));
    encoder.publish(&mut world, 30);
    world.run(Duration::from_secs(3));
    assert_eq!(reports(&world).pop().unwrap(), [], "nothing is sent");
    world.client(encoder.publisher).close();
    world.run(Duration::from_secs(2));
    let next = world.join(1, plan_simulcast(Epoch(2), &RIDS));
    world.run(Duration::from_millis(200));
    let mut encoder = Encoder::new(next);
    encoder.publish(&mut world, 30);
    for viewer in viewers {
        let received = world.client(viewer).received();
        assert!(received.windows(2).all(|pair| *pair[1].seq_no == *pair[0].seq_no + 1));
        assert_eq!(received.len(), 60);
    }
}

#[test]
fn viewers_of_one_worker_have_each_their_layer_and_the_packets_of_the_others_cost_them_nothing() {
    let mut world = World::new(2);
    let mut encoder = publisher(&mut world, 0);
    let viewers: Vec<_> = (0..6).map(|place| world.join(place / 3, viewer())).collect();
    for (index, viewer) in viewers.iter().enumerate() {
        world.select_layer(*viewer, rid(RIDS[index % 3]));
    }
    world.run(Duration::from_secs(1));
    encoder.publish(&mut world, 60);
    for (index, viewer) in viewers.into_iter().enumerate() {
        let seen = seen(&mut world, viewer);
        assert_eq!((order(&seen), seen.len()), (vec![index % 3], 60));
    }
    assert_eq!(world.snapshot(0).rtp_packets_out + world.snapshot(1).rtp_packets_out, 360);
    assert_eq!(world.dropped(0, DropReason::UnselectedLayer), 0);
}

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[test]
fn whatever_is_wished_for_and_whatever_comes_and_goes_each_viewer_has_one_stream_that_it_can_decode() {
    for seed in 0..16 {
        let (mut world, mut dice) = (World::new(3), Dice(seed));
        let mut encoder = publisher(&mut world, dice.roll(3) as usize);
        let mut viewers: Vec<(ClientIndex, Option<usize>)> = Vec::new();
        let mut epoch = 1;
        for _ in 0..60 {
            let layer = dice.roll(3) as usize;
            match dice.roll(8) {
                0 | 1 if viewers.len() < 8 => {
                    viewers.push((world.join(dice.roll(3) as usize, viewer()), None));
                }
                2 if !viewers.is_empty() => {
                    viewers.iter().for_each(|(viewer, _)| world.lose_next_to(*viewer, false));
                    let (gone, _) = viewers.swap_remove(dice.roll(viewers.len() as u64) as usize);
                    encoder.publish(&mut world, 30);
                    seen(&mut world, gone);
                    world.client(gone).close();
                }
                3 if encoder.layers.len() > 1 => encoder.layers.retain(|other| *other != layer),
                4 if !encoder.layers.contains(&layer) => {
                    encoder.layers.push(layer);
                    // If it does not begin with a key frame, it must be asked for one.
                    encoder.due.extend(Some(layer).filter(|_| dice.roll(2) == 0));
                }
                5 if dice.roll(4) == 0 => {
                    // What is lost of a publisher who is replaced is lost.
                    viewers.iter().for_each(|(viewer, _)| world.lose_next_to(*viewer, false));
                    encoder.publish(&mut world, 30);
                    epoch += 1;
                    let worker = dice.roll(3) as usize;
                    let publisher = world.join(worker, plan_simulcast(Epoch(epoch), &RIDS));
                    world.run(Duration::from_millis(200));
                    encoder = Encoder { frame: encoder.frame, ..Encoder::new(publisher) };
                }
                _ if !viewers.is_empty() => {
                    let viewer = dice.roll(viewers.len() as u64) as usize;
                    viewers[viewer].1 = Some(layer);
                    world.select_layer(viewers[viewer].0, rid(RIDS[layer]));
                }
                _ => {}
            }
            for _ in 0..=dice.roll(20) {
                for (viewer, _) in &viewers {
                    // What is lost before the first packet is not missed.
                    let plays = !world.client(*viewer).received().is_empty();
                    world.lose_next_to(*viewer, plays && dice.roll(15) == 0);
                }
                encoder.publish(&mut world, 1);
            }
        }
        encoder.layers = vec![0, 1, 2];
        encoder.publish(&mut world, 150);
        for (viewer, wish) in viewers {
            let last = *seen(&mut world, viewer).last().unwrap();
            assert_eq!((last.layer, last.frame), (wish.unwrap_or(2), encoder.frame - 1), "seed {seed}");
        }
    }
}
