//! One trace over a gate, a room and a store, as OpenTelemetry sees it.
//!
//! ```sh
//! cargo run -p nano-otel
//! ```
//!
//! The exporter prints the spans as a tree. A program of yours exports them with
//! `opentelemetry-otlp` instead; nothing else changes.

mod exporter;
mod game;
mod ids;

use std::time::Duration;

use nano::{
    App, Options, Result, Traces,
    client::Client,
    testing::{TestCluster, within},
};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Level;
use tracing_subscriber::{Layer, filter::filter_fn, prelude::*};

use self::{
    exporter::Tree,
    game::{Room, Store},
};

#[tokio::main]
async fn main() -> Result {
    let tree = Tree::default();
    // Nano decides what is sampled: what it has sampled is recorded.
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::AlwaysOn)
        .with_simple_exporter(tree.clone())
        .build();
    // Without the spans of messages that are not sampled, and of libraries.
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("game"))
        .with_filter(filter_fn(|metadata| {
            let wanted = metadata.is_span() && *metadata.level() <= Level::INFO;
            wanted && metadata.target() != "nano::message"
        }));
    tracing_subscriber::registry().with(spans).init();

    // Three nodes and their master, in one process for once. Every node has the hook.
    let app = || App::new().traces(Traces::new().ratio(1.0).on_span(ids::of_sdk));
    let cluster = TestCluster::start().await;
    let gate = cluster.add(app().websocket("127.0.0.1:0", "/nano")).await;
    let room = cluster.add(app().component(Room)).await;
    let internal = Options::new().internal();
    let store = cluster.add(app().component_with(Store, internal)).await;
    cluster.converged(&[&gate, &room, &store]).await;

    // A player whose own program has a trace.
    let url = format!("ws://{}/nano", gate.client_address());
    let player = Client::builder()
        .header(
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        )
        .connect(&url)
        .await?;
    let price: u32 = player.request("Room.Buy", &3).await?;
    println!("bought for {price}");
    player.close();

    // Spans end a moment after the answer.
    let printed = async {
        while tree.len() < 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("all spans", printed).await;
    print!("{tree}");
    Ok(())
}
