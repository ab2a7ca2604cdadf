//! What is measured.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Peer {
    /// This framework.
    Nano,
    /// Go nano.
    Go,
    /// A baseline: answered where it is read.
    Bare,
    /// A baseline: a task per message on one scheduler thread.
    Hop,
    /// A baseline: the same on the I/O thread.
    Strand,
    /// A baseline: gate and backend over one gRPC stream.
    Stream,
    /// pitaya, over NATS and etcd; only if named.
    Pitaya,
    /// cherry, over NATS; only if named.
    Cherry,
    /// pomelo, on Node; only if named.
    Pomelo,
    /// due, with etcd; only if named.
    Due,
}

impl Peer {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Nano => "nano (Rust)",
            Self::Go => "Go nano",
            Self::Bare => "bare baseline",
            Self::Hop => "hop baseline",
            Self::Strand => "strand baseline",
            Self::Stream => "stream baseline",
            Self::Pitaya => "pitaya",
            Self::Cherry => "cherry",
            Self::Pomelo => "pomelo",
            Self::Due => "due",
        }
    }

    pub(crate) fn is_baseline(self) -> bool {
        matches!(self, Self::Bare | Self::Hop | Self::Strand | Self::Stream)
    }

    /// Whether it takes part only if it is named.
    pub(crate) fn is_optional(self) -> bool {
        self > Self::Stream
    }
}
