//! The server's ring as the cases use it: one socket, and a queue that is submitted when it is full.

use crate::clock::Split;
use crate::error::Error;
use crate::sink::Sink;
use sfu::core::egress::{TrainLimits, Trains};
use sfu::driver::{Driver, DriverConfig, SocketIndex, Waker, open_sockets};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// The ring with one socket that can reach the sink.
pub struct ServerRing {
    driver: Driver,
    batch: usize,
    queued: usize,
    queued_bytes: usize,
}

/// Submitted in parts of this size at most, so that the driver never has to submit by itself, off the kernel's clock.
const QUEUED_BYTES_MAX: usize = 240 << 10;

impl ServerRing {
    /// With the capacities of a worker.
    pub fn new(sink: &Sink) -> Result<ServerRing, Error> {
        let config = DriverConfig::default();
        let local: SocketAddr = sink.sending_socket()?.local_addr()?;
        let driver = Driver::new(open_sockets(&[local.ip()], 0)?, &Waker::new()?, config)?;
        Ok(ServerRing { driver, batch: config.ring_entries as usize, queued: 0, queued_bytes: 0 })
    }

    /// Where it sends from.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.driver.sockets()[0].local_addr()
    }

    /// Queues a datagram; a full queue is submitted first, as the driver would by itself.
    pub fn send(&mut self, to: SocketAddr, datagram: Vec<u8>, split: &mut Split) -> Result<(), Error> {
        if self.queued == self.batch || self.queued_bytes + datagram.len() > QUEUED_BYTES_MAX {
            self.flush(split)?;
        }
        self.queued_bytes += datagram.len();
        // A datagram that found no slot is counted by the driver, and missed at the sink.
        let _ = self.driver.send(SocketIndex::new(0), to, datagram);
        self.queued += 1;
        Ok(())
    }

    /// Gives the queue to the kernel and takes the ended sends back.
    pub fn flush(&mut self, split: &mut Split) -> Result<(), Error> {
        split.kernel(|| self.driver.wait(Some(Duration::ZERO)))?;
        self.driver.reap(|_| {});
        (self.queued, self.queued_bytes) = (0, 0);
        Ok(())
    }
}

/// Takes the trains of one turn.
pub struct Departing<'a> {
    /// Where they go.
    pub ring: &'a mut ServerRing,
    /// Told what is kernel time.
    pub split: &'a mut Split,
    /// The first failure, for the end of the turn.
    pub failed: Result<(), Error>,
}

impl Trains for Departing<'_> {
    fn limits(&self) -> TrainLimits {
        self.ring.driver.train_limits()
    }

    fn buffer(&mut self) -> Vec<u8> {
        self.ring.driver.buffer()
    }

    fn send(&mut self, socket: usize, to: SocketAddr, segment: usize, datagrams: Vec<u8>) {
        let ring = &mut self.ring;
        if ring.queued == ring.batch || ring.queued_bytes + datagrams.len() > QUEUED_BYTES_MAX {
            let flushed = ring.flush(self.split);
            self.failed = std::mem::replace(&mut self.failed, Ok(())).and(flushed);
        }
        ring.queued += 1;
        ring.queued_bytes += datagrams.len();
        // What found no slot is counted by the driver, and missed at the sink.
        let _ = ring.driver.send_train(SocketIndex::new(socket as u16), to, segment, datagrams);
    }
}
