//! What the tables do, call by call.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    registration::{Answer, Call, Standing},
    registry::{News, Pulse, Refusal, Registry, Rhythm},
    table::{Change, Members},
    updates::{Announcement, Knowledge, Queue},
};
use crate::member::{Info, Member};

const SECOND: Duration = Duration::from_secs(1);

fn node(address: &str, incarnation: u64, services: &[&str]) -> Member {
    let services = services.iter().map(|&service| service.to_owned()).collect();
    Member::new(Info {
        address: address.to_owned(),
        incarnation,
        services,
        ..Info::default()
    })
}

fn addresses(members: &[Member]) -> Vec<&str> {
    members.iter().map(Member::address).collect()
}

fn registry(now: Instant) -> Registry {
    Registry::new(node("m:1", 1, &[]), Rhythm::new(30 * SECOND), now)
}

fn gone(address: &str, incarnation: u64) -> Announcement {
    Announcement::Del {
        address: address.to_owned(),
        incarnation,
    }
}

#[test]
fn a_newer_run_replaces_an_older_one_and_a_late_goodbye_does_not_remove_it() {
    let mut members = Members::new("own:1");
    let (old, new) = (node("a:1", 7, &[]), node("a:1", 9, &[]));
    assert_eq!(members.join(old.clone()), [Change::Joined(old.clone())]);
    assert_eq!(
        members.join(new.clone()),
        [Change::Left(old.clone()), Change::Joined(new.clone())]
    );
    assert_eq!(members.join(old), []);
    assert_eq!(members.leave("a:1", 7), None);
    assert_eq!(members.list(), std::slice::from_ref(&new));
    assert_eq!(members.leave("a:1", 9), Some(Change::Left(new)));
}

#[test]
fn a_go_node_that_a_go_master_tells_of_again_is_another_run() {
    let again = |master: Member| {
        let (mut members, go) = (Members::new("own:1"), node("go:1", 0, &["Room"]));
        members.merge(vec![master.clone(), go.clone()]);
        let changes = members.join(go.clone());
        assert_eq!(members.list(), [master, go.clone()]);
        (changes, go)
    };
    let (changes, go) = again(node("m:1", 0, &[]));
    assert_eq!(changes, [Change::Left(go.clone()), Change::Joined(go)]);
    let (changes, _) = again(node("m:1", 1, &[]));
    assert_eq!(
        changes,
        [],
        "ours says that the old run is gone, and may say things twice"
    );
}

#[test]
fn what_the_master_told_during_a_call_is_newer_than_the_answer() {
    let mut members = Members::new("own:1");
    let (a, b, c) = (
        node("a:1", 1, &[]),
        node("b:1", 2, &[]),
        node("c:1", 3, &[]),
    );
    members.join(a.clone());
    members.join(b.clone());
    members.mark();
    members.leave("a:1", 1);
    members.join(c.clone());
    assert_eq!(members.replace(vec![a.clone(), b.clone()]), []);
    assert_eq!(members.list(), [b.clone(), c.clone()]);
    members.mark();
    assert_eq!(
        members.replace(vec![a.clone(), b.clone()]),
        [Change::Left(c), Change::Joined(a.clone())]
    );
    assert_eq!(members.list(), [a, b], "in the order of the master's table");
}

#[test]
fn digests_are_of_what_is_in_a_table_in_whatever_order_and_stay_what_they_are() {
    let (a, b) = (node("a:1", 1, &["Chat"]), node("b:1", 2, &[]));
    let digest = |members: &[&Member]| {
        let mut table = Members::new("own:1");
        members
            .iter()
            .for_each(|&member| drop(table.join(member.clone())));
        table.digest()
    };
    assert_eq!(digest(&[&a, &b]), digest(&[&b, &a]));
    assert_ne!(digest(&[&a]), digest(&[&node("a:1", 1, &["Chat", "Room"])]));
    assert_ne!(digest(&[&a]), digest(&[&node("a:1", 2, &["Chat"])]));
    assert_ne!(digest(&[]), 0, "0 is for none");
    // Nodes of other versions of this crate compute it too.
    assert_eq!(digest(&[&a, &b]), 8_395_001_018_003_333_357);
}

#[test]
fn a_new_master_takes_nobody_away_before_all_had_the_time_to_call() {
    let start = Instant::now();
    let (mut registry, a) = (registry(start), node("a:1", 5, &[]));
    let pulse = registry
        .heartbeat(a.clone(), 1, start + SECOND, &mut News::default())
        .unwrap();
    assert_eq!(
        (addresses(&pulse.table), pulse.replace),
        (vec!["m:1"], false)
    );
    let pulse = registry
        .heartbeat(a, 1, start + 40 * SECOND, &mut News::default())
        .unwrap();
    assert_eq!(
        (addresses(&pulse.table), pulse.replace),
        (vec!["m:1"], true)
    );
}

#[test]
fn silence_is_four_heartbeats_of_ones_own_kind() {
    let start = Instant::now();
    let mut registry = registry(start);
    registry
        .register(node("rust:1", 5, &[]), start, &mut News::default())
        .unwrap();
    registry
        .register(node("go:1", 0, &[]), start, &mut News::default())
        .unwrap();
    let evicted = |registry: &mut Registry, from: u32, to: u32| -> Vec<(u32, String)> {
        let ticks =
            (2 * from..=2 * to).map(|half| (half, registry.tick(start + half * SECOND / 2)));
        ticks
            .flat_map(|(half, gone)| {
                gone.into_iter()
                    .map(move |gone| (half, gone.member.address().to_owned()))
            })
            .collect()
    };
    assert_eq!(
        evicted(&mut registry, 0, 130),
        [(9, "rust:1".to_owned()), (241, "go:1".to_owned())]
    );
}

#[test]
fn a_master_that_slept_gives_everybody_time() {
    let start = Instant::now();
    let mut registry = registry(start);
    registry
        .register(node("a:1", 5, &[]), start, &mut News::default())
        .unwrap();
    assert!(registry.tick(start + 60 * SECOND).is_empty());
}

#[test]
fn departures_are_of_one_registration() {
    let start = Instant::now();
    let mut registry = registry(start);
    for (address, incarnation) in [("a:1", 0), ("b:1", 4), ("c:1", 5)] {
        registry
            .register(node(address, incarnation, &[]), start, &mut News::default())
            .unwrap();
    }
    // Two at once, in the other order: each removes itself.
    let (a, b) = (
        registry.unregister("a:1", 0).unwrap().unwrap(),
        registry.unregister("b:1", 4).unwrap().unwrap(),
    );
    assert_eq!(
        registry.unregister("a:1", 0).unwrap_err(),
        Refusal::NotRegistered,
        "once"
    );
    registry.remove(&b, start, &mut News::default());
    registry
        .register(node("a:1", 0, &[]), start, &mut News::default())
        .unwrap();
    registry.remove(&a, start, &mut News::default());
    assert_eq!(
        addresses(&registry.members()),
        ["c:1", "a:1"],
        "who registered anew in between stays"
    );
    assert_eq!(
        registry
            .heartbeat(node("b:1", 4, &[]), 0, start, &mut News::default())
            .unwrap_err(),
        Refusal::Superseded,
        "it said goodbye"
    );
    registry
        .register(node("c:1", 6, &[]), start, &mut News::default())
        .unwrap();
    assert!(
        registry.unregister("c:1", 5).unwrap().is_none(),
        "an older run takes nobody along"
    );
    assert_eq!(
        registry
            .register(node("c:1", 5, &[]), start, &mut News::default())
            .unwrap_err(),
        Refusal::Superseded
    );
    assert_eq!(
        registry
            .register(node("m:1", 9, &[]), start, &mut News::default())
            .unwrap_err(),
        Refusal::Superseded,
        "the master's own"
    );
}

#[test]
fn later_news_make_earlier_ones_pointless() {
    let mut queue = Queue::succeeding(None, Knowledge::Any);
    let (a, b) = (node("a:1", 1, &[]), node("b:1", 2, &[]));
    for news in [
        Announcement::New(a.clone()),
        Announcement::New(b.clone()),
        gone("a:1", 1),
        Announcement::New(a.clone()),
        gone("a:1", 1),
    ] {
        assert!(queue.push(news));
    }
    assert_eq!(drain(&mut queue), [Announcement::New(b), gone("a:1", 1)]);
}

#[test]
fn go_is_told_what_it_may_know_already_only_after_that_it_left() {
    let a = node("a:1", 1, &[]);
    let mut queue = Queue::succeeding(None, Knowledge::Told);
    assert!(queue.push(Announcement::New(a.clone())));
    assert_eq!(queue.take(), Some(Announcement::New(a.clone())));
    queue.failed();
    assert_eq!(
        drain(&mut queue),
        [gone("a:1", 1), Announcement::New(a.clone())]
    );

    let mut queue = Queue::succeeding(None, Knowledge::Unknown);
    assert!(queue.push(Announcement::New(a.clone())));
    assert_eq!(drain(&mut queue), [gone("a:1", 1), Announcement::New(a)]);
}

fn drain(queue: &mut Queue) -> Vec<Announcement> {
    std::iter::from_fn(|| {
        let news = queue.take();
        queue.delivered();
        news
    })
    .collect()
}

#[test]
fn between_us_and_go_only_a_registration_decides_who_came_later() {
    let start = Instant::now();
    let (mut registry, mut members) = (registry(start), Members::new("a:1"));
    let ours = node("a:1", 5, &[]);
    let mut standing = Standing::new(Rhythm::new(SECOND), SECOND, start);
    assert_eq!(standing.call(&mut members), Call::Register);
    let table = registry
        .register(ours.clone(), start, &mut News::default())
        .unwrap();
    standing.answered(Answer::Registered(table), &mut members, start);

    // The registration of the Go node that was here before comes late.
    registry
        .register(node("a:1", 0, &[]), start, &mut News::default())
        .unwrap();
    assert_eq!(
        standing.call(&mut members),
        Call::Heartbeat {
            digest: members.digest()
        }
    );
    assert_eq!(
        registry
            .heartbeat(ours.clone(), 1, start, &mut News::default())
            .unwrap_err(),
        Refusal::Superseded
    );
    standing.refused(start);
    assert_eq!(
        standing.call(&mut members),
        Call::Register,
        "and this one's again"
    );
    registry
        .register(ours.clone(), start, &mut News::default())
        .unwrap();
    assert_eq!(registry.members(), [ours]);
    assert_eq!(
        registry
            .heartbeat(node("a:1", 0, &[]), 0, start, &mut News::default())
            .unwrap_err(),
        Refusal::Superseded
    );
}

#[test]
fn who_has_slept_registers_again_with_a_go_master() {
    let start = Instant::now();
    let next = |slept: Duration, master: u64| {
        let (mut members, table) = (Members::new("a:1"), vec![node("m:1", master, &[])]);
        let mut standing = Standing::new(Rhythm::new(SECOND), SECOND, start);
        standing.call(&mut members);
        standing.answered(Answer::Registered(table), &mut members, start);
        let now = standing.due() + slept;
        standing.call(&mut members);
        standing.answered(
            Answer::Beaten {
                pulse: Pulse::default(),
                master,
            },
            &mut members,
            now,
        );
        standing.call(&mut members)
    };
    assert_eq!(
        next(5 * SECOND, 0),
        Call::Register,
        "it was removed, and nobody else hears of its heartbeats"
    );
    assert!(matches!(next(3 * SECOND, 0), Call::Heartbeat { .. }));
    assert!(
        matches!(next(5 * SECOND, 1), Call::Heartbeat { .. }),
        "a master of ours tells the others"
    );
}
