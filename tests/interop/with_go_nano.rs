//! Every combination of kinds. The one of Go nodes alone shows that the others are asked for no
//! more than Go nano does.

use tokio::sync::Mutex;

use crate::{
    endings, go,
    node::Kind::{self, Go, Rust},
    traffic,
    world::{Pairing, World},
};

/// Nodes that get no turn for two seconds are taken for dead, and what that does is not what is
/// looked at here.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

async fn play(master: Kind, gate: Kind, backend: Kind) {
    let Some(program) = go::program() else { return };
    let _turn = ONE_AT_A_TIME.lock().await;
    let mut world = World::start(
        program,
        Pairing {
            master,
            gate,
            backend,
        },
    )
    .await;
    let late = traffic::everybody_has_joined(&world).await;
    traffic::messages_of_every_kind(&mut world).await;
    traffic::rpc(&world).await;
    traffic::order(&world).await;
    endings::sessions_close(&world).await;
    endings::a_backend_leaves(&mut world).await;
    endings::the_master_is_started_again(&mut world).await;
    endings::a_backend_is_killed(&mut world).await;
    endings::gates_end(&mut world, late).await;
    endings::everybody_stops(&mut world).await;
    world.met_all();
}

macro_rules! clusters {
    ($($name:ident: $master:ident, $gate:ident, $backend:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "slow"]
        async fn $name() {
            play($master, $gate, $backend).await;
        }
    )*};
}

clusters! {
    master_rust_gate_rust_backend_rust: Rust, Rust, Rust;
    master_rust_gate_rust_backend_go: Rust, Rust, Go;
    master_rust_gate_go_backend_rust: Rust, Go, Rust;
    master_rust_gate_go_backend_go: Rust, Go, Go;
    master_go_gate_rust_backend_rust: Go, Rust, Rust;
    master_go_gate_rust_backend_go: Go, Rust, Go;
    master_go_gate_go_backend_rust: Go, Go, Rust;
    master_go_gate_go_backend_go: Go, Go, Go;
}
