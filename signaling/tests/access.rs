//! Who may do what at the HTTP face of the real binary: tokens, hosts, and what is told to those who may.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use nix::sys::signal::Signal;
use std::io::Write;
use support::{Response, Server, TOKEN, bearer, eventually};

const WHIP: &str = include_str!("fixtures/offers/chromium-156-whip.sdp");
const WHEP: &str = include_str!("fixtures/offers/chromium-156-whep.sdp");

#[test]
fn open_mode_serves_this_host_alone() {
    let server = Server::start("open", &[]);
    let foreign: [&[(&str, &str)]; 5] = [
        &[("Host", "live.example.com")],
        &[("Origin", "https://evil.example.com")],
        &[("X-Forwarded-For", "192.0.2.1")],
        &[("Forwarded", "for=192.0.2.1")],
        &[("Via", "1.1 proxy")],
    ];
    for headers in foreign {
        let answer = server.post("/demo/whip", headers, WHIP);
        let detail = answer.problem(401);
        assert!(detail.contains("--open"), "{detail}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"uringcast\""));
        assert_eq!(server.request("GET", "/api/v1/streams", headers, "").status, 401);
        assert_eq!(server.request("GET", "/metrics", headers, "").status, 401);

        let (name, value) = bearer();
        let with_token = [headers, &[(name, value.as_str())]].concat();
        let answer = server.post("/demo/whip", &with_token, WHIP);
        assert_eq!(answer.status, 201, "{answer:?}");
        // The client knows our name where it named the socket that it reached, through no proxy.
        let absolute = headers[0].0 == "Origin";
        let location = answer.header("location").unwrap();
        assert_eq!(
            location.starts_with(&format!("http://{}/session/", server.address)),
            absolute,
            "{location}"
        );
        assert_eq!(location.starts_with("/session/"), !absolute, "{location}");
    }
    assert_eq!(server.post("/other/whip", &[("Origin", "http://localhost:3000")], WHIP).status, 201);
}

#[test]
fn a_closed_server_wants_the_token() {
    let server = Server::start("closed", &["--open=false", "--public-url", "https://live.example.com/"]);
    server.post("/demo/whip", &[], WHIP).problem(401);
    let wrong = [("Authorization", "Bearer 0123456789abcdef0123456789abcdee")];
    server.post("/demo/whip", &wrong, WHIP).problem(401);
    assert_eq!(server.request("OPTIONS", "/demo/whip", &[], "").status, 200);
    let (name, value) = bearer();
    let answer = server.post("/demo/whip", &[(name, &value)], WHIP);
    let location = answer.header("location").unwrap();
    assert!(location.starts_with("https://live.example.com/session/"), "{location}");
    assert_eq!(server.request("DELETE", &answer.session(), &[], "").status, 200);
}

#[test]
fn a_token_in_the_url_survives_a_redirect_and_is_never_repeated() {
    let server = Server::start("query-token", &["--open=false"]);
    let redirected = [("Origin", "null")];
    for end in ["whip", "whep"] {
        let offer = if end == "whip" { WHIP } else { WHEP };
        let answer = server.post(&format!("/demo/{end}?access_token={TOKEN}"), &redirected, offer);
        assert_eq!(answer.status, 201, "{answer:?}");
        assert!(!format!("{answer:?}").contains(TOKEN), "{answer:?}");
        let location = answer.header("location").unwrap();
        assert!(location.starts_with(&format!("http://{}/session/", server.address)), "{location}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        let wrong = server.post(&format!("/demo/{end}?access_token=0123456789abcdef"), &redirected, offer);
        assert_eq!(
            wrong.header("www-authenticate"),
            Some("Bearer realm=\"uringcast\", error=\"invalid_token\"")
        );
        assert!(!wrong.problem(401).contains("0123456789abcdef"));
    }
    assert_eq!(server.post("/bare/whip", &[("Authorization", TOKEN)], WHIP).status, 201);
    let (name, value) = bearer();
    let two = server.post("/demo/whip?access_token=0123456789abcdef", &[(name, &value)], WHIP);
    assert_eq!(two.header("www-authenticate"), Some("Bearer realm=\"uringcast\", error=\"invalid_request\""));
    assert!(two.problem(400).contains("Send one of them"));
    let proxied = [("Forwarded", "for=192.0.2.1")];
    server.request("GET", &format!("/metrics?access_token={TOKEN}"), &proxied, "").problem(401);
}

#[test]
fn a_request_names_its_host_once() {
    let server = Server::start("host", &["--open=false"]);
    let status = |head: &str| {
        let mut stream = server.connect();
        stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).unwrap();
        Response::read(stream)
    };
    assert!(status("GET /demo/whip HTTP/1.1\r\n").problem(400).contains("Host"));
    status("POST /demo/whip HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\nContent-Length: 0\r\n")
        .problem(400);
    status("POST /demo/whip HTTP/1.0\r\nContent-Length: 0\r\n").problem(401);
    assert_eq!(status("GET /healthz HTTP/1.0\r\n").status, 200);
    assert_eq!(
        status("GET /healthz HTTP/1.1\r\nHost:\r\n").status,
        200,
        "empty, where there is no authority"
    );
}

#[test]
fn at_sighup_clients_are_told_of_other_ice_servers() {
    let file = std::env::temp_dir().join(format!("uringcast-reload-{}.toml", std::process::id()));
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("ice-server = \"stun:old.example.com\"\n");
    let server = Server::start("reload", &["--config", file.to_str().unwrap()]);
    let told = || server.request("OPTIONS", "/demo/whip", &[], "").header("link").map(str::to_owned);
    assert_eq!(told().as_deref(), Some("<stun:old.example.com>; rel=\"ice-server\""));
    write("ice-server = \"turn:new.example.com\"\nturn-secret = \"north\"\n");
    server.signal(Signal::SIGHUP);
    eventually("the new one is told", || {
        told().is_some_and(|link| link.starts_with("<turn:new.example.com>; rel=\"ice-server\"; username="))
    });
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn clients_that_may_post_are_told_of_ice_servers() {
    let flags = [
        "--open=false",
        "--ice-server",
        "stun:stun.example.com",
        "--ice-server",
        "turn:turn.example.com:3478?transport=udp",
    ];
    let server = Server::start(
        "ice-servers",
        &[&flags[..], &["--turn-secret", "north", "--turn-username", "demo"]].concat(),
    );
    let (name, value) = bearer();
    let token = (name, value.as_str());
    let told = |answer: &Response| -> Vec<String> {
        let links = answer.headers.iter().filter(|(name, _)| name == "link");
        let links = links.map(|(_, value)| value.clone());
        links.filter(|value| value.contains("rel=\"ice-server\"")).collect()
    };
    for end in ["whip", "whep"] {
        let path = format!("/demo/{end}");
        let offer = if end == "whip" { WHIP } else { WHEP };
        for answer in [server.post(&path, &[token], offer), server.request("OPTIONS", &path, &[token], "")] {
            let links = told(&answer);
            assert_eq!(links[0], "<stun:stun.example.com>; rel=\"ice-server\"", "{answer:?}");
            let turn = "<turn:turn.example.com:3478?transport=udp>; rel=\"ice-server\"; username=\"";
            assert!(links[1].starts_with(turn), "{answer:?}");
            let credential = links[1].split("credential=\"").nth(1).unwrap().split('"').next().unwrap();
            assert!(
                links[1].contains(":demo\"") && credential.len() == 28 && !credential.contains([',', ';'])
            );
        }
        let preflight = [token, ("Access-Control-Request-Method", "POST")];
        for headers in [&preflight[..], &[]] {
            let answer = server.request("OPTIONS", &path, headers, "");
            assert_eq!((answer.status, told(&answer).len()), (200, 0), "{answer:?}");
        }
    }
}
