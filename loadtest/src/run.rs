//! A run from start to end: publishers up, then step by step more viewers, each step measured, then
//! everything closed.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::adapt::SHARES;
use crate::args::Pace;
use crate::audio;
use crate::plan::{Picture, Plan};
use crate::proc;
use crate::publisher::{Layer, Media};
use crate::ramp;
use crate::report::{Report, Stream};
use crate::stage::{Stage, say};
use crate::video::{VideoError, VideoLoop, VideoSettings};
use crate::vp8_loop;

/// Open files beside the sockets of peers: HTTP connections, polls, the terminal.
const OTHER_FILES: u64 = 200;
/// A layer below this is no picture any more, bits per second.
const MIN_LAYER_BITRATE: u32 = 100_000;

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
    let video = layers(plan).map_err(|error| error.to_string())?;
    let audio = if plan.video_only { Vec::new() } else { audio::opus_loop() };
    let media = Media { video, audio, paced: plan.pace == Pace::Browser };
    for layer in &media.video {
        let (video, settings) = (&layer.video, layer.video.settings);
        say(
            screen,
            format_args!(
                "stream{}: {} {}x{} {}/s, {:.2} Mbit/s in {:.0} packets/s, key frame every {:.1} s; Opus",
                layer.rid.map_or(String::new(), |rid| format!(" {rid}")),
                codec_name(video),
                settings.width,
                settings.height,
                settings.fps,
                video.bitrate() / 1e6,
                video.packet_rate(),
                gop_seconds(video),
            ),
        );
    }
    for cheaper in media.video.iter().flat_map(|layer| &layer.cheaper) {
        say(
            screen,
            format_args!("  or, where the network carries no more: {:.2} Mbit/s", cheaper.bitrate() / 1e6),
        );
    }
    if media.video.is_empty() {
        say(screen, format_args!("stream: Opus, {:.0} packets/s", media.packet_rate()));
    }
    Ok(Some(Arc::new(media)))
}

/// What each publisher shows, the smallest layer first.
fn layers(plan: &Plan) -> Result<Vec<Layer>, VideoError> {
    let whole = plan.video;
    let scaled = |divisor: usize, share: f64| {
        let side = |pixels: usize| (pixels / divisor).next_multiple_of(2);
        let (width, height) = (side(whole.width), side(whole.height));
        let bitrate = (f64::from(whole.bitrate) * share) as u32;
        let bitrate = bitrate.max(MIN_LAYER_BITRATE.min(whole.bitrate));
        VideoLoop::encode(VideoSettings { width, height, bitrate, ..whole }).map(Arc::new)
    };
    match plan.picture {
        Picture::None => Ok(Vec::new()),
        Picture::Vp8 => Ok(vec![Layer::fixed(None, Arc::new(vp8_loop::load()))]),
        Picture::H264 => Ok(vec![Layer::fixed(None, scaled(1, 1.0)?)]),
        Picture::Adaptive => {
            let [quarter, half, whole] = SHARES.map(|share| scaled(1, share));
            Ok(vec![Layer { rid: None, video: whole?, cheaper: vec![quarter?, half?] }])
        }
        // Bitrates about as a browser divides them.
        Picture::Simulcast => [("q", 4, 1.0 / 16.0), ("h", 2, 0.25), ("f", 1, 1.0)]
            .into_iter()
            .map(|(rid, divisor, share)| Ok(Layer::fixed(Some(rid), scaled(divisor, share)?)))
            .collect(),
    }
}

fn codec_name(video: &VideoLoop) -> &'static str {
    if video.profile_level_id.is_some() { "H264" } else { "VP8" }
}

fn gop_seconds(video: &VideoLoop) -> f64 {
    f64::from(video.settings.gop_frames) / f64::from(video.settings.fps)
}

/// The largest layer stands for all, but the packets of all are counted.
fn stream_of(media: &Media) -> Stream {
    let video = media.video.last().map(|layer| &layer.video);
    let settings = video.map(|video| video.settings);
    Stream {
        video: video.map_or("none", |video| codec_name(video)),
        audio: "Opus",
        layers: media.video.len(),
        width: settings.map_or(0, |settings| settings.width),
        height: settings.map_or(0, |settings| settings.height),
        fps: settings.map_or(0, |settings| settings.fps),
        video_bps: media.video.iter().map(|layer| layer.video.bitrate()).sum(),
        packets_per_second: media.packet_rate(),
        gop_seconds: video.map_or(0.0, |video| gop_seconds(video)),
    }
}
