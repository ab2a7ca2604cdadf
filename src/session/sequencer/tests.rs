use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::task::noop_waker;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::oneshot};

use super::{SequencedTask, Sequencer, Ticket};
use crate::scheduler::{Pool, Scheduler};

impl super::Sequenced for Arc<Sequencer> {
    fn sequencer(&self) -> &Sequencer {
        self
    }
}

type Session = Arc<Sequencer>;
type Log = Arc<Mutex<Vec<&'static str>>>;

/// A pool whose schedulers run between the test's own steps.
fn pool() -> Pool {
    Pool::new("test", 0, Handle::current()).unwrap()
}

/// Ends when every task queued on the scheduler before it has run.
async fn ran(scheduler: &Scheduler) {
    let (done, wait) = oneshot::channel();
    let _ = scheduler.push_always(Box::new(move || done.send(()).unwrap_or_default()));
    wait.await.unwrap();
}

/// A task that notes its name, and ends its ticket.
fn task(ticket: Ticket<Session>, name: &'static str, log: &Log) -> SequencedTask {
    let (place, log) = (ticket.place(), log.clone());
    let run = move || {
        log.lock().push(name);
        drop(ticket);
    };
    SequencedTask::new(place, Box::new(run))
}

fn submit(session: &Session, scheduler: &Scheduler, name: &'static str, log: &Log) {
    let ticket = Ticket::new(session.clone(), scheduler);
    let task = task(ticket, name, log);
    session.submit(scheduler, task).unwrap();
}

fn is_ready(session: &Session, limit: usize) -> bool {
    session.poll_ready(limit, &mut Context::from_waker(&noop_waker())) == Poll::Ready(())
}

#[tokio::test]
async fn messages_start_in_order_across_schedulers() {
    let (pool, session, log) = (pool(), Session::default(), Log::default());
    let (a, b) = (pool.scheduler("a", 8), pool.scheduler("b", 8));
    for (scheduler, name) in [(&a, "1"), (&a, "2"), (&b, "3"), (&a, "4"), (&b, "5")] {
        submit(&session, scheduler, name, &log);
    }
    for scheduler in [&a, &b, &a, &b] {
        ran(scheduler).await;
    }
    assert_eq!(*log.lock(), ["1", "2", "3", "4", "5"]);
    assert!(is_ready(&session, 1), "nothing is unfinished");
}

#[tokio::test]
async fn a_ticket_waits_for_the_task_of_the_one_before() {
    let (pool, session, log) = (pool(), Session::default(), Log::default());
    let (a, b) = (pool.scheduler("a", 8), pool.scheduler("b", 8));
    let running = Ticket::new(session.clone(), &a);
    let first = Ticket::new(session.clone(), &b);
    submit(&session, &b, "second", &log);
    drop(running);
    ran(&b).await;
    assert!(log.lock().is_empty());
    let first = task(first, "first", &log);
    session.submit(&b, first).unwrap();
    ran(&b).await;
    assert_eq!(*log.lock(), ["first", "second"]);
}

#[tokio::test]
async fn a_ticket_dropped_without_a_task_lets_the_next_go() {
    let (pool, session, log) = (pool(), Session::default(), Log::default());
    let (a, b) = (pool.scheduler("a", 8), pool.scheduler("b", 8));
    let running = Ticket::new(session.clone(), &a);
    let unused = Ticket::new(session.clone(), &b);
    submit(&session, &b, "next", &log);
    drop(running);
    drop(unused);
    ran(&b).await;
    assert_eq!(*log.lock(), ["next"]);
    assert!(is_ready(&session, 1));
}

#[tokio::test]
async fn a_suspended_ticket_gives_up_its_place_and_counts_until_it_ends() {
    let (pool, session, log) = (pool(), Session::default(), Log::default());
    let (a, b) = (pool.scheduler("a", 8), pool.scheduler("b", 8));
    let mut handler = Ticket::new(session.clone(), &a);
    submit(&session, &b, "next", &log);
    handler.suspend();
    handler.suspend();
    ran(&b).await;
    assert_eq!(*log.lock(), ["next"]);
    assert!(!is_ready(&session, 1));
    drop(handler);
    assert!(is_ready(&session, 1));
}

#[tokio::test]
async fn an_exclusive_ticket_keeps_all_later_ones_waiting_until_it_is_dropped() {
    let (pool, session, log) = (pool(), Session::default(), Log::default());
    let (a, b) = (pool.scheduler("a", 8), pool.scheduler("b", 8));
    submit(&session, &a, "before", &log);
    let exclusive = Ticket::exclusive(session.clone(), &a);
    submit(&session, &a, "same scheduler", &log);
    let waiting = Ticket::exclusive(session.clone(), &b);
    submit(&session, &b, "last", &log);
    ran(&a).await;
    assert_eq!(*log.lock(), ["before"]);
    drop(exclusive);
    ran(&a).await;
    ran(&b).await;
    assert_eq!(*log.lock(), ["before", "same scheduler"]);
    let waiting = task(waiting, "second", &log);
    session.submit(&b, waiting).unwrap();
    ran(&b).await;
    ran(&b).await;
    assert_eq!(*log.lock(), ["before", "same scheduler", "second", "last"]);
    assert!(is_ready(&session, 1));
}

#[tokio::test]
async fn a_task_refused_by_a_full_queue_keeps_its_place() {
    let (pool, session, log) = (pool(), Session::default(), Log::default());
    let (a, b) = (pool.scheduler("a", 1), pool.scheduler("b", 8));
    a.push_task(|| ()).unwrap();
    let first = task(Ticket::new(session.clone(), &a), "first", &log);
    let first = session.submit(&a, first).unwrap_err();
    submit(&session, &b, "second", &log);
    ran(&b).await;
    ran(&a).await;
    assert!(log.lock().is_empty());
    session.submit(&a, first).unwrap();
    ran(&a).await;
    ran(&b).await;
    assert_eq!(*log.lock(), ["first", "second"]);
}

#[tokio::test]
async fn schedulers_that_have_ended_release_every_ticket_once() {
    let (pool, other) = (pool(), pool());
    let (session, log) = (Session::default(), Log::default());
    let (alive, ended) = (pool.scheduler("alive", 8), other.scheduler("ended", 8));
    let running = Ticket::new(session.clone(), &alive);
    submit(&session, &ended, "dropped", &log);
    submit(&session, &ended, "dropped", &log);
    submit(&session, &alive, "last", &log);
    assert!(other.shutdown(Duration::from_secs(5)).await);
    drop(running);
    ran(&alive).await;
    assert_eq!(*log.lock(), ["last"]);
    submit(&session, &ended, "dropped", &log);
    assert!(is_ready(&session, 1));
}

#[tokio::test]
async fn the_reader_is_woken_when_a_message_ends() {
    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let (pool, session) = (pool(), Session::default());
    let scheduler = pool.scheduler("a", 8);
    let wakes = Arc::new(Count(AtomicUsize::new(0)));
    let ticket = Ticket::new(session.clone(), &scheduler);
    let waker = wakes.clone().into();
    assert!(
        session
            .poll_ready(1, &mut Context::from_waker(&waker))
            .is_pending()
    );
    drop(ticket);
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    assert!(is_ready(&session, 1));
}
