//! The chat example against what two clients of nano's chat demo saw.

use std::vec;

use serde_json::Value;

use crate::{
    replay::Replay,
    support::{RawClient, opcode},
    transcript::{Event, Pace, Step, json, steps},
};

#[path = "../../examples/chat.rs"]
#[allow(dead_code)]
mod example;

/// The files of the example's page.
pub(crate) const WEB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/web");

/// What nano's demo tells its clients ours tells them as well, in the same bytes and the same
/// order. It may say more: `onMembers` and `onNewUser` go on behind nano's fields, and `onLeave` is
/// its own.
#[tokio::test]
async fn example_chat_demo_session() {
    let node = example::app("127.0.0.1:0", WEB).start().await.unwrap();
    let recorded = json("example_chat_demo_session");
    let connect = || RawClient::websocket(node.addresses()[0], "/nano");

    let mut a = Talker {
        replay: Replay::begin(connect()).await,
        steps: steps_of(&recorded["clientA"]),
    };
    assert_eq!(a.until("room.join", 2).await, None);
    let mut b = Talker {
        replay: Replay::begin(connect()).await,
        steps: steps_of(&recorded["clientB"]),
    };
    let id_of_a = b.until("room.join", 2).await;
    let id_of_b = a.next().await;
    assert!(
        id_of_a.is_some() && id_of_b.is_some() && id_of_a != id_of_b,
        "{id_of_a:?} {id_of_b:?}"
    );

    a.until("hello", 1).await;
    b.next().await;
    assert_eq!(b.steps.len(), 0);
    drop(b);

    let left: Value = serde_json::from_slice(&a.replay.client.push("onLeave").await).unwrap();
    assert_eq!(left["id"].as_u64(), id_of_b);
    a.until("alone", 1).await;
    assert_eq!(a.steps.len(), 0);
    node.shutdown().await;
}

struct Talker {
    replay: Replay,
    steps: vec::IntoIter<Step>,
}

impl Talker {
    /// Plays on until it has sent this, and then what comes back in so many packets. The session id
    /// they told, if any.
    async fn until(&mut self, sent: &str, receive: usize) -> Option<u64> {
        loop {
            let step = self.steps.next().unwrap();
            self.play(&step).await;
            if matches!(&step.event, Event::Send(frame) if contains(&frame.payload, sent)) {
                break;
            }
        }
        let mut id = None;
        for _ in 0..receive {
            id = id.or(self.next().await);
        }
        id
    }

    async fn next(&mut self) -> Option<u64> {
        let step = self.steps.next().unwrap();
        self.play(&step).await
    }

    async fn play(&mut self, step: &Step) -> Option<u64> {
        match &step.event {
            Event::Receive(frame)
                if contains(&frame.payload, "onMembers")
                    || contains(&frame.payload, "onNewUser") =>
            {
                self.more_than(&frame.payload).await
            }
            _ => {
                self.replay.step("chat", step, Pace::Brisk).await;
                None
            }
        }
    }

    /// A push with nano's fields first. The session id in it, which differs from run to run.
    async fn more_than(&mut self, recorded: &[u8]) -> Option<u64> {
        let received = self.replay.client.frame().await.unwrap();
        assert_eq!((received.opcode, received.last), (opcode::BINARY, true));
        let (ours, nanos) = (text(&received.payload), text(recorded));
        let id = id_in(ours);
        let expected = match (id_in(nanos), id) {
            (Some(recorded), Some(id)) => nanos.replace(&recorded.to_string(), &id.to_string()),
            _ => nanos.to_owned(),
        };
        let rest = ours.strip_prefix(expected.strip_suffix('}').unwrap());
        assert!(
            rest.is_some_and(|rest| rest.starts_with(['}', ','])),
            "{ours} does not begin as {expected}"
        );
        id
    }
}

fn steps_of(events: &Value) -> vec::IntoIter<Step> {
    steps(events.as_array().unwrap()).into_iter()
}

/// Behind the header.
fn text(packet: &[u8]) -> &str {
    str::from_utf8(&packet[4..]).unwrap()
}

/// The first number of more than three digits.
fn id_in(text: &str) -> Option<u64> {
    text.split(|char: char| !char.is_ascii_digit())
        .find(|digits| digits.len() > 3)?
        .parse()
        .ok()
}

fn contains(packet: &[u8], text: &str) -> bool {
    packet
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}
