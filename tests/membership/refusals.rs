//! Malformed calls and calls of older incarnations are refused, and change nothing.

use nano::tonic::{Code, Status};

use crate::{
    go::{
        MasterClient, MemberClient, channel,
        proto::{
            DelMemberRequest, HeartbeatRequest, MemberInfo, NewMemberRequest, PushMessage,
            RegisterRequest, UnregisterRequest,
        },
    },
    nodes::{Living, master, member},
};

fn is(status: &Status, code: Code, message: &str) {
    assert_eq!((status.code(), status.message()), (code, message));
}

#[tokio::test]
async fn malformed_calls_are_refused() {
    let master = Living::start(master()).await;
    let node = Living::start(member(master.address())).await;
    let mut to_master = MasterClient::new(channel(master.address()));
    let nameless = [
        None,
        Some(MemberInfo::default()),
        Some(MemberInfo {
            service_addr: "a".repeat(1000),
            ..MemberInfo::default()
        }),
    ];
    for member_info in nameless {
        let refused = to_master
            .register(RegisterRequest {
                member_info: member_info.clone(),
            })
            .await
            .unwrap_err();
        is(&refused, Code::Unknown, "invalid register request");
        let refused = to_master
            .heartbeat(HeartbeatRequest {
                member_info: member_info.clone(),
                digest: 0,
            })
            .await
            .unwrap_err();
        is(&refused, Code::Unknown, "invalid heartbeat request");
        for address in [master.address(), node.address()] {
            let refused = MemberClient::new(channel(address))
                .new_member(NewMemberRequest {
                    member_info: member_info.clone(),
                })
                .await;
            is(
                &refused.unwrap_err(),
                Code::Unknown,
                "invalid new member request",
            );
        }
    }
    is(
        &to_master
            .unregister(UnregisterRequest::default())
            .await
            .unwrap_err(),
        Code::Unknown,
        "invalid register request",
    );
    let unknown = UnregisterRequest {
        service_addr: "127.0.0.1:1".to_owned(),
        incarnation: 0,
    };
    is(
        &to_master.unregister(unknown).await.unwrap_err(),
        Code::Unknown,
        "address 127.0.0.1:1 has not registered",
    );

    let mut to_node = MemberClient::new(channel(node.address()));
    to_node
        .del_member(DelMemberRequest::default())
        .await
        .unwrap();
    to_node
        .del_member(DelMemberRequest {
            service_addr: "127.0.0.1:1".to_owned(),
            incarnation: 7,
        })
        .await
        .unwrap();
    let own = MemberInfo {
        service_addr: node.address().to_owned(),
        ..MemberInfo::default()
    };
    to_node
        .new_member(NewMemberRequest {
            member_info: Some(own),
        })
        .await
        .unwrap();
    assert_eq!(node.table(), [master.address()], "not itself");
    is(
        &to_node
            .handle_push(PushMessage::default())
            .await
            .unwrap_err(),
        Code::Unknown,
        "session not found: 0",
    );
    // Only the master serves clusterpb.Master.
    let refused = MasterClient::new(channel(node.address()))
        .register(RegisterRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert_eq!(master.table(), [node.address()]);
}

#[tokio::test]
async fn of_two_incarnations_at_one_address_the_newer_is_a_member() {
    let master = Living::start(master()).await;
    let node = Living::start(member(master.address())).await;
    let mut older = nano_info(&node);
    older.incarnation -= 1;
    let mut to_master = MasterClient::new(channel(master.address()));
    let refused = to_master
        .register(RegisterRequest {
            member_info: Some(older.clone()),
        })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    let refused = to_master
        .heartbeat(HeartbeatRequest {
            member_info: Some(older.clone()),
            digest: 1,
        })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    // Its unregistration does not remove the newer one.
    to_master
        .unregister(UnregisterRequest {
            service_addr: older.service_addr,
            incarnation: older.incarnation,
        })
        .await
        .unwrap();
    assert_eq!(
        master.handle().members(),
        [node.handle().member().unwrap().clone()]
    );

    // A newer incarnation replaces the node.
    let newer = MemberInfo {
        incarnation: older.incarnation + 2,
        label: "newer".to_owned(),
        ..nano_info(&node)
    };
    to_master
        .register(RegisterRequest {
            member_info: Some(newer),
        })
        .await
        .unwrap();
    assert_eq!(master.handle().members()[0].label(), "newer");
}

fn nano_info(node: &Living) -> MemberInfo {
    let member = node.handle().member().unwrap();
    MemberInfo {
        service_addr: member.address().to_owned(),
        incarnation: member.incarnation(),
        ..MemberInfo::default()
    }
}
