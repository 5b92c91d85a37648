//! Why a benchmark could not be run.

use sfu::driver::DriverError;
use sfu::error::StartError;
use std::io;

/// Ends the run: half a table would compare what was not measured together.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused something.
    #[error(
        "the kernel refused a step of the benchmark ({0}): try --quick, a higher `ulimit -n`, or run it as root"
    )]
    Io(#[from] io::Error),
    /// A ring, a socket or the limits of the process.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The server's own ring.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// Certificates or keys.
    #[error("the crypto library refused ({0}): check that aws-lc-rs works on this CPU")]
    Crypto(String),
    /// A viewer did not get through ICE and DTLS in memory.
    #[error(
        "viewer {viewer} did not connect in memory ({why}): the code under test is broken, run `cargo test -p sfu`"
    )]
    Join {
        /// Which.
        viewer: usize,
        /// The step that failed.
        why: String,
    },
    /// A connected `Rtc` refused to send.
    #[error("str0m refused to send ({0}): the figure would be of something else, check its version")]
    Str0m(String),
    /// Valgrind is missing or could not run this program.
    #[error("valgrind counts the instructions and did not ({0}): install valgrind, 3.19 or later")]
    Valgrind(String),
    /// The egress did not send what it should have: a figure would be of something else.
    #[error("{case} sent {sent} packets instead of {expected} of full size: run `cargo test -p sfu`")]
    Missing {
        /// The egress.
        case: &'static str,
        /// Packets sent.
        sent: u64,
        /// Packets asked for.
        expected: u64,
    },
    /// The report could not be written.
    #[error("{path} cannot be written ({source}): name a file in a directory that exists and is yours")]
    Report {
        /// The file.
        path: String,
        /// The reason.
        source: io::Error,
    },
}

impl From<nix::Error> for Error {
    fn from(errno: nix::Error) -> Error {
        Error::Io(errno.into())
    }
}
