//! The chat and the tadpole example, by what their clients see: messages to the byte, and the files
//! of their pages.

use std::{collections::HashSet, net::SocketAddr};

use nano::{App, Node, code};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::support::{RawClient, websocket, within};

#[path = "../chat.rs"]
#[allow(dead_code)]
mod chat;

#[path = "../tadpole.rs"]
#[allow(dead_code)]
mod tadpole;

const WEB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/web");
const JOINED: &str = r#"{"code":0,"result":"success"}"#;

#[tokio::test]
async fn the_chat_announces_members_arrivals_messages_and_departures() {
    let (_node, address) = start(chat::app("127.0.0.1:0", WEB)).await;

    // As nano's own page: no body, and no name.
    let mut old = connect(address, "/nano").await;
    old.request(1, "room.join", "").await;
    assert_eq!(old.push("onMembers").await, r#"{"members":null}"#);
    assert_eq!(old.response(1).await, JOINED);

    let mut ann = connect(address, "/nano").await;
    ann.request(1, "room.join", r#"{"name":"Ann"}"#).await;
    let members = ann.push("onMembers").await;
    let old_id = read(&members)["members"][0].as_i64().unwrap();
    assert_eq!(
        members,
        format!(r#"{{"members":[{old_id}],"names":[{{"id":{old_id},"name":""}}]}}"#)
    );
    assert_eq!(ann.response(1).await, JOINED);
    let arrival = old.push("onNewUser").await;
    let ann_id = read(&arrival)["id"].as_i64().unwrap();
    assert_eq!(
        arrival,
        format!(r#"{{"content":"New user: {ann_id}","id":{ann_id},"name":"Ann"}}"#)
    );
    assert!(
        (1..1 << 53).contains(&ann_id),
        "JavaScript has to hold {ann_id}"
    );

    // What the message has beside name and content stays behind, as in nano, and so does its order.
    ann.notify(
        "room.message",
        r#"{"content":"1 < 2","colour":"red","name":"Ann"}"#,
    )
    .await;
    for client in [&mut ann, &mut old] {
        assert_eq!(
            client.push("onMessage").await,
            r#"{"name":"Ann","content":"1 \u003c 2"}"#
        );
    }
    old.notify("room.message", "{}").await;
    for client in [&mut ann, &mut old] {
        assert_eq!(
            client.push("onMessage").await,
            r#"{"name":"","content":""}"#
        );
    }

    drop(old);
    assert_eq!(
        read(&ann.push("onLeave").await),
        json!({ "id": old_id, "name": "", "content": format!("User left: {old_id}") })
    );
    let mut ben = connect(address, "/nano").await;
    ben.request(1, "room.join", r#"{"name":"Ben"}"#).await;
    assert_eq!(
        read(&ben.push("onMembers").await),
        json!({ "members": [ann_id], "names": [{ "id": ann_id, "name": "Ann" }] })
    );
}

#[tokio::test]
async fn joining_the_chat_twice_is_refused_without_a_notice() {
    let (_node, address) = start(chat::app("127.0.0.1:0", WEB)).await;
    let (mut ann, mut ben) = (
        connect(address, "/nano").await,
        connect(address, "/nano").await,
    );
    for client in [&mut ann, &mut ben] {
        client.request(1, "room.join", "{}").await;
        client.push("onMembers").await;
        client.response(1).await;
    }
    ann.push("onNewUser").await;

    ben.request(2, "room.join", "{}").await;
    assert_eq!(ben.error(2).await.code(), code::CONFLICT);
    ben.notify("room.message", r#"{"name":"Ben","content":"sorry"}"#)
        .await;
    for client in [&mut ann, &mut ben] {
        client.push("onMessage").await;
    }
    drop(ben);
    ann.push("onLeave").await;
}

#[tokio::test]
async fn tadpoles_log_in_enter_swim_talk_and_leave() {
    let (_node, address) = start(tadpole::app("127.0.0.1:0")).await;
    let mut ann = connect(address, "/").await;
    ann.request(1, "World.Enter", "").await;
    assert_eq!(ann.error(1).await.code(), code::FORBIDDEN);
    let ann_id = login(&mut ann, "Ann").await;
    assert_eq!(
        ann.call(3, "World.Enter", "").await,
        r#"{"code":0,"swimmers":[]}"#
    );

    let mut ben = connect(address, "/").await;
    let ben_id = login(&mut ben, "Ben").await;
    assert_eq!(
        ben.call(3, "World.Enter", "{}").await,
        format!(r#"{{"code":0,"swimmers":[{{"id":{ann_id},"name":"Ann"}}]}}"#)
    );
    assert_eq!(
        ann.push("enter").await,
        format!(r#"{{"id":{ben_id},"name":"Ben"}}"#)
    );

    let place: &'static [u8] = b"\x00\xFF any bytes \xC3";
    ben.notify("World.Update", place).await;
    ben.notify("World.Message", r#"{"message":"hello"}"#).await;
    for client in [&mut ann, &mut ben] {
        assert_eq!(client.push("update").await, place);
        assert_eq!(
            client.push("message").await,
            format!(r#"{{"id":{ben_id},"message":"hello"}}"#)
        );
    }

    drop(ben);
    assert_eq!(ann.push("leave").await, format!(r#"{{"id":{ben_id}}}"#));
}

#[tokio::test]
async fn pages_come_with_everything_they_ask_for_and_nothing_else() {
    let (_chat, chat) = start(chat::app("127.0.0.1:0", WEB)).await;
    let (_tadpole, tadpole) = start(tadpole::app("127.0.0.1:0")).await;
    for (address, directory) in [(chat, "chat"), (tadpole, "tadpole")] {
        let page = get(address, "/web/").await;
        assert_eq!((page.status, &*page.content_type), (200, "text/html"));
        let mut seen = HashSet::new();
        let mut wanted = names_between(&page.body, "=\"", "\"");
        while let Some(name) = wanted.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let file = get(address, &format!("/web/{name}")).await;
            let kind = if name.ends_with(".css") {
                "text/css"
            } else {
                "text/javascript"
            };
            assert_eq!(
                (file.status, &*file.content_type),
                (200, kind),
                "{directory}: {name}"
            );
            let path = if name == "nano.js" {
                format!("{WEB}/{name}")
            } else {
                format!("{WEB}/{directory}/{name}")
            };
            assert_eq!(file.body, std::fs::read_to_string(path).unwrap());
            wanted.extend(names_between(&file.body, "from './", "'"));
        }
        assert!(
            seen.contains("nano.js") && seen.contains("style.css"),
            "{directory} asks for {seen:?}"
        );

        for (path, status, location) in [("/", 303, "/web/"), ("/web", 307, "/web/")] {
            let redirect = get(address, path).await;
            assert_eq!(
                (redirect.status, &*redirect.location),
                (status, location),
                "{directory}: {path}"
            );
        }
        for path in [
            "/web/nothing.js",
            "/nothing",
            "/nano.js",
            "/web/../Cargo.toml",
            "/web/..%2F..%2F..%2FCargo.toml",
            "//Cargo.toml",
        ] {
            assert_eq!(get(address, path).await.status, 404, "{directory}: {path}");
        }
    }
    assert_eq!(
        get(chat, "/nano").await.status,
        400,
        "a WebSocket is no page"
    );
}

async fn start(app: App) -> (Node, SocketAddr) {
    let node = app.start().await.unwrap();
    let address = node.addresses()[0];
    (node, address)
}

async fn connect(address: SocketAddr, path: &str) -> RawClient {
    let mut client = RawClient::websocket(address, path).await;
    client.handshake().await;
    client
}

async fn login(client: &mut RawClient, name: &str) -> i64 {
    let reply = client
        .call(2, "Manager.Login", json!({ "name": name }).to_string())
        .await;
    let id = read(&reply)["id"].as_i64().unwrap();
    assert_eq!(reply, format!(r#"{{"code":0,"id":{id}}}"#));
    id
}

fn read(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

struct Answer {
    status: u16,
    content_type: String,
    location: String,
    body: String,
}

async fn get(address: SocketAddr, path: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    let (mut stream, head) = websocket::http(address, &request).await;
    let mut body = String::new();
    within(
        "the body of an HTTP response",
        stream.read_to_string(&mut body),
    )
    .await
    .unwrap();
    let field = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
            .next()
            .unwrap_or_default()
    };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        content_type: field("content-type"),
        location: field("location"),
        body,
    }
}

/// The names of scripts and styles that stand between these two.
fn names_between(text: &str, before: &str, after: &str) -> Vec<String> {
    let found = text
        .split(before)
        .skip(1)
        .filter_map(|rest| rest.split(after).next());
    found
        .filter(|name| name.ends_with(".js") || name.ends_with(".css"))
        .map(str::to_owned)
        .collect()
}
