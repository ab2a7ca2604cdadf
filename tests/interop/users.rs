//! What works with users where nodes of Go nano take part: `docs/players.md` says it.

use std::sync::Arc;

use nano::{
    client::{Client, DisconnectReason},
    code,
};
use parking_lot::Mutex;

use crate::{cluster::InteropCluster, node::Kind, player::Player, support::within};

/// A login works at a gate of ours, whatever the master is: on the gate and on a backend of ours. That of
/// a session at a Go gate is refused where it is asked for.
pub(crate) async fn log_in(cluster: &InteropCluster) {
    let kinds = cluster.kinds;
    let of_ours = [
        ("Room", kinds.backend),
        ("Gate", kinds.gate),
        ("Lobby", kinds.master),
    ];
    for (service, _) in of_ours.into_iter().filter(|(_, kind)| *kind == Kind::Rust) {
        let route = format!("{service}.Login");
        let user = format!("ann of {service}");
        let first = cluster.player().await;
        if kinds.gate == Kind::Go {
            assert_eq!(first.ask(&route, user).await, code::UNSUPPORTED.as_str());
            // The session goes on, and has no user.
            assert_eq!(first.ask(&format!("{service}.Echo"), "on").await, "on");
            continue;
        }
        assert_eq!(first.ask(&route, user.clone()).await, "granted");
        let second = cluster.player().await;
        assert_eq!(second.ask(&route, user.clone()).await, "replaced");
        let reason = first.is_closed().await;
        assert_eq!(
            reason,
            DisconnectReason::Kicked("logged in elsewhere".to_owned())
        );
        for node in [&cluster.master, &cluster.gate, &cluster.backend] {
            let Some(node) = node.handle() else { continue };
            let found = within("a user", node.user(&*user).locate()).await.unwrap();
            assert_eq!(found.len(), 1, "{user} is found from every node of ours");
        }
        second.leave();
    }
}

/// A session at a Go gate is found, pushed to and kicked on the node of ours that serves it, and on no
/// other.
pub(crate) async fn are_found(cluster: &InteropCluster) {
    const USER: i64 = 77;
    let (Kind::Go, Some(backend)) = (cluster.kinds.gate, cluster.backend.handle()) else {
        return;
    };
    let mut player = cluster.player().await;
    assert_eq!(player.ask("Room.Bind", USER.to_string()).await, "bound");
    let user = backend.user(USER);
    let found = within("a user", user.locate()).await.unwrap();
    let gates: Vec<_> = found.iter().map(|found| &*found.gate).collect();
    assert_eq!(gates, [cluster.gate.address()]);
    within("a push", user.push_raw("onNote", "to a user"))
        .await
        .unwrap();
    assert_eq!(player.note().await, "to a user");
    let users = backend.users([USER, USER + 1]);
    let missed = within("a push", users.push_raw("onNote", "to users")).await;
    assert_eq!(missed.unwrap(), [(USER + 1).into()]);
    assert_eq!(player.note().await, "to users");

    if let Some(master) = cluster.master.handle() {
        let elsewhere = master.user(USER);
        assert_eq!(within("no user", elsewhere.locate()).await.unwrap(), []);
        let push = within("no push", elsewhere.push_raw("onNote", "lost")).await;
        assert_eq!(push.unwrap_err().code(), code::NOT_FOUND);
        assert!(!within("no kick", elsewhere.kick("lost")).await.unwrap());
    }

    assert!(within("a kick", user.kick("banned")).await.unwrap());
    // Go nano has no kicks for its backends: the connection ends without a word.
    let reason = player.is_closed().await;
    assert!(!matches!(reason, DisconnectReason::Kicked(_)), "{reason}");
    cluster.backend.has_closed(USER).await;
    assert_eq!(within("no user left", user.locate()).await.unwrap(), []);
}

/// A client that asks to resume its session works as a plain one at a Go gate.
pub(crate) async fn ask_to_resume(cluster: &InteropCluster) {
    if cluster.kinds.gate == Kind::Rust {
        return;
    }
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = events.clone();
    let builder = Client::builder()
        .resume(true)
        .on_event(move |event| seen.lock().push(event));
    let address = cluster.gate.role.clients.as_deref().unwrap();
    let mut player = Player::connect_with(builder, Kind::Go, address).await;
    for _ in 0..3 {
        assert_eq!(player.ask("Room.Echo", "hello").await, "hello");
        player.notify("Room.Note", "one").await;
        assert_eq!(player.note().await, "steady one");
    }
    player.notify("Room.Close", "").await;
    let reason = player.is_closed().await;
    assert!(!matches!(reason, DisconnectReason::Protocol(_)), "{reason}");
    assert_eq!(*events.lock(), [], "there is no session to return to");
}
