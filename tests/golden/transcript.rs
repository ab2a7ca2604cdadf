//! What was recorded, and how our side of it differs.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::Value;

use crate::support::{Frame, opcode};

/// One connection to the recorded server.
#[derive(Clone)]
pub(crate) struct Transcript {
    pub(crate) name: String,
    pub(crate) flags: Vec<String>,
    pub(crate) steps: Vec<Step>,
    pub(crate) pace: Pace,
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Since the connection opened.
    pub(crate) at: Duration,
    pub(crate) event: Event,
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The client sends this.
    Send(Frame),
    /// The client sends this one byte at a time.
    SendBytes(Vec<u8>),
    /// The server sends exactly this, except for what differs from run to run: times, session ids,
    /// ports.
    Receive(Frame),
    /// The server answers a request with an error reply.
    ReceiveError {
        request: u64,
        code: &'static str,
        message: &'static str,
    },
    /// The server closes the connection.
    Close,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Each step as soon as the one before is done.
    Brisk,
    /// At the recorded times, which are the subject.
    Recorded,
    /// As `Brisk`, but the server has served another client before, in another second.
    Late,
}

impl Transcript {
    pub(crate) fn load(name: &str) -> Self {
        let recorded = json(name);
        // Go's flags have one dash.
        let flags = recorded["server_args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|flag| flag.as_str().unwrap());
        let flags = flags
            .map(|flag| {
                if flag.starts_with('-') {
                    format!("-{flag}")
                } else {
                    flag.to_owned()
                }
            })
            .collect();
        let [connection] = &recorded["connections"].as_array().unwrap()[..] else {
            panic!("{name}: not one connection")
        };
        let steps = steps(connection["events"].as_array().unwrap());
        let ends = matches!(
            steps.last(),
            Some(Step {
                event: Event::Close,
                ..
            })
        );
        assert_eq!(
            connection["final"],
            if ends { "FIN" } else { "still open" },
            "{name}"
        );
        Self {
            name: name.to_owned(),
            flags,
            steps,
            pace: Pace::Brisk,
        }
    }

    /// Whether the recorded server closed the connection.
    pub(crate) fn ends(&self) -> bool {
        matches!(
            self.steps.last(),
            Some(Step {
                event: Event::Close,
                ..
            })
        )
    }

    pub(crate) fn at_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// Against a server that answers no failed request, as nano.
    pub(crate) fn silent(mut self) -> Self {
        self.name.push_str(" (silent)");
        self.flags.push("--silent".to_owned());
        self
    }

    /// Where nano was silent about this request, an error reply comes.
    pub(crate) fn error_reply(
        mut self,
        request: u64,
        code: &'static str,
        message: &'static str,
    ) -> Self {
        let is_it = |step: &Step| matches!(&step.event, Event::Send(frame) if is_request(&frame.payload, request));
        let place = self
            .steps
            .iter()
            .position(is_it)
            .unwrap_or_else(|| panic!("{}: no request {request}", self.name));
        let at = self.steps[place].at;
        self.steps.insert(
            place + 1,
            Step {
                at,
                event: Event::ReceiveError {
                    request,
                    code,
                    message,
                },
            },
        );
        self
    }

    /// The last thing the server was recorded to send does not come.
    pub(crate) fn nothing_at_the_end(mut self) -> Self {
        let last = self.steps.pop();
        assert!(
            matches!(
                last,
                Some(Step {
                    event: Event::Receive(_),
                    ..
                })
            ),
            "{}: the last step is {last:?}",
            self.name
        );
        self
    }

    /// The last thing the server was recorded to send comes before the last thing the client sends.
    pub(crate) fn answered_before_the_last_packet(mut self) -> Self {
        let [.., before, sent, received] = &mut self.steps[..] else {
            panic!("{}: too short", self.name)
        };
        assert!(
            matches!(
                (&sent.event, &received.event),
                (Event::Send(_), Event::Receive(_))
            ),
            "{}",
            self.name
        );
        received.at = before.at;
        let count = self.steps.len();
        self.steps.swap(count - 2, count - 1);
        self
    }

    /// The client goes on to send this packet.
    pub(crate) fn then_send(mut self, packet: &[u8]) -> Self {
        let at = self.steps.last().map_or(Duration::ZERO, |step| step.at);
        self.steps.push(Step {
            at,
            event: Event::Send(Frame::binary(packet)),
        });
        self
    }
}

pub(crate) fn json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(folder().join(name).with_extension("json")).unwrap()).unwrap()
}

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/transcripts")
}

/// What happened on one connection.
pub(crate) fn steps(events: &[Value]) -> Vec<Step> {
    let mut steps = Vec::new();
    // How much of the last packet is in the events that follow.
    let mut outstanding = 0;
    for event in events {
        let at = Duration::from_secs_f64(event["t"].as_f64().unwrap_or(0.0));
        let mut step = |event| steps.push(Step { at, event });
        if event["close"] == "FIN" {
            step(Event::Close);
            continue;
        }
        let bytes = recorded_bytes(event["hex"].as_str().unwrap());
        let len = event["len"]
            .as_u64()
            .map_or(bytes.len(), |len| len as usize);
        let opcode = event["ws"]["opcode"]
            .as_u64()
            .map_or(opcode::BINARY, |opcode| opcode as u8);
        match (event["dir"].as_str().unwrap(), event["note"].as_str()) {
            ("c2s", Some("byte by byte")) => step(Event::SendBytes(bytes)),
            ("c2s", _) => {
                let last = event["ws"]["fin"].as_bool().unwrap_or(true);
                step(Event::Send(Frame {
                    opcode,
                    last,
                    payload: extended(bytes, len),
                }));
            }
            ("s2c", _) if event["ws"].is_object() => step(Event::Receive(Frame {
                opcode,
                last: true,
                payload: extended(bytes, len),
            })),
            ("s2c", _) if outstanding > 0 => outstanding -= len.min(outstanding),
            ("s2c", _) => {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let packet_len =
                        4 + u32::from_be_bytes([0, rest[1], rest[2], rest[3]]) as usize;
                    let (packet, behind) = rest.split_at(packet_len.min(rest.len()));
                    step(Event::Receive(Frame::binary(extended(
                        packet.to_vec(),
                        packet_len,
                    ))));
                    rest = behind;
                    outstanding = if rest.is_empty() && packet_len > packet.len() {
                        packet_len - len
                    } else {
                        0
                    };
                }
            }
            other => panic!("{other:?}"),
        }
    }
    steps
}

/// Long packets were recorded by their beginning, which ends in `...`.
fn recorded_bytes(hex: &str) -> Vec<u8> {
    bytes(hex.trim_end_matches("..."))
}

pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The whole of a packet of which the beginning is known: it goes on with the same letter, or with
/// the alphabet.
fn extended(mut bytes: Vec<u8>, len: usize) -> Vec<u8> {
    if let &[.., before, last] = &bytes[..]
        && len > bytes.len()
    {
        let step = if before == last { 0 } else { 1 };
        let letters =
            (1..).map(|n| b'a' + ((last - b'a') as usize + n * step).rem_euclid(26) as u8);
        bytes.extend(letters.take(len - bytes.len()));
    }
    assert_eq!(bytes.len(), len);
    bytes
}

/// Whether a packet is the request with this id, below 128.
fn is_request(packet: &[u8], id: u64) -> bool {
    matches!(packet, &[4, _, _, _, flag, of, ..] if flag >> 1 == 0 && u64::from(of) == id)
}
