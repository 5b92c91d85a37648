//! What will be done: the command line, checked before anything starts.

use std::path::PathBuf;
use std::time::Duration;

use ureq::http::Uri;

use crate::args::{Args, Mode, Pace, Switch, VideoCodec};
use crate::join::Network;
use crate::require::Bar;
use crate::video::VideoSettings;

/// What each publisher's video is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picture {
    None,
    H264,
    /// H264 at a bitrate that follows the network.
    Adaptive,
    Simulcast,
    Vp8,
}

/// What will be done, checked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// WHIP endpoint, with `{n}`; `None` publishes nothing.
    pub whip: Option<String>,
    /// WHEP endpoint, with `{n}`; `None` watches nothing.
    pub whep: Option<String>,
    /// Token, with `{n}`.
    pub bearer: Option<String>,
    pub mode: Mode,
    /// One packet in so many is opened by light viewers; `None` has full ones.
    pub light_every: Option<u64>,
    pub network: Network,
    /// Whether to receive trains whole.
    pub gro: bool,
    pub publishers: usize,
    /// Viewers of each step, never falling.
    pub steps: Vec<usize>,
    /// Measured time of each step.
    pub measured: Duration,
    pub pids: Vec<u32>,
    pub json: Option<PathBuf>,
    pub html: Option<PathBuf>,
    pub bars: Vec<Bar>,
    /// Between two joins.
    pub join_interval: Duration,
    pub join_timeout: Duration,
    /// Between two viewers that leave, if any do.
    pub churn_interval: Option<Duration>,
    /// Between two publishers that are replaced, if any are.
    pub swap_interval: Option<Duration>,
    /// Whether to double the first step until it breaks.
    pub ramp: bool,
    /// Threads that carry viewers.
    pub threads: usize,
    pub insecure: bool,
    /// Size and rate of H264.
    pub video: VideoSettings,
    pub picture: Picture,
    /// No sound is published.
    pub video_only: bool,
    pub pace: Pace,
}

impl Args {
    /// Checks everything that can be known before the first request; all faults at once.
    pub fn into_plan(self) -> Result<Plan, Vec<String>> {
        let faults = self.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Plan {
            video: VideoSettings {
                width: self.size.0,
                height: self.size.1,
                fps: self.fps,
                bitrate: self.bitrate,
                gop_frames: (self.gop * f64::from(self.fps)).round() as u32,
            },
            picture: match self.codec {
                _ if self.audio_only => Picture::None,
                _ if self.simulcast => Picture::Simulcast,
                _ if self.adapt => Picture::Adaptive,
                VideoCodec::Vp8 => Picture::Vp8,
                VideoCodec::H264 => Picture::H264,
            },
            video_only: self.video_only,
            pace: self.pace,
            publishers: if self.whip.is_some() { self.publishers } else { 0 },
            steps: if self.whep.is_some() { self.viewers } else { vec![0] },
            whip: self.whip,
            whep: self.whep,
            bearer: self.bearer,
            mode: self.mode,
            light_every: (self.mode == Mode::Light).then_some(self.sample),
            network: Network {
                viewers: self.impair,
                every: self.impair_every,
                publishers: self.impair_publisher,
                seed: self.seed,
            },
            gro: self.gro == Switch::On,
            measured: Duration::from_secs(self.secs),
            pids: self.pid,
            json: self.json,
            html: self.html,
            bars: if self.ramp && self.require.is_empty() { ramp_bars() } else { self.require },
            join_interval: Duration::from_secs_f64(1.0 / self.join_rate),
            join_timeout: Duration::from_secs(self.join_timeout),
            churn_interval: self.churn.map(|rate| Duration::from_secs_f64(1.0 / rate)),
            swap_interval: self.swap_every.map(Duration::from_secs_f64),
            ramp: self.ramp,
            threads: self.threads.unwrap_or((cores / 2).max(1)),
            insecure: self.insecure,
        })
    }

    fn faults(&self) -> Vec<String> {
        let numbered = |text: &Option<String>| text.as_ref().is_some_and(|text| text.contains("{n}"));
        let frames = self.gop * f64::from(self.fps);
        let checks = [
            (self.whip.is_none() && self.whep.is_none(), "nothing to do: give --whip, --whep or both"),
            (
                self.publishers > 1
                    && self.whip.is_some()
                    && !numbered(&self.whip)
                    && !numbered(&self.bearer),
                "several publishers to one URL would replace one another: put {n} into --whip (or --bearer)",
            ),
            (!self.viewers.is_sorted(), "--viewers must not fall from step to step"),
            (self.secs == 0, "--secs must be at least 1"),
            (self.join_timeout == 0, "--join-timeout must be at least 1"),
            (!positive(self.join_rate), "--join-rate must be above 0"),
            (
                self.simulcast && (self.audio_only || self.codec == VideoCodec::Vp8),
                "--simulcast is H264: leave out --audio-only and --codec vp8",
            ),
            (
                self.adapt && (self.audio_only || self.simulcast || self.codec == VideoCodec::Vp8),
                "--adapt is one layer of H264: leave out --audio-only, --simulcast and --codec vp8",
            ),
            (self.sample == 0, "--sample must be at least 1"),
            (self.impair_every == 0, "--impair-every must be at least 1"),
            (self.churn.is_some_and(|rate| !positive(rate)), "--churn must be above 0"),
            (self.swap_every.is_some_and(|time| !positive(time)), "--swap-every must be above 0"),
            (self.swap_every.is_some() && self.whip.is_none(), "--swap-every needs --whip"),
            (self.ramp && self.viewers.first() == Some(&0), "--ramp starts with at least one of --viewers"),
            (self.threads == Some(0), "--threads must be at least 1"),
            (!(1..=120).contains(&self.fps), "--fps must be 1 to 120"),
            (!(1.0..=3600.0).contains(&frames), "--gop must hold 1 to 3600 frames"),
            (!(50_000..=100_000_000).contains(&self.bitrate), "--bitrate must be 50k to 100M"),
        ];
        let mut faults: Vec<String> =
            checks.into_iter().filter(|(fault, _)| *fault).map(|(_, text)| text.to_string()).collect();
        for (flag, url) in [("--whip", &self.whip), ("--whep", &self.whep)] {
            if let Some(fault) = url.as_ref().and_then(|url| url_fault(url)) {
                faults.push(format!("{flag}: {fault}"));
            }
        }
        faults
    }
}

/// What a ramp's steps must clear by default.
fn ramp_bars() -> Vec<Bar> {
    ["loss<0.1%", "p99<100ms", "failed<=0"].iter().filter_map(|bar| bar.parse().ok()).collect()
}

/// A rate or time that a plan can use.
fn positive(number: f64) -> bool {
    (1e-4..1e6).contains(&number)
}

/// Puts a publisher's number, counted from 1, into a URL or token.
pub fn numbered(text: &str, number: usize) -> String {
    text.replace("{n}", &number.to_string())
}

fn url_fault(url: &str) -> Option<String> {
    let uri: Result<Uri, _> = numbered(url, 1).parse();
    match uri {
        Ok(uri) if matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() => None,
        _ => Some(format!("\"{url}\" is no http:// or https:// URL")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use clap::Parser;

    use super::*;

    fn plan(line: &str) -> Result<Plan, Vec<String>> {
        let words = ["uringcast-loadtest"].into_iter().chain(line.split_whitespace());
        Args::try_parse_from(words).map_err(|error| vec![error.to_string()])?.into_plan()
    }

    #[test]
    fn the_default_stream_is_720p30_at_two_and_a_half_megabit() {
        let plan =
            plan("--whip http://h/{n}/whip --whep http://h/{n}/whep --viewers 10,20 --pid 1,2").unwrap();
        let video = VideoSettings { width: 1280, height: 720, fps: 30, bitrate: 2_500_000, gop_frames: 60 };
        assert_eq!(
            (plan.video, plan.publishers, plan.steps, plan.pids),
            (video, 1, vec![10, 20], vec![1, 2])
        );
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let faults = plan("--whip ftp://h --publishers 2 --viewers 5,3 --secs 0").unwrap_err();
        assert_eq!(faults.len(), 4, "{faults:?}");
        assert!(plan("").unwrap_err()[0].contains("--whip"));
    }

    #[test]
    fn several_publishers_may_differ_by_url_or_by_token() {
        assert!(plan("--whip http://h/whip --publishers 2").is_err());
        assert!(plan("--whip http://h/whip --bearer key-{n} --publishers 2").is_ok());
        assert!(plan("--whip http://h/{n}/whip --publishers 2").is_ok());
    }

    #[test]
    fn without_a_whip_url_nothing_is_published_and_without_whep_nothing_watched() {
        assert_eq!(plan("--whep http://h/x").unwrap().publishers, 0);
        assert_eq!(plan("--whip http://h/x --viewers 9").unwrap().steps, [0]);
    }

    #[test]
    fn an_unknown_mode_is_refused_with_the_known_ones() {
        let error = plan("--whip http://h/x --mode fast").unwrap_err().remove(0);
        assert!(error.contains("light") && error.contains("full"), "{error}");
        assert_eq!(plan("--whip http://h/x --mode light").unwrap().light_every, Some(50));
    }
}
