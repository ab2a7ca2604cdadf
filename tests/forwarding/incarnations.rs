//! Claims of an incarnation, and peers the master has not announced.

use nano::{Options, code, testing::TestNode};
use tonic::Code;

use crate::{
    cluster::{Backend, Room, RoomCluster, code_of, member},
    links::again,
    raw_link::{RawLink, hello_from, link, proto::Kind},
    scripted_peer::{ScriptedPeer, ask},
    support::{free_address, within},
};

#[tokio::test]
async fn an_unverified_incarnation_cannot_replace_a_member() {
    let cluster = RoomCluster::with(&["a"]).await;
    let Backend {
        node: backend,
        room,
    } = &cluster.backends[0];
    let client = cluster.client().await;
    client.request_raw("Room.Join", "").await.unwrap();

    for (node, victim) in [(&cluster.gate, backend), (backend, &cluster.gate)] {
        let claim = hello_from(&victim.address(), u64::MAX, 0, 1);
        assert_eq!(link(node, vec![vec![claim]]).await, Err(Code::Unavailable));
    }
    assert_eq!(client.request_raw("Room.Who", "").await.unwrap(), "a");
    assert_eq!((room.closed(), room.group().count()), (Vec::new(), 1));
}

#[tokio::test]
async fn another_incarnation_gets_no_messages_of_the_first_and_may_replace_it() {
    let cluster = RoomCluster::with(&[]).await;
    let mut member = ScriptedPeer::join(&cluster.master, 7).await;
    cluster.gate.knows(2).await;
    let client = cluster.client().await;
    let asked = ask(&client);
    member.next(Kind::Message).await;

    // The master does not learn of the restart.
    member.restart_as(8);
    assert_eq!(
        code_of(within("an answer", asked).await.unwrap()),
        code::UNAVAILABLE
    );
    member.arrived();
    let hello = hello_from(member.address(), 8, 0, 1);
    let _stream = within("the next incarnation to be found", async {
        loop {
            match RawLink::try_new(&cluster.gate, hello.clone()).await {
                Ok(stream) => return stream,
                Err(status) => assert_eq!(status.code(), Code::Unavailable),
            }
        }
    })
    .await;
    assert_eq!(
        code_of(client.request_raw("Hand.Ask", "").await),
        code::UNAVAILABLE,
        "no member before the master announces it"
    );
    let frames = member.arrived();
    assert!(
        frames
            .iter()
            .all(|kind| matches!(kind, Kind::ResyncDone | Kind::Keepalive)),
        "nothing of the first: {frames:?}"
    );
}

#[tokio::test]
async fn unverified_peers_are_bounded_and_make_way_for_members() {
    let cluster = RoomCluster::with(&["a"]).await;
    let at = free_address();
    let hello = |address: String| hello_from(&address, u64::MAX, 0, 1);
    let mut unverified = vec![RawLink::new(&cluster.gate, hello(at.clone())).await];
    let refused = loop {
        let hello = hello(format!("127.0.0.1:{}", unverified.len()));
        match within("an answer", RawLink::try_new(&cluster.gate, hello)).await {
            Ok(peer) => unverified.push(peer),
            Err(status) => break status,
        }
    };
    assert_eq!(
        (refused.code(), unverified.len()),
        (Code::ResourceExhausted, 64)
    );

    // A member starts at the address that one of them claimed.
    let room = Room::new("b");
    let app = member(&cluster.master)
        .listen(at.clone())
        .component_with(room.clone(), Options::new().name("Other"));
    let _other = TestNode::start(app).await;
    cluster.gate.knows(3).await;
    let client = cluster.client().await;
    assert_eq!(again(&client, "Other.Who").await, "b");
}
