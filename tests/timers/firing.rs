//! Interval, counted and one-shot timers: when they fire, and when they end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use nano::code;
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::{Fires, ms, pool};

#[tokio::test(start_paused = true)]
async fn interval_fires_at_exact_instants_until_stopped() {
    let pool = pool();
    let scheduler = pool.scheduler("room", 10);
    let (fires, own) = (Fires::new(), scheduler.clone());
    let mut note = fires.callback();
    let timer = scheduler
        .interval(ms(250), move || {
            assert!(own.is_current());
            note();
        })
        .unwrap();
    sleep(ms(1_100)).await;
    assert_eq!(fires.at(), [250, 500, 750, 1_000]);

    timer.stop();
    assert!(timer.is_stopped());
    assert_eq!(fires.callbacks(), 0, "the callback is dropped at once");
    timer.stop();
    sleep(ms(1_000)).await;
    assert_eq!(fires.at().len(), 4);
    assert_eq!(pool.panics(), 0);
}

#[tokio::test(start_paused = true)]
async fn interval_below_the_pool_precision_is_exact() {
    let pool = pool().with_precision(Duration::from_secs(5)).unwrap();
    let fires = Fires::new();
    pool.scheduler("room", 10)
        .interval(ms(1), fires.callback())
        .unwrap();
    sleep(Duration::from_micros(4_500)).await;
    assert_eq!(fires.at(), [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn interval_n_fires_n_times_and_ends() {
    let pool = pool();
    let scheduler = pool.scheduler("room", 10);
    let (three, none) = (Fires::new(), Fires::new());
    let timer = scheduler.interval_n(ms(100), 3, three.callback()).unwrap();
    let never = scheduler.interval_n(ms(100), 0, none.callback()).unwrap();
    assert!(never.is_stopped());
    assert_eq!(none.callbacks(), 0);

    sleep(ms(250)).await;
    assert!(!timer.is_stopped());
    sleep(ms(1_000)).await;
    assert_eq!(three.at(), [100, 200, 300]);
    assert!(none.at().is_empty());
    assert!(timer.is_stopped());
    assert_eq!(three.callbacks(), 0);
}

#[tokio::test(start_paused = true)]
async fn delay_fires_once() {
    let pool = pool();
    let fires = Fires::new();
    let timer = pool
        .scheduler("room", 10)
        .delay(ms(1_500), fires.callback())
        .unwrap();
    sleep(ms(1_400)).await;
    assert!(!timer.is_stopped());
    sleep(ms(5_000)).await;
    assert_eq!(fires.at(), [1_500]);
    assert!(timer.is_stopped());
    assert_eq!(fires.callbacks(), 0);
}

#[tokio::test(start_paused = true)]
async fn zero_delay_queues_in_fifo_order_beyond_the_capacity() {
    let pool = pool();
    let scheduler = pool.scheduler("room", 2);
    let log = Arc::new(Mutex::new(Vec::new()));
    let note = |what: &'static str| {
        let log = log.clone();
        move || log.lock().push(what)
    };
    scheduler.push_task(note("before")).unwrap();
    let timer = scheduler.delay(Duration::ZERO, note("timer")).unwrap();
    assert!(scheduler.push_task(note("refused")).is_err());
    sleep(ms(1)).await;
    scheduler.push_task(note("after")).unwrap();
    sleep(ms(1)).await;
    assert_eq!(*log.lock(), ["before", "timer", "after"]);
    assert!(timer.is_stopped());
}

#[tokio::test(start_paused = true)]
async fn panic_in_a_callback_does_not_stop_the_timer() {
    let pool = pool();
    let (fires, note) = (Fires::new(), Fires::new());
    let callback = {
        let fires = fires.clone();
        move || {
            fires.note();
            panic!("on purpose");
        }
    };
    let scheduler = pool.scheduler("room", 10);
    scheduler.interval_n(ms(100), 3, callback).unwrap();
    scheduler.interval(ms(100), note.callback()).unwrap();
    sleep(ms(450)).await;
    assert_eq!(fires.at(), [100, 200, 300]);
    assert_eq!(note.at(), [100, 200, 300, 400]);
    assert_eq!(pool.panics(), 3);
    assert_eq!(fires.callbacks(), 0);
}

#[tokio::test(start_paused = true)]
async fn invalid_arguments_are_named_in_the_error() {
    #[track_caller]
    fn check<T: std::fmt::Debug>(result: nano::Result<T>, mentions: &str) {
        let error = result.unwrap_err();
        assert_eq!(error.code(), code::BAD_REQUEST);
        assert!(error.message().contains(mentions), "{error}");
    }
    let pool = pool();
    let scheduler = pool.scheduler("room", 10);
    let nothing = || ();
    check(scheduler.interval(Duration::ZERO, nothing), "interval");
    check(scheduler.interval_n(Duration::ZERO, 1, nothing), "interval");
    check(scheduler.interval(Duration::MAX, nothing), "interval");
    check(scheduler.delay(Duration::MAX, nothing), "delay");
    check(scheduler.cron("every morning", nothing), "every morning");
    check(scheduler.cron("* * * *", nothing), "* * * *");
    check(
        scheduler.cron("0 0 0 1 1 * 2030", nothing),
        "0 0 0 1 1 * 2030",
    );
    check(scheduler.cron("0 0 30 2 *", nothing), "never");
    check(scheduler.cron("", nothing), "\"\"");
    check(pool.with_precision(Duration::from_micros(999)), "precision");
}

#[tokio::test(start_paused = true)]
async fn ids_count_up_from_one() {
    let pool = pool();
    let scheduler = pool.scheduler("room", 10);
    let stopped = Arc::new(AtomicBool::new(false));
    let ids: Vec<_> = (0..3)
        .map(|_| {
            let stopped = stopped.clone();
            scheduler
                .interval(ms(1), move || stopped.store(true, SeqCst))
                .unwrap()
                .id()
        })
        .collect();
    assert_eq!(ids, [1, 2, 3]);
}
