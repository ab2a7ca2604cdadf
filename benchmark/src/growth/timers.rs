//! Timers of one scheduler.

use std::{sync::Arc, time::Duration};

use nano::{Result, scheduler::Pool};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

use super::{
    curve::Point,
    usage::{Usage, latencies, micros},
};

const INTERVAL: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(5);

pub(super) async fn measure(size: usize) -> Result<Point> {
    let pool = Pool::new("growth", 2, Handle::current())?;
    let scheduler = pool.scheduler("timers", 65_536);
    let late = Arc::new(Mutex::new(latencies()?));
    let empty = Usage::now();
    let begun = Instant::now();
    for at in 0..size {
        // Spread over the second.
        let late = late.clone();
        let first = INTERVAL.mul_f64(at as f64 / size as f64);
        let mut due = begun + first;
        let within = scheduler.clone();
        scheduler.delay(first, move || {
            let fire = move || {
                due += INTERVAL;
                late.lock().saturating_record(micros(due.elapsed()));
            };
            // The pool is not shut down.
            let _ = within.interval(INTERVAL, fire);
        })?;
    }
    sleep(2 * INTERVAL).await;
    let made = Usage::now();
    late.lock().reset();
    sleep(MEASURED).await;
    let ran = Usage::now();
    let (fires, p99) = {
        let late = late.lock();
        (late.len() as f64, late.value_at_quantile(0.99))
    };
    pool.shutdown(Duration::from_secs(10)).await;
    Ok(Point::default()
        .with("CPU per fire", "us", ran.cpu_since(&made) / fires)
        .with("p99 of the lateness", "us", p99 as f64)
        .with(
            "fires per second, of those due",
            "",
            fires / size as f64 / MEASURED.as_secs_f64(),
        )
        .with(
            "memory per timer",
            "B",
            made.memory_since(&empty) / size as f64,
        ))
}
