//! What a node takes while it runs, on SIGHUP and by its handle.

use std::{fs, time::Duration};

use nano::{App, Config, Error, Limits, code};

use crate::{
    configured::Configured,
    file::File,
    support::{RawClient, eventually, within},
};

#[tokio::test]
async fn a_hangup_takes_the_new_limits_deny_list_and_log_filter() {
    let mut node = Configured::start("log = \"error\"", File::LISTENER).await;
    let address = node.address("listening on ");
    let mut reloaded = async |text: &str, lines: usize| {
        node.reload(text).await;
        let mut log = Vec::new();
        for _ in 0..lines {
            log.push(node.line().await);
        }
        log.join("\n")
    };
    let mut client = RawClient::tcp(address).await;
    client.handshake().await;

    for (text, reason) in [
        ("[limits]\nmax_conections = 1", "max_connections"),
        ("[limits]\nmax_packet = 0", "limits.max_packet must be"),
        (
            "[limits]\nmax_channels = 0",
            "limits.max_channels must not be zero",
        ),
        ("log = \"=,=\"", "invalid filter"),
        ("log = \"inof\"", "did you mean info?"),
    ] {
        let line = reloaded(&format!("deny = [\"127.0.0.0/8\"]\n{text}"), 1).await;
        assert!(line.contains("configuration not reloaded"), "{line}");
        assert!(line.contains(reason), "{line}");
    }
    assert_eq!(client.call(1, "Echo.Echo", "still").await, "still");

    let text = "log = \"info\"\nunique_users = \"reject\"\n\
        [timeouts]\nrequest = \"1s\"\nshutdown = \"1s\"\n\
        [limits]\nmemory = \"8MiB\"\nscheduler_capacity = 9\nmax_channels = 9\nmax_channels_per_session = 9";
    // Also the second time: the node still runs without them.
    for _ in 0..2 {
        let lines = reloaded(text, 2).await;
        let keys = "[\"unique_users\", \"timeouts.request\"]";
        assert!(lines.contains("WARN") && lines.contains(keys), "{lines}");
        assert!(lines.contains("configuration reloaded"), "{lines}");
    }
    assert_eq!(client.call(2, "Echo.Echo", "still").await, "still");
    let line = reloaded("log = \"info\"\ndeny = [\"127.0.0.0/8\"]", 1).await;
    assert!(line.contains("configuration reloaded"), "{line}");
    client.closed().await;
}

#[tokio::test]
async fn a_reload_leaves_networks_that_others_have_denied() {
    let file = File::new("deny = [\"192.0.2.0/24\", \"198.51.100.0/24\"]");
    let node = file.start().await;
    let list = node.handle().deny_list();
    list.add(["203.0.113.7".parse().unwrap()]);
    file.write("deny = [\"198.51.100.0/24\", \"10.0.0.0/8\"]");
    node.handle().reload().await.unwrap();
    let denied: Vec<_> = list.networks().iter().map(ToString::to_string).collect();
    assert_eq!(denied, ["10.0.0.0/8", "198.51.100.0/24", "203.0.113.7/32"]);
    node.shutdown().await;
}

#[tokio::test]
async fn a_reload_changes_limits_of_clients_that_are_connected() {
    let file = File::new("[limits]\nmax_connections = 2");
    let node = file.start().await;
    let connect = async || RawClient::tcp(node.addresses()[0]).await;
    let mut first = connect().await;
    first.handshake().await;
    let mut second = connect().await;
    second.handshake().await;
    connect().await.closed().await;
    file.write("[limits]\nmax_connections = 3\nrate_limit = 1\nrate_limit_action = \"disconnect\"");
    node.handle().reload().await.unwrap();
    let mut third = connect().await;
    third.handshake().await;
    // The limit holds for clients that were there.
    for _ in 1..=3 {
        first.notify("Echo.Echo", "").await;
    }
    first.kicked().await;
    file.write("[limits]\nmax_connections = 2");
    node.handle().reload().await.unwrap();
    eventually("the end of the first client", || {
        node.handle().sessions().count() == 2
    })
    .await;
    for id in 1..=20 {
        second.request(id, "Echo.Echo", "").await;
        second.error(id).await;
    }
    node.shutdown().await;
}

#[tokio::test]
async fn a_reload_changes_timeouts_of_new_clients_and_of_the_end() {
    let file = File::new("[timeouts]\ndrain = \"1m\"");
    let node = file.start().await;
    let connect = async || RawClient::tcp(node.addresses()[0]).await;
    let mut earlier = connect().await;
    earlier.handshake().await;
    let faulty = "[timeouts]\nlogin = \"100ms\"\nhandshake = \"0s\"";
    file.write(faulty);
    let error = node.handle().reload().await.unwrap_err();
    assert!(error.message().contains("timeouts.handshake"), "{error}");

    let text = "[timeouts]\nlogin = \"100ms\"\nhandshake = \"100ms\"\nshutdown_delay = \"1ms\"";
    file.write(text);
    node.handle().reload().await.unwrap();
    // One that shakes hands and does not log in, and one that does nothing.
    let mut silent = connect().await;
    let mut anonymous = connect().await;
    anonymous.handshake().await;
    anonymous.kicked().await;
    silent.closed().await;
    // The login of a client that was there is as it was.
    earlier.request(1, "No.Route", "").await;
    earlier.error(1).await;
    // The delay of now: the listeners close, though a client stays.
    node.handle().drain(Duration::from_secs(60));
    let refused = async {
        while tokio::net::TcpStream::connect(node.addresses()[0])
            .await
            .is_ok()
        {}
    };
    within("the end of the listeners", refused).await;
    node.shutdown().await;
}

#[tokio::test]
async fn a_wrong_configuration_changes_nothing() {
    let file = File::new("[limits]\nmax_connections = 1");
    let (seen_tx, seen) = std::sync::mpsc::channel();
    let config = Config::load(&file.path).unwrap().on_reload(move |new| {
        let refused = new.log() == "refuse";
        seen_tx.send(new.log().to_owned()).unwrap();
        match refused {
            true => Err(Error::new("LOG", "no such filter")),
            false => Ok(()),
        }
    });
    let node = App::new().config(&config).start().await.unwrap();
    let mut client = RawClient::tcp(node.addresses()[0]).await;
    client.handshake().await;
    for (text, expected) in [
        (
            "[limits]\nmax_connections = 0",
            "limits.max_connections must not be zero",
        ),
        ("deny = [\"127.0.0.1\"]\nlimit = 1", "unknown key"),
        ("deny = [\"127.0.0.1\"]\nlog = \"refuse\"", "no such filter"),
    ] {
        file.write(text);
        let error = node.handle().reload().await.unwrap_err();
        assert!(error.message().contains(expected), "{error}");
    }
    // Checked before the application's function is called.
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), ["refuse"]);
    fs::remove_file(&file.path).unwrap();
    assert!(node.handle().reload().await.is_err());
    client.request(1, "Echo.Echo", "").await;
    client.error(1).await;
    assert!(node.handle().deny_list().networks().is_empty());
    within("the shutdown", node.shutdown()).await;

    let app = App::new()
        .limits(Limits::new())
        .timeouts(nano::Timeouts::new().shutdown(Duration::from_secs(1)));
    let node = app.start().await.unwrap();
    let error = node.handle().reload().await.unwrap_err();
    assert_eq!(error.code(), code::NOT_FOUND);
    node.shutdown().await;
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_refuses_the_whole_reload() {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [file, chain, key] = ["node.toml", "chain.pem", "key.pem"].map(|it| folder.path().join(it));
    let write_key = || fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let write = |options: &str| {
        let [chain, key] = [&chain, &key].map(|file| file.display().to_string());
        let listener = format!(
            "[[listeners]]\naddress = \"127.0.0.1:0\"\ntls_certificate = {chain:?}\ntls_key = {key:?}"
        );
        fs::write(&file, format!("{options}\n{listener}")).unwrap();
    };
    fs::write(&chain, signed.cert.pem()).unwrap();
    write_key();
    write("");
    let config = Config::load(&file).unwrap();
    let node = App::new().config(&config).start().await.unwrap();

    write("deny = [\"192.0.2.0/24\"]");
    fs::write(&key, "not PEM").unwrap();
    let error = node.handle().reload().await.unwrap_err();
    assert!(error.message().contains("key.pem"), "{error}");
    assert!(node.handle().deny_list().networks().is_empty());
    write_key();
    node.handle().reload().await.unwrap();
    assert_eq!(node.handle().deny_list().networks().len(), 1);
    node.shutdown().await;
}
