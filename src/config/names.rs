//! Keys whose values are a few names.

use super::{
    setting::{Setting, mismatch, quote},
    value::Value,
};
use crate::{gate::SlowClient, handle::Unique, log_format::LogFormat};

/// What happens to a client that exceeds the rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RateAction {
    Throttle,
    Disconnect,
}

/// A balance policy that needs no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BalanceName {
    Random,
    RoundRobin,
    LeastLoaded,
    Uid,
}

/// Types whose values are a few names.
macro_rules! names {
    ($type:ty { $($name:literal => $value:path,)* }) => {
        impl Setting for $type {
            fn expected() -> String {
                let names: &[&str] = &[$($name),*];
                let quoted: Vec<_> = names.iter().map(|name| quote(name)).collect();
                quoted.join(" or ")
            }

            fn set(&mut self, value: &Value) -> Result<(), String> {
                *self = match value.text() {
                    $(Some($name) => $value,)*
                    _ => return Err(mismatch::<Self>(value)),
                };
                Ok(())
            }

            fn write(&self) -> Option<String> {
                $(if *self == $value {
                    return Some(quote($name));
                })*
                None
            }
        }
    };
}

names! {
    LogFormat {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
    }
}

names! {
    SlowClient {
        "disconnect" => SlowClient::Disconnect,
        "drop-pushes" => SlowClient::DropPushes,
    }
}

names! {
    Unique {
        "replace" => Unique::Replace,
        "reject" => Unique::Reject,
    }
}

names! {
    RateAction {
        "throttle" => RateAction::Throttle,
        "disconnect" => RateAction::Disconnect,
    }
}

names! {
    BalanceName {
        "random" => BalanceName::Random,
        "round-robin" => BalanceName::RoundRobin,
        "least-loaded" => BalanceName::LeastLoaded,
        "uid" => BalanceName::Uid,
    }
}
