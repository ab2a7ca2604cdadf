//! A room that sells things of a store.

use std::sync::Arc;

use nano::{Component, Handlers, Result, Session};
use tracing::info_span;

pub(crate) struct Room;

impl Room {
    async fn buy(self: Arc<Self>, session: Session, item: u32) -> Result<u32> {
        info_span!("check inventory", item).in_scope(|| {});
        session.call("Store.Price").json(&item).await
    }
}

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Buy", Self::buy)
    }
}

pub(crate) struct Store;

impl Store {
    fn price(&self, _: &Session, item: u32) -> Result<u32> {
        Ok(item * 10)
    }
}

impl Component for Store {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Price", Self::price)
    }
}
