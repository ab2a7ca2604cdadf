//! The election, call by call.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Election,
    acceptor::MAX_NUMBER,
    config::LeaseConfig,
    message::{LeaseRequest, MasterId, Purpose},
};

const LEASE: Duration = Duration::from_secs(2);
const CLOCK: u64 = 1_000_000;

fn config() -> LeaseConfig {
    LeaseConfig { lease: LEASE }
}

fn id(master: usize) -> MasterId {
    MasterId {
        address: format!("m{master}:1"),
        incarnation: 7,
    }
}

/// Three masters after the time for which they grant nothing.
fn masters(now: Instant) -> (Vec<Election>, Instant) {
    let all = || (0..3).map(|it| id(it).address).collect();
    let masters = (0..3).map(|it| Election::new(id(it), all(), config(), it as u64, now));
    (masters.collect(), now + LEASE)
}

/// Sends a request to these masters and gives their answers back.
fn exchange(masters: &mut [Election], request: &LeaseRequest, to: &[usize], now: Instant) {
    let from = (0..3).find(|it| id(*it) == request.from).unwrap();
    for &to in to {
        let reply = masters[to].on_request(request, now);
        masters[from].on_reply(&id(to).address, request, now, reply, now);
    }
}

/// Lets a master ask for whatever it wants until it wants nothing more now.
fn campaign(masters: &mut [Election], who: usize, to: &[usize], mut now: Instant) -> Instant {
    now = now.max(masters[who].due());
    for _ in 0..6 {
        if let Some(request) = masters[who].tick(CLOCK, 0, now) {
            exchange(masters, &request, to, now);
        }
        now = now.max(masters[who].due().min(now + Duration::from_millis(400)));
    }
    now
}

#[test]
fn two_runs_of_a_master_that_know_the_same_begin_different_terms() {
    let now = Instant::now();
    let terms: Vec<_> = (0..100)
        .map(|seed| {
            let all = (0..3).map(|it| id(it).address).collect();
            let mut run = Election::new(id(1), all, config(), seed, now);
            run.observe(2 * CLOCK, 0, now);
            assert!(run.tick(CLOCK, 0, now).is_none());
            let term = run.tick(CLOCK, 0, run.due()).unwrap().term;
            assert!(term > 2 * CLOCK && term % 8 == 1, "{term}");
            term
        })
        .collect();
    let differ = terms.iter().collect::<std::collections::HashSet<_>>();
    assert!(differ.len() > 95, "{terms:?}");
}

#[test]
fn a_majority_elects_one_leader_and_half_of_the_masters_none() {
    let (mut all, now) = masters(Instant::now());
    let now = campaign(&mut all, 0, &[], now);
    assert_eq!(all[0].leads(now), None, "alone");
    let (mut all, now) = masters(Instant::now());
    let now = campaign(&mut all, 0, &[1], now);
    assert!(all[0].leads(now).is_some());
    assert_eq!(all[1].leader(now), Some(&id(0)));
    let due = now.max(all[2].due());
    let request = all[2].tick(CLOCK, 0, due).unwrap();
    assert!(
        !all[1].on_request(&request, now).granted,
        "it supports another leader"
    );
}

#[test]
fn a_lease_ends_at_its_leader_before_it_ends_at_the_others() {
    let (mut all, now) = masters(Instant::now());
    let now = campaign(&mut all, 0, &[1, 2], now);
    let until = all[0].leads(now).unwrap().until;
    let last = until - Duration::from_nanos(1);
    assert!(all[0].leads(last).is_some() && all[0].leads(until).is_none());
    for other in [1, 2] {
        assert_eq!(
            all[other].leader(until),
            Some(&id(0)),
            "longer, for slow clocks"
        );
    }
}

#[test]
fn a_master_that_has_started_grants_nothing_for_a_lease() {
    let start = Instant::now();
    let (mut all, _) = masters(start);
    let request = LeaseRequest {
        purpose: Purpose::Vote,
        from: id(1),
        term: CLOCK,
        reserved: CLOCK,
    };
    assert!(
        !all[0]
            .on_request(&request, start + LEASE * 99 / 100)
            .granted
    );
    assert!(all[0].on_request(&request, start + LEASE).granted);
}

#[test]
fn every_term_begins_above_the_numbers_of_all_earlier_ones() {
    let (mut all, now) = masters(Instant::now());
    let now = campaign(&mut all, 0, &[1], now);
    let first = all[0].leads(now).unwrap();
    assert!(first.reserved > first.term);
    let now = now + LEASE;
    let now = campaign(&mut all, 2, &[1], now);
    let second = all[2].leads(now).map(|it| it.term);
    // The first attempt learns of the numbers, the next is above them.
    let second = second.or_else(|| {
        let now = campaign(&mut all, 2, &[1], now);
        all[2].leads(now).map(|it| it.term)
    });
    assert!(second.unwrap() > first.reserved, "{second:?} {first:?}");
}

#[test]
fn a_leader_begins_a_new_term_above_what_a_member_has_seen() {
    let (mut all, now) = masters(Instant::now());
    let now = campaign(&mut all, 0, &[1, 2], now);
    let lease = all[0].leads(now).unwrap();
    all[0].observe(lease.term + 5, lease.term + 5, now);
    assert!(all[0].leads(now).is_some(), "it has stated this one");
    // Of what it has reserved, but not stated: another run of it may have.
    let seen = lease.term + 6;
    all[0].observe(seen, lease.term + 5, now);
    assert_eq!(all[0].leads(now), None);
    let now = campaign(&mut all, 0, &[1, 2], now);
    assert!(all[0].leads(now).unwrap().term > seen);
    all[0].observe(u64::MAX, 0, now);
    assert!(all[0].leads(now).is_some(), "no room above is rubbish");
    let request = LeaseRequest {
        purpose: Purpose::Vote,
        from: id(1),
        term: MAX_NUMBER + 1,
        reserved: 0,
    };
    assert!(!all[2].on_request(&request, now + LEASE).granted);
}

#[test]
fn a_leader_that_retires_is_followed_at_once() {
    let (mut all, now) = masters(Instant::now());
    let now = campaign(&mut all, 0, &[1, 2], now);
    let request = all[0].retire().unwrap();
    exchange(&mut all, &request, &[1, 2], now);
    assert_eq!(all[0].leads(now), None);
    assert!(all[1].due() <= now + config().spread());
    let now = campaign(&mut all, 1, &[0, 2], now);
    assert!(all[1].leads(now).is_some());
    assert_eq!(
        all[0].tick(CLOCK, 0, now + LEASE * 3),
        None,
        "it asks for nothing"
    );
}

#[test]
fn a_term_that_has_ended_does_not_go_on() {
    let (mut all, now) = masters(Instant::now());
    let now = campaign(&mut all, 0, &[1, 2], now);
    let until = all[0].leads(now).unwrap().until;
    let sent = all[0].due();
    let request = all[0].tick(CLOCK, 0, sent).unwrap();
    let reply = all[1].on_request(&request, sent);
    assert!(reply.granted && sent + config().reliance() > until);
    assert_eq!(all[0].leads(until), None);
    all[0].on_reply(&id(1).address, &request, sent, reply, until);
    assert_eq!(all[0].leads(until), None, "the grant came too late");
}
