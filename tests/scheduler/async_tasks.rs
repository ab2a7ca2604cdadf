//! Futures on a scheduler, and off it.

use super::*;

/// Lets the scheduler run something else, once.
pub(crate) async fn give_way() {
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
            own.spawn(future).unwrap();
            own.push_task(move || after("after")).unwrap();
        };
        scheduler.push_task(queue).unwrap();

        for expected in [
            "before",
            "first poll",
            "after",
            "second poll",
            "last",
            "third poll",
        ] {
            assert_eq!(
                within(seen.recv()).await,
                Some((expected, true)),
                "with {threads} threads"
            );
        }
    }
}

#[tokio::test]
async fn many_wakes_are_one_turn() {
    let pool = pool(0);
    let scheduler = pool.scheduler("room", 10);
    let (polls, waker) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(Mutex::new(None::<Waker>)),
    );
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
    scheduler.spawn(future).unwrap();
    flush(&scheduler).await;
    assert_eq!(polls.load(SeqCst), 1);

    // Only now and then does this test let the scheduler run, so all of these come before the next
    // poll.
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
    let (count, alone, slot) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(Alone::default()),
        Arc::new(Mutex::new(None::<Waker>)),
    );
    let (done, finished) = oneshot::channel();
    let future = {
        let (count, alone, slot) = (count.clone(), alone.clone(), slot.clone());
        async move {
            let all = poll_fn(|context| {
                *slot.lock() = Some(context.waker().clone());
                alone.pass();
                if count.load(SeqCst) == wakers * wakes {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            });
            all.await;
            done.send(()).unwrap();
        }
    };
    scheduler.spawn(future).unwrap();
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
    scheduler.offload(future, move |was_on| {
        sender.send((was_on, inside.is_current())).unwrap()
    });

    within(off).await.unwrap();
    drop(release);
    assert_eq!(within(receiver).await.unwrap(), (false, true));
}

#[tokio::test]
async fn a_panic_in_a_spawned_future_ends_it_alone() {
    let pool = pool(1);
    let scheduler = pool.scheduler("room", 10);
    let (then, dropped) = OnDrop::new();
    scheduler.offload(async { panic!("on purpose") }, move |(): ()| {
        drop(then);
        unreachable!("there is no output");
    });

    within(dropped).await.unwrap();
    flush(&scheduler).await;
    assert_eq!(pool.panics(), 1);
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
    scheduler.spawn(future).unwrap();
    within(dropped).await.unwrap();
}
