//! From a path to what it names.

use crate::pages::{self, Asset};
use crate::registry::{EventsId, NameError, StreamName, UrlId};
use sfu::core::plan::Role;

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/`
    Index,
    /// `/publish/{name}`
    Publish,
    /// `/watch/{name}`
    Watch,
    /// `/client/…`
    Client(&'static Asset),
    /// `/{name}/whip` and `/{name}/whep`; a name that is none is answered as the protocol wants
    Endpoint(Role, Result<StreamName, NameError>),
    /// `/session/{id}`; `None` if the id has not even the form of one
    Session(Option<UrlId>),
    /// `/session/{id}/sse`
    Events(Option<UrlId>),
    /// `/session/{id}/sse/{stream}`
    EventStream(Option<UrlId>, Option<EventsId>),
    /// `/session/{id}/layer`
    Layer(Option<UrlId>),
    /// `/api/v1/streams`
    Streams,
    /// `/metrics`
    Metrics,
    /// `/healthz`
    Healthz,
    /// `/readyz`
    Readyz,
}

/// Why a path names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is its message")]
pub enum NoRoute {
    #[error("There is nothing here. Publish to /NAME/whip, watch /NAME/whep, or open / in a browser.")]
    Unknown,
    #[error("{0}")]
    Name(NameError),
}

impl Route {
    /// Finds what `path` names.
    ///
    /// # Errors
    /// It names nothing.
    pub fn find(path: &str) -> Result<Route, NoRoute> {
        let mut words = path.strip_prefix('/').ok_or(NoRoute::Unknown)?.split('/');
        let (first, second, third, fourth) = (words.next(), words.next(), words.next(), words.next());
        if words.next().is_some() {
            return Err(NoRoute::Unknown);
        }
        match (first.unwrap_or_default(), second, third, fourth) {
            ("", None, None, None) => Ok(Route::Index),
            ("publish", Some(name), None, None) => named(name).map(|_| Route::Publish),
            ("watch", Some(name), None, None) => named(name).map(|_| Route::Watch),
            ("client", Some(name), None, None) => {
                pages::asset(name).map(Route::Client).ok_or(NoRoute::Unknown)
            }
            ("session", Some(id), None, None) => Ok(Route::Session(UrlId::parse(id))),
            ("session", Some(id), Some("sse"), None) => Ok(Route::Events(UrlId::parse(id))),
            ("session", Some(id), Some("layer"), None) => Ok(Route::Layer(UrlId::parse(id))),
            ("session", Some(id), Some("sse"), Some(stream)) => {
                Ok(Route::EventStream(UrlId::parse(id), EventsId::parse(stream)))
            }
            ("api", Some("v1"), Some("streams"), None) => Ok(Route::Streams),
            ("metrics", None, None, None) => Ok(Route::Metrics),
            ("healthz", None, None, None) => Ok(Route::Healthz),
            ("readyz", None, None, None) => Ok(Route::Readyz),
            (name, Some("whip"), None, None) => Ok(Route::Endpoint(Role::Publisher, StreamName::parse(name))),
            (name, Some("whep"), None, None) => Ok(Route::Endpoint(Role::Viewer, StreamName::parse(name))),
            _ => Err(NoRoute::Unknown),
        }
    }

    /// The value of the metrics' `route` label.
    pub fn label(&self) -> &'static str {
        match self {
            Route::Index => "index",
            Route::Publish => "publish",
            Route::Watch => "watch",
            Route::Client(_) => "client",
            Route::Endpoint(Role::Publisher, _) => "whip",
            Route::Endpoint(Role::Viewer, _) => "whep",
            Route::Session(_) => "session",
            Route::Events(_) => "sse",
            Route::EventStream(..) => "sse_stream",
            Route::Layer(_) => "layer",
            Route::Streams => "streams",
            Route::Metrics => "metrics",
            Route::Healthz => "healthz",
            Route::Readyz => "readyz",
        }
    }
}

fn named(name: &str) -> Result<StreamName, NoRoute> {
    StreamName::parse(name).map_err(NoRoute::Name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_the_contract_is_found() {
        let name = || StreamName::parse("demo");
        assert_eq!(Route::find("/"), Ok(Route::Index));
        assert_eq!(Route::find("/demo/whip"), Ok(Route::Endpoint(Role::Publisher, name())));
        assert_eq!(Route::find("/demo/whep"), Ok(Route::Endpoint(Role::Viewer, name())));
        assert_eq!(Route::find("/publish/demo"), Ok(Route::Publish));
        assert_eq!(Route::find("/watch/demo"), Ok(Route::Watch));
        assert_eq!(Route::find("/session/x"), Ok(Route::Session(None)));
        assert_eq!(Route::find("/session/x/sse"), Ok(Route::Events(None)));
        assert_eq!(Route::find("/session/x/sse/y"), Ok(Route::EventStream(None, None)));
        assert_eq!(Route::find("/session/x/layer"), Ok(Route::Layer(None)));
        assert_eq!(Route::find("/api/v1/streams"), Ok(Route::Streams));
        assert!(matches!(Route::find("/client/uringcast.js"), Ok(Route::Client(_))));
    }

    #[test]
    fn other_paths_name_nothing() {
        for path in [
            "",
            "*",
            "/demo",
            "/demo/",
            "/demo/whip/",
            "/demo/whip/x",
            "/client/../x",
            "/session",
            "/session/x/y",
            "/session/x/sse/y/z",
        ] {
            assert!(Route::find(path).is_err(), "{path}");
        }
        assert_eq!(Route::find("/publish/api"), Err(NoRoute::Name(NameError::Reserved)));
        assert_eq!(Route::find("/api/whip"), Ok(Route::Endpoint(Role::Publisher, Err(NameError::Reserved))));
        assert_eq!(Route::find("/a%20b/whep"), Ok(Route::Endpoint(Role::Viewer, Err(NameError::Form))));
    }
}
