//! A server with one handler for everything a client can meet: the one the recorded transcripts
//! talk to, for tests and benchmarks.
//!
//! ```text
//! cargo run --release --example peer -- --listen 127.0.0.1:3250
//! cargo run --release --example peer -- --listen 127.0.0.1:3250 --ws --wspath /nano --hb 2s --dict Echo.Echo=1,onEcho=2
//! cargo run --release --example peer -- --listen 127.0.0.1:34567 --is-master
//! cargo run --release --example peer -- --listen 127.0.0.1:34570 --master 127.0.0.1:34567 --client 127.0.0.1:3250
//! ```

use clap::Parser;
use nano::Result;

mod flags;
mod services;

#[tokio::main]
async fn main() -> Result {
    let flags = flags::Flags::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let node = flags.app()?.start().await?;
    // Before anybody learns where it is: a signal ends it in order from here on.
    let run = node.run();
    // In one piece: who has read the first line may have gone.
    let clients = node
        .addresses()
        .iter()
        .map(|address| format!("listening on {address}\n"));
    let nodes = node
        .handle()
        .member()
        .map(|member| format!("serving nodes at {}\n", member.address()));
    print!("{}", clients.chain(nodes).collect::<String>());
    run.await
}
