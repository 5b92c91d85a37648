//! The server's TCP connections, and the clients at their other ends.

use super::senders::{BATCH, Sender};
use crate::error::Error;
use crate::inputs::DATAGRAM_BYTES;
use sfu::driver::{Driver, DriverConfig, SocketIndex, Waker, open_listeners, prepare_stream};
use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// The driver has one UDP socket; listeners are numbered after it.
const LISTENER: SocketIndex = SocketIndex::new(1);
/// Of the length in front of a datagram.
const LENGTH_BYTES: usize = 2;
/// What a client reads at once: the longest train.
const READ_BYTES: usize = 64 << 10;

/// A driver with a connection to each of some clients.
pub(super) struct TcpDriver {
    driver: Driver,
    clients: Vec<(TcpStream, SocketAddr)>,
    payload: &'static [u8],
    bytes: u64,
    buffer: Vec<u8>,
}

impl TcpDriver {
    pub(super) fn open(
        sockets: Vec<UdpSocket>,
        clients: usize,
        payload: &'static [u8],
    ) -> Result<TcpDriver, Error> {
        let listener = open_listeners(&[Ipv4Addr::LOCALHOST.into()], 0)?.remove(0);
        listener.set_nonblocking(false)?;
        let mut driver = Driver::new(sockets, &Waker::new()?, DriverConfig::default())?;
        let connect = || {
            let client = TcpStream::connect(listener.local_addr()?)?;
            let (stream, peer) = listener.accept()?;
            prepare_stream(&stream)?;
            client.set_nonblocking(true)?;
            driver.adopt(stream, LISTENER, peer, &[], |_| {})?;
            Ok((client, peer))
        };
        let clients = std::iter::repeat_with(connect).take(clients).collect::<io::Result<_>>()?;
        Ok(TcpDriver { driver, clients, payload, bytes: 0, buffer: vec![0; READ_BYTES] })
    }
}

impl Sender for TcpDriver {
    fn send(&mut self, _turn: usize) -> Result<(), Error> {
        for shot in 0..BATCH {
            let (_, to) = self.clients[shot % self.clients.len()];
            let mut buffer = self.driver.buffer();
            buffer.extend_from_slice(self.payload);
            // What found no room is missed at the client.
            let _ = self.driver.send_train(LISTENER, to, DATAGRAM_BYTES, buffer);
        }
        self.driver.wait(Some(Duration::ZERO))?;
        self.driver.reap(|_| {});
        Ok(())
    }

    fn drain(&mut self) -> io::Result<u64> {
        let before = self.bytes;
        for (client, _) in &mut self.clients {
            loop {
                match client.read(&mut self.buffer) {
                    Ok(0) => break,
                    Ok(bytes) => self.bytes += bytes as u64,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        // A frame that arrived in two pieces counts when it is whole.
        let frame = (DATAGRAM_BYTES + LENGTH_BYTES) as u64;
        Ok(self.bytes / frame - before / frame)
    }
}
