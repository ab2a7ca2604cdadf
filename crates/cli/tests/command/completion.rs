//! What the prompt of `repl` completes.

use nano::{
    App,
    testing::{TestCluster, within},
};

use crate::playing::{Room, address, repl};

#[tokio::test]
async fn routes_that_a_gate_forwards_are_completed_too() {
    let cluster = TestCluster::start().await;
    let room = cluster.add(App::new().component(Room::default())).await;
    let gate = App::new().tcp("127.0.0.1:0").admin("127.0.0.1:0");
    let gate = cluster.add(gate).await;
    cluster.converged(&[&room, &gate]).await;
    let url = address(&gate);
    let admin = format!("http://{}", gate.handle().admin_address().unwrap());
    // A gate knows those that were asked for, of a sample of requests.
    let known = async {
        loop {
            repl(&url, &[], &"request Room.Echo 1\n".repeat(50))
                .await
                .ok();
            let routes = repl(&url, &["--admin", &admin], "routes").await.ok();
            if routes.contains("Room.Echo") {
                return routes;
            }
        }
    };
    assert_eq!(within("the route", known).await, "Room.Echo\n");
}
