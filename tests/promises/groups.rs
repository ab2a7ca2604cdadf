//! Groups: which sessions receive what, and how members leave.

use nano::{App, Component, Error, Group, Handlers, Node, Result, Session, code};

use crate::{
    harness::{Client, start},
    support::eventually,
};

struct Silent;

impl Component for Silent {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Nothing", |_: &Self, _: &Session, _: ()| {
            Ok::<_, Error>(true)
        })
    }
}

/// A node, a group, and three clients in it with the uids 1, 2 and 3.
async fn room() -> (Node, Group, Vec<(Client, Session)>) {
    let node = start(App::new().component(Silent)).await;
    let (group, mut members) = (Group::new("room"), Vec::new());
    for uid in 1..=3 {
        let client = Client::connect(&node).await;
        let session = client.session(&node).await;
        session.bind(uid).unwrap();
        group.add(&session).unwrap();
        members.push((client, session));
    }
    (node, group, members)
}

fn code(result: Result) -> String {
    result.unwrap_err().code().to_string()
}

#[tokio::test]
async fn a_broadcast_reaches_every_member_and_a_multicast_those_it_is_for() {
    let (_node, group, mut members) = room().await;
    group.broadcast("onAll", &["hello"]).unwrap();
    group
        .multicast("onOdd", "odd", |member| member.uid() % 2 == 1)
        .unwrap();
    group.broadcast("onEnd", "end").unwrap();
    for (client, session) in &mut members {
        assert_eq!(client.message().await.body, r#"["hello"]"#);
        if session.uid() % 2 == 1 {
            assert_eq!(client.message().await.route, "onOdd");
        }
        assert_eq!(client.message().await.route, "onEnd");
    }
}

#[tokio::test]
async fn members_are_found_and_leave() {
    let (_node, group, mut members) = room().await;
    let mut uids = group.members();
    uids.sort_unstable();
    assert_eq!(
        (group.count(), uids, group.contains(2), group.contains(9)),
        (3, vec![1, 2, 3], true, false)
    );
    assert_eq!(group.member(2).unwrap(), members[1].1);
    assert_eq!(group.member(9), None);
    assert_eq!(
        group.find_member(|member| member.uid() > 2).unwrap(),
        members[2].1
    );
    assert!(!group.add(&members[0].1).unwrap(), "a member already");

    assert!(group.leave(&members[0].1).unwrap());
    assert!(!group.leave(&members[0].1).unwrap(), "no member");
    assert_eq!(group.count(), 2);
    group.broadcast("on", "x").unwrap();
    members[0].1.push("on", "alone").unwrap();
    assert_eq!(members[0].0.message().await.body, r#""alone""#);
    group.leave_all().unwrap();
    assert_eq!(group.count(), 0);
    assert!(group.add(&members[0].1).unwrap());
}

#[tokio::test]
async fn a_session_that_closes_leaves_its_groups_by_itself() {
    let (node, group, mut members) = room().await;
    let other: Group = Group::new("other");
    other.add(&members[0].1).unwrap();
    other.add(&members[1].1).unwrap();
    other.leave(&members[1].1).unwrap();
    drop(members.remove(0));
    eventually("it has left", || group.count() == 2 && other.count() == 0).await;
    members.remove(0).1.kick("out");
    eventually("it has left", || group.count() == 1).await;
    assert_eq!(group.members(), [3]);
    node.shutdown().await;
    assert_eq!(group.count(), 0);
}

#[tokio::test]
async fn a_closed_group_refuses_everything() {
    let (_node, group, members) = room().await;
    group.close().unwrap();
    let session = &members[0].1;
    for result in [
        group.add(session).map(drop),
        group.leave(session).map(drop),
        group.leave_all(),
        group.broadcast("on", "x"),
        group.close(),
    ] {
        assert_eq!(code(result), code::CLOSED);
    }
    assert_eq!(code(group.multicast("on", "x", |_| true)), code::CLOSED);
    assert_eq!((group.count(), group.members()), (0, vec![]));
}

#[tokio::test]
async fn what_cannot_be_sent_is_an_error_of_the_sender_and_reaches_no_member() {
    let (_node, group, mut members) = room().await;
    let long = "r".repeat(256);
    assert_eq!(code(group.broadcast(&long, "x")), code::TOO_LARGE);
    assert_eq!(
        code(group.broadcast_raw("on", vec![0; nano::packet::MAX_BODY])),
        code::TOO_LARGE
    );
    let (client, session) = &mut members[0];
    assert_eq!(code(session.push(&long, "x")), code::TOO_LARGE);
    assert_eq!(
        code(session.push_raw("on", vec![0; nano::packet::MAX_BODY])),
        code::TOO_LARGE
    );
    session.push(&long[1..], "x").unwrap();
    assert_eq!(client.message().await.route, long[1..]);
}
