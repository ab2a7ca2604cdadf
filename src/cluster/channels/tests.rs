//! What owners and gates do with messages that are late, lost in part, or of another view: cases that
//! the simulation seldom makes.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    gate::{Gate, GateEffect},
    history::Keep,
    message::{Handover, JoinAnswer, JoinedAt, Name, Publication, ToGate, ToOwner},
    owner::Owner,
    request::{OwnerEffect, Publish, Request},
    view::{Address, View},
};
use crate::channel::Position;

const KEEP: Keep = Keep {
    count: 10,
    ttl: Duration::from_secs(60),
};

fn view(nodes: &[&str]) -> View {
    View::new(nodes.iter().map(|node| (Address::from(*node), 1)).collect())
}

/// A channel with these owners in these views.
fn channel(owners: &[(&View, &str)]) -> Name {
    let mut names = (0..).map(|number| Name::from(format!("guild.{number}")));
    let owns = |(view, node): &(&View, &str), name: &Name| {
        let owner = view.owner(name);
        owner.is_some_and(|owner| **owner == **node)
    };
    let name = names.find(|name| owners.iter().all(|it| owns(it, name)));
    name.unwrap()
}

/// An owner, and what it did.
struct Node {
    owner: Owner<u32>,
    effects: Vec<OwnerEffect<u32>>,
    now: Instant,
}

impl Node {
    fn new(own: &str, view: &View) -> Self {
        let now = Instant::now();
        let mut node = Self {
            owner: Owner::new(own.into(), 1_000, 100, now),
            effects: Vec::new(),
            now,
        };
        node.set_view(view);
        node
    }

    fn set_view(&mut self, view: &View) {
        self.owner
            .set_view(view.clone(), self.now, &mut self.effects);
    }

    fn receive(&mut self, from: &str, message: ToOwner) {
        self.owner
            .receive(&from.into(), message, self.now, &mut self.effects);
    }

    fn publish(&mut self, channel: &Name) {
        let publish = Publish {
            channel: channel.clone(),
            route: "on".into(),
            body: Bytes::new(),
            keep: Some(KEEP),
        };
        let request = Request::Publish { call: 1, publish };
        self.owner.request(request, self.now, &mut self.effects);
    }

    /// The positions of publications since the last call.
    fn published(&mut self) -> Vec<Position> {
        let effects = std::mem::take(&mut self.effects).into_iter();
        let position = |effect| match effect {
            OwnerEffect::Published { position, .. } => Some(position),
            _ => None,
        };
        effects.filter_map(position).collect()
    }

    fn gates(&self, channel: &str) -> Vec<&str> {
        let gates = self.owner.gates(channel).into_iter().flatten();
        gates.map(|gate| &**gate).collect()
    }
}

fn held(view: &View, before: u64, channels: &[&Name], last: bool) -> ToOwner {
    let seen = Position {
        epoch: 1,
        offset: 1,
    };
    ToOwner::Held {
        view: view.digest(),
        before,
        channels: channels
            .iter()
            .map(|name| ((*name).clone(), seen))
            .collect(),
        last,
    }
}

fn publication(epoch: u64, offset: u64) -> Publication {
    Publication {
        position: Position { epoch, offset },
        route: "on".into(),
        body: Bytes::new(),
    }
}

#[test]
fn an_answer_for_another_view_does_not_count() {
    let (old, new) = (view(&["a", "b"]), view(&["a", "b", "c"]));
    let channel = channel(&[(&old, "a"), (&new, "a")]);
    let mut a = Node::new("a", &old);
    a.publish(&channel);
    a.set_view(&new);
    for node in ["a", "b", "c"] {
        a.receive(node, held(&old, 0, &[], true));
    }
    assert!(a.published().is_empty());
    a.receive("b", held(&new, 0, &[&channel], true));
    a.receive("a", held(&new, 0, &[], true));
    assert!(a.published().is_empty());
    a.receive("c", held(&new, 0, &[], true));
    assert_eq!(a.published().len(), 1);
    assert_eq!(a.gates(&channel), ["b"]);
}

#[test]
fn an_answer_of_which_a_part_was_lost_does_not_count() {
    let view = view(&["a", "b"]);
    let channel = channel(&[(&view, "a")]);
    let mut a = Node::new("a", &view);
    a.publish(&channel);
    a.receive("a", held(&view, 0, &[], true));
    a.receive("b", held(&view, 1, &[], true));
    assert!(a.published().is_empty());
    a.receive("b", held(&view, 0, &[&channel], false));
    a.receive("b", held(&view, 1, &[], true));
    assert_eq!(a.published().len(), 1);
    assert_eq!(a.gates(&channel), ["b"]);
}

#[test]
fn a_part_is_not_noted_behind_a_later_answer_of_its_gate() {
    let view = view(&["a", "b", "c"]);
    let channel = channel(&[(&view, "a")]);
    let mut a = Node::new("a", &view);
    a.publish(&channel);
    let name = channel.clone();
    a.receive("b", ToOwner::Part { channel: name });
    a.receive("b", held(&view, 0, &[&channel], true));
    for node in ["a", "c"] {
        a.receive(node, held(&view, 0, &[], true));
    }
    assert_eq!(a.published().len(), 1);
    assert_eq!(a.gates(&channel), ["b"]);
}

/// What the owner of `old` hands over under `new`.
fn handover(channel: &Name, old: &View, new: &View) -> Handover {
    let mut b = Node::new("b", old);
    b.publish(channel);
    for node in old.nodes() {
        b.receive(node, held(old, 0, &[], true));
    }
    b.publish(channel);
    b.set_view(new);
    let handed = b.effects.into_iter().find_map(|effect| match effect {
        OwnerEffect::HandOver { to, handover } => Some((to, handover)),
        _ => None,
    });
    let (to, handover) = handed.unwrap();
    assert_eq!((&*to, handover.kept.len()), ("a", 2));
    handover
}

#[test]
fn a_channel_goes_on_with_what_was_handed_over_for_the_view_and_before_its_first_use() {
    let (old, new) = (view(&["b", "c"]), view(&["a", "b", "c"]));
    let other = view(&["a", "b"]);
    let channel = channel(&[(&old, "b"), (&new, "a"), (&other, "a")]);
    let handed = handover(&channel, &old, &new);
    let last = handed.last;
    let next = |a: &mut Node, view: &View| {
        a.publish(&channel);
        for node in view.nodes() {
            a.receive(node, held(view, 0, &[], true));
        }
        a.published()[0]
    };
    let following = Position {
        offset: last.offset + 1,
        ..last
    };

    let mut a = Node::new("a", &new);
    a.receive("b", ToOwner::Handover(handed.clone()));
    assert_eq!(next(&mut a, &new), following);

    // Ahead of the view, and of another view.
    let mut a = Node::new("a", &old);
    a.receive("b", ToOwner::Handover(handed.clone()));
    a.set_view(&new);
    assert_eq!(next(&mut a, &new), following);
    let mut a = Node::new("a", &old);
    a.receive("b", ToOwner::Handover(handed.clone()));
    a.set_view(&other);
    assert_eq!(next(&mut a, &other).offset, 1);
    a.set_view(&new);
    assert_eq!(next(&mut a, &new).offset, 2);

    // Too late: the channel is in use.
    let mut a = Node::new("a", &new);
    let first = next(&mut a, &new);
    a.receive("b", ToOwner::Handover(handed));
    a.publish(&channel);
    let after = Position { offset: 2, ..first };
    assert_eq!(a.published(), [after]);
}

/// A gate with one member that has joined at an owner.
fn gate(channel: &Name, view: &View, owner: &str) -> Gate<u32, u32> {
    let (mut gate, now, mut effects) = (Gate::new(10, 0), Instant::now(), Vec::new());
    gate.set_view(view.clone(), now, &mut effects);
    gate.join(channel, 7, None, 7, now, &mut effects);
    let joined = answer(
        channel,
        Position {
            epoch: 5,
            offset: 1,
        },
    );
    gate.receive(&owner.into(), joined, now, &mut effects);
    gate
}

fn answer(channel: &Name, position: Position) -> ToGate {
    ToGate::Joined {
        channel: channel.clone(),
        join: 1,
        answer: JoinAnswer::At(JoinedAt {
            position,
            missed: None,
        }),
    }
}

#[test]
fn a_former_owner_may_end_its_epoch_and_begin_none() {
    let (old, new) = (view(&["a", "b"]), view(&["a", "b", "c"]));
    let channel = channel(&[(&old, "b"), (&new, "c")]);
    let mut gate = gate(&channel, &old, "b");
    assert_eq!(gate.members(&channel), [7]);
    let now = Instant::now();
    gate.set_view(new, now, &mut Vec::new());
    let mut pushed = |from: &str, epoch, offset| {
        let mut effects = Vec::new();
        let message = ToGate::Deliver {
            channel: channel.clone(),
            publication: publication(epoch, offset),
        };
        gate.receive(&from.into(), message, now, &mut effects);
        matches!(effects[..], [GateEffect::Push { .. }])
    };
    assert!(pushed("b", 5, 2));
    assert!(!pushed("b", 9, 1));
    assert!(pushed("c", 6, 1));
    assert!(!pushed("b", 5, 3));
    assert!(pushed("c", 6, 2));
}

#[test]
fn no_session_joins_at_a_former_owner() {
    let (old, new) = (view(&["a", "b"]), view(&["a", "b", "c"]));
    let channel = channel(&[(&old, "b"), (&new, "c")]);
    let mut gate = gate(&channel, &new, "b");
    assert!(gate.members(&channel).is_empty());
    let joined = answer(
        &channel,
        Position {
            epoch: 6,
            offset: 0,
        },
    );
    gate.receive(&"c".into(), joined, Instant::now(), &mut Vec::new());
    assert_eq!(gate.members(&channel), [7]);
}

/// The numbers of the joins that a gate has sent.
fn joins(effects: &[GateEffect<u32, u32>]) -> Vec<(u64, Position)> {
    let sent = effects.iter().filter_map(|effect| match effect {
        GateEffect::Send {
            message: ToOwner::Join { join, seen, .. },
            ..
        } => Some((*join, *seen)),
        _ => None,
    });
    sent.collect()
}

#[test]
fn what_a_former_incarnation_asked_for_answers_no_join_of_the_next_one() {
    let view = view(&["a", "b"]);
    let (channel, now) = (channel(&[(&view, "b")]), Instant::now());
    let [former, next] = [1_000, 1_001].map(|started| {
        let (mut gate, mut effects) = (Gate::new(10, started), Vec::new());
        gate.set_view(view.clone(), now, &mut effects);
        gate.join(&channel, 7, None, 7, now, &mut effects);
        (gate, joins(&effects))
    });
    let answer = |join| ToGate::Joined {
        channel: channel.clone(),
        join,
        answer: JoinAnswer::At(JoinedAt {
            position: Position {
                epoch: 5,
                offset: 1,
            },
            missed: Some(vec![publication(5, 1)]),
        }),
    };
    let (mut gate, mut effects) = (next.0, Vec::new());
    gate.receive(&"b".into(), answer(former.1[0].0), now, &mut effects);
    assert!(effects.is_empty(), "{effects:?}");
    gate.receive(&"b".into(), answer(next.1[0].0), now, &mut effects);
    assert_eq!(gate.members(&channel), [7]);
}

#[test]
fn an_owner_learns_what_a_member_has_that_came_from_another_gate() {
    let view = view(&["a", "b"]);
    let (channel, now) = (channel(&[(&view, "b")]), Instant::now());
    let mut gate = gate(&channel, &view, "b");
    // The member has a publication of an epoch that the owner has not heard of.
    let brought = Position {
        epoch: 9,
        offset: 3,
    };
    let mut effects = Vec::new();
    gate.expect(&channel, 8, 8, now, &mut effects);
    let came = gate.arrive(8, &8, &[(channel.clone(), brought)], now, &mut effects);
    came.unwrap();
    assert_eq!(
        joins(&effects).iter().map(|it| it.1).collect::<Vec<_>>(),
        [brought]
    );
    // It is asked until it answers, and names the position to the next owner, too.
    let (mut effects, later) = (Vec::new(), now + Duration::from_secs(60));
    gate.tick(later, &mut effects);
    assert_eq!(joins(&effects).len(), 1);
    let mut effects = Vec::new();
    let collect = ToGate::Collect {
        view: view.digest(),
    };
    gate.receive(&"b".into(), collect, later, &mut effects);
    let held = matches!(&effects[..], [GateEffect::Send {
        message: ToOwner::Held { channels, .. }, ..
    }] if channels[..] == [(channel.clone(), brought)]);
    assert!(held, "{effects:?}");
    // What it has already is for the other members only.
    let mut pushed = |epoch, offset| {
        let mut effects = Vec::new();
        let message = ToGate::Deliver {
            channel: channel.clone(),
            publication: publication(epoch, offset),
        };
        gate.receive(&"b".into(), message, later, &mut effects);
        effects.into_iter().find_map(|effect| match effect {
            GateEffect::Push { members, .. } => Some(members.to_vec()),
            _ => None,
        })
    };
    assert_eq!(pushed(5, 2), Some(vec![7]));
    assert_eq!(pushed(9, 3), Some(vec![7]));
    assert_eq!(pushed(9, 4), Some(vec![7, 8]));
}

#[test]
fn a_position_near_the_end_of_the_numbers_is_refused_and_changes_nothing() {
    let both = view(&["a", "b"]);
    let name = channel(&[(&both, "a")]);
    let mut node = Node::new("a", &both);
    let end = Position {
        epoch: u64::MAX - 1,
        offset: u64::MAX,
    };
    let join = |node: &mut Node, seen| {
        let (channel, since) = (name.clone(), None);
        let (join, alone) = (7, view(&["a"]));
        node.set_view(&alone);
        node.receive(
            "a",
            ToOwner::Join {
                channel,
                join,
                since,
                seen,
            },
        );
        node.receive("a", self::held(&alone, 0, &[], true));
        let effects = std::mem::take(&mut node.effects).into_iter();
        let answer = |effect| match effect {
            OwnerEffect::Send {
                message: ToGate::Joined { answer, .. },
                ..
            } => Some(answer),
            _ => None,
        };
        effects.filter_map(answer).collect::<Vec<_>>()
    };
    node.publish(&name);
    let held = ToOwner::Held {
        view: both.digest(),
        before: 0,
        channels: vec![(name.clone(), end)],
        last: true,
    };
    node.receive("b", held);
    node.receive("a", self::held(&both, 0, &[], true));
    node.publish(&name);
    let published = node.published();
    assert!(published.len() == 2 && published[1].epoch == published[0].epoch);
    let refused = join(&mut node, end);
    assert_eq!(refused, [JoinAnswer::Full]);
    let joined = join(&mut node, published[1]);
    assert!(matches!(&joined[..], [JoinAnswer::At(at)] if at.position >= published[1]));
    node.receive(
        "b",
        ToOwner::Handover(Handover {
            view: view(&["a"]).digest(),
            channel: channel(&[(&view(&["a"]), "a"), (&both, "b")]),
            last: end,
            kept: vec![(publication(u64::MAX - 1, u64::MAX), KEEP.ttl)],
        }),
    );
    let other = channel(&[(&view(&["a"]), "a"), (&both, "b")]);
    node.publish(&other);
    let [after] = node.published()[..] else {
        panic!("not published")
    };
    assert!(after.epoch < 1 << 53);
}

#[test]
fn a_session_that_moves_is_in_no_more_channels_than_it_may_be() {
    let view = view(&["a", "b"]);
    let now = Instant::now();
    let (mut gate, mut effects) = (Gate::<u32, u32>::new(2, 0), Vec::new());
    gate.set_view(view.clone(), now, &mut effects);
    let names = (0..).map(|number| Name::from(format!("guild.{number}")));
    let of_b = names.filter(|name| view.owner(name).is_some_and(|owner| **owner == *"b"));
    let channels: Vec<_> = of_b.take(3).collect();
    // All at once, as a session leaves its gate: none is entered yet.
    for (call, channel) in (1..).zip(&channels) {
        gate.expect(channel, 8, call, now, &mut effects);
    }
    let asked = joins(&effects);
    assert_eq!(asked.len(), 3);
    for (channel, (join, _)) in channels.iter().zip(asked) {
        let position = Position::default();
        let answer = JoinAnswer::At(JoinedAt {
            position,
            missed: None,
        });
        let channel = channel.clone();
        let joined = ToGate::Joined {
            channel,
            join,
            answer,
        };
        gate.receive(&"b".into(), joined, now, &mut effects);
    }
    // Again, as after an attempt that has failed.
    gate.expect(&channels[1], 8, 4, now, &mut effects);
    gate.expect(&channels[2], 8, 5, now, &mut effects);
    let joined = effects.iter().filter_map(|effect| match effect {
        GateEffect::Joined { call, result } => Some((*call, result.is_ok())),
        _ => None,
    });
    let expected = [(1, true), (2, true), (3, false), (4, true), (5, false)];
    assert_eq!(joined.collect::<Vec<_>>(), expected);
}
