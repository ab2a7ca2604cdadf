//! Our gates, with backends that are played.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use nano::{Error, code};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use super::{
    master, member,
    members::shaken,
    recording::{Recording, Step, What},
    stage::{HEARTBEAT, Stage},
};
use crate::{
    go::{
        Call, GoNode,
        proto::{NotifyMessage, PushMessage, RequestMessage},
    },
    support::{Peer, eventually},
    transcript::Event,
};

/// A master and a gate, in the places of those that had these addresses. The gate joins when those
/// have who were there before.
async fn on_stage(
    recording: Recording,
    [master_at, gate_at]: [&str; 2],
    heartbeat: &str,
) -> (Stage, Peer, Peer) {
    let mut stage = Stage::new(recording);
    let master = master().await;
    stage.ours(master_at, &master);
    stage.play_to(65).await;
    let flags = [
        "--master",
        &master.node(),
        "--services",
        "T",
        "--client",
        "127.0.0.1:0",
        "--hb",
        heartbeat,
    ];
    let gate = Peer::start(&flags).await;
    stage.ours(gate_at, &gate);
    // The script looked whether it was there: a session that ended before its handshake.
    drop(gate.connect().await);
    stage.play_to(200).await;
    (stage, master, gate)
}

/// Requests, notifies, pushes, responses, their errors, and the ends of sessions.
#[tokio::test]
async fn s04_a_gate_and_a_backend() {
    let mut recording = Recording::load("s04_client_gate_fake_backend");
    // Defect 9: a session whose client has gone is gone.
    recording.outcome(
        2_924,
        What::Refused(Some("session not found: 2123846053089632256".to_owned())),
    );
    recording.with_client("c", 612, Some(2_524));
    recording.with_client("c2", 2_925, None);
    // A request with the id 0 is a notify (defect 25: it cannot be answered).
    recording.instead(1_822, |call| {
        let Call::Request(RequestMessage {
            gate_addr,
            session_id,
            route,
            data,
            ..
        }) = call.clone()
        else {
            panic!("not a request")
        };
        *call = Call::Notify(NotifyMessage {
            gate_addr,
            session_id,
            route,
            data,
        });
    });
    // Defect 11: a request for an unknown or refused route gets an error reply.
    for (at, request, message) in [
        (2_030, 7, "route not found: Unknown.Svc"),
        (2_300, 8, "the member refused it: "),
    ] {
        let event = Event::ReceiveError {
            request,
            code: "NANO-404",
            message,
        };
        recording.then(
            at,
            Step {
                at,
                who: "c".to_owned(),
                what: What::Client(event),
            },
        );
    }
    let (mut stage, _master, _gate) =
        on_stage(recording, ["127.0.0.1:20011", "127.0.0.1:20012"], "2s").await;
    stage.play_to(2_200).await;
    *stage.node("backend").manners().refusal.lock() = Some(Status::unknown(
        "service not found in current node: Fake.Err",
    ));
    stage.play_to(2_400).await;
    *stage.node("backend").manners().refusal.lock() = None;
    stage.play().await;
}

/// Defect 15: a session whose backend has left goes on with another.
#[tokio::test]
async fn s11_the_backend_of_a_session_leaves() {
    let mut recording = Recording::load("s11_sticky_route_to_dead_backend");
    let requests: Vec<_> = recording
        .steps
        .extract_if(.., |step| {
            matches!(step.what, What::IsCalled(Call::Request(_)))
        })
        .collect();
    let unregister = recording.place(766, |what| matches!(what, What::Calls { .. }));
    let after = recording.steps.split_off(unregister);
    assert!(matches!(
        &after[0].what,
        What::Calls {
            call: Call::Unregister(_),
            ..
        }
    ));
    let (mut stage, master, gate) =
        on_stage(recording, ["127.0.0.1:20047", "127.0.0.1:20048"], "300ms").await;
    stage.play().await;

    let mut client = shaken(&gate).await;
    let mut bound = None;
    for step in &requests[..5] {
        let What::IsCalled(Call::Request(request)) = &step.what else {
            panic!("not a request")
        };
        client
            .request(request.id, &request.route, request.data.clone())
            .await;
        // Either of the two; the binding stays.
        let who = match bound {
            None => tokio::select! {
                _ = stage.played["A1"].arrival() => "A1",
                _ = stage.played["A2"].arrival() => "A2",
            },
            Some(who) => who,
        };
        bound = Some(who);
        let got = stage.node(who).request().await;
        assert_eq!(
            (got.gate_addr, got.id, got.route, got.data),
            (
                gate.node(),
                request.id,
                request.route.clone(),
                request.data.clone()
            )
        );
    }
    let (leaves, stays) = if bound == Some("A1") {
        ("A1", "A2")
    } else {
        ("A2", "A1")
    };
    stage.played[leaves].leave(&master.node()).await;
    let address = stage.played[leaves].address.clone();
    let told = stage
        .node(stays)
        .next_of(|call| !call.is_traffic() && !matches!(call, Call::New(_)))
        .await;
    assert_eq!(told, Call::Del(address));
    // The gate hears of it together with the other backend, or a moment later.
    let stays = stage.node(stays);
    let mut next = 6..;
    let asking = async {
        for id in next.by_ref() {
            client.request(id, "Fake.Hello", "x").await;
            sleep(Duration::from_millis(10)).await;
        }
    };
    let first = tokio::select! {
        () = asking => unreachable!("ids do not end"),
        first = stays.request() => first,
    };
    let last = next.next().unwrap();
    client.request(last, "Fake.Hello", "x").await;
    for id in first.id + 1..=last {
        assert_eq!(stays.request().await.id, id, "in order");
    }
}

/// Defect 19: the end of a session waits for no node that hangs, of either kind.
#[tokio::test]
async fn s13_a_member_hangs() {
    let mut recording = Recording::load("s13_hung_member_blocks_session_close");
    recording.with_client("c", 1, None);
    let mut stage = Stage::new(recording);
    let master = master().await;
    let gate = Peer::start(&[
        "--master",
        &master.node(),
        "--services",
        "Echo",
        "--client",
        "127.0.0.1:0",
        "--hb",
        "30s",
    ])
    .await;
    stage.ours("the gate", &gate);
    let hangs = member(&master, "T").await;
    let played = GoNode::join(&master.node(), &["Fake"], HEARTBEAT).await;
    eventually("all to know each other", || played.table().len() == 3).await;
    stage.play_to(6_309).await;
    hangs.signal("STOP").await;
    played.hang();
    stage.client("c").finish().await;
    let begun = Instant::now();
    stage.play().await;
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    hangs.signal("CONT").await;
}

/// A client that does not read: pushes succeed until what waits for it is too much. Defect 10: then
/// nano keeps it for ever, and says so to each push; ours is gone, and its backends are notified.
#[tokio::test]
async fn s17_a_client_does_not_read() {
    let mut recording = Recording::load("s17_gate_slow_client_push");
    let (pushes, bytes) = (
        recording.facts["pushes_ok"].as_u64().unwrap(),
        recording.facts["bytes"].as_u64().unwrap(),
    );
    let refused = recording.steps.pop().unwrap();
    assert!(
        matches!(refused.what, What::Refused(Some(_))),
        "{refused:?}"
    );
    let (mut stage, _master, gate) =
        on_stage(recording, ["127.0.0.1:20068", "127.0.0.1:20069"], "30s").await;
    let mut client = shaken(&gate).await;
    client.request(1, "Fake.Hello", "x").await;
    let session_id = stage.node("A").request().await.session_id;

    let data = vec![b'x'; (bytes / pushes) as usize];
    let mut sent = 0;
    let status = loop {
        let push = PushMessage {
            session_id,
            route: "onX".to_owned(),
            data: data.clone().into(),
        };
        match Call::Push(push).send(&gate.node()).await {
            Ok(_) => sent += 1,
            Err(status) => break status,
        }
        assert!(sent < 1_000, "nothing is bounded");
    };
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unknown, "broken low-level pipe"),
        "nano's words for who is gone"
    );
    assert!(sent >= pushes / 2, "{sent}");
    assert_eq!(
        stage.node("A").traffic().await,
        Call::SessionClosed(session_id)
    );
}

/// One message of a session is under way at a time.
#[tokio::test]
async fn s18_a_gate_forwards_in_order() {
    let recording = Recording::load("s18_gate_forwards_serially");
    let arrivals = recording.facts["arrival_times"].as_array().unwrap().len();
    let (mut stage, _master, gate) =
        on_stage(recording, ["127.0.0.1:20072", "127.0.0.1:20073"], "300ms").await;
    let delay = Duration::from_millis(100);
    *stage.node("A").manners().delay.lock() = delay;
    let mut client = shaken(&gate).await;
    for id in 1..=arrivals {
        client
            .request(id as u64, "Fake.Hello", id.to_string())
            .await;
    }
    stage.play().await;
    let calls = stage.played["A"].timed_calls();
    let times: Vec<_> = calls
        .iter()
        .filter(|(_, call)| call.is_message())
        .map(|(at, _)| *at)
        .collect();
    assert_eq!(times.len(), arrivals);
    assert!(
        times.windows(2).all(|pair| pair[1] - pair[0] >= delay),
        "{times:?}"
    );
    assert_eq!(stage.played["A"].manners().most.load(SeqCst), 1);
}

/// Defect 11: a request to a backend that is dead is answered, and the next one is as ever.
#[tokio::test]
async fn s19_a_backend_is_dead() {
    let mut recording = Recording::load("s19_unreachable_backend");
    recording.with_client("c", 300, None);
    let answer = recording.steps.pop().unwrap();
    let What::Client(Event::Receive(frame)) = answer.what else {
        panic!("not an answer")
    };
    let (mut stage, _master, _gate) =
        on_stage(recording, ["127.0.0.1:20076", "127.0.0.1:20077"], "30s").await;
    stage.node("A").die();
    stage.play().await;

    let client = stage.client("c");
    let (mut refused, mut answered) = (None, None);
    while refused.is_none() || answered.is_none() {
        let message = client.message().await;
        let body: Value = serde_json::from_slice(&message.body).unwrap();
        match body["code"].as_str() {
            Some(code) => refused = Some((message.id, code.to_owned())),
            None => answered = Some((message.id, body)),
        }
    }
    let (id, error) = refused.unwrap();
    assert!(
        id == 1 && (error == code::UNAVAILABLE || error == code::NOT_FOUND),
        "{id} {error}"
    );
    // Where the body begins: behind the header, the flag and the id.
    let mut recorded: Value = serde_json::from_slice(&frame.payload[6..]).unwrap();
    let (id, answer) = answered.unwrap();
    recorded["id"] = answer["id"].clone();
    recorded["remote"] = client.local_addr().to_string().into();
    assert_eq!((id, answer), (2, recorded));
}

/// A gate that stops unregisters at its master. It also says what nano does not: to its clients,
/// why; to its members, that their sessions end.
#[tokio::test]
async fn s20_a_gate_stops() {
    let mut recording = Recording::load("s20_gate_SIGTERM");
    recording.with_client("c", 509, None);
    let at = recording.place(509, |what| matches!(what, What::IsCalled(_)));
    let What::IsCalled(Call::Request(request)) = &recording.steps[at].what else {
        panic!("not a request")
    };
    let session = request.session_id;
    recording
        .steps
        .retain(|step| !matches!(step.what, What::Client(Event::Close)));
    recording.also(810, "backend", Call::SessionClosed(session));
    let (mut stage, _master, gate) =
        on_stage(recording, ["127.0.0.1:21011", "127.0.0.1:21012"], "2s").await;
    stage.play_to(800).await;
    // Its client has asked for something that its backend never answers.
    gate.terminate().await;
    stage.play().await;
    assert_eq!(
        Error::from_body(&stage.client("c").response(1).await).code(),
        code::UNAVAILABLE
    );
    assert_eq!(stage.client("c").kicked().await, "server is shutting down");
    assert!(gate.exited().await.status.success());
}
