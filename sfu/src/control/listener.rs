//! The control socket: who may connect, and how requests and events cross it.

use super::frame::{self, Decoder};
use super::protocol::{Event, Request};
use crate::error::StartError;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, umask};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_uring::net::UnixStream;

/// Frames that may wait for signaling. One that does not read for so long is cut off and learns everything anew.
const FRAMES_MAX: usize = 65_536;
/// Requests that may wait for the control thread before reading pauses.
const REQUESTS_MAX: usize = 1_024;
const READ_BYTES: usize = 64 * 1024;

/// Tells connections apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionId(pub u64);

/// What comes from signaling.
#[derive(Debug)]
pub enum FromSignaling {
    /// A signaling process connected; events go into the connection.
    Opened(Connection),
    /// It asks for something.
    Request(ConnectionId, Request),
    /// It is gone.
    Closed(ConnectionId),
}

/// The sending half of a connection.
#[derive(Debug)]
pub struct Connection {
    /// Its id.
    pub id: ConnectionId,
    frames: mpsc::Sender<Vec<u8>>,
}

impl Connection {
    /// Queues an event; false if signaling does not read and must be cut off.
    pub fn send(&self, event: &Event) -> bool {
        match frame::encode(event) {
            Ok(frame) => self.frames.try_send(frame).is_ok(),
            Err(error) => {
                tracing::error!("an event for signaling is lost: {error}");
                true
            }
        }
    }
}

/// The control socket, and the lock that says that it is ours for as long as this lives.
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    _lock: Flock<File>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A socket that stays behind is replaced at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Opens the socket with mode 0600, in place of a dead one.
pub fn bind(path: &Path) -> Result<Listener, StartError> {
    let failed = |source: io::Error| StartError::Control { path: path.into(), source };
    // Whether a socket is alive cannot be asked by connecting: that would take the place of signaling.
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(lock_path);
    let lock = Flock::lock(file.map_err(failed)?, FlockArg::LockExclusiveNonblock)
        .map_err(|_| StartError::ControlInUse { path: path.into() })?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // Between bind and a chmod a stranger could connect; the mask leaves no gap. No other thread makes files yet.
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    Ok(Listener { socket: bound.map_err(failed)?, path: path.into(), _lock: lock })
}

/// Accepts connections for ever.
pub async fn accept(listener: Listener, to_control: mpsc::Sender<FromSignaling>) {
    for id in 0.. {
        match listener.socket.accept().await {
            Ok((stream, _)) if is_ours(&stream) => match blocking(stream) {
                Ok(stream) => {
                    tokio_uring::spawn(serve(ConnectionId(id), stream, to_control.clone()));
                }
                Err(error) => tracing::error!("a control connection cannot be used: {error}"),
            },
            Ok(_) => tracing::warn!("a process of another user was refused on the control socket"),
            Err(error) => {
                tracing::error!("the control socket cannot accept ({error}); trying again in a second");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}

/// Whether the peer runs as our user or as root.
fn is_ours(stream: &tokio::net::UnixStream) -> bool {
    let ours = nix::unistd::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == ours || peer.uid() == 0)
}

/// Hands a stream to io_uring, which answers EAGAIN at once for a non-blocking one.
fn blocking(stream: tokio::net::UnixStream) -> io::Result<UnixStream> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(UnixStream::from_std(stream))
}

async fn serve(id: ConnectionId, stream: UnixStream, to_control: mpsc::Sender<FromSignaling>) {
    let stream = Rc::new(stream);
    let (frames, queue) = mpsc::channel(FRAMES_MAX);
    if to_control.send(FromSignaling::Opened(Connection { id, frames })).await.is_err() {
        return;
    }
    tokio_uring::spawn(write(Rc::clone(&stream), queue));
    if let Err(error) = read(id, &stream, &to_control).await {
        tracing::warn!("signaling is cut off: {error}");
    }
    let _ = to_control.send(FromSignaling::Closed(id)).await;
}

async fn read(
    id: ConnectionId,
    stream: &UnixStream,
    to_control: &mpsc::Sender<FromSignaling>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let (result, returned) = stream.read(buffer).await;
        buffer = returned;
        let bytes = result?;
        if bytes == 0 {
            return Ok(());
        }
        decoder.push(&buffer[..bytes]);
        while let Some(request) = decoder.next_message()? {
            to_control.send(FromSignaling::Request(id, request)).await?;
        }
    }
}

async fn write(stream: Rc<UnixStream>, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = queue.recv().await {
        if stream.write_all(frame).await.0.is_err() {
            break;
        }
    }
    // The control thread let go of the connection, or it broke: wake the reader.
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

/// The channel on which connections report.
pub fn channel() -> (mpsc::Sender<FromSignaling>, mpsc::Receiver<FromSignaling>) {
    mpsc::channel(REQUESTS_MAX)
}
