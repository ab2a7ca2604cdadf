use std::net::SocketAddr;

use nano::{App, Node};

use super::RawClient;

/// An app in this process, with a TCP listener and a WebSocket one on ports the system chooses. It
/// stops when dropped.
pub(crate) struct Server {
    pub(crate) node: Node,
    pub(crate) tcp: SocketAddr,
    pub(crate) websocket: SocketAddr,
}

impl Server {
    /// Starts an app that has no listeners of its own.
    pub(crate) async fn start(app: App) -> Self {
        let node = app
            .tcp("127.0.0.1:0")
            .websocket("127.0.0.1:0", "/nano")
            .start()
            .await
            .unwrap();
        let &[tcp, websocket] = node.addresses() else {
            panic!("the app has listeners: {:?}", node.addresses())
        };
        Self {
            node,
            tcp,
            websocket,
        }
    }

    /// A TCP client that has shaken hands.
    pub(crate) async fn client(&self) -> RawClient {
        let mut client = RawClient::tcp(self.tcp).await;
        client.handshake().await;
        client
    }

    /// A WebSocket client that has shaken hands.
    pub(crate) async fn websocket_client(&self) -> RawClient {
        let mut client = RawClient::websocket(self.websocket, "/nano").await;
        client.handshake().await;
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.node.handle().shutdown();
    }
}
