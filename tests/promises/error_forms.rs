//! An error reply has the form of the component that the request was for: JSON, protobuf, or what the
//! application makes of it; also when another node has the component.

use bytes::Bytes;
use nano::{
    App, Component, Error, Handlers, Json, Listener, Protobuf, Result, Session, code,
    message::{Kind, Message},
    testing::{RawClient, TestCluster, TestNode},
};

/// `string text = 1`.
#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

struct Shop;

impl Component<Protobuf> for Shop {
    fn handlers(h: Handlers<Self, Protobuf>) -> Handlers<Self, Protobuf> {
        h.on("Buy", |_: &Self, _: &Session<Protobuf>, item: Text| {
            if item.text == "panic" {
                panic!("a test's panic");
            }
            Err::<(), _>(Error::new("SOLD-OUT", item.text).with_metadata("left", "0"))
        })
        .on("Later", |_: &Self, session: &Session<Protobuf>, _: ()| {
            session.responder().respond_error(Error::new("LATER", "no"))
        })
    }
}

struct Desk;

impl Component<Json> for Desk {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Ask", Self::ask)
    }
}

impl Desk {
    /// Fails as the shop does, whose component has another format.
    async fn ask(self: std::sync::Arc<Self>, session: Session, item: String) -> Result {
        let item = Text { text: item };
        session.call("Shop.Buy").protobuf::<(), _>(&item).await
    }
}

fn item(text: &str) -> Bytes {
    let text = text.to_owned();
    prost::Message::encode_to_vec(&Text { text }).into()
}

async fn failed(client: &mut RawClient, route: &str, body: Bytes) -> Bytes {
    client.request(1, route, body).await;
    let reply: Message = client.message().await;
    assert_eq!(
        (reply.kind, reply.id, reply.error),
        (Kind::Response, 1, true)
    );
    reply.body
}

/// The shop and the desk on one node, and on a gate that has only the desk.
async fn nodes() -> (TestNode, TestCluster, TestNode, TestNode) {
    let alone = App::new().component(Shop).component(Desk);
    let alone = TestNode::start(alone.listen(Listener::tcp("127.0.0.1:0"))).await;
    let cluster = TestCluster::start().await;
    let shop = cluster.add(App::new().component(Shop)).await;
    let gate = App::new().component(Desk);
    let gate = cluster.add(gate.listen(Listener::tcp("127.0.0.1:0"))).await;
    cluster.converged(&[&shop, &gate]).await;
    (alone, cluster, shop, gate)
}

#[tokio::test]
async fn a_protobuf_component_answers_errors_in_protobuf_wherever_it_runs() {
    let (alone, _cluster, _shop, gate) = nodes().await;
    let sold_out = b"\x0a\x08SOLD-OUT\x12\x02ax\x1a\x09\x0a\x04left\x12\x010";
    for node in [&alone, &gate] {
        let mut client = node.raw_client().await;
        client.handshake().await;
        assert_eq!(
            failed(&mut client, "Shop.Buy", item("ax")).await,
            &sold_out[..]
        );
        assert_eq!(
            failed(&mut client, "Shop.Later", Bytes::new()).await,
            &b"\x0a\x05LATER\x12\x02no"[..]
        );
        for (body, code) in [
            (item("panic"), code::INTERNAL),
            (Bytes::from_static(b"\xff"), code::BAD_REQUEST),
        ] {
            let body = failed(&mut client, "Shop.Buy", body).await;
            assert_eq!(body[0], 0x0a, "not protobuf: {body:?}");
            assert_eq!(Error::from_body(&body).code(), code);
        }
        // No component is known, so it is JSON.
        let unknown = failed(&mut client, "Nope.Nope", Bytes::new()).await;
        assert_eq!(unknown[0], b'{');
    }
}

#[tokio::test]
async fn an_error_that_another_component_passes_on_has_the_form_of_the_one_that_was_asked() {
    let (alone, _cluster, _shop, gate) = nodes().await;
    for node in [&alone, &gate] {
        let mut client = node.raw_client().await;
        client.handshake().await;
        let body = failed(&mut client, "Desk.Ask", Bytes::from_static(br#""ax""#)).await;
        let expected = r#"{"code":"SOLD-OUT","msg":"ax","metadata":{"left":"0"}}"#;
        assert_eq!(body, expected);
    }
}

#[tokio::test]
async fn the_error_hook_may_choose_any_body() {
    let app = App::new()
        .component(Shop)
        .on_error(|_: &Session, _: &str, error: Error| {
            let body = format!("E:{}", error.code());
            error.with_body(body)
        });
    let cluster = TestCluster::start().await;
    let shop = cluster.add(app).await;
    let gate = App::new().listen(Listener::tcp("127.0.0.1:0"));
    let gate = cluster.add(gate).await;
    cluster.converged(&[&shop, &gate]).await;
    let mut client = gate.raw_client().await;
    client.handshake().await;
    assert_eq!(
        failed(&mut client, "Shop.Buy", item("ax")).await,
        "E:SOLD-OUT"
    );
    assert_eq!(
        failed(&mut client, "Shop.Buy", Bytes::from_static(b"\xff")).await,
        "E:NANO-400"
    );
}
