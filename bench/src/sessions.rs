//! What a viewer costs by the DTLS that it needs: CPU of its join, memory while it is connected, and before anything came from it.

use crate::client::Client;
use crate::clock::ThreadClock;
use crate::error::Error;
use crate::inputs;
use sfu::control::protocol::RequestId;
use sfu::core::forwarder::Forwarder;
use sfu::core::identity::Identity;
use sfu::core::outbox::SessionEvent;
use sfu::core::plan::PeerCertificate;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Viewers that join first, so that what is allocated once is not counted.
const FIRST: u16 = 100;
/// Viewers that are counted.
const COUNTED: u16 = 2_000;

/// What one viewer costs.
#[derive(Debug, Clone)]
pub struct Row {
    /// What the server knows of the client's certificate.
    pub certificate: PeerCertificate,
    /// CPU of a join, the median: ICE and DTLS on both sides, without the build of the client, which is the same for all kinds.
    pub join: Duration,
    /// Resident bytes of one connected viewer, without its client.
    pub bytes: u64,
    /// Resident bytes of one session whose client has sent nothing but its POST.
    pub waiting_bytes: u64,
}

/// Joins viewers of each kind.
pub fn run(progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>, Error> {
    let kinds = [PeerCertificate::Ecdsa, PeerCertificate::Any];
    // First, as handshakes leave gaps in memory, which they would fill.
    progress(&format!("{COUNTED} sessions of each kind that wait"));
    let waiting = kinds.into_iter().map(|certificate| waiting(certificate, COUNTED));
    let waiting: Vec<(u64, Forwarder)> = waiting.collect::<Result<_, Error>>()?;
    let rows = kinds.into_iter().zip(&waiting).map(|(certificate, (waiting_bytes, _))| {
        progress(&format!("{COUNTED} viewers with {certificate:?}"));
        row(certificate, COUNTED, *waiting_bytes)
    });
    // All stay until the last is measured, whose viewers would else have the memory of others.
    let (rows, _stay): (Vec<Row>, Vec<Forwarder>) = rows.collect::<Result<_, Error>>()?;
    Ok(rows)
}

fn row(certificate: PeerCertificate, count: u16, waiting_bytes: u64) -> Result<(Row, Forwarder), Error> {
    let clock = ThreadClock::calibrate()?;
    let identity = Identity::generate().map_err(|error| Error::Crypto(error.to_string()))?;
    let (server, fingerprint) = (SocketAddr::from(([127, 0, 0, 1], 9)), identity.fingerprint);
    let mut forwarder = inputs::forwarder(identity);
    let (now, mut before, mut joins) = (Instant::now(), 0, Vec::new());
    for viewer in 0..FIRST + count {
        if viewer == FIRST {
            before = resident_bytes()?;
            joins.clear();
        }
        let failed = |why| Error::Join { viewer: usize::from(viewer), why };
        let address = SocketAddr::from(([127, 0, 0, 1], 10 + viewer));
        let mut client = Client::new(now, address, server).map_err(failed)?.known_as(certificate);
        let (took, joined) = clock.time(|| client.connect(now, &mut forwarder, fingerprint));
        joined.map_err(failed)?;
        joins.push(took);
    }
    joins.sort_unstable();
    let bytes = resident_bytes()?.saturating_sub(before) / u64::from(count);
    let row = Row { certificate, join: joins[joins.len() / 2], bytes, waiting_bytes };
    Ok((row, forwarder))
}

/// Resident bytes of a session that waits for its client, and the sessions.
fn waiting(certificate: PeerCertificate, count: u16) -> Result<(u64, Forwarder), Error> {
    let identity = Identity::generate().map_err(|error| Error::Crypto(error.to_string()))?;
    let mut forwarder = inputs::forwarder(identity);
    let (now, mut before) = (Instant::now(), 0);
    for session in 0..FIRST + count {
        if session == FIRST {
            before = resident_bytes()?;
        }
        let mut plan = inputs::viewer_plan();
        plan.remote.certificate = certificate;
        forwarder.create(now, RequestId(0), plan);
        if !matches!(forwarder.out.events.pop_front(), Some(SessionEvent::Created { result: Ok(_), .. })) {
            return Err(Error::Join { viewer: usize::from(session), why: "no session".into() });
        }
    }
    Ok((resident_bytes()?.saturating_sub(before) / u64::from(count), forwarder))
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
    let mut text =
        "| certificate | CPU of a join, both sides | memory of a connected viewer | before anything came from it |\n\
         |---|---:|---:|---:|\n"
            .to_owned();
    for row in rows {
        let (join, memory, waiting) = (row.join.as_micros(), row.bytes / 1024, row.waiting_bytes / 1024);
        let _ = writeln!(text, "| {:?} | {join} µs | {memory} KiB | {waiting} KiB |", row.certificate);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_of_either_kind_takes_memory_and_time_that_are_seen() {
        let mut stay = vec![];
        for certificate in [PeerCertificate::Ecdsa, PeerCertificate::Any] {
            let (waiting_bytes, waiting) = waiting(certificate, 200).expect("sessions");
            let (row, connected) = row(certificate, 200, waiting_bytes).expect("viewers");
            stay.extend([waiting, connected]);
            assert!((8 * 1024..1024 * 1024).contains(&row.bytes), "{row:?}");
            assert!((8 * 1024..row.bytes).contains(&row.waiting_bytes), "{row:?}");
            assert!(row.join > Duration::ZERO, "{row:?}");
        }
    }
}
