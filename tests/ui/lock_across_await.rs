use std::sync::Arc;

use nano::{Component, Handlers, Result, Session};
use parking_lot::Mutex;

struct Room {
    names: Mutex<Vec<String>>,
}

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Join", Self::join)
    }
}

impl Room {
    async fn join(self: Arc<Self>, _: Session, name: String) -> Result<usize> {
        let mut names = self.names.lock();
        tokio::task::yield_now().await;
        names.push(name);
        Ok(names.len())
    }
}

fn main() {}
