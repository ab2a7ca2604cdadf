//! Every combination of kinds. The one of Go nodes alone shows that the others are asked for no
//! more than Go nano does.

use tokio::sync::Semaphore;

use crate::{
    cluster::{InteropCluster, Kinds},
    endings, go,
    node::Kind::{self, Go, Rust},
    traffic, users,
};

/// Clusters that play at a time; they wait more than they compute. Nodes that get no turn for two
/// seconds are taken for dead, and what that does is not what is looked at here.
static TURNS: Semaphore = Semaphore::const_new(2);

async fn play(master: Kind, gate: Kind, backend: Kind) {
    let Some(program) = go::program() else { return };
    let _turn = TURNS.acquire().await.unwrap();
    let mut cluster = InteropCluster::start(
        program,
        Kinds {
            master,
            gate,
            backend,
        },
    )
    .await;
    let late = traffic::all_nodes_have_joined(&cluster).await;
    traffic::messages_of_every_kind(&mut cluster).await;
    traffic::rpc(&cluster).await;
    traffic::order(&cluster).await;
    users::log_in(&cluster).await;
    users::are_found(&cluster).await;
    users::ask_to_resume(&cluster).await;
    endings::sessions_close(&cluster).await;
    endings::a_backend_leaves(&mut cluster).await;
    endings::the_master_is_started_again(&mut cluster).await;
    endings::a_backend_is_killed(&mut cluster).await;
    endings::gates_end(&mut cluster, late).await;
    endings::all_nodes_stop(&mut cluster).await;
    cluster.met_all();
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
