//! Fields of a member that this version does not know reach all other members as they are.

use std::time::Duration;

use crate::{
    go::{
        Call, GoNode, MasterClient, MemberInfo, as_go_sees, channel,
        proto::{HeartbeatRequest, RegisterRequest},
    },
    nodes::{HEARTBEAT, Living, free_address, master},
    support::eventually,
};

/// Field 120, a message with one field, and field 4, a varint.
const UNKNOWN: &[u8] = b"\xc2\x07\x04\x0a\x02hi\x20\x96\x01";

fn info(address: &str, incarnation: u64) -> MemberInfo {
    MemberInfo {
        service_addr: address.to_owned(),
        services: vec!["New".to_owned()],
        incarnation,
        unknown: UNKNOWN.to_vec(),
        ..MemberInfo::default()
    }
}

#[tokio::test]
async fn fields_unknown_to_the_master_reach_all_members() {
    let master = Living::start(master().heartbeat(Duration::from_secs(30))).await;
    let observer = GoNode::join(master.address(), &["Obs"], HEARTBEAT).await;
    let mut calls = MasterClient::new(channel(master.address()));
    let silent = [info(&free_address(), 7), info(&free_address(), 0)];
    for member_info in &silent {
        calls
            .register(RegisterRequest {
                member_info: Some(member_info.clone()),
                ..Default::default()
            })
            .await
            .unwrap();
        // In an announcement.
        let announced = Call::New(as_go_sees(member_info.clone()));
        eventually("the announcement", || observer.calls().contains(&announced)).await;
        // A heartbeat with these fields in another order changes nothing.
        let mut heartbeat = member_info.clone();
        heartbeat.unknown.rotate_left(7);
        calls
            .heartbeat(HeartbeatRequest {
                member_info: Some(heartbeat),
                digest: 0,
                ..Default::default()
            })
            .await
            .unwrap();
    }
    // In the reply to a registration, and in that to a heartbeat whose digest differs.
    let late = MemberInfo {
        unknown: Vec::new(),
        ..info(&free_address(), 9)
    };
    let registered = calls
        .register(RegisterRequest {
            member_info: Some(late.clone()),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner()
        .members;
    let heard = calls
        .heartbeat(HeartbeatRequest {
            member_info: Some(late),
            digest: 1,
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner()
        .members;
    for table in [registered, heard] {
        for member_info in &silent {
            assert!(table.contains(member_info), "{table:?}");
        }
    }
    let joins = observer.calls();
    let of_silent = |call: &&Call| matches!(call, Call::New(new) if new.unknown == UNKNOWN);
    assert_eq!(joins.iter().filter(of_silent).count(), 2, "{joins:?}");
}
