//! The command line, and the plan it is checked into before anything starts.

use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use ureq::http::Uri;

use crate::impair::Impairments;
use crate::join::Network;
use crate::local::source_ip_towards;
use crate::require::Bar;
use crate::video::VideoSettings;

/// Load generator for WHIP/WHEP servers: synthetic publishers and viewers, judged as a viewer sees them.
#[derive(Debug, Parser)]
#[command(name = "uringcast-loadtest", version, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Other>,
    // clap takes "{n}" in a help text for a line break, so the texts describe it.
    /// WHIP endpoint to publish to; an n in braces becomes the publisher's number, from 1
    #[arg(long, value_name = "URL")]
    whip: Option<String>,
    /// WHEP endpoint to watch; an n in braces becomes the watched publisher's number, viewers are dealt out
    /// in turn
    #[arg(long, value_name = "URL")]
    whep: Option<String>,
    /// Publishers; 0 watches a stream that someone else publishes
    #[arg(long, value_name = "N", default_value_t = 1)]
    publishers: usize,
    /// Viewers; a list such as 10,100,500 is measured step by step, each with --secs
    #[arg(long, value_name = "N[,N…]", value_delimiter = ',', default_values_t = [1])]
    viewers: Vec<usize>,
    /// Seconds measured per step, after all its viewers have joined
    #[arg(long, value_name = "S", default_value_t = 10)]
    secs: u64,
    /// How viewers behave
    #[arg(long, value_enum, default_value_t = Mode::Full)]
    mode: Mode,
    /// In light mode one packet, and one frame, in so many is decrypted and checked
    #[arg(long, value_name = "N", default_value_t = 50)]
    sample: u64,
    /// A bad network in front of viewers, such as loss=1%,delay=20ms,jitter=5ms,reorder=0.5%,rate=3mbit
    #[arg(long, value_name = "WHAT=HOW[,…]")]
    impair: Option<Impairments>,
    /// --impair for every N-th viewer only
    #[arg(long, value_name = "N", default_value_t = 1)]
    impair_every: usize,
    /// A bad network behind publishers, written as --impair
    #[arg(long, value_name = "WHAT=HOW[,…]")]
    impair_publisher: Option<Impairments>,
    /// The same seed impairs the same datagrams
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Receive a server's trains whole (UDP_GRO). On loopback "off" charges the server for taking them apart,
    /// which elsewhere a network card does
    #[arg(long, value_enum, default_value_t = Switch::On)]
    gro: Switch,
    /// Bearer token for every request; an n in braces becomes the publisher's number
    #[arg(long, value_name = "T", env = "URINGCAST_LOADTEST_BEARER", hide_env_values = true)]
    bearer: Option<String>,
    /// Server processes on this machine whose CPU time and memory are charged to the run
    #[arg(long, value_name = "P[,P…]", value_delimiter = ',')]
    pid: Vec<u32>,
    /// Write the result to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the result to this file as a page with charts
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Exit with 1 unless these hold, such as loss<0.1%,p99<50ms
    #[arg(long, value_name = "BAR[,BAR…]", value_delimiter = ',')]
    require: Vec<Bar>,
    /// Viewers that start to join per second
    #[arg(long, value_name = "N", default_value_t = 100.0)]
    join_rate: f64,
    /// Viewers that leave, and others that join, per second while a step is measured
    #[arg(long, value_name = "N")]
    churn: Option<f64>,
    /// Every S seconds while a step is measured one publisher ends and a new one takes its place
    #[arg(long, value_name = "S")]
    swap_every: Option<f64>,
    /// Start with --viewers and double until a bar of --require is missed (by default loss<0.1%, p99<100ms,
    /// failed<=0) or the generator is the limit
    #[arg(long)]
    ramp: bool,
    /// Seconds after which a join without its first key frame has failed
    #[arg(long, value_name = "S", default_value_t = 15)]
    join_timeout: u64,
    /// Threads that carry viewers; publishers have one of their own [default: one per two cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Accept any TLS certificate
    #[arg(long)]
    insecure: bool,
    /// What publishers send; VP8 is a committed loop of 320x180 at 200 kbit/s and carries no time, so there is no
    /// latency
    #[arg(long, value_enum, default_value_t = VideoCodec::H264)]
    codec: VideoCodec,
    /// Publish H264 in three layers, with rids q, h and f: a quarter, half and the whole of --size
    #[arg(long)]
    simulcast: bool,
    /// Publish and judge sound alone
    #[arg(long)]
    audio_only: bool,
    /// Whether a frame leaves at once, as from OBS, or evenly, as from a browser
    #[arg(long, value_enum, default_value_t = Pace::Burst)]
    pace: Pace,
    /// Size of the picture
    #[arg(long, value_name = "WxH", default_value = "1280x720", value_parser = parse_size)]
    size: (usize, usize),
    /// Frames per second
    #[arg(long, value_name = "N", default_value_t = 30)]
    fps: u32,
    /// Bits per second of video, with suffix k or M
    #[arg(long, value_name = "BPS", default_value = "2500k", value_parser = parse_bitrate)]
    bitrate: u32,
    /// Seconds from one key frame to the next
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    gop: f64,
}

/// What can be done instead of a run.
#[derive(Debug, Subcommand)]
pub enum Other {
    /// Measure how many packets per second this machine's generator takes in; no server is needed
    SelfTest {
        /// Light viewers, all on one thread
        #[arg(long, value_name = "N", default_value_t = 3000)]
        viewers: usize,
        /// Receive trains whole
        #[arg(long, value_enum, default_value_t = Switch::On)]
        gro: Switch,
        /// One packet, and one frame, in so many is decrypted and checked
        #[arg(long, value_name = "N", default_value_t = 50)]
        sample: u64,
    },
    /// Show how one result differs from another
    Compare {
        /// What --json wrote first
        before: PathBuf,
        /// What --json wrote then
        after: PathBuf,
    },
}

/// How viewers behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Every packet decrypted and put into frames, with NACK, RR, TWCC and PLI, as a player does
    Full,
    /// For thousands: every packet counted from its header, a sample decrypted; RR, but no NACK and no TWCC
    Light,
}

impl Mode {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Full => "full",
            Mode::Light => "light",
        }
    }
}

/// What publishers send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VideoCodec {
    H264,
    Vp8,
}

/// How a frame's packets leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pace {
    /// All at once
    Burst,
    /// Every 5 ms, at two and a half times the bitrate
    Browser,
}

/// What each publisher's video is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picture {
    None,
    H264,
    Simulcast,
    Vp8,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
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
            picture: match (self.audio_only, self.simulcast, self.codec) {
                (true, ..) => Picture::None,
                (_, true, _) => Picture::Simulcast,
                (.., VideoCodec::Vp8) => Picture::Vp8,
                (.., VideoCodec::H264) => Picture::H264,
            },
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

/// The local address from which the host of `url` is reached; media sockets are bound to it.
pub fn local_ip_towards(url: &str) -> Result<IpAddr, String> {
    let uri: Uri = numbered(url, 1).parse().map_err(|_| format!("\"{url}\" is no URL"))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_string();
    let port = uri.port_u16().unwrap_or(443);
    let remotes =
        (host.as_str(), port).to_socket_addrs().map_err(|error| format!("cannot resolve {host}: {error}"))?;
    // IPv4 first: "localhost" often names ::1 too, where few servers listen.
    let mut remotes: Vec<_> = remotes.collect();
    remotes.sort_by_key(|remote| remote.is_ipv6());
    remotes.into_iter().find_map(source_ip_towards).ok_or_else(|| format!("no route to {host}"))
}

fn parse_size(text: &str) -> Result<(usize, usize), String> {
    let parse = || {
        let (width, height) = text.split_once('x')?;
        Some((width.parse().ok()?, height.parse().ok()?))
    };
    match parse() {
        Some((width, height)) if fits(width, height) => Ok((width, height)),
        _ => Err("give even numbers from 64x48 to 3840x2160, such as 1280x720".into()),
    }
}

fn fits(width: usize, height: usize) -> bool {
    (64..=3840).contains(&width)
        && (48..=2160).contains(&height)
        && width.is_multiple_of(2)
        && height.is_multiple_of(2)
}

fn parse_bitrate(text: &str) -> Result<u32, String> {
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1e3),
        Some((at, 'M')) => (&text[..at], 1e6),
        _ => (text, 1.0),
    };
    let number: f64 = digits.parse().map_err(|_| "give a number such as 2500k or 2.5M".to_string())?;
    Ok((number * factor) as u32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
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
    fn sizes_and_rates_are_read_or_refused() {
        assert_eq!(parse_bitrate("2.5M"), Ok(2_500_000));
        assert_eq!(parse_bitrate("300k"), Ok(300_000));
        assert!(parse_bitrate("").is_err() && parse_bitrate("fast").is_err());
        for bad in ["1280", "1281x720", "0x0", "9999x720", "axb"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unknown_mode_is_refused_with_the_known_ones() {
        let error = plan("--whip http://h/x --mode fast").unwrap_err().remove(0);
        assert!(error.contains("light") && error.contains("full"), "{error}");
        assert_eq!(plan("--whip http://h/x --mode light").unwrap().light_every, Some(50));
    }

    #[test]
    fn a_loopback_server_is_reached_from_loopback() {
        assert!(local_ip_towards("http://127.0.0.1:8080/whip").unwrap().is_loopback());
        assert!(local_ip_towards("http://[::1]:8080/whip").unwrap().is_ipv6());
    }
}
