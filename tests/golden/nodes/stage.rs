//! Plays the recorded counterparts of our nodes.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    mem,
    net::SocketAddr,
    time::Duration,
};

use tonic::{Code, Status};

use super::recording::{Recording, Step, What};
use crate::{
    go::{Call, GoNode, proto::MemberInfo},
    replay::Replay,
    support::{Peer, RawClient},
    transcript::{self, Event, Pace},
};

/// Nodes here beat fast, so that the dead are missed soon.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(300);

pub(crate) struct Stage {
    name: String,
    steps: VecDeque<Step>,
    answer: Vec<MemberInfo>,
    /// Who is played, by name.
    pub(crate) played: BTreeMap<String, GoNode>,
    addresses: HashMap<String, String>,
    sessions: HashMap<i64, i64>,
    outcomes: HashMap<String, Result<Vec<MemberInfo>, Status>>,
    clients: HashMap<String, Replay>,
    gate: Option<SocketAddr>,
}

impl Stage {
    pub(crate) fn new(recording: Recording) -> Self {
        Self {
            name: recording.name,
            steps: recording.steps.into(),
            answer: recording.answer,
            played: BTreeMap::new(),
            addresses: HashMap::new(),
            sessions: HashMap::new(),
            outcomes: HashMap::new(),
            clients: HashMap::new(),
            gate: None,
        }
    }

    /// This node of ours takes the place of the one that had this address. Its clients, if it has
    /// any, are those of the recording.
    pub(crate) fn ours(&mut self, recorded: &str, node: &Peer) {
        self.addresses.insert(recorded.to_owned(), node.node());
        if node.nodes != Some(node.address) {
            self.gate = Some(node.address);
        }
    }

    /// The master is played. It answers registrations as recorded.
    pub(crate) fn cast_master(&mut self, who: &str, recorded: &str, node: GoNode) {
        self.cast(who, recorded, node);
        let members = mem::take(&mut self.answer)
            .into_iter()
            .map(|info| self.info_here(info))
            .collect();
        self.played[who].answer_registrations_with(members);
    }

    /// A node of nano's that is played, in the place of the one that had this address.
    pub(crate) fn cast(&mut self, who: &str, recorded: &str, node: GoNode) {
        self.addresses
            .insert(recorded.to_owned(), node.address.clone());
        self.played.insert(who.to_owned(), node);
    }

    pub(crate) fn node(&mut self, who: &str) -> &mut GoNode {
        self.played.get_mut(who).unwrap()
    }

    pub(crate) fn client(&mut self, who: &str) -> &mut RawClient {
        &mut self.clients.get_mut(who).unwrap().client
    }

    /// What an address in the recording is here.
    pub(crate) fn address(&self, recorded: &str) -> String {
        self.addresses
            .get(recorded)
            .unwrap_or_else(|| panic!("{}: who is {recorded}?", self.name))
            .clone()
    }

    /// Plays everything that is left. Nothing else has come by then.
    pub(crate) async fn play(&mut self) {
        self.play_to(u64::MAX).await;
        for (who, node) in &self.played {
            assert_eq!(node.left_over(), [], "{}: {who}", self.name);
        }
    }

    /// Plays what was recorded before this time.
    pub(crate) async fn play_to(&mut self, time: u64) {
        while self.steps.front().is_some_and(|step| step.at < time) {
            let step = self.steps.pop_front().unwrap();
            self.step(step).await;
        }
    }

    /// Plays what comes before the script did this.
    pub(crate) async fn play_to_note(&mut self, note: &str) {
        loop {
            let step = self
                .steps
                .pop_front()
                .unwrap_or_else(|| panic!("{}: not done: {note}", self.name));
            match step.what {
                What::Note(found) if found == note => return,
                _ => self.step(step).await,
            }
        }
    }

    async fn step(&mut self, Step { at, who, what }: Step) {
        let place = format!("{} at {at} ms, {who}", self.name);
        match what {
            What::Calls { to, call } => {
                let call = self.spoken_here(&who, call).await;
                let registers = match &call {
                    Call::Register(info) if *info != MemberInfo::default() => Some(info.clone()),
                    _ => None,
                };
                let to = self.address(&to);
                if matches!(call, Call::Unregister(_))
                    && let Some(node) = self.played.get(&who)
                {
                    node.fall_silent();
                }
                let outcome = match &registers {
                    Some(info) => self.played[&who].register(&to, info.clone()).await,
                    None => call.send(&to).await,
                };
                if let Some(info) = registers
                    && outcome.is_ok()
                {
                    self.played[&who].show_life(&to, info, HEARTBEAT);
                }
                self.outcomes.insert(who, outcome);
            }
            What::Answered(members) => {
                let expected: Vec<_> = members
                    .into_iter()
                    .map(|info| self.info_here(info))
                    .collect();
                let outcome = self.outcomes.remove(&who).unwrap();
                assert_eq!(
                    outcome.unwrap_or_else(|status| panic!("{place}: {status}")),
                    expected,
                    "{place}"
                );
            }
            What::Refused(message) => {
                let status = self.outcomes.remove(&who).unwrap().expect_err(&place);
                let message = message.map(|message| self.text_here(&message));
                assert_eq!(
                    (status.code(), status.message()),
                    (Code::Unknown, message.unwrap().as_str()),
                    "{place}"
                );
            }
            What::IsCalled(expected) => {
                let traffic = expected.is_traffic();
                let beats = matches!(expected, Call::Heartbeat(_));
                // How often it shows life depends on how long it lives.
                let wanted = |call: &Call| {
                    call.is_traffic() == traffic && matches!(call, Call::Heartbeat(_)) == beats
                };
                eprintln!(
                    "{place}: {expected:?}; left {:?}",
                    self.node(&who).left_over()
                );
                let call = self.node(&who).next_of(wanted).await;
                let expected = self.heard_here(expected, &call);
                assert_eq!(call, expected, "{place}");
            }
            What::Client(event) => {
                if !self.clients.contains_key(&who) {
                    let replay = Replay::begin(RawClient::tcp(self.gate.unwrap())).await;
                    self.clients.insert(who.clone(), replay);
                }
                let ends = matches!(event, Event::Close);
                let step = transcript::Step {
                    at: Duration::from_millis(at),
                    event,
                };
                self.clients
                    .get_mut(&who)
                    .unwrap()
                    .step(&place, &step, Pace::Brisk)
                    .await;
                if ends {
                    self.clients.remove(&who);
                }
            }
            What::Goes => drop(self.clients.remove(&who)),
            What::Note(note) => panic!("{place}: not handled: {note}"),
        }
    }

    /// What was recorded, with the addresses of this run. A node exists from its first message on.
    async fn spoken_here(&mut self, who: &str, mut call: Call) -> Call {
        if let Call::Register(info) = &call
            && *info != MemberInfo::default()
            && !self.addresses.contains_key(&info.service_addr)
        {
            let recorded = info.service_addr.clone();
            self.cast(who, &recorded, GoNode::start().await);
        }
        if let Some(address) = call.address()
            && !address.is_empty()
        {
            *address = self.address(address);
        }
        if let Some(session) = call.session() {
            *session = *self.sessions.entry(*session).or_insert(*session);
        }
        call
    }

    /// What was recorded, as it is heard here: who is seen for the first time is who was seen then.
    fn heard_here(&mut self, mut expected: Call, heard: &Call) -> Call {
        let mut heard = heard.clone();
        if let (Some(expected), Some(heard)) = (expected.address(), heard.address()) {
            *expected = self
                .addresses
                .entry(expected.clone())
                .or_insert_with(|| heard.clone())
                .clone();
        }
        if let (Some(expected), Some(heard)) = (expected.session(), heard.session()) {
            let is_new = !self.sessions.values().any(|known| known == heard);
            if is_new {
                self.sessions.entry(*expected).or_insert(*heard);
            }
            *expected = self.sessions.get(expected).copied().unwrap_or(*expected);
        }
        expected
    }

    fn info_here(&self, info: MemberInfo) -> MemberInfo {
        MemberInfo {
            service_addr: self.address(&info.service_addr),
            ..info
        }
    }

    /// With the addresses and sessions of here.
    fn text_here(&self, text: &str) -> String {
        let addresses = self
            .addresses
            .iter()
            .map(|(recorded, here)| (recorded.clone(), here.clone()));
        let sessions = self
            .sessions
            .iter()
            .map(|(recorded, here)| (recorded.to_string(), here.to_string()));
        let place = |word: &str| {
            addresses
                .clone()
                .chain(sessions.clone())
                .find(|(recorded, _)| recorded == word)
                .map(|(_, here)| here)
        };
        let words: Vec<_> = text
            .split(' ')
            .map(|word| place(word).unwrap_or_else(|| word.to_owned()))
            .collect();
        words.join(" ")
    }
}
