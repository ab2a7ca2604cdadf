//! Plays the client of a transcript against our server, and compares what the server does.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nano::Error;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    support::{Frame, Peer, RawClient, eventually, opcode},
    transcript::{Event, Pace, Step, Transcript},
};

/// How far from its recorded time a packet may come, on a machine that is busy.
const EARLY: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_millis(900);

/// Session ids have to fit into a number of JavaScript.
const MAX_ID: u64 = 1 << 53;

pub(crate) async fn replay(transcript: Transcript) {
    let flags: Vec<_> = transcript.flags.iter().map(String::as_str).collect();
    let peer = Peer::start(&flags).await;
    if transcript.pace == Pace::Late {
        // Neither the start nor the first handshake tells the time to all that follow.
        peer.connect().await.handshake().await;
        let started = unix_seconds();
        eventually("the next second", || unix_seconds() > started).await;
    }
    let mut replay = Replay::begin(peer.connect()).await;
    for (at, step) in transcript.steps.iter().enumerate() {
        let what = format!("{}, step {}", transcript.name, at + 1);
        replay.step(&what, step, transcript.pace).await;
    }
    if transcript.ends() {
        // The others are served as before.
        peer.connect().await.handshake().await;
    } else {
        replay.nothing_else(&transcript.name).await;
    }
    drop(replay);

    let exit = peer.stop().await;
    assert!(
        exit.status.success(),
        "{}: {}",
        transcript.name,
        exit.status
    );
    let on_purpose = if transcript.name.starts_with("handler_panic") {
        1
    } else {
        0
    };
    let panics = exit.stderr.matches("panicked at").count();
    assert_eq!(
        (panics, exit.stderr.matches("\nboom\n").count()),
        (on_purpose, on_purpose),
        "{}: {}",
        transcript.name,
        exit.stderr
    );
}

/// One client of a transcript.
pub(crate) struct Replay {
    pub(crate) client: RawClient,
    opened: Instant,
    began: u64,
    session_id: Option<u64>,
}

impl Replay {
    pub(crate) async fn begin(connect: impl Future<Output = RawClient>) -> Self {
        let (opened, began) = (Instant::now(), unix_seconds());
        Self {
            client: connect.await,
            opened,
            began,
            session_id: None,
        }
    }

    pub(crate) async fn step(&mut self, what: &str, step: &Step, pace: Pace) {
        let sends = matches!(step.event, Event::Send(_) | Event::SendBytes(_));
        if pace == Pace::Recorded && sends {
            sleep_until(self.opened + step.at).await;
        }
        match &step.event {
            Event::Send(frame) => self.client.send_frame(frame).await,
            Event::SendBytes(bytes) => {
                for byte in bytes {
                    self.client.send(&[*byte]).await;
                    // Or the system might put them together again.
                    sleep(Duration::from_millis(1)).await;
                }
            }
            Event::Receive(recorded) => {
                let received = self
                    .client
                    .frame()
                    .await
                    .unwrap_or_else(|| panic!("{what}: the connection ended"));
                let expected = self.as_of_now(what, recorded, &received.payload);
                assert_eq!(
                    (received.opcode, received.last),
                    (recorded.opcode, true),
                    "{what}"
                );
                assert!(
                    received.payload == expected,
                    "{what}:\nreceived {}\nexpected {}",
                    show(&received.payload),
                    show(&expected)
                );
            }
            Event::ReceiveError {
                request,
                code,
                message,
            } => {
                let bytes = self
                    .client
                    .bytes()
                    .await
                    .unwrap_or_else(|| panic!("{what}: the connection ended"));
                self.error_reply(what, &bytes, *request, code, message);
            }
            Event::Close => assert_eq!(self.client.close_frame().await, None, "{what}"),
        }
        if pace == Pace::Recorded && !sends {
            let at = self.opened.elapsed();
            assert!(
                at + EARLY > step.at && at < step.at + LATE,
                "{what}: at {at:?}, not at {:?}",
                step.at
            );
        }
    }

    /// A recorded packet with what has to differ: the time, the session's id, the client's address.
    /// Those are checked here.
    fn as_of_now(&mut self, what: &str, recorded: &Frame, received: &[u8]) -> Vec<u8> {
        let mut packet = recorded.payload.clone();
        if replace(&mut packet, b"\"servertime\":", received) {
            let servertime = number(received, b"\"servertime\":");
            let now = self.began..=unix_seconds();
            assert!(
                now.contains(&servertime),
                "{what}: the server's time is {servertime}, but now is {now:?}"
            );
        }
        if replace(&mut packet, b"{\"id\":", received) {
            let id = number(received, b"{\"id\":");
            assert!(id > 0 && id < MAX_ID, "{what}: the session id {id}");
            assert_eq!(
                *self.session_id.get_or_insert(id),
                id,
                "{what}: the session id changed"
            );
            let address = format!("\"{}\"", self.client.local_addr());
            replace(
                &mut packet,
                b"\"remote\":",
                format!("\"remote\":{address}}}").as_bytes(),
            );
        }
        if recorded.opcode == opcode::BINARY {
            let len = (packet.len() - 4) as u32;
            packet[1..4].copy_from_slice(&len.to_be_bytes()[1..]);
        }
        packet
    }

    fn error_reply(&self, what: &str, packet: &[u8], request: u64, code: &str, message: &str) {
        // The recorded handshakes do not say that the client knows the error bit.
        let &[4, _, _, _, 0x04, id, ref body @ ..] = packet else {
            panic!("{what}: not an error reply: {}", show(packet))
        };
        assert_eq!(u64::from(id), request, "{what}");
        let error = Error::from_body(body);
        let forms = [error.to_json(), error.to_protobuf()];
        assert!(
            forms.iter().any(|form| form == body),
            "{what}: not as an error is encoded"
        );
        assert_eq!(error.code(), code, "{what}");
        assert!(error.message().starts_with(message), "{what}: {error}");
    }

    /// The connection serves, and nothing came before the answer of one more request: what was
    /// silent stayed so.
    async fn nothing_else(&mut self, name: &str) {
        self.client
            .send(b"\x04\x00\x00\x11\x00\x7F\x09Echo.Echoafter")
            .await;
        let answer = self.client.bytes().await;
        assert!(
            answer.as_deref() == Some(b"\x04\x00\x00\x07\x04\x7Fafter"),
            "{name}: after the end came {:?}",
            answer.as_deref().map(show)
        );
    }
}

/// Puts the value that stands behind `key` in `from` in the place of the one in `packet`. Whether
/// there is that key.
fn replace(packet: &mut Vec<u8>, key: &[u8], from: &[u8]) -> bool {
    let (Some(old), Some(new)) = (value(packet, key), value(from, key)) else {
        return false;
    };
    packet.splice(old, from[new].iter().copied());
    true
}

fn number(packet: &[u8], key: &[u8]) -> u64 {
    let digits = &packet[value(packet, key).unwrap()];
    str::from_utf8(digits).unwrap().parse().unwrap()
}

/// Where the JSON value behind `key` stands, up to a comma or brace.
fn value(packet: &[u8], key: &[u8]) -> Option<std::ops::Range<usize>> {
    let start = packet.windows(key.len()).position(|window| window == key)? + key.len();
    let len = packet[start..]
        .iter()
        .position(|byte| b",}".contains(byte))?;
    Some(start..start + len)
}

fn show(bytes: &[u8]) -> String {
    let (head, more) = if bytes.len() > 300 {
        (&bytes[..300], format!("... {} bytes", bytes.len()))
    } else {
        (bytes, String::new())
    };
    format!("{}{more}", head.escape_ascii())
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}
