//! The cluster's port is bounded: connections without an authenticated call are closed, and keep no
//! member out.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    nodes::{Living, master, member},
    support::{MemberApp, eventually, within},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
/// END_HEADERS and END_STREAM.
const COMPLETE: u8 = 5;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A gRPC call without a body: enough to pass the check of the token.
fn call(stream: u32, path: &str, token: Option<&str>) -> Vec<u8> {
    // `:method: POST`, `:scheme: http`, then literals without indexing.
    let mut headers = vec![0x83, 0x86];
    let literal = |headers: &mut Vec<u8>, text: &str| {
        headers.push(u8::try_from(text.len()).unwrap());
        headers.extend(text.as_bytes());
    };
    headers.push(4); // `:path`
    literal(&mut headers, path);
    headers.push(0);
    literal(&mut headers, "content-type");
    literal(&mut headers, "application/grpc");
    if let Some(token) = token {
        headers.push(0);
        literal(&mut headers, "authorization");
        literal(&mut headers, &format!("Bearer {token}"));
    }
    frame(HEADERS, COMPLETE, stream, &headers)
}

fn opening() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

const KNOWN: &str = "/clusterpb.Member/NewMember";

async fn connect(node: &Living, bytes: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(node.address()).await.unwrap();
    // The node may have closed it already.
    let _ = socket.write_all(bytes).await;
    socket
}

/// Reads until the node closes the connection; returns what it sent.
async fn closed(socket: &mut TcpStream) -> Vec<u8> {
    let mut sent = Vec::new();
    // A reset is an end too.
    let _ = within("the node closes it", socket.read_to_end(&mut sent)).await;
    sent
}

fn kinds(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [a, b, c, kind, ..] = *bytes {
        kinds.push(kind);
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    kinds
}

/// Whether the node keeps the connection open: it answers a ping.
async fn is_open(socket: &mut TcpStream) -> bool {
    let ping = frame(6, 0, 0, b"are you?");
    if socket.write_all(&ping).await.is_err() {
        return false;
    }
    let mut seen: Vec<u8> = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        match within("an answer", socket.read(&mut buffer)).await {
            Ok(read) if read > 0 => seen.extend(&buffer[..read]),
            _ => return false,
        }
        if seen.windows(8).any(|window| window == b"are you?") {
            return true;
        }
    }
}

fn impatient(app: MemberApp) -> MemberApp {
    app.cluster(|cluster| cluster.authentication_timeout(Duration::from_millis(300)))
}

#[tokio::test]
async fn connections_without_an_authenticated_call_are_closed() {
    let master = Living::start(impatient(master().token("swordfish"))).await;
    let unknown = "/grpc.health.v1.Health/Check";
    let openings: [(&str, Vec<u8>); 8] = [
        ("nothing", Vec::new()),
        ("half a preface", PREFACE[..10].to_vec()),
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("a TLS hello", vec![0x16, 3, 1, 2, 0, 1]),
        ("a preface", PREFACE.to_vec()),
        ("settings", opening()),
        (
            "a call without the token",
            [opening(), call(1, KNOWN, None)].concat(),
        ),
        (
            "calls with a wrong token, and of no service",
            [
                opening(),
                call(1, KNOWN, Some("swordfisH")),
                call(3, unknown, Some("swordfish")),
            ]
            .concat(),
        ),
    ];
    let mut silent = Vec::new();
    for (what, bytes) in &openings {
        for _ in 0..20 {
            silent.push((what, connect(&master, bytes).await));
        }
    }
    let node = Living::start(member(master.address()).token("swordfish")).await;
    master.sees(&[node.address()]).await;
    for (what, socket) in &mut silent {
        let sent = closed(socket).await;
        assert!(
            !what.starts_with("settings") || kinds(&sent).contains(&GOAWAY),
            "{what}: {:?}",
            kinds(&sent)
        );
    }
    // What is authenticated stays.
    let mut kept = connect(
        &master,
        &[opening(), call(1, KNOWN, Some("swordfish"))].concat(),
    )
    .await;
    let mut cut = connect(&master, &opening()).await;
    closed(&mut cut).await;
    assert!(is_open(&mut kept).await);
    assert_eq!(master.table(), [node.address()]);
}

#[tokio::test]
async fn a_tls_handshake_that_never_ends_is_closed() {
    let files = crate::security::Authority::new();
    let tls = || files.tls().server_name("nano.cluster");
    let master = Living::start(impatient(master().tls(tls()))).await;
    // The beginning of a hello: 512 bytes are announced.
    let mut silent = Vec::new();
    for bytes in [&[][..], &[0x16, 3, 1, 2, 0, 1, 0, 1, 252]] {
        silent.push(connect(&master, bytes).await);
    }
    let node = Living::start(member(master.address()).tls(tls())).await;
    for socket in &mut silent {
        closed(socket).await;
    }
    master.sees(&[node.address()]).await;
}

#[tokio::test]
async fn the_oldest_silent_connection_makes_room_for_a_member() {
    let app = master().cluster(|cluster| cluster.max_unauthenticated_connections(8));
    let master = Living::start(app).await;
    let mut flood = Vec::new();
    for _ in 0..100 {
        flood.push(connect(&master, &opening()).await);
    }
    let node = Living::start(member(master.address())).await;
    master.sees(&[node.address()]).await;
    for socket in &mut flood[..92] {
        closed(socket).await;
    }
}

#[tokio::test]
async fn connections_are_bounded_in_all_and_by_address() {
    let total: fn(MemberApp) -> MemberApp = |app| app.cluster(|cluster| cluster.max_connections(4));
    let by_address: fn(MemberApp) -> MemberApp =
        |app| app.cluster(|cluster| cluster.max_connections_per_address(4));
    for bound in [total, by_address] {
        let master = Living::start(bound(master())).await;
        let mut kept = Vec::new();
        for _ in 0..4 {
            let mut socket = connect(&master, &[opening(), call(1, KNOWN, None)].concat()).await;
            assert!(is_open(&mut socket).await);
            kept.push(socket);
        }
        let mut refused = connect(&master, &opening()).await;
        assert_eq!(closed(&mut refused).await, b"");
        for socket in &mut kept {
            assert!(is_open(socket).await);
        }
        kept.pop();
        eventually_admitted(&master).await;
    }
}

async fn eventually_admitted(master: &Living) {
    let admitted = async {
        loop {
            let mut socket = connect(master, &opening()).await;
            if is_open(&mut socket).await {
                return;
            }
        }
    };
    within("a place is free", admitted).await;
}

#[tokio::test]
async fn streams_headers_and_frames_are_bounded() {
    let master = Living::start(master()).await;
    let mut socket = connect(&master, &opening()).await;
    let mut head = [0; 9];
    within("settings", socket.read_exact(&mut head))
        .await
        .unwrap();
    assert_eq!(head[3], SETTINGS);
    let mut settings = vec![0; usize::from(head[2])];
    socket.read_exact(&mut settings).await.unwrap();
    let mut found = Vec::new();
    for setting in settings.chunks(6) {
        let value = u32::from_be_bytes(setting[2..].try_into().unwrap());
        found.push((setting[1], value));
    }
    // MAX_CONCURRENT_STREAMS and MAX_HEADER_LIST_SIZE.
    assert!(
        found.contains(&(3, 1024)) && found.contains(&(6, 16 * 1024)),
        "{found:?}"
    );
    let mut oversized = connect(&master, &[opening(), frame(0, 0, 1, &[0; 20_000])].concat()).await;
    assert!(kinds(&closed(&mut oversized).await).contains(&GOAWAY));
}

#[tokio::test]
async fn calls_that_are_reset_at_once_end_their_connection() {
    let master = Living::start(master()).await;
    let mut flood = opening();
    for number in 0..2000 {
        let stream = 2 * number + 1;
        flood.extend(call(stream, KNOWN, None));
        flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    let mut socket = connect(&master, &flood).await;
    assert!(kinds(&closed(&mut socket).await).contains(&GOAWAY));
    let node = Living::start(member(master.address())).await;
    master.sees(&[node.address()]).await;
}

#[tokio::test]
async fn a_stopped_node_keeps_no_silent_connection() {
    let master = Living::start(master()).await;
    let mut silent = [
        connect(&master, b"").await,
        connect(&master, &PREFACE[..5]).await,
    ];
    master.stop().await;
    for socket in &mut silent {
        closed(socket).await;
    }
    eventually("its address is free", || {
        std::net::TcpListener::bind(master.address()).is_ok()
    })
    .await;
}
