use std::{rc::Rc, sync::Arc};

use nano::{Component, Handlers, Result, Session};

struct Room;

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Join", Self::join)
    }
}

impl Room {
    async fn join(self: Arc<Self>, _: Session, name: String) -> Result<usize> {
        let name = Rc::new(name);
        tokio::task::yield_now().await;
        Ok(name.len())
    }
}

fn main() {}
