//! Configuration: one table of keys, three sources, all errors at once.

mod ice_servers;
pub mod interfaces;
pub mod keys;
pub mod load;
mod values;

pub use ice_servers::{IceServers, TurnCredentials};
use load::Settings;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// What the program was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Signaling, with media as its child.
    Serve,
    /// Signaling alone.
    Signaling,
    /// Media alone.
    Media,
    /// Say what would happen.
    Check,
    /// Print the table of keys.
    Keys,
}

/// Where the certificate of `--https` comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsSource {
    /// PEM files.
    Files {
        /// Chain, leaf first.
        cert: PathBuf,
        /// Private key.
        key: PathBuf,
    },
    /// Made by us, kept in the state directory.
    SelfSigned,
}

/// Where the API token comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// Given.
    Value(String),
    /// Read from a file.
    File(PathBuf),
    /// Generated once and kept in the state directory.
    Generated,
}

/// Who needs no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Nobody.
    Off,
    /// Requests that never left this host: the default while every listener is loopback.
    ThisHost,
    /// Anyone, by `--open`.
    Everyone,
}

/// What becomes of a viewer whose stream nobody publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPublisher {
    /// It gets a session and sees the picture as soon as there is one.
    Wait,
    /// 409; it has to try again.
    Refuse,
}

/// Bounds of the HTTP listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections at once, over all listeners.
    pub connections: usize,
    /// Time to send a request, head and body each.
    pub timeout: Duration,
}

/// The validated configuration.
#[derive(Clone)]
pub struct Config {
    /// Plain HTTP.
    pub http: SocketAddr,
    /// HTTPS with its certificate.
    pub https: Option<(SocketAddr, TlsSource)>,
    /// Own listener for `/metrics`.
    pub metrics: Option<SocketAddr>,
    /// Base of URLs, without a slash at the end.
    pub public_url: Option<String>,
    /// Who needs no token.
    pub open: OpenMode,
    /// What becomes of a viewer without a publisher.
    pub no_publisher: NoPublisher,
    /// The API token.
    pub token: TokenSource,
    /// Media's addresses as written; empty means every usable one, an unspecified one every usable one of its family.
    pub bind: Vec<IpAddr>,
    /// First UDP port.
    pub udp_port: u16,
    /// Whether all workers share it.
    pub udp_mux: bool,
    /// The TCP port of media; none for UDP alone.
    pub tcp_port: Option<u16>,
    /// Advertised first.
    pub public_ip: Vec<IpAddr>,
    /// STUN and TURN servers for clients.
    pub ice_servers: IceServers,
    /// Whether every PATCH must name its ICE session by entity tag, as RFC 9725 §4.3.1 has it.
    pub strict_etag: bool,
    /// One worker each.
    pub cores: Vec<usize>,
    /// What survives a restart.
    pub state_dir: PathBuf,
    /// The control socket.
    pub control: PathBuf,
    /// Bounds of HTTP.
    pub limits: HttpLimits,
    /// Filter of the log.
    pub log: String,
    /// As written, for the child process and for reloads.
    pub settings: Settings,
}

/// One mistake in the configuration.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is its message")]
pub enum ConfigError {
    #[error("cannot read {}: {cause}. Correct --config, or the file's permissions", path.display())]
    FileUnreadable { path: PathBuf, cause: std::io::Error },
    #[error("{} is not TOML: {cause}", path.display())]
    FileSyntax { path: PathBuf, cause: Box<toml::de::Error> },
    #[error("{}: there is no key {name:?}{}", path.display(), hint(*suggestion))]
    UnknownKey { path: PathBuf, name: String, suggestion: Option<&'static str> },
    #[error("{}: {key} must be a text, a number, true, false or a list of them", path.display())]
    FileType { path: PathBuf, key: &'static str },
    #[error("--{key}: {value:?} {source_of_value} is not {expected}")]
    Value { key: &'static str, value: String, source_of_value: load::Source, expected: &'static str },
    #[error("--{key} is given {count} times {source_of_value}; it takes one value")]
    Repeated { key: &'static str, count: usize, source_of_value: load::Source },
    #[error("{0}")]
    Contradiction(&'static str),
    #[error(
        "--cores: this process may not run on core {core}, only on {allowed:?}; correct the list or the affinity"
    )]
    CoreNotAllowed { core: usize, allowed: Vec<usize> },
    #[error("--workers {workers} needs as many cores, but there are {cores}; lower it or extend --cores")]
    TooManyWorkers { workers: usize, cores: usize },
    #[error("--control: {} is longer than the 107 bytes that a Unix socket's path may have; choose a shorter one", path.display())]
    SocketPath { path: PathBuf },
    #[error(
        "--udp-port {port} leaves no room for {workers} workers below 65536; choose a lower port, or --udp-mux"
    )]
    PortRange { port: u16, workers: usize },
}

fn hint(suggestion: Option<&'static str>) -> String {
    match suggestion {
        Some(name) => format!("; did you mean {name:?}?"),
        None => "; `uringcast keys` lists them all".to_owned(),
    }
}

/// Reads argv, environment and file.
///
/// # Errors
/// Every mistake at once. A mistake in the command line's grammar, `--help` and `--version` end the process here.
pub fn load_process() -> Result<(Mode, Config), Vec<ConfigError>> {
    load_from(&load::matches(), |name| std::env::var(name).ok())
}

/// Variables of this process that look like keys and are none.
pub fn unknown_variables() -> Vec<load::UnknownVariable> {
    load::unknown_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))
}

/// [`load_process`] with everything it reads as arguments.
pub fn load_from(
    matches: &clap::ArgMatches,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<(Mode, Config), Vec<ConfigError>> {
    let mode = match matches.subcommand_name() {
        Some("signaling") => Mode::Signaling,
        Some("media") => Mode::Media,
        Some("check") => Mode::Check,
        Some("keys") => Mode::Keys,
        _ => Mode::Serve,
    };
    let matches = matches.subcommand().map_or(matches, |(_, matches)| matches);
    let mut errors = Vec::new();
    let settings = load::load(matches, environment, &mut errors);
    let config = values::Reader::new(&settings, &mut errors).config();
    match config {
        Some(config) if errors.is_empty() => Ok((mode, config)),
        _ => Err(errors),
    }
}

impl Config {
    /// The configuration of the media process, with its addresses looked up.
    ///
    /// # Errors
    /// The kernel does not tell the interfaces' addresses, or none fits.
    pub fn media(&self) -> std::io::Result<sfu::config::MediaConfig> {
        Ok(sfu::config::MediaConfig {
            control: self.control.clone(),
            bind: self.media_addresses()?,
            udp_port: self.udp_port,
            udp_mux: self.udp_mux,
            tcp_port: self.tcp_port,
            cores: self.cores.clone(),
            config_hash: self.media_hash(),
        })
    }

    /// The addresses to bind, each by its name: a candidate cannot be "any address".
    fn media_addresses(&self) -> std::io::Result<Vec<IpAddr>> {
        if !self.bind.is_empty() && !self.bind.iter().any(IpAddr::is_unspecified) {
            return Ok(self.bind.clone());
        }
        let usable = interfaces::usable_addresses(self.http.ip().is_loopback())?;
        let addresses = interfaces::named(&self.bind, &usable);
        if addresses.is_empty() {
            let none = "no interface that is up has one of the wanted family";
            return Err(std::io::Error::new(std::io::ErrorKind::AddrNotAvailable, none));
        }
        Ok(addresses)
    }

    /// Identifies what a running media process was asked to be. Taken over the configuration as written, so that an
    /// interface that comes or goes does not drain a healthy media process.
    pub fn media_hash(&self) -> u64 {
        let loopback = self.http.ip().is_loopback();
        let ports = (self.udp_port, self.udp_mux, self.tcp_port);
        fnv1a(&format!("{:?} {loopback} {ports:?} {:?}", self.bind, self.cores))
    }
}

/// FNV-1a: unlike the standard library's hasher, the same in every release.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
