//! `examples/rooms.rs`.

use nano::{Result, client::Client, code};
use serde_json::{Value, json};

use crate::{program::Program, support::within};

#[path = "../rooms.rs"]
#[allow(dead_code)]
mod example;

#[tokio::test]
async fn a_busy_room_delays_no_other_room() {
    let node = example::app("127.0.0.1:0").start().await.unwrap();
    let url = format!("tcp://{}", node.addresses()[0]);
    let (ann, ben) = (player(&url, "chess").await, player(&url, "chess").await);
    let cem = player(&url, "go").await;
    let mut heard = ben.subscribe("onMove");

    let thinks = 2_000;
    let thinking = tokio::spawn(async move {
        ann.request::<Value, _>("Desk.Move", &json!({ "think": thinks }))
            .await
    });
    for moves in 1..=3 {
        assert_eq!(moved(&cem, 0).await.unwrap(), json!({ "moves": moves }));
    }
    assert!(
        !thinking.is_finished(),
        "the other room did not think, or was waited for"
    );
    // In the room itself all sessions wait.
    assert_eq!(moved(&ben, 0).await.unwrap(), json!({ "moves": 2 }));
    assert_eq!(thinking.await.unwrap().unwrap(), json!({ "moves": 1 }));
    for moves in 1..=2 {
        let heard: Value = within("a push", heard.recv_as()).await.unwrap().unwrap();
        assert_eq!(heard, json!({ "moves": moves }));
    }
    within("the end of a node", node.shutdown()).await;
}

#[tokio::test]
async fn a_room_is_entered_first_and_once_and_forgotten_when_it_is_empty() {
    let node = example::app("127.0.0.1:0").start().await.unwrap();
    let url = format!("tcp://{}", node.addresses()[0]);
    let ann = Client::connect(&url).await.unwrap();
    assert_eq!(moved(&ann, 0).await.unwrap_err().code(), code::UNAVAILABLE);
    assert_eq!(enter(&ann, "chess").await.unwrap(), 1);
    assert_eq!(enter(&ann, "go").await.unwrap_err().code(), code::CONFLICT);
    assert_eq!(moved(&ann, 0).await.unwrap(), json!({ "moves": 1 }));
    ann.close();
    crate::support::eventually("the session to be gone", || {
        node.handle().sessions().count() == 0
    })
    .await;
    within("close callbacks", async {
        // They have run when this has, on the same scheduler.
        let (tell, told) = tokio::sync::oneshot::channel();
        node.handle()
            .push_task(move || tell.send(()).unwrap())
            .unwrap();
        told.await.unwrap();
    })
    .await;

    let ben = player(&url, "chess").await;
    assert_eq!(
        moved(&ben, 0).await.unwrap(),
        json!({ "moves": 1 }),
        "a new room"
    );
    within("the end of a node", node.shutdown()).await;
}

#[tokio::test]
async fn the_program_shows_that_one_room_does_not_wait_for_another() {
    let mut program = Program::start("rooms", &["127.0.0.1:0"]);
    for begins in [
        "go: 100 moves after ",
        "chess: 1 move after ",
        "clients connect at tcp://127.0.0.1:",
    ] {
        let line = program.line().await;
        assert!(line.starts_with(begins), "{line}");
    }
    assert!(program.stop().await.success());
}

async fn player(url: &str, room: &str) -> Client {
    let player = Client::connect(url).await.unwrap();
    enter(&player, room).await.unwrap();
    player
}

async fn enter(player: &Client, room: &str) -> Result<u32> {
    player
        .request("Lobby.Enter", &json!({ "room": room }))
        .await
}

async fn moved(player: &Client, think: u32) -> Result<Value> {
    player
        .request("Desk.Move", &json!({ "think": think }))
        .await
}
