//! The commands of a line.

use std::time::Duration;

use serde_json::value::RawValue;

use crate::duration;

/// The commands, for people.
pub(super) const HELP: &str = "\
Commands:
  request ROUTE [BODY]   sends a request, and prints its response     (r)
  notify ROUTE [BODY]    sends a notify                               (n)
  on ROUTE               prints the pushes of a route; * for all
  off ROUTE              prints them no longer
  wait ROUTE [TIME]      waits for the next push of `on`, 10s at most
  sleep TIME             waits
  routes                 lists the routes that are known
  help, quit
A body is JSON, null without one. A line that begins with # is a comment.";

/// How long `wait` waits.
const WAIT: Duration = Duration::from_secs(10);

#[derive(Debug, PartialEq)]
pub(super) enum Command {
    Request { route: String, body: String },
    Notify { route: String, body: String },
    On(String),
    Off(String),
    Wait { route: String, within: Duration },
    Sleep(Duration),
    Routes,
    Help,
    Quit,
}

/// The names of all commands.
pub(super) const NAMES: [&str; 9] = [
    "help", "notify", "off", "on", "quit", "request", "routes", "sleep", "wait",
];

/// Parses a line; `None` for an empty one and a comment. A raw body is not checked.
///
/// # Errors
/// Says what is wrong with the line.
pub(super) fn parse(line: &str, raw: bool) -> Result<Option<Command>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (name, rest) = word(line);
    let message = || {
        let (route, body) = word(rest);
        Ok::<_, String>((required(name, "a route", route)?, self::body(body, raw)?))
    };
    Ok(Some(match name {
        "request" | "r" => {
            let (route, body) = message()?;
            Command::Request { route, body }
        }
        "notify" | "n" => {
            let (route, body) = message()?;
            Command::Notify { route, body }
        }
        "on" => Command::On(only(name, "a route", rest)?),
        "off" => Command::Off(only(name, "a route", rest)?),
        "wait" => {
            let (route, within) = word(rest);
            let route = required(name, "a route", route)?;
            let within = match within {
                "" => WAIT,
                within => duration::parse(within)?,
            };
            Command::Wait { route, within }
        }
        "sleep" => Command::Sleep(duration::parse(&only(name, "a time", rest)?)?),
        "routes" => Command::Routes,
        "help" | "?" => Command::Help,
        "quit" | "exit" => Command::Quit,
        other => return Err(format!("no command {other:?}: `help` lists them")),
    }))
}

fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    match text.find(char::is_whitespace) {
        Some(end) => (&text[..end], text[end..].trim_start()),
        None => (text, ""),
    }
}

fn required(command: &str, what: &str, word: &str) -> Result<String, String> {
    match word {
        "" => Err(format!("`{command}` needs {what}")),
        word => Ok(word.to_owned()),
    }
}

fn only(command: &str, what: &str, text: &str) -> Result<String, String> {
    match word(text) {
        (word, "") => required(command, what, word),
        (_, more) => Err(format!(
            "`{command}` takes {what}, and not {more:?} after it"
        )),
    }
}

fn body(text: &str, raw: bool) -> Result<String, String> {
    match text {
        text if raw => Ok(text.to_owned()),
        "" => Ok("null".to_owned()),
        text => match serde_json::from_str::<&RawValue>(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(format!("the body is not JSON: {error}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands() {
        let request = |route: &str, body: &str| Command::Request {
            route: route.to_owned(),
            body: body.to_owned(),
        };
        for (line, command) in [
            ("request A.B", request("A.B", "null")),
            (
                "  r  A.B  {\"a\": [1, \"x y\"]} ",
                request("A.B", "{\"a\": [1, \"x y\"]}"),
            ),
            ("on onA", Command::On("onA".to_owned())),
            ("sleep 20ms", Command::Sleep(Duration::from_millis(20))),
            ("exit", Command::Quit),
        ] {
            assert_eq!(parse(line, false), Ok(Some(command)), "{line}");
        }
        let wait = Command::Wait {
            route: "onA".to_owned(),
            within: Duration::from_secs(1),
        };
        assert_eq!(parse("wait onA 1s", false), Ok(Some(wait)));
        assert_eq!(parse("r A.B x y", true), Ok(Some(request("A.B", "x y"))));
        for line in ["", "  ", "# request A.B"] {
            assert_eq!(parse(line, false), Ok(None));
        }
    }

    #[test]
    fn what_is_no_command_is_an_error() {
        for line in [
            "frob",
            "request",
            "notify",
            "on",
            "on a b",
            "off",
            "wait",
            "wait a soon",
            "sleep",
            "sleep 1",
            "request A.B {",
            "request A.B {} {}",
            "request A.B 'x'",
            "\u{1b}[A",
            "é",
        ] {
            assert!(parse(line, false).is_err(), "{line:?}");
        }
    }

    #[test]
    fn every_command_is_in_the_help() {
        for name in NAMES {
            assert!(HELP.contains(name), "{name}");
        }
    }
}
