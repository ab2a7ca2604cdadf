//! A gate and a member that have lost sight of each other, while the master sees both.

use std::time::Duration;

use nano::{CloseReason, Options, Raw, code, testing::TestNode};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    cluster::{answered, calm, last_lost, master},
    proxy::{FAR, Proxy},
    rooms::{Room, code_of, member, text},
    support::{eventually, within},
};

/// Two nodes that cannot reach each other; all others reach both.
struct Apart {
    master: TestNode,
    gate: TestNode,
    backend: TestNode,
    room: Room,
    proxies: [Proxy; 2],
}

impl Apart {
    async fn start(partition_grace: Duration) -> Self {
        let master = master("127.0.0.1:0").await;
        let proxies = [Proxy::for_far().await, Proxy::for_far().await];
        let node = |proxy: &Proxy| {
            let app = calm(member(&master))
                .listen(&proxy.listen)
                .advertise(&proxy.address)
                .partition_grace(partition_grace);
            app.grpc_endpoint(|endpoint| endpoint.local_address(Some(FAR)))
        };
        let gate = TestNode::start(node(&proxies[0]).tcp("127.0.0.1:0")).await;
        let room = Room::new("far");
        let backend = node(&proxies[1]).component_with(room.clone(), Options::new().name("Room"));
        let backend = TestNode::start(backend).await;
        gate.knows(2).await;
        Self {
            master,
            gate,
            backend,
            room,
            proxies,
        }
    }

    fn block(&self) {
        self.proxies.iter().for_each(Proxy::freeze);
    }

    fn open(&self) {
        self.proxies.iter().for_each(Proxy::heal);
    }

    /// Whether the master has both, and they each other.
    fn all_are_members(&self) -> bool {
        [&self.master, &self.gate, &self.backend]
            .iter()
            .all(|node| node.handle().members().len() == 2)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sessions_of_a_gate_and_a_member_that_are_cut_off_end_on_both_sides() {
    let apart = Apart::start(Duration::from_secs(1)).await;
    let client = apart.gate.client_of::<Raw>().await;
    client.request_raw("Room.Join", "").await.unwrap();
    let session = apart.gate.handle().sessions().list().pop().unwrap();
    let held = tokio::spawn({
        let client = client.clone();
        async move { client.request_raw("Room.Hold", "").await }
    });
    eventually("the request to arrive", || apart.room.held().len() == 1).await;

    apart.block();
    assert_eq!(
        code_of(within("the request to end", held).await.unwrap()),
        code::UNAVAILABLE
    );
    eventually("the member's side to end", || {
        apart.room.closed().len() == 1 && apart.room.group().count() == 0
    })
    .await;
    assert_eq!(apart.backend.handle().sessions().count(), 0);
    assert!(
        matches!(apart.room.closed()[0].1, CloseReason::Broken(_)),
        "{:?}",
        apart.room.closed()
    );
    eventually("the gate's side to end", || {
        session.router().find("Room").is_none()
    })
    .await;
    assert!(client.close_reason().is_none(), "the client stays");
    assert_eq!(
        code_of(client.request_raw("Room.Who", "").await),
        code::UNAVAILABLE
    );
    assert!(apart.all_are_members(), "the master sees both");

    // A reachable member serves the session meanwhile.
    let near = Room::new("near");
    let app = calm(member(&apart.master)).component_with(near.clone(), Options::new().name("Room"));
    let third = TestNode::start(app).await;
    apart.gate.knows(3).await;
    assert_eq!(text(&answered(&client, "Room.Who").await), "near");

    apart.open();
    session
        .router()
        .bind("Room", apart.backend.address())
        .unwrap();
    assert_eq!(text(&answered(&client, "Room.Who").await), "far");
    // A request held for the old session gets no answer.
    for responder in apart.room.held().drain(..) {
        assert_eq!(
            responder.respond(&bytes::Bytes::new()).unwrap_err().code(),
            code::CLOSED
        );
    }
    client.close();
    for node in [&apart.gate, &apart.backend, &third] {
        eventually("sessions to be gone", || {
            node.handle().sessions().count() == 0
        })
        .await;
    }
    eventually("a callback for each session", || {
        apart.room.closed().len() == 2 && near.closed().len() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sessions_of_a_gate_and_a_member_that_see_each_other_again_in_time_go_on() {
    let apart = Apart::start(Duration::from_secs(30)).await;
    let client = apart.gate.client_of::<Raw>().await;
    let mut said = client.subscribe("onSay");
    client.request_raw("Room.Join", "").await.unwrap();
    let goes = apart.gate.client_of::<Raw>().await;
    goes.request_raw("Room.Join", "").await.unwrap();

    apart.block();
    // Sent before the partition is detected, failed when it is; refused at once afterwards.
    assert_eq!(
        code_of(within("an end", client.request_raw("Room.Who", "")).await),
        code::UNAVAILABLE
    );
    assert_eq!(
        code_of(client.request_raw("Room.Who", "").await),
        code::UNAVAILABLE
    );
    goes.close();
    eventually("the other client to be gone", || {
        apart.gate.handle().sessions().count() == 1
    })
    .await;
    assert_eq!(apart.room.group().count(), 2, "the member cannot know");

    apart.open();
    eventually("the member to hear of it", || {
        apart.room.group().count() == 1
    })
    .await;
    answered(&client, "Room.Who").await;
    client.notify_raw("Room.Say", "hello").await.unwrap();
    assert_eq!(within("the broadcast", said.recv()).await.unwrap(), "hello");
    assert_eq!(apart.room.closed().len(), 1, "the session itself goes on");
    assert!(apart.all_are_members());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_cannot_reach_the_gate_gets_no_new_sessions() {
    let master = master("127.0.0.1:0").await;
    let proxy = Proxy::for_far().await;
    let gate = TestNode::start(
        calm(member(&master))
            .listen(&proxy.listen)
            .advertise(&proxy.address)
            .tcp("127.0.0.1:0"),
    )
    .await;
    let node =
        |name| calm(member(&master)).component_with(Room::new(name), Options::new().name("Room"));
    let _far =
        TestNode::start(node("far").grpc_endpoint(|endpoint| endpoint.local_address(Some(FAR))))
            .await;
    let _near = TestNode::start(node("near")).await;
    gate.knows(3).await;

    proxy.freeze();
    let gate_at = format!("tcp://{}", gate.client_address());
    let last = last_lost(&gate_at, "Room.Who", Duration::from_secs(4)).await;
    assert!(
        last < Duration::from_millis(1_750),
        "new sessions for {last:?}"
    );

    proxy.heal();
    within("the proxy back to be used", async {
        loop {
            let client = gate.client_of::<Raw>().await;
            if client
                .request_raw("Room.Who", "")
                .await
                .is_ok_and(|name| name == "far")
            {
                return;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_member_is_asked_although_nothing_is_heard_of_it() {
    // For longer than it takes to prefer others, and shorter than it takes to give it up; a node
    // that is too busy for that tries again.
    let (silence, given_up) = (Duration::from_millis(1_200), Duration::from_millis(1_700));
    loop {
        let apart = Apart::start(Duration::from_secs(30)).await;
        let begun = Instant::now();
        apart.block();
        let mut visits = JoinSet::new();
        while begun.elapsed() < silence {
            let client = apart.gate.client_of::<Raw>().await;
            visits.spawn(async move { client.request_raw("Room.Who", "").await });
            sleep(Duration::from_millis(20)).await;
        }
        apart.open();
        if begun.elapsed() < given_up {
            while let Some(visit) = within("an answer", visits.join_next()).await {
                assert_eq!(visit.unwrap().unwrap(), "far");
            }
            return;
        }
    }
}
