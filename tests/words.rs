//! Words that the project no longer uses: names of things that have better ones, and prose about
//! persons where things are meant. `docs/glossary.md` has the terms to use instead.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::HashSet, fs};

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
    // The gate.
    ("alarm", "deadline timer"),
    ("bell", "wake batcher"),
    ("outbox", "send queue"),
    ("excuse", "touch"),
    ("goodbye", "close, close stage, unregister"),
    ("say why", "queue a kick, give the reason"),
    // Dispatch, sessions, the node.
    ("parcel", "remote call"),
    ("blueprint", "node config"),
];

#[test]
fn banned_words_do_not_occur() {
    let mut found = Vec::new();
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
    for file in folders
        .iter()
        .flat_map(|folder| files(folder, &["rs", "md", "proto", "js", "mjs", "html"]))
        .chain(documents)
        .filter(|file| !file.ends_with("tests/words.rs"))
    {
        let text = fs::read_to_string(root().join(&file)).unwrap();
        let words = words(&text);
        let all: HashSet<_> = words.iter().map(|word| singular(word)).collect();
        let may_occur = |phrase: &str| all.contains(singular(phrase.rsplit(' ').next().unwrap()));
        for (banned, instead) in BANNED {
            if may_occur(banned) && occurrences(&words, banned) > 0 {
                found.push(format!("{}: `{banned}`; write: {instead}", file.display()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
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
}
