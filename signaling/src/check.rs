//! `uringcast check`: what would happen at start, and what a client would see.

use crate::auth::token::ApiToken;
use crate::candidates;
use crate::config::{self, Config};
use crate::error::StartError;
use crate::first_screen;
use crate::http::tls::Tls;
use crate::start;
use sfu::config::MediaConfig;
use sfu::driver::{open_listeners, open_sockets, probe};
use std::net::{SocketAddr, TcpListener};

/// Prints every finding.
///
/// # Errors
/// At least one of them would stop a start.
pub fn run(config: &Config) -> Result<(), StartError> {
    let mut failed = 0;
    for (label, finding) in findings(config) {
        match finding {
            Ok(text) => first_screen::say(&format!("ok    {label:<11} {text}\n")),
            Err(error) => {
                failed += 1;
                first_screen::say(&format!("FAIL  {label:<11} {error}\n"));
            }
        }
    }
    for variable in config::unknown_variables() {
        first_screen::say(&format!("warn  environment {variable}\n"));
    }
    if failed == 0 { Ok(()) } else { Err(StartError::Check(failed)) }
}

type Finding = (&'static str, Result<String, StartError>);

fn findings(config: &Config) -> Vec<Finding> {
    let state_dir = start::make_state_dir(&config.state_dir);
    let token = state_dir.and_then(|()| ApiToken::find(&config.token, &config.state_dir));
    let mut findings = vec![
        ("state", token.map(|_| config.state_dir.display().to_string())),
        ("http", listener(config.http, "--http")),
    ];
    if let Some((address, source)) = &config.https {
        findings.push(("https", listener(*address, "--https")));
        let names = start::certificate_names(config, *address);
        let tls = names.and_then(|names| Tls::load(source, &config.state_dir, names.clone()).map(|_| names));
        findings.push(("certificate", tls.map(|names| format!("usable; this host is {}", names.join(", ")))));
    }
    if let Some(address) = config.metrics {
        findings.push(("metrics", listener(address, "--metrics")));
    }
    findings.extend(media(config));
    findings.push(("access", Ok(first_screen::access(config))));
    findings
}

fn listener(address: SocketAddr, key: &'static str) -> Result<String, StartError> {
    TcpListener::bind(address).map_err(|cause| StartError::listen(address, key, cause))?;
    Ok(address.to_string())
}

fn media(config: &Config) -> Vec<Finding> {
    let media = match config.media() {
        Ok(media) => media,
        Err(cause) => return vec![("media", Err(StartError::Interfaces(cause)))],
    };
    let mut findings = vec![("kernel", kernel(&media))];
    if media.bind.is_empty() {
        findings.push(("media", Err(StartError::Engine(sfu::error::StartError::NoAddress))));
    }
    if let Some(port) = media.tcp_port {
        let addresses: Vec<SocketAddr> = media.bind.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        let bound = open_listeners(&media.bind, port).map_err(StartError::Engine);
        let candidates = candidates::ordered(&addresses, &config.public_ip, config.http.ip());
        findings.push(("tcp", bound.map(|_| format!("candidates of all workers {}", list(&candidates)))));
    }
    for (core, port) in media.cores.iter().zip(media.udp_ports()) {
        let addresses: Vec<SocketAddr> = media.bind.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        let bound = open_sockets(&media.bind, port).map_err(StartError::Engine);
        let candidates = candidates::ordered(&addresses, &config.public_ip, config.http.ip());
        findings.push(("worker", bound.map(|_| format!("core {core}, candidates {}", list(&candidates)))));
    }
    findings
}

fn list(candidates: &[SocketAddr]) -> String {
    candidates.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn kernel(media: &MediaConfig) -> Result<String, StartError> {
    let facts = probe(media.descriptors_needed())?;
    Ok(format!("Linux {}: io_uring works, {} file descriptors", facts.release, facts.descriptors))
}
