//! One hop: a message is a boxed task that the one scheduler thread runs, and its answer goes back through the outbox of its connection.

use std::{mem, sync::Arc, thread};

use nano::Result;
use parking_lot::{Condvar, Mutex};
use tokio::net::{TcpListener, TcpStream};

use super::{
    framing::{respond, take},
    outbox::Outbox,
};

type Task = Box<dyn FnOnce() + Send>;

/// Tasks that wait for the thread, which takes all there are at once.
#[derive(Default)]
struct Scheduler {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    tasks: Vec<Task>,
    asleep: bool,
}

pub(crate) async fn run(listener: TcpListener) -> Result {
    let scheduler = Arc::new(Scheduler::default());
    let worker = scheduler.clone();
    thread::Builder::new().name("scheduler".into()).spawn(move || worker.work())?;
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
            self.wake.notify_one();
        }
    }

    fn work(&self) {
        let mut tasks = Vec::new();
        loop {
            let mut queue = self.queue.lock();
            while queue.tasks.is_empty() {
                queue.asleep = true;
                self.wake.wait(&mut queue);
            }
            mem::swap(&mut queue.tasks, &mut tasks);
            drop(queue);
            tasks.drain(..).for_each(|task| task());
        }
    }
}

async fn serve(mut socket: TcpStream, scheduler: &Scheduler) -> std::io::Result<()> {
    let outbox = Arc::new(Outbox::default());
    let (mut held, mut writing, mut greeting) = (Vec::new(), Vec::new(), Vec::new());
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
