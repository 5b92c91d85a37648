//! Memory of connected viewers: what the process has more of after many have joined, all but the clients.

use crate::client::Client;
use crate::error::Error;
use crate::inputs;
use sfu::core::identity::Identity;
use sfu::core::plan::PeerCertificate;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Instant;

/// Viewers that join first, so that what is allocated once is not counted.
const FIRST: u16 = 100;
/// Viewers that are counted.
const COUNTED: u16 = 2_000;

/// What one viewer costs.
#[derive(Debug, Clone)]
pub struct Row {
    /// What the server knows of the client's certificate.
    pub certificate: PeerCertificate,
    /// Resident bytes of one connected viewer.
    pub bytes: u64,
}

/// Joins viewers of each kind and looks at the resident memory.
pub fn run(progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>, Error> {
    let kinds = [PeerCertificate::Ecdsa, PeerCertificate::Any];
    let rows = kinds.into_iter().map(|certificate| {
        progress(&format!("{COUNTED} viewers with {certificate:?}"));
        Ok(Row { certificate, bytes: bytes_of_one(certificate, COUNTED)? })
    });
    rows.collect()
}

fn bytes_of_one(certificate: PeerCertificate, count: u16) -> Result<u64, Error> {
    let identity = Identity::generate().map_err(|error| Error::Crypto(error.to_string()))?;
    let (server, fingerprint) = (SocketAddr::from(([127, 0, 0, 1], 9)), identity.fingerprint);
    let mut forwarder = inputs::forwarder(identity, server);
    let (now, mut before) = (Instant::now(), 0);
    for viewer in 0..FIRST + count {
        if viewer == FIRST {
            before = resident_bytes()?;
        }
        let address = SocketAddr::from(([127, 0, 0, 1], 10 + viewer));
        Client::new(now, address, server)
            .and_then(|client| client.known_as(certificate).connect(now, &mut forwarder, fingerprint))
            .map_err(|why| Error::Join { viewer: usize::from(viewer), why })?;
    }
    Ok(resident_bytes()?.saturating_sub(before) / u64::from(count))
}

/// The process's resident memory (proc(5), `statm`).
fn resident_bytes() -> Result<u64, Error> {
    const PAGE_BYTES: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    Ok(pages * PAGE_BYTES)
}

/// The rows as a table.
pub fn table(rows: &[Row]) -> String {
    let mut text = "| certificate | memory of a connected viewer |\n|---|---:|\n".to_owned();
    for row in rows {
        let _ = writeln!(text, "| {:?} | {} KiB |", row.certificate, row.bytes / 1024);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_of_either_kind_takes_memory_that_is_seen() {
        for certificate in [PeerCertificate::Ecdsa, PeerCertificate::Any] {
            let bytes = bytes_of_one(certificate, 200).expect("viewers");
            assert!((8 * 1024..1024 * 1024).contains(&bytes), "{certificate:?}: {bytes}");
        }
    }
}
