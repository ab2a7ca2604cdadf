//! A client of a gate.

use std::time::Duration;

use bytes::Bytes;
use nano::{
    Raw,
    client::{Builder, Client, DisconnectReason, Subscription},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    node::Kind,
    support::{DEADLINE, within},
};

/// How long to listen for what is not to come. A Go gate takes a millisecond for what does come.
const SILENCE: Duration = Duration::from_millis(500);

pub(crate) struct Player {
    client: Client<Raw>,
    gate: Kind,
    notes: Subscription<Raw>,
    pushes: [Subscription<Raw>; 2],
}

impl Player {
    /// Connects, as soon as the gate takes clients: a Go node is a member before it does.
    pub(crate) async fn connect(gate: Kind, address: &str) -> Self {
        Self::connect_with(Client::builder(), gate, address).await
    }

    /// [`connect`](Self::connect), with options.
    pub(crate) async fn connect_with(builder: Builder, gate: Kind, address: &str) -> Self {
        let mut builder = builder.typed::<Raw>().request_timeout(DEADLINE);
        let notes = builder.subscribe("onNote");
        let pushes = [builder.subscribe("onA"), builder.subscribe("onB")];
        let up = async {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        within("the gate to listen", up).await;
        let client = within("a connection", builder.connect(&format!("tcp://{address}")))
            .await
            .unwrap();
        Self {
            client,
            gate,
            notes,
            pushes,
        }
    }

    #[track_caller]
    pub(crate) fn ask(&self, route: &str, body: impl Into<Bytes>) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        async move {
            let answer = timeout(DEADLINE, self.client.request_raw(route, body)).await;
            match answer {
                Ok(Ok(answer)) => String::from_utf8(answer.into()).unwrap(),
                other => panic!("{caller}: {route} at a gate of {:?}: {other:?}", self.gate),
            }
        }
    }

    /// Asks until there is an answer, for as long as a member joins or leaves.
    pub(crate) async fn ask_until_answered(&self, route: &str, body: &'static str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            match timeout(SILENCE, self.client.request_raw(route, body)).await {
                Ok(Ok(answer)) => return String::from_utf8(answer.into()).unwrap(),
                _ => assert!(
                    Instant::now() < end,
                    "no answer to {route} within {DEADLINE:?}"
                ),
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The code of the error reply. A Go gate sends none, which is checked: then `None`.
    #[track_caller]
    pub(crate) fn fails(&self, route: &str) -> impl Future<Output = Option<String>> {
        let caller = std::panic::Location::caller();
        async move {
            match self.gate {
                Kind::Rust => Some(
                    within("an error", self.client.request_raw(route, ""))
                        .await
                        .unwrap_err()
                        .code()
                        .to_string(),
                ),
                Kind::Go => {
                    let answer = timeout(SILENCE, self.client.request_raw(route, "")).await;
                    assert!(
                        answer.is_err(),
                        "{caller}: answered by a Go gate: {answer:?}"
                    );
                    None
                }
            }
        }
    }

    pub(crate) async fn notify(&self, route: &str, body: &str) {
        self.client
            .notify_raw(route, body.to_owned())
            .await
            .unwrap();
    }

    pub(crate) async fn note(&mut self) -> String {
        let note = within("a push", self.notes.recv()).await.unwrap();
        String::from_utf8(note.into()).unwrap()
    }

    pub(crate) fn subscribe(&self, route: &str) -> Subscription<Raw> {
        self.client.subscribe(route)
    }

    /// What has been pushed as `onA` and as `onB` so far.
    pub(crate) fn pushed(&mut self) -> [Option<Bytes>; 2] {
        self.pushes.each_mut().map(Subscription::try_recv)
    }

    /// The candidates of the last choice of a member.
    pub(crate) async fn offered(&self) -> Vec<String> {
        let mut offered: Vec<_> = self
            .ask("Gate.Offered", "")
            .await
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        offered.sort();
        offered
    }

    /// Has the session served by members with this label.
    pub(crate) async fn want(&self, label: &'static str) {
        assert_eq!(self.ask("Gate.Want", label).await, "noted");
    }

    /// What comes before the end of the connection, if anything does.
    pub(crate) async fn last_words(&self, route: &str) -> Option<Bytes> {
        within(
            "an answer or the end",
            self.client.request_raw(route, "bye"),
        )
        .await
        .ok()
    }

    pub(crate) fn leave(&self) {
        self.client.close();
    }

    pub(crate) async fn is_closed(&self) -> DisconnectReason {
        within("the end of the connection", self.client.closed()).await
    }
}
