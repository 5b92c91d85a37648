//! A run from start to end: publishers up, then step by step more viewers, each step measured, then
//! everything closed.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use crate::args::{Mode, Plan, local_ip_towards};
use crate::audio;
use crate::clock::WallClock;
use crate::engine::{Collected, Engine};
use crate::histogram::Histogram;
use crate::http::Client;
use crate::join::{Entrance, Job, Joiners, end_sessions};
use crate::peer::{Context, Id, Outcome};
use crate::proc::{self, MachineTime, Usage};
use crate::progress::Progress;
use crate::publisher::Media;
use crate::report::{Generator, LatencyMs, Report, Server, Step, Stream, WorstViewer};
use crate::tally::Tally;
use crate::video::VideoLoop;

/// Publishers run this long before the first viewer joins: an encoder that has just made a key frame makes
/// the next one late, and joins are to be judged against a running stream.
const WARM_UP: Duration = Duration::from_secs(1);
/// Open files beside the sockets of peers: HTTP connections, polls, the terminal.
const OTHER_FILES: u64 = 200;
/// Beyond the join timeout before the run goes on without an outcome; a bound on bugs, not on servers.
const GRACE: Duration = Duration::from_secs(5);

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
        ended_early,
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

/// A closed terminal or pipe does not end the measurement.
fn say(screen: &mut dyn Write, line: std::fmt::Arguments<'_>) {
    let _ = screen.write_all(format!("{line}\n").as_bytes());
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

/// Everything that runs.
struct Stage {
    publishers: Engine,
    viewers: Vec<Engine>,
    joiners: Joiners,
    client: Client,
    outcomes: Receiver<Outcome>,
    tally: Tally,
    /// Viewers asked for so far.
    invited: usize,
    /// Of those, watching.
    watching: usize,
    /// Resident memory before the first viewer.
    rss_before: u64,
}

impl Stage {
    fn open(plan: &Plan, media: Option<Arc<Media>>, interrupted: &Arc<AtomicBool>) -> Result<Stage, String> {
        let (tell, outcomes) = mpsc::channel();
        let clock = WallClock::new();
        let any_url = plan.whip.as_deref().or(plan.whep.as_deref()).unwrap_or_default();
        let client = Client::new(plan.join_timeout, plan.insecure);
        let entrance = Entrance {
            client: client.clone(),
            whip: plan.whip.clone(),
            whep: plan.whep.clone(),
            bearer: plan.bearer.clone(),
            publisher_ip: local_ip_towards(plan.whip.as_deref().unwrap_or(any_url))?,
            viewer_ip: local_ip_towards(plan.whep.as_deref().unwrap_or(any_url))?,
            media,
            publishers: plan.publishers,
            timeout: plan.join_timeout,
            gro: plan.gro,
            light_every: plan.light_every,
            network: plan.network,
            clock,
        };
        let start = |name: String| {
            let context = Context { clock, outcomes: Sender::clone(&tell), latency: Histogram::default() };
            Engine::start(name, context).map_err(|error| format!("cannot start a thread: {error}"))
        };
        Ok(Stage {
            publishers: start("publishers".into())?,
            viewers: (0..plan.threads).map(|i| start(format!("viewers-{i}"))).collect::<Result<_, _>>()?,
            joiners: Joiners::start(&Arc::new(entrance), &tell)
                .map_err(|error| format!("cannot start a thread: {error}"))?,
            client,
            outcomes,
            tally: Tally::new(interrupted),
            invited: 0,
            watching: 0,
            rss_before: 0,
        })
    }

    fn play(&mut self, plan: &Plan, screen: &mut dyn Write, steps: &mut Vec<Step>) -> Result<(), String> {
        self.publish(plan)?;
        self.rss_before = proc::usage(&plan.pids)?.rss_kib;
        for viewers in &plan.steps {
            self.invite(plan, *viewers)?;
            let step = self.measure(plan, *viewers, screen)?;
            for reason in &step.generator.reasons {
                say(screen, format_args!("THE GENERATOR IS A LIMIT HERE: {reason}"));
            }
            steps.push(step);
        }
        Ok(())
    }

    fn publish(&mut self, plan: &Plan) -> Result<(), String> {
        for index in 0..plan.publishers {
            self.joiners.join(Job { id: Id::Publisher(index), engine: self.publishers.commander() });
            self.tally.listen_for(&self.outcomes, plan.join_interval);
        }
        self.tally.listen(&self.outcomes, plan.publishers, Instant::now() + plan.join_timeout + GRACE);
        self.check_stop()?;
        if plan.publishers > 0 {
            self.tally.listen_for(&self.outcomes, WARM_UP);
        }
        self.check_stop()
    }

    fn check_stop(&self) -> Result<(), String> {
        self.tally.stop_reason().map_or(Ok(()), |failure| Err(failure.to_string()))
    }

    fn invite(&mut self, plan: &Plan, viewers: usize) -> Result<(), String> {
        let new = viewers - self.invited;
        self.tally.begin();
        for index in self.invited..viewers {
            let engine = self.viewers[index % self.viewers.len()].commander();
            self.joiners.join(Job { id: Id::Viewer(index), engine });
            self.tally.listen_for(&self.outcomes, plan.join_interval);
            self.check_stop()?;
        }
        self.tally.listen(&self.outcomes, new, Instant::now() + plan.join_timeout + GRACE);
        self.invited = viewers;
        self.watching = (self.watching + self.tally.joined()).saturating_sub(self.tally.lost());
        self.check_stop()?;
        match self.tally.first_failure() {
            Some(failure) if self.watching == 0 => Err(format!("no viewer could join: {failure}")),
            _ => Ok(()),
        }
    }

    fn measure(&mut self, plan: &Plan, viewers: usize, screen: &mut dyn Write) -> Result<Step, String> {
        let joins = self.tally.joins();
        if let (failed @ 1.., Some(failure)) = (self.tally.failed(), self.tally.first_failure()) {
            say(screen, format_args!("{failed} viewers could not join, the first: {failure}"));
        }
        self.tally.begin();
        let before = self.read(plan)?;
        self.engines().for_each(Engine::begin_window);
        self.watch(plan, before.at, screen)?;
        let after = self.read(plan)?;
        let (received, sent) = (self.collect(&self.viewers), self.collect([&self.publishers]));
        let joined = self.watching;
        self.watching = joined.saturating_sub(self.tally.lost());
        let packets = received.received.packets;
        let server =
            (!plan.pids.is_empty()).then(|| server_of(&before, &after, packets, self.rss_before, joined));
        Ok(Step {
            viewers,
            viewers_joined: joined,
            viewers_lost: joined - self.watching,
            joins,
            server,
            ..step_of(plan, &before, &after, &received, &sent)
        })
    }

    /// Lets the measured time pass, with a line per second.
    fn watch(&mut self, plan: &Plan, began: Instant, screen: &mut dyn Write) -> Result<(), String> {
        let mut progress = Progress::new(began);
        while began.elapsed() < plan.measured {
            let next = (plan.measured.saturating_sub(began.elapsed())).min(Duration::from_secs(1));
            self.tally.listen_for(&self.outcomes, next);
            self.check_stop()?;
            let (received, sent) = (self.collect(&self.viewers), self.collect([&self.publishers]));
            let watching = self.watching.saturating_sub(self.tally.lost());
            say(screen, format_args!("{}", progress.line(Instant::now(), watching, &received, &sent)));
        }
        Ok(())
    }

    fn read(&self, plan: &Plan) -> Result<Reading, String> {
        let ports = self.collect(self.engines()).ports.into_iter().collect();
        Ok(Reading {
            drops: proc::udp_drops(&ports),
            usage: proc::usage(&plan.pids)?,
            machine: MachineTime::now(),
            at: Instant::now(),
        })
    }

    fn engines(&self) -> impl Iterator<Item = &Engine> {
        self.viewers.iter().chain([&self.publishers])
    }

    fn collect<'a>(&self, engines: impl IntoIterator<Item = &'a Engine>) -> Collected {
        let mut sum = Collected::default();
        engines.into_iter().filter_map(Engine::collect).for_each(|collected| sum.merge(collected));
        sum
    }

    fn close(self) -> (usize, Option<String>) {
        // Joins under way end first: their peers are handed to the engines.
        self.joiners.finish();
        let endings = self.viewers.into_iter().chain([self.publishers]).flat_map(Engine::stop).collect();
        end_sessions(&self.client, endings)
    }
}

/// What `/proc` says at one end of a measured window.
struct Reading {
    drops: u64,
    usage: Usage,
    machine: MachineTime,
    at: Instant,
}

fn step_of(plan: &Plan, before: &Reading, after: &Reading, received: &Collected, sent: &Collected) -> Step {
    let seconds = (after.at - before.at).as_secs_f64();
    let counts = &received.received;
    let generator = Generator {
        busy_pct: received.busy * 100.0,
        machine_busy_pct: after.machine.busy_pct_since(before.machine),
        socket_drops: after.drops.saturating_sub(before.drops),
        frames_sent: sent.sent.frames,
        frames_late: sent.sent.late + sent.sent.skipped,
        send_errors: received.send_errors + sent.send_errors,
        ..Generator::default()
    };
    Step {
        seconds,
        lost_pct: counts.lost_pct(),
        worst_viewer_lost_pct: received.worst.and_then(|worst| worst.received.lost_pct()),
        worst_viewer: received.worst.as_ref().map(WorstViewer::of),
        duplicate_packets: (plan.mode == Mode::Light).then_some(counts.duplicates),
        reordered_packets: counts.reordered,
        checked_packets: counts.checked,
        bad_packets: counts.bad,
        jitter_ms: counts.jitter_ms(),
        layer_switches: counts.switches,
        delivered_packets: counts.packets,
        delivered_packets_per_second: counts.packets as f64 / seconds,
        delivered_mbit_per_second: counts.bytes as f64 * 8.0 / 1e6 / seconds,
        frames: counts.frames,
        freezes: counts.freezes,
        frozen_seconds: counts.frozen_us as f64 / 1e6,
        plis: counts.plis,
        publisher_key_frame_requests: sent.sent.key_frame_requests,
        latency_ms: LatencyMs::of(&received.latency),
        generator: generator.judge(),
        ..Step::default()
    }
}

fn server_of(before: &Reading, after: &Reading, packets: u64, rss_before: u64, viewers: usize) -> Server {
    let seconds = (after.at - before.at).as_secs_f64();
    let cpu_ns = after.usage.cpu_ns.saturating_sub(before.usage.cpu_ns) as f64;
    let grown = after.usage.rss_kib.saturating_sub(rss_before) as f64;
    Server {
        cpu_ns_per_packet: (packets > 0).then(|| cpu_ns / packets as f64),
        cpu_pct_of_core: cpu_ns / seconds / 1e7,
        rss_kib: after.usage.rss_kib,
        rss_kib_per_viewer: (viewers > 0).then(|| grown / viewers as f64),
    }
}
