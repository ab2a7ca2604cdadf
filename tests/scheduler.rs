//! Schedulers: serial, first in first out, bounded, and safe from what user code does.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    cell::RefCell,
    future::{pending, poll_fn},
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

use nano::{Full, Scheduler, code, scheduler::Pool};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{mpsc as channel, oneshot},
    time::{Instant, timeout},
};

/// Long enough for anything here on a slow machine; only a failing test waits for it.
const DEADLINE: Duration = Duration::from_secs(20);

fn pool(threads: usize) -> Pool {
    Pool::new("test", threads, Handle::current()).unwrap()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("nothing happened before the deadline")
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

/// Lets the scheduler run something else, once.
async fn give_way() {
    let mut polled = false;
    poll_fn(|context| {
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
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
    let (alone, seen) = (Arc::new(Alone::default()), Arc::new(Mutex::new(vec![Vec::new(); pushers])));
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
    threads.into_iter().for_each(|thread| thread.join().unwrap());

    assert!(pool.shutdown(DEADLINE).await);
    assert_eq!(alone.overlaps.load(SeqCst), 0);
    assert_eq!(*seen.lock(), vec![(0..tasks).collect::<Vec<_>>(); pushers]);
}

#[tokio::test]
async fn fifty_schedulers_on_four_threads_are_each_serial_and_in_order() {
    let pool = pool(4);
    let rooms: Vec<_> = (0..50)
        .map(|room| (pool.scheduler(format!("room-{room}"), 1_000), Arc::new(Alone::default()), Arc::new(Mutex::new(Vec::new()))))
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
        assert_eq!(*seen.lock(), (0..300).map(|task| (task, true)).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn schedulers_of_one_pool_run_at_the_same_time() {
    let pool = pool(2);
    let meeting = Arc::new(Barrier::new(2));
    for name in ["a", "b"] {
        let meeting = meeting.clone();
        pool.scheduler(name, 1).push_task(move || drop(meeting.wait())).unwrap();
    }
    assert!(pool.shutdown(DEADLINE).await, "each waited for the other in vain");
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
async fn a_panic_ends_its_own_task_alone() {
    let pool = pool(1);
    let scheduler = pool.scheduler("room", 10);
    scheduler.push_task(|| panic!("on purpose")).unwrap();
    scheduler.run(async { panic!("on purpose") }).unwrap();
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
        move || drop(ran.fetch_add(1, SeqCst))
    };
    for waiting in 0..3 {
        assert_eq!((scheduler.len(), scheduler.is_full()), (waiting, false));
        scheduler.push_task(task()).unwrap();
    }

    assert!(scheduler.is_full());
    let full = scheduler.push_task(task()).unwrap_err();
    assert!(matches!(full, Full::Queue(_)) && !full.is_closed());
    assert_eq!(ran.load(SeqCst), 0);
    full.into_task()();
    assert_eq!(ran.load(SeqCst), 1, "the task itself came back");

    let refused = scheduler.run(pending()).map_err(nano::Error::from).unwrap_err();
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
    within(scheduler.room()).await;
    scheduler.push_task(task()).unwrap();
    within(starts.recv()).await.unwrap();
    (0..4).for_each(|_| scheduler.push_task(task()).unwrap());

    let mut room = pin!(scheduler.room());
    let mut is_pending = async || poll_fn(|context| Poll::Ready(room.as_mut().poll(context).is_pending())).await;
    assert!(is_pending().await, "full");
    step.send(()).unwrap();
    within(starts.recv()).await.unwrap();
    assert!(is_pending().await, "three of four wait");
    step.send(()).unwrap();
    within(starts.recv()).await.unwrap();
    within(room).await;
    assert_eq!(scheduler.len(), 2);

    (0..3).for_each(|_| step.send(()).unwrap());
    assert!(pool.shutdown(DEADLINE).await);
}

#[tokio::test]
async fn waiting_for_room_ends_when_the_pool_is_shut_down() {
    let pool = pool(1);
    let scheduler = pool.scheduler("room", 1);
    let release = hold(&scheduler).await;
    scheduler.push_task(|| ()).unwrap();
    let waiter = scheduler.clone();
    let waiter = tokio::spawn(async move { waiter.room().await });

    assert!(!pool.shutdown(Duration::from_millis(1)).await);
    within(waiter).await.unwrap();
    assert!(scheduler.push_task(|| ()).unwrap_err().is_closed());
    drop(release);
}

#[tokio::test]
async fn an_async_task_takes_its_place_and_each_later_poll_is_one_more_turn() {
    for threads in [0, 2] {
        let pool = pool(threads);
        let scheduler = pool.scheduler("room", 10);
        let (log, mut seen) = channel::unbounded_channel();
        let note = {
            let own = scheduler.clone();
            move |what: &'static str| log.send((what, own.is_current())).unwrap()
        };
        let own = scheduler.clone();
        // From within a task, so that nothing runs before all are queued.
        let queue = move || {
            let (before, after, last) = (note.clone(), note.clone(), note.clone());
            let pusher = own.clone();
            own.push_task(move || before("before")).unwrap();
            let future = async move {
                note("first poll");
                give_way().await;
                note("second poll");
                pusher.push_task(move || last("last")).unwrap();
                give_way().await;
                note("third poll");
            };
            own.run(future).unwrap();
            own.push_task(move || after("after")).unwrap();
        };
        scheduler.push_task(queue).unwrap();

        for expected in ["before", "first poll", "after", "second poll", "last", "third poll"] {
            assert_eq!(within(seen.recv()).await, Some((expected, true)), "with {threads} threads");
        }
    }
}

#[tokio::test]
async fn many_wakes_are_one_turn() {
    let pool = pool(0);
    let scheduler = pool.scheduler("room", 10);
    let (polls, waker) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None::<Waker>)));
    let (count, slot) = (polls.clone(), waker.clone());
    let future = poll_fn(move |context| {
        *slot.lock() = Some(context.waker().clone());
        if count.fetch_add(1, SeqCst) == 1 {
            // Woken within a poll: one more, however often.
            context.waker().wake_by_ref();
            context.waker().wake_by_ref();
        }
        Poll::Pending
    });
    scheduler.run(future).unwrap();
    flush(&scheduler).await;
    assert_eq!(polls.load(SeqCst), 1);

    // Only now and then does this test let the scheduler run, so all of these come before the next poll.
    let woken = waker.lock().clone().unwrap();
    (0..1_000).for_each(|_| woken.wake_by_ref());
    flush(&scheduler).await;
    flush(&scheduler).await;
    assert_eq!(polls.load(SeqCst), 3);
}

#[tokio::test]
async fn no_wake_is_lost_and_no_poll_overlaps_in_a_storm() {
    let (wakers, wakes) = (4, 2_000);
    let pool = pool(3);
    let scheduler = pool.scheduler("room", 10);
    let (count, alone, slot) = (Arc::new(AtomicUsize::new(0)), Arc::new(Alone::default()), Arc::new(Mutex::new(None::<Waker>)));
    let (done, finished) = oneshot::channel();
    let future = {
        let (count, alone, slot) = (count.clone(), alone.clone(), slot.clone());
        async move {
            let all = poll_fn(|context| {
                *slot.lock() = Some(context.waker().clone());
                alone.pass();
                if count.load(SeqCst) == wakers * wakes { Poll::Ready(()) } else { Poll::Pending }
            });
            all.await;
            done.send(()).unwrap();
        }
    };
    scheduler.run(future).unwrap();
    flush(&scheduler).await;
    for _ in 0..wakers {
        let (count, slot) = (count.clone(), slot.clone());
        thread::spawn(move || {
            for _ in 0..wakes {
                count.fetch_add(1, SeqCst);
                let waker = slot.lock().clone().unwrap();
                waker.wake();
            }
        });
    }

    within(finished).await.expect("the last wake was lost");
    assert_eq!(alone.overlaps.load(SeqCst), 0);
}

#[tokio::test]
async fn spawn_runs_off_the_scheduler_and_its_output_comes_back_onto_it() {
    let pool = pool(1);
    let scheduler = pool.scheduler("room", 1);
    // Full and held: the future runs all the same, and its continuation is not refused.
    let release = hold(&scheduler).await;
    scheduler.push_task(|| ()).unwrap();
    let (sender, receiver) = oneshot::channel();
    let (outside, inside) = (scheduler.clone(), scheduler.clone());
    let (ran, off) = oneshot::channel();
    let future = async move {
        ran.send(()).unwrap();
        outside.is_current()
    };
    scheduler.spawn(future, move |was_on| sender.send((was_on, inside.is_current())).unwrap());

    within(off).await.unwrap();
    drop(release);
    assert_eq!(within(receiver).await.unwrap(), (false, true));
}

#[tokio::test]
async fn a_panic_in_a_spawned_future_ends_it_alone() {
    let pool = pool(1);
    let scheduler = pool.scheduler("room", 10);
    let (then, dropped) = OnDrop::new();
    scheduler.spawn(async { panic!("on purpose") }, move |(): ()| {
        drop(then);
        unreachable!("there is no output");
    });

    within(dropped).await.unwrap();
    flush(&scheduler).await;
    assert_eq!(pool.panics(), 1);
}

#[tokio::test]
async fn shutdown_runs_what_is_queued_and_takes_no_more() {
    for threads in [0, 2] {
        let pool = pool(threads);
        let scheduler = pool.scheduler("room", 1_000);
        let ran = Arc::new(AtomicUsize::new(0));
        for _ in 0..1_000 {
            let ran = ran.clone();
            scheduler.push_task(move || drop(ran.fetch_add(1, SeqCst))).unwrap();
        }
        assert!(pool.shutdown(DEADLINE).await);
        assert_eq!(ran.load(SeqCst), 1_000);

        let refused = scheduler.push_task(|| ()).unwrap_err();
        assert!(refused.is_closed());
        assert_eq!(nano::Error::from(refused).code(), code::UNAVAILABLE);
        assert!(pool.shutdown(DEADLINE).await, "a second time");
    }
}

#[tokio::test]
async fn shutdown_leaves_a_stuck_task_behind_at_its_deadline() {
    let pool = pool(2);
    let (stuck, behind) = (pool.scheduler("stuck", 10), pool.scheduler("behind", 10));
    let release = hold(&stuck).await;
    let _also = hold(&behind).await;
    let ran = Arc::new(AtomicBool::new(false));
    let (on_drop, dropped) = OnDrop::new();
    let late = ran.clone();
    let task = move || {
        late.store(true, SeqCst);
        drop(on_drop);
    };
    stuck.push_task(task).unwrap();
    let third = pool.scheduler("third", 10);
    let (on_drop, unrun) = OnDrop::new();
    third.push_task(move || drop(on_drop)).unwrap();

    let began = Instant::now();
    assert!(!pool.shutdown(Duration::from_millis(50)).await);
    assert!(began.elapsed() < DEADLINE);
    within(unrun).await.expect("what had no thread was dropped");
    drop(release);
    within(dropped).await.unwrap();
    assert!(!ran.load(SeqCst), "nothing starts after the deadline");
}

#[tokio::test]
async fn shutdown_drops_futures_that_are_suspended() {
    let pool = pool(1);
    let scheduler = pool.scheduler("room", 10);
    let (on_drop, mut dropped) = OnDrop::new();
    let keep = Arc::new(Mutex::new(None::<Waker>));
    let slot = keep.clone();
    let future = async move {
        let _on_drop = on_drop;
        poll_fn::<(), _>(|context| {
            *slot.lock() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    };
    scheduler.run(future).unwrap();
    // A future that holds what wakes it would keep itself alive for ever.
    let (on_drop, own) = OnDrop::new();
    let knot = async move {
        let _on_drop = on_drop;
        let (_sender, receiver) = oneshot::channel::<()>();
        receiver.await.unwrap();
    };
    scheduler.run(knot).unwrap();
    flush(&scheduler).await;
    assert!(dropped.try_recv().is_err());

    assert!(pool.shutdown(DEADLINE).await);
    within(dropped).await.unwrap();
    within(own).await.unwrap();
    keep.lock().clone().unwrap().wake();
}

#[tokio::test]
async fn a_future_that_nothing_can_wake_is_dropped() {
    let pool = pool(1);
    let scheduler = pool.scheduler("room", 10);
    let (on_drop, dropped) = OnDrop::new();
    let future = async move {
        let _on_drop = on_drop;
        pending::<()>().await;
    };
    scheduler.run(future).unwrap();
    within(dropped).await.unwrap();
}

#[tokio::test]
async fn tasks_run_after_the_last_handle_of_their_scheduler_is_gone() {
    let pool = pool(1);
    let scheduler = pool.scheduler("room", 10);
    let release = hold(&scheduler).await;
    let (sender, receiver) = oneshot::channel();
    scheduler.push_task(move || sender.send(()).unwrap()).unwrap();
    drop(scheduler);
    drop(release);
    within(receiver).await.unwrap();
}

#[tokio::test]
async fn a_pool_that_is_dropped_runs_its_queues_empty_and_ends_its_threads() {
    thread_local!(static AT_EXIT: RefCell<Option<OnDrop>> = const { RefCell::new(None) });
    let pool = pool(1);
    let scheduler = pool.scheduler("room", 10);
    let release = hold(&scheduler).await;
    let (on_exit, ended) = OnDrop::new();
    scheduler.push_task(move || AT_EXIT.set(Some(on_exit))).unwrap();

    drop(pool);
    assert!(scheduler.push_task(|| ()).unwrap_err().is_closed());
    drop(release);
    within(ended).await.unwrap();
}

#[tokio::test]
async fn a_scheduler_is_equal_to_itself_alone_and_current_in_its_tasks_alone() {
    let pool = pool(1);
    let (one, two) = (pool.scheduler("same", 1), pool.scheduler("same", 1));
    assert_eq!(one, one.clone());
    assert_ne!(one, two);
    assert!(!one.is_current());
    let (sender, receiver) = oneshot::channel();
    let (own, other) = (one.clone(), two.clone());
    one.push_task(move || sender.send((own.is_current(), other.is_current())).unwrap()).unwrap();
    assert_eq!(within(receiver).await.unwrap(), (true, false));
}
