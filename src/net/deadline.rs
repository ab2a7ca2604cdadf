//! The timer of a connection's task.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    task::coop::has_budget_remaining,
    time::{Instant, Sleep},
};

/// A [`Sleep`] that is re-armed and polled only when its deadline changes or has passed.
///
/// Between two deadlines a message does not touch the timer's memory, which other threads write
/// to. It serves one task: the waker of the poll that armed it stays registered.
pub(crate) struct DeadlineTimer<'a> {
    sleep: Pin<&'a mut Sleep>,
    /// The deadline for which the task's waker is registered.
    armed: Option<Instant>,
}

impl<'a> DeadlineTimer<'a> {
    pub(crate) fn new(sleep: Pin<&'a mut Sleep>) -> Self {
        Self { sleep, armed: None }
    }

    /// Ready once `deadline` has passed; never ready without one.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Poll<()> {
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        if self.armed == Some(deadline) && now < deadline {
            return Poll::Pending;
        }
        if self.sleep.deadline() != deadline {
            self.sleep.as_mut().reset(deadline);
        }
        let poll = self.sleep.as_mut().poll(cx);
        // `Sleep::poll` returns `Pending` without registering the waker when the task's cooperative
        // budget is spent. The task is polled again at once then, and arms the timer.
        self.armed = (poll.is_pending() && has_budget_remaining()).then_some(deadline);
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

    /// Waits with a timer whose first `busy` polls come without cooperative budget.
    async fn wait(mut deadline: impl FnMut(u32) -> Option<Instant>, mut busy: u32) {
        let sleep = pin!(sleep_until(Instant::now()));
        let mut timer = DeadlineTimer::new(sleep);
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            if busy > 0 {
                busy -= 1;
                while let Poll::Ready(unit) = poll_proceed(cx) {
                    unit.made_progress();
                }
            }
            timer.poll(cx, deadline(polls), Instant::now())
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_fires_at_its_deadline_also_without_budget() {
        for busy in 0..3 {
            let start = Instant::now();
            timeout(3 * SECOND, wait(|_| Some(start + SECOND), busy))
                .await
                .unwrap();
            assert_eq!(start.elapsed().as_secs(), 1, "{busy}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_follows_a_deadline_that_moves() {
        for busy in 0..3 {
            let start = Instant::now();
            // The first deadline fires, the second is waited for.
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
    async fn it_never_fires_without_a_deadline() {
        assert!(timeout(1000 * SECOND, wait(|_| None, 1)).await.is_err());
    }
}
