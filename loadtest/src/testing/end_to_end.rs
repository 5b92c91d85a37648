//! Whole runs against the test server: the figures must be the truth, and faults must be named.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;

use super::server::{Faults, Server};
use crate::args::Args;
use crate::plan::Plan;
use crate::report::{Report, Step};
use crate::run::run;

const SMALL: &str = "--bitrate 1M --gop 1 --threads 1";

fn load(server: &Server, more: &str) -> Result<Report, String> {
    run(&plan(server, more), &mut Vec::new(), &Arc::new(AtomicBool::new(false)))
}

fn plan(server: &Server, more: &str) -> Plan {
    let base = &server.base;
    let size = if more.contains("--size") { "" } else { "--size 320x180" };
    let line = format!("loadtest --whip {base}/{{n}}/whip --whep {base}/{{n}}/whep {size} {SMALL} {more}");
    Args::try_parse_from(line.split_whitespace()).unwrap().into_plan().unwrap()
}

fn one_step(faults: Faults, more: &str) -> Step {
    load(&Server::start(faults), more).unwrap().steps.remove(0)
}

/// Runs with full and with light viewers, side by side.
fn in_both_modes(faults: Faults, more: &str, judge: impl Fn(&str, &Step) + Sync) {
    std::thread::scope(|scope| {
        for mode in ["full", "light"] {
            let judge = &judge;
            scope.spawn(move || judge(mode, &one_step(faults, &format!("{more} --mode {mode}"))));
        }
    });
}

/// Two runs side by side.
fn both(one: impl FnOnce() -> Step + Send, other: impl FnOnce() -> Step) -> (Step, Step) {
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        (one.join().unwrap(), other)
    })
}

#[test]
fn steps_of_viewers_are_measured_and_every_session_is_deleted() {
    let server = Server::start(Faults { retransmits: true, ..Faults::default() });
    let pid = std::process::id();
    let report = load(&server, &format!("--viewers 2,4 --secs 2 --pid {pid}")).unwrap();
    assert_eq!(report.steps.iter().map(|step| step.viewers_joined).collect::<Vec<_>>(), [2, 4]);
    for step in &report.steps {
        let per_viewer = step.delivered_packets_per_second / step.viewers as f64;
        let sent = report.stream.as_ref().unwrap().packets_per_second;
        assert!((per_viewer / sent - 1.0).abs() < 0.1, "{per_viewer} of {sent}");
        assert_eq!(step.lost_pct, Some(0.0));
        assert!(step.server.as_ref().unwrap().cpu_ns_per_packet.unwrap() > 0.0);
        assert!(step.latency_ms.is_some() && step.joins.first_key_frame_ms.is_some());
    }
    assert_eq!(server.deleted.load(Ordering::Relaxed), 5);
}

#[test]
fn five_percent_dropped_for_good_is_five_percent_lost() {
    let step = one_step(Faults { drop_per_mille: 50, ..Faults::default() }, "--viewers 4 --secs 5");
    let lost = step.lost_pct.unwrap();
    // Some 3300 packets: 1.6 is four times the standard deviation.
    assert!((3.4..6.6).contains(&lost), "{lost} %");
    assert!(step.plis > 0 && step.freezes > 0, "{step:?}");
}

#[test]
fn packets_that_are_sent_again_are_not_lost_but_late() {
    let faults = Faults { drop_per_mille: 50, retransmits: true, ..Faults::default() };
    let step = one_step(faults, "--viewers 2 --secs 4");
    // Audio, about a third of the packets, is not sent again and keeps its 5 %.
    let lost = step.lost_pct.unwrap();
    assert!(lost < 3.0, "{lost} %");
    let latency = step.latency_ms.unwrap();
    assert!(latency.p95 > latency.p50 + 5.0, "{latency:?}");
}

#[test]
fn forty_milliseconds_of_delay_are_forty_milliseconds_of_latency() {
    let delay = Duration::from_millis(40);
    let (plain, delayed) = both(
        || one_step(Faults::default(), "--viewers 1 --secs 2"),
        || one_step(Faults { delay, ..Faults::default() }, "--viewers 1 --secs 2"),
    );
    let added = delayed.latency_ms.unwrap().p50 - plain.latency_ms.unwrap().p50;
    assert!((35.0..60.0).contains(&added), "{added} ms");
}

/// Interrupts the run when a line holds the trigger.
struct Impatient(&'static str, Arc<AtomicBool>);

impl std::io::Write for Impatient {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        if String::from_utf8_lossy(text).contains(self.0) {
            self.1.store(true, Ordering::Relaxed);
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_interrupted_run_keeps_its_finished_steps_and_ends_its_sessions() {
    let server = Server::start(Faults::default());
    let interrupted = Arc::new(AtomicBool::new(false));
    let mut screen = Impatient(" s: 2 viewers", interrupted.clone());
    let report = run(&plan(&server, "--viewers 1,2 --secs 2"), &mut screen, &interrupted).unwrap();
    assert_eq!((report.steps.len(), report.ended_early.as_deref()), (1, Some("interrupted")));
    assert_eq!(server.deleted.load(Ordering::Relaxed), 3);
}

#[test]
fn a_refused_publisher_ends_the_run_with_the_servers_words() {
    let error = load(&Server::start(Faults { refuses: true, ..Faults::default() }), "").unwrap_err();
    assert!(error.starts_with("publisher 1: POST ") && error.ends_with("this key is unknown"), "{error}");
}

#[test]
fn a_stream_without_key_frames_ends_the_run_after_the_timeout() {
    let server = Server::start(Faults { no_key_frames: true, ..Faults::default() });
    let began = Instant::now();
    let error = load(&server, "--viewers 2 --join-timeout 2").unwrap_err();
    assert!(error.contains("never a whole key frame"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(12));
}

/// Packets and loss of a light run, which must have opened a sample without a fault.
fn light(faults: Faults, more: &str) -> Step {
    let step = one_step(faults, &format!("--mode light --sample 10 {more}"));
    assert!(step.checked_packets > 0 && step.bad_packets == 0, "{step:?}");
    step
}

#[test]
fn light_viewers_count_what_full_ones_do() {
    let server = Server::start(Faults::default());
    let report = load(&server, "--mode light --sample 10 --viewers 3 --secs 3").unwrap();
    let (stream, step) = (report.stream.unwrap(), &report.steps[0]);
    let per_viewer = step.delivered_packets_per_second / 3.0;
    assert!((per_viewer / stream.packets_per_second - 1.0).abs() < 0.1, "{per_viewer}");
    assert_eq!((step.lost_pct, step.duplicate_packets, step.bad_packets), (Some(0.0), Some(0), 0));
    assert!((250..=290).contains(&step.frames), "{}", step.frames);
    let opened = step.checked_packets as f64 / step.delivered_packets as f64;
    assert!((0.09..0.2).contains(&opened), "{opened}");
    let latency = step.latency_ms.as_ref().unwrap();
    // One frame in ten, and those whose first packet is among one in ten.
    assert!((25..=80).contains(&latency.frames) && latency.p50 < 50.0, "{latency:?}");
    assert_eq!(server.deleted.load(Ordering::Relaxed), 4);
}

#[test]
fn light_viewers_stay_with_a_server_that_waits_for_their_reports() {
    // str0m ends a session whose peer no longer answers; reports are what shows life besides.
    let step = light(Faults::default(), "--viewers 2 --secs 2 --gro off");
    assert_eq!((step.viewers_joined, step.viewers_lost), (2, 0));
}

#[test]
fn injected_loss_and_delay_are_seen_as_they_are() {
    let (plain, bad) = both(
        || light(Faults::default(), "--viewers 4 --secs 4"),
        || light(Faults::default(), "--viewers 4 --secs 4 --impair loss=1%,delay=20ms"),
    );
    let lost = bad.lost_pct.unwrap();
    // Some 2700 packets: 0.8 is four times the standard deviation.
    assert!((0.2..1.8).contains(&lost), "{lost} %");
    let added = bad.latency_ms.unwrap().p50 - plain.latency_ms.unwrap().p50;
    assert!((19.0..28.0).contains(&added), "{added} ms");
}

#[test]
fn only_every_second_viewer_is_impaired_when_asked_for() {
    let step = light(Faults::default(), "--viewers 4 --secs 3 --impair loss=10% --impair-every 2");
    let (all, worst) = (step.lost_pct.unwrap(), step.worst_viewer.unwrap());
    assert!((3.0..7.0).contains(&all) && (7.0..13.0).contains(&worst.lost_pct), "{all} {worst:?}");
    assert!(worst.viewer.is_multiple_of(2), "{worst:?}");
}

#[test]
fn reordering_is_counted_and_is_no_loss() {
    let step = light(Faults::default(), "--viewers 2 --secs 3 --impair reorder=5%");
    // What is on its way when the window ends is missing.
    assert!(step.lost_pct.unwrap() < 0.3, "{step:?}");
    let share = step.reordered_packets as f64 / step.delivered_packets as f64;
    assert!((0.01..0.07).contains(&share), "{share}");
}

#[test]
fn full_viewers_have_injected_loss_repaired() {
    let faults = Faults { retransmits: true, ..Faults::default() };
    let step = one_step(faults, "--viewers 2 --secs 4 --impair loss=5%");
    // Audio, about a third of the packets, is not sent again and keeps its 5 %.
    let lost = step.lost_pct.unwrap();
    assert!(lost < 3.0, "{lost} %");
    assert!(step.frames > 150, "{step:?}");
}

#[test]
fn loss_behind_the_publisher_is_repaired_by_its_retransmissions() {
    let faults = Faults { retransmits: true, ..Faults::default() };
    let step = one_step(faults, "--viewers 1 --secs 4 --impair-publisher loss=5%");
    // The server forwards what the publisher sent again, so that viewers see video late but whole.
    let lost = step.lost_pct.unwrap();
    assert!(lost < 3.0 && step.frames > 80, "{lost} {step:?}");
}

#[test]
fn viewers_that_come_and_go_leave_the_others_undisturbed() {
    let server = Server::start(Faults::default());
    let mut report = load(&server, "--viewers 4 --secs 3 --churn 2 --mode light --sample 5").unwrap();
    let step = report.steps.remove(0);
    let churn = step.churn.unwrap();
    // Five have left by half a second before the end, and a sixth as it ends.
    assert!((5..=6).contains(&churn.left) && churn.joins.failed == 0, "{churn:?}");
    assert!(churn.joins.ok >= 3 && churn.joins.first_rtp_p99_ms.is_some(), "{churn:?}");
    assert_eq!((step.viewers_joined, step.viewers_lost, step.lost_pct), (4, 0, Some(0.0)));
    let (created, deleted) = (server.created.load(Ordering::Relaxed), server.deleted.load(Ordering::Relaxed));
    // The last one may have been told to join too late to begin.
    assert!(deleted == created && created + 1 >= 5 + churn.left as u64, "{created} {deleted} {churn:?}");
}

#[test]
fn a_swap_of_publishers_shows_as_a_gap_in_the_picture() {
    let step = one_step(Faults::default(), "--viewers 2 --secs 4 --swap-every 1.5");
    let swaps = step.swaps.unwrap();
    assert_eq!(swaps.swaps, 2);
    let (median, max) = (swaps.gap_p50_ms.unwrap(), swaps.gap_max_ms.unwrap());
    // At least the time between two frames, at most what a join on loopback takes.
    assert!((30.0..1500.0).contains(&median) && max >= median, "{swaps:?}");
}

#[test]
fn a_ramp_ends_where_the_bar_is_missed() {
    let server = Server::start(Faults { drop_per_mille: 50, ..Faults::default() });
    let report = load(&server, "--viewers 2 --secs 2 --ramp --require loss<1%").unwrap();
    let ramp = report.ramp.unwrap();
    assert_eq!((ramp.held, ramp.broke, report.steps.len()), (0, Some(2), 1));
    assert!(ramp.words().contains("no step held: loss<1%"), "{}", ramp.words());
}

#[test]
fn sound_alone_is_judged_without_waiting_for_a_picture() {
    in_both_modes(Faults::default(), "--audio-only --viewers 2 --secs 2", |mode, step| {
        let per_viewer = step.delivered_packets_per_second / 2.0;
        assert!((45.0..55.0).contains(&per_viewer) && step.lost_pct == Some(0.0), "{mode}: {step:?}");
        assert_eq!((step.frames, step.latency_ms.is_none()), (0, true), "{mode}");
    });
}

#[test]
fn vp8_is_played_and_has_no_latency() {
    in_both_modes(Faults::default(), "--codec vp8 --viewers 2 --secs 2", |mode, step| {
        assert!((110..=130).contains(&step.frames) && step.lost_pct == Some(0.0), "{mode}: {step:?}");
        assert!(step.latency_ms.is_none(), "{mode}");
    });
}

#[test]
fn a_layer_switch_shows_by_the_size_of_the_picture_where_the_ssrc_stays() {
    let faults = Faults { alternates_layers: true, ..Faults::default() };
    in_both_modes(faults, "--simulcast --size 640x360 --viewers 1 --secs 6", |mode, step| {
        // A turn ends with the first key frame after a second and a half: every two seconds.
        // A light viewer may see a smaller layer by its second key frame only.
        assert!((2..=4).contains(&step.layer_switches_by_size), "{mode} {step:?}");
        assert_eq!((step.layer_switches_by_ssrc, step.lost_pct), (0, Some(0.0)), "{mode}");
    });
}

/// Mbit/s of the publisher's video, as told for the last `seconds` of the step.
fn last_bitrates(step: &Step, seconds: usize) -> Vec<f64> {
    let over_time = &step.adaptation.as_ref().unwrap().over_time;
    over_time.iter().rev().take(seconds).map(|at| at.video_mbit_per_second).collect()
}

#[test]
fn a_publisher_that_adapts_finds_what_a_narrow_and_a_wide_network_carry() {
    // The encodings take 250, 500 and 1000 kbit/s, before sound and headers.
    let (narrow, wide) = both(
        || one_step(Faults::default(), "--adapt --viewers 1 --secs 8 --impair-publisher rate=800kbit"),
        || one_step(Faults::default(), "--adapt --viewers 1 --secs 8"),
    );
    let last = last_bitrates(&narrow, 4);
    assert!(last.iter().all(|mbit| *mbit < 0.8) && last.iter().any(|mbit| *mbit > 0.4), "{narrow:?}");
    assert!(narrow.lost_pct.unwrap() < 5.0, "{narrow:?}");
    assert!(last_bitrates(&wide, 3).iter().any(|mbit| *mbit > 0.8), "{wide:?}");
    assert_eq!(wide.lost_pct, Some(0.0));
    let told = wide.adaptation.unwrap().over_time;
    assert!(told.iter().all(|at| at.estimate_mbit_per_second.is_some()), "{told:?}");
}

#[test]
fn a_paced_publisher_sends_the_same_but_takes_its_time() {
    let step = one_step(Faults::default(), "--pace browser --viewers 1 --secs 2");
    assert!((55..=65).contains(&step.frames) && step.lost_pct == Some(0.0), "{step:?}");
    // Frames are about 4 kB, of which the pacer lets 1.6 kB go every 5 ms.
    let latency = step.latency_ms.unwrap();
    assert!(latency.p50 > 4.5, "{latency:?}");
}
