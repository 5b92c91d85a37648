//! Joins: threads that do the blocking half of a session's start (offer, POST, answer) and hand the peer to
//! its engine.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clock::WallClock;
use crate::engine::{Command, Commander, Ending};
use crate::failure::Failure;
use crate::http::{Client, Session};
use crate::impair::Impairments;
use crate::joining::{Id, Outcome};
use crate::light::viewer::{self as light, LightViewer, Sampling};
use crate::negotiation::Connecting;
use crate::peer::Peer;
use crate::plan::numbered;
use crate::publisher::{self, Media, Publisher};
use crate::role::Role;
use crate::viewer::{self, Viewer};

/// Joins under way at once; each may wait for the server.
const THREADS: usize = 32;

/// What joins need to know.
pub struct Entrance {
    pub client: Client,
    pub whip: Option<String>,
    pub whep: Option<String>,
    pub bearer: Option<String>,
    /// Media sockets are bound to this.
    pub publisher_ip: IpAddr,
    pub viewer_ip: IpAddr,
    /// What publishers send; `None` if there are none.
    pub media: Option<Arc<Media>>,
    pub publishers: usize,
    pub timeout: Duration,
    /// Whether viewers take trains whole.
    pub gro: bool,
    /// One packet in so many is opened by light viewers; `None` has full ones.
    pub light_every: Option<u64>,
    /// Whether a viewer has joined only with a key frame.
    pub expects_video: bool,
    pub network: Network,
    pub clock: WallClock,
}

/// How bad the network is, and for whom.
#[derive(Debug, Clone, Copy, Default)]
pub struct Network {
    /// For what viewers receive.
    pub viewers: Option<Impairments>,
    /// For every so many-th viewer, from the first.
    pub every: usize,
    /// For what publishers send.
    pub publishers: Option<Impairments>,
    pub seed: u64,
}

impl Network {
    fn apply(&self, peer: &mut Peer) {
        match peer.id {
            Id::Publisher(index) => {
                if let Some(impairments) = self.publishers {
                    peer.impair_outbound(impairments, self.seed_of(1 << 32 | index as u64));
                }
            }
            Id::Viewer(index) => {
                if let Some(impairments) = self.viewers.filter(|_| index.is_multiple_of(self.every.max(1))) {
                    peer.impair_inbound(impairments, self.seed_of(index as u64));
                }
            }
        }
    }

    /// Seeds of neighbours are far apart.
    fn seed_of(&self, number: u64) -> u64 {
        (self.seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93)).wrapping_mul(0xa076_1d64_78bd_642f)
    }
}

/// What the threads do.
pub enum Job {
    /// Join, and let the engine drive the peer.
    Join(Id, Commander),
    /// DELETE a session, then join as its successor.
    End(Option<Ending>, Option<(Id, Commander)>),
}

/// The threads.
pub struct Joiners {
    jobs: Sender<Job>,
    threads: Vec<JoinHandle<()>>,
    /// Joins that nobody has begun are not begun any more; sessions are still ended.
    closing: Arc<AtomicBool>,
}

impl Joiners {
    /// Starts the threads; outcomes of joins that fail early go to `outcomes`, the others come from the
    /// engines.
    pub fn start(entrance: &Arc<Entrance>, outcomes: &Sender<Outcome>) -> std::io::Result<Joiners> {
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        let closing = Arc::new(AtomicBool::new(false));
        let spawn = |i: usize| {
            let (entrance, queue, outcomes) = (entrance.clone(), queue.clone(), outcomes.clone());
            let closing = closing.clone();
            std::thread::Builder::new()
                .name(format!("join-{i}"))
                .spawn(move || work(&entrance, &queue, &outcomes, &closing))
        };
        let threads = (0..THREADS).map(spawn).collect::<Result<_, _>>()?;
        Ok(Joiners { jobs, threads, closing })
    }

    /// Starts a join as soon as a thread is free.
    pub fn join(&self, id: Id, engine: Commander) {
        // The threads end only when all senders are dropped.
        let _ = self.jobs.send(Job::Join(id, engine));
    }

    /// Has a peer leave, its session DELETEd and, if wanted, a successor join.
    pub fn leave(&self, id: Id, engine: &Commander, successor: Option<Id>) {
        let (jobs, next) = (self.jobs.clone(), successor.map(|id| (id, engine.clone())));
        engine.tell(Command::Leave(id, Box::new(move |ending| drop(jobs.send(Job::End(ending, next))))));
    }

    /// Waits for the joins under way and gives up the others.
    pub fn finish(self) {
        self.closing.store(true, Ordering::Relaxed);
        drop(self.jobs);
        for thread in self.threads {
            // A panic there has been printed; its join is missing in the report.
            let _ = thread.join();
        }
    }
}

/// DELETEs all sessions, several at a time; returns how many the server refused, and one refusal in words.
pub fn end_sessions(client: &Client, endings: Vec<Ending>) -> (usize, Option<String>) {
    let queue = Mutex::new(endings);
    let refusals = Mutex::new(Vec::new());
    let work = || {
        while let Some((url, bearer)) = take(&queue) {
            if let Err(error) = client.delete(&url, bearer.as_deref()) {
                refusals.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(work);
        }
    });
    let refusals = refusals.into_inner().unwrap_or_else(PoisonError::into_inner);
    (refusals.len(), refusals.into_iter().next())
}

fn take(queue: &Mutex<Vec<Ending>>) -> Option<Ending> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

fn work(entrance: &Entrance, queue: &Mutex<Receiver<Job>>, outcomes: &Sender<Outcome>, closing: &AtomicBool) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let (id, engine) = match job {
            Job::Join(id, engine) => (id, engine),
            Job::End(ending, next) => {
                if let Some((url, bearer)) = ending {
                    // A session that is gone already is ended too.
                    let _ = entrance.client.delete(&url, bearer.as_deref());
                }
                let Some(next) = next else { continue };
                next
            }
        };
        if closing.load(Ordering::Relaxed) {
            continue;
        }
        let joined = entrance.join(id).map(|peer| engine.tell(Command::Add(Box::new(peer))));
        if let Err(failure) = joined {
            // The receiver is the main thread; if it is gone the program is ending.
            let _ = outcomes.send(Outcome::Failed(id, failure));
        }
    }
}

impl Entrance {
    fn join(&self, id: Id) -> Result<Peer, Failure> {
        match id {
            Id::Publisher(index) => self.publish(id, index),
            Id::Viewer(index) => self.watch(id, index),
        }
    }

    fn publish(&self, id: Id, index: usize) -> Result<Peer, Failure> {
        let media =
            self.media.clone().ok_or_else(|| Failure::Answer("there is no media to publish".into()))?;
        let (offered, mids) = publisher::offer(&media, self.publisher_ip)?;
        let call = self.call(self.whip.as_deref(), index + 1, &offered.offer)?;
        let phase = index as f64 / self.publishers.max(1) as f64;
        let joined = offered.answered(&call.session.answer).and_then(|connecting| {
            let publisher = Publisher::new(media, self.clock, &connecting.rtc, &mids, phase)?;
            Ok((connecting, Role::Publisher(publisher)))
        });
        self.seat(id, call, joined)
    }

    fn watch(&self, id: Id, index: usize) -> Result<Peer, Failure> {
        match self.light_every {
            Some(every) => self.watch_lightly(id, index, every),
            None => self.watch_fully(id, index),
        }
    }

    fn watch_lightly(&self, id: Id, index: usize, every: u64) -> Result<Peer, Failure> {
        let offered = light::offer(self.viewer_ip)?;
        let call = self.call(self.whep.as_deref(), index % self.publishers.max(1) + 1, &offered.offer)?;
        let sampling = Sampling { every, phase: index as u64 };
        let joined = offered.answered(&call.session.answer).map(|connecting| {
            let viewer =
                LightViewer::new(&connecting.rtc, connecting.keys.clone(), sampling, self.expects_video);
            (connecting, Role::Light(Box::new(viewer)))
        });
        self.seat(id, call, joined)
    }

    fn watch_fully(&self, id: Id, index: usize) -> Result<Peer, Failure> {
        let (offered, video_mid) = viewer::offer(self.viewer_ip)?;
        let call = self.call(self.whep.as_deref(), index % self.publishers.max(1) + 1, &offered.offer)?;
        let joined = offered.answered(&call.session.answer).map(|connecting| {
            let viewer = Viewer::new(&connecting.rtc, video_mid, self.expects_video);
            (connecting, Role::Viewer(Box::new(viewer)))
        });
        self.seat(id, call, joined)
    }

    fn call(&self, url: Option<&str>, number: usize, offer: &str) -> Result<Call, Failure> {
        let url = numbered(url.unwrap_or_default(), number);
        let bearer = self.bearer.as_ref().map(|bearer| numbered(bearer, number));
        let started = Instant::now();
        let session = self.client.offer(&url, bearer.as_deref(), offer, started + self.timeout)?;
        Ok(Call { started, session, bearer })
    }

    /// A session that cannot be used is ended at once.
    fn seat(&self, id: Id, call: Call, joined: Result<(Connecting, Role), Failure>) -> Result<Peer, Failure> {
        match joined {
            Ok((connecting, role)) => {
                let mut peer = Peer::new(id, connecting, role, call.started, call.started + self.timeout);
                if self.gro {
                    peer.receive_trains();
                }
                self.network.apply(&mut peer);
                peer.session = Some((call.session.url, call.bearer));
                Ok(peer)
            }
            Err(failure) => {
                // The failure that matters is the one before.
                let _ = self.client.delete(&call.session.url, call.bearer.as_deref());
                Err(failure)
            }
        }
    }
}

struct Call {
    started: Instant,
    session: Session,
    bearer: Option<String>,
}
