//! Worker threads: starting them, pinned, and starting them again after a fault.

use super::protocol::WorkerIndex;
use crate::config::MediaConfig;
use crate::core::forwarder::Forwarder;
use crate::core::identity::Identity;
use crate::core::ntp::NtpClock;
use crate::driver::{BufferSizes, Driver, DriverConfig, open_shared_sockets, open_sockets};
use crate::error::StartError;
use crate::mesh::WorkerSet;
use crate::worker::{Command, FromWorker, Mesh, Worker};
use core_affinity::CoreId;
use crossbeam::queue::SegQueue;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread;
use tokio::sync::mpsc;

/// Everything that is needed to start a worker, the first time and again.
pub struct WorkerFactory {
    /// The process's configuration.
    pub config: MediaConfig,
    /// Each worker's sockets. They outlive it, so that nobody takes its port between a fault and the next start, and so that behind a
    /// shared port the kernel goes on giving the same clients to the same workers.
    pub sockets: Vec<Vec<UdpSocket>>,
    /// The shared certificate.
    pub identity: Identity,
    /// The wall clock that all workers share.
    pub clock: NtpClock,
    /// Everybody's inboxes and wakers.
    pub mesh: Arc<Mesh>,
    /// TCP connections that each worker may have.
    pub tcp_connections: usize,
    /// Where workers report.
    pub events: mpsc::Sender<(WorkerIndex, FromWorker)>,
}

/// A running worker, as the control thread sees it.
#[derive(Debug)]
pub struct WorkerHandle {
    /// Its commands; wake it after a push.
    pub mailbox: Arc<SegQueue<Command>>,
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// The core it is pinned to.
    pub core: usize,
}

impl WorkerFactory {
    /// Starts the worker's thread. Returns once the worker is ready to receive.
    pub fn start(&self, index: WorkerIndex, is_restart: bool) -> Result<WorkerHandle, StartError> {
        let core = self.config.cores[usize::from(index.0)];
        let sockets = self.sockets[usize::from(index.0)].iter().map(UdpSocket::try_clone);
        let sockets =
            sockets.collect::<io::Result<Vec<_>>>().map_err(|source| StartError::Ring { source })?;
        let addresses = local_addresses(&sockets)?;
        if index == WorkerIndex(0) && !is_restart {
            warn_of_small_buffers(&sockets);
        }
        let mailbox = Arc::new(SegQueue::new());
        let (ready, readiness) = std_mpsc::channel();
        let start = WorkerStart {
            index,
            core,
            is_restart,
            others: self.others(index),
            udp_mux: self.config.udp_mux,
            tcp_connections: self.tcp_connections,
            identity: self.identity.clone(),
            clock: self.clock,
            mesh: Arc::clone(&self.mesh),
            mailbox: Arc::clone(&mailbox),
            events: self.events.clone(),
        };
        thread::Builder::new()
            .name(format!("worker-{}", index.0))
            .spawn(move || start.run(sockets, &ready))
            .map_err(StartError::Thread)?;
        match readiness.recv() {
            Ok(result) => result.map(|()| WorkerHandle { mailbox, addresses, core }),
            Err(_) => Err(StartError::Thread(std::io::Error::other("it ended before it was ready"))),
        }
    }

    fn others(&self, index: WorkerIndex) -> WorkerSet {
        let mut others = WorkerSet::default();
        let all = 0..self.config.cores.len() as u16;
        all.filter(|other| *other != index.0).for_each(|other| others.insert(WorkerIndex(other)));
        others
    }
}

/// Opens the sockets of all workers.
pub fn open_udp(config: &MediaConfig) -> Result<Vec<Vec<UdpSocket>>, StartError> {
    if !config.udp_mux {
        return config.udp_ports().map(|port| open_sockets(&config.bind, port)).collect();
    }
    // The kernel lets every process of this user share a shared port. This fails if one is there already.
    drop(open_sockets(&config.bind, config.udp_port)?);
    config.udp_ports().map(|port| open_shared_sockets(&config.bind, port)).collect()
}

/// Small socket buffers lose packets under load; the cure is a sysctl, said once.
fn warn_of_small_buffers(sockets: &[UdpSocket]) {
    let sizes = sockets.first().and_then(|socket| BufferSizes::of(socket).ok());
    if let Some(warning) = sizes.and_then(|sizes| sizes.warning()) {
        tracing::warn!("{warning}");
    }
}

fn local_addresses(sockets: &[UdpSocket]) -> Result<Vec<SocketAddr>, StartError> {
    let address = |socket: &UdpSocket| socket.local_addr().map_err(|source| StartError::Ring { source });
    sockets.iter().map(address).collect()
}

/// What moves to the worker's thread.
struct WorkerStart {
    index: WorkerIndex,
    core: usize,
    is_restart: bool,
    others: WorkerSet,
    udp_mux: bool,
    tcp_connections: usize,
    identity: Identity,
    clock: NtpClock,
    mesh: Arc<Mesh>,
    mailbox: Arc<SegQueue<Command>>,
    events: mpsc::Sender<(WorkerIndex, FromWorker)>,
}

impl WorkerStart {
    fn run(self, sockets: Vec<UdpSocket>, ready: &std_mpsc::Sender<Result<(), StartError>>) {
        let (index, events) = (self.index, self.events.clone());
        // A dropped receiver means that the control thread has ended, and the process with it.
        let outcome = match self.build(sockets) {
            Err(error) => return drop(ready.send(Err(error))),
            Ok(worker) => {
                let _ = ready.send(Ok(()));
                catch_unwind(AssertUnwindSafe(|| worker.run()))
            }
        };
        let fault = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("it panicked; the message is above".to_owned()),
        };
        let _ = events.blocking_send((index, FromWorker::Stopped(fault)));
    }

    fn build(self, sockets: Vec<UdpSocket>) -> Result<Worker, StartError> {
        if !core_affinity::set_for_current(CoreId { id: self.core }) {
            return Err(StartError::CoreMissing { core: self.core });
        }
        let waker = &self.mesh.wakers[usize::from(self.index.0)];
        let config = DriverConfig { connections: self.tcp_connections, ..DriverConfig::default() };
        let socket_count = sockets.len();
        let driver = Driver::new(sockets, waker, config)?;
        // getrandom fails only where the kernel has no random source at all, and then the certificate failed before.
        let random =
            Box::new(|bytes: &mut [u8]| getrandom::fill(bytes).unwrap_or_else(|_| std::process::abort()));
        let mut forwarder = Forwarder::new(self.index, self.others, self.identity, random, self.clock);
        if self.udp_mux {
            forwarder.share_port(socket_count);
        }
        if self.is_restart {
            forwarder.announce_restart();
        }
        Ok(Worker::new(self.index, forwarder, driver, self.mesh, self.mailbox, self.events))
    }
}
