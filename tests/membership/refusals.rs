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
                ..Default::default()
            })
            .await
            .unwrap_err();
        is(&refused, Code::Unknown, "invalid register request");
        let refused = to_master
            .heartbeat(HeartbeatRequest {
                member_info: member_info.clone(),
                digest: 0,
                ..Default::default()
            })
            .await
            .unwrap_err();
        is(&refused, Code::Unknown, "invalid heartbeat request");
        for address in [master.address(), node.address()] {
            let refused = MemberClient::new(channel(address))
                .new_member(NewMemberRequest {
                    member_info: member_info.clone(),
                    ..Default::default()
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
            ..Default::default()
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
            ..Default::default()
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
async fn a_member_out_of_bounds_is_refused_with_the_reason() {
    let master = Living::start(master()).await;
    let node = Living::start(member(master.address())).await;
    let valid = || MemberInfo {
        service_addr: "127.0.0.1:1".to_owned(),
        incarnation: 7,
        ..MemberInfo::default()
    };
    let at = |address: &str| MemberInfo {
        service_addr: address.to_owned(),
        ..valid()
    };
    let serving = |services: &[&str]| MemberInfo {
        services: services.iter().map(|&name| name.to_owned()).collect(),
        ..valid()
    };
    let many: Vec<_> = (0..1025).map(|number| format!("S{number}")).collect();
    let long = "s".repeat(257);
    let cases = [
        (at("nonsense"), "the address \"nonsense\" is not host:port"),
        (at("not an address"), "is not host:port"),
        (at("127.0.0.1:0"), "is not host:port"),
        (at("::1:3250"), "is not host:port"),
        (at("http://127.0.0.1:3250"), "is not host:port"),
        (serving(&[""]), "the name of a service must have 1 to 256"),
        (
            serving(&[&long]),
            "the name of a service must have 1 to 256",
        ),
        (serving(&["Room", "Room"]), "the service \"Room\" twice"),
        (
            serving(&many.iter().map(String::as_str).collect::<Vec<_>>()),
            "more than 1024 services",
        ),
        (
            MemberInfo {
                label: "l".repeat(257),
                ..valid()
            },
            "a label of more than 256 bytes",
        ),
        (
            MemberInfo {
                version: "1".repeat(65),
                ..valid()
            },
            "a version of more than 64 bytes",
        ),
        (
            MemberInfo {
                version: "1.4.2\u{1b}[2J".to_owned(),
                ..valid()
            },
            "a version with control characters",
        ),
        (
            MemberInfo {
                metadata: [("key".to_owned(), "v".repeat(64 * 1024))].into(),
                ..valid()
            },
            "more than 65536 bytes",
        ),
        (
            MemberInfo {
                unknown: [b"\xc2\x07\x80\x80\x04", &[0; 64 * 1024][..]].concat(),
                ..valid()
            },
            "more than 65536 bytes",
        ),
    ];
    let mut to_master = MasterClient::new(channel(master.address()));
    for (info, reason) in cases {
        let member_info = Some(info);
        let refused = to_master
            .register(RegisterRequest {
                member_info: member_info.clone(),
                ..Default::default()
            })
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::Unknown);
        assert!(
            refused.message().starts_with("invalid register request: ")
                && refused.message().contains(reason),
            "{refused:?}"
        );
        let request = HeartbeatRequest {
            member_info: member_info.clone(),
            digest: 0,
            ..Default::default()
        };
        assert!(to_master.heartbeat(request).await.is_err(), "{reason}");
        for address in [master.address(), node.address()] {
            let request = NewMemberRequest {
                member_info: member_info.clone(),
                ..Default::default()
            };
            let mut to_member = MemberClient::new(channel(address));
            assert!(to_member.new_member(request).await.is_err(), "{reason}");
        }
    }
    assert_eq!(master.table(), [node.address()]);
    assert_eq!(node.table(), [master.address()]);
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
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    let refused = to_master
        .heartbeat(HeartbeatRequest {
            member_info: Some(older.clone()),
            digest: 1,
            ..Default::default()
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
            ..Default::default()
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
