//! The guides of the project, as documentation pages. Their samples are compiled and run as tests.

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
#[cfg(feature = "admin")]
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
