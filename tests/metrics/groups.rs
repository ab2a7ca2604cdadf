//! The metrics of groups.

use nano::{App, Group, metrics as names};

use crate::{
    counts::{Counts, Series},
    harness::{Client, start},
};

#[tokio::test]
async fn groups_count_while_they_have_members_and_members_once_for_each_group() {
    let mut counts = Counts::start().await;
    let node = start(App::new()).await;
    let series = Series::of(&node);
    let (groups, members) = (
        series.named(names::GROUPS),
        series.named(names::GROUP_MEMBERS),
    );
    let mut expect = async |expected: (usize, usize)| {
        counts.expect(&groups, expected.0).await;
        counts.expect(&members, expected.1).await;
    };
    let (one, two) = (Client::connect(&node).await, Client::connect(&node).await);
    let (first, second) = (one.session(&node).await, two.session(&node).await);
    let (room, guild, empty) = (
        Group::<nano::Json>::new("room"),
        Group::<nano::Json>::new("guild"),
        Group::<nano::Json>::new("empty"),
    );
    for group in [&room, &guild] {
        assert!(group.add(&first).unwrap());
        assert!(group.add(&second).unwrap());
        assert!(!group.add(&first).unwrap(), "once");
    }
    expect((2, 4)).await;
    assert!(!empty.leave(&first).unwrap());
    room.leave(&first).unwrap();
    expect((2, 3)).await;
    room.leave_all().unwrap();
    expect((1, 2)).await;
    // It has members again.
    room.add(&second).unwrap();
    expect((2, 3)).await;
    drop(two);
    expect((1, 1)).await;
    guild.close().unwrap();
    expect((0, 0)).await;
    empty.add(&first).unwrap();
    expect((1, 1)).await;
    drop(empty);
    expect((0, 0)).await;
    node.shutdown().await;
}
