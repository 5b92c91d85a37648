//! One WebRTC peer: a UDP port, a str0m session and what it plays, driven by readiness and time.

use std::net::SocketAddr;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use str0m::net::{self, Receive};
use str0m::{Event, IceConnectionState, Input, Output, Rtc};

use crate::clock::WallClock;
use crate::failure::Failure;
use crate::histogram::Histogram;
use crate::impair::{Impairments, Link};
use crate::inbox::{Inbox, enable_gro};
use crate::joining::{Id, Joining, Outcome};
use crate::negotiation::Connecting;
use crate::role::Role;

/// What peers share on their thread.
pub struct Context {
    pub clock: WallClock,
    pub outcomes: Sender<Outcome>,
    /// Whole-frame latency of all viewers here, microseconds.
    pub latency: Histogram,
    /// Longest pauses of the picture, one per viewer and swap of publishers, microseconds.
    pub gaps: Histogram,
}

impl Context {
    /// Nothing counted.
    pub fn new(clock: WallClock, outcomes: Sender<Outcome>) -> Context {
        Context { clock, outcomes, latency: Histogram::default(), gaps: Histogram::default() }
    }
}

/// One peer.
pub struct Peer {
    pub id: Id,
    /// To be DELETEd in the end, and the token for that.
    pub session: Option<(String, Option<String>)>,
    rtc: Rtc,
    /// For registration with the poll.
    pub socket: UdpSocket,
    local: SocketAddr,
    pub role: Role,
    /// When the session wants to be woken.
    rtc_wake: Instant,
    joining: Joining,
    send_errors: u64,
    /// Whether trains are received whole.
    gro: bool,
    /// The network between the socket and the session, if it is to be bad.
    inbound: Option<Box<Link>>,
    outbound: Option<Box<Link>>,
}

impl Peer {
    /// `started` is when the POST was sent; without success by `give_up` the join has failed.
    pub fn new(id: Id, connecting: Connecting, role: Role, started: Instant, give_up: Instant) -> Peer {
        let now = Instant::now();
        Peer {
            id,
            session: None,
            rtc: connecting.rtc,
            socket: UdpSocket::from_std(connecting.socket.into()),
            local: connecting.local,
            role,
            rtc_wake: now,
            joining: Joining::new(id, now, started, give_up),
            send_errors: 0,
            gro: false,
            inbound: None,
            outbound: None,
        }
    }

    /// Receives trains whole from now on, where the kernel can.
    pub fn receive_trains(&mut self) {
        self.gro = enable_gro(&self.socket);
    }

    /// What comes in goes through a bad network from now on.
    pub fn impair_inbound(&mut self, impairments: Impairments, seed: u64) {
        self.inbound = Some(Box::new(Link::new(impairments, seed)));
    }

    /// What goes out does.
    pub fn impair_outbound(&mut self, impairments: Impairments, seed: u64) {
        self.outbound = Some(Box::new(Link::new(impairments, seed)));
    }

    /// Local UDP port.
    pub fn port(&self) -> u16 {
        self.local.port()
    }

    /// Whether nothing more will come of it.
    pub fn has_ended(&self) -> bool {
        self.joining.has_ended()
    }

    /// Starts a new measured window.
    pub fn begin_window(&mut self) {
        self.send_errors = 0;
        self.role.begin_window();
    }

    /// Takes all datagrams that are there.
    pub fn receive(&mut self, inbox: &mut Inbox, context: &mut Context) {
        while let Ok(more) = inbox.read(&self.socket, self.gro) {
            let now = Instant::now();
            for (source, datagram) in inbox.datagrams() {
                let passes = self.inbound.as_mut().is_none_or(|link| link.take(datagram, source, now));
                if passes {
                    self.arrive(source, datagram, now, context);
                }
            }
            if !more {
                break;
            }
        }
        self.check_viewer_joined(context);
    }

    fn arrive(&mut self, source: SocketAddr, datagram: &mut [u8], now: Instant, context: &mut Context) {
        if let Role::Light(viewer) = &mut self.role
            && viewer.take(datagram, source, now, context)
        {
            return;
        }
        // What is no STUN, DTLS, RTP or RTCP is not for us.
        if let Ok(datagram) = Receive::new(net::Protocol::Udp, source, self.local, datagram) {
            self.input(Input::Receive(now, datagram), now, context);
        }
    }

    /// Does what is due.
    pub fn wake(&mut self, now: Instant, context: &mut Context) {
        while let Some((source, mut datagram)) = self.inbound.as_mut().and_then(|link| link.release(now)) {
            self.arrive(source, &mut datagram, now, context);
        }
        while let Some((to, datagram)) = self.outbound.as_mut().and_then(|link| link.release(now)) {
            self.send_now(&datagram, to);
        }
        self.input(Input::Timeout(now), now, context);
        if let Role::Light(viewer) = &mut self.role
            && let Some((report, to)) = viewer.report(now)
        {
            self.send(&report, to, now);
        }
        self.check_viewer_joined(context);
        self.check_join(now, context);
    }

    /// When to be woken next.
    pub fn next_wake(&self) -> Instant {
        let links =
            [&self.inbound, &self.outbound].map(|link| link.as_ref().and_then(|link| link.next_due()));
        [Some(self.rtc_wake), self.role.next_wake(), self.joining.give_up(), links[0], links[1]]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.rtc_wake)
    }

    /// Says goodbye to the server: DTLS close_notify.
    pub fn close(&mut self, context: &mut Context) {
        // An error here means that there is nothing left to close.
        let _ = self.rtc.close();
        self.drain(Instant::now(), context);
        self.joining.leave();
    }

    /// One mutation, then drain: str0m's rule, kept here for every role.
    fn input(&mut self, input: Input<'_>, now: Instant, context: &mut Context) {
        // An error is one bad datagram or alert; whether the session lives is told by is_alive().
        let _ = self.rtc.handle_input(input);
        self.drain(now, context);
        while self.joining.is_connected() && self.role.act(&mut self.rtc, now) {
            let _ = self.rtc.handle_input(Input::Timeout(now));
            self.drain(now, context);
        }
        if !self.rtc.is_alive() {
            self.end(Failure::Closed, context);
        }
    }

    fn drain(&mut self, now: Instant, context: &mut Context) {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.rtc_wake = at;
                    return;
                }
                Ok(Output::Transmit(datagram)) => self.send(&datagram.contents, datagram.destination, now),
                Ok(Output::Event(event)) => self.event(event, now, context),
                Err(_) => {
                    self.rtc_wake = now + Duration::from_secs(1);
                    return;
                }
            }
        }
    }

    fn send(&mut self, datagram: &[u8], to: SocketAddr, now: Instant) {
        if self.outbound.as_mut().is_none_or(|link| link.take(datagram, to, now)) {
            self.send_now(datagram, to);
        }
    }

    fn send_now(&mut self, datagram: &[u8], to: SocketAddr) {
        // A full send buffer or an unreachable candidate loses this datagram, as a network would.
        if self.socket.send_to(datagram, to).is_err() {
            self.send_errors += 1;
        }
    }

    /// Datagrams that the kernel did not take, since the start of the window.
    pub fn send_errors(&self) -> u64 {
        self.send_errors
    }

    fn event(&mut self, event: Event, now: Instant, context: &mut Context) {
        match &event {
            Event::Connected => self.connected(now, context),
            Event::IceConnectionStateChange(
                IceConnectionState::Connected | IceConnectionState::Completed,
            ) => {
                self.joining.ice_done();
            }
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) | Event::Closed => {
                self.end(Failure::Closed, context);
            }
            _ => {}
        }
        match &mut self.role {
            Role::Publisher(publisher) => publisher.on_event(&event, now),
            Role::Viewer(viewer) => viewer.on_event(event, now, context),
            Role::Light(_) => {}
        }
        self.check_viewer_joined(context);
    }

    fn connected(&mut self, now: Instant, context: &Context) {
        self.joining.connected(now);
        match &mut self.role {
            Role::Publisher(publisher) => {
                publisher.start(now);
                report(context, self.joining.succeed(None, None));
            }
            Role::Light(viewer) => {
                if let Err(failure) = viewer.connected() {
                    self.end(failure, context);
                }
            }
            Role::Viewer(_) => {}
        }
    }

    fn check_viewer_joined(&mut self, context: &Context) {
        if !self.joining.has_joined() && self.role.has_joined() {
            let (rtp, key_frame) = self.role.firsts();
            report(context, self.joining.succeed(rtp, key_frame));
        }
    }

    fn check_join(&mut self, now: Instant, context: &Context) {
        if let Some(failure) = self.joining.overdue(now, self.role.firsts().0.is_some()) {
            self.end(failure, context);
        }
    }

    fn end(&mut self, failure: Failure, context: &Context) {
        if let Some(outcome) = self.joining.end(failure) {
            report(context, outcome);
        }
    }
}

fn report(context: &Context, outcome: Outcome) {
    // The receiver outlives all engines; if it is gone the program is ending.
    let _ = context.outcomes.send(outcome);
}
