//! Calls of another node about users that are malformed, or not for this run of a node.

use nano::{
    Unique, UserId,
    client::Client,
    testing::{TestNode, within},
};
use prost::Message;

use crate::{
    channels::client,
    cluster::{master, member},
    raw_link::{
        RawLink, frame,
        proto::{Frame, Kind},
    },
    scripted_peer::ScriptedPeer,
};

#[allow(clippy::all, missing_docs, unreachable_pub, dead_code)]
mod proto {
    include!("../../src/cluster/generated/nano.players.v1.rs");
}

/// A gate with a player who is logged in, and a member that sends anything to it.
struct Attacked {
    _master: TestNode,
    gate: TestNode,
    ann: Client,
    peer: ScriptedPeer,
    stream: RawLink,
    last_request: u64,
}

impl Attacked {
    async fn start() -> Self {
        let master = master().await;
        let unique = |app: nano::App| app.unique_users(Unique::Replace);
        let gate = TestNode::start(member(&master).app(unique).tcp("127.0.0.1:0")).await;
        gate.knows(1).await;
        let (ann, session) = client(&gate).await;
        within("a login", session.login("ann")).await.unwrap();
        let peer = ScriptedPeer::join(&master, 7).await;
        gate.knows(2).await;
        let stream = peer.stream_to(&gate, 0).await;
        Self {
            _master: master,
            gate,
            ann,
            peer,
            stream,
            last_request: 0,
        }
    }

    fn incarnation(&self) -> u64 {
        self.gate.handle().member().unwrap().incarnation()
    }

    /// Sends a message as one without a reply, and as a call. Returns whether the reply is an error.
    async fn is_refused(&mut self, route: &str, body: Vec<u8>) -> bool {
        self.last_request += 1;
        let call = Frame {
            request: self.last_request,
            route: route.to_owned().into(),
            body: body.into(),
            ..frame(Kind::NodeCall)
        };
        let message = Frame {
            request: 0,
            ..call.clone()
        };
        self.stream.send(vec![message, call]);
        let reply = self.peer.next(Kind::Reply).await;
        assert_eq!(reply.request, self.last_request);
        reply.error
    }

    /// The player is where she was, and a login elsewhere replaces her and nothing else.
    async fn has_changed_nothing(self) {
        assert_eq!(self.ann.close_reason(), None);
        let Self {
            gate,
            ann,
            peer,
            _master,
            ..
        } = self;
        let sessions = gate.handle().sessions().list();
        let users: Vec<_> = sessions.iter().map(|session| session.user()).collect();
        assert_eq!(users, [Some(UserId::from("ann"))]);
        // It may own users, and answers no call.
        peer.leave().await;
        gate.knows(1).await;
        let user = gate.handle().user("ann");
        let found = within("an answer", user.locate()).await.unwrap();
        let found: Vec<_> = found.iter().map(|found| found.session).collect();
        assert_eq!(found, [sessions[0].id()]);
        let (_other, session) = client(&gate).await;
        let login = within("a login", session.login("ann")).await.unwrap();
        assert!(login.replaced && !login.late, "{login:?}");
        within("the end of the first session", ann.closed()).await;
    }
}

#[tokio::test]
async fn garbage_about_users_is_refused_and_changes_nothing() {
    let mut attacked = Attacked::start().await;
    for route in [
        "Directory.Claim",
        "Directory.Compare",
        "Directory.Notice",
        "Directory.StepDown",
        "Directory.Recover",
        "Directory.Locate",
        "Directory.Other",
        "Users.Find",
        "Users.Kick",
        "Users.Ended",
        "Users.Login",
        "Users.Other",
    ] {
        assert!(attacked.is_refused(route, vec![0xFF; 9]).await, "{route}");
    }
    // An empty body is a message whose fields are all absent: it is for no run of the node, and names
    // no user.
    for route in [
        "Directory.Claim",
        "Directory.Compare",
        "Directory.Notice",
        "Directory.StepDown",
        "Directory.Recover",
        "Users.Kick",
        "Users.Login",
    ] {
        assert!(attacked.is_refused(route, Vec::new()).await, "{route}");
    }
    attacked.has_changed_nothing().await;
}

#[tokio::test]
async fn ids_that_no_user_can_have_are_refused_of_another_node_too() {
    let mut attacked = Attacked::start().await;
    let (from, to) = (7, attacked.incarnation());
    let session = attacked.gate.handle().sessions().list()[0].id();
    let number = |number| proto::UserId {
        number,
        ..Default::default()
    };
    let text = proto::UserId {
        text: "x".repeat(256),
        ..Default::default()
    };
    for user in [None, Some(number(0)), Some(number(-1)), Some(text)] {
        let bound = proto::Holding {
            user: user.clone(),
            session,
            ..Default::default()
        };
        let users = vec![user.clone().unwrap_or_default()];
        let claim = proto::ClaimRequest {
            from,
            to,
            user: user.clone(),
            session,
            ..Default::default()
        };
        let step_down = proto::StepDownRequest {
            from,
            to,
            user: user.clone(),
            session,
            ..Default::default()
        };
        let notice = proto::DirectoryNotice {
            from,
            to,
            bound: vec![bound.clone()],
            ..Default::default()
        };
        let leaving = proto::DirectoryNotice {
            bound: Vec::new(),
            leaving: true,
            left: vec![bound],
            ..notice.clone()
        };
        let locate = proto::LocateRequest {
            users: users.clone(),
        };
        let find = proto::FindRequest { users };
        let kick = proto::KickRequest {
            user: user.clone(),
            ..Default::default()
        };
        let login = proto::LoginRequest {
            session,
            user: user.clone(),
        };
        for (route, body) in [
            ("Directory.Claim", claim.encode_to_vec()),
            ("Directory.StepDown", step_down.encode_to_vec()),
            ("Directory.Notice", notice.encode_to_vec()),
            ("Directory.Notice", leaving.encode_to_vec()),
            ("Directory.Locate", locate.encode_to_vec()),
            ("Users.Find", find.encode_to_vec()),
            ("Users.Kick", kick.encode_to_vec()),
            ("Users.Login", login.encode_to_vec()),
        ] {
            assert!(attacked.is_refused(route, body).await, "{route} {user:?}");
        }
    }
    attacked.has_changed_nothing().await;
}

#[tokio::test]
async fn calls_for_another_run_of_a_node_are_refused_and_slots_that_are_none_passed_over() {
    let mut attacked = Attacked::start().await;
    let (from, to) = (7, attacked.incarnation());
    let session = attacked.gate.handle().sessions().list()[0].id();
    let ann = Some(proto::UserId {
        text: "ann".to_owned(),
        ..Default::default()
    });
    let step_down = proto::StepDownRequest {
        from,
        to: to + 1,
        user: ann.clone(),
        session,
        view: u64::MAX,
        ..Default::default()
    };
    let released = proto::DirectoryNotice {
        from,
        to: to + 1,
        released: vec![proto::Holding {
            user: ann.clone(),
            session,
            ..Default::default()
        }],
        ..Default::default()
    };
    for (route, body) in [
        ("Directory.StepDown", step_down.encode_to_vec()),
        ("Directory.Notice", released.encode_to_vec()),
    ] {
        assert!(attacked.is_refused(route, body).await, "{route}");
    }
    let slots = vec![1024, 65_535, 65_536, u32::MAX];
    let sum = |slot: &u32| proto::SlotSum {
        slot: *slot,
        sum: 1,
    };
    let compare = proto::CompareRequest {
        from,
        to,
        sums: slots.iter().map(sum).collect(),
    };
    let recover = proto::RecoverRequest {
        from,
        to,
        view: u64::MAX,
        slots,
    };
    for (route, body) in [
        ("Directory.Compare", compare.encode_to_vec()),
        ("Directory.Recover", recover.encode_to_vec()),
    ] {
        assert!(!attacked.is_refused(route, body).await, "{route}");
    }
    attacked.has_changed_nothing().await;
}
