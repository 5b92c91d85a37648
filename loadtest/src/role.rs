//! What a peer plays, asked the same questions whichever it is.

use std::time::{Duration, Instant};

use str0m::Rtc;

use crate::light::viewer::LightViewer;
use crate::publisher::{Publisher, Sent};
use crate::received::Received;
use crate::viewer::Viewer;

/// What a peer plays.
pub enum Role {
    Publisher(Publisher),
    Viewer(Box<Viewer>),
    Light(Box<LightViewer>),
}

impl Role {
    /// What it received in the window, if it is a viewer.
    pub fn received(&self) -> Option<Received> {
        match self {
            Role::Viewer(viewer) => Some(viewer.window(Instant::now())),
            Role::Light(viewer) => Some(viewer.window(Instant::now())),
            Role::Publisher(_) => None,
        }
    }

    /// What it sent in the window, if it is a publisher.
    pub fn sent(&self) -> Option<Sent> {
        match self {
            Role::Publisher(publisher) => Some(publisher.window()),
            Role::Viewer(_) | Role::Light(_) => None,
        }
    }

    /// The longest pause of the picture since this was last asked, if it is a viewer that has one.
    pub fn take_longest_pause(&mut self, now: Instant) -> Option<Duration> {
        match self {
            Role::Publisher(_) => None,
            Role::Viewer(viewer) => viewer.take_longest_pause(now),
            Role::Light(viewer) => viewer.take_longest_pause(now),
        }
    }

    /// Starts a new measured window.
    pub fn begin_window(&mut self) {
        match self {
            Role::Publisher(publisher) => publisher.begin_window(),
            Role::Viewer(viewer) => viewer.begin_window(),
            Role::Light(viewer) => viewer.begin_window(),
        }
    }

    /// When there is something to do.
    pub fn next_wake(&self) -> Option<Instant> {
        match self {
            Role::Publisher(publisher) => publisher.next_wake(),
            Role::Viewer(viewer) => viewer.next_wake(),
            Role::Light(viewer) => viewer.next_wake(),
        }
    }

    /// Does one thing that is due; says whether it did.
    pub fn act(&mut self, rtc: &mut Rtc, now: Instant) -> bool {
        match self {
            Role::Publisher(publisher) => publisher.act(rtc, now),
            Role::Viewer(viewer) => viewer.act(rtc, now),
            Role::Light(_) => false,
        }
    }

    /// Whether a viewer has all that it joined for.
    pub fn has_joined(&self) -> bool {
        match self {
            Role::Viewer(viewer) => viewer.has_joined(),
            Role::Light(viewer) => viewer.has_joined(),
            Role::Publisher(_) => false,
        }
    }

    /// When a viewer's first RTP packet and its first whole key frame came.
    pub fn firsts(&self) -> (Option<Instant>, Option<Instant>) {
        match self {
            Role::Viewer(viewer) => (viewer.first_rtp(), viewer.first_key_frame()),
            Role::Light(viewer) => (viewer.first_rtp(), viewer.first_key_frame()),
            Role::Publisher(_) => (None, None),
        }
    }
}
