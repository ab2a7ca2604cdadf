//! Requests that are not as `openapi.json` describes them. They are made from the document, so that a
//! new path is tried without a new test.

use std::sync::Arc;

use nano::{Admin, App, Config, Node, Session, WarningLog};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::{
    described::check,
    harness::{Client, Echo, start},
    http::{Answer, JSON, TOKEN, admin, get, send},
};

/// Above what any integer may be.
const HUGE: &str = "99999999999999999999";

/// What is wrong with a request: its path and query, or its body.
struct Bad {
    sent: String,
    status: u16,
    /// A part of the message.
    named: String,
}

fn bad(sent: impl Into<String>, status: u16, named: impl Into<String>) -> Bad {
    Bad {
        sent: sent.into(),
        status,
        named: named.into(),
    }
}

/// The types of a schema.
fn kinds(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    }
}

/// A value as a schema describes it.
fn sample(schema: &Value) -> Value {
    match kinds(schema)[0] {
        "integer" => json!(7),
        "string" => json!("x"),
        "array" => json!([sample(&schema["items"])]),
        kind => panic!("{kind}: it needs a sample here"),
    }
}

/// Values of other types than a schema allows.
fn of_other_types(schema: &Value) -> Vec<String> {
    let values = [
        ("null", "null"),
        ("boolean", "true"),
        ("integer", "7"),
        ("number", "1.5"),
        ("string", "\"x\""),
        ("array", "[]"),
        ("object", "{}"),
    ];
    let kinds = kinds(schema);
    let others = values.iter().filter(|(kind, _)| !kinds.contains(kind));
    let mut others: Vec<_> = others.map(|(_, value)| (*value).to_owned()).collect();
    if kinds.contains(&"integer") {
        others.push(HUGE.to_owned());
    }
    if kinds.contains(&"array") {
        let items = of_other_types(&schema["items"]);
        others.extend(items.iter().map(|item| format!("[{item}]")));
    }
    others
}

/// Values of the right type that are out of a schema's bounds.
fn out_of_bounds(schema: &Value) -> Vec<String> {
    let bound = |name: &str| schema[name].as_i64();
    let text = |length: i64| json!("x".repeat(length.try_into().unwrap())).to_string();
    let items = |length: i64| json!(vec!["192.0.2.0/24"; length.try_into().unwrap()]).to_string();
    let out = [
        bound("minimum").map(|least| (least - 1).to_string()),
        bound("maximum").map(|most| (most + 1).to_string()),
        bound("minLength").map(|least| text(least - 1)),
        bound("maxLength").map(|most| text(most + 1)),
        bound("minItems").map(|least| items(least - 1)),
        bound("maxItems").map(|most| items(most + 1)),
    ];
    out.into_iter().flatten().collect()
}

/// Bodies that are not as a schema describes them.
fn bodies(schema: &Value) -> Vec<Bad> {
    let properties = schema["properties"].as_object().unwrap();
    let required = schema["required"].as_array();
    let required: Vec<_> = required.into_iter().flatten().collect();
    let samples: Map<_, _> = properties
        .iter()
        .map(|(key, schema)| (key.clone(), sample(schema)))
        .collect();
    // All keys, one of them with another value.
    let with = |key: &str, value: &str| {
        let others = samples.iter().filter(|(other, _)| *other != key);
        let others = others.map(|(key, value)| format!("\"{key}\":{value},"));
        format!("{{{}\"{key}\":{value}}}", others.collect::<String>())
    };
    let large = json!("x".repeat(65 * 1024)).to_string();
    let deep = "[".repeat(1000) + &"]".repeat(1000);
    let mut all = Vec::new();
    for body in [
        "", " ", "nonsense", "[]", "[{}]", "null", "true", "7", "\"x\"",
    ] {
        all.push(bad(body, 400, "the body must be a JSON object"));
    }
    for body in [
        "{", "{]", "{,}", "{\"x\"}", "{\0}", "{'x':1}", "{}{}", "{} x",
    ] {
        all.push(bad(body, 400, "the body is not valid"));
    }
    all.push(bad("\u{feff}{}", 400, "the body must be a JSON object"));
    all.push(bad(with("nonsense", "1"), 400, "unknown field `nonsense`"));
    all.push(bad(with("", "1"), 400, "unknown field ``"));
    all.push(bad(with("nonsense", &large), 413, "65536"));
    for (key, schema) in properties {
        let invalid = of_other_types(schema).into_iter();
        for value in invalid.chain(out_of_bounds(schema)) {
            all.push(bad(with(key, &value), 400, key));
        }
        all.push(bad(with(key, &deep), 400, "the body is not valid"));
        all.push(bad(with(key, &large), 413, "65536"));
        let value = &samples[key];
        let twice = format!("{{\"{key}\":{value},\"{key}\":{value}}}");
        all.push(bad(twice, 400, format!("duplicate field `{key}`")));
        if required.iter().any(|it| *it == key) {
            let mut others = samples.clone();
            others.remove(key);
            let missing = format!("missing field `{key}`");
            all.push(bad(json!(others).to_string(), 400, missing));
        }
    }
    all
}

/// Paths whose parameters are not as an operation describes them.
fn paths(path: &str, operation: &Value) -> Vec<Bad> {
    let valid = path.replace("{id}", "1");
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let query = |query: &str, named: &str| bad(format!("{valid}?{query}"), 400, named);
    let mut all = vec![
        query("nonsense=1", "unknown parameter"),
        query("nonsense", "unknown parameter"),
        query("=", "unknown parameter"),
        query("Limit=1", "unknown parameter"),
        query("limit%00=1", "unknown parameter"),
        query("%ff=1", "UTF-8"),
        bad(format!("{valid}?{}", "x".repeat(2048)), 414, "2048"),
    ];
    for parameter in parameters {
        let (name, schema) = (parameter["name"].as_str().unwrap(), &parameter["schema"]);
        if parameter["in"] == "path" {
            assert_eq!(schema["type"], "integer", "{path}");
            for value in ["x", "", "1.5", "%31", HUGE] {
                let path = path.replace(&format!("{{{name}}}"), value);
                all.push(bad(path, 400, "whole number"));
            }
            continue;
        }
        all.push(query(&format!("{name}=1&{name}=1"), "twice"));
        let escaped = format!("%{:02x}{}", name.as_bytes()[0], &name[1..]);
        all.push(query(&format!("{name}=1&{escaped}=2"), "twice"));
        all.push(query(&format!("{name}=1&nonsense=1"), "unknown parameter"));
        all.push(query(&format!("{name}=%ff"), "UTF-8"));
        if schema["type"] == "integer" {
            let values = ["", "x", "1.5", "+", "0x1", "1e1", "1%20", "null", HUGE];
            let values = values.iter().map(|value| (*value).to_owned());
            for value in values.chain(out_of_bounds(schema)) {
                all.push(query(&format!("{name}={value}"), name));
            }
        }
        if parameter["required"] == true {
            all.push(bad(&*valid, 400, name));
        }
    }
    all
}

/// A node with all that actions act on, and the description of its API.
struct Api {
    node: Node,
    document: Value,
    _client: Client,
    session: Session,
    filters: Arc<Mutex<Vec<String>>>,
    _files: tempfile::TempDir,
}

impl Api {
    async fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let file = files.path().join("node.toml");
        std::fs::write(&file, "").unwrap();
        let config = Config::load(&file).unwrap();
        // A reload would be seen.
        std::fs::write(&file, "deny = [\"192.0.2.0/24\"]").unwrap();
        let filters = Arc::<Mutex<Vec<String>>>::default();
        let changed = filters.clone();
        let options = Admin::new("127.0.0.1:0")
            .token("secret")
            .warnings(&WarningLog::new())
            .on_log_filter(move |filter| {
                changed.lock().push(filter.to_owned());
                Ok(())
            });
        let app = App::new().config(&config).admin(options).component(Echo);
        let node = start(app).await;
        let client = Client::connect(&node).await;
        let session = client.session(&node).await;
        // The samples above would find both.
        session.bind(7).unwrap();
        Self {
            document: get(admin(&node), "/api/openapi.json").await.ok(),
            node,
            _client: client,
            session,
            filters,
            _files: files,
        }
    }

    /// Each path, its method and what is said of it.
    fn operations(&self) -> Vec<(String, String, Value)> {
        let paths = self.document["paths"].as_object().unwrap().iter();
        let operations = paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            methods.map(move |(method, said)| (path.clone(), method.clone(), said.clone()))
        });
        operations.collect()
    }

    async fn send(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let method = method.to_uppercase();
        send(admin(&self.node), &method, path, headers, body).await
    }

    /// Checks that an answer is the error that it is to be, and is described.
    fn is_refused(&self, operation: (&str, &str), bad: &Bad, answer: &Answer) {
        let sent: String = bad.sent.chars().take(100).collect();
        let what = format!("{operation:?} with {sent:?}: {answer:?}");
        assert_eq!(answer.status, bad.status, "{what}");
        assert!(answer.ended, "{what}");
        let error = answer.json();
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&bad.named), "{what}");
        check(&self.document, operation, answer);
    }

    async fn ends_unchanged(self) {
        assert!(self.node.handle().is_ready());
        assert_eq!(self.session.closed(), None);
        assert!(self.node.handle().deny_list().networks().is_empty());
        assert_eq!(*self.filters.lock(), [""; 0]);
        self.node.shutdown().await;
    }
}

#[tokio::test]
async fn malformed_bodies_are_refused_by_every_action_and_do_nothing() {
    let api = Api::start().await;
    let id = api.session.id().to_string();
    let mut tried = 0;
    for (path, method, operation) in api.operations() {
        let Some(body) = operation.get("requestBody") else {
            assert_eq!(method, "get", "{path}");
            continue;
        };
        let schema = &body["content"]["application/json"]["schema"];
        assert_eq!(schema["additionalProperties"], false, "{path}");
        let asked = path.replace("{id}", &id);
        for bad in bodies(schema) {
            let answer = api.send(&method, &asked, &[TOKEN, JSON], &bad.sent).await;
            api.is_refused((&path, &method), &bad, &answer);
            tried += 1;
        }
        for headers in [&[TOKEN][..], &[TOKEN, "Content-Type: text/json"]] {
            let answer = api.send(&method, &asked, headers, "{}").await;
            api.is_refused((&path, &method), &bad("{}", 415, "JSON"), &answer);
        }
    }
    assert!(tried > 150, "{tried}");
    api.ends_unchanged().await;
}

#[tokio::test]
async fn malformed_parameters_and_other_methods_are_refused_by_every_path() {
    let api = Api::start().await;
    let mut tried = 0;
    for (path, method, operation) in api.operations() {
        let operation_name = (&*path, &*method);
        for bad in paths(&path, &operation) {
            let answer = api.send(&method, &bad.sent, &[TOKEN, JSON], "{}").await;
            api.is_refused(operation_name, &bad, &answer);
            tried += 1;
        }
        let asked = path.replace("{id}", "1");
        for other in [
            "get", "post", "put", "patch", "delete", "options", "nonsense",
        ] {
            if other != method {
                let answer = api.send(other, &asked, &[TOKEN, JSON], "{}").await;
                api.is_refused(operation_name, &bad(other, 405, "takes"), &answer);
            }
        }
    }
    assert!(tried > 200, "{tried}");
    api.ends_unchanged().await;
}
