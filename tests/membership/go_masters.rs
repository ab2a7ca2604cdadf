//! A member of this crate in the cluster of a Go master.

use nano::{App, Unique, client::Client};
use tokio::time::sleep;

use crate::{
    go::{
        Call, GoNode, client,
        proto::{DelMemberRequest, MemberInfo, NewMemberRequest},
    },
    log::Log,
    nodes::{HEARTBEAT, Living, free_address, master, member},
    support::{MemberApp, eventually, within},
};

/// A Go master sends its table once, with the registration: a member stays in the table until a
/// leave is announced.
#[tokio::test]
async fn announcements_of_a_go_master_change_the_table() {
    let master = GoNode::start().await;
    master.answer_registrations_with(vec![master.info("", &[])]);
    let node = Living::start(member(&master.address)).await;
    let mut told = client(node.address());
    let other = MemberInfo {
        service_addr: "127.0.0.1:1".to_owned(),
        ..MemberInfo::default()
    };
    for _ in 0..2 {
        told.new_member(NewMemberRequest {
            member_info: Some(other.clone()),
            ..Default::default()
        })
        .await
        .unwrap();
    }
    assert_eq!(node.table(), [&master.address, "127.0.0.1:1"], "once");
    let before = master.calls().len();
    eventually("two heartbeats", || master.calls().len() >= before + 2).await;
    assert_eq!(node.table(), [&master.address, "127.0.0.1:1"]);
    told.del_member(DelMemberRequest {
        service_addr: "127.0.0.1:1".to_owned(),
        incarnation: 0,
        ..Default::default()
    })
    .await
    .unwrap();
    assert_eq!(node.table(), [master.address.as_str()]);
}

/// A Go master that was away may not know the member, and other members may not either. It
/// announces registrations only, so the member registers again.
#[tokio::test]
async fn a_member_registers_again_once_when_a_go_master_returns() {
    let address = free_address();
    let first = GoNode::start_at(&address).await;
    first.answer_registrations_with(vec![first.info("", &[])]);
    let node = Living::start(member(&address)).await;
    eventually("a heartbeat", || first.calls().len() >= 2).await;
    drop(first);
    sleep(HEARTBEAT * 2).await;

    let second = GoNode::start_at(&address).await;
    let newcomer = MemberInfo {
        service_addr: "127.0.0.1:1".to_owned(),
        ..MemberInfo::default()
    };
    second.answer_registrations_with(vec![second.info("", &[]), newcomer]);
    node.sees(&[&address, "127.0.0.1:1"]).await;
    eventually("more heartbeats", || second.calls().len() >= 4).await;
    let registrations = second
        .calls()
        .iter()
        .filter(|call| matches!(call, Call::Register(_)))
        .count();
    assert_eq!(
        registrations, 1,
        "once: a Go member appends every announced join"
    );
    assert!(
        matches!(second.calls()[0], Call::Heartbeat(_)),
        "which makes the master know it again"
    );
}

/// A Go master announces every registration, and a Go member appends every join. The member that
/// registered again removes the duplicate.
#[tokio::test]
async fn a_go_member_has_a_member_once_that_registered_again() {
    let (address, other) = (free_address(), GoNode::start().await);
    let first = GoNode::start_at(&address).await;
    first.answer_registrations_with(vec![first.info("", &[]), other.info("", &["Room"])]);
    let node = Living::start(member(&address)).await;
    let announce = async || {
        let info = MemberInfo {
            service_addr: node.address().to_owned(),
            ..MemberInfo::default()
        };
        client(&other.address)
            .new_member(NewMemberRequest {
                member_info: Some(info),
                ..Default::default()
            })
            .await
            .unwrap();
    };
    announce().await;
    eventually("a heartbeat", || first.calls().len() >= 2).await;
    drop(first);
    sleep(HEARTBEAT * 2).await;

    // As the new master does before it answers.
    announce().await;
    assert_eq!(other.table(), [node.address(), node.address()]);
    let second = GoNode::start_at(&address).await;
    second.answer_registrations_with(vec![second.info("", &[])]);
    eventually("the re-announcement", || other.calls().len() == 5).await;
    assert_eq!(other.table(), [node.address()]);
    assert!(
        !second
            .calls()
            .iter()
            .any(|call| matches!(call, Call::New(_) | Call::Del(_))),
        "the master is not sent announcements"
    );
}

/// A login under a Go master is granted, although nothing keeps two owners apart while members join
/// and leave. The log says so, once.
#[tokio::test]
async fn a_login_under_a_go_master_is_granted_and_the_log_says_that_it_may_not_be_unique() {
    let log = Log::captured();
    let warnings = || log.count(&["WARN", "logins may not be unique"]);
    let gate = |app: MemberApp| {
        let unique = |app: App| app.unique_users(Unique::Replace);
        app.app(unique).tcp("127.0.0.1:0")
    };
    let log_in = async |node: &Living, user: &str| {
        let known = node.handle().sessions().count();
        let url = format!("tcp://{}", node.node.addresses()[0]);
        let client = within("a connection", Client::connect(&url)).await.unwrap();
        let sessions = || node.handle().sessions().list();
        eventually("a session", || sessions().len() > known).await;
        let newest = sessions()
            .into_iter()
            .find(|it| it.user().is_none())
            .unwrap();
        let login = within("a login", newest.login(user)).await.unwrap();
        assert!(!login.replaced && !login.late, "{login:?}");
        client
    };

    let own = Living::start(gate(master())).await;
    let _ann = log_in(&own, "ann").await;
    assert_eq!(warnings(), 0, "its own views have numbers");

    let go = GoNode::start().await;
    go.answer_registrations_with(vec![go.info("", &[])]);
    let node = Living::start(gate(member(&go.address))).await;
    node.sees(&[&go.address]).await;
    let _ben = log_in(&node, "ben").await;
    let _cem = log_in(&node, "cem").await;
    assert_eq!(warnings(), 1);
}
