//! Masters that die, return, or move to another address.

use std::sync::Arc;

use nano::Member;
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::{
    nodes::{HEARTBEAT, Living, free_address, join, master, member, serving},
    support::{eventually, within},
};

#[tokio::test]
async fn members_keep_each_other_while_the_master_is_down_and_find_its_successor() {
    let address = free_address();
    let first = Living::start(master().listen(&address)).await;
    let left: Arc<Mutex<Vec<Member>>> = Arc::default();
    let noted = left.clone();
    let a = Living::start(
        member(&address).on_member_left(move |member| noted.lock().push(member.clone())),
    )
    .await;
    let b = Living::start(member(&address)).await;
    a.sees(&[&address, b.address()]).await;
    first.kill().await;

    // A node that joins meanwhile waits for the master.
    let newcomer = tokio::spawn(Living::start(member(&address)));
    sleep(HEARTBEAT * 5).await;
    assert_eq!(
        a.table(),
        [&address, b.address()],
        "no member is lost with the master"
    );
    assert!(!newcomer.is_finished());

    let second = Living::start(master().listen(&address)).await;
    let newcomer = newcomer.await.unwrap();
    for node in [&a, &b, &newcomer] {
        eventually("all have the new master and all others", || {
            node.table().len() == 3
                && node.handle().members()[0] == *second.handle().member().unwrap()
        })
        .await;
    }
    eventually("the master sees all", || second.table().len() == 3).await;
    // Longer than the startup grace of the new master.
    sleep(HEARTBEAT * 7).await;
    let left = left.lock();
    assert!(
        left.iter().all(|member| member.address() == address),
        "only the old master left: {left:?}"
    );
    assert_eq!(a.table().len(), 3);
}

#[tokio::test]
async fn a_member_that_died_with_the_master_is_forgotten_after_its_return() {
    let address = free_address();
    let first = Living::start(master().listen(&address)).await;
    let (lives, dies) = (
        Living::start(member(&address)).await,
        Living::start(member(&address)).await,
    );
    lives.sees(&[&address, dies.address()]).await;
    first.kill().await;
    dies.kill().await;
    let _second = Living::start(master().listen(&address)).await;
    lives.sees(&[&address]).await;
}

#[tokio::test]
async fn the_first_master_that_answers_is_joined() {
    let (dead, other) = (free_address(), free_address());
    let first = Living::start(master()).await;
    let app = serving(join([&dead, first.address(), &other]), &["Room"]);
    let node = Living::start(app).await;
    node.sees(&[first.address()]).await;
    // Its successor has the other address.
    first.kill().await;
    let second = Living::start(master().listen(&other)).await;
    node.sees(&[&other]).await;
    second.sees(&[node.address()]).await;
    within("the end", node.stop()).await;
    assert!(
        second.table().is_empty(),
        "it unregistered from the new one"
    );
}
