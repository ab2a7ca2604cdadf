//! `openapi.json`: answers have the fields that it names, and no other.

use std::time::Duration;

use nano::{Admin, App, Group, WarningLog, testing::TestCluster};
use serde_json::{Map, Value};

use crate::{
    harness::{Client, Echo},
    http::{Answer, JSON, TOKEN, get, send},
};

/// Follows a reference within the document.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(path) => document.pointer(path.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// The properties of a schema and of those it is made of, and which of them are required.
fn properties<'a>(document: &'a Value, schema: &'a Value) -> (Map<String, Value>, Vec<&'a str>) {
    let (mut all, mut required) = (Map::new(), Vec::new());
    for part in schema["allOf"].as_array().into_iter().flatten() {
        let (more, needed) = properties(document, resolved(document, part));
        all.extend(more);
        required.extend(needed);
    }
    all.extend(
        schema["properties"]
            .as_object()
            .cloned()
            .unwrap_or_default(),
    );
    let needed = schema["required"].as_array().into_iter().flatten();
    required.extend(needed.filter_map(Value::as_str));
    (all, required)
}

/// Says where a value is not as its schema describes it; a field without a description is a fault.
fn faults(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let schema = resolved(document, schema);
    if let Some(choices) = schema["oneOf"].as_array() {
        let mut tried = choices
            .iter()
            .map(|choice| faults(document, choice, value, at));
        let fits = tried.clone().any(|faults| faults.is_empty());
        return match fits {
            true => Vec::new(),
            false => tried.next_back().unwrap_or_default(),
        };
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        Value::Null => Vec::new(),
        kind => vec![kind.clone()],
    };
    let fits = |allowed: &Value| allowed == kind || (allowed == "number" && kind == "integer");
    if !allowed.is_empty() && !allowed.iter().any(fits) {
        return vec![format!("{at}: {kind} instead of {allowed:?}")];
    }
    let choices = schema["enum"].as_array();
    if choices.is_some_and(|choices| !choices.contains(value)) {
        return vec![format!("{at}: {value} is none of the values")];
    }
    match value {
        Value::Array(items) => items
            .iter()
            .flat_map(|item| faults(document, &schema["items"], item, &format!("{at}[]")))
            .collect(),
        Value::Object(fields) => {
            let (known, required) = properties(document, schema);
            let missing = required.iter().filter(|name| !fields.contains_key(**name));
            let missing = missing.map(|name| format!("{at}.{name}: missing"));
            let present = fields.iter().flat_map(|(name, value)| {
                let at = format!("{at}.{name}");
                match known.get(name).or(schema.get("additionalProperties")) {
                    Some(schema) => faults(document, schema, value, &at),
                    None => vec![format!("{at}: not described")],
                }
            });
            missing.chain(present).collect()
        }
        _ => Vec::new(),
    }
}

/// Checks an answer against the description of its path.
pub(crate) fn check(document: &Value, (path, method): (&str, &str), answer: &Answer) {
    let described = &document["paths"][path][method]["responses"][answer.status.to_string()];
    let described = resolved(document, described);
    assert!(described.is_object(), "{method} {path}: {answer:?}");
    if let Some(content) = described["content"].get("application/json") {
        let faults = faults(document, &content["schema"], &answer.json(), path);
        assert_eq!(faults, [""; 0], "{method} {path}");
    }
}

#[tokio::test]
async fn answers_have_the_fields_that_are_described_and_no_other() {
    let warnings = WarningLog::new();
    let admin = Admin::new("127.0.0.1:0")
        .token("secret")
        .warnings(&warnings)
        .on_log_filter(|_| Ok(()));
    let app = App::new().admin(admin).component(Echo).tcp("127.0.0.1:0");
    let options = TestCluster::master_options().heartbeat(Duration::from_secs(5));
    let cluster = TestCluster::with_master(app, options).await;
    let member = cluster.add(App::new().component(Echo)).await;
    cluster.converged(&[&member]).await;
    let node = cluster.master().node();
    let address = node.handle().admin_address().unwrap();
    let mut client = Client::connect(node).await;
    client.ask("Echo.Echo", "1").await.unwrap();
    let session = client.session(node).await;
    session.bind(7).unwrap();
    let room: Group = Group::new("room");
    room.add(&session).unwrap();
    node.handle().channel("lobby").join(&session).await.unwrap();
    let subscriber =
        tracing_subscriber::layer::SubscriberExt::with(tracing_subscriber::registry(), warnings);
    tracing::subscriber::with_default(subscriber, || tracing::warn!(peer = 1, "a test's warning"));

    let document = get(address, "/api/openapi.json").await.ok();
    let paths = document["paths"].as_object().unwrap();
    let id = session.id().to_string();
    for (path, methods) in paths.iter().filter(|(_, it)| it.get("get").is_some()) {
        assert_eq!(methods.as_object().unwrap().len(), 1, "{path}");
        let wanted = match path.as_str() {
            "/api/v1/users/locate" => "?user=7",
            _ => "",
        };
        let answer = get(address, &(path.replace("{id}", &id) + wanted)).await;
        assert_eq!(answer.status, 200, "{path}");
        check(&document, (path, "get"), &answer);
        let refused = send(address, "GET", path, &["Authorization: Bearer guess"], "").await;
        check(&document, (path, "get"), &refused);
    }
    let actions = [
        ("/api/v1/denied/add", r#"{"networks":["192.0.2.0/24"]}"#),
        ("/api/v1/denied/remove", r#"{"networks":["192.0.2.0/24"]}"#),
        ("/api/v1/log-filter", r#"{"filter":"info"}"#),
        ("/api/v1/reload", "{}"),
        ("/api/v1/sessions/{id}/kick", "{}"),
        ("/api/v1/users/kick", r#"{"user":8}"#),
        ("/api/v1/drain", "{}"),
    ];
    let described = paths.values().filter(|it| it.get("post").is_some());
    assert_eq!(described.count(), actions.len());
    for (path, body) in actions {
        let asked = path.replace("{id}", &id);
        for (headers, body) in [
            (&[JSON][..], body),
            (&[TOKEN], body),
            (&[TOKEN, JSON], "[]"),
            (&[TOKEN, JSON], body),
        ] {
            let answer = send(address, "POST", &asked, headers, body).await;
            check(&document, (path, "post"), &answer);
        }
    }
}
