//! Who is a member: the calls between a master and the others.

use std::{net::TcpListener, time::Duration};

use nano::{Error, code};
use tokio::time::{Instant, sleep};

use super::{
    gate, master, member, ours,
    recording::{Recording, What},
    stage::{HEARTBEAT, Stage},
};
use crate::{
    go::{Call, GoNode},
    support::{Peer, RawClient, eventually, free_address, within},
};

/// It registers, calls every interval from one interval later on, and unregisters.
#[tokio::test]
async fn s01_a_member_joins_and_leaves() {
    let recording = Recording::load("s01_member_joins_and_leaves_SIGTERM");
    let exit = recording.facts["sigterm_exit_code"].clone();
    let mut stage = Stage::new(recording);
    stage.cast_master("fakeMaster", "127.0.0.1:20001", GoNode::start().await);
    let address = stage.address("127.0.0.1:20001");
    let node = ours(&[
        "--master",
        &address,
        "--label",
        "lbl",
        "--services",
        "T,Echo",
    ])
    .await;
    stage.ours("127.0.0.1:20002", &node);
    stage.play_to(3_477).await;
    node.terminate().await;
    stage.play().await;
    assert_eq!(
        node.exited().await.status.code().map(i64::from),
        exit.as_i64()
    );

    let calls = stage.played["fakeMaster"].timed_calls();
    let beats: Vec<_> = calls
        .iter()
        .filter(|(_, call)| !matches!(call, Call::Unregister(_)))
        .map(|(at, _)| *at)
        .collect();
    let early = beats
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .find(|between| *between < HEARTBEAT.mul_f64(0.8));
    assert_eq!(early, None);
}

/// It tries again until there is a master.
#[tokio::test]
async fn s02_the_master_is_not_there_yet() {
    let mut stage = Stage::new(Recording::load("s02_master_unreachable_at_start"));
    let address = free_address();
    let flags = [
        "--master",
        &address,
        "--services",
        "Echo",
        "--hb",
        "300ms",
        "--retry",
        "150ms",
    ];
    let (node, ()) = tokio::join!(Peer::start(&flags), async {
        sleep(HEARTBEAT).await;
        stage.cast_master(
            "fakeMaster",
            "127.0.0.1:20003",
            GoNode::start_at(&address).await,
        );
    });
    stage.ours("127.0.0.1:20004", &node);
    stage.play().await;
}

/// Registrations, announcements, removals and refusals.
#[tokio::test]
async fn s03_a_master_and_its_members() {
    let mut recording = Recording::load("s03_register_newmember_unregister_real_master");
    // Defect 14: who registers again has left before, or Go members would have it twice.
    recording.also(366, "B", Call::Del("127.0.0.1:20006".to_owned()));
    let mut stage = Stage::new(recording);
    let master = ours(&["--is-master", "--label", "mm", "--services", "T"]).await;
    stage.ours("127.0.0.1:20005", &master);
    stage.play_to(u64::MAX).await;
    assert_eq!(stage.played["B"].left_over(), []);
    // If its answer to the announcement was under way when it registered again, it is announced once
    // more, with what undoes that before.
    let again = stage.played["A"].left_over();
    assert!(!matches!(again.first(), Some(Call::New(_))), "{again:?}");
}

/// Who is killed is removed when it has been silent for four heartbeats, on the next look.
#[tokio::test]
async fn s06_a_member_is_killed() {
    let recording = Recording::load("s06_sigkill");
    let recorded = recording.facts["runs"][0].clone();
    let heartbeats =
        recorded["kill_to_DelMember_s"].as_f64().unwrap() / recorded["hb_s"].as_f64().unwrap();
    let mut stage = Stage::new(recording);
    let master = master().await;
    stage.ours("127.0.0.1:20024", &master);
    stage.play_to(60).await;
    let node = member(&master, "Echo").await;
    stage.ours("127.0.0.1:20026", &node);
    stage.play_to(14_000).await;
    let killed = Instant::now();
    node.signal("KILL").await;
    stage.play().await;
    let took = killed.elapsed().as_secs_f64() / HEARTBEAT.as_secs_f64();
    // One less, for the last heartbeat was at any time before; much more, for machines that are
    // busy.
    assert!(
        took > heartbeats - 2.0 && took < heartbeats + 4.0,
        "{took} heartbeats, not {heartbeats}"
    );
}

/// Defect 17: who registers with a master that has just been started learns of all that were there
/// before, and they of it.
#[tokio::test]
async fn s07_the_master_is_started_again() {
    let mut recording = Recording::load("s07_master_restart");
    // What nano answered and announced then is what was wrong; the tables show it.
    recording
        .steps
        .retain(|step| step.at < 3_364 || matches!(step.what, What::Calls { .. }));
    let mut stage = Stage::new(recording);
    let first = master().await;
    stage.ours("127.0.0.1:20027", &first);
    // Clients, to see its member table.
    let node = gate(&first, "Echo").await;
    stage.ours("127.0.0.1:20028", &node);
    stage.play_to_note("master SIGKILL").await;
    let address = first.node();
    first.signal("KILL").await;
    first.exited().await;
    stage.play_to_note("master restarted").await;
    let second = ours(&[
        "--is-master",
        "--services",
        "MasterT=T",
        "--listen",
        &address,
    ])
    .await;
    stage.play_to(u64::MAX).await;

    let mut all: Vec<_> = stage
        .played
        .values()
        .map(|node| node.address.clone())
        .chain([second.node(), node.node()])
        .collect();
    all.sort();
    for (who, played) in &stage.played {
        eventually(&format!("{who} knows all members once"), || {
            let mut known = played.table();
            known.push(played.address.clone());
            known.sort();
            known == all
        })
        .await;
    }
    reaches(&node, "New.Hello", stage.node("newB")).await;
}

/// Defect 14: who registers twice and leaves is gone.
#[tokio::test]
async fn s08_who_registered_twice_leaves() {
    let mut recording = Recording::load("s08_duplicate_register_stale_route");
    let What::IsCalled(Call::Request(lost)) = recording.without(1_317).what else {
        panic!("not a request")
    };
    let mut stage = Stage::new(recording);
    let master = master().await;
    let gate = gate(&master, "T").await;
    stage.ours("127.0.0.1:20034", &master);
    stage.ours("127.0.0.1:20035", &gate);
    stage.play().await;

    // The announcement reaches the gate after the member has its answer; knows it of one who joined later,
    // it knows of all before.
    let _later = member(&master, "Later=T").await;
    served(&gate, "Later.Empty").await;
    let before = stage.played["A"].calls().len();
    let mut client = shaken(&gate).await;
    client.request(lost.id, &lost.route, lost.data).await;
    assert_eq!(client.error(lost.id).await.code(), code::UNAVAILABLE);
    assert_eq!(stage.played["A"].calls().len(), before);
}

/// Defect 13: a dead member delays no join, and all members get one announcement.
#[tokio::test]
async fn s09_a_member_has_died() {
    let mut recording = Recording::load("s09_dead_member_blocks_register");
    let registered = recording.place(5_082, |what| matches!(what, What::Answered(_)));
    let What::Answered(mut members) = recording.steps[registered].what.clone() else {
        panic!("not an answer")
    };
    let dead = recording.steps.iter().find_map(|step| match &step.what {
        What::Calls {
            call: Call::Register(info),
            ..
        } if step.who == "A" => Some(info.clone()),
        _ => None,
    });
    // It has not been missed yet.
    members.extend(dead);
    recording.outcome(62, What::Answered(members));
    recording
        .steps
        .retain(|step| step.at <= 62 || step.at == 5_005);
    recording.also(5_005, "B", Call::Del("127.0.0.1:20039".to_owned()));
    let mut stage = Stage::new(recording);
    let master = master().await;
    stage.ours("127.0.0.1:20037", &master);
    stage.play_to_note("A died").await;
    stage.node("A").die();
    stage.play().await;
}

/// Defect 12: two that die at once are both removed; others register meanwhile, and they themselves
/// again.
#[tokio::test]
async fn s10_two_members_have_died() {
    let mut recording = Recording::load("s10_two_dead_members_deadlock");
    recording
        .steps
        .retain(|step| step.at <= 60 || step.at >= 20_000);
    let again = recording
        .steps
        .split_off(recording.place(20_092, |what| matches!(what, What::Calls { .. })));
    let What::Calls {
        to,
        call: Call::Register(info),
    } = again[0].what.clone()
    else {
        panic!("not a registration")
    };
    let mut stage = Stage::new(recording);
    let master = master().await;
    stage.ours(&to, &master);
    stage.play().await;
    let dead = ["A", "B"].map(|who| stage.played.remove(who).unwrap());
    let addresses = dead.each_ref().map(|node| node.address.clone());
    drop(dead);

    let third = GoNode::join(&master.node(), &["SvcC"], HEARTBEAT).await;
    eventually("both to be removed", || third.table() == [master.node()]).await;
    eventually("the address to be free", || {
        TcpListener::bind(&addresses[0]).is_ok()
    })
    .await;
    let first = GoNode::start_at(&addresses[0]).await;
    let services: Vec<_> = info.services.iter().map(String::as_str).collect();
    first
        .register(&master.node(), first.info("", &services))
        .await
        .unwrap();
    assert_eq!(first.table(), [master.node(), third.address.clone()]);
    eventually("the other to be told", || {
        third.table() == [master.node(), addresses[0].clone()]
    })
    .await;
}

/// Defect 16: a member that was evicted and lives is in every table again.
#[tokio::test]
async fn s22_a_member_pauses() {
    let mut stage = Stage::new(Recording::load("s22_paused_member_never_returns"));
    let master = master().await;
    let gate = gate(&master, "T").await;
    stage.ours("127.0.0.1:21019", &master);
    stage.ours("127.0.0.1:21020", &gate);
    stage
        .play_to_note("A stops heartbeating (server stays up)")
        .await;
    let a = stage.node("A");
    a.fall_silent();
    forgotten(&gate, "Fake.Hello").await;
    let before = a.calls().len();
    stage.play_to_note("gate got DelMember(A)").await;
    let a = stage.node("A");
    a.show_life(&master.node(), a.info("", &["Fake"]), HEARTBEAT);
    reaches(&gate, "Fake.Hello", a).await;
    assert!(
        a.calls()[before..]
            .iter()
            .all(|call| *call != Call::Del(a.address.clone())),
        "no member is notified of its own removal"
    );
    eventually("it knows all members once", || {
        a.table() == [master.node(), gate.node()]
    })
    .await;
}

pub(super) async fn shaken(node: &Peer) -> RawClient {
    let mut client = node.connect().await;
    client.handshake().await;
    client
}

/// Asks until the node no longer knows who has this route.
async fn forgotten(by: &Peer, route: &str) {
    let asking = async {
        loop {
            let mut client = shaken(by).await;
            client.request(1, route, "x").await;
            // Answered in any case, and later.
            client.request(2, "T.Empty", "").await;
            let answer = client.message().await;
            // What was sent to who has gone meanwhile is given up, with another text.
            if answer.error && Error::from_body(&answer.body).message().contains("is away") {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    within("the node to forget who is gone", asking).await;
}

/// Asks until there is an answer.
async fn served(by: &Peer, route: &str) {
    let asking = async {
        loop {
            let mut client = shaken(by).await;
            client.request(1, route, "").await;
            if !client.message().await.error {
                return;
            }
        }
    };
    within("the node to know who serves this", asking).await;
}

/// Asks until the node knows who has this route.
async fn reaches(by: &Peer, route: &str, node: &mut GoNode) {
    let asking = async {
        loop {
            let mut client = shaken(by).await;
            client.request(1, route, "x").await;
            client.error(1).await;
        }
    };
    tokio::select! {
        () = asking => {}
        request = node.request() => assert_eq!(request.route, route),
    }
}
