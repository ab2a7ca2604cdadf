//! Condition and cron timers, which follow the time of day.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use nano::scheduler::Pool;
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{sleep, timeout},
};

use crate::{DEADLINE, Fires, ms, pool};

#[tokio::test(start_paused = true)]
async fn poll_until_checks_once_per_precision() {
    let pool = pool().with_precision(ms(100)).unwrap();
    let scheduler = pool.scheduler("room", 10);
    let (looks, fires, wall) = (
        Fires::new(),
        Fires::new(),
        Arc::new(Mutex::new(Vec::<SystemTime>::new())),
    );
    let (mut look, times) = (looks.callback(), wall.clone());
    let mut count = 0;
    let check = move |now| {
        look();
        times.lock().push(now);
        count += 1;
        if count == 2 {
            panic!("on purpose");
        }
        count % 2 == 1
    };
    let timer = scheduler.poll_until(check, fires.callback()).unwrap();
    sleep(ms(550)).await;
    timer.stop();
    sleep(ms(500)).await;
    assert_eq!(looks.at(), [100, 200, 300, 400, 500]);
    assert_eq!(fires.at(), [100, 300, 500]);
    assert_eq!(pool.panics(), 1);
    let wall = wall.lock();
    assert!(
        wall.windows(2)
            .all(|pair| pair[1].duration_since(pair[0]).unwrap() == ms(100)),
        "the time of day follows the clock"
    );
}

#[tokio::test(start_paused = true)]
async fn cron_fires_at_its_occurrences() {
    let pool = pool();
    let scheduler = pool.scheduler("room", 10);
    let (tens, hourly) = (Fires::new(), Fires::new());
    let timer = scheduler.cron("*/10 * * * * *", tens.callback()).unwrap();
    scheduler.cron("0 * * * *", hourly.callback()).unwrap();
    sleep(Duration::from_secs(60)).await;
    timer.stop();
    sleep(Duration::from_secs(3 * 3_600 - 60)).await;

    // The clock of the simulation starts at the real time of day, so only the spacing is known; a
    // sleep ends on a whole millisecond.
    let spaced = |fires: &[u128], by: u128| {
        fires
            .windows(2)
            .all(|pair| (pair[1] - pair[0]).abs_diff(by) <= 1)
    };
    assert_eq!(tens.at().len(), 6);
    assert!(
        tens.at()[0] <= 10_000 && spaced(&tens.at(), 10_000),
        "{:?}",
        tens.at()
    );
    assert_eq!(hourly.at().len(), 3);
    assert!(spaced(&hourly.at(), 3_600_000), "{:?}", hourly.at());
}

#[tokio::test]
async fn cron_follows_the_time_of_day() {
    let pool = Pool::new("test", 1, Handle::current()).unwrap();
    let (sender, receiver) = oneshot::channel();
    let mut sender = Some(sender);
    let callback = move || {
        if let Some(sender) = sender.take() {
            sender
                .send(
                    SystemTime::now()
                        .duration_since(SystemTime::UNIX_EPOCH)
                        .unwrap(),
                )
                .unwrap();
        }
    };
    let began = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    pool.scheduler("room", 10)
        .cron("* * * * * *", callback)
        .unwrap();
    let fired = timeout(DEADLINE, receiver).await.unwrap().unwrap();
    assert!(
        fired.as_secs() > began.as_secs(),
        "not before the second is full: {began:?} {fired:?}"
    );
}
