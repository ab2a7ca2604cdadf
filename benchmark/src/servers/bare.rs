//! The least a server can do with tokio: each connection is a task that reads, and writes whatever
//! follows from what it read.

use std::{
    future::poll_fn,
    io,
    sync::{Arc, Weak},
};

use nano::Result;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream, tcp::OwnedWriteHalf};

use super::framing::{Request, poll_read, push, respond, take};

/// The one group there is.
type Group = Mutex<Vec<Weak<OwnedWriteHalf>>>;

pub(crate) async fn run(listener: TcpListener) -> Result {
    let group = Arc::new(Group::default());
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let group = group.clone();
        // A client that goes is the end of its task and nothing else.
        tokio::spawn(async move { serve(socket, &group).await.unwrap_or_default() });
    }
}

async fn serve(socket: TcpStream, group: &Group) -> io::Result<()> {
    let (mut reader, writer) = socket.into_split();
    let writer = Arc::new(writer);
    let (mut held, mut out) = (Vec::new(), Vec::new());
    while poll_fn(|cx| poll_read(&mut reader, &mut held, cx)).await? {
        take(&mut held, &mut out, |out, request| {
            answer(request, group, &writer, out)
        })?;
        write_all(&writer, &out).await?;
        out.clear();
    }
    Ok(())
}

fn answer(request: Request, group: &Group, writer: &Arc<OwnedWriteHalf>, out: &mut Vec<u8>) {
    match &*request.route {
        b"Grp.Send" => return broadcast(group, &request.body),
        b"Grp.Join" => group.lock().push(Arc::downgrade(writer)),
        _ => {}
    }
    respond(request.id, &request.body, out);
}

/// One write for each member, here and now. A member whose socket is full misses it, which the load
/// will not fail to see.
fn broadcast(group: &Group, body: &[u8]) {
    let mut packet = Vec::new();
    push("onBroadcast", body, &mut packet);
    group.lock().retain(|member| {
        member.upgrade().is_some_and(|member| {
            member
                .try_write(&packet)
                .is_ok_and(|size| size == packet.len())
        })
    });
}

async fn write_all(writer: &OwnedWriteHalf, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match writer.try_write(bytes) {
            Ok(size) => bytes = &bytes[size..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => writer.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
