//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::impair::Impairments;
use crate::require::Bar;

/// Load generator for WHIP/WHEP servers: synthetic publishers and viewers, judged as a viewer sees them.
#[derive(Debug, Parser)]
#[command(name = "uringcast-loadtest", version, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Other>,
    // clap takes "{n}" in a help text for a line break, so the texts describe it.
    /// WHIP endpoint to publish to; an n in braces becomes the publisher's number, from 1
    #[arg(long, value_name = "URL")]
    pub whip: Option<String>,
    /// WHEP endpoint to watch; an n in braces becomes the watched publisher's number, viewers are dealt out
    /// in turn
    #[arg(long, value_name = "URL")]
    pub whep: Option<String>,
    /// Publishers; 0 watches a stream that someone else publishes
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub publishers: usize,
    /// Viewers; a list such as 10,100,500 is measured step by step, each with --secs
    #[arg(long, value_name = "N[,N…]", value_delimiter = ',', default_values_t = [1])]
    pub viewers: Vec<usize>,
    /// Seconds measured per step, after all its viewers have joined
    #[arg(long, value_name = "S", default_value_t = 10)]
    pub secs: u64,
    /// How viewers behave
    #[arg(long, value_enum, default_value_t = Mode::Full)]
    pub mode: Mode,
    /// In light mode one packet, and one frame, in so many is decrypted and checked
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub sample: u64,
    /// A bad network in front of viewers, such as loss=1%,delay=20ms,jitter=5ms,reorder=0.5%,rate=3mbit
    #[arg(long, value_name = "WHAT=HOW[,…]")]
    pub impair: Option<Impairments>,
    /// --impair for every N-th viewer only
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub impair_every: usize,
    /// A bad network behind publishers, written as --impair
    #[arg(long, value_name = "WHAT=HOW[,…]")]
    pub impair_publisher: Option<Impairments>,
    /// The same seed impairs the same datagrams
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Receive a server's trains whole (UDP_GRO). On loopback "off" charges the server for taking them apart,
    /// which elsewhere a network card does
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub gro: Switch,
    /// Bearer token for every request; an n in braces becomes the publisher's number
    #[arg(long, value_name = "T", env = "URINGCAST_LOADTEST_BEARER", hide_env_values = true)]
    pub bearer: Option<String>,
    /// Server processes on this machine whose CPU time and memory are charged to the run
    #[arg(long, value_name = "P[,P…]", value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// Write the result to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the result to this file as a page with charts
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Exit with 1 unless these hold, such as loss<0.1%,p99<50ms
    #[arg(long, value_name = "BAR[,BAR…]", value_delimiter = ',')]
    pub require: Vec<Bar>,
    /// Viewers that start to join per second
    #[arg(long, value_name = "N", default_value_t = 100.0)]
    pub join_rate: f64,
    /// Viewers that leave, and others that join, per second while a step is measured
    #[arg(long, value_name = "N")]
    pub churn: Option<f64>,
    /// Every S seconds while a step is measured one publisher ends and a new one takes its place
    #[arg(long, value_name = "S")]
    pub swap_every: Option<f64>,
    /// Start with --viewers and double until a bar of --require is missed (by default loss<0.1%, p99<100ms,
    /// failed<=0) or the generator is the limit
    #[arg(long)]
    pub ramp: bool,
    /// Seconds after which a join without its first key frame has failed
    #[arg(long, value_name = "S", default_value_t = 15)]
    pub join_timeout: u64,
    /// Threads that carry viewers; publishers have one of their own [default: one per two cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Accept any TLS certificate
    #[arg(long)]
    pub insecure: bool,
    /// What publishers send; VP8 is a committed loop of 320x180 at 200 kbit/s and carries no time, so there is no
    /// latency
    #[arg(long, value_enum, default_value_t = VideoCodec::H264)]
    pub codec: VideoCodec,
    /// Publish H264 in three layers, with rids q, h and f: a quarter, half and the whole of --size
    #[arg(long)]
    pub simulcast: bool,
    /// Publishers follow bandwidth feedback (transport-cc, REMB) among three encodings: all, a half and a quarter of
    /// --bitrate
    #[arg(long)]
    pub adapt: bool,
    /// Publish and judge sound alone
    #[arg(long)]
    pub audio_only: bool,
    /// Publish no sound
    #[arg(long, conflicts_with = "audio_only")]
    pub video_only: bool,
    /// Whether a frame leaves at once, as from OBS, or evenly, as from a browser
    #[arg(long, value_enum, default_value_t = Pace::Burst)]
    pub pace: Pace,
    /// Size of the picture
    #[arg(long, value_name = "WxH", default_value = "1280x720", value_parser = parse_size)]
    pub size: (usize, usize),
    /// Frames per second
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub fps: u32,
    /// Bits per second of video, with suffix k or M
    #[arg(long, value_name = "BPS", default_value = "2500k", value_parser = parse_bitrate)]
    pub bitrate: u32,
    /// Seconds from one key frame to the next
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    pub gop: f64,
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

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
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
    use super::*;

    #[test]
    fn sizes_and_rates_are_read_or_refused() {
        assert_eq!(parse_bitrate("2.5M"), Ok(2_500_000));
        assert_eq!(parse_bitrate("300k"), Ok(300_000));
        assert!(parse_bitrate("").is_err() && parse_bitrate("fast").is_err());
        for bad in ["1280", "1281x720", "0x0", "9999x720", "axb"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
