//! Limits of channels, schedulers and users, by a file that changes.

use std::{
    fmt::Debug,
    sync::{Arc, Barrier},
};

use nano::{Node, Result, Session, code};

use crate::{
    file::File,
    support::{RawClient, eventually, within},
};

fn code_of<T: Debug>(result: Result<T>) -> String {
    result.unwrap_err().code().to_string()
}

/// A client that has shaken hands, and its session.
async fn connect(node: &Node) -> (RawClient, Session) {
    let mut client = RawClient::tcp(node.addresses()[0]).await;
    client.handshake().await;
    let sessions = node.handle().sessions().list();
    let session = sessions.into_iter().max_by_key(|session| session.id());
    (client, session.unwrap())
}

#[tokio::test]
async fn a_lower_bound_on_channels_refuses_more_and_ends_none() {
    let file = File::new("[limits]\nmax_channels_per_session = 2");
    let node = file.start().await;
    let (mut client, session) = connect(&node).await;
    let (_other, of_other) = connect(&node).await;
    let channel = |name: &str| node.handle().channel(name);
    let reload = async |limits: &str| {
        file.write(&format!("[limits]\n{limits}"));
        node.handle().reload().await.unwrap();
    };
    for name in ["a", "b"] {
        channel(name).join(&session).await.unwrap();
    }
    assert_eq!(code_of(channel("c").join(&session).await), code::TOO_MANY);
    reload("max_channels_per_session = 3").await;
    channel("c").join(&session).await.unwrap();

    // Of one session.
    reload("max_channels_per_session = 1").await;
    assert_eq!(code_of(channel("d").join(&session).await), code::TOO_MANY);
    channel("d").join(&of_other).await.unwrap();
    channel("c").join(&session).await.unwrap();
    assert!(channel("c").leave(&session).await.unwrap());
    assert_eq!(code_of(channel("c").join(&session).await), code::TOO_MANY);

    // Of the owner, which has three: a, b and d.
    reload("max_channels = 1").await;
    assert_eq!(code_of(channel("e").join(&session).await), code::TOO_MANY);
    channel("b").join(&of_other).await.unwrap();
    for (name, members) in [("a", 1), ("b", 2), ("d", 1)] {
        assert_eq!(channel(name).count().await.unwrap(), members, "{name}");
    }
    channel("a").publish("on", &7).await.unwrap();
    assert_eq!(client.push("on").await, "7");
    reload("max_channels = 4").await;
    channel("e").join(&session).await.unwrap();
    within("the shutdown", node.shutdown()).await;
}

#[tokio::test]
async fn a_changed_capacity_is_that_of_schedulers_that_exist() {
    let file = File::new("[limits]\nscheduler_capacity = 2");
    let node = file.start().await;
    let room = node.handle().new_scheduler("room");
    let reload = async |tasks: usize| {
        file.write(&format!("[limits]\nscheduler_capacity = {tasks}"));
        node.handle().reload().await.unwrap();
    };
    let (reached, latch) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (begun, held) = (reached.clone(), latch.clone());
    room.push_task(move || {
        begun.wait();
        held.wait();
    })
    .unwrap();
    tokio::task::spawn_blocking(move || reached.wait())
        .await
        .unwrap();
    let push = || room.push_task(|| {}).is_ok();
    assert_eq!([push(), push(), push()], [true, true, false]);
    reload(3).await;
    assert_eq!([push(), push()], [true, false]);
    assert_eq!(node.handle().scheduler().capacity(), 3);
    assert_eq!(node.handle().new_scheduler("later").capacity(), 3);

    // What waits stays, and who waits for room goes on.
    reload(1).await;
    assert_eq!((room.len(), push()), (3, false));
    let waiting = room.clone();
    let waiting = tokio::spawn(async move { waiting.ready().await });
    latch.wait();
    within("room", waiting).await.unwrap();
    eventually("all have run", || room.is_empty()).await;
    assert!(push());
    node.shutdown().await;
}

#[tokio::test]
async fn a_file_says_what_a_login_does_while_the_user_has_another_session() {
    for (unique, replaced) in [
        ("replace", Ok(true)),
        ("reject", Err(())),
        ("off", Ok(false)),
    ] {
        let file = File::new(&format!("unique_users = \"{unique}\""));
        let node = file.start().await;
        let (mut first, of_first) = connect(&node).await;
        let (_second, of_second) = connect(&node).await;
        of_first.login(7).await.unwrap();
        let login = within("the login", of_second.login(7)).await;
        if replaced.is_err() {
            assert_eq!(code_of(login), code::CONFLICT);
        } else {
            assert_eq!(login.map(|login| login.replaced).map_err(drop), replaced);
        }
        if unique == "replace" {
            first.kicked().await;
        }
        node.shutdown().await;
    }
}
