//! One hop: a message is a boxed task that the one scheduler runs, and its answer goes back through the outbox of its connection.

use std::{mem, sync::Arc, thread};

use nano::Result;
use parking_lot::{Condvar, Mutex};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::{
    framing::{respond, take},
    outbox::{Outbox, Writing},
};

type Task = Box<dyn FnOnce() + Send>;

/// Tasks that wait to be run, all there are at once.
struct Scheduler {
    queue: Mutex<Queue>,
    wake: Wake,
}

/// What runs them: a thread, or a task of the runtime.
enum Wake {
    Thread(Condvar),
    Task(Notify),
}

#[derive(Default)]
struct Queue {
    tasks: Vec<Task>,
    asleep: bool,
}

pub(crate) async fn run(listener: TcpListener, on_workers: bool) -> Result {
    let wake = if on_workers { Wake::Task(Notify::new()) } else { Wake::Thread(Condvar::new()) };
    let scheduler = Arc::new(Scheduler { queue: Mutex::default(), wake });
    let worker = scheduler.clone();
    if on_workers {
        tokio::spawn(async move { worker.work_as_task().await });
    } else {
        thread::Builder::new().name("scheduler".into()).spawn(move || worker.work_as_thread())?;
    }
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let scheduler = scheduler.clone();
        tokio::spawn(async move { serve(socket, &scheduler).await.unwrap_or_default() });
    }
}

impl Scheduler {
    fn push(&self, task: Task) {
        let mut queue = self.queue.lock();
        queue.tasks.push(task);
        if mem::take(&mut queue.asleep) {
            match &self.wake {
                Wake::Thread(wake) => drop(wake.notify_one()),
                Wake::Task(wake) => wake.notify_one(),
            }
        }
    }

    /// Takes what is there; if nothing is, the next push wakes whoever works.
    fn take(&self, tasks: &mut Vec<Task>) {
        let mut queue = self.queue.lock();
        if let (Wake::Thread(wake), true) = (&self.wake, queue.tasks.is_empty()) {
            queue.asleep = true;
            wake.wait(&mut queue);
        }
        queue.asleep = queue.tasks.is_empty();
        mem::swap(&mut queue.tasks, tasks);
    }

    fn work_as_thread(&self) {
        let mut tasks = Vec::new();
        loop {
            self.take(&mut tasks);
            tasks.drain(..).for_each(|task| task());
        }
    }

    async fn work_as_task(&self) {
        let mut tasks = Vec::new();
        loop {
            self.take(&mut tasks);
            let idle = tasks.is_empty();
            tasks.drain(..).for_each(|task| task());
            match &self.wake {
                Wake::Task(wake) if idle => wake.notified().await,
                // The other tasks of this thread have their turn, too.
                _ => tokio::task::yield_now().await,
            }
        }
    }
}

async fn serve(socket: TcpStream, scheduler: &Scheduler) -> std::io::Result<()> {
    let outbox = Arc::new(Outbox::default());
    let (mut held, mut writing, mut greeting) = (Vec::new(), Writing::default(), Vec::new());
    while outbox.exchange(&socket, &mut held, &mut writing).await? {
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
