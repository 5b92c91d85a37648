//! Everything that runs: publishers, viewers by engine, the threads that join them, and how a step of the
//! plan is measured.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use crate::clock::WallClock;
use crate::engine::{Collected, Command, Engine};
use crate::http::Client;
use crate::join::{Entrance, Joiners, end_sessions};
use crate::joining::{Id, Outcome};
use crate::local::local_ip_towards;
use crate::peer::Context;
use crate::plan::{Picture, Plan};
use crate::proc::{self, MachineTime};
use crate::progress::Progress;
use crate::publisher::Media;
use crate::reading::{Reading, server_of, step_of};
use crate::report::{Adaptation, BitrateAt, Churn, Step, Swaps};
use crate::tally::Tally;
use crate::upheaval::{Turn, Upheaval};

/// Publishers run this long before the first viewer joins: an encoder that has just made a key frame makes
/// the next one late, and joins are to be judged against a running stream.
const WARM_UP: Duration = Duration::from_secs(1);
/// Beyond the join timeout before the run goes on without an outcome; a bound on bugs, not on servers.
const GRACE: Duration = Duration::from_secs(5);
/// A closed terminal or pipe does not end the measurement.
pub fn say(screen: &mut dyn Write, line: std::fmt::Arguments<'_>) {
    let _ = screen.write_all(format!("{line}\n").as_bytes());
}

/// Everything that runs.
pub struct Stage {
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
    /// The viewer that leaves next.
    oldest: usize,
    /// Resident memory before the first viewer.
    rss_before: u64,
}

impl Stage {
    /// Starts all threads; nobody joins yet.
    pub fn open(
        plan: &Plan,
        media: Option<Arc<Media>>,
        interrupted: &Arc<AtomicBool>,
    ) -> Result<Stage, String> {
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
            expects_video: plan.picture != Picture::None,
            network: plan.network,
            clock,
        };
        let start = |name: String| {
            Engine::start(name, Context::new(clock, Sender::clone(&tell)))
                .map_err(|error| format!("cannot start a thread: {error}"))
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
            oldest: 0,
            rss_before: 0,
        })
    }

    /// Does all steps of the plan.
    pub fn play(&mut self, plan: &Plan, screen: &mut dyn Write, steps: &mut Vec<Step>) -> Result<(), String> {
        self.publish(plan)?;
        self.rss_before = proc::usage(&plan.pids)?.rss_kib;
        let mut viewers = plan.steps.iter().copied();
        let mut next = viewers.next();
        while let Some(count) = next {
            self.invite(plan, count)?;
            let step = self.measure(plan, count, screen)?;
            for reason in &step.generator.reasons {
                say(screen, format_args!("THE GENERATOR IS A LIMIT HERE: {reason}"));
            }
            if step.viewers_silent > 0 {
                let (silent, of) = (step.viewers_silent, step.viewers_joined);
                say(
                    screen,
                    format_args!(
                        "{silent} OF {of} VIEWERS WERE SENT NOTHING in the last 2 s: has the server ended?"
                    ),
                );
            }
            next = if plan.ramp { crate::ramp::next(plan, &step) } else { viewers.next() };
            steps.push(step);
        }
        Ok(())
    }

    fn publish(&mut self, plan: &Plan) -> Result<(), String> {
        for index in 0..plan.publishers {
            self.joiners.join(Id::Publisher(index), self.publishers.commander());
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
        // With churn more have been invited than are meant to be there.
        let there = self.invited - self.oldest;
        let new = viewers.saturating_sub(there);
        self.tally.begin();
        for index in self.invited..self.invited + new {
            self.joiners.join(Id::Viewer(index), self.engine_of(index).commander());
            self.tally.listen_for(&self.outcomes, plan.join_interval);
            self.check_stop()?;
        }
        self.tally.listen(&self.outcomes, new, Instant::now() + plan.join_timeout + GRACE);
        self.invited += new;
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
        let (upheaval, bitrates) = self.watch(plan, before.at, screen)?;
        let after = self.read(plan)?;
        let (received, sent) = (self.collect(&self.viewers), self.collect([&self.publishers]));
        let joined = self.watching;
        self.watching = (joined + self.tally.joined()).saturating_sub(self.tally.lost() + upheaval.left);
        let packets = received.received.packets;
        let server =
            (!plan.pids.is_empty()).then(|| server_of(&before, &after, packets, self.rss_before, joined));
        Ok(Step {
            viewers,
            viewers_joined: joined,
            viewers_lost: self.tally.lost(),
            joins,
            churn: plan.churn_interval.map(|_| Churn { left: upheaval.left, joins: self.tally.joins() }),
            adaptation: (plan.picture == Picture::Adaptive)
                .then_some(Adaptation { changes: sent.sent.adaptations, over_time: bitrates }),
            swaps: plan.swap_interval.map(|_| Swaps::of(upheaval.swaps, &received.gaps)),
            server,
            ..step_of(plan, &before, &after, &received, &sent)
        })
    }

    /// Lets the measured time pass, with a line per second, and viewers and publishers come and go.
    fn watch(
        &mut self,
        plan: &Plan,
        began: Instant,
        screen: &mut dyn Write,
    ) -> Result<(Upheaval, Vec<BitrateAt>), String> {
        let mut progress = Progress::new(began);
        let mut upheaval = Upheaval::new(plan, began);
        while let Some((turn, at)) = upheaval.next() {
            self.tally.listen_for(&self.outcomes, at.saturating_duration_since(Instant::now()));
            self.check_stop()?;
            match turn {
                Turn::Tell => {
                    let (received, sent) = (self.collect(&self.viewers), self.collect([&self.publishers]));
                    let joined = self.watching + self.tally.joined();
                    let watching = joined.saturating_sub(self.tally.lost() + upheaval.left);
                    let now = Instant::now();
                    let adapts = plan.picture == Picture::Adaptive;
                    let bitrate = adapts.then(|| progress.bitrate(now, plan.publishers, &sent));
                    let line = progress.line(now, watching, &received, &sent);
                    say(screen, format_args!("{line}{}", bitrate.unwrap_or_default()));
                }
                Turn::Churn => self.churn(&mut upheaval),
                Turn::Swap => self.swap(plan, &mut upheaval),
            }
        }
        self.mark_gap(upheaval.swaps > 0);
        Ok((upheaval, progress.bitrates))
    }

    /// The oldest viewer leaves and a new one joins.
    fn churn(&mut self, upheaval: &mut Upheaval) {
        if self.oldest < self.invited {
            let (leaves, joins) = (self.oldest, self.invited);
            self.joiners.leave(Id::Viewer(leaves), &self.engine_of(leaves).commander(), None);
            self.joiners.join(Id::Viewer(joins), self.engine_of(joins).commander());
            (self.oldest, self.invited) = (leaves + 1, joins + 1);
            upheaval.left += 1;
        }
    }

    /// The next publisher in turn ends and a new one takes its place.
    fn swap(&mut self, plan: &Plan, upheaval: &mut Upheaval) {
        self.mark_gap(upheaval.swaps > 0);
        let id = Id::Publisher(upheaval.swaps % plan.publishers.max(1));
        self.joiners.leave(id, &self.publishers.commander(), Some(id));
        upheaval.swaps += 1;
    }

    fn mark_gap(&self, count: bool) {
        for engine in &self.viewers {
            engine.commander().tell(Command::MarkGap { count });
        }
    }

    fn engine_of(&self, viewer: usize) -> &Engine {
        &self.viewers[viewer % self.viewers.len()]
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

    /// Ends all sessions; returns how many the server refused to end, and one refusal.
    pub fn close(self) -> (usize, Option<String>) {
        // Joins under way end first: their peers are handed to the engines.
        self.joiners.finish();
        let endings = self.viewers.into_iter().chain([self.publishers]).flat_map(Engine::stop).collect();
        end_sessions(&self.client, endings)
    }
}
