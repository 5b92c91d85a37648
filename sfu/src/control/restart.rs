//! ICE restarts on their way between signaling and the workers.

use super::Control;
use super::listener::ConnectionId;
use super::protocol::{Event, IceCredentials, RequestId, RestartError, RestartedIce, SessionId, WorkerIndex};
use crate::core::plan::BLOB_BYTES_MAX;
use crate::worker::Command;
use std::collections::HashMap;

/// A restart that waits for its worker.
struct Restart {
    connection: ConnectionId,
    request: RequestId,
    session: SessionId,
    remote: IceCredentials,
    blob: Vec<u8>,
}

/// Those that wait, by the number that the worker knows; at most one for a session.
#[derive(Default)]
pub(super) struct Restarts(HashMap<RequestId, Restart>);

impl Control {
    pub(super) fn restart_ice(
        &mut self,
        connection: ConnectionId,
        request: RequestId,
        session: SessionId,
        (remote, blob): (IceCredentials, Vec<u8>),
    ) {
        let refused = if blob.len() > BLOB_BYTES_MAX {
            Some(RestartError::BlobSize)
        } else if !self.sessions.contains_key(&session) {
            Some(RestartError::NoSession)
        } else if self.restarts.0.values().any(|restart| restart.session == session) {
            Some(RestartError::InProgress)
        } else {
            None
        };
        if let Some(error) = refused {
            return self.tell(&Event::IceRestarted { request, result: Err(error) });
        }
        let number = RequestId(self.next_request);
        self.next_request += 1;
        let command = Command::RestartIce { request: number, session, remote: remote.clone() };
        self.restarts.0.insert(number, Restart { connection, request, session, remote, blob });
        if !self.command(session.worker, command) {
            self.ice_restarted(session.worker, number, Err(RestartError::NoSession));
        }
    }

    /// The worker has answered. The list of sessions follows, for the next signaling process.
    pub(super) fn ice_restarted(
        &mut self,
        worker: WorkerIndex,
        number: RequestId,
        result: Result<(IceCredentials, usize), RestartError>,
    ) {
        let Some(restart) = self.restarts.0.remove(&number) else { return };
        // Listeners are numbered after the UDP sockets.
        let udp_sockets = self.info[usize::from(worker.0)].addresses.len();
        let result = result.map(|(local, socket)| RestartedIce { local, over_tcp: socket >= udp_sockets });
        if result.is_ok() {
            self.update(restart.session, |info| {
                info.plan.remote.ice_ufrag = restart.remote.ufrag;
                info.plan.remote.ice_pwd = restart.remote.pwd;
                info.plan.blob = restart.blob;
            });
        }
        if self.connection.as_ref().is_some_and(|connection| connection.id == restart.connection) {
            self.tell(&Event::IceRestarted { request: restart.request, result });
        }
    }

    /// A worker failed, and its sessions with it.
    pub(super) fn bury_restarts(&mut self, worker: WorkerIndex) {
        let on_it =
            |(number, restart): (&RequestId, &Restart)| (restart.session.worker == worker).then_some(*number);
        let lost: Vec<RequestId> = self.restarts.0.iter().filter_map(on_it).collect();
        lost.into_iter().for_each(|number| self.ice_restarted(worker, number, Err(RestartError::NoSession)));
    }
}
