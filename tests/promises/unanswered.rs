//! Promise 2, where the answer is late, lost, or given twice.

use std::{sync::Arc, thread, time::Duration};

use nano::{
    App, Cluster, Component, Handlers, Limits, Node, Options, Responder, Result, Session, Timeouts,
    code,
};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use crate::{
    harness::{Client, start},
    log::Log,
    support::eventually,
};

/// Keeps requests, and answers on demand.
#[derive(Default)]
struct Inbox {
    kept: Mutex<Vec<Responder>>,
    results: Mutex<Vec<Result>>,
}

/// The component of a node and the test look at the same inbox.
struct Mail(Arc<Inbox>);

impl Component for Mail {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Keep", Self::keep)
            .on("Drop", Self::drop)
            .on("Thread", Self::thread)
            .on("Twice", Self::twice)
            .on("Echo", Self::echo)
            .on("Never", Self::never)
    }
}

impl Mail {
    fn keep(&self, session: &Session, _: ()) -> Result {
        self.0.kept.lock().push(session.responder());
        Ok(())
    }

    fn drop(&self, session: &Session, _: ()) -> Result {
        drop(session.responder());
        Ok(())
    }

    fn thread(&self, session: &Session, text: String) -> Result {
        let responder = session.responder();
        thread::spawn(move || responder.respond(&text));
        Ok(())
    }

    /// Waits for something that nothing will ever wake it for.
    async fn never(self: Arc<Self>, _: Session, _: ()) -> Result {
        std::future::pending().await
    }

    /// Answers by itself and returns an answer too.
    fn twice(&self, session: &Session, _: ()) -> Result<&'static str> {
        session.respond("first")?;
        self.0.results.lock().push(session.respond("second"));
        Ok("third")
    }

    fn echo(&self, _: &Session, text: String) -> Result<String> {
        Ok(text)
    }
}

async fn mail(app: App) -> (Arc<Inbox>, Node, Client) {
    let inbox = Arc::new(Inbox::default());
    let node = start(app.component(Mail(inbox.clone()))).await;
    let client = Client::connect(&node).await;
    (inbox, node, client)
}

impl Inbox {
    async fn take(&self) -> Responder {
        eventually("a request is kept", || !self.kept.lock().is_empty()).await;
        self.kept.lock().remove(0)
    }
}

#[tokio::test]
async fn an_unanswered_request_times_out_and_its_late_answer_is_dropped() {
    let (inbox, _node, mut client) =
        mail(App::new().timeouts(Timeouts::new().request(Duration::from_millis(100)))).await;
    let begun = Instant::now();
    assert_eq!(client.ask_in_vain("Mail.Keep", "").await, code::TIMEOUT);
    assert!(begun.elapsed() >= Duration::from_millis(100));

    assert_eq!(
        inbox.take().await.respond("late").unwrap_err().code(),
        code::CONFLICT
    );
    client.request("Mail.Echo", r#""next""#).await;
    assert_eq!(
        client.message().await.body,
        r#""next""#,
        "nothing came in between"
    );
}

#[tokio::test]
async fn a_handler_that_awaits_for_ever_times_out_and_no_earlier() {
    let (_inbox, node, mut client) =
        mail(App::new().timeouts(Timeouts::new().request(Duration::from_millis(100)))).await;
    let begun = Instant::now();
    assert_eq!(client.ask_in_vain("Mail.Never", "").await, code::TIMEOUT);
    assert!(begun.elapsed() >= Duration::from_millis(100));
    let called = node.handle().call("Mail.Never").raw("").await;
    assert_eq!(called.unwrap_err().code(), code::TIMEOUT);
    assert!(begun.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn each_request_has_its_own_timeout() {
    let (inbox, _node, mut client) =
        mail(App::new().timeouts(Timeouts::new().request(Duration::from_millis(150)))).await;
    for _ in 0..3 {
        let begun = Instant::now();
        let (first, second) = (
            client.request("Mail.Keep", "").await,
            client.request("Mail.Keep", "").await,
        );
        inbox.take().await.respond("in time").unwrap();
        client.answer(first).await.unwrap();
        assert_eq!(
            client.answer(second).await.unwrap_err().code(),
            code::TIMEOUT
        );
        assert!(begun.elapsed() >= Duration::from_millis(150));
        inbox.take().await.respond("late").unwrap_err();
    }
}

#[tokio::test]
async fn without_a_timeout_a_request_waits() {
    let (inbox, _node, mut client) = mail(App::new().timeouts(Timeouts::new().request(None))).await;
    let id = client.request("Mail.Keep", "").await;
    let responder = inbox.take().await;
    assert!(
        timeout(Duration::from_millis(200), client.packet())
            .await
            .is_err()
    );
    responder.respond("at last").unwrap();
    assert_eq!(client.answer(id).await.unwrap(), r#""at last""#);
}

#[tokio::test]
async fn only_the_first_response_to_a_request_counts() {
    let (inbox, _node, mut client) = mail(App::new()).await;
    client.request("Mail.Twice", "").await;
    client.request("Mail.Echo", r#""next""#).await;
    assert_eq!(client.message().await.body, r#""first""#);
    assert_eq!(client.message().await.body, r#""next""#);
    assert_eq!(
        inbox.results.lock().remove(0).unwrap_err().code(),
        code::CONFLICT
    );
}

#[tokio::test]
async fn a_responder_that_is_dropped_answers_with_an_error() {
    let (inbox, _node, mut client) = mail(App::new()).await;
    assert_eq!(client.ask_in_vain("Mail.Drop", "").await, code::INTERNAL);
    let id = client.request("Mail.Keep", "").await;
    drop(inbox.take().await);
    assert_eq!(client.answer(id).await.unwrap_err().code(), code::INTERNAL);
}

#[tokio::test]
async fn a_responder_answers_from_any_thread_and_always_its_own_request() {
    let (inbox, _node, mut client) = mail(App::new()).await;
    assert_eq!(
        client.ask("Mail.Thread", r#""elsewhere""#).await.unwrap(),
        r#""elsewhere""#
    );

    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(client.request("Mail.Keep", "").await);
    }
    eventually("all are kept", || inbox.kept.lock().len() == ids.len()).await;
    for responder in std::mem::take(&mut *inbox.kept.lock()).into_iter().rev() {
        let id = responder.session().request_id();
        thread::spawn(move || responder.respond(&id).unwrap())
            .join()
            .unwrap();
    }
    for id in ids {
        assert_eq!(client.answer(id).await.unwrap(), id.to_string());
    }
}

#[tokio::test]
async fn a_response_needs_a_request_and_a_connection() {
    let (inbox, node, mut client) = mail(App::new()).await;
    let session = client.session(&node).await;
    assert_eq!(
        session.respond("to nothing").unwrap_err().code(),
        code::BAD_REQUEST
    );
    assert_eq!(
        session
            .with_request(99)
            .respond("to what never came")
            .unwrap_err()
            .code(),
        code::CONFLICT
    );

    client.request("Mail.Keep", "").await;
    let responder = inbox.take().await;
    drop(client);
    eventually("the session closes", || session.closed().is_some()).await;
    assert_eq!(
        responder.respond("too late").unwrap_err().code(),
        code::CLOSED
    );
}

#[tokio::test]
async fn too_many_requests_in_flight_are_answered_and_no_more_when_some_have_ended() {
    let (inbox, _node, mut client) = mail(App::new().limits(Limits::new().max_in_flight(3))).await;
    let kept = [
        client.request("Mail.Keep", "").await,
        client.request("Mail.Keep", "").await,
        client.request("Mail.Keep", "").await,
    ];
    eventually("all are kept", || inbox.kept.lock().len() == 3).await;
    for _ in 0..3 {
        assert_eq!(
            client.ask_in_vain("Mail.Echo", r#""hello""#).await,
            code::TOO_MANY
        );
    }

    inbox.take().await.respond("done").unwrap();
    client.answer(kept[0]).await.unwrap();
    assert_eq!(
        client.ask("Mail.Echo", r#""hello""#).await.unwrap(),
        r#""hello""#
    );
}

#[tokio::test]
async fn timed_out_and_dropped_requests_are_logged_once_a_second_with_session_and_route() {
    let log = Log::captured();
    let timeouts = Timeouts::new().request(Duration::from_millis(50));
    let inbox = Arc::new(Inbox::default());
    let app = App::new()
        .component_with(Mail(inbox), Options::new().name("Logged"))
        .timeouts(timeouts);
    let node = start(app).await;
    let mut client = Client::connect(&node).await;
    let session = node.handle().sessions().list()[0].clone();
    session.bind("ann-770077").unwrap();
    let user = r#"user="ann-770077""#;

    for _ in 0..3 {
        let code = client.ask_in_vain("Logged.Keep", "").await;
        assert_eq!(code, code::TIMEOUT);
    }
    let timed_out = || log.count(&["request timed out", "Logged.Keep", user]);
    assert_eq!(timed_out(), 1, "the others came within a second");

    for _ in 0..3 {
        let code = client.ask_in_vain("Logged.Drop", "").await;
        assert_eq!(code, code::INTERNAL);
    }
    let dropped = || log.count(&["request dropped without an answer", "Logged.Drop", user]);
    eventually("the drop is logged", || dropped() > 0).await;
    assert_eq!(dropped(), 1);

    // Answered by itself, a request is neither.
    assert_eq!(
        client.ask("Logged.Thread", r#""x""#).await.unwrap(),
        r#""x""#
    );
    assert_eq!(timed_out() + dropped(), 2);
}

#[tokio::test]
async fn forwarded_requests_that_time_out_or_are_dropped_are_logged_with_their_routes() {
    let log = Log::captured();
    let timeouts = || Timeouts::new().request(Duration::from_millis(300));
    let master = Cluster::master().listen("127.0.0.1:0");
    let gate = start(App::new().cluster(master).timeouts(timeouts())).await;
    let address = gate.handle().member().unwrap().address().to_owned();
    let app = App::new()
        .cluster(Cluster::join([address]).listen("127.0.0.1:0"))
        .component_with(Mail(Arc::default()), Options::new().name("Remote"))
        .timeouts(timeouts());
    let _member = start(app).await;
    let mut client = Client::connect(&gate).await;

    let code = client.ask_in_vain("Remote.Keep", "").await;
    assert_eq!(code, code::TIMEOUT);
    eventually("the timeout is logged", || {
        log.count(&["request timed out", "Remote.Keep"]) == 1
    })
    .await;
    let code = client.ask_in_vain("Remote.Drop", "").await;
    assert_eq!(code, code::INTERNAL);
    eventually("the drop is logged", || {
        log.count(&["request dropped without an answer", "Remote.Drop"]) == 1
    })
    .await;
}
