//! Go members in the cluster of our master.

use std::collections::HashMap;

use tokio::time::{Instant, sleep, timeout};

use crate::{
    go::{Call, Fake, MasterClient, Step, channel},
    nodes::{HEARTBEAT, Living, free_address, master, member, serving},
    proto::{DelMemberRequest, MemberInfo, NewMemberRequest, RegisterRequest, RegisterResponse, UnregisterRequest},
    support::{eventually, within},
};

/// s03, word for word: registrations, announcements, goodbyes and refusals. One thing is better: who registers again is first said to have left, or
/// Go members would have it twice.
#[tokio::test]
async fn a_master_says_what_was_recorded() {
    let steps = Step::load("s03_register_newmember_unregister_real_master");
    let master = Living::start(serving(master().label("mm"), &["T"])).await;
    let fakes = HashMap::from([("A", Fake::start().await), ("B", Fake::start().await), ("X", Fake::start().await)]);
    let addresses = HashMap::from([
        ("127.0.0.1:20005", master.address()),
        ("127.0.0.1:20006", &fakes["A"].address),
        ("127.0.0.1:20007", &fakes["B"].address),
    ]);
    let here = |address: &str| addresses.get(address).map_or("", |address| address).to_owned();
    let info_here = |info: MemberInfo| MemberInfo { service_addr: here(&info.service_addr), ..info };
    let mut expected: HashMap<&str, Vec<Call>> = HashMap::new();
    let mut last: HashMap<&str, Result<Option<RegisterResponse>, tonic::Status>> = HashMap::new();
    let mut registered: Vec<String> = Vec::new();
    let mut checked = 0;
    for step in &steps {
        let at = step.at.as_str();
        match (step.kind.as_str(), step.method.as_str()) {
            ("out", "Register") => {
                let info = step.message::<RegisterRequest>().member_info.map(info_here);
                if let Some(info) = &info {
                    if registered.contains(&info.service_addr) {
                        expected.entry("B").or_default().push(Call::Del(info.service_addr.clone()));
                    }
                    registered.push(info.service_addr.clone());
                }
                let reply = MasterClient::new(channel(master.address())).register(RegisterRequest { member_info: info }).await;
                last.insert(at, reply.map(|reply| Some(reply.into_inner())));
            }
            ("out", "Unregister") => {
                let service_addr = here(&step.message::<UnregisterRequest>().service_addr);
                let reply =
                    MasterClient::new(channel(master.address())).unregister(UnregisterRequest { service_addr, incarnation: 0 }).await;
                last.insert(at, reply.map(|_| None));
            }
            ("in", method) => {
                let expected = expected.entry(at).or_default();
                expected.push(match method {
                    "NewMember" => Call::New(info_here(step.message::<NewMemberRequest>().member_info.unwrap())),
                    _ => Call::Del(here(&step.message::<DelMemberRequest>().service_addr)),
                });
                // Before the next step makes it pointless.
                eventually("an announcement", || fakes[at].calls() == *expected).await;
                checked += 1;
            }
            ("out-reply", "Register") => {
                let members: Vec<_> = step.message::<RegisterResponse>().members.into_iter().map(info_here).collect();
                let reply = last.remove(at).unwrap().unwrap().unwrap();
                let old = |info: MemberInfo| MemberInfo { incarnation: 0, link: false, ..info };
                assert_eq!(reply.members.into_iter().map(old).collect::<Vec<_>>(), members);
                checked += 1;
            }
            ("out-reply", "Unregister") => {
                assert_eq!(last.remove(at).unwrap().unwrap(), None);
                checked += 1;
            }
            ("out-error", _) => {
                let status = last.remove(at).unwrap().unwrap_err();
                let recorded = step.status.clone().unwrap().replace("127.0.0.1:20006", &fakes["A"].address);
                assert_eq!((status.code(), status.message()), (tonic::Code::Unknown, recorded.as_str()));
                checked += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(checked, 10);
}

/// s06: a silent Go member is removed after more than four of its heartbeats, on the next look.
#[tokio::test]
async fn a_silent_go_member_is_removed_after_four_heartbeats() {
    let steps = Step::load("s06_sigkill");
    let master = Living::start(serving(master(), &["MasterT"])).await;
    let (observer, dies) = (Fake::start().await, Fake::start().await);
    observer.join(master.address(), &["Obs"]).await;
    dies.register(master.address(), dies.info("", &["Echo"])).await.unwrap();
    let last_heartbeat = Instant::now();
    let expected: Vec<_> = steps.iter().filter(|step| step.kind == "in").map(|step| step.method.clone()).collect();
    eventually("both announcements", || observer.calls().len() == expected.len()).await;
    let took = last_heartbeat.elapsed();
    assert_eq!(observer.calls(), [Call::New(dies.info("", &["Echo"])), Call::Del(dies.address.clone())]);
    assert_eq!(expected, ["NewMember", "DelMember"]);
    assert!(took >= HEARTBEAT * 4 && took < HEARTBEAT * 8, "{took:?}");
}

/// s08: a member that registers twice and leaves is gone, also from a table that only appends.
#[tokio::test]
async fn who_registered_twice_leaves_no_stale_entry() {
    let master = Living::start(master()).await;
    let (gate, a) = (Fake::start().await, Fake::start().await);
    gate.join(master.address(), &["T"]).await;
    for _ in 0..2 {
        a.register(master.address(), a.info("", &["Fake"])).await.unwrap();
    }
    let goodbye = UnregisterRequest { service_addr: a.address.clone(), incarnation: 0 };
    MasterClient::new(channel(master.address())).unregister(goodbye).await.unwrap();
    eventually("the goodbye", || gate.calls().last() == Some(&Call::Del(a.address.clone()))).await;
    assert_eq!(gate.table(), [master.address()]);
}

/// s09 and s10: neither the dead nor the hung hold up anybody.
#[tokio::test]
async fn dead_and_hung_members_hold_nobody_up() {
    let master = Living::start(master()).await;
    let observer = Fake::start().await;
    observer.join(master.address(), &["Obs"]).await;
    let (hung, mut dead) = (Fake::start().await, Vec::new());
    hung.join(master.address(), &["Hung"]).await;
    hung.hang();
    for _ in 0..2 {
        let dies = Fake::start().await;
        dies.register(master.address(), dies.info("", &["Dead"])).await.unwrap();
        dead.push(dies.address.clone());
    }
    let rust = timeout(HEARTBEAT * 2, Living::start(member(master.address()))).await.expect("joining waits for nobody");
    eventually("the observer is told", || observer.table().contains(&rust.address().to_owned())).await;
    eventually("the dead are removed", || !dead.iter().any(|dead| master.table().contains(dead) || observer.table().contains(dead))).await;
    assert_eq!(observer.table(), [master.address(), &hung.address, rust.address()], "once each");
    assert!(master.table().contains(&hung.address), "it shows life");
}

/// s22: a Go member that was taken for dead is announced when it shows life again, and caught up with what it missed.
#[tokio::test]
async fn a_go_member_that_returns_is_announced_and_caught_up() {
    let master = Living::start(master()).await;
    let (gate, a, leaves) = (Fake::start().await, Fake::start().await, Fake::start().await);
    gate.join(master.address(), &["T"]).await;
    leaves.join(master.address(), &["Old"]).await;
    a.join(master.address(), &["Fake"]).await;
    let rust = Living::start(member(master.address())).await;
    eventually("it knows all", || a.table().len() == 4).await;
    a.fall_silent();
    eventually("it is taken for dead", || !gate.table().contains(&a.address) && !rust.table().contains(&a.address)).await;
    leaves.fall_silent();
    eventually("another one goes", || !gate.table().contains(&leaves.address)).await;
    let new = Living::start(member(master.address())).await;

    a.show_life(master.address(), a.info("", &["Fake"]));
    eventually("it is announced", || gate.table().contains(&a.address) && rust.table().contains(&a.address)).await;
    let sorted = |mut table: Vec<String>| {
        table.sort();
        table
    };
    let all = sorted([master.address(), &gate.address, rust.address(), new.address()].map(str::to_owned).to_vec());
    eventually("it knows all, once each, and nobody else", || sorted(a.table()) == all).await;
    assert_eq!(gate.table().iter().filter(|address| **address == a.address).count(), 1);
}

/// s07: after a restart of the master everybody learns of everybody.
#[tokio::test]
async fn a_restarted_master_brings_everybody_together() {
    let address = free_address();
    let first = Living::start(serving(master().service_addr(&address), &["MasterT"])).await;
    let (observer, rust) = (Fake::start().await, Living::start(serving(member(&address), &["Echo"])).await);
    observer.join(&address, &["Obs"]).await;
    first.kill().await;
    sleep(HEARTBEAT).await;
    let second = Living::start(serving(master().service_addr(&address), &["MasterT"])).await;
    let new = Fake::start().await;
    within("a registration before the others called", new.join(&address, &["New"])).await;
    let sorted = |mut table: Vec<String>| {
        table.sort();
        table
    };
    let all = [&address, rust.address(), &new.address, &observer.address];
    for (own, table) in [
        (rust.address(), Box::new(|| rust.table()) as Box<dyn Fn() -> Vec<String>>),
        (&new.address, Box::new(|| new.table())),
        (&observer.address, Box::new(|| observer.table())),
        (&address, Box::new(|| second.table())),
    ] {
        let others = sorted(all.iter().filter(|address| **address != own).map(|&address| address.to_owned()).collect());
        eventually("everybody knows everybody once", || sorted(table()) == others).await;
    }
}
