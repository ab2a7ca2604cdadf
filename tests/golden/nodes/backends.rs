//! Our backends, with gates that are played.

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::Instant;

use super::{
    master, member,
    recording::{Recording, What},
    stage::Stage,
};
use crate::{
    go::{
        Call, client,
        proto::{NotifyMessage, PushMessage, RequestMessage, ResponseMessage},
    },
    support::{Peer, within},
};

/// A master and a backend with these services, who joins at this time, in the places of those with
/// these addresses.
async fn set(stage: &mut Stage, addresses: [&str; 2], services: &str, joins: u64) -> [Peer; 2] {
    let master = master().await;
    stage.ours(addresses[0], &master);
    stage.play_to(joins).await;
    let backend = member(&master, services).await;
    stage.ours(addresses[1], &backend);
    [master, backend]
}

fn response(session_id: i64, id: u64, data: impl Into<Vec<u8>>) -> Call {
    Call::Response(ResponseMessage {
        session_id,
        id,
        data: data.into().into(),
    })
}

/// Requests, notifies, messages to other services, and the ends of sessions.
#[tokio::test]
async fn s05_a_gate_and_a_backend() {
    const GATE: &str = "gate";
    let mut recording = Recording::load("s05_fake_gate_real_backend");
    // A notify, or a request with the id 0, has no answer: nano's backend says something
    // that its gate refuses (s04).
    for at in [718, 869, 1_931] {
        let place = recording.place(
            at,
            |what| matches!(what, What::IsCalled(Call::Response(message)) if message.id == 0),
        );
        recording.steps.remove(place);
    }
    // The id of a session is its gate's on every node, where nano has another on each; its client's
    // address is not in nano's messages.
    for (at, uid) in [(1_021, 0), (1_324, 5)] {
        recording.instead(at, |call| *call = response(777, 5, ids(777, uid)));
    }
    // Defect 11: what fails is answered. Through a gate of nano's the error is an ordinary
    // response.
    let error = |code: &str, message: &str| json!({ "code": code, "msg": message }).to_string();
    recording.instead(1_627, |call| {
        *call = response(777, 5, error("NANO-404", "route not found: Nope.Do"))
    });
    recording.also(
        2_081,
        GATE,
        response(777, 5, error("T-ERR", "handler says no")),
    );
    recording.also(
        2_232,
        GATE,
        response(777, 5, error("NANO-500", "the handler panicked")),
    );
    recording.also(
        2_383,
        GATE,
        response(
            777,
            5,
            error(
                "NANO-400",
                "invalid JSON: key must be a string at line 1 column 2",
            ),
        ),
    );
    // A message to a service of the same node arrives.
    let push = PushMessage {
        session_id: 777,
        route: "onEcho".to_owned(),
        data: "selfrpc".into(),
    };
    recording.also(1_779, GATE, Call::Push(push));
    // A closed session gets nothing more.
    recording.without(2_837);
    // What its gate has closed does not come back (promise 7).
    recording.outcome(
        3_190,
        What::Refused(Some("session not found: 777".to_owned())),
    );
    recording.without(3_191);
    let mut stage = Stage::new(recording);
    let _nodes = set(
        &mut stage,
        ["127.0.0.1:20014", "127.0.0.1:20017"],
        "Back=T,Echo",
        65,
    )
    .await;
    stage.play().await;
}

fn ids(id: i64, uid: i64) -> String {
    format!(r#"{{"id":{id},"uid":{uid},"mid":5,"remote":""}}"#)
}

/// Defect 18: the sessions of a gate that died end, and groups forget them.
#[tokio::test]
async fn s12_a_gate_dies() {
    let mut recording = Recording::load("s12_gate_dies_sessions_leak");
    let asks = recording
        .steps
        .split_off(recording.place(4_126, |what| matches!(what, What::Calls { .. })));
    let What::Calls {
        call: Call::Request(request),
        ..
    } = asks[0].what.clone()
    else {
        panic!("not a request")
    };
    // It may have been missed by then, or not yet.
    recording.steps.retain(|step| step.at != 4_126);
    let mut stage = Stage::new(recording);
    let [_master, backend] = set(
        &mut stage,
        ["127.0.0.1:20050", "127.0.0.1:20052"],
        "Back=T,Grp",
        60,
    )
    .await;
    stage.play_to_note("gate died").await;
    stage.node("gate").die();
    stage.play_to(u64::MAX).await;

    let gate = stage.node("gate2");
    let counted = async {
        for id in 1.. {
            let call = RequestMessage {
                gate_addr: gate.address.clone(),
                id,
                ..request.clone()
            };
            Call::Request(call).send(&backend.node()).await.unwrap();
            if gate.message().await == response(request.session_id, id, "0") {
                return;
            }
        }
    };
    within("the group to forget them", counted).await;
}

/// Defect 22: whatever comes at once for a new session, there is one.
#[tokio::test]
async fn s14_first_requests_come_at_once() {
    let mut recording = Recording::load("s14_find_or_create_race");
    let sessions = recording.facts["sessions"].as_u64().unwrap();
    let answers: Vec<_> = recording
        .steps
        .extract_if(.., |step| {
            matches!(step.what, What::IsCalled(Call::Response(_)))
        })
        .collect();
    let at_once =
        answers.iter().filter(|step| matches!(&step.what, What::IsCalled(Call::Response(message)) if message.session_id == 1)).count();
    // With a group, which counts them.
    recording.instead(78, |call| {
        if let Call::New(info) = call {
            info.services.push("Grp".to_owned());
        }
    });
    let mut stage = Stage::new(recording);
    let [_master, backend] = set(
        &mut stage,
        ["127.0.0.1:21006", "127.0.0.1:21009"],
        "Back=T,Grp",
        70,
    )
    .await;
    stage.play_to(400).await;
    let gate = stage.node("gate");
    let address = backend.node();
    let ask = async |session_id, id, route: &str| {
        let call = RequestMessage {
            gate_addr: gate.address.clone(),
            session_id,
            id,
            route: route.to_owned(),
            data: "x".into(),
        };
        Call::Request(call).send(&address).await.unwrap();
    };
    for session in 1..=sessions {
        join_all((1..=at_once).map(|id| ask(session as i64, id as u64, "Grp.Join"))).await;
    }
    ask(1, 100, "Grp.Count").await;
    let count = gate
        .next_of(|call| matches!(call, Call::Response(message) if message.id == 100))
        .await;
    assert_eq!(count, response(1, 100, sessions.to_string()));
}

/// Defect 20: a gate that hangs holds up no other.
#[tokio::test]
async fn s23_a_gate_hangs() {
    let recording = Recording::load("s23_one_hung_gate_blocks_backend");
    let recorded = recording.facts["latency_of_request_via_ok_gate_s"]
        .as_f64()
        .unwrap();
    let mut stage = Stage::new(recording);
    let _nodes = set(
        &mut stage,
        ["127.0.0.1:21022", "127.0.0.1:21025"],
        "Echo",
        60,
    )
    .await;
    stage.play_to(410).await;
    stage.node("hungGate").hang();
    stage.play_to(513).await;
    let begun = Instant::now();
    stage.play().await;
    assert!(
        begun.elapsed().as_secs_f64() < recorded / 4.0,
        "{:?}",
        begun.elapsed()
    );
}

/// A message is acknowledged when it is queued. Defect 28: more are than nano queues, so that no
/// gate waits.
#[tokio::test]
async fn s29_messages_are_acknowledged_when_queued() {
    let mut recording = Recording::load("s29_reply_when_queued");
    let full = recording.facts["notify_index_of_slowest"].as_u64().unwrap();
    let answer = recording.steps.pop().unwrap();
    let mut stage = Stage::new(recording);
    let [_master, backend] = set(
        &mut stage,
        ["127.0.0.1:21501", "127.0.0.1:21503"],
        "Back=T,Echo",
        80,
    )
    .await;
    stage.play_to(420).await;
    stage.play().await;
    let gate = stage.node("gate");
    let (gate_addr, route) = (gate.address.clone(), "Echo.Sink".to_owned());
    let notify = NotifyMessage {
        gate_addr,
        session_id: 1,
        route,
        data: "x".into(),
    };
    let client = client(&backend.node());
    let send = async || client.clone().handle_notify(notify.clone()).await.unwrap();
    join_all((0..full + 50).map(|_| send())).await;
    assert!(
        !gate.left_over().iter().any(Call::is_message),
        "all that while the first handler sleeps"
    );
    let What::IsCalled(answer) = answer.what else {
        panic!("not an answer")
    };
    assert_eq!(gate.message().await, answer);
}
