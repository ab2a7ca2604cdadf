//! The least a server can do with tokio: each connection is a task that reads, answers and writes.

use std::future::poll_fn;

use nano::Result;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use super::framing::{poll_read, respond, take};

pub(crate) async fn run(listener: TcpListener) -> Result {
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        // A client that goes is the end of its task and nothing else.
        tokio::spawn(async move { serve(socket).await.unwrap_or_default() });
    }
}

async fn serve(mut socket: TcpStream) -> std::io::Result<()> {
    let (mut held, mut out) = (Vec::new(), Vec::new());
    while poll_fn(|cx| poll_read(&mut socket, &mut held, cx)).await? {
        take(&mut held, &mut out, |out, request| respond(request.id, &request.body, out))?;
        socket.write_all(&out).await?;
        out.clear();
    }
    Ok(())
}
