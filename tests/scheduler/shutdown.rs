//! How a pool ends, and what becomes of what waits.

use super::{async_tasks::give_way, *};

#[tokio::test]
async fn waiting_for_room_ends_when_the_pool_is_shut_down() {
    let pool = pool(1);
    let scheduler = pool.scheduler("room", 1);
    let release = hold(&scheduler).await;
    scheduler.push_task(|| ()).unwrap();
    let waiter = scheduler.clone();
    let waiter = tokio::spawn(async move { waiter.ready().await });

    assert!(!pool.shutdown(Duration::from_millis(1)).await);
    within(waiter).await.unwrap();
    assert!(scheduler.push_task(|| ()).unwrap_err().is_closed());
    drop(release);
}

#[tokio::test]
async fn shutdown_runs_what_is_queued_and_takes_no_more() {
    for threads in [0, 2] {
        let pool = pool(threads);
        let scheduler = pool.scheduler("room", 1_000);
        let ran = Arc::new(AtomicUsize::new(0));
        for _ in 0..1_000 {
            let ran = ran.clone();
            let count = move || {
                ran.fetch_add(1, SeqCst);
            };
            scheduler.push_task(count).unwrap();
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
async fn shutdown_lets_async_tasks_that_need_no_more_than_turns_finish() {
    for threads in [0, 2] {
        let pool = pool(threads);
        let scheduler = pool.scheduler("room", 10);
        let finished = Arc::new(AtomicBool::new(false));
        let end = finished.clone();
        let future = async move {
            for _ in 0..3 {
                give_way().await;
            }
            end.store(true, SeqCst);
        };
        scheduler.spawn(future).unwrap();
        assert!(pool.shutdown(DEADLINE).await);
        assert!(finished.load(SeqCst));
    }
}

#[tokio::test]
async fn shutdown_leaves_a_stuck_task_behind_at_its_deadline() {
    let pool = pool(2);
    let (stuck, other) = (pool.scheduler("stuck", 10), pool.scheduler("other", 10));
    let (first, _second) = (hold(&stuck).await, hold(&other).await);
    let (release, held) = mpsc::channel::<()>();
    let (started, running) = oneshot::channel();
    let stick = move || {
        started.send(()).unwrap();
        held.recv().unwrap_err();
    };
    stuck.push_task(stick).unwrap();
    let ran = Arc::new(AtomicBool::new(false));
    let (on_drop, dropped) = OnDrop::new();
    let late = ran.clone();
    let task = move || {
        late.store(true, SeqCst);
        drop(on_drop);
    };
    stuck.push_task(task).unwrap();
    drop(first);
    // From here on the same turn has both tasks in hand.
    within(running).await.unwrap();
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
    scheduler.spawn(future).unwrap();
    // A future that holds what wakes it would keep itself alive for ever.
    let (on_drop, own) = OnDrop::new();
    let knot = async move {
        let _on_drop = on_drop;
        let (_sender, receiver) = oneshot::channel::<()>();
        receiver.await.unwrap();
    };
    scheduler.spawn(knot).unwrap();
    flush(&scheduler).await;
    assert!(dropped.try_recv().is_err());

    assert!(pool.shutdown(DEADLINE).await);
    within(dropped).await.unwrap();
    within(own).await.unwrap();
    keep.lock().clone().unwrap().wake();
}

#[tokio::test]
async fn tasks_run_after_the_last_handle_of_their_scheduler_is_gone() {
    let pool = pool(1);
    let scheduler = pool.scheduler("room", 10);
    let release = hold(&scheduler).await;
    let (sender, receiver) = oneshot::channel();
    scheduler
        .push_task(move || sender.send(()).unwrap())
        .unwrap();
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
    scheduler
        .push_task(move || AT_EXIT.set(Some(on_exit)))
        .unwrap();

    drop(pool);
    assert!(scheduler.push_task(|| ()).unwrap_err().is_closed());
    drop(release);
    within(ended).await.unwrap();
}
