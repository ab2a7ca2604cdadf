//! Each case was tried on Go's `encoding/json` with a struct of the same fields.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::*;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Typed {
    a: String,
    n: i64,
}

/// Without defaults.
#[derive(Debug, PartialEq, Deserialize)]
struct Player {
    #[serde(rename = "playerName")]
    name: String,
    level: u8,
    ratio: f64,
    ready: bool,
    tags: Vec<String>,
    friends: HashMap<u64, Friend>,
    best: Option<Friend>,
    pair: (i8, i8),
}

#[derive(Debug, PartialEq, Deserialize)]
struct Friend {
    id: u64,
}

#[derive(Debug, PartialEq, Deserialize)]
enum Shape {
    Point,
    Circle { radius: u32 },
    Named(String),
}

fn typed(json: &str) -> Option<(String, i64)> {
    from_slice(json.as_bytes())
        .ok()
        .map(|Typed { a, n }| (a, n))
}

fn read<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    from_slice(json.as_bytes()).map_err(|error| error.to_string())
}

#[test]
fn what_go_decodes_is_decoded_alike() {
    for (json, a, n) in [
        (r#"{"a":"x","n":1}"#, "x", 1),
        (r#"{"a":null,"n":1}"#, "", 1),
        (r#"{"a":null,"n":null}"#, "", 0),
        ("null", "", 0),
        (" null ", "", 0),
        ("{}", "", 0),
        (r#"{"a":"1","a":"2","n":1}"#, "2", 1),
        (r#"{"a":"x","n":1,"a":"y"}"#, "y", 1),
        (r#"{"a":"x","a":null}"#, "x", 0),
        (r#"{"a":"x","n":-0}"#, "x", 0),
        (r#"{"A":"x","N":5}"#, "x", 5),
        (r#"{"A":"x","a":"y"}"#, "y", 0),
        (r#"{"a":"y","A":"x"}"#, "x", 0),
        (r#"{"a":"x\ud83d","n":1}"#, "x\u{FFFD}", 1),
        (r#"{"a":"\ude00x","n":1}"#, "\u{FFFD}x", 1),
        (r#"{"a":"\ude00\ud83d","n":1}"#, "\u{FFFD}\u{FFFD}", 1),
        (r#"{"a":"\ud83dA","n":1}"#, "\u{FFFD}A", 1),
        (r#"{"a":"\ud83d\n","n":1}"#, "\u{FFFD}\n", 1),
        (r#"{"a":"\ud83d\ude00","n":1}"#, "\u{1F600}", 1),
        (r#"{"\ud83d":1,"a":"x"}"#, "x", 0),
        (r#"{"other":{"deep":[1,{}]},"A":"x"}"#, "x", 0),
    ] {
        assert_eq!(typed(json), Some((a.to_owned(), n)), "{json}");
    }
    let mut unread = r#"{"A":"x","other":"#.to_owned();
    unread.push_str(&"[".repeat(20_000));
    unread.push_str(&"]".repeat(20_000));
    unread.push('}');
    assert_eq!(typed(&unread), Some(("x".to_owned(), 0)));
}

#[test]
fn what_go_refuses_is_refused() {
    for json in [
        "",
        " ",
        "{",
        "[]",
        r#"["x",1]"#,
        r#""x""#,
        "7",
        "true",
        r#"{"n":1.5}"#,
        r#"{"n":1.0}"#,
        r#"{"n":1e2}"#,
        r#"{"n":"1"}"#,
        r#"{"n":9223372036854775808}"#,
        r#"{"a":7}"#,
        r#"{"a":"x"} x"#,
        r#"{"a":"x",}"#,
        r#"{"a":"x""#,
        "{\"a\":\"\t\"}",
        r#"{"a":"\x"}"#,
        r#"{"a":01}"#,
        "\u{FEFF}{}",
    ] {
        assert_eq!(typed(json), None, "{json}");
    }
}

#[test]
fn an_array_is_no_struct_however_deep() {
    let error = read::<Typed>(r#"["x",1]"#).unwrap_err();
    assert!(error.contains("invalid type: sequence"), "{error}");
    assert!(read::<Vec<Friend>>("[[7]]").is_err());
    assert!(read::<Option<Friend>>("[7]").is_err());
    assert!(read::<HashMap<String, Friend>>(r#"{"a":[7]}"#).is_err());
    assert!(read::<Shape>(r#"{"Circle":[7]}"#).is_err());
    assert_eq!(
        read::<Vec<Friend>>(r#"[{"id":7}]"#),
        Ok(vec![Friend { id: 7 }])
    );
}

#[test]
fn null_is_the_zero_value_everywhere_and_a_missing_field_is_an_error() {
    let json = r#"{"playerName":null,"LEVEL":null,"ratio":null,"ready":null,"tags":null,
        "friends":null,"best":null,"pair":[1,null]}"#;
    let player = Player {
        name: String::new(),
        level: 0,
        ratio: 0.0,
        ready: false,
        tags: Vec::new(),
        friends: HashMap::new(),
        best: None,
        pair: (1, 0),
    };
    assert_eq!(read(json), Ok(player));
    let error = read::<Player>(r#"{"playerName":"x"}"#).unwrap_err();
    assert!(error.contains("missing field `level`"), "{error}");
    assert_eq!(read("[1,null]"), Ok(vec![1, 0]));
    assert_eq!(
        read(r#"[null,"x"]"#),
        Ok(vec![String::new(), "x".to_owned()])
    );
    assert_eq!(read("null"), Ok(Vec::<u8>::new()));
    assert_eq!(read("null"), Ok(Value::Null));
    assert_eq!(read("null"), Ok(None::<Friend>));
}

#[test]
fn nested_values_are_read_as_tolerantly() {
    let json = r#"{"PLAYERNAME":"x","level":1,"ratio":2,"ready":true,"tags":["\ud83d"],
        "friends":{"7":{"ID":8},"7":{"id":9}},"best":{"id":null},"pair":[-0,1],"more":0}"#;
    let player = Player {
        name: "x".to_owned(),
        level: 1,
        ratio: 2.0,
        ready: true,
        tags: vec!["\u{FFFD}".to_owned()],
        friends: HashMap::from([(7, Friend { id: 9 })]),
        best: Some(Friend { id: 0 }),
        pair: (0, 1),
    };
    assert_eq!(read(json), Ok(player));
    assert_eq!(read(r#""Point""#), Ok(Shape::Point));
    assert_eq!(
        read(r#"{"Circle":{"RADIUS":3}}"#),
        Ok(Shape::Circle { radius: 3 })
    );
    assert_eq!(
        read(r#"{"Named":"\ud83d"}"#),
        Ok(Shape::Named("\u{FFFD}".to_owned()))
    );
    assert!(read::<Shape>(r#"{"Circle":{"radius":3},"Point":null}"#).is_err());
}

#[test]
fn a_null_leaves_a_default_of_ones_own() {
    fn ten() -> u32 {
        10
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Page {
        #[serde(default = "ten")]
        size: u32,
    }
    assert_eq!(read(r#"{"size":null}"#), Ok(Page { size: 10 }));
    assert_eq!(read(r#"{"SIZE":3}"#), Ok(Page { size: 3 }));
}

#[test]
fn the_nesting_of_what_is_read_is_limited() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read::<Value>(&nested(127)).is_ok());
    assert!(read::<Value>(&nested(129)).is_err());
    #[derive(Debug, Deserialize)]
    struct Tree {
        #[serde(default)]
        below: Vec<Tree>,
    }
    let tree = format!("{}{}", r#"{"Below":["#.repeat(2_000), "]}".repeat(2_000));
    assert!(read::<Tree>(&tree).is_err());
    let tree: Tree = read(r#"{"Below":[{"below":[]}]}"#).unwrap();
    assert_eq!(tree.below[0].below.len(), 0);
}

#[test]
fn numbers_that_are_none_are_errors_on_output() {
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let error = to_vec(&number).unwrap_err().to_string();
        assert!(error.contains("is no number of JSON"), "{error}");
        assert!(to_vec(&BTreeMap::from([("x", vec![Some(number)])])).is_err());
        assert!(to_vec(&(number as f32)).is_err());
    }
    assert_eq!(to_vec(&(None::<u8>, 1.5)).unwrap(), b"[null,1.5]");
    assert_eq!(to_vec(&Value::Null).unwrap(), b"null");
}

fn text(json: &[u8]) -> Option<String> {
    from_slice(json).ok()
}

#[test]
fn surrogates_of_old_clients_become_the_character_they_mean() {
    assert_eq!(
        text(b"\"a\xED\xA0\xBD\xED\xB8\x80b\"").as_deref(),
        Some("a\u{1F600}b")
    );
    assert_eq!(
        text("\"a\u{1F600}b\"".as_bytes()).as_deref(),
        Some("a\u{1F600}b")
    );
    // The first and the last character that need two.
    assert_eq!(
        text(b"\"\xED\xA0\x80\xED\xB0\x80\"").as_deref(),
        Some("\u{10000}")
    );
    assert_eq!(
        text(b"\"\xED\xAF\xBF\xED\xBF\xBF\"").as_deref(),
        Some("\u{10FFFF}")
    );
}

#[test]
fn other_bytes_that_are_not_utf8_are_replaced_as_in_go() {
    assert_eq!(
        text(b"\"\xFFx\xED\xA0\xBD\"").as_deref(),
        Some("\u{FFFD}x\u{FFFD}\u{FFFD}\u{FFFD}")
    );
    assert_eq!(
        text(b"\"\xED\xA0\xBD\xED\xA0\xBD\"").as_deref(),
        Some("\u{FFFD}".repeat(6).as_str())
    );
    assert_eq!(text(b"\xFF"), None);
    assert_eq!(text(b"{"), None);
}
