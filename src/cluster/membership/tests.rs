//! The state machines of the control plane, call by call.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    heartbeat::{HeartbeatConfig, HeartbeatReply},
    registration::{Call, RegistrationState, Reply},
    registry::{MembershipDelta, Refusal, Registry},
    table::{Change, MemberTable},
    updates::{Announcement, PeerView, UpdateQueue},
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
    Registry::new(node("m:1", 1, &[]), HeartbeatConfig::new(30 * SECOND), now)
}

fn gone(address: &str, incarnation: u64) -> Announcement {
    Announcement::Leave {
        address: address.to_owned(),
        incarnation,
        evicted: false,
    }
}

#[test]
fn the_register_fits_into_one_message() {
    let now = Instant::now();
    let mut register = registry(now);
    let large = |number: u64| {
        Member::new(Info {
            address: format!("a:{number}"),
            incarnation: 7,
            metadata: [("key".to_owned(), "v".repeat(60 * 1024))].into(),
            ..Info::default()
        })
    };
    let mut admit = |number| {
        let mut delta = MembershipDelta::default();
        register.register(large(number), now, &mut delta)
    };
    let accepted = (1..100).take_while(|&number| admit(number).is_ok()).count();
    assert_eq!(accepted, 66);
    assert_eq!(admit(99), Err(Refusal::Full));
    assert!(admit(1).is_ok(), "a member again");
}

#[test]
fn a_newer_incarnation_replaces_an_older_one_and_outlives_its_late_leave() {
    let mut members = MemberTable::new("own:1");
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
fn a_basic_node_announced_again_by_a_basic_master_has_restarted() {
    let again = |master: Member| {
        let (mut members, basic) = (MemberTable::new("own:1"), node("basic:1", 0, &["Room"]));
        members.merge(vec![master.clone(), basic.clone()]);
        let changes = members.join(basic.clone());
        assert_eq!(members.list(), [master, basic.clone()]);
        (changes, basic)
    };
    let (changes, basic) = again(node("m:1", 0, &[]));
    assert_eq!(
        changes,
        [Change::Left(basic.clone()), Change::Joined(basic)]
    );
    let (changes, _) = again(node("m:1", 1, &[]));
    assert_eq!(
        changes,
        [],
        "a master of this crate announces the leave, and may repeat an announcement"
    );
}

#[test]
fn announcements_during_a_call_win_over_its_reply() {
    let mut members = MemberTable::new("own:1");
    let (a, b, c) = (
        node("a:1", 1, &[]),
        node("b:1", 2, &[]),
        node("c:1", 3, &[]),
    );
    members.join(a.clone());
    members.join(b.clone());
    members.begin_sync();
    members.leave("a:1", 1);
    members.join(c.clone());
    assert_eq!(members.replace(vec![a.clone(), b.clone()]), []);
    assert_eq!(members.list(), [b.clone(), c.clone()]);
    members.begin_sync();
    assert_eq!(
        members.replace(vec![a.clone(), b.clone()]),
        [Change::Left(c), Change::Joined(a.clone())]
    );
    assert_eq!(members.list(), [a, b], "in the order of the master's table");
}

#[test]
fn a_digest_depends_on_the_members_only_and_is_the_same_in_every_version() {
    let (a, b) = (node("a:1", 1, &["Chat"]), node("b:1", 2, &[]));
    let digest = |members: &[&Member]| {
        let mut table = MemberTable::new("own:1");
        members
            .iter()
            .for_each(|&member| drop(table.join(member.clone())));
        table.digest()
    };
    assert_eq!(digest(&[&a, &b]), digest(&[&b, &a]));
    assert_ne!(digest(&[&a]), digest(&[&node("a:1", 1, &["Chat", "Room"])]));
    assert_ne!(digest(&[&a]), digest(&[&node("a:1", 2, &["Chat"])]));
    assert_ne!(digest(&[]), 0, "0 stands for no digest");
    // Part of the protocol: nodes of other versions compute it too.
    assert_eq!(digest(&[&a, &b]), 7_231_051_232_863_736_216);
}

#[test]
fn a_new_master_removes_no_member_before_its_startup_grace_is_over() {
    let start = Instant::now();
    let (mut registry, a) = (registry(start), node("a:1", 5, &[]));
    let reply = registry
        .heartbeat(
            a.clone(),
            1,
            start + SECOND,
            &mut MembershipDelta::default(),
        )
        .unwrap();
    assert_eq!(
        (addresses(&reply.table), reply.replace),
        (vec!["m:1"], false)
    );
    let reply = registry
        .heartbeat(a, 1, start + 40 * SECOND, &mut MembershipDelta::default())
        .unwrap();
    assert_eq!(
        (addresses(&reply.table), reply.replace),
        (vec!["m:1"], true)
    );
}

#[test]
fn a_member_is_evicted_after_four_missed_heartbeats_of_its_kind() {
    let start = Instant::now();
    let mut registry = registry(start);
    registry
        .register(
            node("rust:1", 5, &[]),
            start,
            &mut MembershipDelta::default(),
        )
        .unwrap();
    registry
        .register(
            node("basic:1", 0, &[]),
            start,
            &mut MembershipDelta::default(),
        )
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
        [(9, "rust:1".to_owned()), (241, "basic:1".to_owned())]
    );
}

#[test]
fn a_suspended_master_evicts_no_member_when_it_resumes() {
    let start = Instant::now();
    let mut registry = registry(start);
    registry
        .register(node("a:1", 5, &[]), start, &mut MembershipDelta::default())
        .unwrap();
    assert!(registry.tick(start + 60 * SECOND).is_empty());
}

#[test]
fn a_removal_removes_its_own_registration_only() {
    let start = Instant::now();
    let mut registry = registry(start);
    for (address, incarnation) in [("a:1", 0), ("b:1", 4), ("c:1", 5)] {
        registry
            .register(
                node(address, incarnation, &[]),
                start,
                &mut MembershipDelta::default(),
            )
            .unwrap();
    }
    // Two at once, completed in the other order: each removes its own entry.
    let (a, b) = (
        registry.unregister("a:1", 0).unwrap().unwrap(),
        registry.unregister("b:1", 4).unwrap().unwrap(),
    );
    assert_eq!(
        registry.unregister("a:1", 0).unwrap_err(),
        Refusal::NotRegistered,
        "once"
    );
    registry.remove(&b, start, &mut MembershipDelta::default());
    registry
        .register(node("a:1", 0, &[]), start, &mut MembershipDelta::default())
        .unwrap();
    registry.remove(&a, start, &mut MembershipDelta::default());
    assert_eq!(
        addresses(&registry.members()),
        ["c:1", "a:1"],
        "the registration made in between stays"
    );
    assert_eq!(
        registry
            .heartbeat(
                node("b:1", 4, &[]),
                0,
                start,
                &mut MembershipDelta::default()
            )
            .unwrap_err(),
        Refusal::Superseded,
        "it has unregistered"
    );
    registry
        .register(node("c:1", 6, &[]), start, &mut MembershipDelta::default())
        .unwrap();
    assert!(
        registry.unregister("c:1", 5).unwrap().is_none(),
        "an older incarnation does not remove a newer one"
    );
    assert_eq!(
        registry
            .register(node("c:1", 5, &[]), start, &mut MembershipDelta::default())
            .unwrap_err(),
        Refusal::Superseded
    );
    assert_eq!(
        registry
            .register(node("m:1", 9, &[]), start, &mut MembershipDelta::default())
            .unwrap_err(),
        Refusal::Superseded,
        "the master's own address"
    );
}

#[test]
fn later_announcements_replace_earlier_ones_of_the_same_address() {
    let mut queue = UpdateQueue::inherit(None, PeerView::Idempotent);
    let (a, b) = (node("a:1", 1, &[]), node("b:1", 2, &[]));
    for announcement in [
        Announcement::Join(a.clone()),
        Announcement::Join(b.clone()),
        gone("a:1", 1),
        Announcement::Join(a.clone()),
        gone("a:1", 1),
    ] {
        assert!(queue.push(announcement));
    }
    assert_eq!(drain(&mut queue), [Announcement::Join(b), gone("a:1", 1)]);
}

#[test]
fn a_basic_member_is_sent_a_leave_before_a_join_it_may_have_already() {
    let a = node("a:1", 1, &[]);
    let mut queue = UpdateQueue::inherit(None, PeerView::Exact);
    assert!(queue.push(Announcement::Join(a.clone())));
    assert_eq!(queue.take(), Some(Announcement::Join(a.clone())));
    queue.failed();
    assert_eq!(
        drain(&mut queue),
        [gone("a:1", 1), Announcement::Join(a.clone())]
    );

    let mut queue = UpdateQueue::inherit(None, PeerView::Unknown);
    assert!(queue.push(Announcement::Join(a.clone())));
    assert_eq!(drain(&mut queue), [gone("a:1", 1), Announcement::Join(a)]);
}

fn drain(queue: &mut UpdateQueue) -> Vec<Announcement> {
    std::iter::from_fn(|| {
        let announcement = queue.take();
        queue.delivered();
        announcement
    })
    .collect()
}

#[test]
fn between_a_basic_node_and_ours_at_one_address_the_later_registration_wins() {
    let start = Instant::now();
    let (mut registry, mut members) = (registry(start), MemberTable::new("a:1"));
    let ours = node("a:1", 5, &[]);
    let mut registration = RegistrationState::new(HeartbeatConfig::new(SECOND), SECOND, start);
    assert_eq!(registration.begin_call(&mut members), Call::Register);
    let table = registry
        .register(ours.clone(), start, &mut MembershipDelta::default())
        .unwrap();
    registration.replied(Reply::Registered(table), &mut members, start);

    // The registration of a basic member that had the address before arrives late.
    registry
        .register(node("a:1", 0, &[]), start, &mut MembershipDelta::default())
        .unwrap();
    assert_eq!(
        registration.begin_call(&mut members),
        Call::Heartbeat {
            digest: members.digest()
        }
    );
    assert_eq!(
        registry
            .heartbeat(ours.clone(), 1, start, &mut MembershipDelta::default())
            .unwrap_err(),
        Refusal::Superseded
    );
    registration.refused(start);
    assert_eq!(
        registration.begin_call(&mut members),
        Call::Register,
        "registers again to take the address back"
    );
    registry
        .register(ours.clone(), start, &mut MembershipDelta::default())
        .unwrap();
    assert_eq!(registry.members(), [ours]);
    assert_eq!(
        registry
            .heartbeat(
                node("a:1", 0, &[]),
                0,
                start,
                &mut MembershipDelta::default()
            )
            .unwrap_err(),
        Refusal::Superseded
    );
}

#[test]
fn a_suspended_member_registers_again_with_a_basic_master() {
    let start = Instant::now();
    let next = |suspended: Duration, master: u64| {
        let (mut members, table) = (MemberTable::new("a:1"), vec![node("m:1", master, &[])]);
        let mut registration = RegistrationState::new(HeartbeatConfig::new(SECOND), SECOND, start);
        registration.begin_call(&mut members);
        registration.replied(Reply::Registered(table), &mut members, start);
        let now = registration.due() + suspended;
        registration.begin_call(&mut members);
        registration.replied(
            Reply::Heartbeat {
                reply: HeartbeatReply::default(),
                master,
            },
            &mut members,
            now,
        );
        registration.begin_call(&mut members)
    };
    assert_eq!(
        next(5 * SECOND, 0),
        Call::Register,
        "it was evicted, and a basic master announces registrations only"
    );
    assert!(matches!(next(3 * SECOND, 0), Call::Heartbeat { .. }));
    assert!(
        matches!(next(5 * SECOND, 1), Call::Heartbeat { .. }),
        "a master of this crate announces it to the others"
    );
}
