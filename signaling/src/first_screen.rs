//! What a person sees after the start: what to open, what to paste into OBS, where media listens.

use crate::auth::{open, token};
use crate::config::{Config, OpenMode, TokenSource, interfaces};
use sfu::config::MediaConfig;
use sfu::control::protocol::WorkerInfo;
use std::io::{IsTerminal, Write};
use std::net::{IpAddr, SocketAddr};

/// Prints the first screen. `listeners` are as bound: HTTP, then HTTPS if there is one.
pub fn print(config: &Config, listeners: &[SocketAddr], workers: Option<&[WorkerInfo]>) {
    let base = base_url(config, listeners);
    let mut rows = rows(config, &base, workers);
    rows.push(("Listens", vec![listens(config, listeners)]));
    say(&render(&rows, std::io::stdout().is_terminal()));
}

/// Writes to stdout. A reader who has gone, as after `| head`, is no reason to end.
pub fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// What a hint calls the port of HTTPS, beside the default 8080 of HTTP.
const HTTPS_PORT: u16 = 8443;

/// A label and its lines.
type Row = (&'static str, Vec<String>);

fn rows(config: &Config, base: &str, workers: Option<&[WorkerInfo]>) -> Vec<Row> {
    let mut rows = vec![
        ("Publish", publish(config, base)),
        ("Watch", vec![format!("{base}/watch/demo")]),
        ("ffmpeg", vec![ffmpeg(config, base)]),
        ("OBS", obs(config, base)),
    ];
    match workers {
        Some(workers) => rows.extend(media(workers, &config.public_ip)),
        None => rows.push(("Media", vec![format!("waiting for it at {}", config.control.display())])),
    }
    rows.push(("Access", vec![access(config)]));
    rows
}

/// A browser opens no camera on a page of plain HTTP, except on one of its own host (Secure Contexts §3.1).
fn publish(config: &Config, base: &str) -> Vec<String> {
    let mut lines = vec![format!("{base}/publish/demo")];
    let authority = base.strip_prefix("http://").and_then(|rest| rest.split('/').next());
    if !authority.is_none_or(open::is_loopback_authority) {
        let cure = match &config.public_url {
            Some(_) => "give --public-url an https:// URL".to_owned(),
            None => {
                format!("add --https {} --tls-self-signed", SocketAddr::new(config.http.ip(), HTTPS_PORT))
            }
        };
        lines.push(format!("browsers open cameras on https:// pages only: {cure}"));
    }
    lines
}

/// Aligned, labels in bold on a terminal.
fn render(rows: &[Row], colour: bool) -> String {
    let (bold, plain) = if colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let mut text = format!("\n  {bold}uringcast {}{plain}\n\n", env!("CARGO_PKG_VERSION"));
    for (label, lines) in rows {
        for (index, line) in lines.iter().enumerate() {
            let label = if index == 0 { *label } else { "" };
            text += &format!("  {bold}{label:<8}{plain}  {line}\n");
        }
    }
    text + "\n"
}

/// The listeners as bound, which differ from the configuration where that says port 0.
fn listens(config: &Config, listeners: &[SocketAddr]) -> String {
    let kinds = [Some("http"), config.https.as_ref().map(|_| "https"), config.metrics.map(|_| "metrics")];
    let pairs = kinds.into_iter().flatten().zip(listeners);
    list(pairs.map(|(kind, address)| format!("{kind} {address}")))
}

/// The URL that a person on this host can open.
pub fn base_url(config: &Config, listeners: &[SocketAddr]) -> String {
    if let Some(url) = &config.public_url {
        return url.clone();
    }
    let https = config.https.is_some().then(|| listeners.get(1)).flatten();
    let (scheme, address) = match https {
        // A browser gives camera and microphone to pages of HTTPS and of loopback names only.
        Some(https) if !config.http.ip().is_loopback() => ("https", *https),
        _ => ("http", listeners.first().copied().unwrap_or(config.http)),
    };
    format!("{scheme}://{}", reachable(address))
}

/// A listener on every address is reached by one of them.
fn reachable(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    let usable = interfaces::usable_addresses(true).unwrap_or_default();
    let fits = |ip: &&IpAddr| ip.is_ipv4() || address.is_ipv6();
    let best = usable.iter().filter(fits).min_by_key(|ip| (ip.is_loopback(), ip.is_ipv6()));
    SocketAddr::new(best.copied().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)), address.port())
}

fn needs_token(config: &Config) -> bool {
    config.open == OpenMode::Off
}

/// A test picture that every browser plays. Viewers of ffmpeg wait for its next key frame, so there is one a second.
fn ffmpeg(config: &Config, base: &str) -> String {
    let token = if needs_token(config) {
        format!("-authorization \"{}\" ", token_shell(config))
    } else {
        String::new()
    };
    format!(
        "ffmpeg -re -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine -c:v libx264 -profile:v baseline \
         -pix_fmt yuv420p -bf 0 -g 30 -tune zerolatency -c:a libopus -ar 48000 -ac 2 {token}-f whip {base}/demo/whip"
    )
}

fn obs(config: &Config, base: &str) -> Vec<String> {
    let token = if needs_token(config) { token_place(config) } else { "leave it empty".to_owned() };
    vec![
        format!("Settings > Stream: Service WHIP, Server {base}/demo/whip, Bearer Token: {token}"),
        "Settings > Output: x264, Keyframe Interval 1 s, Profile baseline, Tune zerolatency, no B-frames"
            .to_owned(),
    ]
}

fn media(workers: &[WorkerInfo], public: &[IpAddr]) -> Vec<Row> {
    let udp = workers.iter().filter_map(|worker| worker.addresses.first()).map(SocketAddr::port);
    let tcp = workers.first().and_then(|worker| worker.tcp_addresses.first()).map(SocketAddr::port);
    let ports = ports(udp, tcp);
    let addresses = workers.first().map(|worker| list(worker.addresses.iter().map(SocketAddr::ip)));
    let told = match public {
        [] => String::new(),
        public => format!("; clients are told {} (--public-ip)", list(public.iter())),
    };
    let (plural, cores) =
        (if workers.len() == 1 { "" } else { "s" }, list(workers.iter().map(|worker| worker.core)));
    vec![
        ("Media", vec![format!("{ports} on {}{told}", addresses.unwrap_or_default())]),
        ("Workers", vec![format!("{} on core{plural} {cores}", workers.len())]),
    ]
}

/// What media alone says when it is ready, for it has no first screen.
pub fn media_listens(media: &MediaConfig) -> String {
    let (ports, addresses) = (ports(media.udp_ports(), media.tcp_port), list(media.bind.iter()));
    format!("{ports} on {addresses}, steered at {}", media.control.display())
}

/// `udp` has the port of each worker.
fn ports(mut udp: impl Iterator<Item = u16>, tcp: Option<u16>) -> String {
    let first = udp.next();
    let range = match (first, udp.last().or(first)) {
        (Some(first), Some(last)) if first != last => format!("UDP {first}-{last}"),
        (Some(port), _) => format!("UDP {port}"),
        _ => "no UDP port".to_owned(),
    };
    range + &tcp.map_or(String::new(), |port| format!(" and TCP {port}"))
}

fn list(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// Who may come in, and how.
pub fn access(config: &Config) -> String {
    match config.open {
        OpenMode::ThisHost => format!(
            "open to this host only, because every listener is loopback. Others need --http 0.0.0.0:{}",
            config.http.port()
        ),
        OpenMode::Everyone => "open: anyone may publish to and watch any name (--open)".to_owned(),
        OpenMode::Off => format!("`Authorization: Bearer <API token>`; the token: {}", token_place(config)),
    }
}

fn token_place(config: &Config) -> String {
    match &config.token {
        TokenSource::Value(_) => "the value of --api-token".to_owned(),
        TokenSource::File(path) => format!("in {}", path.display()),
        TokenSource::Generated => format!("in {}", config.state_dir.join(token::FILE).display()),
    }
}

fn token_shell(config: &Config) -> String {
    match &config.token {
        TokenSource::Value(_) => "$URINGCAST_API_TOKEN".to_owned(),
        TokenSource::File(path) => format!("$(cat {})", path.display()),
        TokenSource::Generated => format!("$(cat {})", config.state_dir.join(token::FILE).display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{load, load_from};
    use sfu::control::protocol::WorkerInfo;

    fn screen(args: &[&str]) -> String {
        let args = std::iter::once("uringcast").chain(args.iter().copied());
        let matches = load::command().try_get_matches_from(args).expect("grammar");
        let config = load_from(&matches, |_| None).map_err(|errors| format!("{errors:?}")).expect("config").1;
        let worker = |core: usize| WorkerInfo {
            core,
            addresses: vec![SocketAddr::new([127, 0, 0, 1].into(), 8200 + core as u16)],
            tcp_addresses: vec![SocketAddr::new([127, 0, 0, 1].into(), 8200)],
        };
        let https = config.https.as_ref().map(|(address, _)| *address);
        let listeners: Vec<SocketAddr> = std::iter::once(config.http).chain(https).collect();
        let base = base_url(&config, &listeners);
        render(&rows(&config, &base, Some(&[worker(0), worker(1)])), false)
    }

    #[test]
    fn a_person_finds_what_to_open_and_where_media_listens() {
        let screen = screen(&[]);
        assert!(screen.contains("Publish   http://127.0.0.1:8080/publish/demo\n"), "{screen}");
        assert!(screen.contains("Media     UDP 8200-8201 and TCP 8200 on 127.0.0.1\n"), "{screen}");
        assert!(screen.contains("Workers   2 on cores 0, 1\n"), "{screen}");
        assert!(screen.contains("-f whip http://127.0.0.1:8080/demo/whip\n"), "{screen}");
        assert!(!screen.contains('\x1b'));
    }

    #[test]
    fn who_wants_to_let_others_in_is_told_how_with_the_port_that_was_chosen() {
        assert!(screen(&[]).contains("Others need --http 0.0.0.0:8080"));
        let screen = screen(&["--http", "127.0.0.1:9000"]);
        assert!(screen.contains("Others need --http 0.0.0.0:9000"), "{screen}");
    }

    #[test]
    fn where_no_browser_would_open_a_camera_the_cure_is_said() {
        let hint = "only: add --https 192.0.2.1:8443 --tls-self-signed\n";
        assert!(screen(&["--http", "192.0.2.1:8080"]).contains(hint));
        assert!(
            screen(&["--public-url", "http://example.org"]).contains("give --public-url an https:// URL")
        );
        let https = ["--http", "192.0.2.1:8080", "--https", "192.0.2.1:8443", "--tls-self-signed"];
        for safe in [&[][..], &["--http", "[::1]:8080"], &["--public-url", "https://example.org"], &https] {
            assert!(!screen(safe).contains("cameras"), "{safe:?}");
        }
    }

    #[test]
    fn a_public_address_stands_beside_those_that_media_is_bound_to() {
        let screen = screen(&["--public-ip", "203.0.113.7,2001:db8::7"]);
        assert!(
            screen.contains("on 127.0.0.1; clients are told 203.0.113.7, 2001:db8::7 (--public-ip)\n"),
            "{screen}"
        );
    }

    #[test]
    fn media_alone_says_where_it_listens_and_where_it_is_steered() {
        let media = |udp_mux| MediaConfig {
            control: "/run/uringcast/control.sock".into(),
            bind: vec![[127, 0, 0, 1].into(), [192, 0, 2, 1].into()],
            udp_port: 8200,
            udp_mux,
            tcp_port: (!udp_mux).then_some(8300),
            cores: vec![0, 1, 2],
            config_hash: 0,
        };
        let rest = "on 127.0.0.1, 192.0.2.1, steered at /run/uringcast/control.sock";
        assert_eq!(media_listens(&media(false)), format!("UDP 8200-8202 and TCP 8300 {rest}"));
        assert_eq!(media_listens(&media(true)), format!("UDP 8200 {rest}"));
    }

    #[test]
    fn a_closed_server_says_where_the_token_is() {
        let screen = screen(&["--http", "192.0.2.1:80"]);
        assert!(
            screen.contains("-authorization \"$(cat ./uringcast-state/api-token)\"")
                || screen.contains("$(cat uringcast-state/api-token)"),
            "{screen}"
        );
        assert!(screen.contains("Bearer Token: in "), "{screen}");
    }
}
