//! Our member in the cluster of a Go master.

use tokio::time::sleep;

use crate::{
    go::{Call, Fake, Step},
    nodes::{HEARTBEAT, Living, free_address, member, serving},
    proto::{
        HeartbeatRequest, MemberInfo, NewMemberRequest, RegisterRequest, RegisterResponse, UnregisterRequest, member_client::MemberClient,
    },
    support::eventually,
};

/// s01: it registers, calls every interval, and says goodbye, with the recorded words.
#[tokio::test]
async fn a_member_joins_and_leaves() {
    let steps = Step::load("s01_member_joins_and_leaves_SIGTERM");
    let master = Fake::start().await;
    let register: RegisterRequest = steps[0].message();
    let mut reply: RegisterResponse = steps[1].message();
    reply.members[0].service_addr = master.address.clone();
    master.answer_registrations_with(reply.members);

    let node = Living::start(serving(member(&master.address).label("lbl"), &["T", "Echo"])).await;
    node.sees(&[&master.address]).await;
    assert_eq!(
        (node.handle().members()[0].label(), node.handle().members()[0].services()),
        ("master-label", ["TopicService".to_owned()].as_slice())
    );
    eventually("three heartbeats", || master.calls().len() >= 4).await;
    node.stop().await;

    let here = |info: Option<MemberInfo>| MemberInfo { service_addr: node.address().to_owned(), ..info.unwrap() };
    let calls = master.timed_calls();
    let recorded = steps.iter().filter(|step| step.kind == "in").map(|step| match step.method.as_str() {
        "Register" => Call::Register(here(register.member_info.clone())),
        "Heartbeat" => Call::Heartbeat(here(step.message::<HeartbeatRequest>().member_info)),
        _ => {
            step.message::<UnregisterRequest>();
            Call::Unregister(node.address().to_owned())
        }
    });
    let mut said: Vec<_> = calls.iter().map(|(_, call)| call.clone()).collect();
    // It called as long as it lived, which was longer or shorter than in the recording.
    said.dedup();
    let mut recorded: Vec<_> = recorded.collect();
    recorded.dedup();
    assert_eq!(said, recorded);
    for pair in calls[..calls.len() - 1].windows(2) {
        let between = pair[1].0 - pair[0].0;
        assert!(between >= HEARTBEAT.mul_f64(0.9), "a Go master is called every interval, the first time one interval after: {between:?}");
    }
}

/// s02: the master is not there yet.
#[tokio::test]
async fn a_member_waits_for_its_master() {
    let address = free_address();
    let node = tokio::spawn(Living::start(serving(member(&address), &["Echo"])));
    sleep(HEARTBEAT * 2).await;
    let master = Fake::start_at(&address).await;
    master.answer_registrations_with(vec![master.info("", &[])]);
    let node = node.await.unwrap();
    let info = MemberInfo { service_addr: node.address().to_owned(), services: vec!["Echo".to_owned()], ..MemberInfo::default() };
    eventually("a heartbeat", || master.calls().len() >= 2).await;
    assert_eq!(master.calls()[..2], [Call::Register(info.clone()), Call::Heartbeat(info)]);
}

/// A Go master never sends its table again, and so nothing is gone that it did not say is gone.
#[tokio::test]
async fn a_member_believes_what_a_go_master_announces() {
    let master = Fake::start().await;
    master.answer_registrations_with(vec![master.info("", &[])]);
    let node = Living::start(member(&master.address)).await;
    let mut told = MemberClient::new(crate::go::channel(node.address()));
    let other = MemberInfo { service_addr: "127.0.0.1:1".to_owned(), ..MemberInfo::default() };
    for _ in 0..2 {
        told.new_member(NewMemberRequest { member_info: Some(other.clone()) }).await.unwrap();
    }
    assert_eq!(node.table(), [&master.address, "127.0.0.1:1"], "once");
    let before = master.calls().len();
    eventually("two heartbeats", || master.calls().len() >= before + 2).await;
    assert_eq!(node.table(), [&master.address, "127.0.0.1:1"]);
    told.del_member(crate::proto::DelMemberRequest { service_addr: "127.0.0.1:1".to_owned(), incarnation: 0 }).await.unwrap();
    assert_eq!(node.table(), [master.address.as_str()]);
}

/// s07: a Go master that was away may not know us, and others may not either. It tells them of registrations only, so there is one.
#[tokio::test]
async fn a_member_introduces_itself_to_a_go_master_that_was_away() {
    let address = free_address();
    let first = Fake::start_at(&address).await;
    first.answer_registrations_with(vec![first.info("", &[])]);
    let node = Living::start(member(&address)).await;
    eventually("a heartbeat", || first.calls().len() >= 2).await;
    drop(first);
    sleep(HEARTBEAT * 2).await;

    let second = Fake::start_at(&address).await;
    let newcomer = MemberInfo { service_addr: "127.0.0.1:1".to_owned(), ..MemberInfo::default() };
    second.answer_registrations_with(vec![second.info("", &[]), newcomer]);
    node.sees(&[&address, "127.0.0.1:1"]).await;
    eventually("more heartbeats", || second.calls().len() >= 4).await;
    let registrations = second.calls().iter().filter(|call| matches!(call, Call::Register(_))).count();
    assert_eq!(registrations, 1, "once: Go members have twice whom they are told of twice");
    assert!(matches!(second.calls()[0], Call::Heartbeat(_)), "which first makes the master know it again");
}
