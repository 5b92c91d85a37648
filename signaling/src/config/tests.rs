use super::*;
use std::collections::HashMap;

fn load(args: &[&str], env: &[(&str, &str)]) -> Result<(Mode, Config), Vec<ConfigError>> {
    let args = std::iter::once("uringcast").chain(args.iter().copied());
    let matches = load::command().try_get_matches_from(args).expect("grammar");
    let env: HashMap<&str, &str> = env.iter().copied().collect();
    load_from(&matches, |name| env.get(name).map(|value| (*value).to_owned()))
}

fn good(args: &[&str], env: &[(&str, &str)]) -> Config {
    load(args, env).map(|(_, config)| config).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn errors(args: &[&str]) -> Vec<String> {
    match load(args, &[]) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

fn file(name: &str, text: &str) -> String {
    let path = std::env::temp_dir().join(format!("uringcast-config-{}-{name}.toml", std::process::id()));
    std::fs::write(&path, text).expect("file");
    path.display().to_string()
}

#[test]
fn the_grammar_is_sound() {
    load::command().debug_assert();
}

#[test]
fn an_unknown_flag_leads_to_those_that_may_have_been_meant() {
    let said = |flag: &str| {
        let error = load::command().try_get_matches_from(["uringcast", flag]).expect_err("unknown");
        load::with_suggestions(error).to_string()
    };
    assert!(said("--check").contains("tip: the command 'uringcast check' exists"), "{}", said("--check"));
    let port = said("--port=80");
    for flag in ["--http <ADDR:PORT>", "--udp-port <PORT>", "--tcp-port <PORT>"] {
        assert!(port.contains(&format!("tip: {flag}\n")), "{port}");
    }
    let alike = said("--publik-ip");
    assert!(alike.contains("'--public-ip'") && alike.matches("tip:").count() == 1, "{alike}");
    assert!(!said("--xyzzy").contains("tip:"));
}

#[test]
fn without_arguments_one_host_serves_itself() {
    let config = good(&[], &[]);
    assert_eq!(config.http, "127.0.0.1:8080".parse().expect("address"));
    assert_eq!(config.udp_port, 8200);
    assert_eq!(config.open, OpenMode::ThisHost);
    assert_eq!(config.cores, interfaces::allowed_cores());
    assert_eq!(config.control, PathBuf::from("uringcast-state/control.sock"));
}

#[test]
fn flags_beat_environment_and_environment_beats_the_file() {
    let path = file("order", "udp-port = 1\nhttp = \"127.0.0.1:1\"\nlog = \"debug\"\n");
    let env =
        [("URINGCAST_CONFIG", path.as_str()), ("URINGCAST_UDP_PORT", "2"), ("URINGCAST_HTTP", "127.0.0.1:2")];
    let config = good(&["--udp-port", "3"], &env);
    assert_eq!((config.udp_port, config.http.port(), config.log.as_str()), (3, 2, "debug"));
}

#[test]
fn every_mistake_is_told_at_once() {
    let errors =
        errors(&["--http", "nowhere", "--workers", "0", "--tls-cert", "a.pem", "--udp-port", "99999"]);
    assert_eq!(errors.len(), 4, "{errors:#?}");
    assert!(
        errors.iter().any(|error| error.contains("\"nowhere\" on the command line is not an IP address"))
    );
    assert!(errors.iter().any(|error| error == "--tls-cert needs --tls-key"));
}

#[test]
fn a_log_filter_that_cannot_be_read_is_told_what_one_looks_like() {
    for filter in ["uringcast=loud", "info,sfu=9"] {
        let errors = errors(&["--log", filter]);
        assert!(errors[0].contains("is not a filter such as info or uringcast=debug,info"), "{errors:?}");
    }
}

#[test]
fn an_unknown_key_in_the_file_names_the_one_that_was_meant() {
    let path = file("typo", "udp_port = 8300\nhttp = {}\n");
    let errors = errors(&["--config", &path]);
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(errors.iter().any(|error| error.contains("did you mean \"udp-port\"?")));
    assert!(errors.iter().any(|error| error.contains("http must be a text")));
}

#[test]
fn a_mistyped_variable_is_named_with_the_one_that_was_meant() {
    let names = [
        "URINGCAST_API_TOKE",
        "PATH",
        "URINGCAST_HTTP",
        "URINGCAST_SERVICE_HOST",
        "URINGCAST_LOADTEST_BEARER",
    ];
    let unknown = load::unknown_variables(names.iter().map(ToString::to_string));
    let words: Vec<String> = unknown.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "the variable URINGCAST_API_TOKE is no key and is ignored; did you mean URINGCAST_API_TOKEN?",
            "the variable URINGCAST_SERVICE_HOST is no key and is ignored; `uringcast keys` lists them all",
        ]
    );
}

#[test]
fn https_needs_a_certificate_and_a_certificate_needs_https() {
    assert_eq!(errors(&["--https", "127.0.0.1:8443"]).len(), 1);
    assert_eq!(errors(&["--tls-self-signed"]).len(), 1);
    assert_eq!(errors(&["--https", "127.0.0.1:8443", "--tls-self-signed"]), Vec::<String>::new());
}

#[test]
fn open_mode_ends_where_the_host_ends() {
    assert_eq!(good(&["--http", "0.0.0.0:8080"], &[]).open, OpenMode::Off);
    assert_eq!(good(&["--public-url", "https://live.example.com/"], &[]).open, OpenMode::Off);
    assert_eq!(good(&["--http", "0.0.0.0:8080", "--open"], &[]).open, OpenMode::Everyone);
    assert_eq!(good(&["--open=false"], &[]).open, OpenMode::Off);
    assert_eq!(good(&["--metrics", "0.0.0.0:9090"], &[]).open, OpenMode::Off);
    let tls = ["--https", "0.0.0.0:8443", "--tls-self-signed"];
    assert_eq!(good(&tls, &[]).open, OpenMode::Off);
}

#[test]
fn cores_are_checked_against_the_affinity() {
    assert_eq!(good(&["--cores", "0"], &[]).cores, vec![0]);
    assert_eq!(errors(&["--cores", "9999"]).len(), 1);
    assert_eq!(errors(&["--cores", "0,0"]).len(), 1);
    assert_eq!(errors(&["--cores", "0", "--workers", "2"]).len(), 1);
}

#[test]
fn the_child_gets_what_was_written_but_no_secret_and_no_file() {
    let turn = ["--ice-server", "turn:turn.example.com", "--turn-secret", "north", "--strict-etag"];
    let args = [&["--api-token", "secret", "--bind", "127.0.0.1", "--bind", "::1"][..], &turn].concat();
    let config = good(&args, &[]);
    let variables = config.settings.variables();
    assert_eq!(variables, vec![("URINGCAST_BIND".to_owned(), "127.0.0.1,::1".to_owned())]);
}

#[test]
fn only_what_concerns_media_changes_its_hash() {
    let hash = |args: &[&str]| good(args, &[]).media_hash();
    assert_eq!(hash(&[]), hash(&["--http", "127.0.0.1:9999"]));
    assert_ne!(hash(&[]), hash(&["--udp-port", "9000"]));
    assert_ne!(hash(&[]), hash(&["--bind", "127.0.0.1"]));
}

#[test]
fn media_never_binds_an_unspecified_address() {
    for bind in ["0.0.0.0", "0.0.0.0,127.0.0.1"] {
        let addresses = good(&["--bind", bind], &[]).media().expect("addresses").bind;
        assert!(addresses.contains(&"127.0.0.1".parse().expect("address")), "{addresses:?}");
        assert!(addresses.iter().all(|address| address.is_ipv4() && !address.is_unspecified()));
    }
}

#[test]
fn public_urls_have_no_slash_at_the_end_and_no_query() {
    assert_eq!(
        good(&["--public-url", "https://a.example/live/"], &[]).public_url.as_deref(),
        Some("https://a.example/live")
    );
    for bad in ["a.example", "ftp://a.example", "https://a.example/?x", "https://u:p@a.example"] {
        assert_eq!(errors(&["--public-url", bad]).len(), 1, "{bad}");
    }
}

#[test]
fn ice_servers_and_their_credentials_must_fit_to_each_other() {
    let stun = ["--ice-server", "stun:stun.example.com"];
    let turn = ["--ice-server", "turn:turn.example.com"];
    let (user, password) = (["--turn-username", "user"], ["--turn-credential", "password"]);
    let secret = ["--turn-secret", "north"];
    assert!(good(&stun, &[]).ice_servers.turn == TurnCredentials::None);
    let fixed = TurnCredentials::Static { username: "user".into(), credential: "password".into() };
    assert!(good(&[turn, user, password].concat(), &[]).ice_servers.turn == fixed);
    let lifetime = Duration::from_secs(86_400);
    let made = |username: &str| TurnCredentials::Secret {
        secret: "north".into(),
        username: username.into(),
        lifetime,
    };
    assert!(good(&[stun, turn, secret].concat(), &[]).ice_servers.turn == made(""));
    assert!(good(&[turn, secret, user].concat(), &[]).ice_servers.turn == made("user"));
    assert_eq!(
        good(&["--ice-server", "stun:a,turn:b", "--turn-secret", "north"], &[]).ice_servers.urls.len(),
        2
    );

    let with_semicolon = ["--turn-credential", "pass;word"];
    let short = ["--turn-lifetime", "59"];
    for bad in [
        &turn[..],
        &[turn, user].concat(),
        &[turn, password].concat(),
        &[turn, user, password, secret].concat(),
        &[turn, user, with_semicolon].concat(),
        &[stun, user, password].concat(),
        &secret,
        &[turn, secret, short].concat(),
        &[stun, ["--turn-lifetime", "60"]].concat(),
        &["--ice-server", "http://stun.example.com"],
    ] {
        assert_eq!(errors(bad).len(), 1, "{bad:?}");
    }
}
