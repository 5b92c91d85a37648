//! Listeners and connections: HTTP/1.1 and HTTP/2, plain and TLS.

use super::limits::{Admitted, Connections};
use super::tls::Tls;
use super::{App, Audience, Peer, handle};
use crate::error::StartError;
use crate::metrics::ConnectionClosed;
use crate::shutdown::Shutdown;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;
/// Header bytes of a request: a token, cookies of other services on the same host, and room.
const HEADER_BYTES_MAX: usize = 32 << 10;
/// With no file descriptor free, accepting again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// At shutdown requests in flight get this long.
const GRACE: Duration = Duration::from_secs(3);

/// A bound listener.
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// Its certificate.
    pub tls: Option<Arc<Tls>>,
    /// What it answers.
    pub audience: Audience,
}

impl Listener {
    /// Binds; `key` is the flag to name when it fails.
    ///
    /// # Errors
    /// The address is taken, not ours, or forbidden.
    pub async fn bind(
        address: SocketAddr,
        key: &'static str,
        audience: Audience,
    ) -> Result<Listener, StartError> {
        let socket =
            TcpListener::bind(address).await.map_err(|cause| StartError::listen(address, key, cause))?;
        Ok(Listener { socket, tls: None, audience })
    }

    /// Where it listens; differs from what was asked if the port was 0.
    pub fn address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }
}

/// Serves every listener until shutdown, then lets requests in flight end.
pub async fn serve(app: Arc<App>, listeners: Vec<Listener>, shutdown: Shutdown) {
    let connections = Connections::new(app.config.limits, app.metrics.clone());
    let mut accepting = tokio::task::JoinSet::new();
    for listener in listeners {
        let server =
            Server { app: app.clone(), connections: connections.clone(), shutdown: shutdown.clone() };
        accepting.spawn(server.accept(listener));
    }
    while accepting.join_next().await.is_some() {}
    let drained = async {
        while connections.count() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let _ = tokio::time::timeout(GRACE, drained).await;
}

#[derive(Clone)]
struct Server {
    app: Arc<App>,
    connections: Arc<Connections>,
    shutdown: Shutdown,
}

impl Server {
    async fn accept(self, listener: Listener) {
        let mut shutdown = self.shutdown.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.socket.accept() => accepted,
                () = shutdown.over() => return,
            };
            match accepted {
                Ok((stream, remote)) => self.connect(stream, remote, &listener),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn connect(&self, stream: TcpStream, remote: SocketAddr, listener: &Listener) {
        let (Ok(local), Some(admitted)) = (stream.local_addr(), self.connections.admit()) else { return };
        // An answer is one small write; waiting for more to send would only delay it.
        let _ = stream.set_nodelay(true);
        let peer = Peer { remote: canonical(remote), local: canonical(local), tls: listener.tls.is_some() };
        let (server, tls, audience) = (self.clone(), listener.tls.clone(), listener.audience);
        tokio::spawn(async move { server.converse(stream, peer, tls, audience, &admitted).await });
    }

    async fn converse(
        self,
        stream: TcpStream,
        peer: Peer,
        tls: Option<Arc<Tls>>,
        audience: Audience,
        admitted: &Admitted,
    ) {
        match tls {
            None => self.http(stream, peer, audience, admitted).await,
            Some(tls) => tokio::select! {
                stream = tls.acceptor().accept(stream) => if let Ok(stream) = stream {
                    self.http(stream, peer, audience, admitted).await;
                },
                why = admitted.activity.over() => admitted.closed(why),
            },
        }
    }

    async fn http(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
        peer: Peer,
        audience: Audience,
        admitted: &Admitted,
    ) {
        let service = service_fn(|request| {
            let (app, activity) = (self.app.clone(), admitted.activity.clone());
            async move {
                let _in_flight = activity.begin();
                let mut response = handle(&app, peer, audience, request).await;
                response.body_mut().hold(&activity);
                Ok::<_, Infallible>(response)
            }
        });
        let builder = self.builder();
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut shutdown = self.shutdown.clone();
        let mut ending = false;
        loop {
            tokio::select! {
                result = connection.as_mut() => return count_timeout(admitted, result),
                why = admitted.activity.over() => return admitted.closed(why),
                () = shutdown.over(), if !ending => {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }

    fn builder(&self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.app.config.limits.timeout)
            .max_buf_size(HEADER_BYTES_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEADER_BYTES_MAX as u32);
        builder
    }
}

fn count_timeout(admitted: &Admitted, result: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    let slow = |error: &hyper::Error| error.is_timeout();
    if result.is_err_and(|error| error.downcast_ref::<hyper::Error>().is_some_and(slow)) {
        admitted.closed(ConnectionClosed::Timeout);
    }
}

/// An IPv4 client of an IPv6 socket is an IPv4 client.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
