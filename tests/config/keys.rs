//! What a file may say, and what is said about a wrong one.

use std::{collections::BTreeSet, env, fs, path::Path, process::Command};

use nano::{App, Config, Error};

use crate::support::{Peer, program, within};

fn fault(text: &str) -> String {
    text.parse::<Config>().unwrap_err().message().to_owned()
}

#[test]
fn the_reference_parses_to_the_defaults() {
    let reference = Config::documented();
    assert_eq!(reference.parse::<Config>().unwrap(), Config::default());
    let long: Vec<_> = reference.lines().filter(|it| it.len() > 100).collect();
    assert!(long.is_empty(), "{long:#?}");
    // Keys without a default are examples, and valid as such. Only one of each pair may be set.
    let examples = reference.lines().filter_map(|line| {
        let line = line.strip_prefix("# ").unwrap_or(line);
        let is_key = line.starts_with('[')
            || line.split_once(" = ").is_some_and(|(key, _)| {
                key.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            });
        let skip = line.starts_with("token_file") || line.starts_with("metadata =");
        (is_key && !skip).then_some(line)
    });
    let all = examples.collect::<Vec<_>>().join("\n");
    // The examples of its addresses need a part in a cluster.
    let all = all.replace("master = false", "master = true");
    let config: Config = all.parse().unwrap_or_else(|error| panic!("{error}\n{all}"));
    assert_ne!(config, Config::default());
    assert_eq!(config.listeners().len(), 1);
}

#[test]
fn the_document_has_the_reference() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = fs::read_to_string(&file).unwrap();
    let (before, _) = text.split_once("<!-- generated").unwrap();
    let comment = "<!-- generated: run the test with NANO_BLESS=1 to write it anew -->";
    let expected = format!("{before}{comment}\n```toml\n{}```\n", Config::documented());
    if env::var_os("NANO_BLESS").is_some() {
        fs::write(&file, &expected).unwrap();
    }
    assert!(
        text == expected || env::var_os("NANO_BLESS").is_some(),
        "docs/configuration.md is not the reference; NANO_BLESS=1 cargo test --test config writes it"
    );
}

#[test]
fn the_sample_of_the_document_is_valid() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = fs::read_to_string(file).unwrap();
    let sample = text
        .split("```toml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let fault = sample.parse::<Config>().unwrap_err();
    // Its secret is in a file that only a deployment has.
    assert!(
        fault
            .message()
            .starts_with("cluster.token_file: cannot read"),
        "{fault}"
    );
    assert_eq!(fault.message().lines().count(), 1, "{fault}");
}

#[test]
fn the_peer_prints_the_reference() {
    let printed = Command::new(program())
        .arg("--print-config")
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(printed.stdout).unwrap(),
        Config::documented()
    );
}

/// The options of a builder that are data: public methods that take and return it, and no code.
fn options(file: &str) -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = fs::read_to_string(file).unwrap();
    let methods = text.split("    pub fn ").skip(1);
    let options: BTreeSet<_> = methods
        .filter_map(|method| {
            let (signature, _) = method.split_once('{')?;
            let takes_code = [
                "Fn(",
                "FnOnce(",
                "Router",
                "Component<",
                "IntoFilter",
                "Pipeline",
            ]
            .iter()
            .any(|code| signature.contains(code));
            let builds = signature.contains("self") && !signature.contains("&self");
            let name = signature.split(['(', '<']).next()?;
            (builds && !takes_code).then(|| name.to_owned())
        })
        .collect();
    assert!(!options.is_empty());
    options
}

#[test]
fn every_option_that_is_data_has_a_key() {
    let reference = Config::documented();
    // By other names, or of no use in a file.
    let elsewhere = [
        // Tables.
        ("App", "cluster"),
        ("App", "admin"),
        ("Admin", "host"),
        ("Admin", "logs"),
        ("Admin", "warnings"),
        ("App", "limits"),
        ("App", "timeouts"),
        ("App", "traces"),
        ("App", "listen"),
        ("App", "tcp"),
        ("App", "websocket"),
        // Of the program.
        ("App", "dictionary"),
        ("App", "dictionary_from_routes"),
        ("App", "start"),
        ("App", "run"),
        // tls_certificate and others.
        ("Cluster", "tls"),
        ("Listener", "tls"),
        ("Listener", "tls_config"),
    ];
    let mut missing = Vec::new();
    for (file, of) in [
        ("src/app/builder.rs", "App"),
        ("src/app/limits.rs", "Limits"),
        ("src/app/timeouts.rs", "Timeouts"),
        ("src/app/traces.rs", "Traces"),
        ("src/app/cluster.rs", "Cluster"),
        ("src/app/admin.rs", "Admin"),
        ("src/gate/listener.rs", "Listener"),
    ] {
        for option in options(file) {
            let known = elsewhere.contains(&(of, &*option));
            let mut lines = reference.lines();
            let has_key = lines.any(|line| {
                line.trim_start_matches("# ")
                    .starts_with(&format!("{option} = "))
            });
            if !known && !has_key {
                missing.push(format!("{of}::{option}"));
            }
        }
    }
    assert!(missing.is_empty(), "options without a key: {missing:?}");
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
    for (text, expected) in [
        (
            "[limits]\n\nmax_pakcet = 1\n",
            "3: limits.max_pakcet: unknown key, did you mean limits.max_packet?",
        ),
        (
            "[limits]\nheartbeat = \"1s\"",
            "2: limits.heartbeat: unknown key, did you mean timeouts.heartbeat?",
        ),
        (
            "[cluster]\ndeny = []",
            "2: cluster.deny: unknown key, did you mean deny?",
        ),
        ("\n[limit]\n", "2: limit: unknown key, did you mean limits?"),
        (
            "[[listener]]\n",
            "1: listener: unknown key, did you mean listeners?",
        ),
        ("zzzzzzzz = 1", "1: zzzzzzzz: unknown key"),
        (
            "[[listeners]]\naddress = \":0\"\nwebsockets = \"/\"",
            "3: listeners.0.websockets: unknown key, did you mean listeners.0.websocket?",
        ),
    ] {
        let fault = fault(text);
        assert!(
            fault.lines().any(|line| line.starts_with(expected)),
            "{fault}"
        );
    }
}

#[test]
fn every_fault_is_reported_with_what_was_expected() {
    let text = r#"
        io_threads = "two"
        deny = ["10.0.0.0/99"]
        [limits]
        max_packet = "64 kilobytes"
        max_connections = -1
        rate_limit_action = "ban"
        slow_client = true
        [timeouts]
        heartbeat = 30
        request = "30 parsecs"
        [cluster]
        master = "yes"
        metadata = { zone = 1 }
    "#;
    let fault = fault(text);
    let lines: Vec<_> = fault.lines().map(str::trim).collect();
    assert_eq!(lines.len(), 10, "{fault}");
    for expected in [
        "2: io_threads: expected a whole number, found \"two\"",
        "3: deny: expected a network such as \"10.0.0.0/8\", or an address, found \"10.0.0.0/99\"",
        "5: limits.max_packet: expected a size such as \"64KiB\" or \"4MB\", or bytes, found \"64 kilobytes\"",
        "6: limits.max_connections: expected a whole number, or \"off\", found the number -1",
        "7: limits.rate_limit_action: expected \"throttle\" or \"disconnect\", found \"ban\"",
        "8: limits.slow_client: expected \"disconnect\" or \"drop-pushes\", found true",
        "10: timeouts.heartbeat: expected a duration such as \"30s\", \"500ms\" or \"1h30m\", or \"off\", found the number 30",
        "11: timeouts.request: expected a duration such as \"30s\", \"500ms\" or \"1h30m\", or \"off\", found \"30 parsecs\"",
        "13: cluster.master: expected true or false, found \"yes\"",
        "14: cluster.metadata: expected a table of strings, found the number 1, at zone",
    ] {
        assert!(lines.contains(&expected), "{expected}\nin\n{fault}");
    }
}

#[test]
fn malformed_files_and_contradictions_are_refused() {
    for (text, expected) in [
        ("limits = 3", "1: limits: expected a table"),
        ("app = 3", "1: app: expected a table"),
        (
            "listeners = 3",
            "1: listeners: expected [[listeners]] tables",
        ),
        ("listeners = [3]", "1: listeners: expected a table"),
        ("\n\n[limits", "3: "),
        ("a = 1\na = 2", "2: "),
        ("\u{0}", "1: "),
        (
            "[[listeners]]\nwebsocket = \"/nano\"",
            "1: listeners.0.address is missing",
        ),
        (
            "[cluster]\nmaster = true\njoin = [\"a:1\"]",
            "cluster.master and cluster.join",
        ),
        (
            "[cluster]\nlisten = \"a:1\"",
            "cluster.listen needs cluster.master or cluster.join",
        ),
        (
            "[cluster]\nadvertise = \"a:1\"",
            "cluster.advertise needs cluster.master or cluster.join",
        ),
        (
            "[cluster]\ntoken = \"a\"\ntoken_file = \"b\"",
            "cluster.token and cluster.token_file",
        ),
        (
            "[cluster]\ntoken_file = \"/does/not/exist\"",
            "cluster.token_file: cannot read",
        ),
        (
            "[cluster]\ntls_key = \"a\"",
            "cluster.tls_certificate, cluster.tls_key",
        ),
        (
            "[[listeners]]\naddress = \":1\"\ntls_key = \"a\"",
            "listeners.0: tls_certificate",
        ),
        (
            "[[listeners]]\naddress = \":1\"\nsubprotocols = [\"a\"]",
            "listeners.0.subprotocols needs listeners.0.websocket",
        ),
        (
            "[limits]\nrate_limit = 5000000000",
            "limits.rate_limit: at most",
        ),
    ] {
        let fault = fault(text);
        assert!(fault.starts_with(expected), "{text:?}: {fault}");
    }
    let missing = Config::load("/does/not/exist.toml").unwrap_err();
    assert!(
        missing
            .message()
            .starts_with("cannot read /does/not/exist.toml")
    );
    // Secrets stay out of messages.
    assert!(!fault("[cluster]\ntoken = { a = \"swordfish\" }").contains("swordfish"));
    let config: Config = "[cluster]\nmaster = true\ntoken = \"swordfish\""
        .parse()
        .unwrap();
    assert!(!format!("{config:?}").contains("swordfish"));
}

#[test]
fn sizes_and_durations_have_units() {
    let config = |size: &str| format!("[limits]\nmax_packet = {size}").parse::<Config>();
    for (size, same) in [
        ("\"16KiB\"", "16_384"),
        ("\"2MB\"", "0x1e8480"),
        ("\"1 MiB\"", "1048576"),
        ("\"7B\"", "7"),
    ] {
        assert_eq!(config(size).unwrap(), config(same).unwrap());
    }
    for wrong in [
        "\"\"",
        "\"KiB\"",
        "\"-1KiB\"",
        "\"99999999999999999999GiB\"",
        "1.5",
        "\"16\"",
    ] {
        assert!(config(wrong).is_err(), "{wrong}");
    }
    let config = |time: &str| format!("[timeouts]\nshutdown = \"{time}\"").parse::<Config>();
    for (time, same) in [
        ("90s", "1m30s"),
        ("1h", "60m"),
        ("1.5s", "1500ms"),
        ("1d", "24h"),
        ("1h 30m", "5400s"),
        ("0s", "0ms"),
    ] {
        assert_eq!(config(time).unwrap(), config(same).unwrap());
    }
    for wrong in [
        "",
        "5",
        "s",
        "-1s",
        "1.s",
        ".5s",
        "1s2",
        "1e3s",
        "999999999999999999999999999999999999d",
    ] {
        assert!(config(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_table_app_is_the_applications() {
    #[derive(Debug, serde::Deserialize, PartialEq)]
    struct Own {
        seats: usize,
        rooms: Vec<String>,
    }
    let config: Config = "[app]\nseats = 4\nrooms = [\"a\"]\n[app.other]\nx = 1.5"
        .parse()
        .unwrap();
    let own: Own = config.application().unwrap();
    assert_eq!((own.seats, own.rooms), (4, vec!["a".to_owned()]));
    for (app, expected) in [
        (
            "seats = \"four\"",
            "app.seats: invalid type: string \"four\"",
        ),
        (
            "seats = 4\nrooms = [\"a\", 5]",
            "app.rooms[1]: invalid type: integer `5`",
        ),
        ("seats = 4", "app: missing field `rooms`"),
    ] {
        let config: Config = format!("[app]\n{app}").parse().unwrap();
        let error: Error = config.application::<Own>().unwrap_err();
        assert!(error.message().starts_with(expected), "{error}");
    }
}

#[tokio::test]
async fn variables_override_the_file_and_add_listeners() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    fs::write(
        &file,
        "[[listeners]]\naddress = \"127.0.0.1:1\"\n[cluster]\nlabel = \"file\"",
    )
    .unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "swordfish\n").unwrap();
    let mut command = tokio::process::Command::new(program());
    command.envs([
        ("NANO_LISTENERS_0_ADDRESS", "127.0.0.1:0"),
        ("NANO_LISTENERS_0_WEBSOCKET", "/nano"),
        ("NANO_CLUSTER_MASTER", "true"),
        ("NANO_CLUSTER_LISTEN", "127.0.0.1:0"),
        ("NANO_CLUSTER_TOKEN_FILE", token.to_str().unwrap()),
        ("NANO_DENY", "192.0.2.0/24, 2001:db8::/32"),
        ("NANO_APP_ANYTHING", "1"),
        // Of the command `nano`, which may be used where nodes start.
        ("NANO_ADMIN_URL", "http://127.0.0.1:9470"),
        // Set by Kubernetes for a service named nano-gate.
        ("NANO_GATE_SERVICE_HOST", "10.0.0.1"),
        ("NANO_GATE_PORT_3250_TCP_ADDR", "10.0.0.1"),
    ]);
    let flags = ["--config", file.to_str().unwrap(), "--ws"];
    let peer = Peer::launch(command, &flags).await;
    peer.connect().await.handshake().await;
    peer.stop().await;

    for (variable, value, expected) in [
        (
            "NANO_LIMIT_MAX_PACKET",
            "1",
            "NANO_LIMIT_MAX_PACKET: limit_max_packet: unknown key",
        ),
        (
            "NANO_LIMITS_MAX_PACKET",
            "big",
            "NANO_LIMITS_MAX_PACKET: limits.max_packet: expected a size",
        ),
        (
            "NANO_TIMEOUTS_TCP_KEEPALIVE",
            "long",
            "NANO_TIMEOUTS_TCP_KEEPALIVE: timeouts.tcp_keepalive: expected a duration",
        ),
        (
            "NANO_LISTENERS_7_ADDRESS",
            ":1",
            "NANO_LISTENERS_1_ADDRESS is missing",
        ),
        (
            "NANO_LISTENERS_99999999_ADDRESS",
            ":1",
            "expected the number of a listener",
        ),
    ] {
        let mut command = tokio::process::Command::new(program());
        command
            .args(["--config", file.to_str().unwrap()])
            .env(variable, value)
            .kill_on_drop(true);
        // It would run on if it ignored the variable.
        let started = within(variable, command.output()).await.unwrap();
        let errors = String::from_utf8_lossy(&started.stderr).into_owned();
        assert!(!started.status.success());
        assert!(errors.contains(expected), "{errors}");
    }
}

#[tokio::test]
async fn the_version_of_a_file_is_that_of_the_member() {
    let text = "version = \"1.4.2\"\n[cluster]\nmaster = true\nlisten = \"127.0.0.1:0\"";
    let config: Config = text.parse().unwrap();
    let node = App::new().config(&config).start().await.unwrap();
    assert_eq!(node.handle().member().unwrap().version(), "1.4.2");
    node.shutdown().await;
}
