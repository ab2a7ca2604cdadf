//! What one client has sent and seen, and what must be true of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// One client, of either kind. Its messages go to its gate, 0, and to a backend, 1; those to each are
/// numbered from 0, even ones being notifies and odd ones requests.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: u32,
    pub(crate) sent: [u32; 2],
    /// Messages to the group of all clients.
    pub(crate) broadcasts: u32,
    /// The requests that were answered, with their own number.
    pub(crate) answered: [Vec<u32>; 2],
    /// The pushes, in order: one for each notify, and two in front of each answer.
    pub(crate) pushed: [Vec<u32>; 2],
    /// The messages of the group, by their sender.
    pub(crate) heard: BTreeMap<u32, Vec<u32>>,
    /// How often it has asked for ids.
    pub(crate) looked: u32,
    /// The ids of the session and its user, as gate and backend see them.
    pub(crate) sessions: BTreeSet<(i64, i64)>,
    pub(crate) resumed: u32,
    /// Events that end a session or a client.
    pub(crate) ended: Vec<String>,
}

impl Record {
    /// The user id of this client.
    pub(crate) fn user(name: u32) -> i64 {
        i64::from(name) + 1
    }

    /// The pushes to it alone.
    pub(crate) fn pushes(&self) -> u32 {
        self.pushed.iter().map(|numbers| numbers.len() as u32).sum()
    }

    /// The messages of the group that it got.
    pub(crate) fn heard(&self) -> u32 {
        self.heard
            .values()
            .map(|numbers| numbers.len() as u32)
            .sum()
    }

    /// All messages that it has sent; two are for its login.
    pub(crate) fn messages_up(&self) -> u32 {
        self.sent[0] + self.sent[1] + self.broadcasts + self.looked + 2
    }

    /// All messages that it got.
    pub(crate) fn messages_down(&self) -> u32 {
        let answers = self.answered.iter().map(|numbers| numbers.len() as u32);
        self.pushes() + self.heard() + answers.sum::<u32>() + self.looked + 2
    }
}

/// What is wrong with these clients, which have played together.
pub(crate) fn faults(records: &[Record]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut sessions = BTreeMap::new();
    for record in records {
        let name = record.name;
        let mut expect = |what: String, expected: &[u32], seen: &[u32]| {
            if let Some(difference) = difference(expected, seen) {
                faults.push(format!("client {name}: {what}: {difference}"));
            }
        };
        for (to, sent) in record.sent.into_iter().enumerate() {
            let requests: Vec<_> = (0..sent).filter(|number| number % 2 == 1).collect();
            let mut answered = record.answered[to].clone();
            // They arrive in order; what waits for them may run in any.
            answered.sort_unstable();
            expect(format!("answers of {to}"), &requests, &answered);
            let pushes = (0..sent).flat_map(|number| vec![number; 1 + number as usize % 2]);
            let pushes: Vec<_> = pushes.collect();
            expect(format!("pushes of {to}"), &pushes, &record.pushed[to]);
        }
        for other in records {
            let expected: Vec<_> = (0..other.broadcasts).collect();
            let heard = record.heard.get(&other.name);
            let heard = heard.map_or(&[][..], Vec::as_slice);
            expect(format!("broadcasts of {}", other.name), &expected, heard);
        }
        let ids: Vec<_> = record.sessions.iter().copied().collect();
        match ids[..] {
            [(id, user)] if user == Record::user(name) => {
                if let Some(other) = sessions.insert(id, name) {
                    faults.push(format!("clients {name}, {other}: one session"));
                }
            }
            _ => faults.push(format!("client {name}: its sessions are {ids:?}")),
        }
        if !record.ended.is_empty() {
            faults.push(format!("client {name}: {:?}", record.ended));
        }
    }
    faults
}

/// Where they differ first, with what is around it.
fn difference(expected: &[u32], seen: &[u32]) -> Option<String> {
    if expected == seen {
        return None;
    }
    let same = expected.iter().zip(seen).take_while(|(a, b)| a == b);
    let at = same.count();
    let part = |numbers: &[u32]| {
        let end = numbers.len().min(at + 5);
        format!("{:?}", &numbers[at.saturating_sub(2).min(end)..end])
    };
    Some(format!(
        "{} of {}; at {at} {} instead of {}",
        seen.len(),
        expected.len(),
        part(seen),
        part(expected)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(name: u32) -> Record {
        let heard = [(0, vec![0, 1]), (1, vec![0, 1])];
        Record {
            name,
            sent: [4, 2],
            broadcasts: 2,
            answered: [vec![3, 1], vec![1]],
            pushed: [vec![0, 1, 1, 2, 3, 3], vec![0, 1, 1]],
            heard: heard.into(),
            sessions: [(i64::from(name) + 70, Record::user(name))].into(),
            ..Record::default()
        }
    }

    #[test]
    fn the_oracle_finds_what_is_lost_repeated_or_reordered() {
        assert_eq!(faults(&[played(0), played(1)]), [""; 0]);
        let changes: [fn(&mut Record); 12] = [
            |it| _ = it.pushed[0].remove(3),
            |it| _ = it.pushed[0].pop(),
            |it| it.pushed[0].insert(3, 2),
            |it| it.pushed[1].swap(0, 1),
            |it| it.pushed[1].push(2),
            |it| _ = it.answered[0].pop(),
            |it| it.answered[1].push(1),
            |it| _ = it.heard.remove(&1),
            |it| it.heard.get_mut(&0).unwrap().push(1),
            |it| _ = it.sessions.insert((99, 2)),
            |it| it.sessions = [(70, 2)].into(),
            |it| it.ended.push("lost".to_owned()),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut second = played(1);
            change(&mut second);
            let found = faults(&[played(0), second]);
            assert_eq!(found.len(), 1, "change {at}: {found:?}");
        }
    }
}
