//! Why a peer did not come to play.

use crate::http::HttpError;

/// Cause of a failed join.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the server's answer cannot be used: {0}")]
    Answer(String),
    #[error("no UDP socket: {0}; raise the limit of open files (ulimit -n)")]
    Socket(String),
    #[error("no ICE connection: the server's candidates do not answer; is its UDP port reachable?")]
    Ice,
    #[error("ICE connected, but the DTLS handshake did not finish")]
    Dtls,
    #[error("the server chose the SRTP profile {0}, which --mode light cannot open; use --mode full")]
    Srtp(String),
    #[error("connected, but no RTP packet came; does the stream have a publisher?")]
    NoRtp,
    #[error(
        "RTP came, but never a whole key frame; does the publisher send one, and the server pass on PLI?"
    )]
    NoKeyFrame,
    #[error("the server closed the connection before the join was done")]
    Closed,
}

impl Failure {
    /// Short, countable name.
    pub fn cause(&self) -> String {
        match self {
            Failure::Http(error) => error.cause(),
            Failure::Answer(_) => "answer".into(),
            Failure::Socket(_) => "socket".into(),
            Failure::Ice => "ice".into(),
            Failure::Dtls => "dtls".into(),
            Failure::Srtp(_) => "srtp".into(),
            Failure::NoRtp => "no_rtp".into(),
            Failure::NoKeyFrame => "no_key_frame".into(),
            Failure::Closed => "closed".into(),
        }
    }
}
