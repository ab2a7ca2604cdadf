use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use nano::{
    App, Listener, Node,
    axum::{Router, routing::get},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};

use crate::{
    Whoami, address_seen, free_port, player,
    program::{Program, no_session},
    proxies, start, stays_for_three_idle_timeouts,
    support::within,
};

/// HAProxy with a page of its states.
struct Haproxy {
    _program: Program,
    states: u16,
}

async fn haproxy(mode: &str, port: u16, backend: String) -> Haproxy {
    let states = free_port();
    let config = |_: &Path| {
        format!(
            "defaults\n mode {mode}\n timeout connect 2s\n timeout client 2s\n timeout server 2s\n \
             timeout tunnel 2s\n timeout check 2s\n\
             frontend states\n mode http\n bind 127.0.0.1:{states}\n stats enable\n stats uri /\n\
             frontend players\n bind 127.0.0.1:{port}\n default_backend gates\n\
             backend gates\n{backend}\n"
        )
    };
    let command = |_: &Path, file: PathBuf| {
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(file);
        command
    };
    Haproxy {
        _program: Program::start(config, command, port).await,
        states,
    }
}

impl Haproxy {
    /// The state of the server as HAProxy's checks see it, and the number of checks that failed.
    async fn server(&self) -> (String, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.states))
            .await
            .unwrap();
        let request = b"GET /;csv HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut page = String::new();
        within("the states", stream.read_to_string(&mut page))
            .await
            .unwrap();
        let line = |prefix: &str| {
            let line = page.lines().find(|line| line.starts_with(prefix));
            line.unwrap_or_else(|| panic!("no {prefix} in {page}"))
                .split(',')
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let (names, values) = (line("# pxname"), line("gates,gate,"));
        let value = |name: &str| {
            let column = names.iter().position(|it| it == name).unwrap();
            values[column].clone()
        };
        (value("check_status"), value("status"))
    }

    /// Waits until a check has ended like this, which marks the server up.
    async fn is_up(&self, check: &str) {
        let up = async {
            loop {
                let (status, state) = self.server().await;
                if status == check && state == "UP" {
                    return;
                }
                assert_ne!(state, "DOWN", "{status}");
            }
        };
        within("a check that marks the server up", up).await;
    }
}

fn server(node: &Node) -> String {
    node.addresses()[0].to_string()
}

/// A node that counts the sessions it has closed.
async fn counting(listener: Listener) -> (Node, Arc<AtomicUsize>) {
    let ended = Arc::new(AtomicUsize::new(0));
    let counter = ended.clone();
    let app = App::new()
        .component(Whoami)
        .on_session_closed(move |_, _| {
            counter.fetch_add(1, Ordering::Relaxed);
        })
        .listen(listener);
    (app.start().await.unwrap(), ended)
}

#[tokio::test]
#[ignore = "slow: needs haproxy"]
async fn haproxy_tcp_tells_the_players_address_by_both_versions_of_the_proxy_protocol() {
    for version in ["send-proxy", "send-proxy-v2"] {
        let node = start(Listener::tcp("127.0.0.1:0").proxy_protocol(proxies())).await;
        let port = free_port();
        let backend = format!(" server gate {} {version}", server(&node));
        let _haproxy = haproxy("tcp", port, backend).await;
        let client = player("tcp", port, "").await;
        assert_eq!(address_seen(&client).await, "127.0.5.7");
        stays_for_three_idle_timeouts(&client).await;
        drop(client);
        no_session(&node).await;
    }
}

#[tokio::test]
#[ignore = "slow: needs haproxy"]
async fn health_checks_of_haproxy_open_no_session_and_mark_the_server_up() {
    for (options, trusts) in [
        ("check inter 50ms", false),
        ("check inter 50ms send-proxy", true),
        ("check inter 50ms send-proxy-v2", true),
    ] {
        let mut listener = Listener::tcp("127.0.0.1:0");
        if trusts {
            listener = listener.proxy_protocol(proxies());
        }
        let (node, ended) = counting(listener).await;
        let backend = format!(" server gate {} {options}", server(&node));
        let haproxy = haproxy("tcp", free_port(), backend).await;
        haproxy.is_up("L4OK").await;
        assert_eq!(node.handle().sessions().count(), 0);
        assert_eq!(ended.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
#[ignore = "slow: needs haproxy"]
async fn haproxy_http_forwards_websockets_and_checks_a_page() {
    let router = Router::new().route("/healthz", get(|| async { "ok" }));
    let listener = Listener::websocket("127.0.0.1:0", "/nano")
        .http(router)
        .forwarded_for(proxies());
    let node = start(listener).await;
    let port = free_port();
    let backend = format!(
        " option forwardfor\n http-request del-header Forwarded\n option httpchk GET /healthz\n server gate {} check inter 50ms",
        server(&node)
    );
    let haproxy = haproxy("http", port, backend).await;
    haproxy.is_up("L7OK").await;
    assert_eq!(node.handle().sessions().count(), 0);
    let client = player("ws", port, "/nano").await;
    assert_eq!(address_seen(&client).await, "127.0.5.7");
    stays_for_three_idle_timeouts(&client).await;
    drop(client);
    no_session(&node).await;
}
