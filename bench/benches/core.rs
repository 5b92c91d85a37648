//! The small pieces of the packet path and of a join.

use bench::client::Client;
use bench::{inputs, pieces};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use sfu::control::protocol::RequestId;
use sfu::core::identity::Identity;
use sfu::core::plan::PeerCertificate;
use std::net::SocketAddr;
use std::time::Instant;

fn packet(c: &mut Criterion) {
    let Ok(pieces) = pieces::all() else { return };
    for (name, mut piece) in pieces {
        c.bench_function(name, |b| b.iter(&mut piece));
    }
}

fn session(c: &mut Criterion) {
    let Ok(identity) = Identity::generate() else { return };
    let server = SocketAddr::from(([127, 0, 0, 1], 8_200));
    let forwarder = || inputs::forwarder(identity.clone());
    let (now, address) = (Instant::now(), SocketAddr::from(([127, 0, 0, 1], 5_000)));
    for (certificate, name) in [(PeerCertificate::Ecdsa, "ECDSA"), (PeerCertificate::Any, "any")] {
        let plan = || {
            let mut plan = inputs::viewer_plan();
            plan.remote.certificate = certificate;
            plan
        };
        c.bench_function(&format!("session: build a viewer, {name} certificate"), |b| {
            b.iter_batched_ref(
                || (forwarder(), Some(plan())),
                |(forwarder, plan)| plan.take().map(|plan| forwarder.create(now, RequestId(0), plan)),
                BatchSize::SmallInput,
            );
        });
        let name = format!(
            "session: join of a viewer, {name} certificate, both sides of ICE and DTLS, the client's build not counted"
        );
        c.bench_function(&name, |b| {
            b.iter_batched_ref(
                || {
                    (
                        Client::new(now, address, server).map(|client| client.known_as(certificate)),
                        forwarder(),
                    )
                },
                |(client, forwarder)| {
                    let joined =
                        client.as_mut().map(|client| client.connect(now, forwarder, identity.fingerprint));
                    assert!(matches!(joined, Ok(Ok(_))), "{joined:?}");
                },
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, packet, session);
criterion_main!(benches);
