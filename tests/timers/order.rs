//! Many timers on one pool: order, punctuality, and what happens when fires are late.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use nano::{Timer, scheduler::Pool};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, advance, sleep, timeout},
};

use crate::{DEADLINE, Fires, ms, pool};

#[tokio::test(start_paused = true)]
async fn timers_fire_in_the_order_they_are_due() {
    let pool = pool();
    let scheduler = pool.scheduler("room", 10);
    let log = Arc::new(Mutex::new(Vec::new()));
    for (delay, name) in [
        (10_000, "last"),
        (20, "second"),
        (10, "first"),
        (20, "third"),
    ] {
        let log = log.clone();
        scheduler
            .delay(ms(delay), move || log.lock().push(name))
            .unwrap();
    }
    sleep(ms(20_000)).await;
    assert_eq!(*log.lock(), ["first", "second", "third", "last"]);
}

#[tokio::test(start_paused = true)]
async fn new_timer_due_before_all_others_is_on_time() {
    let pool = pool();
    let scheduler = pool.scheduler("room", 10);
    let fires = Fires::new();
    scheduler.delay(ms(10_000), fires.callback()).unwrap();
    sleep(ms(1_000)).await;
    scheduler.delay(ms(10), fires.callback()).unwrap();
    sleep(ms(10_000)).await;
    assert_eq!(fires.at(), [1_010, 10_000]);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_timers_are_on_time_and_leave_nothing_behind() {
    let pool = pool();
    let scheduler = pool.scheduler("room", 10);
    let (began, wrong, total) = (
        Instant::now(),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let timers: Vec<_> = (1..=10_000_u64)
        .map(|number| {
            let (interval, mut due) = (ms(100 + number % 400), ms(0));
            let (wrong, total) = (wrong.clone(), total.clone());
            let callback = move || {
                due += interval;
                total.fetch_add(1, SeqCst);
                if began.elapsed() != due {
                    wrong.fetch_add(1, SeqCst);
                }
            };
            scheduler.interval(interval, callback).unwrap()
        })
        .collect();
    sleep(Duration::from_micros(1_000_500)).await;
    let expected: u64 = (1..=10_000_u64)
        .map(|number| 1_000 / (100 + number % 400))
        .sum();
    assert_eq!(total.load(SeqCst) as u64, expected);
    assert_eq!(wrong.load(SeqCst), 0);

    timers.iter().for_each(Timer::stop);
    assert_eq!(Arc::strong_count(&total), 1);
}

#[tokio::test(start_paused = true)]
async fn missed_ticks_are_skipped_without_drift() {
    let pool = pool();
    let scheduler = pool.scheduler("room", 10);
    let (endless, counted) = (Fires::new(), Fires::new());
    scheduler.interval(ms(100), endless.callback()).unwrap();
    scheduler
        .interval_n(ms(100), 3, counted.callback())
        .unwrap();
    sleep(ms(150)).await;
    // The clock jumps over the ticks of 200, 300 and 400.
    advance(ms(300)).await;
    sleep(ms(200)).await;
    assert_eq!(endless.at(), [100, 450, 500, 600]);
    assert_eq!(counted.at(), [100, 450, 500], "skipped ticks do not count");
}

#[tokio::test]
async fn blocked_scheduler_queues_one_fire_per_timer() {
    let pool = Pool::new("test", 2, Handle::current()).unwrap();
    let (held, free) = (pool.scheduler("held", 10), pool.scheduler("free", 10));
    let (release, wait) = mpsc::channel::<()>();
    let (started, running) = oneshot::channel();
    let task = move || {
        started.send(()).unwrap();
        wait.recv().unwrap_err();
    };
    held.push_task(task).unwrap();
    timeout(DEADLINE, running).await.unwrap().unwrap();

    let (fires, counted) = (Fires::new(), Fires::new());
    held.interval(ms(2), fires.callback()).unwrap();
    held.interval_n(ms(2), 2, counted.callback()).unwrap();
    let (done, ten) = oneshot::channel();
    let mut done = Some(done);
    let mut left = 10;
    let count = move || {
        left -= 1;
        if left == 0 {
            done.take().unwrap().send(()).unwrap();
        }
    };
    free.interval_n(ms(2), 10, count).unwrap();
    timeout(DEADLINE, ten).await.unwrap().unwrap();
    assert_eq!(held.len(), 2, "one fire of each");
    assert!(fires.at().is_empty());

    drop(release);
    let deadline = Instant::now() + DEADLINE;
    while counted.callbacks() > 0 || fires.at().len() < 3 {
        assert!(Instant::now() < deadline, "the timers stay held up");
        tokio::task::yield_now().await;
    }
    assert_eq!(counted.at().len(), 2);
}

#[tokio::test]
async fn last_fire_may_be_queued_while_the_one_before_it_runs() {
    let pool = Pool::new("test", 1, Handle::current()).unwrap();
    let scheduler = pool.scheduler("room", 10);
    let (sender, receiver) = oneshot::channel();
    let (own, mut sender, mut fires) = (scheduler.clone(), Some(sender), 0);
    let callback = move || {
        fires += 1;
        let deadline = Instant::now() + DEADLINE;
        while fires == 1 && own.is_empty() {
            assert!(Instant::now() < deadline, "the last fire is not queued");
        }
        if fires == 2 {
            sender.take().unwrap().send(()).unwrap();
        }
    };
    scheduler.interval_n(ms(2), 2, callback).unwrap();
    timeout(DEADLINE, receiver)
        .await
        .unwrap()
        .expect("the timer ended before its last fire");
}
