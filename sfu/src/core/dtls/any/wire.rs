//! Datagrams between OpenSSL and us.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

/// The socket that OpenSSL believes to have.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// What it reads next, as one datagram.
    pub incoming: Vec<u8>,
    /// What it has written.
    pub outgoing: VecDeque<Vec<u8>>,
}

impl Read for Wire {
    /// One datagram; OpenSSL's buffer holds the largest.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = self.incoming.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.incoming[..length]);
        self.incoming.clear();
        Ok(length)
    }
}

impl Write for Wire {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.outgoing.push_back(datagram.to_vec());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
