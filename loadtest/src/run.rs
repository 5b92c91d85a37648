//! A run from start to end: publishers up, then step by step more viewers, each step measured, then
//! everything closed.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::args::Plan;
use crate::audio;
use crate::proc;
use crate::publisher::Media;
use crate::ramp;
use crate::report::{Report, Stream};
use crate::stage::{Stage, say};
use crate::video::VideoLoop;

/// Open files beside the sockets of peers: HTTP connections, polls, the terminal.
const OTHER_FILES: u64 = 200;

/// Does what the plan says, until `interrupted` becomes true; an error is the one line that the user needs.
pub fn run(plan: &Plan, screen: &mut dyn Write, interrupted: &Arc<AtomicBool>) -> Result<Report, String> {
    check_open_files(plan)?;
    let media = encode(plan, screen)?;
    let stream = media.as_ref().map(|media| stream_of(media));
    // Checked before the first join, so that a wrong --pid does not cost a whole run.
    proc::usage(&plan.pids)?;
    let mut stage = Stage::open(plan, media, interrupted)?;
    let mut steps = Vec::new();
    let ended_early = stage.play(plan, screen, &mut steps).err();
    let ramp = plan.ramp.then(|| ramp::outcome(plan, &steps, ended_early.as_deref()));
    let refused = stage.close();
    if let (count @ 1.., Some(refusal)) = refused {
        say(screen, format_args!("{count} sessions were not ended: {refusal}"));
    }
    if let (Some(reason), true) = (&ended_early, steps.is_empty()) {
        return Err(reason.clone());
    }
    Ok(Report {
        tool: "uringcast-loadtest",
        version: env!("CARGO_PKG_VERSION"),
        mode: plan.mode.name(),
        gro: plan.gro,
        stream,
        publishers: plan.publishers,
        steps,
        // Where a ramp breaks is what was asked for.
        ended_early: ended_early.filter(|_| ramp.as_ref().is_none_or(|ramp| ramp.held == 0)),
        ramp,
    })
}

fn check_open_files(plan: &Plan) -> Result<(), String> {
    let needed = (plan.publishers + plan.steps.iter().max().unwrap_or(&0)) as u64 + OTHER_FILES;
    match proc::raise_open_files() {
        Some(limit) if limit < needed => Err(format!(
            "{needed} open files are needed and {limit} allowed; raise the hard limit (ulimit -Hn)"
        )),
        _ => Ok(()),
    }
}

fn encode(plan: &Plan, screen: &mut dyn Write) -> Result<Option<Arc<Media>>, String> {
    if plan.publishers == 0 {
        return Ok(None);
    }
    let video = VideoLoop::encode(plan.video).map_err(|error| error.to_string())?;
    say(
        screen,
        format_args!(
            "stream: H264 {}x{} {}/s, {:.2} Mbit/s in {:.0} packets/s, key frame every {:.1} s; Opus",
            plan.video.width,
            plan.video.height,
            plan.video.fps,
            video.bitrate() / 1e6,
            video.packet_rate(),
            gop_seconds(&video),
        ),
    );
    Ok(Some(Arc::new(Media { video, audio: audio::opus_loop() })))
}

fn gop_seconds(video: &VideoLoop) -> f64 {
    f64::from(video.settings.gop_frames) / f64::from(video.settings.fps)
}

fn stream_of(media: &Media) -> Stream {
    let settings = media.video.settings;
    Stream {
        video: "H264",
        audio: "Opus",
        width: settings.width,
        height: settings.height,
        fps: settings.fps,
        video_bps: media.video.bitrate(),
        packets_per_second: media.video.packet_rate() + 1000.0 / f64::from(audio::PACKET_MS),
        gop_seconds: gop_seconds(&media.video),
    }
}
