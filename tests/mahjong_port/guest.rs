//! A player's client: what it asks, and what it hears.

use nano::{
    Error, Node, Result,
    client::{Client, DisconnectReason, Subscription},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::{Duration, timeout};

use crate::{
    cipher::{self, Sealed},
    components::{DeskNumber, LoggedIn},
};

/// How long anything that is bound to happen may take.
const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) struct Guest {
    pub(crate) client: Client<Sealed>,
}

impl Guest {
    pub(crate) async fn connect(node: &Node) -> Self {
        Self {
            client: Client::connect(&format!("tcp://{}", node.addresses()[0]))
                .await
                .unwrap()
                .typed(),
        }
    }

    pub(crate) async fn login(node: &Node, uid: i64) -> (Self, LoggedIn) {
        let guest = Self::connect(node).await;
        let reply = guest
            .request(
                "Manager.Login",
                &json!({ "uid": uid, "name": format!("player {uid}") }),
            )
            .await
            .unwrap();
        (guest, reply)
    }

    pub(crate) async fn request<R: DeserializeOwned + 'static>(
        &self,
        route: &str,
        message: &(impl Serialize + ?Sized),
    ) -> Result<R> {
        // Error replies come through the pipeline as everything does; only then are they what the
        // server said.
        self.client.request(route, message).await.map_err(|error| {
            match cipher::open(error.message().as_bytes()) {
                Ok(body) => Error::from_body(&body),
                Err(_) => error,
            }
        })
    }

    pub(crate) async fn ask(&self, route: &str) -> Result<Value> {
        self.request(route, &()).await
    }

    pub(crate) async fn join(&self, desk: u32) -> Vec<i64> {
        let state: crate::components::DeskState = self
            .request("DeskManager.Join", &DeskNumber { number: desk })
            .await
            .unwrap();
        assert_eq!(state.number, desk);
        state.players
    }

    pub(crate) fn hears(&self, route: &str) -> Heard {
        Heard(self.client.subscribe(route))
    }

    pub(crate) async fn closed(&self) -> DisconnectReason {
        timeout(DEADLINE, self.client.closed()).await.unwrap()
    }
}

pub(crate) struct Heard(Subscription<Sealed>);

impl Heard {
    pub(crate) async fn next<M: DeserializeOwned + 'static>(&mut self) -> M {
        timeout(DEADLINE, self.0.recv_as())
            .await
            .expect("a push in time")
            .expect("an open connection")
            .unwrap()
    }

    pub(crate) async fn next_raw(&mut self) -> bytes::Bytes {
        cipher::open(&timeout(DEADLINE, self.0.recv()).await.unwrap().unwrap()).unwrap()
    }

    pub(crate) fn nothing_more(&mut self) -> bool {
        self.0.try_recv().is_none()
    }
}
