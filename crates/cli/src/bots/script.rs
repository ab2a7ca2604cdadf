//! What the players do, as a file says it.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::Path,
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

use crate::duration;

/// The bounds of a script.
pub(super) const MAX_PLAYERS: u32 = 100_000;
const MAX_FILE: u64 = 1 << 20;
const MAX_STEPS: usize = 1000;
const MAX_DEPTH: usize = 8;

/// How long a run lasts at most, unless the script says otherwise.
const TIME: Duration = Duration::from_secs(600);

/// How long a push is waited for, unless the step says otherwise.
const WITHIN: Duration = Duration::from_secs(10);

/// A whole script, checked.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) url: String,
    pub(super) players: Players,
    pub(super) limits: Limits,
    pub(super) steps: Vec<Step>,
    /// The routes whose pushes are waited for.
    pub(super) pushes: Vec<String>,
}

/// How many players there are, and when.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Players {
    pub(super) count: u32,
    #[serde(deserialize_with = "time")]
    pub(super) ramp: Duration,
    #[serde(deserialize_with = "time")]
    pub(super) time: Duration,
}

impl Default for Players {
    fn default() -> Self {
        Self {
            count: 1,
            ramp: Duration::ZERO,
            time: TIME,
        }
    }
}

/// What a run must hold.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    /// The part of the steps that may fail, from 0 to 1.
    pub(super) failed: f64,
    /// The longest 99th percentile of any request.
    #[serde(deserialize_with = "some_time")]
    pub(super) p99: Option<Duration>,
}

/// One step, checked.
#[derive(Debug)]
pub(super) struct Step {
    /// How the report names it.
    pub(super) name: String,
    pub(super) action: Action,
}

#[derive(Debug)]
pub(super) enum Action {
    Connect {
        user: Value,
    },
    Request(Request),
    Notify {
        route: String,
        body: Value,
    },
    Push {
        route: String,
        within: Duration,
        expect: Option<Value>,
        save: Save,
    },
    Wait {
        from: Duration,
        to: Duration,
    },
    Disconnect,
    Loop {
        turns: Turns,
        steps: Vec<Step>,
    },
}

/// Names of variables, and where in the answer their values are.
pub(super) type Save = BTreeMap<String, String>;

#[derive(Debug)]
pub(super) struct Request {
    pub(super) route: String,
    pub(super) body: Value,
    pub(super) expect: Option<Value>,
    /// The code of the error reply that is expected.
    pub(super) error: Option<String>,
    pub(super) within: Option<Duration>,
    pub(super) save: Save,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Turns {
    Count(u64),
    For(Duration),
}

/// The file as it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    url: String,
    #[serde(default)]
    players: Players,
    #[serde(default)]
    limits: Limits,
    steps: Vec<RawStep>,
}

/// A step as it is in the file: one of the first group, and what belongs to it.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawStep {
    connect: Option<RawConnect>,
    request: Option<String>,
    notify: Option<String>,
    push: Option<String>,
    wait: Option<Wait>,
    disconnect: Option<bool>,
    r#loop: Option<u64>,
    #[serde(deserialize_with = "some_time")]
    r#for: Option<Duration>,

    name: Option<String>,
    body: Option<Value>,
    expect: Option<Value>,
    error: Option<String>,
    #[serde(deserialize_with = "some_time")]
    within: Option<Duration>,
    save: Option<Save>,
    steps: Option<Vec<RawStep>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawConnect {
    user: Value,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a time such as \"1s\", or two for a time in between"
)]
enum Wait {
    One(String),
    Between([String; 2]),
}

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    duration::parse(&text).map_err(D::Error::custom)
}

fn some_time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    time(from).map(Some)
}

/// Reads no more than shows that a file is too long: some have no end.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)?;
    Ok(text)
}

impl Script {
    /// # Errors
    /// Names the file, and what is wrong with it.
    pub(super) fn load(path: &Path) -> Result<Self, String> {
        let named = |fault: String| format!("{}: {fault}", path.display());
        let text = read(path).map_err(|error| named(error.to_string()))?;
        Self::parse(&text).map_err(named)
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.len() as u64 > MAX_FILE {
            return Err("the script is longer than 1 MiB".to_owned());
        }
        let file: File = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| 1 + before.matches('\n').count());
            format!(
                "not valid TOML of a script, line {line}: {}",
                error.message()
            )
        })?;
        let (players, limits) = (file.players, file.limits);
        if !(1..=MAX_PLAYERS).contains(&players.count) {
            return Err(format!("players.count must be from 1 to {MAX_PLAYERS}"));
        }
        if !(0.0..=1.0).contains(&limits.failed) {
            return Err("limits.failed must be from 0 to 1".to_owned());
        }
        let mut checked = Checked::default();
        let mut steps = checked.steps("steps", file.steps, 0)?;
        if !matches!(
            steps.first().map(|step| &step.action),
            Some(Action::Connect { .. })
        ) {
            steps.insert(0, connect(Value::Null));
        }
        Ok(Self {
            url: file.url,
            players,
            limits,
            steps,
            pushes: checked.pushes,
        })
    }
}

fn connect(user: Value) -> Step {
    Step {
        name: "connect".to_owned(),
        action: Action::Connect { user },
    }
}

/// What was found while steps are checked.
#[derive(Default)]
struct Checked {
    count: usize,
    pushes: Vec<String>,
}

impl Checked {
    fn steps(&mut self, at: &str, steps: Vec<RawStep>, depth: usize) -> Result<Vec<Step>, String> {
        if steps.is_empty() {
            return Err(format!("{at} is empty"));
        }
        if depth == MAX_DEPTH {
            return Err(format!("{at}: loops are more than {MAX_DEPTH} deep"));
        }
        let steps = steps.into_iter().enumerate();
        let steps = steps.map(|(number, step)| self.step(&format!("{at}[{number}]"), step, depth));
        steps.collect()
    }

    fn step(&mut self, at: &str, raw: RawStep, depth: usize) -> Result<Step, String> {
        self.count += 1;
        if self.count > MAX_STEPS {
            return Err(format!("{at}: more than {MAX_STEPS} steps"));
        }
        let kind = raw.kind().map_err(|fault| format!("{at}: {fault}"))?;
        if let Some(stray) = raw.stray(kind) {
            return Err(format!("{at}: a step with `{kind}` has no `{stray}`"));
        }
        let body = raw.body.unwrap_or_default();
        let save = raw.save.unwrap_or_default();
        if let Some(path) = save
            .values()
            .find(|path| !path.is_empty() && !path.starts_with('/'))
        {
            return Err(format!(
                "{at}: {path:?} in `save` is no path such as /room/id"
            ));
        }
        let (route, action) = match kind {
            "connect" => {
                let user = raw.connect.unwrap_or_default().user;
                (None, Action::Connect { user })
            }
            "request" => {
                let route = raw.request.unwrap_or_default();
                let request = Request {
                    route: route.clone(),
                    body,
                    expect: raw.expect,
                    error: raw.error,
                    within: raw.within,
                    save,
                };
                (Some(route), Action::Request(request))
            }
            "notify" => {
                let route = raw.notify.unwrap_or_default();
                (Some(route.clone()), Action::Notify { route, body })
            }
            "push" => {
                let route = raw.push.unwrap_or_default();
                if !self.pushes.contains(&route) {
                    self.pushes.push(route.clone());
                }
                let action = Action::Push {
                    route: route.clone(),
                    within: raw.within.unwrap_or(WITHIN),
                    expect: raw.expect,
                    save,
                };
                (Some(route), action)
            }
            "wait" => {
                let parse =
                    |text: &str| duration::parse(text).map_err(|fault| format!("{at}: {fault}"));
                let (from, to) = match raw.wait {
                    Some(Wait::Between([from, to])) => (parse(&from)?, parse(&to)?),
                    Some(Wait::One(time)) => (parse(&time)?, parse(&time)?),
                    None => (Duration::ZERO, Duration::ZERO),
                };
                if from > to {
                    return Err(format!("{at}: the first time of `wait` is the longer one"));
                }
                (None, Action::Wait { from, to })
            }
            "disconnect" => (None, Action::Disconnect),
            _ => {
                let turns = match (raw.r#loop, raw.r#for) {
                    (Some(count), _) => Turns::Count(count),
                    (None, time) => Turns::For(time.unwrap_or_default()),
                };
                let steps = raw.steps.unwrap_or_default();
                let steps = self.steps(&format!("{at}.steps"), steps, depth + 1)?;
                (None, Action::Loop { turns, steps })
            }
        };
        let name = raw.name.or(route.map(|route| match kind {
            "request" => route,
            kind => format!("{kind} {route}"),
        }));
        Ok(Step {
            name: name.unwrap_or_else(|| kind.to_owned()),
            action,
        })
    }
}

impl RawStep {
    /// The one kind of the step.
    fn kind(&self) -> Result<&'static str, String> {
        let kinds = [
            ("connect", self.connect.is_some()),
            ("request", self.request.is_some()),
            ("notify", self.notify.is_some()),
            ("push", self.push.is_some()),
            ("wait", self.wait.is_some()),
            ("disconnect", self.disconnect.is_some()),
            ("loop", self.r#loop.is_some()),
            ("for", self.r#for.is_some()),
        ];
        let mut found = kinds.iter().filter(|(_, is)| *is).map(|(kind, _)| *kind);
        match (found.next(), found.next()) {
            (Some(kind), None) => Ok(kind),
            (None, _) => {
                let kinds: Vec<_> = kinds.iter().map(|(kind, _)| *kind).collect();
                Err(format!("a step has one of: {}", kinds.join(", ")))
            }
            (Some(one), Some(other)) => Err(format!("`{one}` and `{other}` are two steps")),
        }
    }

    /// What is there and does not belong to a step of this kind.
    fn stray(&self, kind: &str) -> Option<&'static str> {
        let allowed: &[&str] = match kind {
            "request" => &["name", "body", "expect", "error", "within", "save"],
            "notify" => &["name", "body"],
            "push" => &["name", "expect", "within", "save"],
            "loop" | "for" => &["steps"],
            "connect" => &["name"],
            _ => &[],
        };
        let given = [
            ("name", self.name.is_some()),
            ("body", self.body.is_some()),
            ("expect", self.expect.is_some()),
            ("error", self.error.is_some()),
            ("within", self.within.is_some()),
            ("save", self.save.is_some()),
            ("steps", self.steps.is_some()),
        ];
        let mut stray = given
            .iter()
            .filter(|(name, is)| *is && !allowed.contains(name));
        stray.next().map(|(name, _)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_checked_as_a_whole() {
        let script = Script::parse(
            r#"
            url = "tcp://127.0.0.1:3250"
            players = { count = 5, ramp = "2s" }
            limits = { p99 = "50ms" }
            [[steps]]
            request = "Room.Join"
            body = { name = "bot ${player}" }
            save = { room = "/id" }
            [[steps]]
            loop = 3
            steps = [{ push = "onA" }, { wait = ["1s", "2s"] }, { push = "onA", name = "again" }]
            "#,
        )
        .unwrap();
        let names: Vec<_> = script.steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["connect", "Room.Join", "loop"]);
        assert_eq!(script.pushes, ["onA"]);
        assert_eq!(script.players.time, TIME);
    }

    #[test]
    fn a_fault_is_named_with_its_place() {
        let deep = format!(
            "{}{{ wait = \"1s\" }}{}",
            "{ loop = 1, steps = [".repeat(9),
            "] }".repeat(9)
        );
        for (steps, says) in [
            ("", "steps is empty"),
            ("{}", "steps[0]: a step has one of"),
            ("{ request = \"A.B\", notify = \"A.B\" }", "two steps"),
            (
                "{ wait = \"1s\" }, { notify = \"A.B\", expect = 1 }",
                "steps[1]: a step with `notify` has no `expect`",
            ),
            ("{ wait = 1 }", "a time such as"),
            ("{ wait = [\"2s\", \"1s\"] }", "the longer one"),
            ("{ loop = 2 }", "steps[0].steps is empty"),
            ("{ loop = -2 }", "u64"),
            ("{ request = \"A.B\", save = { a = \"b\" } }", "no path"),
            ("{ reqest = \"A.B\" }", "unknown field"),
            (&deep, "deep"),
        ] {
            let fault = Script::parse(&format!("steps = [{steps}]")).unwrap_err();
            assert!(fault.contains(says), "{steps}: {fault}");
        }
        for (text, says) in [
            ("", "missing field"),
            ("steps = 1", "sequence"),
            (
                "players = { count = 0 }\nsteps = [{ wait = \"1s\" }]",
                "players.count",
            ),
            (
                "limits = { failed = 2.0 }\nsteps = [{ wait = \"1s\" }]",
                "limits.failed",
            ),
            (
                "players = { ramp = \"soon\" }\nsteps = [{ wait = \"1s\" }]",
                "duration",
            ),
            ("\u{0}", "TOML"),
        ] {
            let fault = Script::parse(text).unwrap_err();
            assert!(fault.contains(says), "{text}: {fault}");
        }
    }
}
