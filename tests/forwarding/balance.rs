use std::collections::HashMap;

use nano::{Balance, Error, code};

use crate::{
    cluster::{RoomCluster, code_of, text},
    support::within,
};

/// How many of so many new clients each member gets.
async fn spread(cluster: &RoomCluster, clients: usize) -> HashMap<String, usize> {
    let mut spread = HashMap::new();
    for _ in 0..clients {
        let client = cluster.client().await;
        let name = client.request_raw("Room.Who", "").await.unwrap();
        *spread.entry(text(&name).to_owned()).or_default() += 1;
    }
    spread
}

#[tokio::test]
async fn round_robin_takes_turns() {
    let cluster =
        RoomCluster::configured(&["a", "b", "c"], |app| app.balance(Balance::RoundRobin)).await;
    let spread = spread(&cluster, 12).await;
    assert!(
        spread.len() == 3 && spread.values().all(|count| *count == 4),
        "{spread:?}"
    );
}

#[tokio::test]
async fn least_loaded_evens_out() {
    let cluster =
        RoomCluster::configured(&["a", "b"], |app| app.balance(Balance::LeastLoaded)).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let client = cluster.client().await;
        client.request_raw("Room.Who", "").await.unwrap();
        clients.push(client);
    }
    assert!(
        cluster
            .backends
            .iter()
            .all(|backend| backend.node.handle().sessions().count() == 5)
    );
}

#[tokio::test]
async fn a_uid_meets_the_same_member_again() {
    let cluster = RoomCluster::configured(&["a", "b", "c"], |app| app.balance(Balance::Uid)).await;
    let mut met = HashMap::new();
    for round in 0..2 {
        for uid in 1..=12 {
            let client = cluster.client().await;
            let session = cluster
                .gate
                .handle()
                .sessions()
                .list()
                .into_iter()
                .find(|session| session.uid() == 0)
                .unwrap();
            session.bind(uid).unwrap();
            let name = client.request_raw("Room.Who", "").await.unwrap();
            if round == 0 {
                met.insert(uid, name);
            } else {
                assert_eq!(met[&uid], name);
            }
            client.close();
            cluster.is_empty().await;
        }
    }
}

#[tokio::test]
async fn the_application_chooses_first() {
    let choose = |app: crate::support::MemberApp| {
        app.select_member(|session, service, members| {
            assert_eq!(service, "Room");
            match session.uid() {
                1 => Ok(members.iter().find(|member| member.label() == "b").cloned()),
                2 => Err(Error::new("NO-ROOM", "not today")),
                _ => Ok(None),
            }
        })
    };
    let cluster = RoomCluster::configured(&["a", "b"], choose).await;
    let client = cluster.client().await;
    let session = cluster.gate.handle().sessions().list().pop().unwrap();
    session.bind(2).unwrap();
    assert_eq!(code_of(client.request_raw("Room.Who", "").await), "NO-ROOM");
    session.bind(1).unwrap();
    assert_eq!(
        text(&client.request_raw("Room.Who", "").await.unwrap()),
        "b"
    );
    session.router().delete("Room").unwrap();
    session.clear();
    assert!(client.request_raw("Room.Who", "").await.is_ok());
    assert_eq!(
        code_of(client.request_raw("Other.Who", "").await),
        code::NOT_FOUND
    );
}

#[tokio::test]
async fn an_application_that_panics_over_a_choice_loses_that_message_alone() {
    let choose = |app: crate::support::MemberApp| {
        app.select_member(|session, _, _| {
            if session.uid() == 1 {
                panic!("boom")
            } else {
                Ok(None)
            }
        })
    };
    let cluster = RoomCluster::configured(&["a"], choose).await;
    let client = cluster.client().await;
    let session = cluster.gate.handle().sessions().list().pop().unwrap();
    session.bind(1).unwrap();
    assert_eq!(
        code_of(client.request_raw("Room.Who", "").await),
        code::INTERNAL
    );
    session.bind(2).unwrap();
    assert_eq!(
        text(&client.request_raw("Room.Who", "").await.unwrap()),
        "a"
    );
}

#[tokio::test]
async fn the_member_selector_is_never_called_without_members() {
    let choose = |app: crate::support::MemberApp| {
        app.select_member(|session, _, members| {
            Ok(members
                .get(session.id().unsigned_abs() as usize % members.len())
                .cloned())
        })
    };
    let mut cluster = RoomCluster::configured(&["a"], choose).await;
    // Before the master removes it, and after.
    cluster.backends[0].node.kill();
    let client = cluster.client().await;
    let error = within("the dead member to be removed", async {
        loop {
            // It may answer while it ends.
            if let Err(error) = client.request_raw("Room.Who", "").await
                && error.message().contains("is away")
            {
                break error;
            }
        }
    })
    .await;
    assert_eq!(error.code(), code::UNAVAILABLE);
}
