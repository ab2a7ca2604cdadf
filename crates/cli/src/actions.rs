//! `nano kick` and `nano drain`.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    admin::{Admin, TIMEOUT, Target},
    duration,
    failure::Failure,
    table::{counted, print},
};

/// What a node may take longer than its drain, to end what is under way.
const SHUTDOWN: Duration = Duration::from_secs(60);

/// The arguments of the command.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("who").required(true).args(["id", "user"]))]
pub(crate) struct Kick {
    #[command(flatten)]
    target: Target,
    /// The id of the session
    id: Option<i64>,
    /// All sessions of this user, at all gates of the cluster
    #[arg(long)]
    user: Option<String>,
    /// What the client reads
    #[arg(long)]
    reason: Option<String>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

impl Kick {
    /// # Errors
    /// The node does not answer, refuses to, or has no such session.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        let admin = self.target.admin()?;
        let kicked = match (&self.id, &self.user) {
            (Some(id), _) => {
                let path = format!("/api/v1/sessions/{id}/kick");
                let answer = admin.post(&path, &self.body(json!({}))).await?;
                answer["kicked"].as_u64().unwrap_or(1)
            }
            (None, Some(user)) => self.kick_user(&admin, user).await?,
            // The group of arguments requires one.
            (None, None) => 0,
        };
        let line = match self.json {
            true => json!({"kicked": kicked}).to_string(),
            false => format!("kicked {}", counted(kicked, "session")),
        };
        Ok(print(&line)?)
    }

    /// An argument has no type: what reads as a number may be the text of a user as well.
    async fn kick_user(&self, admin: &Admin, user: &str) -> Result<u64, Failure> {
        let number = user.parse::<i64>().ok().map(|number| json!(number));
        let (mut kicked, mut failed) = (None, None);
        for user in number.into_iter().chain([json!(user)]) {
            let body = self.body(json!({"user": user}));
            match admin.post_to("/api/v1/users/kick", &body).await {
                Ok(None) => {}
                Ok(Some(answer)) => {
                    *kicked.get_or_insert(0) += answer["kicked"].as_u64().unwrap_or_default();
                }
                Err(failure) => failed = Some(failure),
            }
        }
        match (kicked, failed) {
            (Some(kicked), failed) => {
                // What was kicked is said although a gate does not answer.
                failed.map(|failure| failure.report());
                Ok(kicked)
            }
            (None, Some(failure)) => Err(failure),
            (None, None) => {
                let message = format!("{}: no node has a session of the user {user}", admin.name());
                Err(Failure::Failed(message))
            }
        }
    }

    fn body(&self, mut body: Value) -> Value {
        if let Some(reason) = &self.reason {
            body["reason"] = json!(reason);
        }
        body
    }
}

/// The arguments of the command.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("how long").required(true).args(["within", "now"]))]
pub(crate) struct Drain {
    #[command(flatten)]
    target: Target,
    /// How long players may stay, for example 10m; the node takes no new ones, and stops at the end,
    /// or when the last has left
    #[arg(long = "for", value_parser = duration::parse)]
    within: Option<Duration>,
    /// Stops the node at once, in order
    #[arg(long)]
    now: bool,
    /// Waits until the node has stopped
    #[arg(long)]
    wait: bool,
}

impl Drain {
    /// # Errors
    /// The node does not answer, refuses to, or still runs a minute after its time.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        let admin = self.target.admin()?;
        let seconds = self
            .within
            .map_or(0, |within| within.as_secs_f64().ceil() as u64);
        let body = match seconds {
            0 => json!({}),
            seconds => json!({"seconds": seconds}),
        };
        admin.post("/api/v1/drain", &body).await?;
        if !self.wait {
            let line = match seconds {
                0 => format!("{} stops", admin.name()),
                seconds => format!(
                    "{} stops within {}",
                    admin.name(),
                    duration::short(seconds as f64)
                ),
            };
            return Ok(print(&line)?);
        }
        self.wait(&admin, Duration::from_secs(seconds)).await?;
        Ok(print(&format!("{} has stopped", admin.name()))?)
    }

    async fn wait(&self, admin: &Admin, within: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + within + SHUTDOWN;
        let mut said = None;
        loop {
            let asked = Instant::now();
            let node = match admin.get("/api/v1/node").await {
                Ok(node) => node,
                // A node that is only slow still runs.
                Err(Failure::Unreachable(_)) if asked.elapsed() < TIMEOUT => return Ok(()),
                Err(Failure::Unreachable(_)) if asked < deadline => continue,
                Err(other) => return Err(other),
            };
            let local = node["sessions"]["local"].as_u64();
            if local != said {
                said = local;
                eprintln!("{}", counted(local.unwrap_or_default(), "session"));
            }
            if Instant::now() > deadline {
                let message = format!("{} still runs", admin.name());
                return Err(Failure::Failed(message));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}
