//! How sessions end, and nodes.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::{
    cannot::Defect,
    cluster::InteropCluster,
    node::{HEARTBEAT, Joining, Kind, Node, Role, Victim},
    player::Player,
    traffic::seen_everywhere,
};

/// What some nodes do not do they would do by now.
const LONG_AGO: Duration = Duration::from_millis(500);

pub(crate) async fn sessions_close(cluster: &InteropCluster) {
    let leaves = seen_everywhere(cluster, 1).await;
    leaves.leave();
    let closed = seen_everywhere(cluster, 2).await;
    closed.notify("Room.Close", "").await;
    closed.is_closed().await;
    for node in [&cluster.gate, &cluster.backend, &cluster.master] {
        node.has_closed(1).await;
        node.has_closed(2).await;
    }
    if cluster.kinds.gate == Kind::Rust {
        let player = cluster.player().await;
        assert_eq!(
            player.last_words("Room.LastWords").await.as_deref(),
            Some(&b"bye"[..])
        );
        player.is_closed().await;
    }
}

/// A backend that stops is in no table, and its sessions are served by another.
pub(crate) async fn a_backend_leaves(cluster: &mut InteropCluster) {
    let mut second = Node::start(
        cluster.program,
        cluster.kinds.backend,
        Role::new("Room", "second"),
        Some(cluster.master.address()),
    )
    .await;
    let address = second.address().to_owned();
    cluster.knows(&[&cluster.late_role.address, &address]).await;
    let player = cluster.player_of("second", &address).await;
    assert_eq!(player.ask("Room.Who", "").await, "second");
    second.stop().await;
    cluster.gate.is_notified_of_the_end_of(&address).await;
    cluster.knows(&[&cluster.late_role.address]).await;

    cluster.is_offered(&[cluster.backend.address()]).await;
    if cluster.meets(Defect::BoundForEver) {
        player.fails("Room.Who").await;
        assert_eq!(
            player.ask("Lobby.Who", "").await,
            "master",
            "the session lives"
        );
    } else {
        assert_eq!(player.ask("Room.Who", "").await, "steady");
    }
}

/// Without a master traffic continues. With a new one every table has every member once.
pub(crate) async fn the_master_is_started_again(cluster: &mut InteropCluster) {
    let player = cluster.player().await;
    cluster.master.stop().await;
    assert_eq!(player.ask("Room.Who", "").await, "steady");
    cluster.restart_master().await;
    cluster.knows(&[&cluster.late_role.address]).await;
    // A Go node gets its removal before its announcement, and what comes between
    // the two is lost.
    assert_eq!(player.ask_until_answered("Lobby.Who", "").await, "master");
    cluster.is_offered(&[cluster.backend.address()]).await;
}

/// A backend is killed and started again at its address, then killed for good; another one joins
/// meanwhile.
pub(crate) async fn a_backend_is_killed(cluster: &mut InteropCluster) {
    let role = Role::new("Room", "victim");
    let (backend, victim) = (cluster.backend.address().to_owned(), role.address.clone());
    let process = Victim::start(
        cluster.program,
        cluster.kinds.backend,
        &role,
        cluster.master.address(),
    )
    .await;
    let bound = cluster.player_of("victim", &victim).await;
    assert_eq!(bound.ask("Room.Echo", "v").await, "v");

    process.kill().await;
    let process = Victim::start(
        cluster.program,
        cluster.kinds.backend,
        &role,
        cluster.master.address(),
    )
    .await;
    if cluster.meets(Defect::StaleRoutes) {
        cluster.is_offered(&[&backend, &victim, &victim]).await;
    } else {
        cluster.is_offered(&[&backend, &victim]).await;
    }
    let player = cluster.player_of("victim", &victim).await;
    assert_eq!(
        player.ask_until_answered("Room.Echo", "again").await,
        "again"
    );
    assert_eq!(bound.ask_until_answered("Room.Echo", "too").await, "too");

    process.kill().await;
    let failure = player.fails("Room.Echo").await;
    let silent = cluster.meets(Defect::NoErrorReplies);
    assert_eq!(failure.as_deref(), (!silent).then_some("NANO-503"));
    let role = Role::new("Room", "third");
    let joining = Joining::begin(
        cluster.program,
        cluster.kinds.backend,
        role,
        cluster.master.address().to_owned(),
    );
    if cluster.meets(Defect::DeadMemberBlocksJoins) {
        sleep(2 * HEARTBEAT).await;
        assert!(!joining.has_joined());
    } else {
        let before_any_removal = 3 * HEARTBEAT;
        timeout(before_any_removal, joining.settled())
            .await
            .unwrap();
    }
    let mut third = joining.joined().await;
    cluster.gate.is_notified_of_the_end_of(&victim).await;
    let address = third.address().to_owned();
    cluster.knows(&[&cluster.late_role.address, &address]).await;
    let player = cluster.player_of("third", &address).await;
    assert_eq!(player.ask("Room.Who", "").await, "third");

    third.stop().await;
    cluster.gate.is_notified_of_the_end_of(&address).await;
    if cluster.meets(Defect::StaleRoutes) {
        cluster.still_has(&[&victim, &address]).await;
    } else {
        cluster.is_offered(&[&backend]).await;
    }
}

/// The sessions of a gate end with it, however it ends.
pub(crate) async fn gates_end(cluster: &mut InteropCluster, late: Player) {
    assert_eq!(late.ask("Room.Bind", "8").await, "bound");
    cluster.kill_late_gate().await;
    cluster.restart_late_gate().await;
    let outlive = cluster.meets(Defect::SessionsOutliveTheirGate);
    if !outlive {
        cluster.backend.has_closed(8).await;
    }
    let late = cluster.late_player().await;
    assert_eq!(late.ask_until_answered("Lobby.Who", "").await, "master");
    cluster.kill_late_gate().await;
    cluster
        .backend
        .is_notified_of_the_end_of(&cluster.late_role.address)
        .await;
    cluster.knows(&[]).await;

    let player = seen_everywhere(cluster, 9).await;
    cluster.gate.stop().await;
    player.is_closed().await;
    cluster
        .backend
        .is_notified_of_the_end_of(cluster.gate.address())
        .await;
    if outlive {
        sleep(LONG_AGO).await;
        assert_eq!(cluster.backend.closed(8), 0);
        // A gate of ours says before it leaves that its sessions have ended.
        assert_eq!(
            cluster.backend.closed(9),
            usize::from(cluster.kinds.gate == Kind::Rust)
        );
    } else {
        cluster.backend.has_closed(9).await;
    }
}

/// No session is left, and all nodes stop when asked to.
pub(crate) async fn all_nodes_stop(cluster: &mut InteropCluster) {
    for node in [&cluster.gate, &cluster.backend, &cluster.master] {
        for uid in [1, 2, 8, 9] {
            assert!(
                node.closed(uid) <= 1,
                "{} was notified of the end of {uid} more than once",
                node.role.label
            );
        }
        assert_eq!(node.sessions(), 0, "{}", node.role.label);
    }
    cluster.backend.stop().await;
    cluster.master.stop().await;
}
