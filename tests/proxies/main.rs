//! Behind real proxies: nginx and HAProxy, as Debian has them.
//!
//! Slow tier: `cargo test --release --test proxies -- --ignored`. Needs `nginx` with its stream
//! module (Debian: `nginx`, `libnginx-mod-stream`) and `haproxy`.
#![allow(clippy::unwrap_used, missing_docs)]

mod haproxy;
mod nginx;
mod program;
#[path = "../support/mod.rs"]
mod support;

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use nano::client::Client;
use nano::{App, Component, Handlers, Listener, Network, Node, Raw, Result, Session, Timeouts};

use support::{free_address, within};

/// Where the players of the tests come from.
const PLAYER: [u8; 4] = [127, 0, 5, 7];

struct Whoami;

impl Component<Raw> for Whoami {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on(
            "Ask",
            |_: &Self, session: &Session<Raw>, _: Bytes| -> Result<Bytes> {
                let remote = session.remote_addr().map(|it| it.ip().to_string());
                Ok(remote.unwrap_or_default().into())
            },
        )
    }
}

/// The proxies run on this machine.
fn proxies() -> [Network; 1] {
    ["127.0.0.1/32".parse().unwrap()]
}

async fn start(listener: Listener) -> Node {
    let app = App::new()
        .component(Whoami)
        .timeouts(Timeouts::new().heartbeat(Duration::from_millis(500)))
        .listen(listener);
    app.start().await.unwrap()
}

/// A free port, for a program that cannot choose one itself.
fn free_port() -> u16 {
    let address: SocketAddr = free_address().parse().unwrap();
    address.port()
}

/// Connects a player from [`PLAYER`] by way of a forwarder that does nothing but change the source
/// address, since the client does not choose its own.
async fn player(scheme: &str, proxy: u16, path: &str) -> Client {
    let near_end = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = near_end.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut near, _) = near_end.accept().await.unwrap();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((PLAYER, 0))).unwrap();
        let proxy = SocketAddr::from(([127, 0, 0, 1], proxy));
        let mut far = socket.connect(proxy).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    });
    let url = format!("{scheme}://127.0.0.1:{port}{path}");
    let connected = Client::connect(&url);
    within("a connection through the proxy", connected)
        .await
        .unwrap()
}

async fn address_seen(client: &Client) -> String {
    let answer = within("an answer", client.request_raw("Whoami.Ask", "")).await;
    String::from_utf8(answer.unwrap().to_vec()).unwrap()
}

/// A player who only listens outlives the proxy's idle timeout of two seconds, because heartbeats
/// are shorter.
async fn stays_for_three_idle_timeouts(client: &Client) {
    let silence = Duration::from_secs(6);
    let closed = tokio::time::timeout(silence, client.closed()).await;
    assert!(closed.is_err(), "closed: {closed:?}");
    assert_eq!(address_seen(client).await, "127.0.5.7");
}
