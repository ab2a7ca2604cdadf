//! The guides of the project, as documentation pages. Their samples are compiled and run as tests.

/// A game from nothing to a cluster in production.
pub mod tutorial {
    /// A project, and a first look at it.
    #[doc = include_str!("../docs/tutorial/new-game.md")]
    pub mod new_game {}

    /// Components, handlers, rooms: the code of the project.
    #[doc = include_str!("../docs/tutorial/how-it-works.md")]
    pub mod how_it_works {}

    /// Tests with real nodes and players.
    #[doc = include_str!("../docs/tutorial/tests.md")]
    pub mod tests {}

    /// A master, gates and backends.
    #[doc = include_str!("../docs/tutorial/cluster.md")]
    pub mod cluster {}

    /// On machines and in containers, for players from outside.
    #[doc = include_str!("../docs/tutorial/production.md")]
    pub mod production {}
}

/// Components and their handlers: shapes, answers, order.
#[doc = include_str!("../docs/handlers.md")]
pub mod handlers {}

/// Where tasks run, one at a time; timers.
#[doc = include_str!("../docs/schedulers.md")]
pub mod schedulers {}

/// The clients of this project, and how they come back.
#[cfg(feature = "client")]
#[doc = include_str!("../docs/clients.md")]
pub mod clients {}

/// Code to copy, for what most games need.
pub mod cookbook {
    /// Players prove who they are.
    #[doc = include_str!("../docs/cookbook/login.md")]
    pub mod login {}

    /// A room with a state and a clock.
    #[doc = include_str!("../docs/cookbook/rooms.md")]
    pub mod rooms {}

    /// Players find each other, and the node of their room.
    #[doc = include_str!("../docs/cookbook/matchmaking.md")]
    pub mod matchmaking {}

    /// Players in a database.
    #[doc = include_str!("../docs/cookbook/persistence.md")]
    pub mod persistence {}

    /// How often clients may do what.
    #[doc = include_str!("../docs/cookbook/rate-limits.md")]
    pub mod rate_limits {}

    /// What the server checks.
    #[doc = include_str!("../docs/cookbook/anti-cheat.md")]
    pub mod anti_cheat {}

    /// Handlers, nodes and clusters in tests.
    #[doc = include_str!("../docs/cookbook/testing.md")]
    pub mod testing {}
}

/// What a node guarantees, with bounds, defaults and tests.
#[doc = include_str!("../docs/semantics.md")]
pub mod semantics {}

/// Running several nodes: addresses, timing, failures, operations.
#[doc = include_str!("../docs/cluster.md")]
pub mod cluster {}

/// Options from a file and the environment, reloads, and every key.
#[cfg(feature = "config")]
#[doc = include_str!("../docs/configuration.md")]
pub mod configuration {}

/// What a running node tells, and what an operator may change: probes, metrics, API, dashboard.
#[cfg(all(feature = "config", feature = "logs"))]
#[doc = include_str!("../docs/operations.md")]
pub mod operations {}

/// The way of one message through the nodes: spans, sampling, OpenTelemetry.
#[doc = include_str!("../docs/traces.md")]
pub mod traces {}

/// What belongs to a player: users, logins, channels, shared data, announcements.
#[doc = include_str!("../docs/players.md")]
pub mod players {}

/// Containers, Kubernetes, systemd: what each platform has to do.
#[doc = include_str!("../docs/deployment.md")]
pub mod deployment {}

/// What each alert means, what to look at, and what to do.
#[doc = include_str!("../docs/runbook.md")]
pub mod runbook {}

/// Behind proxies: players' addresses, refused networks, certificates.
#[doc = include_str!("../docs/edge.md")]
pub mod edge {}

/// The wire format between client and gate.
#[doc = include_str!("../docs/protocol.md")]
pub mod protocol {}

/// Every public symbol of Go's nano and its counterpart.
#[doc = include_str!("../docs/from-go-nano.md")]
pub mod from_go_nano {}

/// One term for each thing.
#[doc = include_str!("../docs/glossary.md")]
pub mod glossary {}
