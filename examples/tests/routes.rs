//! `examples/custom_route.rs`.

use std::collections::HashMap;

use nano::{Node, Result, client::Client, code};
use serde_json::{Value, json};

use crate::{custom_route, program::Program, support::within};

#[tokio::test]
async fn all_devices_of_a_player_come_to_one_room_and_both_rooms_are_used() {
    let [gate, red, blue] = within("a cluster", custom_route::start("127.0.0.1:0"))
        .await
        .unwrap();
    let mut players: HashMap<String, Vec<i64>> = HashMap::new();
    for uid in 1..=6 {
        let mut found = Vec::new();
        for _ in 0..3 {
            let device = connect(&gate).await;
            let _: bool = device
                .request("Gate.Login", &json!({ "uid": uid }))
                .await
                .unwrap();
            // The second time it goes where it went before.
            for _ in 0..2 {
                let place: Value = device.request("Room.Where", &()).await.unwrap();
                assert_eq!(place["uid"], uid);
                found.push(place["room"].as_str().unwrap().to_owned());
            }
        }
        found.dedup();
        let [room] = &found[..] else {
            panic!("player {uid} is in {found:?}")
        };
        players.entry(room.clone()).or_default().push(uid);
    }
    let mut together: Vec<_> = players.into_values().collect();
    together.sort();
    assert_eq!(together, [[1, 3, 5], [2, 4, 6]]);

    let unbound: Result<Value> = connect(&gate).await.request("Room.Where", &()).await;
    assert_eq!(unbound.unwrap_err().code(), code::FORBIDDEN);
    for node in [&red, &blue, &gate] {
        within("the end of a node", node.shutdown()).await;
    }
}

#[tokio::test]
async fn the_program_shows_where_players_are() {
    let mut program = Program::start("custom_route", &["127.0.0.1:0"]);
    for uid in 1..=6 {
        let line = program.line().await;
        let rooms = line
            .strip_prefix(&format!("player {uid}: the phone is in "))
            .and_then(|rooms| rooms.split_once(", the laptop in "));
        assert!(
            rooms
                .is_some_and(|(phone, laptop)| phone == laptop && ["red", "blue"].contains(&phone)),
            "{line}"
        );
    }
    let line = program.line().await;
    assert!(
        line.starts_with("clients connect at tcp://127.0.0.1:"),
        "{line}"
    );
    assert!(program.stop().await.success());
}

async fn connect(gate: &Node) -> Client {
    Client::connect(&format!("tcp://{}", gate.addresses()[0]))
        .await
        .unwrap()
}
