//! `examples/cards`.

use nano::{
    Node, Result,
    client::{Client, Subscription},
    code,
};
use serde_json::{Value, json};

use crate::{program::Program, support::within};

#[path = "../cards/main.rs"]
#[allow(dead_code)]
mod example;

/// A player at a table, who sees what is pushed.
struct Player {
    client: Client,
    pushes: Subscription,
}

impl Player {
    /// Logs in, and takes a seat.
    async fn sit(nodes: &[Node; 4], account: &str) -> Self {
        let player = Self::login(nodes, account).await.unwrap();
        player.take_seat().await;
        player
    }

    async fn login(nodes: &[Node; 4], account: &str) -> Result<Self> {
        let mut builder = Client::builder();
        let pushes = builder.subscribe("onTable");
        let url = format!("ws://{}/nano", nodes[0].addresses()[0]);
        let client = within("a connection", builder.connect(&url)).await?;
        let _: Value = client
            .request("Lobby.Login", &json!({ "account": account }))
            .await?;
        Ok(Self { client, pushes })
    }

    async fn take_seat(&self) {
        for route in ["Lobby.Play", "Table.Sit"] {
            let _: bool = self.client.request(route, &()).await.unwrap();
        }
    }

    /// What the player sees next.
    async fn sees(&mut self) -> Value {
        let push: Result<Value> = within("a table", self.pushes.recv_as()).await.unwrap();
        push.unwrap()
    }

    async fn plays(&self, card: &Value) -> Result<bool> {
        self.client
            .request("Table.Play", &json!({ "card": card }))
            .await
    }
}

async fn start(turn: u64) -> [Node; 4] {
    let flags = example::Flags {
        listen: "127.0.0.1:0".to_owned(),
        turn,
        admin: Some("secret".to_owned()),
    };
    within("a cluster", example::start(flags)).await.unwrap()
}

#[tokio::test]
async fn two_players_play_to_the_end_and_then_on_the_other_node() {
    let nodes = start(60_000).await;
    let mut ann = Player::sit(&nodes, "Ann").await;
    assert_eq!(ann.sees().await["other"], Value::Null);
    let mut ben = Player::sit(&nodes, "Ben").await;
    let (mut seen, mut other) = (ann.sees().await, ben.sees().await);
    assert_eq!(seen["other"]["name"], "Ben");
    let first = seen["node"].clone();

    while seen["won"] == Value::Null {
        assert_ne!(seen["yourTurn"], other["yourTurn"]);
        let (player, view, idle) = match seen["yourTurn"] == true {
            true => (&ann, &seen, &ben),
            false => (&ben, &other, &ann),
        };
        let card = &view["hand"][0];
        assert_eq!(idle.plays(card).await.unwrap_err().code(), code::CONFLICT);
        assert!(player.plays(card).await.unwrap());
        (seen, other) = (ann.sees().await, ben.sees().await);
    }
    assert_eq!(seen["won"], json!(other["won"] == false));
    assert_eq!(
        ann.plays(&json!(1)).await.unwrap_err().code(),
        code::NOT_FOUND
    );

    ann.take_seat().await;
    assert_ne!(ann.sees().await["node"], first);
    shut_down(&nodes).await;
}

#[tokio::test]
async fn a_turn_that_takes_too_long_is_played_so_that_a_game_without_players_ends() {
    let nodes = start(20).await;
    let mut ann = Player::sit(&nodes, "Ann").await;
    ann.sees().await;
    Player::sit(&nodes, "Ben").await.client.close();
    let mut seen = ann.sees().await;
    while seen["won"] == Value::Null {
        seen = ann.sees().await;
    }
    shut_down(&nodes).await;
}

#[tokio::test]
async fn a_second_login_of_an_account_ends_the_first_and_has_its_cards() {
    let nodes = start(60_000).await;
    let mut ann = Player::sit(&nodes, "Ann").await;
    ann.sees().await;
    let _ben = Player::sit(&nodes, "Ben").await;
    let hand = ann.sees().await["hand"].clone();

    let mut again = Player::sit(&nodes, "Ann").await;
    within("the end of the first", ann.client.closed()).await;
    assert_eq!(ann.client.kick().unwrap().code, "LOGIN-REPLACED");
    assert_eq!(again.sees().await["hand"], hand);
    shut_down(&nodes).await;
}

#[tokio::test]
async fn a_seat_without_an_opponent_is_given_up_with_its_player() {
    let nodes = start(60_000).await;
    let ann = Player::sit(&nodes, "Ann").await;
    ann.client.close();
    crate::support::eventually("the session to be gone", || {
        nodes
            .iter()
            .all(|node| node.handle().sessions().count() == 0)
    })
    .await;
    let mut ben = Player::sit(&nodes, "Ben").await;
    assert_eq!(ben.sees().await["other"], Value::Null);
    shut_down(&nodes).await;
}

#[tokio::test]
async fn news_reach_all_players_and_need_a_password() {
    let nodes = start(60_000).await;
    let ann = Player::login(&nodes, "Ann").await.unwrap();
    let mut news = ann.client.subscribe("onNews");
    let announce = |password| json!({ "password": password, "text": "a break at eight" });
    let refused: Result<bool> = ann
        .client
        .request("Lobby.Announce", &announce("guess"))
        .await;
    assert_eq!(refused.unwrap_err().code(), code::FORBIDDEN);
    let all: bool = ann
        .client
        .request("Lobby.Announce", &announce("secret"))
        .await
        .unwrap();
    assert!(all);
    let push: Result<Value> = within("news", news.recv_as()).await.unwrap();
    assert_eq!(push.unwrap(), json!({ "text": "a break at eight" }));

    // What a player must not call, and what needs a login.
    let over: Result<Value> = ann
        .client
        .request("Lobby.Over", &json!({ "table": 1 }))
        .await;
    assert_eq!(over.unwrap_err().code(), code::NOT_FOUND);
    let twice: Result<Value> = ann
        .client
        .request("Lobby.Login", &json!({ "account": "Ben" }))
        .await;
    assert_eq!(twice.unwrap_err().code(), code::CONFLICT);
    for name in [String::new(), "x".repeat(256)] {
        let refused = Player::login(&nodes, &name).await;
        assert_eq!(refused.err().unwrap().code(), code::BAD_REQUEST);
    }
    let sit: Result<Value> = ann.client.request("Table.Sit", &()).await;
    assert_eq!(sit.unwrap_err().code(), code::FORBIDDEN);
    shut_down(&nodes).await;
}

#[tokio::test]
async fn the_program_says_where_its_page_is() {
    let mut program = Program::start("cards", &["--listen", "127.0.0.1:0"]);
    let line = within("a line", program.line()).await;
    assert!(line.starts_with("open http://127.0.0.1:"), "{line}");
    assert!(program.stop().await.success());
}

async fn shut_down(nodes: &[Node; 4]) {
    for node in nodes.iter().rev() {
        within("the end of a node", node.shutdown()).await;
    }
}
