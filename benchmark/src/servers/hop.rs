//! One hop: a message is a boxed task that the one scheduler runs, and its answer goes to the task
//! that writes for its connection.

use std::{io, mem, sync::mpsc, thread};

use nano::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use super::framing::{READ, respond, take};

type Task = Box<dyn FnOnce() + Send>;

/// How many tasks, or answers, are taken at once.
const BATCH: usize = 256;
/// Room for what stands before the body of an answer.
const ANSWER: usize = 16;

/// The way to what runs tasks: a thread, or a task of the runtime.
#[derive(Clone)]
enum Scheduler {
    Thread(mpsc::Sender<Task>),
    Task(UnboundedSender<Task>),
}

pub(crate) async fn run(listener: TcpListener, on_workers: bool) -> Result {
    let scheduler = if on_workers {
        Scheduler::task()
    } else {
        Scheduler::thread()?
    };
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
        thread::Builder::new()
            .name("scheduler".into())
            .spawn(move || queued.into_iter().for_each(|task| task()))?;
        Ok(Self::Thread(tasks))
    }

    fn task() -> Self {
        let (tasks, mut queued) = unbounded_channel::<Task>();
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

async fn serve(socket: TcpStream, scheduler: &Scheduler) -> io::Result<()> {
    let (mut reader, writer) = socket.into_split();
    let (answers, queued) = unbounded_channel();
    tokio::spawn(async move { write(writer, queued).await.unwrap_or_default() });
    let (mut held, mut greeting) = (Vec::new(), Vec::new());
    loop {
        held.reserve(READ);
        if reader.read_buf(&mut held).await? == 0 {
            return Ok(());
        }
        take(&mut held, &mut greeting, |_, request| {
            let answers = answers.clone();
            scheduler.push(Box::new(move || {
                let mut answer = Vec::with_capacity(ANSWER + request.body.len());
                respond(request.id, &request.body, &mut answer);
                // A client that has gone wants none.
                let _ = answers.send(answer);
            }));
        })?;
        if !greeting.is_empty() {
            let _ = answers.send(mem::take(&mut greeting));
        }
    }
}

/// Writes answers, all there are at once.
async fn write(
    mut writer: OwnedWriteHalf,
    mut queued: UnboundedReceiver<Vec<u8>>,
) -> io::Result<()> {
    let mut answers = Vec::new();
    while queued.recv_many(&mut answers, BATCH).await > 0 {
        match &answers[..] {
            [answer] => writer.write_all(answer).await?,
            several => writer.write_all(&several.concat()).await?,
        }
        answers.clear();
    }
    Ok(())
}
