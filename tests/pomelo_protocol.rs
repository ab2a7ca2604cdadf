//! npm's `pomelo-protocol` and `pinus-protocol` and our codec agree: on the bytes of whatever is sent,
//! and on what bytes mean.
//!
//! They run under Node (`tests/clients/codec.mjs`). Without Node or without `npm ci` in
//! `tests/clients` there is nothing to agree with, and the test says so in one line.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use nano::{
    message::{Dictionary, Kind, Message},
    packet,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

/// Both read and write alike.
const PACKAGES: [&str; 2] = ["pomelo-protocol", "pinus-protocol"];
const MESSAGES: usize = 5_000;
const PACKETS: usize = 1_000;
/// How long the whole exchange may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// Ids from here on overflow the 32-bit shifts with which they read and measure them.
const ID_LIMIT: u64 = 1 << 31;

#[test]
fn pomelo_protocol_and_pinus_protocol_write_and_read_the_same_bytes() {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    if let Some(missing) = missing(&clients) {
        // Straight to stderr: the harness would swallow `eprintln!` of a test that passes.
        writeln!(io::stderr(), "skipped pomelo_protocol: {missing}").unwrap();
        return;
    }
    let mut rng = StdRng::seed_from_u64(20_260_226);
    let dictionary = Dictionary::new([
        ("room.join", 1),
        ("room.message", 300),
        ("onMessage", u16::MAX),
    ])
    .unwrap();
    let messages: Vec<Message> = (0..MESSAGES).map(|_| random_message(&mut rng)).collect();
    let packets: Vec<(packet::Kind, Bytes)> =
        (0..PACKETS).map(|_| random_packet(&mut rng)).collect();

    let mut questions = Vec::new();
    for message in &messages {
        questions.push(
            json!({"op": "message.encode", "kind": message.kind as u8, "id": message.id,
            "route": wire_route(message, &dictionary), "body": hex(&message.body)}),
        );
        questions.push(json!({"op": "message.decode", "hex": hex(&encoded(message, &dictionary))}));
    }
    for pair in packets.chunks(2) {
        let (kind, body) = &pair[0];
        questions.push(json!({"op": "packet.encode", "type": *kind as u8, "body": hex(body)}));
        questions.push(json!({"op": "packet.decode", "hex": hex(&stream(pair))}));
    }

    for package in PACKAGES {
        println!("{package}");
        let answers = ask(&clients, package, &questions);
        assert_eq!(answers.len(), questions.len());
        let (of_messages, of_packets) = answers.split_at(2 * MESSAGES);
        for (message, answers) in messages.iter().zip(of_messages.chunks(2)) {
            message_agrees(message, &dictionary, &answers[0], &answers[1]);
        }
        for (pair, answers) in packets.chunks(2).zip(of_packets.chunks(2)) {
            packets_agree(pair, &answers[0], &answers[1]);
        }
    }
}

fn message_agrees(message: &Message, dictionary: &Dictionary, written: &Value, read: &Value) {
    let theirs = unhex(&written["hex"]);
    // pomelo has no error replies, so it writes a plain response, and reads ours as one.
    let plain = Message {
        error: false,
        ..message.clone()
    };
    assert_eq!(
        theirs,
        encoded(&plain, dictionary),
        "they write {message:?} otherwise: {written}"
    );
    assert_eq!(
        Message::decode(theirs, dictionary).unwrap(),
        plain,
        "what they write, we read"
    );
    let expected = json!({"kind": message.kind as u8, "id": message.id, "route": wire_route(message, dictionary), "body": hex(&message.body)});
    assert_eq!(*read, expected, "what we write, they read");
}

fn packets_agree(pair: &[(packet::Kind, Bytes)], written: &Value, read: &Value) {
    let theirs = unhex(&written["hex"]);
    assert_eq!(
        theirs,
        stream(&pair[..1]),
        "they write {pair:?} otherwise: {written}"
    );
    let mut decoder = packet::Decoder::new(packet::MAX_BODY);
    decoder.feed(&theirs);
    let packet = decoder.decode().unwrap().unwrap();
    assert_eq!(
        (packet.kind, packet.body),
        pair[0],
        "what they write, we read"
    );
    let expected: Vec<Value> = pair
        .iter()
        .map(|(kind, body)| json!({"type": *kind as u8, "body": hex(body)}))
        .collect();
    assert_eq!(read["packets"], json!(expected), "what we write, they read");
}

fn random_message(rng: &mut StdRng) -> Message {
    // Small ids as often as large ones, so that every length of the varint occurs.
    let bits = rng.random_range(0..31);
    let id = rng.random_range(0..ID_LIMIT >> bits);
    let body = random_body(rng);
    match rng.random_range(0..4) {
        0 => Message::request(id, random_route(rng), body),
        1 => Message::notify(random_route(rng), body),
        2 => Message::response(id, rng.random(), body),
        _ => Message::push(random_route(rng), body),
    }
}

fn random_route(rng: &mut StdRng) -> String {
    match rng.random_range(0..6) {
        0 => "room.join".into(),
        1 => "room.message".into(),
        2 => "onMessage".into(),
        3 => (0..rng.random_range(1..60))
            .map(|_| rng.random_range('¡'..='龥'))
            .collect(),
        _ => (0..rng.random_range(0..=255))
            .map(|_| rng.random_range('!'..='~'))
            .collect(),
    }
}

fn random_packet(rng: &mut StdRng) -> (packet::Kind, Bytes) {
    const KINDS: [packet::Kind; 5] = [
        packet::Kind::Handshake,
        packet::Kind::Ack,
        packet::Kind::Heartbeat,
        packet::Kind::Data,
        packet::Kind::Kick,
    ];
    (KINDS[rng.random_range(0..KINDS.len())], random_body(rng))
}

/// Mostly short, sometimes longer than two bytes of the length field can say.
fn random_body(rng: &mut StdRng) -> Bytes {
    let len = match rng.random_range(0..200) {
        0 => rng.random_range(60_000..70_000),
        1..20 => 0,
        _ => rng.random_range(0..200),
    };
    (0..len).map(|_| rng.random::<u8>()).collect()
}

/// The route as it travels: text, or the code it has in the dictionary; responses have none.
fn wire_route(message: &Message, dictionary: &Dictionary) -> Value {
    match dictionary.code(&message.route) {
        Some(code) if message.kind != Kind::Response => json!(code),
        _ => json!(&*message.route),
    }
}

fn encoded(message: &Message, dictionary: &Dictionary) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(dictionary, &mut out).unwrap();
    out.freeze()
}

fn stream(packets: &[(packet::Kind, Bytes)]) -> Bytes {
    let mut out = BytesMut::new();
    for (kind, body) in packets {
        packet::encode(*kind, body, &mut out).unwrap();
    }
    out.freeze()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(value: &Value) -> Bytes {
    let text = value
        .as_str()
        .unwrap_or_else(|| panic!("no bytes in {value}"));
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn missing(clients: &Path) -> Option<&'static str> {
    let node = Command::new("node")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match node {
        Ok(status) if status.success() => {
            let modules = clients.join("node_modules");
            let installed = PACKAGES
                .iter()
                .all(|package| modules.join(package).is_dir());
            (!installed).then_some("a package is not installed, see `npm ci` in tests/clients")
        }
        _ => Some("there is no node here"),
    }
}

/// All answers, in the order of the questions. Fails after [`DEADLINE`].
fn ask(clients: &Path, package: &str, questions: &[Value]) -> Vec<Value> {
    let (mut codec, output) = Codec::start(clients.join("codec.mjs"), package);
    let lines: String = questions
        .iter()
        .map(|question| format!("{question}\n"))
        .collect();
    let mut input = codec.0.stdin.take().unwrap();
    // Writing and reading at once, or both sides end up waiting on a full pipe.
    let writer = thread::spawn(move || input.write_all(lines.as_bytes()));
    let (sender, answers) = mpsc::channel();
    thread::spawn(move || {
        let answers: Vec<Value> = BufReader::new(output)
            .lines()
            .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
            .collect();
        sender.send(answers).unwrap();
    });
    let answers = answers
        .recv_timeout(DEADLINE)
        .expect("the codec answers within a minute");
    writer.join().unwrap().unwrap();
    answers
}

/// The running script; killed when dropped, so that a failed test leaves nothing behind.
struct Codec(Child);

impl Codec {
    fn start(script: PathBuf, package: &str) -> (Self, ChildStdout) {
        let mut child = Command::new("node")
            .arg(script)
            .arg(package)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        (Self(child), output)
    }
}

impl Drop for Codec {
    fn drop(&mut self) {
        // It has usually ended by itself when its input did.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
