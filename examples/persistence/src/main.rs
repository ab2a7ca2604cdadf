//! The game over the database of an address: by default the file `players.db`.
//!
//! ```text
//! cargo run -p nano-persistence
//! cargo run -p nano-persistence -- postgres://user:password@localhost/game
//! ```

use std::env;

use nano::{LogFormat, Logs, Result};
use nano_persistence::{Store, app};

#[tokio::main]
async fn main() -> Result {
    Logs::start("info", LogFormat::Text)?;
    let url = env::args().nth(1);
    let url = url.as_deref().unwrap_or("sqlite://players.db?mode=rwc");
    let node = app(Store::open(url).await?)
        .tcp("127.0.0.1:3253")
        .start()
        .await?;
    println!("clients connect at tcp://{}", node.addresses()[0]);
    node.run().await
}
