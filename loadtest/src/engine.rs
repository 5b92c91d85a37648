//! One generator thread: a poll over the UDP sockets of its peers, and their timers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};
use nix::time::{ClockId, clock_gettime};
use slab::Slab;

use crate::histogram::Histogram;
use crate::inbox::Inbox;
use crate::joining::Id;
use crate::peer::{Context, Peer};
use crate::publisher::Sent;
use crate::received::{Received, Worst};

const WAKER: Token = Token(usize::MAX);
const EVENTS_PER_POLL: usize = 1024;

/// A session to end with DELETE: its URL and token.
pub type Ending = (String, Option<String>);

/// What the thread is told.
pub enum Command {
    /// Drive this peer from now on.
    Add(Box<Peer>),
    /// Close this peer, if it is here, and hand its session to the function, which ends it.
    Leave(Id, Box<dyn FnOnce(Option<Ending>) + Send>),
    /// A pause of the picture ends here: count the longest since the last of these, or forget it.
    MarkGap { count: bool },
    /// Start counting anew.
    BeginWindow,
    /// Say what was counted since.
    Collect(Sender<Collected>),
    /// Close all peers and end.
    Stop,
}

/// What one thread counted in the window.
#[derive(Default)]
pub struct Collected {
    /// Sum over viewers, those that were lost on the way included.
    pub received: Received,
    /// The viewer that fared worst.
    pub worst: Option<Worst>,
    /// Sum over publishers.
    pub sent: Sent,
    /// Whole-frame latency, microseconds.
    pub latency: Histogram,
    /// Longest pauses of the picture, one per viewer and swap, microseconds.
    pub gaps: Histogram,
    /// Share of the window in which the thread was not waiting, 0 to 1.
    pub busy: f64,
    /// CPU time that the thread used, user and system.
    pub cpu: Duration,
    /// Local UDP ports of all peers.
    pub ports: Vec<u16>,
    /// Datagrams that the kernel did not take.
    pub send_errors: u64,
}

impl Collected {
    /// Adds what another thread counted; `busy` becomes that of the busiest.
    pub fn merge(&mut self, other: Collected) {
        self.received += other.received;
        self.worst = Worst::of(self.worst, other.worst);
        self.sent += other.sent;
        self.latency.merge(&other.latency);
        self.gaps.merge(&other.gaps);
        self.busy = self.busy.max(other.busy);
        self.cpu += other.cpu;
        self.ports.extend(other.ports);
        self.send_errors += other.send_errors;
    }
}

/// The handle to a running thread.
pub struct Engine {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    thread: JoinHandle<Vec<Ending>>,
}

/// Hands commands to an engine from any thread.
#[derive(Clone)]
pub struct Commander {
    commands: Sender<Command>,
    waker: Arc<Waker>,
}

impl Commander {
    /// Sends a command; says whether the thread still takes any.
    pub fn tell(&self, command: Command) -> bool {
        self.commands.send(command).is_ok() && self.waker.wake().is_ok()
    }
}

impl Engine {
    /// Starts a thread.
    pub fn start(name: String, context: Context) -> io::Result<Engine> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (commands, received) = mpsc::channel();
        let run = move || Loop::new(poll, received, context).run();
        let thread = std::thread::Builder::new().name(name).spawn(run)?;
        Ok(Engine { commands, waker, thread })
    }

    /// For other threads.
    pub fn commander(&self) -> Commander {
        Commander { commands: self.commands.clone(), waker: self.waker.clone() }
    }

    /// Starts a new measured window.
    pub fn begin_window(&self) {
        self.commander().tell(Command::BeginWindow);
    }

    /// Asks for the counters; `None` if the thread has died.
    pub fn collect(&self) -> Option<Collected> {
        let (reply, collected) = mpsc::channel();
        self.commander().tell(Command::Collect(reply));
        collected.recv().ok()
    }

    /// Closes all peers; returns the sessions to DELETE.
    pub fn stop(self) -> Vec<Ending> {
        self.commander().tell(Command::Stop);
        self.thread.join().unwrap_or_default()
    }
}

/// CPU time of the calling thread so far.
fn thread_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

struct Seat {
    peer: Peer,
    /// The earliest timer that is set for it.
    wake: Instant,
}

struct Loop {
    poll: Poll,
    commands: Receiver<Command>,
    context: Context,
    seats: Slab<Seat>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    inbox: Inbox,
    endings: Vec<Ending>,
    /// Counters of viewers that have ended.
    departed: Received,
    window_began: Instant,
    waited: Duration,
    /// CPU time of this thread when the window began.
    cpu_before: Duration,
}

impl Loop {
    fn new(poll: Poll, commands: Receiver<Command>, context: Context) -> Loop {
        Loop {
            poll,
            commands,
            context,
            seats: Slab::new(),
            timers: BinaryHeap::new(),
            inbox: Inbox::new(),
            endings: Vec::new(),
            departed: Received::default(),
            window_began: Instant::now(),
            waited: Duration::ZERO,
            cpu_before: Duration::ZERO,
        }
    }

    fn run(mut self) -> Vec<Ending> {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        loop {
            self.wait(&mut events);
            for event in &events {
                if event.token() != WAKER {
                    self.readable(event.token().0);
                }
            }
            if self.obey().is_break() {
                return self.endings;
            }
            self.wake_due();
        }
    }

    fn wait(&mut self, events: &mut Events) {
        let before = Instant::now();
        let timeout = self.timers.peek().map(|Reverse((at, _))| at.saturating_duration_since(before));
        // Interrupted by a signal: the next turn does what is due.
        if self.poll.poll(events, timeout).is_err() {
            events.clear();
        }
        self.waited += before.elapsed();
    }

    fn readable(&mut self, key: usize) {
        if let Some(seat) = self.seats.get_mut(key) {
            seat.peer.receive(&mut self.inbox, &mut self.context);
            self.settle(key);
        }
    }

    fn wake_due(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, key))) = self.timers.peek().copied().filter(|Reverse((at, _))| *at <= now)
        {
            self.timers.pop();
            // A timer that was moved to an earlier time, or whose peer is gone, does nothing.
            if let Some(seat) = self.seats.get_mut(key).filter(|seat| seat.wake == at) {
                seat.peer.wake(now, &mut self.context);
                seat.wake = now + Duration::from_secs(3600);
                self.settle(key);
            }
        }
    }

    /// Removes a peer that has ended, or sets its timer.
    fn settle(&mut self, key: usize) {
        let Some(seat) = self.seats.get_mut(key) else { return };
        if seat.peer.has_ended() {
            self.remove(key);
            return;
        }
        let wake = seat.peer.next_wake();
        if wake < seat.wake {
            seat.wake = wake;
            self.timers.push(Reverse((wake, key)));
        }
    }

    fn remove(&mut self, key: usize) {
        let mut peer = self.seats.remove(key).peer;
        // It may be gone from the poll already; closing the socket removes it in any case.
        let _ = self.poll.registry().deregister(&mut peer.socket);
        if let Some(window) = peer.role.received() {
            self.departed += window;
        }
        self.endings.extend(peer.session.take());
    }

    fn obey(&mut self) -> std::ops::ControlFlow<()> {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Add(peer) => self.add(*peer),
                Command::Leave(id, then) => then(self.leave(id)),
                Command::MarkGap { count } => self.mark_gap(count),
                Command::BeginWindow => self.begin_window(),
                Command::Collect(reply) => {
                    // Nobody waits any more: nothing to tell.
                    let _ = reply.send(self.collect());
                }
                Command::Stop => {
                    self.stop();
                    return std::ops::ControlFlow::Break(());
                }
            }
        }
        std::ops::ControlFlow::Continue(())
    }

    fn add(&mut self, peer: Peer) {
        let now = Instant::now();
        let key = self.seats.insert(Seat { peer, wake: now });
        let seat = &mut self.seats[key];
        // Cannot fail for a fresh socket; if it did, the join would time out and be reported.
        let _ = self.poll.registry().register(&mut seat.peer.socket, Token(key), Interest::READABLE);
        self.timers.push(Reverse((now, key)));
        // Datagrams that came before the registration raise no event.
        self.readable(key);
    }

    fn leave(&mut self, id: Id) -> Option<Ending> {
        let (key, _) = self.seats.iter().find(|(_, seat)| seat.peer.id == id)?;
        self.seats[key].peer.close(&mut self.context);
        let session = self.seats[key].peer.session.take();
        self.remove(key);
        session
    }

    fn mark_gap(&mut self, count: bool) {
        let now = Instant::now();
        for (_, seat) in &mut self.seats {
            if let Some(pause) = seat.peer.role.take_longest_pause(now).filter(|_| count) {
                self.context.gaps.record(pause.as_micros() as u64);
            }
        }
    }

    fn begin_window(&mut self) {
        for (_, seat) in &mut self.seats {
            seat.peer.begin_window();
        }
        self.departed = Received::default();
        self.context.latency = Histogram::default();
        self.context.gaps = Histogram::default();
        self.window_began = Instant::now();
        self.waited = Duration::ZERO;
        self.cpu_before = thread_cpu();
    }

    fn collect(&mut self) -> Collected {
        let mut collected = Collected { received: self.departed, ..Collected::default() };
        for (_, seat) in &self.seats {
            if let Some(window) = seat.peer.role.received() {
                if let Id::Viewer(viewer) = seat.peer.id {
                    let worst = Worst { viewer, received: window };
                    collected.worst = Worst::of(collected.worst, Some(worst));
                }
                collected.received += window;
            }
            if let Some(sent) = seat.peer.role.sent() {
                collected.sent += sent;
            }
            collected.ports.push(seat.peer.port());
            collected.send_errors += seat.peer.send_errors();
        }
        collected.cpu = thread_cpu().saturating_sub(self.cpu_before);
        collected.latency = self.context.latency.clone();
        collected.gaps = self.context.gaps.clone();
        let elapsed = self.window_began.elapsed().as_secs_f64();
        collected.busy = (1.0 - self.waited.as_secs_f64() / elapsed).clamp(0.0, 1.0);
        collected
    }

    fn stop(&mut self) {
        for (_, seat) in &mut self.seats {
            seat.peer.close(&mut self.context);
        }
        let keys: Vec<usize> = self.seats.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.remove(key);
        }
    }
}
