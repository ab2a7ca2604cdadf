//! Words that the project no longer uses: names of things that have better ones, and prose about
//! persons where things are meant. `docs/glossary.md` has the terms to use instead.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

#[path = "layering/source.rs"]
#[allow(dead_code, reason = "only the list of files is used here")]
mod source;

use source::{files, root};

/// What must not occur, and what to write instead. Names are found inside of identifiers too, in
/// any case, and in the plural: `alarm` is found in `set_alarm`, `AlarmClock` and `ALARMS`.
const BANNED: &[(&str, &str)] = &[
    // Persons and moods.
    (
        "nobody",
        "say which thing does not: no member, no task, no client",
    ),
    ("somebody", "name it: a member, a task, a client"),
    ("everybody", "all members, all clients"),
    ("anybody", "any member, any client"),
    ("whoever", "the member that, the caller that"),
    ("who is silent", "a silent peer, a suspect peer"),
    ("who is known", "a known member"),
    ("who asks", "the caller"),
    ("is told", "receives, is notified, learns from"),
    ("are told", "receive, are notified, learn from"),
    ("was told", "received, was notified"),
    ("been told", "received, been notified"),
    ("the word of", "authority"),
    ("complain", "log a failure"),
    ("depart", "leave, begin a removal"),
    ("knowledge", "the table, the peer's view"),
    ("says for itself", "sends of its own"),
    // The cluster.
    ("attendance", "membership client"),
    ("pulse", "heartbeat"),
    ("standing", "registration state, view status"),
    ("rhythm", "heartbeat config"),
    ("patience", "eviction timeout"),
    ("announcer", "broadcaster"),
    ("stranger", "unverified peer"),
    ("outlet", "outbound"),
    ("inlet", "inbound"),
    ("shard", "stream"),
    ("pairing", "session window"),
    ("crowded", "congested"),
    ("modest", "under its share"),
    ("vigil", "failure detector"),
    ("introduction", "a second announcement"),
    ("succeeding", "inheriting"),
    ("synced", "RESYNC_DONE"),
    ("lane", "sequencer, call queue"),
    ("relay", "multicast; rpc or call via the gate; pass on"),
    // The gate.
    ("alarm", "deadline timer"),
    ("ring", "deadline timer, wake"),
    ("backlog", "send queue, quota; of a socket: listen backlog"),
    ("bell", "wake batcher"),
    ("outbox", "send queue"),
    ("excuse", "touch"),
    ("goodbye", "close, close stage, unregister"),
    ("say why", "queue a kick, give the reason"),
    // Dispatch, sessions, the node.
    ("parcel", "remote call"),
    ("blueprint", "node config"),
];

/// Names that others have given to what is theirs: a crate of rustls, a bound of sockets.
const OF_OTHERS: &[&str] = &[
    "crypto ring",
    "provider ring",
    "ring default provider",
    "listen backlog",
];

/// Words for what players read, which names of the framework must not be: what it would be for, and
/// what to write instead.
const BANNED_IN_SOURCE: &[(&str, &str)] = &[
    ("welcome", "accept a stream, open a session"),
    ("news", "membership delta, change"),
];

#[test]
fn banned_words_do_not_occur() {
    let folders = [
        "src",
        "crates",
        "docs",
        "proto",
        "examples",
        "tests",
        "benchmark",
        "deploy",
        "fuzz",
    ];
    let documents = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(Into::into);
    let all = all_files(&folders).chain(documents);
    let mut found = occurring(BANNED, all);
    found.extend(occurring(
        BANNED_IN_SOURCE,
        all_files(&["src", "crates", "proto"]),
    ));
    assert!(found.is_empty(), "{found:#?}");
}

fn all_files(folders: &[&str]) -> impl Iterator<Item = PathBuf> {
    let extensions = ["rs", "md", "proto", "js", "mjs", "html"];
    folders
        .iter()
        .flat_map(move |folder| files(folder, &extensions))
}

fn occurring(banned: &[(&str, &str)], files: impl Iterator<Item = PathBuf>) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.filter(|file| !file.ends_with("tests/words.rs")) {
        let text = fs::read_to_string(root().join(&file)).unwrap();
        let words = words(&text);
        let all: HashSet<_> = words.iter().map(|word| singular(word)).collect();
        let may_occur = |phrase: &str| all.contains(singular(phrase.rsplit(' ').next().unwrap()));
        for (banned, instead) in banned {
            if may_occur(banned) && occurrences(&words, banned) > of_others(&words, banned) {
                found.push(format!("{}: `{banned}`; write: {instead}", file.display()));
            }
        }
    }
    found
}

/// How often a word is part of a name that others have given.
fn of_others(words: &[String], banned: &str) -> usize {
    let names = OF_OTHERS.iter();
    names
        .filter(|name| name.split(' ').any(|word| word == banned))
        .map(|name| occurrences(words, name))
        .sum()
}

/// The rest of the cluster asks what a member can do; which program has which limits, and why, is in
/// `cluster/compat`. Elsewhere in `src` prose may name Go nano, as the source of a rule of the client
/// protocol or for those who run both, but no code does.
#[test]
fn go_nano_is_one_adapter() {
    let mut found = Vec::new();
    for file in files("src", &["rs"]) {
        let adapter = Path::new("src/cluster/compat");
        if file.starts_with(adapter)
            || file == adapter.with_extension("rs")
            || file.starts_with("src/cluster/generated")
        {
            continue;
        }
        let text = fs::read_to_string(root().join(&file)).unwrap();
        for (at, line) in text.lines().enumerate() {
            let is_prose = line.trim_start().starts_with("//") && !file.starts_with("src/cluster");
            // The guide, and an option for those who run both.
            let is_of_porting = ["from-go-nano", "from_go_nano", "trust_go_nodes"]
                .iter()
                .any(|name| line.contains(name));
            if !is_prose && !is_of_porting && names_go(line) {
                found.push(format!("{}:{}: {line}", file.display(), at + 1));
            }
        }
    }
    assert!(
        found.is_empty(),
        "say what the member can do; the reason is for `cluster/compat`: {found:#?}"
    );
}

/// Whether a line names the language or its nano: in prose, which writes it with a capital, or in an
/// identifier, unless that is the verb.
fn names_go(line: &str) -> bool {
    let letters = |text: &str| text.chars().all(|letter| letter.is_alphanumeric());
    let mut identifiers = line.split(|letter: char| letter != '_' && !letter.is_alphanumeric());
    identifiers.any(|identifier| {
        let parts: Vec<_> = identifier.split('_').collect();
        let is_verb = |at: usize| {
            parts.get(at + 1) == Some(&"on") || at > 0 && ["and", "next"].contains(&parts[at - 1])
        };
        let in_snake_case = parts.len() > 1
            && (parts.iter().enumerate())
                .any(|(at, part)| part.eq_ignore_ascii_case("go") && !is_verb(at));
        let camel = identifier.starts_with("Go")
            && letters(identifier)
            && !identifier[2..].starts_with(char::is_lowercase);
        in_snake_case || camel
    })
}

#[test]
fn names_of_go_are_told_from_the_verb() {
    for line in [
        "if member.is_go() {",
        "let go_master = true;",
        "Node::Go(model)",
        "struct GoMember;",
        "// a node of Go nano",
        "// Go's table",
        "pub mod from_go_nano {}",
    ] {
        assert!(names_go(line), "{line}");
    }
    for line in [
        "self.go_on(session)",
        "let come_and_go = 1;",
        "async fn a_dropped_ticket_lets_the_next_go() {}",
        "// new sessions go to others",
        "Kind::Goaway",
        "google_pay()",
    ] {
        assert!(!names_go(line), "{line}");
    }
}

/// How often these words follow each other, the last one in the singular or the plural.
fn occurrences(words: &[String], phrase: &str) -> usize {
    let phrase: Vec<_> = phrase.split(' ').collect();
    let (last, before) = phrase.split_last().unwrap();
    words
        .windows(phrase.len())
        .filter(|window| {
            let found = &window[before.len()];
            window
                .iter()
                .zip(before)
                .all(|(word, wanted)| word == wanted)
                && singular(found) == singular(last)
        })
        .count()
}

fn singular(word: &str) -> &str {
    if word == "news" {
        return word;
    }
    word.strip_suffix('s').unwrap_or(word)
}

/// The words of a text in lower case, those of which identifiers are made among them.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for letter in text.chars() {
        if !letter.is_alphanumeric() || (letter.is_uppercase() && before.is_lowercase()) {
            words.push(String::new());
        }
        if letter.is_alphanumeric() {
            words.last_mut().unwrap().extend(letter.to_lowercase());
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn words_are_found_in_identifiers_and_across_lines() {
    let words = words("/// a member is\n/// told. fn set_alarm(a: AlarmClock, b: &[ALARMS]) {}");
    assert_eq!(occurrences(&words, "alarm"), 3);
    assert_eq!(occurrences(&words, "is told"), 1);
    assert_eq!(occurrences(&words, "told"), 1);
    assert_eq!(occurrences(&words, "larm"), 0);

    let words = self::words("use rustls::crypto::ring; fn ring_once() {}");
    assert_eq!(
        (occurrences(&words, "ring"), of_others(&words, "ring")),
        (2, 1)
    );
}
