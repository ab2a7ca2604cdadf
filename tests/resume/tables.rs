//! A table whose players lose their connections, as in the guide "Players".

use nano::{
    App, Component, Group, Handlers, Result, Session, Timeouts,
    testing::{TestCluster, TestNode},
};

use crate::harness::{MINUTE, Returning};

#[derive(Default)]
struct Table {
    seats: Group,
}

impl Component for Table {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Sit", Self::sit)
            .on("Away", Self::away)
            .internal()
            .on("Back", Self::back)
            .internal()
    }
}

impl Table {
    fn sit(&self, session: &Session, user: String) -> Result<bool> {
        session.bind(user)?;
        self.seats.add(session)
    }

    fn away(&self, session: &Session, (): ()) -> Result {
        self.show("onAway", session)
    }

    fn back(&self, session: &Session, (): ()) -> Result {
        self.show("onBack", session)
    }

    fn show(&self, route: &str, session: &Session) -> Result {
        match self.seats.find_member(|member| member == session) {
            Some(_) => self.seats.broadcast(route, &session.user()),
            None => Ok(()),
        }
    }
}

#[tokio::test]
async fn a_table_on_another_node_learns_who_is_away_and_who_is_back() {
    let cluster = TestCluster::start().await;
    let backend = cluster.add(App::new().component(Table::default())).await;
    let gate = App::new()
        .timeouts(Timeouts::new().resume_window(MINUTE))
        .on_detached(|session| session.rpc("Table.Away", &()).unwrap())
        .on_resumed(|session| session.rpc("Table.Back", &()).unwrap());
    let options = cluster.member_options();
    let gate = TestNode::start(gate.tcp("127.0.0.1:0").cluster(options)).await;
    cluster.converged(&[&gate, &backend]).await;
    let mut players = Vec::new();
    for user in [r#""ann""#, r#""ben""#] {
        let mut player = Returning::connect(gate.node()).await;
        assert_eq!(player.client.call(1, "Table.Sit", user).await, "true");
        players.push(player);
    }
    let onlooker = Returning::connect(gate.node()).await;
    let [ann, ben] = &mut players[..] else {
        panic!()
    };

    ann.client.finish().await;
    assert_eq!(ben.client.push("onAway").await, r#""ann""#);
    let mut ann = ann.again(gate.node(), 1).await;
    assert_eq!(ben.client.push("onBack").await, r#""ann""#);
    // The one who was away sees both: still a member, and nothing was missed.
    assert_eq!(ann.client.push("onAway").await, r#""ann""#);
    assert_eq!(ann.client.push("onBack").await, r#""ann""#);

    // A client without a seat concerns no table.
    drop(onlooker);
    ben.client.finish().await;
    assert_eq!(ann.client.push("onAway").await, r#""ben""#);
}
