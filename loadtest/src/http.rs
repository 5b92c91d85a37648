//! The signalling half of WHIP (RFC 9725) and WHEP: one POST to join, one DELETE to leave.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body};

/// Followed in a row before giving up.
const MAX_REDIRECTS: usize = 5;
/// Largest body read, bytes; an answer has a few thousand.
const MAX_BODY: u64 = 256 * 1024;
/// Characters of an error body that are shown.
const SHOWN_DETAIL: usize = 300;

/// Why a request brought no session.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HttpError {
    #[error("{url}: {reason}; is the server running and the URL right?")]
    Unreachable { url: String, reason: String },
    #[error("{url}: {reason}; --insecure accepts any certificate")]
    Certificate { url: String, reason: String },
    #[error("{method} {url}: {status}{detail}")]
    Status { method: Method, url: String, status: StatusCode, detail: String, retry_after: Option<Duration> },
    #[error("{url}: more than {MAX_REDIRECTS} redirects")]
    Redirects { url: String },
    #[error("{url}: {what}")]
    Protocol { url: String, what: &'static str },
}

impl HttpError {
    /// Short, countable name.
    pub fn cause(&self) -> String {
        match self {
            HttpError::Unreachable { .. } => "unreachable".into(),
            HttpError::Certificate { .. } => "certificate".into(),
            HttpError::Status { status, .. } => format!("http_{}", status.as_u16()),
            HttpError::Redirects { .. } => "redirects".into(),
            HttpError::Protocol { .. } => "protocol".into(),
        }
    }
}

/// A session that the server has created.
#[derive(Debug)]
pub struct Session {
    /// Where to DELETE it; absolute.
    pub url: String,
    /// The server's SDP answer.
    pub answer: String,
}

/// A WHIP and WHEP client; cheap to clone, keeps connections open.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
}

impl Client {
    /// `timeout` bounds each request as a whole. `insecure` accepts any certificate, for servers with a
    /// self-signed one.
    pub fn new(timeout: Duration, insecure: bool) -> Self {
        let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(crypto)
            .root_certs(system_roots())
            .disable_verification(insecure)
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(timeout))
            .max_idle_connections_per_host(64)
            .user_agent(concat!("uringcast-loadtest/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Client { agent }
    }

    /// Offers a session. Follows 307 and 308 with method and body; the token goes along only within one
    /// origin, as in a browser. While the server answers 409 or 503 with Retry-After (no publisher yet, or
    /// busy) it asks again until `deadline`.
    pub fn offer(
        &self,
        url: &str,
        bearer: Option<&str>,
        offer: &str,
        deadline: Instant,
    ) -> Result<Session, HttpError> {
        loop {
            let refusal = match self.offer_once(url, bearer, offer) {
                Ok(session) => return Ok(session),
                Err(error) => error,
            };
            let wait = match &refusal {
                HttpError::Status { retry_after: Some(wait), .. } => *wait,
                _ => return Err(refusal),
            };
            if Instant::now() + wait >= deadline {
                return Err(refusal);
            }
            std::thread::sleep(wait);
        }
    }

    fn offer_once(&self, url: &str, bearer: Option<&str>, offer: &str) -> Result<Session, HttpError> {
        let (mut url, mut bearer) = (url.to_string(), bearer);
        for _ in 0..=MAX_REDIRECTS {
            let request = Request::post(&url).header(header::CONTENT_TYPE, "application/sdp");
            let (status, headers, body) = self.send(request, &url, bearer, offer)?;
            let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
            let location = location.and_then(|location| resolve(&url, location));
            match status {
                StatusCode::CREATED => return session(url, location, &headers, body),
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {
                    let next = location
                        .ok_or(HttpError::Protocol { url: url.clone(), what: "redirect without Location" })?;
                    bearer = bearer.filter(|_| origin(&next) == origin(&url));
                    url = next;
                }
                _ => return Err(status_error(Method::POST, url, status, &headers, &body)),
            }
        }
        Err(HttpError::Redirects { url })
    }

    /// Ends a session; one that the server has ended by itself, after the DTLS close, is fine too.
    pub fn delete(&self, session_url: &str, bearer: Option<&str>) -> Result<(), HttpError> {
        let (status, headers, body) = self.send(Request::delete(session_url), session_url, bearer, "")?;
        if status.is_success() || matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE) {
            return Ok(());
        }
        Err(status_error(Method::DELETE, session_url.into(), status, &headers, &body))
    }

    fn send(
        &self,
        request: ureq::http::request::Builder,
        url: &str,
        bearer: Option<&str>,
        body: &str,
    ) -> Result<(StatusCode, HeaderMap, String), HttpError> {
        let unreachable = |reason: String| match reason.contains("certificate") {
            true => HttpError::Certificate { url: url.into(), reason },
            false => HttpError::Unreachable { url: url.into(), reason },
        };
        let request = match bearer {
            Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        };
        let request = request.body(body.to_string()).map_err(|error| unreachable(error.to_string()))?;
        let response = self.agent.run(request).map_err(|error| unreachable(error.to_string()))?;
        let (parts, body) = response.into_parts();
        let body = read(body).map_err(|error| unreachable(error.to_string()))?;
        Ok((parts.status, parts.headers, body))
    }
}

/// The system's certificate authorities, as `curl` uses them; none where there are none.
fn system_roots() -> RootCerts {
    let found = rustls_native_certs::load_native_certs().certs;
    let owned = |der: &rustls::pki_types::CertificateDer<'_>| Certificate::from_der(der).to_owned();
    RootCerts::new_with_certs(&found.iter().map(owned).collect::<Vec<_>>())
}

fn read(body: Body) -> Result<String, ureq::Error> {
    body.into_with_config().limit(MAX_BODY).lossy_utf8(true).read_to_string()
}

fn session(
    url: String,
    location: Option<String>,
    headers: &HeaderMap,
    answer: String,
) -> Result<Session, HttpError> {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if content_type.split(';').next().map(str::trim) != Some("application/sdp") {
        return Err(HttpError::Protocol { url, what: "the 201 is not of type application/sdp" });
    }
    let Some(location) = location else {
        return Err(HttpError::Protocol { url, what: "the 201 has no usable Location" });
    };
    Ok(Session { url: location, answer })
}

fn status_error(
    method: Method,
    url: String,
    status: StatusCode,
    headers: &HeaderMap,
    body: &str,
) -> HttpError {
    let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    HttpError::Status {
        method,
        url,
        status,
        detail: detail_of(body).map(|detail| format!(": {detail}")).unwrap_or_default(),
        retry_after: seconds.map(Duration::from_secs),
    }
}

/// What an error body says: the detail or title of a problem document (RFC 9457), else its first words.
fn detail_of(body: &str) -> Option<String> {
    let problem: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let member = |name: &str| Some(problem.as_ref()?.get(name)?.as_str()?.to_string());
    let text = member("detail")
        .or_else(|| member("title"))
        .or_else(|| member("error"))
        .unwrap_or_else(|| body.to_string());
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (!text.is_empty()).then(|| text.chars().take(SHOWN_DETAIL).collect())
}

/// Scheme and authority of an absolute URL.
fn origin(url: &str) -> Option<(String, String)> {
    let uri: Uri = url.parse().ok()?;
    Some((uri.scheme_str()?.to_lowercase(), uri.authority()?.as_str().to_lowercase()))
}

/// `location` as an absolute URL (RFC 3986 section 5.2, without dot segments); `None` if `base` is not
/// absolute.
fn resolve(base: &str, location: &str) -> Option<String> {
    let (scheme, authority) = origin(base)?;
    if location.contains("://") {
        return Some(location.to_string());
    }
    if let Some(rest) = location.strip_prefix("//") {
        return Some(format!("{scheme}://{rest}"));
    }
    if location.starts_with('/') {
        return Some(format!("{scheme}://{authority}{location}"));
    }
    let uri: Uri = base.parse().ok()?;
    let directory = uri.path().rsplit_once('/').map_or("", |(directory, _)| directory);
    Some(format!("{scheme}://{authority}{directory}/{location}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Serves the given responses, one connection each, and returns what was asked.
    fn server(responses: Vec<String>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let thread =
            std::thread::spawn(move || responses.iter().map(|response| serve(&listener, response)).collect());
        (base, thread)
    }

    fn serve(listener: &TcpListener, response: &str) -> String {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let from = head.len();
            reader.read_line(&mut head).unwrap();
            if let Some(value) = head[from..].to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        stream.write_all(response.as_bytes()).unwrap();
        head + &String::from_utf8(body).unwrap()
    }

    fn response(status: &str, headers: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn client() -> Client {
        Client::new(Duration::from_secs(5), false)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    const SDP: &str = "Content-Type: application/sdp\r\n";

    #[test]
    fn an_offer_is_posted_with_its_token_and_brings_answer_and_absolute_session_url() {
        let created = response("201 Created", &format!("{SDP}Location: /session/7\r\n"), "v=0\r\n");
        let (base, thread) = server(vec![created]);
        let session = client().offer(&format!("{base}/a/whip"), Some("T"), "OFFER", soon()).unwrap();
        assert_eq!((session.url, session.answer), (format!("{base}/session/7"), "v=0\r\n".into()));
        let asked = thread.join().unwrap().remove(0);
        assert!(asked.starts_with("POST /a/whip HTTP/1.1\r\n") && asked.ends_with("OFFER"), "{asked}");
        assert!(asked.to_lowercase().contains("authorization: bearer t\r\n"), "{asked}");
    }

    #[test]
    fn a_307_keeps_method_and_body_but_hands_the_token_to_no_other_origin() {
        let created = response("201 Created", &format!("{SDP}Location: s/1\r\n"), "v=0\r\n");
        let (other, other_thread) = server(vec![created]);
        let (base, thread) = server(vec![
            response("307 Temporary Redirect", "Location: /b/whip\r\n", ""),
            response("307 Temporary Redirect", &format!("Location: {other}/c/whip\r\n"), ""),
        ]);
        let session = client().offer(&format!("{base}/a/whip"), Some("T"), "OFFER", soon()).unwrap();
        assert_eq!(session.url, format!("{other}/c/s/1"));
        let same = thread.join().unwrap().remove(1);
        assert!(same.starts_with("POST /b/whip") && same.ends_with("OFFER"), "{same}");
        assert!(same.to_lowercase().contains("bearer t"));
        let foreign = other_thread.join().unwrap().remove(0);
        assert!(foreign.starts_with("POST /c/whip") && foreign.ends_with("OFFER"), "{foreign}");
        assert!(!foreign.to_lowercase().contains("bearer"), "{foreign}");
    }

    #[test]
    fn a_refusal_shows_status_and_problem_detail() {
        let problem = r#"{"title":"Unauthorized","status":401,"detail":"the token has expired"}"#;
        let (base, _thread) = server(vec![response("401 Unauthorized", "", problem)]);
        let error = client().offer(&format!("{base}/whip"), None, "", soon()).unwrap_err();
        assert_eq!(error.cause(), "http_401");
        assert_eq!(error.to_string(), format!("POST {base}/whip: 401 Unauthorized: the token has expired"));
    }

    #[test]
    fn retry_after_is_obeyed_until_the_deadline() {
        let busy = || response("409 Conflict", "Retry-After: 1\r\n", "no publisher");
        let created = response("201 Created", &format!("{SDP}Location: /s\r\n"), "v=0\r\n");
        let (base, _thread) = server(vec![busy(), created]);
        assert!(client().offer(&base, None, "", soon()).is_ok());
        let (base, _thread) = server(vec![busy()]);
        let error = client().offer(&base, None, "", Instant::now()).unwrap_err();
        assert_eq!(error.cause(), "http_409");
    }

    #[test]
    fn a_dead_port_is_one_clear_error() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = client().offer(&format!("http://{free}/whip"), None, "", soon()).unwrap_err();
        assert_eq!(error.cause(), "unreachable");
        assert!(error.to_string().contains("is the server running"), "{error}");
    }

    #[test]
    fn a_201_without_sdp_or_location_is_named() {
        let html = response("201 Created", "Content-Type: text/html\r\nLocation: /s\r\n", "<p>");
        let lost = response("201 Created", SDP, "v=0\r\n");
        let (base, _thread) = server(vec![html, lost]);
        for what in ["application/sdp", "Location"] {
            let error = client().offer(&base, None, "", soon()).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
        }
    }

    #[test]
    fn delete_ends_the_session_and_reports_a_refusal() {
        let (base, thread) = server(vec![
            response("200 OK", "", ""),
            response("404 Not Found", "", ""),
            response("403 Forbidden", "", ""),
        ]);
        assert!(client().delete(&format!("{base}/s"), Some("T")).is_ok());
        assert!(client().delete(&format!("{base}/s"), None).is_ok());
        assert_eq!(client().delete(&format!("{base}/s"), None).unwrap_err().cause(), "http_403");
        assert!(thread.join().unwrap()[0].starts_with("DELETE /s"));
    }

    #[test]
    fn locations_resolve_in_every_form() {
        let resolved = |location| resolve("https://h:1/a/whip?x=1", location).unwrap();
        assert_eq!(resolved("http://o/s"), "http://o/s");
        assert_eq!(resolved("//o/s"), "https://o/s");
        assert_eq!(resolved("/s?y"), "https://h:1/s?y");
        assert_eq!(resolved("s"), "https://h:1/a/s");
        assert_eq!(resolve("nonsense", "/s"), None);
    }
}
