//! Timers, on a clock that stands still unless the test moves it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::{Duration, SystemTime},
};

use nano::{Scheduler, Timer, code, scheduler::Pool};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, advance, sleep, timeout},
};

const DEADLINE: Duration = Duration::from_secs(20);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A pool whose turns run on the test's own runtime, so that all of a test happens at instants it
/// can name.
fn pool() -> Pool {
    Pool::new("test", 0, Handle::current()).unwrap()
}

/// Milliseconds since the test began, one entry per fire.
#[derive(Clone)]
struct Fires {
    began: Instant,
    at: Arc<Mutex<Vec<u128>>>,
}

impl Fires {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            at: Arc::default(),
        }
    }

    fn note(&self) {
        self.at.lock().push(self.began.elapsed().as_millis());
    }

    fn callback(&self) -> impl FnMut() + Send + use<> {
        let fires = self.clone();
        move || fires.note()
    }

    fn at(&self) -> Vec<u128> {
        self.at.lock().clone()
    }

    /// How many callbacks still hold on to this.
    fn callbacks(&self) -> usize {
        Arc::strong_count(&self.at) - 1
    }
}

#[tokio::test(start_paused = true)]
async fn an_interval_timer_fires_at_exact_instants_until_it_is_stopped() {
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
async fn a_tick_below_the_precision_is_exact() {
    let pool = pool().with_precision(Duration::from_secs(5)).unwrap();
    let fires = Fires::new();
    pool.scheduler("room", 10)
        .interval(ms(1), fires.callback())
        .unwrap();
    sleep(Duration::from_micros(4_500)).await;
    assert_eq!(fires.at(), [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_count_timer_fires_so_often_and_ends() {
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
async fn an_after_timer_fires_once() {
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
async fn an_after_timer_without_a_delay_takes_its_place_in_the_queue() {
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
async fn a_timer_stops_inside_its_own_callback() {
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
async fn a_fire_that_waits_in_the_queue_is_stopped_too() {
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
async fn a_timer_due_before_the_one_that_is_waited_for_is_on_time() {
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
async fn a_panicking_callback_goes_on() {
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
async fn ten_thousand_timers_are_all_on_time_and_leave_nothing_behind() {
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
async fn missed_ticks_are_skipped_and_the_schedule_stays() {
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
async fn a_timer_queues_one_fire_at_a_time_on_a_scheduler_that_is_held_up() {
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
async fn the_last_fire_of_a_count_may_be_queued_while_the_one_before_it_runs() {
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

#[tokio::test(start_paused = true)]
async fn what_cannot_be_a_timer_is_an_error_that_names_it() {
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
async fn a_condition_is_looked_at_once_per_precision() {
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
async fn a_cron_timer_fires_at_its_occurrences() {
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
async fn a_cron_timer_follows_the_time_of_day() {
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

#[tokio::test(start_paused = true)]
async fn shutdown_stops_timers_and_drops_their_callbacks() {
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

#[tokio::test(start_paused = true)]
async fn timer_ids_count_up_from_one() {
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
