//! `nano top`: a node as it runs, drawn anew in an interval.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use clap::Args;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::{
    admin::{Admin, Target},
    duration,
    failure::Failure,
    interrupt::interrupted,
    terminal::typed,
};
use sample::Sample;
use screen::Screen;

mod sample;
mod screen;
mod view;

/// The arguments of the command.
#[derive(Args, Debug)]
pub(crate) struct Top {
    #[command(flatten)]
    target: Target,
    /// The time between two looks at the node
    #[arg(long, default_value = "1s", value_parser = interval_argument)]
    interval: Duration,
    /// Ends after this many pictures; the output then need not be a terminal
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    frames: Option<u64>,
}

fn interval_argument(text: &str) -> Result<Duration, String> {
    let interval = duration::parse(text)?;
    let allowed = Duration::from_millis(200)..=Duration::from_secs(60);
    match allowed.contains(&interval) {
        true => Ok(interval),
        false => Err("an interval is from 200ms to 60s long".to_owned()),
    }
}

/// Completes when `q` is typed. Keys are another program's while that shows the pictures.
async fn quit(terminal: bool) {
    match terminal {
        true => typed(b'q').await,
        false => std::future::pending().await,
    }
}

impl Top {
    /// # Errors
    /// The node does not answer the first time, or refuses to. Later its picture says so, and comes
    /// back with the node.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        let admin = self.target.admin()?;
        let terminal = io::stdout().is_terminal();
        if !terminal && self.frames.is_none() {
            let message = "the output is no terminal; --frames N prints N pictures";
            return Err(Failure::Usage(message.to_owned()));
        }
        let mut before = Sample::take(&admin, None).await?;
        sleep(self.interval.min(Duration::from_millis(500))).await;
        let mut screen = Screen::open(terminal)?;
        tokio::select! {
            drawn = self.draw(&admin, &mut before, &mut screen) => drawn,
            // The terminal gets its content back.
            () = interrupted() => Ok(()),
            () = quit(terminal) => Ok(()),
        }
    }

    async fn draw(
        &self,
        admin: &Admin,
        before: &mut Sample,
        screen: &mut Screen,
    ) -> Result<(), Failure> {
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut shown, mut answered) = (None, Instant::now());
        let mut frames = 0;
        loop {
            ticks.tick().await;
            let fault = match Sample::take(admin, Some(&before.groups)).await {
                Ok(sample) => {
                    answered = Instant::now();
                    shown = Some(view::View::new(before, &sample));
                    *before = sample;
                    None
                }
                Err(Failure::Unreachable(fault) | Failure::Failed(fault)) => Some(fault),
                Err(other) => return Err(other),
            };
            let fault = fault.map(|fault| (fault, answered.elapsed()));
            if let Some(view) = &shown {
                screen.show(&view.lines(screen.rows(), fault.as_ref()))?;
            } else if let Some((fault, _)) = fault {
                screen.show(&[view::Line::bad(fault)])?;
            }
            io::stdout().flush()?;
            frames += 1;
            if self.frames.is_some_and(|wanted| frames >= wanted) {
                return Ok(());
            }
        }
    }
}
