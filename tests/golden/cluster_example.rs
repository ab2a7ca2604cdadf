//! The cluster example against what two clients of nano's saw: the same bytes in the same order, as
//! far as they come from one node. Between nodes nothing is promised, and the recorded clients saw
//! both orders. `onLeave` is our own.

use std::vec;

use nano::Node;
use serde_json::Value;

use crate::{
    chat::WEB,
    replay::Replay,
    support::{RawClient, eventually, opcode, within},
    transcript::{Event, Pace, Step, json, steps},
};

#[path = "../../examples/cluster/main.rs"]
#[allow(dead_code)]
mod example;

use example::{chat, gate, master};

#[tokio::test]
async fn example_cluster_session() {
    let nodes = start().await;
    let recorded = json("example_cluster_session");
    let connect = || RawClient::websocket(nodes[2].addresses()[0], "/nano");

    let mut a = Talker {
        replay: Replay::begin(connect()).await,
        steps: steps_of(&recorded["clientA"]),
    };
    a.log_in().await;
    a.say().await;
    a.hear(2).await;

    let mut b = Talker {
        replay: Replay::begin(connect()).await,
        steps: steps_of(&recorded["clientB"]),
    };
    b.log_in().await;
    a.hear(1).await;
    b.say().await;
    b.hear(2).await;
    a.hear(1).await;
    assert_eq!(b.steps.len(), 0);
    drop(b);

    assert_eq!(
        a.replay.client.push("onLeave").await,
        r#"{"content":"User left: b"}"#
    );
    a.say().await;
    a.hear(2).await;
    assert_eq!(a.steps.len(), 0);
    for node in nodes.iter().rev() {
        within("the end of a node", node.shutdown()).await;
    }
}

async fn start() -> [Node; 3] {
    let any = || "127.0.0.1:0".to_owned();
    let master_node = master::app(&master::Flags {
        listen: any(),
        web: any(),
        files: WEB.to_owned(),
    })
    .start()
    .await
    .unwrap();
    let master = master_node.handle().member().unwrap().address().to_owned();
    let chat = chat::app(&chat::Flags {
        listen: any(),
        master: master.clone(),
    })
    .start()
    .await
    .unwrap();
    let gate = gate::app(&gate::Flags {
        listen: any(),
        master,
        gate_address: any(),
    })
    .start()
    .await
    .unwrap();
    let nodes = [master_node, chat, gate];
    eventually("all members to know each other", || {
        nodes.iter().all(|node| node.handle().members().len() == 2)
    })
    .await;
    nodes
}

struct Talker {
    replay: Replay,
    steps: vec::IntoIter<Step>,
}

impl Talker {
    /// Shakes hands, logs in, and hears who is there.
    async fn log_in(&mut self) {
        for _ in 0..3 {
            let step = self.steps.next().unwrap();
            self.replay.step("cluster", &step, Pace::Brisk).await;
        }
        self.say().await;
        self.hear(2).await;
    }

    /// Sends what comes next.
    async fn say(&mut self) {
        let step = self.steps.next().unwrap();
        assert!(matches!(step.event, Event::Send(_)), "{step:?}");
        self.replay.step("cluster", &step, Pace::Brisk).await;
    }

    /// The next so many packets, which come from different nodes.
    async fn hear(&mut self, packets: usize) {
        let (mut recorded, mut received) = (Vec::new(), Vec::new());
        for _ in 0..packets {
            let step = self.steps.next().unwrap();
            let Event::Receive(frame) = step.event else {
                panic!("{step:?}")
            };
            recorded.push(frame.payload.escape_ascii().to_string());
            let frame = self.replay.client.frame().await.unwrap();
            assert_eq!((frame.opcode, frame.last), (opcode::BINARY, true));
            received.push(frame.payload.escape_ascii().to_string());
        }
        recorded.sort();
        received.sort();
        assert_eq!(received, recorded);
    }
}

fn steps_of(events: &Value) -> vec::IntoIter<Step> {
    steps(events.as_array().unwrap()).into_iter()
}
