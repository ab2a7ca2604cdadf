//! The shape of a real game written for Go nano, a server for mahjong, on this crate: shared maps
//! on one logic thread, a task for each desk that pushes from outside of handlers, mailboxes, late
//! replies, logins that replace each other, timers that end themselves, a cipher, and threads that
//! know nothing of the node.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{sync::Arc, thread};

use nano::{Node, client::DisconnectReason, code};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

#[path = "mahjong_port/cipher.rs"]
mod cipher;
#[path = "mahjong_port/components.rs"]
mod components;
#[path = "mahjong_port/desk.rs"]
mod desk;
#[path = "mahjong_port/guest.rs"]
mod guest;
#[path = "mahjong_port/world.rs"]
mod world;

use components::{DeskNumber, DeskState, LoggedIn};
use desk::{Hand, IMPOSSIBLE};
use guest::{Guest, Heard};
use world::{REPLACED, World};

async fn start() -> (Node, Arc<World>) {
    let world = World::new();
    (components::app(&world).start().await.unwrap(), world)
}

/// Four players at one desk.
async fn seat(node: &Node) -> (Vec<Guest>, u32) {
    let mut guests = Vec::new();
    for uid in 1..=4 {
        guests.push(Guest::login(node, uid).await.0);
    }
    let desk: DeskNumber = guests[0]
        .request("DeskManager.CreateDesk", &())
        .await
        .unwrap();
    for guest in &guests {
        guest.join(desk.number).await;
    }
    (guests, desk.number)
}

async fn all_hear(heard: &mut [Heard], what: &Value) {
    for heard in heard {
        assert_eq!(heard.next::<Value>().await, *what);
    }
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "{what}: not in time");
        sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_whole_evening() {
    let (node, world) = start().await;

    // Login, create, join.
    let (first, reply) = Guest::login(&node, 1).await;
    assert_eq!(
        reply,
        LoggedIn {
            uid: 1,
            name: "player 1".to_owned(),
            playing: false
        }
    );
    let mut guests = vec![first];
    for uid in 2..=4 {
        guests.push(Guest::login(&node, uid).await.0);
    }
    let desk: DeskNumber = guests[0]
        .request("DeskManager.CreateDesk", &())
        .await
        .unwrap();
    let mut entered = guests[0].hears("onPlayerEnter");
    for (guest, uid) in guests.iter().zip(1..) {
        assert_eq!(
            guest.join(desk.number).await,
            (1..=uid).collect::<Vec<i64>>()
        );
    }
    for uid in 2..=4 {
        assert_eq!(entered.next::<Value>().await, json!({ "acId": uid }));
    }
    let fifth = Guest::login(&node, 5).await.0;
    let refused = fifth
        .request::<Value>("DeskManager.Join", &desk)
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code().as_str(), refused.message()),
        ("DESK-FULL", "all seats are taken")
    );

    // Ready, deal: from the desk's task, each hand as it was when it was pushed.
    let mut dealt: Vec<_> = guests.iter().map(|guest| guest.hears("onDeal")).collect();
    for guest in &guests {
        guest.client.notify("DeskManager.Ready", &()).await.unwrap();
    }
    for (heard, seat) in dealt.iter_mut().zip(0..) {
        let hand: Hand = heard.next().await;
        assert_eq!(
            (hand.uid, hand.cards),
            (i64::from(seat) + 1, vec![seat * 10 + 1, seat * 10 + 2])
        );
    }

    // Disconnect: the others hear of it. Reconnect, rejoin: they hear of that too, the one who
    // comes back does not.
    let mut offline: Vec<_> = guests[..3]
        .iter()
        .map(|guest| guest.hears("onOffline"))
        .collect();
    let mut online: Vec<_> = guests[..3]
        .iter()
        .map(|guest| guest.hears("onOnline"))
        .collect();
    guests.pop().unwrap().client.close();
    all_hear(&mut offline, &json!({ "acId": 4 })).await;
    let (back, reply) = Guest::login(&node, 4).await;
    assert!(reply.playing);
    let state: DeskState = back.request("DeskManager.ReConnect", &()).await.unwrap();
    assert_eq!(
        state,
        DeskState {
            number: desk.number,
            players: vec![1, 2, 3, 4]
        }
    );
    let mut own_return = back.hears("onOnline");
    back.request::<DeskNumber>("DeskManager.ReJoin", &())
        .await
        .unwrap();
    all_hear(&mut online, &json!({ "acId": 4 })).await;
    guests.push(back);

    // They play on, four of them.
    let mut discarded: Vec<_> = guests
        .iter()
        .map(|guest| guest.hears("onDiscard"))
        .collect();
    guests[3]
        .request::<Value>("DeskManager.OpChoose", &json!({ "card": 31 }))
        .await
        .unwrap();
    all_hear(&mut discarded, &json!({ "acId": 4, "card": 31 })).await;
    assert!(own_return.nothing_more());

    // Dissolve: a timer that ends itself, and a task that gives its desk back to the logic thread.
    let mut status: Vec<_> = guests
        .iter()
        .map(|guest| guest.hears("onDissolveStatus"))
        .collect();
    let mut dissolved: Vec<_> = guests
        .iter()
        .map(|guest| guest.hears("onDissolved"))
        .collect();
    let timer_of = world.desk(desk.number).unwrap();
    guests[1].ask("DeskManager.Dissolve").await.unwrap();
    for rest in [2, 1, 0] {
        all_hear(&mut status, &json!({ "rest": rest })).await;
    }
    all_hear(&mut dissolved, &json!({ "deskNo": desk.number })).await;
    assert!(status.iter_mut().all(Heard::nothing_more));
    assert!(timer_of.countdown.lock().as_ref().unwrap().is_stopped());
    eventually("the desk leaves the map", || world.desks() == 0).await;
    assert_eq!(
        guests[0]
            .ask("DeskManager.ReConnect")
            .await
            .unwrap_err()
            .code(),
        code::NOT_FOUND
    );

    // Both close callbacks saw the one who left, in the order of registration, with the uid still
    // there.
    assert_eq!(world.closed(), ["manager 4 client", "desks 4 client"]);
    node.shutdown().await;
}

#[tokio::test]
async fn a_login_replaces_the_session_before_without_going_offline() {
    let (node, world) = start().await;
    let (guests, _) = seat(&node).await;
    let mut offline = guests[0].hears("onOffline");
    let mut online = guests[0].hears("onOnline");

    let (again, reply) = Guest::login(&node, 2).await;
    assert!(reply.playing);
    assert_eq!(
        guests[1].closed().await,
        DisconnectReason::Kicked(REPLACED.to_owned())
    );
    eventually("the close callbacks", || world.closed().len() == 2).await;
    again.ask("DeskManager.ReJoin").await.unwrap();
    // What the first one hears comes in order, so an offline would be there by now.
    assert_eq!(online.next::<Value>().await, json!({ "acId": 2 }));
    assert!(offline.nothing_more());
    assert_eq!(world.everyone.count(), 4);

    // The same connection may log in twice, too; but it is in the group already.
    let twice = again
        .request::<LoggedIn>("Manager.Login", &json!({ "uid": 2, "name": "" }))
        .await
        .unwrap_err();
    assert_eq!(twice.code(), code::CONFLICT);
    assert!(again.client.close_reason().is_none());
    node.shutdown().await;
}

#[tokio::test]
async fn a_full_mailbox_is_an_error_and_blocks_no_player() {
    let (node, _) = start().await;
    let (guests, _) = seat(&node).await;
    let mut discarded: Vec<_> = guests
        .iter()
        .map(|guest| guest.hears("onDiscard"))
        .collect();

    guests[0].ask("DeskManager.Pause").await.unwrap();
    guests[0]
        .request::<Value>("DeskManager.OpChoose", &json!({ "card": 1 }))
        .await
        .unwrap();
    let busy = guests[1]
        .request::<Value>("DeskManager.OpChoose", &json!({ "card": 2 }))
        .await
        .unwrap_err();
    assert_eq!(
        (busy.code(), busy.message()),
        (code::TOO_MANY, "the desk is busy")
    );

    guests[2].ask("DeskManager.Resume").await.unwrap();
    all_hear(&mut discarded, &json!({ "acId": 1, "card": 1 })).await;
    node.shutdown().await;
}

#[tokio::test]
async fn a_desk_survives_a_panic() {
    let (node, _) = start().await;
    let (guests, desk) = seat(&node).await;
    let mut errors: Vec<_> = guests
        .iter()
        .map(|guest| guest.hears("onDeskError"))
        .collect();
    let mut discarded: Vec<_> = guests
        .iter()
        .map(|guest| guest.hears("onDiscard"))
        .collect();

    guests[0]
        .request::<Value>("DeskManager.OpChoose", &json!({ "card": IMPOSSIBLE }))
        .await
        .unwrap();
    all_hear(&mut errors, &json!({ "deskNo": desk })).await;
    guests[0]
        .request::<Value>("DeskManager.OpChoose", &json!({ "card": 5 }))
        .await
        .unwrap();
    all_hear(&mut discarded, &json!({ "acId": 1, "card": 5 })).await;
    node.shutdown().await;
}

#[tokio::test]
async fn replies_come_late_and_voices_go_round_untouched() {
    let (node, _) = start().await;
    let (guests, _) = seat(&node).await;
    let clubs = guests[0].request::<Value>("ClubManager.ApplyClub", &7);
    let other = guests[0].request::<Value>("ClubManager.ApplyClub", &8);
    let (seven, eight) = tokio::join!(clubs, other);
    assert_eq!(
        (seven.unwrap(), eight.unwrap()),
        (json!({ "clubId": 7 }), json!({ "clubId": 8 }))
    );

    let mut voices: Vec<_> = guests.iter().map(|guest| guest.hears("onVoice")).collect();
    let voice = [0x00, 0xFF, 0x7B, 0x80];
    guests[3]
        .client
        .notify_raw("DeskManager.VoiceMessage", cipher::seal(&voice))
        .await
        .unwrap();
    for heard in &mut voices {
        assert_eq!(heard.next_raw().await.as_ref(), voice);
    }
    node.shutdown().await;
}

#[tokio::test]
async fn a_pipeline_that_refuses_answers() {
    let (node, _) = start().await;
    let guest = Guest::connect(&node).await;
    // Neither of these went through the cipher, so the server cannot know what they say.
    for body in [r#"{"uid":1,"name":"x"}"#, "abc"] {
        let refused = guest
            .client
            .request_raw("Manager.Login", body)
            .await
            .unwrap_err();
        let said = nano::Error::from_body(&cipher::open(refused.message().as_bytes()).unwrap());
        assert_eq!(
            (said.code(), said.message()),
            (code::BAD_REQUEST, "not sealed"),
            "{body}"
        );
    }
    let unbound = guest.ask("DeskManager.CreateDesk").await.unwrap_err();
    assert_eq!(
        (unbound.code(), unbound.message()),
        (code::FORBIDDEN, "log in first")
    );
    node.shutdown().await;
}

/// The web server beside the game: a thread without a runtime that broadcasts, recharges and kicks.
#[tokio::test]
async fn a_foreign_thread_reaches_players() {
    let (node, world) = start().await;
    let (guests, _) = seat(&node).await;
    let mut news: Vec<_> = guests
        .iter()
        .map(|guest| guest.hears("onBroadcast"))
        .collect();
    let mut recharged = guests[2].hears("onCoinChange");

    let (handle, shared) = (node.handle().clone(), world.clone());
    let web = thread::spawn(move || {
        assert!(tokio::runtime::Handle::try_current().is_err());
        shared
            .everyone
            .broadcast("onBroadcast", "the shop is open")
            .unwrap();
        let maps = shared.clone();
        let recharge = move || {
            let (player, balance) = maps.recharge(3, 100).unwrap();
            player.session().push("onCoinChange", &balance).unwrap();
        };
        handle.push_task(recharge).unwrap();
        for session in handle.sessions_by_uid(4) {
            session.kick("cheating");
        }
    });
    all_hear(&mut news, &json!("the shop is open")).await;
    assert_eq!(recharged.next::<i64>().await, 100);
    assert_eq!(
        guests[3].closed().await,
        DisconnectReason::Kicked("cheating".to_owned())
    );
    web.join().unwrap();
    node.shutdown().await;
}
