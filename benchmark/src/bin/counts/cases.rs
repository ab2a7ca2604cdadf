//! What is counted: whole messages, from a client's socket through the node and back, all on one
//! thread.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::future::try_join_all;
use nano::{
    App, Cluster, Component, Error, Group, Handlers, Node, Result, Session, Traces, Unique, User,
    code,
    filter::{self, Flow},
    message::{self, Dictionary, Message},
    packet::{self, Kind},
};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use super::{client::Client, views::Views};

const LISTEN: &str = "127.0.0.1:0";
const MEMBERS: usize = 32;
const PUSHES: u64 = 8;

/// Nodes that see each other so rarely that it does not show.
const SELDOM: Duration = Duration::from_secs(60);

/// A master numbers its first view after four heartbeats. They are a small part of what is counted.
const FIRST_VIEW_SOON: Duration = Duration::from_secs(1);

/// The names of all cases.
pub(crate) const NAMES: [&str; 11] = [
    "echo-1",
    "echo-8",
    "resumed-8",
    "traced-8",
    "measured-8",
    "json-1",
    "filtered-8",
    "broadcast-32",
    "forwarded-8",
    "pushed-8",
    "pushed-by-user-8",
];

/// What is sent in an exchange.
enum Said {
    /// By the speaker.
    Packets(Bytes),
    /// By the backend to the speaker, by its session or by its user: a push for each message.
    ToSession(Session),
    ToUser(User),
}

/// Nodes, and clients; one message is repeated.
pub(crate) struct Case {
    nodes: Vec<Node>,
    speaker: Client,
    said: Said,
    /// What comes back to the speaker, and to each of the others.
    answer: usize,
    others: Vec<Client>,
    /// How many messages one [`exchange`](Self::exchange) counts for.
    pub(crate) messages: u64,
}

impl Case {
    /// Sets up a case on the current runtime.
    pub(crate) async fn new(name: &str) -> Result<Self> {
        let json = br#"{"name":"player12","score":1234567,"tags":["a","b","c"],"alive":true}"#;
        match name {
            "echo-1" => {
                Self::requests(vec![standalone().await?], "Echo.Echo", &[b'x'; 64], 1).await
            }
            "echo-8" => {
                Self::requests(vec![standalone().await?], "Echo.Echo", &[b'x'; 64], 8).await
            }
            // What it takes more than echo-8 is what sessions cost that can be resumed.
            "resumed-8" => {
                let case =
                    Self::requests(vec![standalone().await?], "Echo.Echo", &[b'x'; 64], 8).await?;
                let speaker = Client::resumable(&case.nodes).await?;
                Ok(Self { speaker, ..case })
            }
            // What it takes more than echo-8 is what traces cost, one in a hundred messages.
            "traced-8" => Self::requests(vec![traced().await?], "Echo.Echo", &[b'x'; 64], 8).await,
            // What it takes more than echo-8 is what metrics cost that are recorded.
            "measured-8" => {
                Self::requests(vec![measured().await?], "Echo.Echo", &[b'x'; 64], 8).await
            }
            "json-1" => Self::requests(vec![standalone().await?], "Echo.Json", json, 1).await,
            // What it takes more than echo-8 is the filter.
            "filtered-8" => {
                Self::requests(vec![filtered().await?], "Echo.Echo", &[b'x'; 64], 8).await
            }
            "forwarded-8" => {
                Self::requests(cluster(SELDOM).await?, "Echo.Echo", &[b'x'; 64], 8).await
            }
            "broadcast-32" => Self::broadcast().await,
            "pushed-8" => Self::pushes(false).await,
            // What it takes more than pushed-8 is what it costs that a user is found.
            "pushed-by-user-8" => Self::pushes(true).await,
            _ => Err(Error::new(code::NOT_FOUND, format!("no such case: {name}"))),
        }
    }

    async fn requests(nodes: Vec<Node>, route: &str, body: &[u8], depth: u64) -> Result<Self> {
        let (mut said, mut answer) = (BytesMut::new(), BytesMut::new());
        for id in 1..=depth {
            encode(
                &Message::request(id, route.to_owned(), body.to_vec()),
                &mut said,
            )?;
            packet::encode_with(Kind::Data, &mut answer, |out| {
                message::encode_response(id, false, body, out);
                Ok::<_, Error>(())
            })?;
        }
        let speaker = Client::connect(&nodes).await?;
        let mut case = Self {
            nodes,
            speaker,
            said: Said::Packets(said.freeze()),
            answer: answer.len(),
            others: Vec::new(),
            messages: depth,
        };
        case.exchange().await?;
        if case.speaker.heard[..] != answer[..] {
            return Err(Error::new(
                code::INTERNAL,
                format!("not the answer: {:?}", case.speaker.heard),
            ));
        }
        Ok(case)
    }

    async fn broadcast() -> Result<Self> {
        let nodes = vec![standalone().await?];
        let (mut join, mut said, mut push) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
        encode(&Message::request(1, "Room.Join", ""), &mut join)?;
        encode(&Message::notify("Room.Say", vec![b'x'; 64]), &mut said)?;
        encode(&Message::push("onSay", vec![b'x'; 64]), &mut push)?;
        let mut members = Vec::new();
        for _ in 0..MEMBERS {
            let mut member = Client::connect(&nodes).await?;
            member.exchange(&join, packet::HEADER + 2).await?;
            members.push(member);
        }
        let speaker = members.remove(0);
        let mut case = Self {
            nodes,
            speaker,
            said: Said::Packets(said.freeze()),
            answer: push.len(),
            others: members,
            messages: MEMBERS as u64,
        };
        case.exchange().await?;
        if case
            .others
            .iter()
            .chain([&case.speaker])
            .any(|member| member.heard[..] != push[..])
        {
            return Err(Error::new(code::INTERNAL, "not what was said"));
        }
        Ok(case)
    }

    /// Pushes of a backend to the client of a gate.
    async fn pushes(by_user: bool) -> Result<Self> {
        // Users are looked for at every push before that.
        let views = Views::record();
        let nodes = cluster(FIRST_VIEW_SOON).await?;
        views.are_of(nodes.len()).await?;
        let case = Self::requests(nodes, "Echo.Echo", &[b'x'; 64], 1).await?;
        let missing = || Error::new(code::INTERNAL, "the backend serves no session");
        let backend = case.nodes.last().ok_or_else(missing)?.handle();
        let session = backend.sessions().list().pop().ok_or_else(missing)?;
        session.login(7).await?;
        let user = backend.user(7);
        let found = async {
            while user.locate().await?.is_empty() {
                sleep(Duration::from_millis(5)).await;
            }
            Ok::<_, Error>(())
        };
        timeout(Duration::from_secs(10), found)
            .await
            .map_err(|_| Error::new(code::TIMEOUT, "the user is not found"))??;
        let mut push = BytesMut::new();
        for _ in 0..PUSHES {
            encode(&Message::push("onNews", vec![b'x'; 64]), &mut push)?;
        }
        let mut case = Self {
            said: match by_user {
                true => Said::ToUser(user),
                false => Said::ToSession(session),
            },
            answer: push.len(),
            messages: PUSHES,
            ..case
        };
        case.exchange().await?;
        if case.speaker.heard[..] != push[..] {
            return Err(Error::new(code::INTERNAL, "not what was pushed"));
        }
        Ok(case)
    }

    /// Sends the message and waits for all replies.
    pub(crate) async fn exchange(&mut self) -> Result {
        let body = || Bytes::from_static(&[b'x'; 64]);
        match &self.said {
            Said::Packets(said) => self.speaker.exchange(said, self.answer).await?,
            Said::ToSession(session) => {
                for _ in 0..self.messages {
                    session.push_raw("onNews", body())?;
                }
                self.speaker.hear(self.answer).await?;
            }
            Said::ToUser(user) => {
                let pushes = (0..self.messages).map(|_| user.push_raw("onNews", body()));
                try_join_all(pushes).await?;
                self.speaker.hear(self.answer).await?;
            }
        }
        for other in &mut self.others {
            other.hear(self.answer).await?;
        }
        Ok(())
    }

    /// Stops the nodes in order.
    pub(crate) async fn finish(self) {
        drop((self.speaker, self.others));
        for node in self.nodes {
            node.shutdown().await;
        }
    }
}

fn encode(message: &Message, out: &mut BytesMut) -> Result {
    packet::encode_with(Kind::Data, out, |out| {
        message
            .encode(&Dictionary::default(), out)
            .map_err(Error::from)
    })
}

async fn standalone() -> Result<Node> {
    App::new()
        .component(Echo)
        .component(Room::default())
        .tcp(LISTEN)
        .scheduler_threads(None)
        .start()
        .await
}

/// A node that samples messages, whose spans are recorded as a log would.
async fn traced() -> Result<Node> {
    tracing_subscriber::fmt()
        .with_env_filter("nano::trace=info")
        .with_ansi(false)
        .with_writer(io::sink)
        .init();
    App::new()
        .component(Echo)
        .traces(Traces::new().ratio(0.01))
        .tcp(LISTEN)
        .scheduler_threads(None)
        .start()
        .await
}

/// A node that records metrics for its admin server.
async fn measured() -> Result<Node> {
    App::new()
        .component(Echo)
        .admin(LISTEN)
        .tcp(LISTEN)
        .scheduler_threads(None)
        .start()
        .await
}

/// A node whose handlers are behind a filter that looks at the session.
async fn filtered() -> Result<Node> {
    App::new()
        .component(Echo)
        .filter(filter::before(|call| match call.session().uid() {
            0 => Ok(Flow::Continue),
            _ => Err(Error::new(code::FORBIDDEN, "log out first")),
        }))
        .tcp(LISTEN)
        .scheduler_threads(None)
        .start()
        .await
}

/// A master with the services, and a gate, with the time between heartbeats.
async fn cluster(heartbeat: Duration) -> Result<Vec<Node>> {
    let node = |cluster: Cluster| {
        let cluster = cluster.listen(LISTEN).heartbeat(heartbeat);
        let app = App::new().unique_users(Unique::Replace);
        app.cluster(cluster).scheduler_threads(None)
    };
    let master = node(Cluster::master()).component(Echo).start().await?;
    let address = master
        .handle()
        .member()
        .map(|member| member.address().to_owned())
        .unwrap_or_default();
    let gate = node(Cluster::join([address])).tcp(LISTEN).start().await?;
    Ok(vec![gate, master])
}

struct Echo;

#[derive(Serialize, Deserialize)]
struct Player {
    name: String,
    score: u64,
    tags: Vec<String>,
    alive: bool,
}

impl Component for Echo {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.raw("Echo", Self::echo).on("Json", Self::json)
    }
}

impl Echo {
    fn echo(&self, _: &Session, body: Bytes) -> Result<Bytes> {
        Ok(body)
    }

    fn json(&self, _: &Session, player: Player) -> Result<Player> {
        Ok(player)
    }
}

#[derive(Default)]
struct Room {
    group: Group,
}

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.raw("Join", Self::join).raw("Say", Self::say)
    }
}

impl Room {
    fn join(&self, session: &Session, body: Bytes) -> Result<Bytes> {
        self.group.add(session)?;
        Ok(body)
    }

    fn say(&self, _: &Session, body: Bytes) -> Result {
        self.group.broadcast_raw("onSay", body)
    }
}
