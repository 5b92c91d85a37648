//! What signaling and media say to each other over the control socket.
//!
//! Frames: a little-endian `u32` length, then that many bytes of postcard. Signaling sends [`Request`], media sends
//! [`Event`]. Media greets first with [`Event::Hello`]. One signaling process is connected at a time: a new
//! connection replaces the old one.

use crate::core::codec::Codec;
use crate::core::plan::{PlanError, SessionPlan, StreamId};
use crate::stats::WorkerSnapshot;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;

/// Changes whenever a message changes its shape. Signaling drains a media process of another version.
pub const PROTOCOL_VERSION: u32 = 4;
/// Longest frame in bytes: a hello with [`crate::config::PROCESS_SESSIONS_MAX`] sessions of some 1 kB stays below.
pub const FRAME_BYTES_MAX: usize = 256 << 20;

/// A worker's number, which is also its port's offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkerIndex(pub u16);

/// A session in the media process. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionId {
    /// The worker that owns it.
    pub worker: WorkerIndex,
    /// Its slot there.
    pub slot: u32,
    /// Tells apart the sessions that used the slot.
    pub generation: u32,
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.worker.0, self.slot, self.generation)
    }
}

/// Pairs a [`Request::Create`] with its [`Event::Created`], a [`Request::RestartIce`] with its [`Event::IceRestarted`]; chosen by
/// signaling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// ICE credentials of one side (RFC 8839 §5.4).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceCredentials {
    /// User name fragment, 4–256 ice-chars.
    pub ufrag: String,
    /// Password, 22–256 ice-chars. Kept out of logs.
    pub pwd: String,
}

impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceCredentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// An ICE session that a restart has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartedIce {
    /// Our new credentials, which answer STUN from now on, as the old ones do until the client nominates a pair with the new ones.
    pub local: IceCredentials,
    /// The client is reached over TCP until then.
    pub over_tcp: bool,
}

/// From signaling to media.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Build a session. Answered by [`Event::Created`].
    Create {
        /// Comes back in the answer.
        request: RequestId,
        /// Where.
        worker: WorkerIndex,
        /// What.
        plan: SessionPlan,
    },
    /// End a session. Answered by [`Event::Ended`] if it lived.
    Delete {
        /// Which.
        session: SessionId,
    },
    /// Restart ICE (RFC 8445 §9): the client has new credentials, and gets new ones of ours. Answered by [`Event::IceRestarted`].
    RestartIce {
        /// Comes back in the answer.
        request: RequestId,
        /// Which.
        session: SessionId,
        /// The client's new credentials.
        remote: IceCredentials,
        /// Takes the place of the plan's blob once the restart is accepted.
        blob: Vec<u8>,
    },
    /// A viewer wishes for a simulcast layer. Unanswered; holds until the next wish.
    SelectLayer {
        /// The viewer's session.
        session: SessionId,
        /// What it wants.
        choice: LayerChoice,
    },
    /// Answered by [`Event::Stats`].
    Stats,
    /// End every session with a DTLS close_notify, then exit.
    Shutdown,
}

/// Which layer of a simulcast publisher a viewer wants; without constraints the best there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerChoice {
    /// This one, and while it is not sent the next lower one. The other constraints do not count then, and a name that the
    /// publisher does not have is none.
    pub rid: Option<String>,
    /// The best that is not wider, in pixels; the lowest if all are.
    pub max_width: Option<u16>,
    /// The best that is not higher, in pixels; the lowest if all are.
    pub max_height: Option<u16>,
}

/// A simulcast layer that is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its name in the publisher's offer (RFC 8851).
    pub rid: String,
    /// Bits of RTP payload a second; 0 = not known.
    pub bitrate_bps: u32,
    /// Pixels; 0 = not known.
    pub width: u16,
    /// Pixels; 0 = not known.
    pub height: u16,
}

/// From media to signaling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The first message on a connection.
    Hello(Hello),
    /// The answer to [`Request::Create`].
    Created {
        /// As asked.
        request: RequestId,
        /// The session is in place and answers STUN, or why not.
        result: Result<Created, CreateError>,
    },
    /// The answer to [`Request::RestartIce`].
    IceRestarted {
        /// As asked.
        request: RequestId,
        /// The new ICE session, or why the session goes on as it was.
        result: Result<RestartedIce, RestartError>,
    },
    /// ICE and DTLS are up.
    Connected {
        /// Which session.
        session: SessionId,
    },
    /// A publisher started to send this codec, or changed to it.
    Track {
        /// The publisher's session.
        session: SessionId,
        /// Its stream.
        stream: StreamId,
        /// What arrives.
        codec: Codec,
    },
    /// A publisher's packets stopped (`silent`) for [`PUBLISHER_SILENT_SECONDS`] or started again.
    Silence {
        /// The publisher's session.
        session: SessionId,
        /// Whether nothing arrives.
        silent: bool,
    },
    /// A simulcast publisher's layers have appeared, vanished or changed; at most once a second.
    Layers {
        /// The publisher's session.
        session: SessionId,
        /// Those that are sent, in the offer's order.
        layers: Vec<Layer>,
    },
    /// A session is gone.
    Ended {
        /// Which session.
        session: SessionId,
        /// Why.
        reason: EndReason,
    },
    /// The answer to [`Request::Stats`], one for all requests that wait: a snapshot per worker, by index. That of a worker
    /// which is down is all zero. While a worker hangs there is none.
    Stats(Vec<WorkerSnapshot>),
    /// How busy each worker is, by index; unasked, every [`LOAD_INTERVAL_MS`] while signaling is connected. That it comes is
    /// also the sign that media lives.
    Load(Vec<WorkerLoad>),
}

/// Milliseconds between two [`Event::Load`]. Half a second holds 15 frames of a 30/s stream, enough for a mean, and a storm of
/// joins is seen before it is over.
pub const LOAD_INTERVAL_MS: u64 = 500;

/// What signaling places sessions by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerLoad {
    /// It runs and answers. The other fields of one that does not are 0.
    pub up: bool,
    /// Share of the time since the last report that it spent outside its wait, 0–1.
    pub busy_ratio: f64,
    /// Sessions on it, publishers and viewers.
    pub sessions: u64,
}

/// A publisher that sends nothing for so long is no longer live, and its name may be published again.
pub const PUBLISHER_SILENT_SECONDS: u64 = 3;

/// Media introduces itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the media process. First, so that every version can read it.
    pub protocol: u32,
    /// [`crate::config::MediaConfig::config_hash`].
    pub config_hash: u64,
    /// SHA-256 of the DTLS certificate that all sessions share.
    pub fingerprint: [u8; 32],
    /// The workers by index.
    pub workers: Vec<WorkerInfo>,
    /// Every live session.
    pub sessions: Vec<SessionInfo>,
}

/// Where a worker runs and listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// The core it is pinned to.
    pub core: usize,
    /// Its UDP sockets' bound addresses.
    pub addresses: Vec<SocketAddr>,
    /// Where clients connect to over TCP (RFC 6544), the same for all workers; empty if nowhere.
    pub tcp_addresses: Vec<SocketAddr>,
}

/// A live session, as a new signaling process must know it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Its id.
    pub session: SessionId,
    /// The plan it was made from, blob included.
    pub plan: SessionPlan,
    /// ICE and DTLS are up.
    pub connected: bool,
    /// Publisher: nothing has arrived for [`PUBLISHER_SILENT_SECONDS`].
    pub silent: bool,
    /// Publisher: the codecs that arrive.
    pub codecs: Vec<Codec>,
    /// Simulcast publisher: the layers that are sent.
    pub layers: Vec<Layer>,
}

/// What the SDP answer needs from media.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// The new session.
    pub session: SessionId,
    /// Our ICE user name fragment; it names worker and slot.
    pub ice_ufrag: String,
    /// Our ICE password.
    pub ice_pwd: String,
}

/// Why a session was not created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each variant is its message")]
pub enum CreateError {
    #[error("the session plan is inconsistent: {0}")]
    Plan(PlanError),
    #[error("there is no such worker")]
    NoWorker,
    #[error("the worker has no free session slot")]
    Full,
    #[error("the ICE credentials chosen for us name another worker, or are in use")]
    Credentials,
    #[error("the WebRTC engine refused the session plan")]
    Refused,
    #[error("media is shutting down")]
    ShuttingDown,
}

/// Why ICE was not restarted. The session goes on with the credentials that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each variant is its message")]
pub enum RestartError {
    #[error("there is no such session")]
    NoSession,
    #[error("a restart needs a new ufrag of 4 to 256 ice-chars and a new password of 22 to 256")]
    BadCredentials,
    #[error("the session has not been connected yet; restart it after that, or make a new one")]
    NotConnected,
    #[error("another restart of the session is being answered; try again after it")]
    InProgress,
    #[error("the blob is larger than 4096 bytes")]
    BlobSize,
}

/// Why a session ended: the closed set of values of its metric's `reason` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EndReason {
    /// Signaling asked.
    Deleted,
    /// The client closed DTLS.
    ClosedByPeer,
    /// No ICE and DTLS within the time allowed.
    ConnectTimeout,
    /// No authenticated packet for 30 s (RFC 7675).
    ConsentExpired,
    /// The published codec is one that this viewer did not offer.
    CodecMismatch,
    /// The DTLS certificate does not match the fingerprint, or DTLS failed.
    DtlsFailed,
    /// Media shuts down.
    Shutdown,
    /// The engine failed an assertion of its own in this session.
    Fault,
    /// The session's worker failed and was restarted.
    WorkerFault,
}

impl EndReason {
    /// The label value.
    pub fn label(self) -> &'static str {
        match self {
            EndReason::Deleted => "deleted",
            EndReason::ClosedByPeer => "closed_by_peer",
            EndReason::ConnectTimeout => "connect_timeout",
            EndReason::ConsentExpired => "consent_expired",
            EndReason::CodecMismatch => "codec_mismatch",
            EndReason::DtlsFailed => "dtls_failed",
            EndReason::Shutdown => "shutdown",
            EndReason::Fault => "fault",
            EndReason::WorkerFault => "worker_fault",
        }
    }
}
