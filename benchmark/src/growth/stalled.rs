//! Clients that join a group and then read nothing, while twenty that read hear its broadcasts.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::try_join_all;
use nano::{Error, Result, code, packet::Kind};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    time::sleep,
};

use super::{
    curve::Point,
    server::{self, Process},
    usage::until,
};
use crate::{
    load::{Report, packet_header},
    process,
};

const BUDGET_MIB: &str = "256";
/// Clients that hear every broadcast of 1 KB, eight of which are on their way at any time.
const READERS: [&str; 8] = [
    "--scenario",
    "broadcast",
    "--connections",
    "20",
    "--in-flight",
    "8",
    "--size",
    "1024",
];
/// What the system keeps for a client that does not read, beside the server's queue.
const SOCKET_BUFFER: u32 = 8 * 1024;
/// How many connect at a time.
const AT_ONCE: usize = 100;
const REST: Duration = Duration::from_secs(60);

pub(super) async fn measure(size: usize) -> Result<Point> {
    let (server, address) = server::start(&["--memory-mib", BUDGET_MIB])?;
    let alone = heard(&server, &address, "4").await?;
    let before = process::memory(&[server.id()]);

    let mut stalled = Vec::with_capacity(size);
    let target: SocketAddr = address
        .parse()
        .map_err(|_| Error::new(code::BAD_REQUEST, "not an address"))?;
    while stalled.len() < size {
        let count = AT_ONCE.min(size - stalled.len());
        stalled.extend(try_join_all((0..count).map(|_| join(target))).await?);
    }
    until("all to have joined", || server.descriptors() > size).await?;
    let beside = heard(&server, &address, "20").await?;
    let peak = process::peak_memory(server.id());
    let left = server.descriptors();
    drop(stalled);
    sleep(REST).await;
    let after = process::memory(&[server.id()]);
    let again = heard(&server, &address, "4").await?;

    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    Ok(Point::default()
        .with("p99 without them", "us", alone.p99)
        .with("p99 beside them", "us", beside.p99)
        .with("p99 when they are gone", "us", again.p99)
        .with("deliveries that readers lost", "", beside.dropped as f64)
        .with("descriptors at the end", "", left as f64)
        .with("memory before", "MiB", mib(before))
        .with("memory at the peak", "MiB", mib(peak))
        .with("memory a minute later", "MiB", mib(after)))
}

async fn heard(server: &Process, address: &str, seconds: &str) -> Result<Report> {
    let mut flags = READERS.to_vec();
    flags.extend(["--duration", seconds]);
    server::load(server, address, &flags).await
}

/// Joins the group, and reads nothing, not even the answers.
async fn join(server: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    let mut socket = socket.connect(server).await?;
    let mut bytes = Vec::new();
    let body = format!("{:016x}", 1);
    // A request with the number 1.
    let join = [&b"\x00\x01\x08Grp.Join"[..], body.as_bytes()].concat();
    for (kind, body) in [
        (Kind::Handshake, &b"{}"[..]),
        (Kind::Ack, &[]),
        (Kind::Data, &join),
    ] {
        bytes.extend_from_slice(&packet_header(kind, body.len()));
        bytes.extend_from_slice(body);
    }
    socket.write_all(&bytes).await?;
    Ok(socket)
}
