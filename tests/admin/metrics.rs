//! Metrics at `/metrics`, and those that only nodes with an admin server have.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use nano::{App, Component, Error, Handlers, Node, Result, Session, code, metrics as names};
use serde_json::json;

use crate::{
    harness::{Client, start},
    http::{admin, get, send},
    support::{DEADLINE, within},
};

struct Shop;

impl Component for Shop {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Buy", |_: &Self, _: &Session, price: i64| match price {
            0.. => Ok(price),
            _ => Err(Error::new("SHOP-PRICE", "no")),
        })
        .on("Wait", |_: Arc<Self>, _: Session, ms: u64| async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok::<_, Error>(ms)
        })
        .on(
            "Resell",
            |_: Arc<Self>, session: Session, price: i64| async move {
                session.call("Shop.Buy").json::<i64, _>(&price).await
            },
        )
        .on("Fail", |_: &Self, _: &Session, code: String| -> Result {
            Err(Error::new(code, "no"))
        })
        .on(
            "Pass",
            |_: Arc<Self>, session: Session, code: String| async move {
                session.call("Shop.Fail").json::<(), _>(&code).await
            },
        )
        .on("Panic", |_: &Self, _: &Session, _: ()| -> Result {
            panic!("a test's panic")
        })
    }
}

/// The values of a node at one moment, by name and labels without `node`.
pub(crate) async fn values(address: SocketAddr) -> BTreeMap<String, f64> {
    let text = get(address, "/metrics").await.body;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap();
            let labels: Vec<_> = labels
                .trim_end_matches('}')
                .split(',')
                .filter(|label| !label.starts_with("node="))
                .collect();
            let series = match labels[..] {
                [] => name.to_owned(),
                _ => format!("{name}{{{}}}", labels.join(",")),
            };
            (series, value.parse().unwrap())
        })
        .collect()
}

pub(crate) async fn expect(node: &Node, series: &str, expected: f64) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let value = values(admin(node)).await.get(series).copied();
        if value == Some(expected) {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{series}: {value:?}"
        );
    }
}

#[tokio::test]
async fn routes_count_messages_by_status_and_measure_them() {
    let node = start(App::new().admin("127.0.0.1:0").component(Shop)).await;
    let mut client = Client::connect(&node).await;
    for price in ["1", "2"] {
        client.ask("Shop.Buy", price).await.unwrap();
    }
    client.ask_in_vain("Shop.Buy", "-1").await;
    client.ask_in_vain("Shop.Panic", "null").await;
    client.ask("Shop.Wait", "30").await.unwrap();
    client.ask("Shop.Resell", "3").await.unwrap();
    client.ask_in_vain("Shop.Resell", "-3").await;

    let handled = |route, status| {
        format!(
            "{}{{route=\"Shop.{route}\",status=\"{status}\"}}",
            names::MESSAGES_HANDLED
        )
    };
    expect(&node, &handled("Buy", "ok"), 3.0).await;
    expect(&node, &handled("Buy", "error"), 2.0).await;
    expect(&node, &handled("Panic", "internal"), 1.0).await;
    expect(&node, &handled("Wait", "ok"), 1.0).await;
    expect(&node, &format!("{}{{status=\"ok\"}}", names::CALLS), 1.0).await;
    expect(&node, &format!("{}{{status=\"error\"}}", names::CALLS), 1.0).await;
    let values = values(admin(&node)).await;
    let count = |name, route| values[&format!("{name}_count{{route=\"Shop.{route}\"}}")];
    assert_eq!(count(names::QUEUE_SECONDS, "Buy"), 5.0);
    assert_eq!(count(names::MESSAGE_SECONDS, "Buy"), 5.0);
    // An async handler counts with the time it waited.
    let waited = values[&format!("{}_sum{{route=\"Shop.Wait\"}}", names::MESSAGE_SECONDS)];
    assert!((0.03..5.0).contains(&waited), "{waited}");
    assert_eq!(values[&format!("{}_count", names::REQUEST_SECONDS)], 7.0);
    assert_eq!(values[&format!("{}_count", names::CALL_SECONDS)], 2.0);
    assert!(values[&format!("{}_count", names::TURN_SECONDS)] >= 7.0);
    assert_eq!(values[names::READY], 1.0);
    let local = format!("{}{{client=\"local\"}}", names::SESSIONS);
    assert_eq!(values[&local], 1.0);
    assert_eq!(
        values[&format!("{}{{client=\"remote\"}}", names::SESSIONS)],
        0.0
    );
    assert_eq!(values[names::USERS], 0.0);
    client.session(&node).await.bind(7).unwrap();
    expect(&node, names::USERS, 1.0).await;
    assert_eq!(values[names::SCHEDULERS], 1.0);
    assert_eq!(values[names::SCHEDULER_TASKS], 0.0);
    assert_eq!(values[names::PANICS], 1.0);
    node.handle()
        .scheduler()
        .push_task(|| panic!("a test's panic in a task"))
        .unwrap();
    expect(&node, names::PANICS, 2.0).await;

    let routes = get(admin(&node), "/api/v1/routes").await.ok();
    let buy = &routes["routes"][0];
    assert_eq!(
        (&buy["route"], &buy["handled"]["ok"]),
        (&"Shop.Buy".into(), &3.into())
    );
    assert_eq!(buy["handler"]["count"], 5);
    assert!(buy["queue"]["p99"].as_f64().unwrap() > 0.0);

    drop(client);
    expect(&node, &local, 0.0).await;
    expect(&node, names::USERS, 0.0).await;
    let desk = node.handle().new_scheduler("desk");
    expect(&node, names::SCHEDULERS, 2.0).await;
    drop(desk);
    expect(&node, names::SCHEDULERS, 1.0).await;
    let uptime = self::values(admin(&node)).await[names::UPTIME_SECONDS];
    assert!(uptime > values[names::UPTIME_SECONDS], "{uptime}");
    node.shutdown().await;
}

#[tokio::test]
async fn each_code_of_an_error_counts_as_its_status() {
    let node = start(App::new().admin("127.0.0.1:0").component(Shop)).await;
    let mut client = Client::connect(&node).await;
    for (code, status) in [
        (code::TIMEOUT, "timeout"),
        (code::TOO_MANY, "too_many"),
        (code::INTERNAL, "internal"),
        (code::UNAVAILABLE, "unavailable"),
        (code::NOT_FOUND, "error"),
    ] {
        let series = [
            format!(
                "{}{{route=\"Shop.Fail\",status=\"{status}\"}}",
                names::MESSAGES_HANDLED
            ),
            format!("{}{{status=\"{status}\"}}", names::CALLS),
        ];
        expect(&node, &series[0], 0.0).await;
        expect(&node, &series[1], 0.0).await;
        assert_eq!(
            client
                .ask_in_vain("Shop.Pass", json!(code.as_str()).to_string())
                .await,
            code
        );
        expect(&node, &series[0], 1.0).await;
        expect(&node, &series[1], 1.0).await;
    }
    node.shutdown().await;
}

#[tokio::test]
async fn what_clients_send_becomes_no_label() {
    let node = start(App::new().admin("127.0.0.1:0").component(Shop)).await;
    let mut client = Client::connect(&node).await;
    let series = async || values(admin(&node)).await.len();
    client.ask("Shop.Buy", "1").await.unwrap();
    let before = series().await;
    for index in 0..50 {
        client.ask_in_vain(&format!("Shop.Guess{index}"), "1").await;
    }
    assert_eq!(series().await, before);
    node.shutdown().await;
}

#[tokio::test]
async fn two_nodes_of_one_process_do_not_mix() {
    let app = || App::new().admin("127.0.0.1:0").component(Shop);
    let (one, two) = (start(app()).await, start(app()).await);
    let mut client = Client::connect(&one).await;
    client.ask("Shop.Buy", "1").await.unwrap();
    expect(&one, names::CONNECTIONS, 1.0).await;
    let other = values(admin(&two)).await;
    assert_eq!(other[names::CONNECTIONS], 0.0);
    let text = get(admin(&one), "/metrics").await.body;
    assert!(text.contains(&format!("node=\"{}\"", one.addresses()[0])));
    assert!(!text.contains(&two.addresses()[0].to_string()));
    one.shutdown().await;
    two.shutdown().await;
}

#[tokio::test]
async fn the_format_follows_the_accept_header() {
    let node = start(App::new().admin("127.0.0.1:0").component(Shop)).await;
    let plain = get(admin(&node), "/metrics").await;
    assert!(
        plain
            .head
            .contains("content-type: text/plain; version=0.0.4")
    );
    let accept = "Accept: application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1";
    let open = send(admin(&node), "GET", "/metrics", &[accept], "").await;
    assert!(
        open.head
            .contains("content-type: application/openmetrics-text")
    );
    assert!(open.body.ends_with("# EOF\n"));
    let head = send(admin(&node), "HEAD", "/metrics", &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    node.shutdown().await;
}

/// promtool is in Debian's package `prometheus`.
#[tokio::test]
async fn promtool_finds_no_fault() {
    use std::process::{Command, Stdio};
    if Command::new("promtool").arg("--version").output().is_err() {
        println!("skipped: promtool is not installed");
        return;
    }
    let node = start(App::new().admin("127.0.0.1:0").component(Shop)).await;
    let mut client = Client::connect(&node).await;
    client.ask("Shop.Buy", "1").await.unwrap();
    let text = get(admin(&node), "/metrics").await.body;
    let checked = tokio::task::spawn_blocking(move || {
        use std::io::Write;
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        promtool
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        promtool.wait_with_output().unwrap()
    });
    let checked = within("promtool", checked).await.unwrap();
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success() && said.is_empty(), "{said}");
    node.shutdown().await;
}
