//! What was recorded between nodes, and how our side of it differs.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::{
    go::{
        Call, as_go_sees, exact,
        proto::{MemberInfo, RegisterResponse},
    },
    transcript::{self, Event},
};

/// What nodes of Go nano said to others, which were played by a script, and are so here.
pub(crate) struct Recording {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
    pub(crate) facts: Value,
    /// What a master that is played answers to registrations.
    pub(crate) answer: Vec<MemberInfo>,
    clients: Value,
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// In milliseconds.
    pub(crate) at: u64,
    /// Who is played.
    pub(crate) who: String,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Who is played calls one of ours, which has this address in the recording.
    Calls { to: String, call: Call },
    /// What came of it.
    Answered(Vec<MemberInfo>),
    /// The same: an error with the code UNKNOWN and this message, or another code without one.
    Refused(Option<String>),
    /// One of ours calls.
    IsCalled(Call),
    /// A client of ours.
    Client(Event),
    /// A client that goes.
    Goes,
    /// Something the script did.
    Note(String),
}

impl Recording {
    pub(crate) fn load(name: &str) -> Self {
        let json: Value =
            serde_json::from_slice(&fs::read(folder().join(name).with_extension("json")).unwrap())
                .unwrap();
        let calls = json["calls"].as_array().unwrap();
        let (steps, facts, clients) = (
            calls.iter().filter_map(step).collect(),
            json["facts"].clone(),
            json["clients"].clone(),
        );
        let answer = calls
            .iter()
            .find(|call| call["kind"] == "reply")
            .map(|call| members(&bytes_of(call)))
            .unwrap_or_default();
        Self {
            name: name.to_owned(),
            steps,
            facts,
            answer,
            clients,
        }
    }

    /// The place of the step of this kind at this time.
    pub(crate) fn place(&self, at: u64, is_it: impl Fn(&What) -> bool) -> usize {
        let found = self
            .steps
            .iter()
            .position(|step| step.at == at && is_it(&step.what));
        found.unwrap_or_else(|| panic!("{}: there is no such step at {at} ms", self.name))
    }

    /// This comes of the call that was answered or refused at this time.
    pub(crate) fn outcome(&mut self, at: u64, what: What) {
        let place = self.place(at, |what| {
            matches!(what, What::Answered(_) | What::Refused(_))
        });
        self.steps[place].what = what;
    }

    /// Ours does not make the call that was recorded at this time.
    pub(crate) fn without(&mut self, at: u64) -> Step {
        let place = self.place(at, |what| matches!(what, What::IsCalled(_)));
        self.steps.remove(place)
    }

    /// Ours makes another call instead of the one that was recorded at this time.
    pub(crate) fn instead(&mut self, at: u64, change: impl FnOnce(&mut Call)) {
        let place = self.place(at, |what| matches!(what, What::IsCalled(_)));
        if let What::IsCalled(call) = &mut self.steps[place].what {
            change(call);
        }
    }

    /// Ours makes one more call after what was recorded at this time.
    pub(crate) fn also(&mut self, at: u64, who: &str, call: Call) {
        self.then(
            at,
            Step {
                at,
                who: who.to_owned(),
                what: What::IsCalled(call),
            },
        );
    }

    /// This comes after everything that was recorded until this time.
    pub(crate) fn then(&mut self, at: u64, step: Step) {
        let place = self
            .steps
            .iter()
            .position(|step| step.at > at)
            .unwrap_or(self.steps.len());
        self.steps.insert(place, step);
    }

    /// Puts a client between the nodes. It is recorded by a clock of its own; its first message was
    /// seen on another node at this time. It goes just before that node was notified.
    pub(crate) fn with_client(&mut self, name: &str, first: u64, gone: Option<u64>) {
        let events = transcript::steps(self.clients[name].as_array().unwrap());
        let own = |event: &transcript::Step| event.at.as_millis() as u64;
        let is_data = |event: &&transcript::Step| matches!(&event.event, Event::Send(frame) if frame.payload[0] == 4);
        let begun = first - own(events.iter().find(is_data).unwrap());
        let mut steps: Vec<_> = events
            .into_iter()
            .map(|event| Step {
                at: begun + own(&event),
                who: name.to_owned(),
                what: What::Client(event.event),
            })
            .collect();
        if let Some(at) = gone {
            steps.push(Step {
                at,
                who: name.to_owned(),
                what: What::Goes,
            });
        }
        // Before the nodes do what comes of it.
        steps.append(&mut self.steps);
        steps.sort_by_key(|step| step.at);
        self.steps = steps;
    }
}

fn step(recorded: &Value) -> Option<Step> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let method = text(&recorded["method"])
        .rsplit('/')
        .next()
        .unwrap()
        .to_owned();
    let bytes = bytes_of(recorded);
    let call = || Call::decode(&method, &bytes);
    let what = match recorded["kind"].as_str().unwrap() {
        "in" => What::IsCalled(call()),
        "reply" => return None,
        "out" => What::Calls {
            to: text(&recorded["to"]),
            call: call(),
        },
        "out-reply" if method == "Register" => What::Answered(members(&bytes)),
        "out-reply" => What::Answered(Vec::new()),
        "out-error" => What::Refused(
            Some(text(&recorded["details"])).filter(|_| recorded["code"] == "StatusCode.UNKNOWN"),
        ),
        "note" => What::Note(text(&recorded["method"])),
        other => panic!("{other}"),
    };
    let at = (recorded["t"].as_f64().unwrap() * 1000.0).round() as u64;
    Some(Step {
        at,
        who: text(&recorded["at"]),
        what,
    })
}

fn bytes_of(recorded: &Value) -> Vec<u8> {
    transcript::bytes(recorded["hex"].as_str().unwrap_or_default())
}

fn members(bytes: &[u8]) -> Vec<MemberInfo> {
    exact::<RegisterResponse>(bytes)
        .members
        .into_iter()
        .map(as_go_sees)
        .collect()
}

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cluster")
}
