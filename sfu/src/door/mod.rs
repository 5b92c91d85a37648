//! The door: where clients whose UDP is blocked come in over TCP (RFC 6544), one port for all workers.
//!
//! A connection says by its first STUN request which session it wants, and only then is it known which worker has it. Until then
//! it is a stranger's, so it waits here: on a thread of its own, that has nothing else to do and that no packet depends on.
//! With its first whole datagram it goes to the worker, which checks the request's integrity and keeps or closes it. So a
//! worker never accepts, never reads from a stranger, and needs no timers for those who say nothing.

mod waiting;

use self::waiting::{Ticket, Waiting};
use crate::config::TCP_REQUEST_SECONDS;
use crate::control::protocol::WorkerIndex;
use crate::core::demux;
use crate::core::framing::{self, FRAME_BYTES_MAX, LENGTH_BYTES};
use crate::core::stun::{Class, Message};
use crate::driver::{open_listeners, prepare_stream};
use crate::error::StartError;
use crate::mesh::Newcomer;
use crate::stats::StreamEnd;
use crate::worker::Mesh;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, LocalSet, spawn_local};

/// What is waited when the kernel gives no connection: descriptors or memory are short, and asking at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What is read of a connection at most before it must have said something.
const GREETING_BYTES_MAX: usize = LENGTH_BYTES + FRAME_BYTES_MAX;

/// Connections that the door closed, by [`StreamEnd`].
type Refusals = [AtomicU64; StreamEnd::ALL.len()];

/// The open door. Dropping it closes the port and every connection that still waits.
#[derive(Debug)]
pub struct Door {
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    refusals: Arc<Refusals>,
    /// Dropping it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    /// Listens at `port` on each of `addresses`, and hands connections to the workers of `mesh`.
    pub fn open(addresses: &[IpAddr], port: u16, mesh: Arc<Mesh>) -> Result<Door, StartError> {
        let listeners = open_listeners(addresses, port)?;
        let bound = listeners.iter().map(std::net::TcpListener::local_addr).collect::<io::Result<_>>();
        let addresses = bound.map_err(StartError::Thread)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let refusals = Arc::new(Refusals::default());
        let (stop, stopped) = oneshot::channel();
        let counters = Arc::clone(&refusals);
        let serve = move || {
            let reception = Rc::new(Reception { mesh, refusals: counters, waiting: RefCell::default() });
            LocalSet::new().block_on(&runtime, serve(reception, listeners, stopped));
        };
        let thread = thread::Builder::new().name("door".into()).spawn(serve).map_err(StartError::Thread)?;
        Ok(Door { addresses, refusals, stop: Some(stop), thread: Some(thread) })
    }

    /// Connections that it closed so far, by [`StreamEnd`].
    pub fn refused(&self) -> [u64; StreamEnd::ALL.len()] {
        std::array::from_fn(|index| self.refusals[index].load(Ordering::Relaxed))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A door that panicked is closed as well.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn serve(
    reception: Rc<Reception>,
    listeners: Vec<std::net::TcpListener>,
    stopped: oneshot::Receiver<()>,
) {
    for (index, listener) in (0..).zip(listeners) {
        match TcpListener::from_std(listener) {
            Ok(listener) => drop(spawn_local(accept(Rc::clone(&reception), index, listener))),
            Err(error) => {
                tracing::error!(%error, "a TCP listener cannot be served: clients must come over UDP")
            }
        }
    }
    // Its end is that its sender was dropped.
    let _ = stopped.await;
}

async fn accept(reception: Rc<Reception>, index: u16, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => Reception::enter(&reception, index, stream, peer),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// What the tasks of the door share.
struct Reception {
    mesh: Arc<Mesh>,
    refusals: Arc<Refusals>,
    waiting: RefCell<(Waiting, HashMap<Ticket, AbortHandle>)>,
}

impl Reception {
    fn enter(self: &Rc<Self>, listener: u16, stream: TcpStream, peer: SocketAddr) {
        let (waiting, tasks) = &mut *self.waiting.borrow_mut();
        let (ticket, evicted) = waiting.enter(peer.ip());
        if let Some(task) = evicted.and_then(|evicted| tasks.remove(&evicted)) {
            task.abort();
            self.count(StreamEnd::TooMany);
        }
        let reception = Rc::clone(self);
        let task = spawn_local(async move {
            if let Err(why) = reception.greet(listener, stream, peer).await {
                reception.count(why);
            }
            let (waiting, tasks) = &mut *reception.waiting.borrow_mut();
            waiting.leave(ticket);
            tasks.remove(&ticket);
        });
        tasks.insert(ticket, task.abort_handle());
    }

    /// Reads the first request of a connection and passes both on to the worker that it names.
    async fn greet(&self, listener: u16, stream: TcpStream, peer: SocketAddr) -> Result<(), StreamEnd> {
        let patience = Duration::from_secs(TCP_REQUEST_SECONDS);
        let request = tokio::time::timeout(patience, read_request(&stream)).await;
        let (worker, bytes) = request.unwrap_or(Err(StreamEnd::NoRequest))?;
        let worker = usize::from(worker.0);
        let inbox = self.mesh.inboxes.get(worker).ok_or(StreamEnd::NotStun)?;
        prepare_stream(&stream).map_err(|_| StreamEnd::Peer)?;
        let stream = stream.into_std().map_err(|_| StreamEnd::Peer)?;
        let newcomer = Newcomer { listener, stream, peer, bytes };
        inbox.newcomers.push(newcomer).map_err(|_| StreamEnd::TooMany)?;
        self.mesh.wakers[worker].wake();
        Ok(())
    }

    fn count(&self, why: StreamEnd) {
        self.refusals[why as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// The worker that the first datagram names, and all that was read.
async fn read_request(stream: &TcpStream) -> Result<(WorkerIndex, Vec<u8>), StreamEnd> {
    let (mut bytes, mut filled) = (vec![0; GREETING_BYTES_MAX], 0);
    while filled < bytes.len() {
        stream.readable().await.map_err(|_| StreamEnd::NoRequest)?;
        match stream.try_read(&mut bytes[filled..]) {
            Ok(0) => return Err(StreamEnd::NoRequest),
            Ok(more) => filled += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => return Err(StreamEnd::NoRequest),
        }
        if let Some((datagram, _)) = framing::first(&bytes[..filled]).map_err(|_| StreamEnd::NotStun)? {
            let worker = worker_of(datagram).ok_or(StreamEnd::NotStun)?;
            bytes.truncate(filled);
            return Ok((worker, bytes));
        }
    }
    Err(StreamEnd::NotStun)
}

/// The worker of the session that a STUN request asks for.
fn worker_of(datagram: &[u8]) -> Option<WorkerIndex> {
    let request = Message::parse(datagram).filter(|message| message.class == Class::Request)?;
    let (ours, _) = request.ufrags?;
    demux::worker_of(ours)
}
