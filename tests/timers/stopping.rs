//! Stopping a timer, by its handle or with its pool, drops the callback.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use nano::{Scheduler, Timer, code};
use tokio::time::sleep;

use crate::{DEADLINE, Fires, ms, pool};

#[tokio::test(start_paused = true)]
async fn stop_in_the_own_callback_is_final() {
    let pool = pool();
    let fires = Fires::new();
    let (slot, note) = (Arc::new(OnceLock::<Timer>::new()), fires.clone());
    let own = slot.clone();
    let callback = move || {
        note.note();
        if note.at().len() == 2 {
            own.get().unwrap().stop();
        }
    };
    slot.set(
        pool.scheduler("room", 10)
            .interval(ms(100), callback)
            .unwrap(),
    )
    .unwrap();
    sleep(ms(1_050)).await;
    assert_eq!(fires.at(), [100, 200]);
    assert_eq!(fires.callbacks(), 0, "dropped when the call returned");
}

#[tokio::test(start_paused = true)]
async fn stop_discards_a_queued_fire() {
    let pool = pool();
    let scheduler = pool.scheduler("room", 10);
    let (fires, slot) = (Fires::new(), Arc::new(OnceLock::<Timer>::new()));
    let other = slot.clone();
    // Both are due at one instant; timers of one instant fire in the order they were made.
    scheduler
        .delay(ms(100), move || other.get().unwrap().stop())
        .unwrap();
    slot.set(scheduler.interval(ms(100), fires.callback()).unwrap())
        .unwrap();
    sleep(ms(1_050)).await;
    assert!(fires.at().is_empty());
    assert_eq!(fires.callbacks(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_handles_does_not_stop_a_timer() {
    let pool = pool();
    let fires = Fires::new();
    let scheduler = pool.scheduler("room", 10);
    drop(scheduler.interval(ms(100), fires.callback()).unwrap());
    drop(scheduler);
    sleep(ms(250)).await;
    assert_eq!(fires.at(), [100, 200]);
}

#[tokio::test(start_paused = true)]
async fn pool_shutdown_stops_timers_and_drops_callbacks() {
    let pool = pool();
    let scheduler = pool.scheduler("room", 10);
    let fires = Fires::new();
    let timers: [Timer; 3] = [
        scheduler.interval(ms(100), fires.callback()).unwrap(),
        scheduler.delay(ms(1_000_000), fires.callback()).unwrap(),
        scheduler.cron("0 0 1 1 *", fires.callback()).unwrap(),
    ];
    sleep(ms(150)).await;
    assert!(pool.shutdown(DEADLINE).await);
    assert!(timers.iter().all(Timer::is_stopped));
    assert_eq!(fires.callbacks(), 0);
    sleep(ms(1_000)).await;
    assert_eq!(fires.at(), [100]);

    refused(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_pool_stops_timers() {
    let pool = pool();
    let scheduler = pool.scheduler("room", 10);
    let fires = Fires::new();
    let timer = scheduler.interval(ms(100), fires.callback()).unwrap();
    drop(pool);
    assert!(timer.is_stopped());
    assert_eq!(fires.callbacks(), 0);
    refused(&scheduler);
}

#[track_caller]
fn refused(scheduler: &Scheduler) {
    let results = [
        scheduler.interval(ms(1), || ()),
        scheduler.delay(Duration::ZERO, || ()),
        scheduler.poll_until(|_| true, || ()),
        scheduler.cron("* * * * *", || ()),
    ];
    for result in results {
        assert_eq!(result.unwrap_err().code(), code::UNAVAILABLE);
    }
}
