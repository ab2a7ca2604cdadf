//! The players' coins, in whichever database the URL names.

use nano::Result;
use sqlx::{
    AnyPool,
    any::{AnyPoolOptions, install_default_drivers},
};

/// Players in a database.
#[derive(Clone, Debug)]
pub struct Store {
    pool: AnyPool,
}

impl Store {
    /// Connects to `sqlite://players.db?mode=rwc` or `postgres://user:password@host/database`, and
    /// makes the table if there is none.
    ///
    /// # Errors
    /// The database cannot be reached, or refuses.
    pub async fn open(url: &str) -> Result<Self> {
        install_default_drivers();
        let pool = AnyPoolOptions::new()
            .max_connections(8)
            .connect(url)
            .await?;
        sqlx::query(
            "CREATE TABLE IF NOT EXISTS players (name TEXT PRIMARY KEY, coins BIGINT NOT NULL)",
        )
        .execute(&pool)
        .await?;
        Ok(Self { pool })
    }

    /// The coins of a player, who has 100 in the beginning.
    pub async fn load(&self, player: &str) -> Result<i64> {
        let row: Option<(i64,)> = sqlx::query_as("SELECT coins FROM players WHERE name = $1")
            .bind(player)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map_or(100, |(coins,)| coins))
    }

    /// Replaces what the database has.
    pub async fn save(&self, player: &str, coins: i64) -> Result {
        sqlx::query(
            "INSERT INTO players (name, coins) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET coins = excluded.coins",
        )
        .bind(player)
        .bind(coins)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
