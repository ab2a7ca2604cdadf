//! One hop: a message is a boxed task that the one scheduler thread runs, and its answer goes out through a task of its connection.

use std::{
    sync::{Arc, mpsc},
    thread,
};

use nano::Result;
use tokio::net::{TcpListener, TcpStream, tcp::OwnedReadHalf};

use super::{
    framing::{read, respond, take},
    outbox::Outbox,
};

type Task = Box<dyn FnOnce() + Send>;

pub(crate) async fn run(listener: TcpListener) -> Result {
    let (scheduler, tasks) = mpsc::channel::<Task>();
    thread::Builder::new().name("scheduler".into()).spawn(move || tasks.iter().for_each(|task| task()))?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let scheduler = scheduler.clone();
        tokio::spawn(async move { serve(socket, scheduler).await.unwrap_or_default() });
    }
}

async fn serve(socket: TcpStream, scheduler: mpsc::Sender<Task>) -> std::io::Result<()> {
    let (socket, writer) = socket.into_split();
    let outbox = Arc::new(Outbox::default());
    tokio::spawn(outbox.clone().drain(writer));
    let served = receive(&socket, &outbox, &scheduler).await;
    outbox.close();
    served
}

async fn receive(socket: &OwnedReadHalf, outbox: &Arc<Outbox>, scheduler: &mpsc::Sender<Task>) -> std::io::Result<()> {
    let (mut held, mut greeting) = (Vec::new(), Vec::new());
    while read(socket.as_ref(), &mut held).await? {
        take(&mut held, &mut greeting, |_, request| {
            let outbox = outbox.clone();
            let task = Box::new(move || outbox.append(|out| respond(request.id, &request.body, out)));
            // The thread lives as long as the process.
            scheduler.send(task).unwrap_or_default();
        })?;
        if !greeting.is_empty() {
            outbox.append(|out| out.append(&mut greeting));
        }
    }
    Ok(())
}
