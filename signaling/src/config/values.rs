//! From texts to the typed [`Config`].

use super::keys::{self, Kind};
use super::load::Settings;
use super::{Config, ConfigError, HttpLimits, NoPublisher, OpenMode, TlsSource, TokenSource, interfaces};
use sfu::config::WORKERS_MAX;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

const HTTP_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
const UDP_PORT_DEFAULT: u16 = 8200;
/// Each costs some 20 KiB; 4096 stay well inside the usual hard limit of file descriptors.
const HTTP_CONNECTIONS_DEFAULT: usize = 4096;
/// OBS gives its whole POST 8 s, so a client that needs longer for its head alone has gone.
const HTTP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// `sun_path` of unix(7) without its NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Seconds; more is surely a slip of the keyboard.
const HTTP_TIMEOUT_MAX: f64 = 3600.0;

/// Reads settings key by key and collects what is wrong.
pub struct Reader<'a> {
    settings: &'a Settings,
    pub(super) errors: &'a mut Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    /// Reads from `settings`, complains into `errors`.
    pub fn new(settings: &'a Settings, errors: &'a mut Vec<ConfigError>) -> Reader<'a> {
        Reader { settings, errors }
    }

    /// The configuration, or `None` if a mistake left a hole in it.
    pub fn config(mut self) -> Option<Config> {
        let http = self.one("http").unwrap_or(HTTP_DEFAULT);
        let public_url = self.one::<PublicUrl>("public-url").map(|url| url.0);
        let https = self.https();
        let metrics: Option<SocketAddr> = self.one("metrics");
        let listeners = [Some(http), https.as_ref().map(|(address, _)| *address), metrics];
        let loopback = listeners.iter().flatten().all(|address| address.ip().is_loopback());
        let udp_port = self.port("udp-port").unwrap_or(UDP_PORT_DEFAULT);
        let udp_mux = self.one("udp-mux").unwrap_or(false);
        let state_dir: PathBuf = self.one("state-dir").unwrap_or_else(|| "uringcast-state".into());
        let config = Config {
            http,
            https,
            metrics,
            open: self.open(loopback && public_url.is_none()),
            public_url,
            no_publisher: self.one("no-publisher").unwrap_or(NoPublisher::Wait),
            token: self.token(),
            bind: self.many("bind"),
            udp_port,
            udp_mux,
            tcp_port: Some(self.one("tcp-port").unwrap_or(udp_port)).filter(|port| *port > 0),
            public_ip: self.many("public-ip"),
            ice_servers: self.ice_servers(),
            strict_etag: self.one("strict-etag").unwrap_or(false),
            cores: self.cores(udp_port, udp_mux),
            control: self.control(&state_dir),
            state_dir,
            limits: self.limits(),
            log: self.one::<LogFilter>("log").map_or_else(|| keys::LOG.to_owned(), |filter| filter.0),
            settings: self.settings.clone(),
        };
        self.listeners(&config);
        (!config.cores.is_empty()).then_some(config)
    }

    /// Values of any key; those that do not parse are complained about and left out.
    pub(super) fn many<T: FromStr>(&mut self, name: &'static str) -> Vec<T> {
        let Some(setting) = self.settings.get(name) else { return Vec::new() };
        let mut parsed = Vec::with_capacity(setting.values.len());
        for value in &setting.values {
            match value.parse() {
                Ok(good) if !value.is_empty() => parsed.push(good),
                _ => self.bad(name, value),
            }
        }
        parsed
    }

    /// How many values a key has, good or bad.
    pub(super) fn written(&self, name: &str) -> usize {
        self.settings.get(name).map_or(0, |setting| setting.values.len())
    }

    /// The value of a key that takes one.
    pub(super) fn one<T: FromStr>(&mut self, name: &'static str) -> Option<T> {
        if let Some(setting) = self.settings.get(name)
            && setting.values.len() != 1
        {
            let (count, source_of_value) = (setting.values.len(), setting.source.clone());
            self.errors.push(ConfigError::Repeated { key: name, count, source_of_value });
            return None;
        }
        self.many(name).pop()
    }

    fn bad(&mut self, name: &'static str, value: &str) {
        let Some(setting) = self.settings.get(name) else { return };
        let kind = keys::find(name).map_or(Kind::Text, |key| key.kind);
        let value = if kind == Kind::Secret { "…".to_owned() } else { value.to_owned() };
        let source_of_value = setting.source.clone();
        self.errors.push(ConfigError::Value { key: name, value, source_of_value, expected: kind.expected() });
    }

    /// A number above 0.
    fn count(&mut self, name: &'static str) -> Option<usize> {
        let count = self.one(name)?;
        if count == 0 {
            self.bad(name, "0");
        }
        (count > 0).then_some(count)
    }

    fn port(&mut self, name: &'static str) -> Option<u16> {
        let port = self.one(name)?;
        if port == 0 {
            self.bad(name, "0");
        }
        (port > 0).then_some(port)
    }

    fn https(&mut self) -> Option<(SocketAddr, TlsSource)> {
        let address: Option<SocketAddr> = self.one("https");
        let (cert, key) = (self.one::<PathBuf>("tls-cert"), self.one::<PathBuf>("tls-key"));
        let self_signed = self.one("tls-self-signed").unwrap_or(false);
        let source = match (cert, key, self_signed) {
            (Some(cert), Some(key), false) => Some(TlsSource::Files { cert, key }),
            (None, None, true) => Some(TlsSource::SelfSigned),
            (None, None, false) => None,
            (_, _, true) => {
                return self.contradiction("--tls-self-signed goes without --tls-cert and --tls-key");
            }
            (Some(_), None, false) => return self.contradiction("--tls-cert needs --tls-key"),
            (None, Some(_), false) => return self.contradiction("--tls-key needs --tls-cert"),
        };
        match (address, source) {
            (Some(address), Some(source)) => Some((address, source)),
            (Some(_), None) => {
                self.contradiction("--https needs --tls-cert and --tls-key, or --tls-self-signed")
            }
            (None, Some(_)) if self.settings.get("https").is_none() => {
                self.contradiction("a certificate is given but no listener for it: add --https ADDR:PORT")
            }
            (None, _) => None,
        }
    }

    pub(super) fn contradiction<T>(&mut self, text: &'static str) -> Option<T> {
        self.errors.push(ConfigError::Contradiction(text));
        None
    }

    fn open(&mut self, closed_world: bool) -> OpenMode {
        match self.one("open") {
            Some(true) => OpenMode::Everyone,
            Some(false) => OpenMode::Off,
            None if closed_world => OpenMode::ThisHost,
            None => OpenMode::Off,
        }
    }

    fn token(&mut self) -> TokenSource {
        match (self.one::<String>("api-token"), self.one::<PathBuf>("api-token-file")) {
            (Some(_), Some(_)) => {
                let both = ConfigError::Contradiction("--api-token and --api-token-file exclude each other");
                self.errors.push(both);
                TokenSource::Generated
            }
            (Some(token), None) => TokenSource::Value(token),
            (None, Some(path)) => TokenSource::File(path),
            (None, None) => TokenSource::Generated,
        }
    }

    /// The cores of the workers: those listed or all allowed, as many as workers are wanted.
    fn cores(&mut self, udp_port: u16, udp_mux: bool) -> Vec<usize> {
        let allowed = interfaces::allowed_cores();
        let workers = self.count("workers");
        let listed: Vec<usize> =
            self.many::<CoreRange>("cores").into_iter().flat_map(|range| range.0).collect();
        for &core in listed.iter().filter(|core| !allowed.contains(core)) {
            self.errors.push(ConfigError::CoreNotAllowed { core, allowed: allowed.clone() });
        }
        let mut sorted = listed.clone();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            self.errors
                .push(ConfigError::Contradiction("--cores names a core twice; each worker needs its own"));
        }
        let mut cores = if listed.is_empty() { allowed } else { listed };
        if workers.is_none() {
            cores.truncate(WORKERS_MAX);
        }
        let wanted = workers.unwrap_or(cores.len());
        if wanted > cores.len().min(WORKERS_MAX) {
            let cores = cores.len().min(WORKERS_MAX);
            self.errors.push(ConfigError::TooManyWorkers { workers: wanted, cores });
        }
        cores.truncate(wanted);
        if !udp_mux && usize::from(udp_port) + cores.len() > usize::from(u16::MAX) + 1 {
            self.errors.push(ConfigError::PortRange { port: udp_port, workers: cores.len() });
        }
        cores
    }

    fn control(&mut self, state_dir: &Path) -> PathBuf {
        let path: PathBuf = self.one("control").unwrap_or_else(|| state_dir.join("control.sock"));
        if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            self.errors.push(ConfigError::SocketPath { path: path.clone() });
        }
        path
    }

    fn limits(&mut self) -> HttpLimits {
        let timeout = self.one::<f64>("http-timeout").and_then(|seconds| {
            let good = seconds > 0.0 && seconds <= HTTP_TIMEOUT_MAX;
            if !good {
                self.bad("http-timeout", &seconds.to_string());
            }
            good.then(|| Duration::from_secs_f64(seconds))
        });
        HttpLimits {
            connections: self.count("http-connections").unwrap_or(HTTP_CONNECTIONS_DEFAULT),
            timeout: timeout.unwrap_or(HTTP_TIMEOUT_DEFAULT),
        }
    }

    /// Two listeners cannot share an address. Port 0 asks the kernel for any free one.
    fn listeners(&mut self, config: &Config) {
        let https = config.https.as_ref().map(|(address, _)| *address);
        let listeners: Vec<SocketAddr> =
            [Some(config.http), https, config.metrics].into_iter().flatten().collect();
        for (index, address) in listeners.iter().enumerate() {
            if address.port() != 0 && listeners[index + 1..].contains(address) {
                let same = "--http, --https and --metrics need an address and port of their own each";
                self.errors.push(ConfigError::Contradiction(same));
            }
        }
        if let Some(port) = config.tcp_port
            && listeners.iter().any(|address| address.port() == port)
        {
            let same = "--tcp-port, which is the first UDP port's number unless given, is the port of --http, --https or \
                        --metrics too; choose another, or 0 for none";
            self.errors.push(ConfigError::Contradiction(same));
        }
    }
}

/// `https://host[:port][/path]`, kept without the slash at its end.
struct PublicUrl(String);

impl FromStr for PublicUrl {
    type Err = ();

    fn from_str(text: &str) -> Result<PublicUrl, ()> {
        let uri: hyper::Uri = text.parse().map_err(|_| ())?;
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        let clean = scheme && uri.host().is_some_and(|host| !host.is_empty()) && uri.query().is_none();
        let user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if !clean || user || text.contains('#') {
            return Err(());
        }
        Ok(PublicUrl(text.trim_end_matches('/').to_owned()))
    }
}

impl FromStr for NoPublisher {
    type Err = ();

    fn from_str(text: &str) -> Result<NoPublisher, ()> {
        match text {
            "wait" => Ok(NoPublisher::Wait),
            "refuse" => Ok(NoPublisher::Refuse),
            _ => Err(()),
        }
    }
}

/// Directives of `tracing_subscriber`.
struct LogFilter(String);

impl FromStr for LogFilter {
    type Err = ();

    fn from_str(text: &str) -> Result<LogFilter, ()> {
        tracing_subscriber::EnvFilter::try_new(text).map_err(|_| ())?;
        Ok(LogFilter(text.to_owned()))
    }
}

/// `3` or `2-5`.
struct CoreRange(std::ops::RangeInclusive<usize>);

impl FromStr for CoreRange {
    type Err = ();

    fn from_str(text: &str) -> Result<CoreRange, ()> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let core = |text: &str| text.trim().parse::<u16>().map(usize::from).map_err(|_| ());
        let range = core(first)?..=core(last)?;
        if range.is_empty() { Err(()) } else { Ok(CoreRange(range)) }
    }
}
