//! One hop: a message is a boxed task that the one scheduler runs, and its answer goes back through the outbox of its connection.

use std::{
    sync::{Arc, mpsc},
    thread,
};

use nano::Result;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc as asynchronous,
};

use super::{
    framing::{respond, take},
    outbox::{Outbox, Writing},
};

type Task = Box<dyn FnOnce() + Send>;

/// How many tasks the scheduler takes at once where it is a task itself.
const BATCH: usize = 256;

/// The way to what runs tasks: a thread, or a task of the runtime.
#[derive(Clone)]
enum Scheduler {
    Thread(mpsc::Sender<Task>),
    Task(asynchronous::UnboundedSender<Task>),
}

pub(crate) async fn run(listener: TcpListener, on_workers: bool) -> Result {
    let scheduler = if on_workers { Scheduler::task() } else { Scheduler::thread()? };
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let scheduler = scheduler.clone();
        tokio::spawn(async move { serve(socket, &scheduler).await.unwrap_or_default() });
    }
}

impl Scheduler {
    fn thread() -> Result<Self> {
        let (tasks, queued) = mpsc::channel::<Task>();
        thread::Builder::new().name("scheduler".into()).spawn(move || queued.into_iter().for_each(|task| task()))?;
        Ok(Self::Thread(tasks))
    }

    fn task() -> Self {
        let (tasks, mut queued) = asynchronous::unbounded_channel::<Task>();
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while queued.recv_many(&mut batch, BATCH).await > 0 {
                batch.drain(..).for_each(|task| task());
                // The other tasks of this thread have their turn, too.
                tokio::task::yield_now().await;
            }
        });
        Self::Task(tasks)
    }

    fn push(&self, task: Task) {
        // The scheduler lives as long as this.
        match self {
            Self::Thread(tasks) => tasks.send(task).unwrap_or_default(),
            Self::Task(tasks) => tasks.send(task).unwrap_or_default(),
        }
    }
}

async fn serve(mut socket: TcpStream, scheduler: &Scheduler) -> std::io::Result<()> {
    let outbox = Arc::new(Outbox::default());
    let (mut held, mut writing, mut greeting) = (Vec::new(), Writing::default(), Vec::new());
    while outbox.exchange(&mut socket, &mut held, &mut writing).await? {
        take(&mut held, &mut greeting, |_, request| {
            let outbox = outbox.clone();
            scheduler.push(Box::new(move || outbox.append(|out| respond(request.id, &request.body, out))));
        })?;
        if !greeting.is_empty() {
            outbox.append(|out| out.append(&mut greeting));
        }
    }
    Ok(())
}
