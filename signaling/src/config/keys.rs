//! The table of keys. Flags, environment, file, `--help` and the documentation all come from it.

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// On or off.
    Flag,
    /// Anything.
    Text,
    /// What is logged, as `tracing_subscriber::EnvFilter` reads it.
    Filter,
    /// Anything, kept out of child processes and logs.
    Secret,
    /// A file or folder.
    Path,
    /// `http://` or `https://` URL.
    Url,
    /// URL of a STUN or TURN server.
    IceServer,
    /// An IP address.
    Ip,
    /// An IP address with a port.
    Socket,
    /// A UDP port.
    Port,
    /// A TCP port, 0 for none.
    PortOrNone,
    /// A number of things, at least 1.
    Count,
    /// CPU numbers and ranges.
    Cores,
    /// Seconds, decimals allowed.
    Seconds,
    /// One of these words, written with `|` between them.
    Word(&'static str),
}

impl Kind {
    /// The placeholder in `--help`.
    pub fn placeholder(self) -> &'static str {
        match self {
            Kind::Flag => "true|false",
            Kind::Text | Kind::Filter => "TEXT",
            Kind::Secret => "TOKEN",
            Kind::Path => "PATH",
            Kind::Url | Kind::IceServer => "URL",
            Kind::Ip => "ADDR",
            Kind::Socket => "ADDR:PORT",
            Kind::Port | Kind::PortOrNone => "PORT",
            Kind::Count => "N",
            Kind::Cores => "LIST",
            Kind::Seconds => "SECONDS",
            Kind::Word(words) => words,
        }
    }

    /// Ends the sentence "… is not".
    pub fn expected(self) -> &'static str {
        match self {
            Kind::Flag => "true or false",
            Kind::Text | Kind::Secret | Kind::Path => "a text of at least one character",
            Kind::Filter => {
                "a filter such as info or uringcast=debug,info; levels are error, warn, info, debug and trace"
            }
            Kind::Url => "a URL such as https://live.example.com, without query",
            Kind::IceServer => {
                "a URL such as stun:stun.example.com:3478 or turn:turn.example.com:3478?transport=udp"
            }
            Kind::Ip => "an IP address such as 192.0.2.1 or 2001:db8::1",
            Kind::Socket => "an IP address with a port, such as 127.0.0.1:8080 or [::]:8080",
            Kind::Port => "a port from 1 to 65535",
            Kind::PortOrNone => "a port from 1 to 65535, or 0 for none",
            Kind::Count => "a whole number from 1 up",
            Kind::Cores => "a list of CPU numbers such as 0,2-3",
            Kind::Seconds => "a number of seconds above 0, such as 10 or 0.5",
            Kind::Word(words) => words,
        }
    }
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// `--name`, and the name in the file. The variable is `URINGCAST_NAME` with `_` for `-`.
    pub name: &'static str,
    /// What its values look like.
    pub kind: Kind,
    /// The default in words, empty for none.
    pub default: &'static str,
    /// May be given several times, or as a list with commas.
    pub repeatable: bool,
    /// Read again at SIGHUP.
    pub reloadable: bool,
    /// Means nothing to media, and some of it may not even be complete there, because secrets stay with signaling.
    pub signaling_only: bool,
    /// One sentence.
    pub help: &'static str,
}

impl Key {
    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.to_uppercase().replace('-', "_"))
    }

    const fn repeatable(mut self) -> Key {
        self.repeatable = true;
        self
    }

    const fn reloadable(mut self) -> Key {
        self.reloadable = true;
        self
    }

    const fn signaling_only(mut self) -> Key {
        self.signaling_only = true;
        self
    }
}

const fn key(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key { name, kind, default, repeatable: false, reloadable: false, signaling_only: false, help }
}

/// The key that names the file itself; the only one that a file cannot hold.
pub const CONFIG: &str = "config";

/// Every key, in the order of `--help`.
pub const KEYS: &[Key] = &[
    key(CONFIG, Kind::Path, "", "TOML file with these keys; flags and environment beat it"),
    key("http", Kind::Socket, "127.0.0.1:8080", "where HTTP listens"),
    key(
        "https",
        Kind::Socket,
        "",
        "where HTTPS listens; needs --tls-cert and --tls-key, or --tls-self-signed",
    ),
    key("tls-cert", Kind::Path, "", "PEM file with the certificate chain").reloadable(),
    key("tls-key", Kind::Path, "", "PEM file with the private key").reloadable(),
    key("tls-self-signed", Kind::Flag, "false", "make a certificate and keep it in the state directory"),
    key(
        "public-url",
        Kind::Url,
        "",
        "base of every URL handed out, when a proxy or a name stands before this host",
    ),
    key(
        "open",
        Kind::Flag,
        "this host only, if every listener is loopback",
        "anyone may publish to and watch any name",
    ),
    key(
        "no-publisher",
        Kind::Word("wait|refuse"),
        "wait",
        "a viewer whose stream nobody publishes waits in a session, or is refused with 409 and tries again",
    ),
    key("api-token", Kind::Secret, "generated once", "the token that allows everything").reloadable(),
    key("api-token-file", Kind::Path, "", "file that holds the API token").reloadable(),
    key("metrics", Kind::Socket, "", "own listener for /metrics, without a token"),
    key("udp-port", Kind::Port, "8200", "first UDP port of media; worker i uses this port + i"),
    key("udp-mux", Kind::Flag, "false", "all workers share the first UDP port, for a firewall that opens one"),
    key(
        "tcp-port",
        Kind::PortOrNone,
        "the first UDP port's number",
        "TCP port of media, for clients whose UDP is blocked; one for all workers, 0 for none",
    ),
    key(
        "bind",
        Kind::Ip,
        "every usable address",
        "address on which media listens; 0.0.0.0 and :: stand for every usable one of their family",
    )
    .repeatable(),
    key("public-ip", Kind::Ip, "", "address told to clients instead of the private one, behind 1:1 NAT")
        .repeatable(),
    key("ice-server", Kind::IceServer, "", "STUN or TURN server that clients are told of (Link header)")
        .repeatable()
        .reloadable()
        .signaling_only(),
    key(
        "turn-username",
        Kind::Text,
        "",
        "user name for the TURN servers; with --turn-secret it follows the expiry",
    )
    .reloadable()
    .signaling_only(),
    key("turn-credential", Kind::Secret, "", "password for the TURN servers, the same for everybody")
        .reloadable()
        .signaling_only(),
    key(
        "turn-secret",
        Kind::Secret,
        "",
        "secret shared with the TURN servers (coturn's static-auth-secret), which makes credentials that expire",
    )
    .reloadable()
    .signaling_only(),
    key("turn-lifetime", Kind::Seconds, "86400", "how long credentials made of --turn-secret are good")
        .reloadable()
        .signaling_only(),
    key(
        "strict-etag",
        Kind::Flag,
        "false",
        "refuse every PATCH whose If-Match is missing or old; by default candidates of the current ICE session pass",
    )
    .signaling_only(),
    key("workers", Kind::Count, "one per core", "media workers, one core each"),
    key("cores", Kind::Cores, "all allowed", "cores that the workers are pinned to").repeatable(),
    key("state-dir", Kind::Path, "./uringcast-state", "folder of what must survive a restart"),
    key("control", Kind::Path, "STATE_DIR/control.sock", "Unix socket between signaling and media"),
    key(
        "http-connections",
        Kind::Count,
        "4096",
        "HTTP connections at once; above, the oldest one without a request in progress is closed",
    ),
    key("http-timeout", Kind::Seconds, "10", "time in which a client must have sent its request"),
    key("log", Kind::Filter, LOG, "what is logged to stderr, such as debug or uringcast=debug,info")
        .reloadable(),
];

/// What is logged by default. Of HTTP/2 errors alone: a stranger who resets its streams makes the library warn of each connection.
pub const LOG: &str = "info,h2=error";

/// Finds a key by name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// What the names of all variables begin with.
pub const PREFIX: &str = "URINGCAST_";

/// The key that somebody who wrote `name` may have meant.
pub fn nearest(name: &str) -> Option<&'static str> {
    let name = name.replace('_', "-");
    let nearest = KEYS.iter().map(|key| (distance(key.name, &name), key.name)).min()?;
    // A third of the letters wrong: more is another word.
    (nearest.0 <= (name.chars().count() / 3).min(3)).then_some(nearest.1)
}

/// Levenshtein's distance, row by row.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, right) in b.chars().enumerate() {
            let substituted = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

/// The table of the documentation.
pub fn markdown() -> String {
    let mut table = String::from("| Key | Value | Default | Reload | Meaning |\n|---|---|---|---|---|\n");
    for key in KEYS {
        let repeat = if key.repeatable { ", repeatable" } else { "" };
        let reload = if key.reloadable { "SIGHUP" } else { "" };
        let value = key.kind.placeholder().replace('|', "\\|");
        table +=
            &format!("| `{}` | {value}{repeat} | {} | {reload} | {} |\n", key.name, key.default, key.help);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_fit_flags_and_variables() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(key.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", key.name);
            assert!(KEYS[index + 1..].iter().all(|other| other.name != key.name), "{}", key.name);
        }
        assert_eq!(find("udp-port").map(Key::variable).as_deref(), Some("URINGCAST_UDP_PORT"));
    }

    #[test]
    fn a_typo_finds_the_key_that_was_meant() {
        assert_eq!(nearest("udp_port"), Some("udp-port"));
        assert_eq!(nearest("pubic-url"), Some("public-url"));
        assert_eq!(nearest("certificate"), None);
        assert_eq!(nearest("env"), None);
    }

    #[test]
    fn the_documentation_has_a_row_for_every_key() {
        assert_eq!(markdown().lines().count(), KEYS.len() + 2);
    }
}
