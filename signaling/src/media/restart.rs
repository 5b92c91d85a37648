//! ICE restarts that wait for media's answer.

use super::{CreateFailure, SharedRegistry};
use crate::registry::{Restart, RestartRefusal};
use sfu::control::protocol::{Request, RequestId, RestartError, RestartedIce, WorkerIndex};
use std::collections::HashMap;
use tokio::sync::oneshot;

/// A restarted ICE session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restarted {
    /// The worker that has the session.
    pub worker: WorkerIndex,
    /// Our new credentials, and how the client is reached.
    pub ice: RestartedIce,
    /// The new entity tag, as the header has it.
    pub etag: String,
}

/// Why ICE was not restarted. In every case the old ICE session lives on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is its message")]
pub enum RestartFailure {
    #[error("{0}")]
    Refused(#[from] RestartRefusal),
    #[error(
        "ICE was not restarted: {0}. The session goes on as it was; restart later, or DELETE it and POST a new offer."
    )]
    Media(#[from] RestartError),
    #[error("{0}")]
    Unavailable(#[from] CreateFailure),
}

pub(super) type RestartReply = oneshot::Sender<Result<Restarted, RestartFailure>>;

/// Those on their way.
#[derive(Default)]
pub(super) struct Restarts(HashMap<RequestId, (Restart, RestartReply)>);

impl Restarts {
    /// What media is asked.
    pub fn ask(&mut self, request: RequestId, restart: Restart, reply: RestartReply) -> Request {
        let (session, remote) = (restart.session, restart.remote.clone());
        let blob = restart.blob.encode();
        self.0.insert(request, (restart, reply));
        Request::RestartIce { request, session, remote, blob }
    }

    /// What media answered. It counts also when the client waits no more: it has to restart again, and the registry must know
    /// with which credentials media goes on until then.
    pub fn answer(
        &mut self,
        registry: &SharedRegistry,
        request: RequestId,
        result: Result<RestartedIce, RestartError>,
    ) {
        let Some((restart, reply)) = self.0.remove(&request) else { return };
        let answer = match result {
            Ok(ice) => {
                let (worker, etag) = (restart.session.worker, restart.blob.etag());
                registry.lock().restarted(restart);
                Ok(Restarted { worker, ice, etag })
            }
            Err(cause) => {
                registry.lock().not_restarted(restart.session);
                Err(cause.into())
            }
        };
        let _ = reply.send(answer);
    }

    /// Media will not answer.
    pub fn fail(&mut self, registry: &SharedRegistry, failure: CreateFailure) {
        for (_, (restart, reply)) in self.0.drain() {
            registry.lock().not_restarted(restart.session);
            let _ = reply.send(Err(failure.into()));
        }
    }
}
