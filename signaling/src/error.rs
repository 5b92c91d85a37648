//! Why the program could not start: each variant says what is wrong and how to mend it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A start that failed; the exit code is 1.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is its message")]
pub enum StartError {
    #[error("cannot write to the state directory {}: {cause}. Give this user the right to, or choose another with --state-dir", path.display())]
    StateDir { path: PathBuf, cause: io::Error },
    #[error("cannot read the API token from {}: {cause}. Correct --api-token-file, or the file's permissions", path.display())]
    TokenFile { path: PathBuf, cause: io::Error },
    #[error("the API token in {} is {problem}. Put one line of 16 or more visible ASCII characters there", path.display())]
    TokenText { path: PathBuf, problem: &'static str },
    #[error("the API token is {0}. Use 16 or more visible ASCII characters")]
    TokenValue(&'static str),
    #[error("{address} is taken by another process. Stop that one, or choose another port with {key}")]
    PortTaken { address: SocketAddr, key: &'static str },
    #[error("{address} is not an address of this host. Correct {key}; `ip address` lists them")]
    NoSuchAddress { address: SocketAddr, key: &'static str },
    #[error(
        "this user may not listen on {address}. Choose a port above 1023 with {key}, or grant CAP_NET_BIND_SERVICE"
    )]
    PortForbidden { address: SocketAddr, key: &'static str },
    #[error("cannot listen on {address}: {cause}. Correct {key}")]
    Listen { address: SocketAddr, key: &'static str, cause: io::Error },
    #[error("cannot read {}: {cause}. Correct {key}, or the file's permissions", path.display())]
    PemUnreadable { path: PathBuf, key: &'static str, cause: io::Error },
    #[error("{} holds no {wanted} in PEM form. Correct {key}", path.display())]
    PemEmpty { path: PathBuf, key: &'static str, wanted: &'static str },
    #[error("certificate and key do not work together: {0}. Check that --tls-key belongs to --tls-cert")]
    Certificate(#[source] tokio_rustls::rustls::Error),
    #[error("cannot make a certificate: {0}. Use --tls-cert and --tls-key instead of --tls-self-signed")]
    SelfSigned(#[source] rcgen::Error),
    #[error("cannot start the media process {}: {cause}. The program's file must be in place and executable", path.display())]
    MediaSpawn { path: PathBuf, cause: io::Error },
    #[error("the media process ended at start with {0}. Its own words above say why")]
    MediaEnded(std::process::ExitStatus),
    #[error("the media process did not open {} within {seconds} s. Remove a stale socket there, or choose another with --control", path.display())]
    MediaSilent { path: PathBuf, seconds: u64 },
    #[error("cannot connect to the media process at {}: {cause}. Run both halves as the same user, or correct --control", path.display())]
    MediaUnreachable { path: PathBuf, cause: io::Error },
    #[error("another signaling process already steers the media process at {}. Stop that one, or give this one a --state-dir or --control of its own", control.display())]
    SignalingRuns { control: PathBuf },
    #[error("cannot lock {}: {cause}. Give this user the right to write there, or choose another path with --control", path.display())]
    Lock { path: PathBuf, cause: io::Error },
    #[error("a media process of version {0} runs and does not stop. End it, then start again")]
    MediaStuck(u32),
    #[error("media: {0}")]
    Media(String),
    #[error(transparent)]
    Engine(#[from] sfu::error::StartError),
    #[error("cannot find this host's addresses: {0}. Name them with --bind")]
    Interfaces(#[source] io::Error),
    #[error("cannot start the runtime: {0}. Check the limits on open files and threads (ulimit -a)")]
    Runtime(#[source] io::Error),
    #[error("the kernel gave no random bytes. /dev/urandom must be readable")]
    Random,
    #[error("{0} of the checks failed; each says above how to mend it")]
    Check(usize),
}

impl StartError {
    /// Sorts a failed bind of `key`'s listener by its cure.
    pub fn listen(address: SocketAddr, key: &'static str, cause: io::Error) -> StartError {
        match cause.kind() {
            io::ErrorKind::AddrInUse => StartError::PortTaken { address, key },
            io::ErrorKind::AddrNotAvailable => StartError::NoSuchAddress { address, key },
            io::ErrorKind::PermissionDenied => StartError::PortForbidden { address, key },
            _ => StartError::Listen { address, key, cause },
        }
    }
}
