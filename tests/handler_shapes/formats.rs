//! Components of several formats beside each other.

use nano::{Decode, Encode};

use super::*;

#[derive(Clone, PartialEq, prost::Message)]
struct Move {
    #[prost(sint64, tag = "1")]
    x: i64,
    #[prost(string, tag = "2")]
    piece: String,
}

/// The same service name in every format would clash; so would the routes.
struct Chess;

impl Component<Protobuf> for Chess {
    fn handlers(h: Handlers<Self, Protobuf>) -> Handlers<Self, Protobuf> {
        h.on("Move", Self::step)
            .on("Think", Self::think)
            .raw("Raw", |_: &Self, _: &Session<Protobuf>, body: Bytes| {
                Ok::<_, Error>(body)
            })
    }
}

impl Chess {
    fn step(&self, session: &Session<Protobuf>, step: Move) -> Result<Move> {
        session.push("onMove", &step)?;
        Ok(Move { x: -step.x, ..step })
    }

    async fn think(self: Arc<Self>, session: Session<Protobuf>, step: Move) -> Result {
        tokio::task::yield_now().await;
        session.respond(&Move {
            x: step.x + 1,
            ..step
        })
    }
}

/// A format of the application: words, separated by commas.
struct Words;

impl Serializer for Words {}

impl Decode<Vec<String>> for Words {
    fn decode(payload: &Bytes) -> Result<Vec<String>> {
        Ok(std::str::from_utf8(payload)?
            .split(',')
            .map(str::to_owned)
            .collect())
    }
}

impl Encode<Vec<String>> for Words {
    fn encode(words: &Vec<String>) -> Result<Bytes> {
        if words.iter().any(|word| word.contains(',')) {
            return Err(Error::new("WORDS-COMMA", "a word with a comma"));
        }
        Ok(words.join(",").into())
    }
}

impl Decode<()> for Words {
    fn decode(_: &Bytes) -> Result<()> {
        Ok(())
    }
}

impl Encode<()> for Words {
    fn encode(_: &()) -> Result<Bytes> {
        Ok(Bytes::new())
    }
}

struct Poem;

impl Component<Words> for Poem {
    fn handlers(h: Handlers<Self, Words>) -> Handlers<Self, Words> {
        h.on("Reverse", Self::reverse)
            .on("Comma", Self::comma)
            .on("Count", Self::count)
    }
}

impl Poem {
    fn reverse(&self, _: &Session<Words>, mut words: Vec<String>) -> Result<Vec<String>> {
        words.reverse();
        Ok(words)
    }

    fn comma(&self, _: &Session<Words>, (): ()) -> Result<Vec<String>> {
        Ok(vec![",".to_owned()])
    }

    /// One service may still say something in another format.
    fn count(&self, session: &Session<Words>, words: Vec<String>) -> Result {
        session.typed::<nano::Json>().respond(&words.len())
    }
}

async fn serve_all() -> (Node, Client) {
    serve(
        App::new()
            .component(Shapes::default())
            .component(Chess)
            .component(Poem),
    )
    .await
}

#[tokio::test]
async fn prost_messages_need_no_wrapper() {
    let (node, client) = serve_all().await;
    let client = client.typed::<Protobuf>();
    let mut moves = client.subscribe("onMove");
    let step = Move {
        x: 3,
        piece: "rook".to_owned(),
    };
    assert_eq!(
        client
            .request::<Move, _>("Chess.Move", &step)
            .await
            .unwrap(),
        Move {
            x: -3,
            ..step.clone()
        }
    );
    assert_eq!(moves.recv_as::<Move>().await.unwrap().unwrap(), step);
    assert_eq!(
        client
            .request::<Move, _>("Chess.Think", &step)
            .await
            .unwrap(),
        Move { x: 4, ..step }
    );
    assert_eq!(client.request_raw("Chess.Raw", "raw").await.unwrap(), "raw");
    let error = client
        .request_raw("Chess.Move", vec![0xFF])
        .await
        .unwrap_err();
    assert_eq!(error.code(), code::BAD_REQUEST, "{error}");
    node.shutdown().await;
}

#[tokio::test]
async fn a_format_of_ones_own() {
    let (node, client) = serve_all().await;
    assert_eq!(
        client.request_raw("Poem.Reverse", "a,b,c").await.unwrap(),
        "c,b,a"
    );
    assert_eq!(
        client.request_raw("Poem.Count", "a,b,c").await.unwrap(),
        "3"
    );
    // A body it cannot read is the client's fault, a reply it cannot write is not.
    assert_eq!(
        client
            .request_raw("Poem.Reverse", vec![0xFF])
            .await
            .unwrap_err()
            .code(),
        code::BAD_REQUEST
    );
    assert_eq!(
        client
            .request_raw("Poem.Comma", "")
            .await
            .unwrap_err()
            .code(),
        "WORDS-COMMA"
    );
    let words = client.typed::<Words>();
    let reversed: Vec<String> = words
        .request("Poem.Reverse", &vec!["x".to_owned(), "y".to_owned()])
        .await
        .unwrap();
    assert_eq!(reversed, ["y", "x"]);
    node.shutdown().await;
}
