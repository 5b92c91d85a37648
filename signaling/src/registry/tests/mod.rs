//! The registry with a media process that always says yes.

mod events;
mod ice;
mod placement;
mod publishers;
mod restart;
mod viewers;

use super::*;
use sfu::control::protocol::{IceCredentials, Layer, LayerChoice, PUBLISHER_SILENT_SECONDS};
use sfu::core::codec::H264Profile;
use sfu::core::plan::{
    DtlsRole, Feedback, MediaSection, Payload, PayloadType, PeerCertificate, RemoteTransport, Ssrc, SsrcPair,
};

const NOW: u64 = 1_000_000;
const HIGH: Codec = Codec::H264 { profile: H264Profile::High, packetization_mode: 1 };
const BASELINE: Codec = Codec::H264 { profile: H264Profile::ConstrainedBaseline, packetization_mode: 1 };

fn plan(role: Role, codecs: &[Codec]) -> SessionPlan {
    let payloads = codecs.iter().enumerate().map(|(index, codec)| Payload {
        pt: PayloadType(96 + index as u8),
        rtx: None,
        codec: *codec,
        feedback: Feedback::default(),
    });
    let section = MediaSection {
        mid: "0".into(),
        kind: codecs[0].kind(),
        payloads: payloads.collect(),
        extensions: Vec::new(),
        ssrcs: vec![SsrcPair { media: Ssrc(1), rtx: None }],
        rids: Vec::new(),
    };
    let remote = RemoteTransport {
        ice_ufrag: "abcd".into(),
        ice_pwd: "0123456789012345678901".into(),
        fingerprint: [0; 32],
        dtls_role: DtlsRole::Passive,
        certificate: PeerCertificate::Ecdsa,
    };
    SessionPlan {
        role,
        stream: NO_STREAM,
        epoch: NO_EPOCH,
        remote,
        sections: vec![section],
        local: None,
        extmap_allow_mixed: false,
        blob: Vec::new(),
    }
}

/// A registry with two workers and a media process that always says yes.
struct World {
    registry: Registry,
    next: u32,
    now: u64,
}

impl World {
    fn new() -> World {
        let mut registry = Registry::default();
        registry.rebuild(2, Vec::new());
        World { registry, next: 0, now: NOW }
    }

    fn admit(&mut self, role: Role, codecs: &[Codec], credential: Credential) -> Result<Admission, Refusal> {
        self.next += 1;
        let ids = FreshIds {
            url: UrlId([self.next as u8; 16]),
            etag: u64::from(self.next),
            stream: StreamId(u64::from(self.next)),
        };
        let name = StreamName::parse("demo").expect("name");
        self.registry.admit(Candidacy { name, credential, plan: plan(role, codecs), ids }, self.now)
    }

    /// Admits a viewer who has been told of this worker.
    fn admit_told(&mut self, worker: WorkerIndex) -> Result<Admission, Refusal> {
        self.next += 1;
        let url = UrlId([self.next as u8; 16]);
        let ids = FreshIds { url, etag: 1, stream: StreamId(u64::from(self.next)) };
        let local = IceCredentials { ufrag: demux::chosen_ufrag(worker, 1), pwd: "0".repeat(32) };
        let plan = SessionPlan { local: Some(local), ..plan(Role::Viewer, &[HIGH]) };
        let name = StreamName::parse("demo").expect("name");
        self.registry.admit(Candidacy { name, credential: Credential::Open, plan, ids }, self.now)
    }

    fn join(
        &mut self,
        role: Role,
        codecs: &[Codec],
        credential: Credential,
    ) -> Result<(SessionId, UrlId), Refusal> {
        let admission = self.admit(role, codecs, credential)?;
        let id = SessionId { worker: admission.worker, slot: self.next, generation: 0 };
        let url = admission.blob.url;
        self.registry.created(admission, id);
        Ok((id, url))
    }

    fn publish(&mut self, codec: Codec, credential: Credential) -> Result<SessionId, Refusal> {
        let (id, _) = self.join(Role::Publisher, &[codec], credential)?;
        self.registry.connected(id);
        self.registry.track(id, codec);
        Ok(id)
    }

    fn watch(&mut self, codecs: &[Codec]) -> Result<(SessionId, UrlId), Refusal> {
        let (id, url) = self.join(Role::Viewer, codecs, Credential::Open)?;
        assert!(self.registry.connected(id).is_empty(), "a viewer replaces nobody");
        Ok((id, url))
    }
}

fn events_id(secret: u8) -> EventsId {
    EventsId { wanted: EventSet::ALL, secret: UrlId([secret; 16]) }
}
