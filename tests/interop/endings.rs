//! How sessions end, and nodes.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::{
    cannot::Defect,
    node::{HEARTBEAT, Joining, Kind, Node, Role, Victim},
    player::Player,
    traffic::seen_everywhere,
    world::World,
};

/// What some nodes do not do they would do by now.
const LONG_AGO: Duration = Duration::from_millis(500);

pub(crate) async fn sessions_close(world: &World) {
    let leaves = seen_everywhere(world, 1).await;
    leaves.leave();
    let closed = seen_everywhere(world, 2).await;
    closed.notify("Room.Close", "").await;
    closed.is_closed().await;
    for node in [&world.gate, &world.backend, &world.master] {
        node.has_closed(1).await;
        node.has_closed(2).await;
    }
    if world.pairing.gate == Kind::Rust {
        let player = world.player().await;
        assert_eq!(
            player.last_words("Room.LastWords").await.as_deref(),
            Some(&b"bye"[..])
        );
        player.is_closed().await;
    }
}

/// A backend that stops is in no table, and its sessions are served by another.
pub(crate) async fn a_backend_leaves(world: &mut World) {
    let mut second = Node::start(
        world.program,
        world.pairing.backend,
        Role::new("Room", "second"),
        Some(world.master.address()),
    )
    .await;
    let address = second.address().to_owned();
    world.knows(&[&world.late_role.address, &address]).await;
    let player = world.player().await;
    player.want("second").await;
    assert_eq!(player.ask_until_answered("Room.Who", "").await, "second");
    second.stop().await;
    world.gate.is_told_of_the_end_of(&address).await;
    world.knows(&[&world.late_role.address]).await;

    world.is_offered(&[world.backend.address()]).await;
    if world.meets(Defect::BoundForEver) {
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

/// Without a master everything goes on. With a new one everybody has everybody in its table, once.
pub(crate) async fn the_master_is_started_again(world: &mut World) {
    let player = world.player().await;
    world.master.stop().await;
    assert_eq!(player.ask("Room.Who", "").await, "steady");
    world.restart_master().await;
    world.knows(&[&world.late_role.address]).await;
    // A node of Go is told of its end before it is told that it is there, and what comes between
    // the two is lost.
    assert_eq!(player.ask_until_answered("Lobby.Who", "").await, "master");
    world.is_offered(&[world.backend.address()]).await;
}

/// A backend is killed and started again at its address, then killed for good; another one joins
/// meanwhile.
pub(crate) async fn a_backend_is_killed(world: &mut World) {
    let role = Role::new("Room", "victim");
    let (backend, victim) = (world.backend.address().to_owned(), role.address.clone());
    let process = Victim::start(
        world.program,
        world.pairing.backend,
        &role,
        world.master.address(),
    )
    .await;
    let bound = world.player().await;
    bound.want("victim").await;
    assert_eq!(bound.ask_until_answered("Room.Echo", "v").await, "v");

    process.kill().await;
    let process = Victim::start(
        world.program,
        world.pairing.backend,
        &role,
        world.master.address(),
    )
    .await;
    if world.meets(Defect::StaleRoutes) {
        world.is_offered(&[&backend, &victim, &victim]).await;
    } else {
        world.is_offered(&[&backend, &victim]).await;
    }
    let player = world.player().await;
    player.want("victim").await;
    assert_eq!(
        player.ask_until_answered("Room.Echo", "again").await,
        "again"
    );
    assert_eq!(bound.ask_until_answered("Room.Echo", "too").await, "too");

    process.kill().await;
    let failure = player.fails("Room.Echo").await;
    let silent = world.meets(Defect::NoErrorReplies);
    assert_eq!(failure.as_deref(), (!silent).then_some("NANO-503"));
    let role = Role::new("Room", "third");
    let joining = Joining::begin(
        world.program,
        world.pairing.backend,
        role,
        world.master.address().to_owned(),
    );
    if world.meets(Defect::DeadMemberBlocksJoins) {
        sleep(2 * HEARTBEAT).await;
        assert!(!joining.has_joined());
    } else {
        let before_anybody_is_removed = 3 * HEARTBEAT;
        timeout(before_anybody_is_removed, joining.settled())
            .await
            .unwrap();
    }
    let mut third = joining.joined().await;
    world.gate.is_told_of_the_end_of(&victim).await;
    let address = third.address().to_owned();
    world.knows(&[&world.late_role.address, &address]).await;
    let player = world.player().await;
    player.want("third").await;
    assert_eq!(player.ask_until_answered("Room.Who", "").await, "third");

    third.stop().await;
    world.gate.is_told_of_the_end_of(&address).await;
    if world.meets(Defect::StaleRoutes) {
        world.still_has(&[&victim, &address]).await;
    } else {
        world.is_offered(&[&backend]).await;
    }
}

/// The sessions of a gate end with it, however it ends.
pub(crate) async fn gates_end(world: &mut World, late: Player) {
    assert_eq!(late.ask("Room.Bind", "8").await, "bound");
    world.kill_late_gate().await;
    world.restart_late_gate().await;
    let outlive = world.meets(Defect::SessionsOutliveTheirGate);
    if !outlive {
        world.backend.has_closed(8).await;
    }
    let late = world.late_player().await;
    assert_eq!(late.ask_until_answered("Lobby.Who", "").await, "master");
    world.kill_late_gate().await;
    world
        .backend
        .is_told_of_the_end_of(&world.late_role.address)
        .await;
    world.knows(&[]).await;

    let player = seen_everywhere(world, 9).await;
    world.gate.stop().await;
    player.is_closed().await;
    world
        .backend
        .is_told_of_the_end_of(world.gate.address())
        .await;
    if outlive {
        sleep(LONG_AGO).await;
        assert_eq!(world.backend.closed(8), 0);
        // A gate of ours says before it leaves that its sessions have ended.
        assert_eq!(
            world.backend.closed(9),
            usize::from(world.pairing.gate == Kind::Rust)
        );
    } else {
        world.backend.has_closed(9).await;
    }
}

/// Nothing is left of all this, and everybody stops when asked to.
pub(crate) async fn everybody_stops(world: &mut World) {
    for node in [&world.gate, &world.backend, &world.master] {
        for uid in [1, 2, 8, 9] {
            assert!(
                node.closed(uid) <= 1,
                "{} was told of the end of {uid} more than once",
                node.role.label
            );
        }
        assert_eq!(node.sessions(), 0, "{}", node.role.label);
    }
    world.backend.stop().await;
    world.master.stop().await;
}
