//! Schedulers: serial, first in first out, bounded, and safe from what user code does.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "scheduler/async_tasks.rs"]
mod async_tasks;
#[path = "scheduler/shutdown.rs"]
mod shutdown;

use std::{
    cell::RefCell,
    collections::HashSet,
    future::{pending, poll_fn},
    hint,
    pin::pin,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    task::{Poll, Waker},
    thread,
    time::Duration,
};

use nano::{PushError, Scheduler, code, scheduler::Pool};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc as channel, oneshot},
    time::{Instant, timeout},
};

/// Long enough for anything here on a slow machine; only a failing test waits for it.
const DEADLINE: Duration = Duration::from_secs(20);

fn pool(threads: usize) -> Pool {
    Pool::new("test", threads, Handle::current()).unwrap()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future)
        .await
        .expect("nothing happened before the deadline")
}

/// Everything queued so far has run when this returns.
async fn flush(scheduler: &Scheduler) {
    let (done, wait) = oneshot::channel();
    scheduler.push_task(move || done.send(()).unwrap()).unwrap();
    within(wait).await.unwrap();
}

/// Holds the scheduler in a task until the sender is dropped; returns once the task runs.
async fn hold(scheduler: &Scheduler) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel::<()>();
    let (started, wait) = oneshot::channel();
    scheduler
        .push_task(move || {
            started.send(()).unwrap();
            held.recv().unwrap_err();
        })
        .unwrap();
    within(wait).await.unwrap();
    release
}

/// Tells when it is dropped.
struct OnDrop(Option<oneshot::Sender<()>>);

impl OnDrop {
    fn new() -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(sender)), receiver)
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.take().unwrap().send(());
    }
}

/// Fails if two threads are in it at once.
#[derive(Default)]
struct Alone {
    inside: AtomicBool,
    overlaps: AtomicUsize,
}

impl Alone {
    fn pass(&self) {
        if self.inside.swap(true, SeqCst) {
            self.overlaps.fetch_add(1, SeqCst);
        }
        thread::yield_now();
        self.inside.store(false, SeqCst);
    }
}

#[tokio::test]
async fn tasks_of_many_threads_run_one_at_a_time_and_in_each_threads_order() {
    let (pushers, tasks) = (8, 1_000);
    let pool = pool(4);
    let scheduler = pool.scheduler("room", pushers * tasks);
    let (alone, seen) = (
        Arc::new(Alone::default()),
        Arc::new(Mutex::new(vec![Vec::new(); pushers])),
    );
    let threads: Vec<_> = (0..pushers)
        .map(|pusher| {
            let (scheduler, alone, seen) = (scheduler.clone(), alone.clone(), seen.clone());
            thread::spawn(move || {
                for task in 0..tasks {
                    let (alone, seen) = (alone.clone(), seen.clone());
                    let task = move || {
                        alone.pass();
                        seen.lock()[pusher].push(task);
                    };
                    scheduler.push_task(task).unwrap();
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());

    assert!(pool.shutdown(DEADLINE).await);
    assert_eq!(alone.overlaps.load(SeqCst), 0);
    assert_eq!(*seen.lock(), vec![(0..tasks).collect::<Vec<_>>(); pushers]);
}

#[tokio::test]
async fn fifty_schedulers_on_four_threads_are_each_serial_and_in_order() {
    let pool = pool(4);
    let rooms: Vec<_> = (0..50)
        .map(|room| {
            (
                pool.scheduler(format!("room-{room}"), 1_000),
                Arc::new(Alone::default()),
                Arc::new(Mutex::new(Vec::new())),
            )
        })
        .collect();
    for task in 0..300 {
        for (scheduler, alone, seen) in &rooms {
            let (own, alone, seen) = (scheduler.clone(), alone.clone(), seen.clone());
            let task = move || {
                alone.pass();
                seen.lock().push((task, own.is_current()));
            };
            scheduler.push_task(task).unwrap();
        }
    }

    assert!(pool.shutdown(DEADLINE).await);
    for (_, alone, seen) in &rooms {
        assert_eq!(alone.overlaps.load(SeqCst), 0);
        assert_eq!(
            *seen.lock(),
            (0..300).map(|task| (task, true)).collect::<Vec<_>>()
        );
    }
}

/// Again and again, so that its threads are found asleep, half asleep and looking for work.
#[tokio::test]
async fn schedulers_of_one_pool_run_at_the_same_time() {
    let pool = pool(3);
    let schedulers = ["a", "b", "c"].map(|name| pool.scheduler(name, 1));
    for pause in 0..2_000 {
        let meeting = Arc::new(Barrier::new(schedulers.len()));
        let left = Arc::new(Semaphore::new(0));
        for scheduler in &schedulers {
            let (meeting, left) = (meeting.clone(), left.clone());
            let meet = move || {
                meeting.wait();
                left.add_permits(1);
            };
            scheduler.push_task(meet).unwrap();
        }
        let met = timeout(DEADLINE, left.acquire_many(3)).await;
        assert!(met.is_ok(), "they waited for each other in vain");
        (0..pause % 50 * 20).for_each(|_| hint::spin_loop());
    }
    assert!(pool.shutdown(DEADLINE).await);
}

#[tokio::test]
async fn blocked_user_code_delays_its_own_scheduler_only() {
    let pool = pool(2);
    let (slow, quick) = (pool.scheduler("slow", 10), pool.scheduler("quick", 10));
    let release = hold(&slow).await;
    let waiting = Arc::new(AtomicBool::new(true));
    let later = waiting.clone();
    slow.push_task(move || later.store(false, SeqCst)).unwrap();

    for _ in 0..100 {
        flush(&quick).await;
    }
    assert!(waiting.load(SeqCst));
    drop(release);
    flush(&slow).await;
    assert!(!waiting.load(SeqCst));
}

#[tokio::test]
async fn a_scheduler_that_never_runs_dry_leaves_turns_to_others() {
    fn again(scheduler: &Scheduler, stop: &Arc<AtomicBool>) {
        if !stop.load(SeqCst) {
            let (own, stop) = (scheduler.clone(), stop.clone());
            scheduler.push_task(move || again(&own, &stop)).unwrap();
        }
    }
    let pool = pool(1);
    let (busy, other) = (pool.scheduler("busy", 10), pool.scheduler("other", 10));
    let stop = Arc::new(AtomicBool::new(false));
    again(&busy, &stop);

    flush(&other).await;
    stop.store(true, SeqCst);
    assert!(pool.shutdown(DEADLINE).await);
}

#[tokio::test]
async fn a_long_queue_is_worked_off_in_turns_of_256_tasks() {
    let pool = pool(1);
    let (busy, other) = (pool.scheduler("busy", 1_000), pool.scheduler("other", 10));
    let release = hold(&busy).await;
    let ran = Arc::new(AtomicUsize::new(0));
    let (sender, receiver) = oneshot::channel();
    let seen = ran.clone();
    let look = move || {
        other
            .push_task(move || sender.send(seen.load(SeqCst)).unwrap())
            .unwrap()
    };
    busy.push_task(look).unwrap();
    for _ in 0..999 {
        let ran = ran.clone();
        let count = move || {
            ran.fetch_add(1, SeqCst);
        };
        busy.push_task(count).unwrap();
    }
    drop(release);
    assert_eq!(within(receiver).await.unwrap(), 255);
}

#[tokio::test]
async fn a_panic_ends_its_own_task_alone() {
    let pool = pool(1);
    let scheduler = pool.scheduler("room", 10);
    scheduler.push_task(|| panic!("on purpose")).unwrap();
    scheduler.spawn(async { panic!("on purpose") }).unwrap();
    flush(&scheduler).await;
    assert_eq!(pool.panics(), 2);
}

#[tokio::test]
async fn a_full_scheduler_gives_the_task_back() {
    let pool = pool(1);
    let scheduler = pool.scheduler("room", 3);
    let release = hold(&scheduler).await;
    let ran = Arc::new(AtomicUsize::new(0));
    let task = || {
        let ran = ran.clone();
        move || {
            ran.fetch_add(1, SeqCst);
        }
    };
    for waiting in 0..3 {
        assert_eq!((scheduler.len(), scheduler.is_full()), (waiting, false));
        scheduler.push_task(task()).unwrap();
    }

    assert!(scheduler.is_full());
    let full = scheduler.push_task(task()).unwrap_err();
    assert!(matches!(full, PushError::Full(_)) && !full.is_closed());
    assert_eq!(ran.load(SeqCst), 0);
    full.into_task()();
    assert_eq!(ran.load(SeqCst), 1, "the task itself came back");

    let refused = scheduler
        .spawn(pending())
        .map_err(nano::Error::from)
        .unwrap_err();
    assert_eq!(refused.code(), code::TOO_MANY);
    drop(release);
    assert!(pool.shutdown(DEADLINE).await);
    assert_eq!(ran.load(SeqCst), 4);
}

#[tokio::test]
async fn a_task_that_fills_its_own_scheduler_is_refused_not_blocked() {
    let pool = pool(0);
    let scheduler = pool.scheduler("room", 3);
    let (results, mut pushed) = channel::unbounded_channel();
    let own = scheduler.clone();
    let task = move || (0..5).for_each(|_| results.send(own.push_task(|| ()).is_ok()).unwrap());
    scheduler.push_task(task).unwrap();
    let mut taken = Vec::new();
    while let Some(ok) = within(pushed.recv()).await {
        taken.push(ok);
    }
    assert_eq!(taken, [true, true, true, false, false]);
}

#[tokio::test]
async fn room_is_announced_when_the_queue_has_drained_to_half() {
    let pool = pool(1);
    let scheduler = pool.scheduler("room", 4);
    let (step, steps) = mpsc::channel::<()>();
    let (started, mut starts) = channel::unbounded_channel();
    let steps = Arc::new(Mutex::new(steps));
    let task = || {
        let (started, steps) = (started.clone(), steps.clone());
        move || {
            started.send(()).unwrap();
            steps.lock().recv().unwrap();
        }
    };
    within(scheduler.ready()).await;
    scheduler.push_task(task()).unwrap();
    within(starts.recv()).await.unwrap();
    (0..4).for_each(|_| scheduler.push_task(task()).unwrap());

    let mut ready = pin!(scheduler.ready());
    let mut is_pending =
        async || poll_fn(|context| Poll::Ready(ready.as_mut().poll(context).is_pending())).await;
    assert!(is_pending().await, "full");
    step.send(()).unwrap();
    within(starts.recv()).await.unwrap();
    assert!(is_pending().await, "three of four wait");
    step.send(()).unwrap();
    within(starts.recv()).await.unwrap();
    within(ready).await;
    assert_eq!(scheduler.len(), 2);

    (0..3).for_each(|_| step.send(()).unwrap());
    assert!(pool.shutdown(DEADLINE).await);
}

#[tokio::test]
// The hash is that of the identity, which never changes.
#[expect(clippy::mutable_key_type)]
async fn a_scheduler_is_equal_to_itself_alone_and_current_in_its_tasks_alone() {
    let pool = pool(1);
    let (one, two) = (pool.scheduler("same", 1), pool.scheduler("same", 1));
    assert_eq!(one, one.clone());
    assert_ne!(one, two);
    let known = HashSet::from([one.clone(), two.clone(), one.clone()]);
    assert_eq!(known.len(), 2);
    assert!(!one.is_current());
    let (sender, receiver) = oneshot::channel();
    let (own, other) = (one.clone(), two.clone());
    one.push_task(move || sender.send((own.is_current(), other.is_current())).unwrap())
        .unwrap();
    assert_eq!(within(receiver).await.unwrap(), (true, false));
}
