//! The metrics of channels.

use std::time::Duration;

use nano::{App, Limits, Position, code, metrics as names};

use crate::{
    counts::{Counts, Series},
    harness::{Client, start},
};

#[tokio::test]
async fn channels_count_members_publications_returns_and_refusals() {
    let mut counts = Counts::start().await;
    let limits = Limits::new().max_channels_per_session(1);
    let node = start(App::new().limits(limits)).await;
    let series = Series::of(&node);
    let named = |name| series.named(name);
    let outcome = |outcome| {
        let name = named(names::CHANNEL_RECOVERIES);
        format!("{name}{{outcome={outcome}}}")
    };
    let client = Client::connect(&node).await;
    let session = client.session(&node).await;
    let guild = node.handle().channel("guild");
    let guild = guild.with_history(9, Duration::from_secs(9));

    let at = guild.join(&session).await.unwrap();
    counts.expect(&named(names::CHANNELS), 1).await;
    counts.expect(&named(names::CHANNEL_MEMBERS), 1).await;
    let other = node.handle().channel("other").join(&session).await;
    assert_eq!(other.unwrap_err().code(), code::TOO_MANY);
    counts.expect(&named(names::CHANNEL_REFUSED), 1).await;
    guild.publish("on", &1).await.unwrap();
    counts.expect(&named(names::CHANNEL_PUBLICATIONS), 1).await;
    guild.leave(&session).await.unwrap();
    guild.rejoin(&session, at).await.unwrap();
    counts.expect(&outcome("recovered"), 1).await;
    guild.leave(&session).await.unwrap();
    let never = Position { epoch: 1, ..at };
    guild.rejoin(&session, never).await.unwrap();
    counts.expect(&outcome("lost"), 1).await;
    counts.expect(&named(names::CHANNEL_MEMBERS), 1).await;
    guild.leave(&session).await.unwrap();
    counts.expect(&named(names::CHANNEL_MEMBERS), 0).await;
    // The history keeps it; a channel without one goes with its last member.
    counts.expect(&named(names::CHANNELS), 1).await;
    node.handle().channel("other").join(&session).await.unwrap();
    counts.expect(&named(names::CHANNELS), 2).await;
    counts.expect(&named(names::CHANNEL_MEMBERS), 1).await;
    drop(client);
    counts.expect(&named(names::CHANNEL_MEMBERS), 0).await;
    counts.expect(&named(names::CHANNELS), 1).await;
    node.shutdown().await;
}
