//! Sessions that share a link with one that takes all it can.

use std::sync::Arc;

use bytes::Bytes;
use nano::{Component, Handlers, Options, Raw, Result, Session, testing::TestNode};
use parking_lot::Mutex;

use crate::{
    cluster::{calm, cluster},
    rooms::member,
};

#[derive(Clone, Default)]
struct Greedy(Arc<Mutex<Vec<Session<Raw>>>>);

impl Component<Raw> for Greedy {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on("In", Self::enter).on("Flood", Self::flood)
    }
}

impl Greedy {
    fn enter(&self, session: &Session<Raw>, _: Bytes) -> Result<Bytes> {
        self.0.lock().push(session.clone());
        Ok(Bytes::new())
    }

    /// Pushes 32 MiB to one session, and a byte to each other one after each 16 KiB: how many of
    /// the bytes were refused.
    fn flood(&self, session: &Session<Raw>, _: Bytes) -> Result<Bytes> {
        let mut refused = 0;
        for _ in 0..2_000 {
            let _ = session.push_raw("on", vec![0; 16 * 1024]);
            let others = self.0.lock();
            let others = others.iter().filter(|other| other.id() != session.id());
            refused += others
                .filter(|other| other.push_raw("on", "x").is_err())
                .count();
        }
        Ok(refused.to_string().into())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_fills_a_link_takes_no_room_of_the_others() {
    let cluster = cluster(&[], |app| app).await;
    let app = calm(member(&cluster.master))
        .component_with(Greedy::default(), Options::new().name("Greedy"));
    let _backend = TestNode::start(app).await;
    cluster.gate.knows(2).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        let client = cluster.client().await;
        client.request_raw("Greedy.In", "").await.unwrap();
        clients.push(client);
    }
    assert_eq!(
        clients[0].request_raw("Greedy.Flood", "").await.unwrap(),
        "0",
        "pushes to others that were refused"
    );
}
