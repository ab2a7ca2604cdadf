//! Masters that die, come back, or stay away.

use std::sync::Arc;

use nano::Member;
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::{
    nodes::{HEARTBEAT, Living, free_address, master, member, serving},
    support::{eventually, within},
};

#[tokio::test]
async fn members_keep_each_other_when_the_master_is_away_and_find_it_again() {
    let address = free_address();
    let first = Living::start(master().service_addr(&address)).await;
    let left: Arc<Mutex<Vec<Member>>> = Arc::default();
    let noted = left.clone();
    let a = Living::start(
        member(&address).on_member_left(move |member| noted.lock().push(member.clone())),
    )
    .await;
    let b = Living::start(member(&address)).await;
    a.sees(&[&address, b.address()]).await;
    first.kill().await;

    // Somebody who joins meanwhile waits for it.
    let newcomer = tokio::spawn(Living::start(member(&address)));
    sleep(HEARTBEAT * 5).await;
    assert_eq!(
        a.table(),
        [&address, b.address()],
        "nobody is gone for that the master is"
    );
    assert!(!newcomer.is_finished());

    let second = Living::start(master().service_addr(&address)).await;
    let newcomer = newcomer.await.unwrap();
    for node in [&a, &b, &newcomer] {
        eventually("all see the new master and all others", || {
            node.table().len() == 3
                && node.handle().members()[0] == *second.handle().member().unwrap()
        })
        .await;
    }
    eventually("the master sees all", || second.table().len() == 3).await;
    // Longer than the new master holds back.
    sleep(HEARTBEAT * 7).await;
    let left = left.lock();
    assert!(
        left.iter().all(|member| member.address() == address),
        "only the old master left: {left:?}"
    );
    assert_eq!(a.table().len(), 3);
}

#[tokio::test]
async fn who_dies_with_the_master_is_forgotten_after_its_return() {
    let address = free_address();
    let first = Living::start(master().service_addr(&address)).await;
    let (lives, dies) = (
        Living::start(member(&address)).await,
        Living::start(member(&address)).await,
    );
    lives.sees(&[&address, dies.address()]).await;
    first.kill().await;
    dies.kill().await;
    let _second = Living::start(master().service_addr(&address)).await;
    lives.sees(&[&address]).await;
}

#[tokio::test]
async fn the_first_master_that_answers_is_joined() {
    let (dead, other) = (free_address(), free_address());
    let first = Living::start(master()).await;
    let app = serving(member(&dead), &["Room"])
        .advertise_addr(first.address())
        .advertise_addr(&other);
    let node = Living::start(app).await;
    node.sees(&[first.address()]).await;
    // Its successor is started in another place.
    first.kill().await;
    let second = Living::start(master().service_addr(&other)).await;
    node.sees(&[&other]).await;
    second.sees(&[node.address()]).await;
    within("the end", node.stop()).await;
    assert!(second.table().is_empty(), "it said goodbye to the new one");
}
