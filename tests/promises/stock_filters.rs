//! What the filters that come with the crate promise: limits of time and load, and validation.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nano::{
    App, Component, Error, Handlers, Result, Session, Timeouts, code,
    filter::{self, LoadShed, TimeLimit},
};
use parking_lot::Mutex;

use crate::{filters::serve, harness::Latch};

/// Notes when a future that waits for an hour is dropped.
struct Forever(Arc<AtomicUsize>);

struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Component for Forever {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Wait", Self::wait).on("Wander", Self::wait)
    }
}

impl Forever {
    async fn wait(self: Arc<Self>, _: Session, _: ()) -> Result<bool> {
        let _dropped = Dropped(self.0.clone());
        tokio::time::sleep(Duration::from_secs(3600)).await;
        Ok(true)
    }
}

#[tokio::test]
async fn a_handler_over_its_time_limit_is_dropped_and_answered() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let log = Arc::new(Mutex::new(Vec::new()));
    let ends = log.clone();
    let limits = TimeLimit::new(Duration::from_millis(50)).unlimited("Forever.Wander");
    let app = App::new()
        .timeouts(Timeouts::new().request(None))
        .filter(filter::after(move |_, outcome| {
            ends.lock()
                .push(outcome.error().unwrap().code().to_string());
        }))
        .filter(limits)
        .component(Forever(dropped.clone()));
    let node = serve(app).await;
    let client = node.client().await;
    client.notify("Forever.Wander", &()).await.unwrap();
    for limited in 1..=3 {
        let error = client
            .request::<bool, _>("Forever.Wait", &())
            .await
            .unwrap_err();
        assert_eq!(error.code(), code::TIMEOUT);
        assert_eq!(dropped.load(Ordering::SeqCst), limited);
    }
    assert_eq!(*log.lock(), [code::TIMEOUT; 3]);
    node.stop().await;
    assert_eq!(dropped.load(Ordering::SeqCst), 4);
    assert_eq!(*log.lock().last().unwrap(), code::UNAVAILABLE);
}

/// Blocks its scheduler until a latch opens.
struct Counter(Arc<Latch>, Arc<AtomicUsize>);

impl Component for Counter {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Block", |counter: &Self, _: &Session, _: ()| {
            counter.0.wait();
            Ok::<_, Error>(true)
        })
        .on("Add", |counter: &Self, _: &Session, _: ()| {
            Ok::<_, Error>(counter.1.fetch_add(1, Ordering::SeqCst) + 1)
        })
    }
}

#[tokio::test]
async fn messages_that_waited_too_long_are_shed() {
    let (latch, handled) = (Arc::new(Latch::default()), Arc::new(AtomicUsize::new(0)));
    let bound = Duration::from_secs(2);
    let app = App::new()
        .filter(LoadShed::new(bound).keep_notifies())
        .component(Counter(latch.clone(), handled.clone()));
    let node = serve(app).await;
    let (client, other) = (node.client().await, node.client().await);
    assert_eq!(
        client
            .request::<usize, _>("Counter.Add", &())
            .await
            .unwrap(),
        1
    );

    let blocked = tokio::spawn(async move { other.request::<bool, _>("Counter.Block", &()).await });
    latch.reached(1).await;
    client.notify("Counter.Add", &()).await.unwrap();
    let late: Vec<_> = (0..5)
        .map(|_| client.request::<usize, _>("Counter.Add", &()))
        .collect();
    let open = async {
        // Longer than the bound, and not at all a wait for a condition.
        tokio::time::sleep(bound + Duration::from_millis(200)).await;
        latch.open();
    };
    let (late, ()) = tokio::join!(futures_util::future::join_all(late), open);
    for reply in late {
        assert_eq!(reply.unwrap_err().code(), code::TOO_MANY);
    }
    assert!(blocked.await.unwrap().unwrap());
    assert_eq!(handled.load(Ordering::SeqCst), 2, "the notify was kept");
    assert_eq!(
        client
            .request::<usize, _>("Counter.Add", &())
            .await
            .unwrap(),
        3
    );
}

#[tokio::test]
async fn messages_are_validated_by_their_type() {
    struct Forms;

    impl Component for Forms {
        fn handlers(h: Handlers<Self>) -> Handlers<Self> {
            h.on("Text", |_: &Self, _: &Session, text: String| {
                Ok::<_, Error>(text)
            })
            .on("Number", |_: &Self, _: &Session, number: i64| {
                Ok::<_, Error>(number)
            })
            .validate(|number: &i64| match number {
                0..10 => Ok(()),
                _ => Err(Error::bad_request("a digit")),
            })
        }
    }

    let short = filter::validate(|text: &String| match text.len() {
        0..5 => Ok(()),
        _ => Err(Error::bad_request("too long")),
    });
    let node = serve(App::new().component(Forms).filter(short)).await;
    let client = node.client().await;
    assert_eq!(
        client
            .request::<String, _>("Forms.Text", "abc")
            .await
            .unwrap(),
        "abc"
    );
    assert_eq!(
        client.request::<i64, _>("Forms.Number", &9).await.unwrap(),
        9
    );
    let error = client
        .request::<String, _>("Forms.Text", "abcdef")
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (code::BAD_REQUEST, "too long")
    );
    let error = client
        .request::<i64, _>("Forms.Number", &10)
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (code::BAD_REQUEST, "a digit")
    );
}

#[tokio::test]
async fn a_check_of_another_type_or_without_a_handler_is_a_start_up_error() {
    struct Wrong;

    impl Component for Wrong {
        fn handlers(h: Handlers<Self>) -> Handlers<Self> {
            h.on("Text", |_: &Self, _: &Session, text: String| {
                Ok::<_, Error>(text)
            })
            .validate(|_: &i64| Ok(()))
        }
    }

    struct Early;

    impl Component for Early {
        fn handlers(h: Handlers<Self>) -> Handlers<Self> {
            h.filter(filter::after(|_, _| ()))
                .on("Text", |_: &Self, _: &Session, text: String| {
                    Ok::<_, Error>(text)
                })
        }
    }

    let wrong = App::new().component(Wrong).start().await.unwrap_err();
    assert_eq!(wrong.code(), code::BAD_REQUEST);
    let text = wrong.message();
    assert!(
        text.contains("Wrong.Text") && text.contains("String") && text.contains("i64"),
        "{text}"
    );
    let early = App::new().component(Early).start().await.unwrap_err();
    assert!(early.message().contains("filter()"), "{early}");
}
