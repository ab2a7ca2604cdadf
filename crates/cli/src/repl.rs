//! `nano repl`: a client at the keyboard, or of a script.

use std::{
    collections::BTreeSet,
    env,
    io::{self, IsTerminal},
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use clap::Args;
use nano_client::{Client, Error, Event, Pushes};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    signal,
    time::{Instant, sleep, timeout},
};

use crate::{
    admin::Admin,
    duration,
    failure::Failure,
    play::{self, Connect},
};
use command::{Command, HELP};
use inbox::Inbox;
use input::Input;
use output::Output;

mod command;
mod inbox;
mod input;
mod output;

/// The arguments of the command.
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(crate) struct Repl {
    /// Where to connect: tcp://, tls://, ws:// or wss://
    url: String,
    #[command(flatten)]
    connect: Connect,
    /// A value in JSON for the application's handshake check
    #[arg(long, default_value = "null", value_parser = play::json)]
    user: Value,
    /// Bodies are text that is sent as it stands, not JSON
    #[arg(long)]
    raw: bool,
    /// Prints one JSON object for each response and push
    #[arg(long)]
    json: bool,
    /// Goes on after a command of a script that failed
    #[arg(long)]
    keep_going: bool,
    /// Completes routes with those of the node at this admin server; a token is read from
    /// NANO_ADMIN_TOKEN
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// Keeps the history in this file; without one it is forgotten, for it may hold passwords
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

/// A response that takes longer is announced as late.
const LATE: Duration = Duration::from_secs(1);

/// Routes that are completed.
type Routes = Arc<Mutex<BTreeSet<String>>>;

/// A connection, and what its commands work with.
struct Play<'a> {
    options: &'a Repl,
    client: Client,
    inbox: Arc<Inbox>,
    output: Output,
    routes: Routes,
    /// Whether a person types the commands.
    by_hand: bool,
}

impl Repl {
    /// # Errors
    /// There is no connection, it is lost, or a command of a script failed.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        self.connect.check(&self.url)?;
        let routes = Routes::default();
        if let Some(url) = &self.admin {
            let mut named = routes_of(url).await?;
            routes.lock().append(&mut named);
        }
        let by_hand = io::stdin().is_terminal() && io::stdout().is_terminal();
        let (mut input, output) = match by_hand {
            true => Input::editor(routes.clone(), self.history.clone(), self.json)?,
            false => (Input::script(), Output::plain(self.json)),
        };
        let notices = output.clone();
        let mut builder =
            self.connect
                .builder(self.user.clone())
                .on_event(move |event| match event {
                    Event::Reconnecting(reason) => {
                        notices.notice(&format!("{reason}; connecting again"))
                    }
                    Event::Resumed => notices.notice("back in the session"),
                    Event::Lost(reason) => {
                        notices.notice(&format!("the session is lost: {reason}; this is a new one"))
                    }
                    other => notices.notice(&format!("{other:?}")),
                });
        let pushes = builder.pushes();
        let client = builder.connect(&self.url).await;
        let client = client.map_err(|error| play::not_connected(&self.url, &error))?;
        let named = client.handshake().dictionary.iter();
        routes
            .lock()
            .extend(named.map(|(route, _)| route.to_string()));
        let play = Play {
            options: self,
            inbox: Arc::default(),
            output,
            routes,
            client,
            by_hand,
        };
        let delivery = tokio::spawn(deliver(pushes, play.inbox.clone(), play.output.clone()));
        if by_hand {
            play.output.notice(&format!(
                "connected to {}; `help` lists the commands",
                self.url
            ));
        }
        let done = {
            let mut playing = pin!(play.play(&mut input));
            tokio::select! {
                biased;
                done = &mut playing => done,
                reason = play.client.closed(), if by_hand => {
                    play.output.notice(&format!("{reason}; press Enter to leave"));
                    playing.await
                }
            }
        };
        play.client.close();
        play.client.closed().await;
        // It prints what has arrived. A panic of it was reported.
        let _ = delivery.await;
        done
    }
}

/// Prints the pushes that are wanted, until the connection ends.
async fn deliver(mut pushes: Pushes, inbox: Arc<Inbox>, output: Output) {
    while let Some(push) = pushes.recv().await {
        if inbox.arrived(push.route()) {
            output.push(push.route(), push.body());
            inbox.printed(push.route());
        }
    }
    inbox.close();
}

/// The routes of a node.
async fn routes_of(url: &str) -> Result<BTreeSet<String>, Failure> {
    let token = env::var("NANO_ADMIN_TOKEN").ok();
    let answer = Admin::new(url, token)?.get("/api/v1/routes").await?;
    let routes = |list: &str| answer[list].as_array().cloned().unwrap_or_default();
    let names = [routes("routes"), routes("forwarded")].concat().into_iter();
    let names = names.filter_map(|route| route["route"].as_str().map(str::to_owned));
    // What stands for the routes that have no series of their own.
    Ok(names.filter(|name| name != "other").collect())
}

impl Play<'_> {
    async fn play(&self, input: &mut Input) -> Result<(), Failure> {
        let by_hand = self.by_hand;
        let (mut number, mut failed) = (0, 0);
        while let Some(line) = input.next().await? {
            number += 1;
            let command = match command::parse(&line, self.options.raw) {
                // Enter leaves.
                Ok(None) if by_hand => match self.lost(None, number) {
                    Some(failure) => return Err(failure),
                    None => continue,
                },
                Ok(None) => continue,
                Ok(Some(Command::Quit)) => break,
                Ok(Some(command)) => Ok(command),
                Err(fault) => Err(fault),
            };
            let done = match command {
                Err(fault) => Err(fault),
                Ok(command) if by_hand => tokio::select! {
                    done = self.run(command) => done,
                    _ = signal::ctrl_c() => Err("given up".to_owned()),
                },
                Ok(command) => self.run(command).await,
            };
            if let Some(failure) = self.lost(done.as_ref().err(), number) {
                return Err(failure);
            }
            match done {
                Ok(()) => {}
                Err(fault) if by_hand || self.options.keep_going => {
                    failed += 1;
                    self.output.notice(&match by_hand {
                        true => fault,
                        false => format!("line {number}: {fault}"),
                    });
                }
                Err(fault) => return Err(Failure::Failed(format!("line {number}: {fault}"))),
            }
        }
        match failed {
            0 => Ok(()),
            _ if by_hand => Ok(()),
            failed => Err(Failure::Failed(format!("{failed} commands failed"))),
        }
    }

    /// The end of a run whose connection is lost; `fault` is that of the command in this line.
    fn lost(&self, fault: Option<&String>, number: u64) -> Option<Failure> {
        let reason = self.client.close_reason()?.to_string();
        let fault = match fault {
            Some(fault) if fault.contains(&reason) => fault.clone(),
            Some(fault) => format!("{fault} ({reason})"),
            None => reason,
        };
        Some(Failure::Failed(match self.by_hand {
            true => fault,
            false => format!("line {number}: {fault}"),
        }))
    }

    /// # Errors
    /// Says what is wrong.
    async fn run(&self, command: Command) -> Result<(), String> {
        match command {
            Command::Request { route, body } => {
                let begun = Instant::now();
                let response = self.request(&route, body).await;
                let response = response.map_err(|error| describe(&error))?;
                self.output.response(&route, &response, begun.elapsed());
                self.routes.lock().insert(route);
            }
            Command::Notify { route, body } => {
                let sent = self.client.notify_raw(&route, body).await;
                sent.map_err(|error| describe(&error))?;
                self.routes.lock().insert(route);
            }
            Command::On(route) => self.inbox.want(route),
            Command::Off(route) => self.inbox.forget(&route)?,
            Command::Wait { route, within } => {
                let waited = timeout(within, self.inbox.wait(&route)).await;
                waited.unwrap_or_else(|_| {
                    let within = duration::latency(within.as_secs_f64());
                    Err(format!("no push {route} within {within}"))
                })?;
            }
            Command::Sleep(time) => tokio::select! {
                () = sleep(time) => {}
                reason = self.client.closed() => return Err(reason.to_string()),
            },
            Command::Routes => {
                let routes = self.routes.lock().clone();
                let wanted = self.inbox.wanted();
                self.output
                    .line(&routes.into_iter().collect::<Vec<_>>().join("\n"));
                if !wanted.is_empty() {
                    self.output
                        .notice(&format!("pushes that are printed: {}", wanted.join(", ")));
                }
            }
            Command::Help => self.output.line(HELP),
            // It ends the loop that calls this.
            Command::Quit => {}
        }
        Ok(())
    }

    /// Waits for the response, and says so when that takes long.
    async fn request(&self, route: &str, body: String) -> Result<Bytes, Error> {
        let mut response = pin!(self.client.request_raw(route, body));
        if let Ok(response) = timeout(LATE, &mut response).await {
            return response;
        }
        let give_up = if self.by_hand {
            " Ctrl-C gives up."
        } else {
            ""
        };
        self.output.notice(&format!(
            "no response from {route} yet. A handler without a result sends none: use `notify {route}`.{give_up}"
        ));
        response.await
    }
}

fn describe(error: &Error) -> String {
    match error.metadata() {
        metadata if metadata.is_empty() => error.to_string(),
        metadata => format!("{error} {}", json!(metadata)),
    }
}
