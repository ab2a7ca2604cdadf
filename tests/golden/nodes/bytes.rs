//! The bytes themselves, HTTP/2 and all.

use std::sync::Arc;

use parking_lot::Mutex;
use prost::Message;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{master, ours, recording::Recording, stage::HEARTBEAT};
use crate::{
    go::{
        Call, GoNode,
        proto::{HeartbeatRequest, RegisterRequest, UnregisterRequest},
    },
    support::{eventually, within},
    transcript::bytes,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;

/// A frame of HTTP/2.
#[derive(Clone, Debug, PartialEq)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    fn all(mut bytes: &[u8]) -> Vec<Self> {
        let mut frames = Vec::new();
        while let &[a, b, c, kind, flags, d, e, f, g, ref rest @ ..] = bytes {
            let (payload, behind) = rest.split_at(u32::from_be_bytes([0, a, b, c]) as usize);
            frames.push(Self {
                kind,
                flags,
                stream: u32::from_be_bytes([d, e, f, g]),
                payload: payload.to_vec(),
            });
            bytes = behind;
        }
        assert_eq!(bytes, b"");
        frames
    }

    /// The next one; `None` at the end of the connection.
    async fn read(from: &mut TcpStream) -> Option<Self> {
        let mut header = [0; 9];
        within("a frame", from.read_exact(&mut header)).await.ok()?;
        let [a, b, c, kind, flags, d, e, f, g] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        within("the rest of a frame", from.read_exact(&mut payload))
            .await
            .unwrap();
        Some(Self {
            kind,
            flags,
            stream: u32::from_be_bytes([d, e, f, g]),
            payload,
        })
    }

    fn encode(&self) -> Vec<u8> {
        let len = (self.payload.len() as u32).to_be_bytes();
        [
            &len[1..],
            &[self.kind, self.flags],
            &self.stream.to_be_bytes(),
            &self.payload,
        ]
        .concat()
    }

    fn is_message(&self) -> bool {
        self.kind == DATA && !self.payload.is_empty()
    }

    /// The one message of gRPC in it: not compressed, and whole.
    fn message(&self) -> &[u8] {
        let [0, a, b, c, d, message @ ..] = &self.payload[..] else {
            panic!("not a message: {self:?}")
        };
        assert_eq!(u32::from_be_bytes([*a, *b, *c, *d]) as usize, message.len());
        message
    }
}

/// What went over those connections that were used, as (method, to the master, back).
fn conversations(recording: &Recording) -> Vec<(Vec<u8>, Vec<Frame>)> {
    let streams = recording.facts["streams"].as_array().unwrap().iter();
    let side = |events: &Value, direction: &str| {
        let events = events
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["dir"] == direction);
        events
            .flat_map(|event| bytes(event["hex"].as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    let both = streams.map(|events| {
        (
            side(events, "member->master"),
            Frame::all(&side(events, "master->member")),
        )
    });
    both.filter(|(_, back)| back.iter().any(|frame| frame.kind == HEADERS))
        .collect()
}

/// What a Go member wrote is understood by our master, to the byte: registration, heartbeats,
/// removal.
#[tokio::test]
async fn s28_a_go_members_bytes() {
    let recording = Recording::load("s28_raw_http2_bytes");
    let conversations = conversations(&recording);
    assert_eq!(conversations.len(), 4, "two heartbeats");
    let master = master().await;
    let mut observer = GoNode::join(&master.node(), &["Obs"], HEARTBEAT).await;
    for (sent, recorded) in &conversations {
        let mut connection = TcpStream::connect(master.nodes.unwrap()).await.unwrap();
        connection.write_all(sent).await.unwrap();
        let (mut answer, mut ended) = (Vec::new(), false);
        while !ended {
            let frame = Frame::read(&mut connection).await.unwrap();
            assert_ne!(frame.kind, RST_STREAM, "{frame:?}");
            ended = frame.kind == HEADERS && frame.flags & END_STREAM != 0;
            answer.extend(frame.is_message().then(|| frame.message().to_vec()));
        }
        let recorded: Vec<_> = recorded
            .iter()
            .filter(|frame| frame.is_message())
            .map(Frame::message)
            .collect();
        assert_eq!((answer.len(), recorded.len()), (1, 1));
        // The addresses differ in all but length; the observer is one more that ours names.
        assert_eq!(answer[0].is_empty(), recorded[0].is_empty());
    }
    let frames = Frame::all(&conversations[0].0[PREFACE.len()..]);
    let message = frames
        .iter()
        .find(|frame| frame.is_message())
        .unwrap()
        .message();
    let Call::Register(info) = Call::decode("Register", message) else {
        panic!("not a registration")
    };
    let address = info.service_addr.clone();
    assert_eq!(
        observer.next_of(|call| matches!(call, Call::New(_))).await,
        Call::New(info)
    );
    assert_eq!(
        observer.next_of(|call| matches!(call, Call::Del(_))).await,
        Call::Del(address)
    );
}

/// What a Go master wrote is understood by our member, to the byte. Ours needs fewer connections
/// than Go's ten, so that streams have other numbers; what it says is the same, with fields of its
/// own behind.
#[tokio::test]
async fn s28_a_go_masters_bytes() {
    let recording = Recording::load("s28_raw_http2_bytes");
    let conversations = conversations(&recording);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let messages = Arc::<Mutex<Vec<Vec<u8>>>>::default();
    let seen = messages.clone();
    let serving = tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            serve(&mut connection, &conversations, &seen).await;
        }
    });
    let node = ours(&["--master", &address, "--services", "Echo"]).await;
    eventually("two heartbeats", || messages.lock().len() >= 3).await;
    let address = node.node();
    let exit = node.stop().await;
    assert!(exit.status.success(), "{}", exit.stderr);
    serving.abort();

    let messages = messages.lock();
    let [register, heartbeat, .., unregister] = &messages[..] else {
        panic!("{messages:?}")
    };
    let register = RegisterRequest::decode(&register[..])
        .unwrap()
        .member_info
        .unwrap();
    let heartbeat = HeartbeatRequest::decode(&heartbeat[..])
        .unwrap()
        .member_info
        .unwrap();
    assert_eq!(
        (register.service_addr.as_str(), register.services.as_slice()),
        (address.as_str(), ["Echo".to_owned()].as_slice())
    );
    assert_eq!(heartbeat, register);
    assert_eq!(
        UnregisterRequest::decode(&unregister[..])
            .unwrap()
            .service_addr,
        address
    );
}

/// Answers each request on this connection with the next recorded answer, on the request's stream.
async fn serve(
    connection: &mut TcpStream,
    conversations: &[(Vec<u8>, Vec<Frame>)],
    messages: &Mutex<Vec<Vec<u8>>>,
) {
    let mut preface = vec![0; PREFACE.len()];
    within("the preface", connection.read_exact(&mut preface))
        .await
        .unwrap();
    assert_eq!(preface, PREFACE);
    let settings = conversations[0]
        .1
        .iter()
        .find(|frame| frame.kind == SETTINGS && frame.flags & ACK == 0)
        .unwrap();
    connection.write_all(&settings.encode()).await.unwrap();
    while let Some(frame) = Frame::read(connection).await {
        if frame.kind == SETTINGS && frame.flags & ACK == 0 {
            let acknowledged = Frame {
                kind: SETTINGS,
                flags: ACK,
                stream: 0,
                payload: Vec::new(),
            };
            connection.write_all(&acknowledged.encode()).await.unwrap();
        }
        if !frame.is_message() {
            continue;
        }
        let number = {
            let mut messages = messages.lock();
            messages.push(frame.message().to_vec());
            messages.len()
        };
        // All but the first are the same; there may be more heartbeats than were recorded.
        let (_, answer) = &conversations[number.min(conversations.len()) - 1];
        for recorded in answer
            .iter()
            .filter(|frame| [HEADERS, DATA].contains(&frame.kind))
        {
            let frame = Frame {
                stream: frame.stream,
                ..recorded.clone()
            };
            connection.write_all(&frame.encode()).await.unwrap();
        }
    }
}
