//! Values with variables, and what an answer is compared with; no I/O.

use std::collections::BTreeMap;

use serde_json::Value;

/// What `${name}` stands for.
pub(super) type Variables = BTreeMap<String, Value>;

/// Replaces `${name}` in all texts of a value. A text that is nothing else becomes the value itself.
///
/// # Errors
/// Names a variable that has no value.
pub(super) fn fill(value: &Value, variables: &Variables) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => match text.strip_prefix("${").and_then(|it| it.strip_suffix('}')) {
            Some(name) if !name.contains('}') => find(name, variables)?.clone(),
            _ => Value::String(fill_text(text, variables)?),
        },
        Value::Array(items) => {
            let items = items.iter().map(|item| fill(item, variables));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        Value::Object(entries) => {
            let entries = entries.iter();
            let entries = entries.map(|(key, value)| Ok((key.clone(), fill(value, variables)?)));
            Value::Object(entries.collect::<Result<_, String>>()?)
        }
        other => other.clone(),
    })
}

/// Replaces `${name}` in a text.
///
/// # Errors
/// Names a variable that has no value.
pub(super) fn fill_text(text: &str, variables: &Variables) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else {
            break;
        };
        filled.push_str(before);
        match find(name, variables)? {
            Value::String(text) => filled.push_str(text),
            other => filled.push_str(&other.to_string()),
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn find<'a>(name: &str, variables: &'a Variables) -> Result<&'a Value, String> {
    variables
        .get(name)
        .ok_or_else(|| format!("${{{name}}} has no value"))
}

/// Whether a value has everything that is expected: all entries of an object, all items of an array.
///
/// # Errors
/// Says what differs, and where.
pub(super) fn compare(expected: &Value, value: &Value) -> Result<(), String> {
    differs(expected, value, "").map_or(Ok(()), Err)
}

fn differs(expected: &Value, value: &Value, at: &str) -> Option<String> {
    let place = if at.is_empty() { "the body" } else { at };
    match (expected, value) {
        (Value::Object(expected), Value::Object(value)) => {
            expected
                .iter()
                .find_map(|(key, expected)| match value.get(key) {
                    None => Some(format!("{at}/{key} is missing")),
                    Some(value) => differs(expected, value, &format!("{at}/{key}")),
                })
        }
        (Value::Array(expected), Value::Array(value)) if expected.len() == value.len() => {
            let mut pairs = expected.iter().zip(value).enumerate();
            pairs.find_map(|(n, (expected, value))| differs(expected, value, &format!("{at}/{n}")))
        }
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => None,
        _ if expected == value => None,
        _ => Some(format!(
            "{place} is {}, not {}",
            brief(value),
            brief(expected)
        )),
    }
}

/// A value for a message.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_are_filled_in() {
        let variables = Variables::from([
            ("player".to_owned(), json!(7)),
            ("room".to_owned(), json!({"id": "x"})),
        ]);
        let filled = fill(
            &json!({"a": "bot ${player}!", "b": ["${room}", 1], "c": "$5 ${"}),
            &variables,
        );
        assert_eq!(
            filled,
            Ok(json!({"a": "bot 7!", "b": [{"id": "x"}, 1], "c": "$5 ${"}))
        );
        assert_eq!(
            fill_text("${player}${player}", &variables),
            Ok("77".to_owned())
        );
        assert_eq!(
            fill(&json!("${player}${player}"), &variables),
            Ok(json!("77"))
        );
        assert_eq!(
            fill(&json!("${other}"), &variables),
            Err("${other} has no value".to_owned())
        );
    }

    #[test]
    fn what_is_expected_must_be_there() {
        let value = json!({"a": 1, "b": {"c": [1, 2]}, "d": null});
        for expected in [
            json!({}),
            json!({"a": 1.0}),
            json!({"b": {"c": [1, 2]}}),
            json!({"d": null}),
        ] {
            assert_eq!(compare(&expected, &value), Ok(()), "{expected}");
        }
        for (expected, says) in [
            (json!({"a": 2}), "/a is 1, not 2"),
            (json!({"x": null}), "/x is missing"),
            (json!({"b": {"c": [1]}}), "/b/c is [1,2], not [1]"),
            (json!([]), "the body is"),
        ] {
            let fault = compare(&expected, &value).unwrap_err();
            assert!(fault.contains(says), "{fault}");
        }
    }
}
