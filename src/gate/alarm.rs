//! When a connection's task looks at the time.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    task::coop::has_budget_remaining,
    time::{Instant, Sleep},
};

/// A timer that is left alone while it waits for the right time: it is memory that a message has no
/// other use for. It belongs to one task.
pub(super) struct Alarm<'a> {
    sleep: Pin<&'a mut Sleep>,
    /// What it is set to, once it is sure to wake the task then.
    armed: Option<Instant>,
}

impl<'a> Alarm<'a> {
    pub(super) fn new(sleep: Pin<&'a mut Sleep>) -> Self {
        Self { sleep, armed: None }
    }

    /// Ready when something is due; never if nothing will be.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        due: Option<Instant>,
        now: Instant,
    ) -> Poll<()> {
        let Some(due) = due else { return Poll::Pending };
        if self.armed == Some(due) && now < due {
            return Poll::Pending;
        }
        if self.sleep.deadline() != due {
            self.sleep.as_mut().reset(due);
        }
        let poll = self.sleep.as_mut().poll(cx);
        // A task whose turn is over is not heard by a timer; it has another turn at once, and asks
        // again.
        self.armed = (poll.is_pending() && has_budget_remaining()).then_some(due);
        poll
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin, time::Duration};

    use tokio::{
        task::coop::poll_proceed,
        time::{sleep_until, timeout},
    };

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Waits with an alarm whose first `busy` polls come when the task's turn is over.
    async fn wait(mut due: impl FnMut(u32) -> Option<Instant>, mut busy: u32) {
        let sleep = pin!(sleep_until(Instant::now()));
        let mut alarm = Alarm::new(sleep);
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            if busy > 0 {
                busy -= 1;
                while let Poll::Ready(unit) = poll_proceed(cx) {
                    unit.made_progress();
                }
            }
            alarm.poll(cx, due(polls), Instant::now())
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_rings_when_something_is_due_also_for_a_busy_task() {
        for busy in 0..3 {
            let start = Instant::now();
            timeout(3 * SECOND, wait(|_| Some(start + SECOND), busy))
                .await
                .unwrap();
            assert_eq!(start.elapsed().as_secs(), 1, "{busy}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_follows_what_is_due() {
        for busy in 0..3 {
            let start = Instant::now();
            // Woken by the first time it was set to, it waits for the second.
            timeout(
                9 * SECOND,
                wait(
                    |polls| Some(start + if polls < 2 { SECOND } else { 3 * SECOND }),
                    busy,
                ),
            )
            .await
            .unwrap();
            assert_eq!(start.elapsed().as_secs(), 3, "{busy}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_silent_when_nothing_is_due() {
        assert!(timeout(1000 * SECOND, wait(|_| None, 1)).await.is_err());
    }
}
