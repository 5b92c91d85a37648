//! A publisher and a viewer, to whom things happen while a picture runs.

#![allow(dead_code, reason = "each test binary uses its part")]

use crate::plans::plan_h264;
use crate::world::{ClientIndex, World};
use sfu::control::protocol::IceCredentials;
use sfu::core::demux::DatagramKind;
use sfu::core::plan::{Epoch, Role};
use sfu::stats::DropReason;
use std::net::SocketAddr;
use std::time::Duration;

/// The beginning of a key frame.
pub const IDR: &[u8] = &[0x65, 0x88, 0x84, 0x00];
/// That of any other.
pub const SLICE: &[u8] = &[0x41, 0x9a, 0x24, 0x00];
/// Between two frames.
pub const FRAME: Duration = Duration::from_millis(30);

/// A publisher, a viewer, and the frames that went from one to the other.
pub struct Show {
    pub world: World,
    pub publisher: ClientIndex,
    pub viewer: ClientIndex,
    pub frames: u64,
}

impl Show {
    /// The publisher has sent a second of frames, and the viewer has them.
    pub fn start() -> Show {
        let mut world = World::new(1);
        let publisher = world.join(0, plan_h264(Role::Publisher, Epoch(1)));
        let viewer = world.join(0, plan_h264(Role::Viewer, Epoch(0)));
        Show::of(world, publisher, viewer)
    }

    /// The same of clients that join just now.
    pub fn of(mut world: World, publisher: ClientIndex, viewer: ClientIndex) -> Show {
        world.run(Duration::from_secs(1));
        let mut show = Show { world, publisher, viewer, frames: 0 };
        show.play(30);
        show.world.client(publisher).take_keyframe_requests();
        show
    }

    /// So many frames are published.
    pub fn play(&mut self, frames: u64) {
        for _ in 0..frames {
            let payload = if self.frames == 0 { IDR } else { SLICE };
            self.world.client(self.publisher).send_video(self.frames, payload);
            self.frames += 1;
            self.world.run(FRAME);
        }
    }

    /// Plays with every tenth packet lost on both ways.
    pub fn play_with_loss(&mut self, frames: u64) {
        for frame in 0..frames {
            self.world.lose_next_from(self.publisher, frame % 10 == 3);
            self.world.lose_next_to(self.viewer, frame % 10 == 7);
            self.play(1);
        }
        self.world.lose_next_from(self.publisher, false);
        self.world.lose_next_to(self.viewer, false);
    }

    /// A restart as WHIP and WHEP do it: the client's new credentials to the server, the server's to the client.
    pub fn restart(&mut self, client: ClientIndex) -> IceCredentials {
        let local = fresh_credentials(self.frames);
        let remote = self.world.restart(client, &local).unwrap();
        self.world.client(client).restart_ice(&local, &remote);
        remote
    }

    /// Every frame arrived once, decrypted, and nobody had to start anew.
    pub fn assert_unbroken(&mut self) {
        self.play(10);
        self.world.run(Duration::from_secs(1));
        let mut sequences: Vec<u64> =
            self.world.client(self.viewer).received().iter().map(|packet| *packet.seq_no).collect();
        sequences.sort_unstable();
        sequences.dedup();
        assert_eq!(sequences.len() as u64, self.frames, "every frame arrived");
        assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1));
        assert_eq!(self.world.client(self.publisher).take_keyframe_requests(), 0, "no key frame was needed");
        assert_eq!(self.world.end_of(self.viewer), None);
        assert_eq!(self.world.end_of(self.publisher), None);
    }

    /// The old password opens nothing any more.
    pub fn assert_retired(&mut self, client: ClientIndex) {
        let check = self.world.good_check(client, true);
        let before = self.world.dropped(0, DropReason::UnknownUfrag);
        self.world.inject_as(client, &check);
        assert_eq!(self.world.dropped(0, DropReason::UnknownUfrag), before + 1);
    }
}

/// What a client chooses for an ICE restart.
pub fn fresh_credentials(number: u64) -> IceCredentials {
    IceCredentials { ufrag: format!("fresh{number}"), pwd: format!("{number:022}") }
}

/// An address of nobody.
pub fn elsewhere(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 9, 9], port))
}

/// Whether it is DTLS.
pub fn is_dtls(datagram: &[u8]) -> bool {
    DatagramKind::of(datagram) == Some(DatagramKind::Dtls)
}

/// Whether it is RTP.
pub fn is_media(datagram: &[u8]) -> bool {
    DatagramKind::of(datagram) == Some(DatagramKind::Rtp)
}
