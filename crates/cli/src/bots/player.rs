//! One player.

use std::{
    collections::HashMap,
    ops::ControlFlow::{self, Break, Continue},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use nano_client::{Client, Error, Subscription};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::{
    script::{Action, Request, Save, Script, Step, Turns},
    tally::{Kind, Tally},
    value::{Variables, compare, fill, fill_text},
};
use crate::play::{Connect, not_connected};

/// Plays the script once.
pub(super) struct Player {
    script: Arc<Script>,
    options: Connect,
    tally: Arc<Tally>,
    variables: Variables,
    client: Option<Client>,
    /// The pushes that steps wait for, by route.
    pushes: HashMap<String, Subscription>,
}

/// What became of a step.
type Done = Result<(), String>;

impl Player {
    pub(super) fn new(
        number: u32,
        script: Arc<Script>,
        options: Connect,
        tally: Arc<Tally>,
    ) -> Self {
        Self {
            script,
            options,
            tally,
            variables: Self::variables(number),
            client: None,
            pushes: HashMap::new(),
        }
    }

    /// What a player has before its first step.
    pub(super) fn variables(number: u32) -> Variables {
        Variables::from([("player".to_owned(), Value::from(number))])
    }

    /// Completes at the end of the script, or when the connection is lost.
    pub(super) async fn play(mut self) {
        self.tally.started();
        let script = self.script.clone();
        let end = self.steps(&script.steps).await;
        if let Some(client) = self.client.take() {
            client.close();
            client.closed().await;
        }
        self.tally.ended(end.is_continue());
    }

    /// Boxed, because loops nest.
    fn steps<'a>(
        &'a mut self,
        steps: &'a [Step],
    ) -> Pin<Box<dyn Future<Output = ControlFlow<()>> + Send + 'a>> {
        Box::pin(async move {
            for step in steps {
                self.step(step).await?;
            }
            Continue(())
        })
    }

    async fn step(&mut self, step: &Step) -> ControlFlow<()> {
        let begun = Instant::now();
        let (kind, done) = match &step.action {
            Action::Loop { turns, steps } => return self.turns(*turns, steps).await,
            Action::Wait { from, to } => {
                sleep(between(*from, *to)).await;
                return Continue(());
            }
            Action::Disconnect => {
                if let Some(client) = self.client.take() {
                    client.close();
                    client.closed().await;
                }
                return Continue(());
            }
            Action::Connect { user } => (Kind::Connect, self.connect(user).await),
            Action::Request(request) => (Kind::Request, self.request(request).await),
            Action::Notify { route, body } => (Kind::Notify, self.notify(route, body).await),
            Action::Push {
                route,
                within,
                expect,
                save,
            } => {
                let push = self.push(route, *within, expect.as_ref(), save).await;
                (Kind::Push, push)
            }
        };
        self.tally.step(
            &step.name,
            kind,
            begun.elapsed(),
            done.as_ref().err().map(String::as_str),
        );
        let reason = self.client.as_ref().map(Client::close_reason);
        match reason {
            // Without a connection there is nothing to go on with.
            None => Break(()),
            Some(Some(reason)) => {
                self.tally.lost(&reason.to_string());
                Break(())
            }
            Some(None) => Continue(()),
        }
    }

    async fn turns(&mut self, turns: Turns, steps: &[Step]) -> ControlFlow<()> {
        let begun = Instant::now();
        let outer = self.variables.get("turn").cloned();
        let mut turn = 0_u64;
        while match turns {
            Turns::Count(count) => turn < count,
            Turns::For(time) => begun.elapsed() < time,
        } {
            self.variables.insert("turn".to_owned(), turn.into());
            self.steps(steps).await?;
            turn += 1;
            // A loop of steps that are ready at once leaves the thread to other players.
            tokio::task::yield_now().await;
        }
        match outer {
            Some(outer) => self.variables.insert("turn".to_owned(), outer),
            None => self.variables.remove("turn"),
        };
        Continue(())
    }

    async fn connect(&mut self, user: &Value) -> Done {
        self.client = None;
        let user = fill(user, &self.variables)?;
        let url = fill_text(&self.script.url, &self.variables)?;
        let mut builder = self.options.builder(user);
        let routes = self.script.pushes.iter();
        self.pushes = routes
            .map(|route| (route.clone(), builder.subscribe(route)))
            .collect();
        match builder.connect(&url).await {
            Ok(client) => {
                self.tally.connected();
                self.client = Some(client);
                Ok(())
            }
            Err(error) => {
                self.tally.not_connected(not_connected(&url, &error));
                Err(error.to_string())
            }
        }
    }

    fn client(&self) -> Result<&Client, String> {
        self.client
            .as_ref()
            .ok_or_else(|| "not connected".to_owned())
    }

    async fn request(&mut self, request: &Request) -> Done {
        let body = fill(&request.body, &self.variables)?.to_string();
        let begun = Instant::now();
        let response = self.client()?.request_raw(&request.route, body).await;
        let took = begun.elapsed();
        let body = match (&request.error, response) {
            (None, Ok(body)) => body,
            (None, Err(error)) => return Err(error.to_string()),
            (Some(code), Ok(_)) => return Err(format!("no error, and {code} was expected")),
            (Some(code), Err(error)) => check_code(code, &error)?,
        };
        let slow = request.within.filter(|within| took > *within);
        if let Some(within) = slow {
            return Err(format!("not within {within:?}"));
        }
        self.read(&body, request.expect.as_ref(), &request.save)
    }

    async fn notify(&mut self, route: &str, body: &Value) -> Done {
        let body = fill(body, &self.variables)?.to_string();
        let sent = self.client()?.notify_raw(route, body).await;
        sent.map_err(|error| error.to_string())
    }

    async fn push(
        &mut self,
        route: &str,
        within: Duration,
        expect: Option<&Value>,
        save: &Save,
    ) -> Done {
        let pushes = self.pushes.get_mut(route).ok_or("not connected")?;
        let body = match timeout(within, pushes.recv()).await {
            Ok(Some(body)) => body,
            Ok(None) => return Err("the connection is closed".to_owned()),
            Err(_) => return Err(format!("no push within {within:?}")),
        };
        self.read(&body, expect, save)
    }

    /// Compares an answer with what is expected, and keeps what is saved of it.
    fn read(&mut self, body: &Bytes, expect: Option<&Value>, save: &Save) -> Done {
        if expect.is_none() && save.is_empty() {
            return Ok(());
        }
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| format!("the body is not JSON: {error}"))?;
        if let Some(expect) = expect {
            compare(&fill(expect, &self.variables)?, &value)?;
        }
        for (name, path) in save {
            let found = value.pointer(path);
            let found = found.ok_or_else(|| format!("{path} is missing"))?;
            self.variables.insert(name.clone(), found.clone());
        }
        Ok(())
    }
}

/// The body of an error reply with the expected code.
fn check_code(code: &str, error: &Error) -> Result<Bytes, String> {
    match error.code() == code {
        true => Ok(error.to_body()),
        false => Err(format!("{error}, and {code} was expected")),
    }
}

fn between(from: Duration, to: Duration) -> Duration {
    match from < to {
        true => rand::random_range(from..=to),
        false => from,
    }
}
