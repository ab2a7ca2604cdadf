//! The game: players who log in, and spend coins.

use std::sync::Arc;

use nano::{App, Component, Error, Handle, Handlers, Result, Session, Unique, code};
use parking_lot::Mutex;

use crate::store::Store;

/// The game over this store. Call it in a runtime of tokio.
pub fn app(store: Store) -> App {
    App::new().unique_users(Unique::Replace).component(Account {
        store,
        runtime: tokio::runtime::Handle::current(),
    })
}

struct Account {
    store: Store,
    /// Where what a callback waits for runs.
    runtime: tokio::runtime::Handle,
}

/// The coins of a session's player.
struct Purse(Mutex<i64>);

impl Component for Account {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Login", Self::login)
            .sequential()
            .on("Spend", Self::spend)
    }

    fn init(self: &Arc<Self>, node: &Handle) -> Result {
        let (store, runtime) = (self.store.clone(), self.runtime.clone());
        node.on_session_closed(move |session, _| {
            let (Some(player), Some(purse)) = (session.user(), session.extensions().get::<Purse>())
            else {
                return;
            };
            let coins = *purse.0.lock();
            // Handlers and callbacks may block: no thread of the network is held up.
            if let Err(error) = runtime.block_on(store.save(&player.to_string(), coins)) {
                tracing::error!(%player, coins, %error, "player not saved");
            }
        });
        Ok(())
    }
}

impl Account {
    /// The player's coins.
    async fn login(self: Arc<Self>, session: Session, player: String) -> Result<i64> {
        session.login(player.as_str()).await?;
        let coins = self.store.load(&player).await?;
        session.extensions().insert(Purse(Mutex::new(coins)));
        Ok(coins)
    }

    /// What is left.
    fn spend(&self, session: &Session, coins: u32) -> Result<i64> {
        let purse = session.extensions().get::<Purse>();
        let purse = purse.ok_or_else(|| Error::new(code::UNAUTHENTICATED, "log in first"))?;
        let mut left = purse.0.lock();
        if *left < i64::from(coins) {
            return Err(Error::new("SHOP-POOR", "not enough coins"));
        }
        *left -= i64::from(coins);
        Ok(*left)
    }
}
