//! A client of bare HTTP requests.

use std::net::SocketAddr;

use nano::{Node, axum::http::StatusCode};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::within;

/// An answer; its status is 0 where the server gave none.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
    /// Whether the connection was closed in order behind it, and not reset.
    pub(crate) ended: bool,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The JSON of an answer without an error.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK.as_u16(), "{self:?}");
        self.json()
    }

    /// The code of an error.
    pub(crate) fn code(&self) -> String {
        let json = self.json();
        assert!(json["message"].is_string(), "{self:?}");
        json["code"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn admin(node: &Node) -> SocketAddr {
    node.handle().admin_address().unwrap()
}

/// Sends bytes, and reads the answer to its end.
pub(crate) async fn raw(address: SocketAddr, request: &[u8]) -> Answer {
    within("the answer", async {
        let Ok(mut socket) = TcpStream::connect(address).await else {
            return Answer::default();
        };
        // A server that refuses the request may close before it has read all of it.
        let _ = socket.write_all(request).await;
        let mut answer = Vec::new();
        let ended = socket.read_to_end(&mut answer).await.is_ok();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).unwrap_or_default();
        Answer {
            status: status.parse().unwrap_or_default(),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
            ended,
        }
    })
    .await
}

/// A request with these header lines.
pub(crate) async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &str,
) -> Answer {
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|header| header.starts_with("Host:")) {
        head += &format!("Host: {address}\r\n");
    }
    for header in headers {
        head += &format!("{header}\r\n");
    }
    if method != "GET" {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    raw(address, format!("{head}\r\n{body}").as_bytes()).await
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, "GET", path, &[], "").await
}

pub(crate) const TOKEN: &str = "Authorization: Bearer secret";
pub(crate) const JSON: &str = "Content-Type: application/json";

/// An action with the token `secret`.
pub(crate) async fn act(address: SocketAddr, path: &str, body: &str) -> Answer {
    send(address, "POST", path, &[TOKEN, JSON], body).await
}
