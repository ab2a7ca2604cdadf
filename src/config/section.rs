//! A section of a configuration: a struct whose fields are its keys.

use super::value::Value;

/// A key of a section, as the reference describes it.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// What a value looks like.
    pub(super) expected: fn() -> String,
    /// The lines of its documentation.
    pub(super) doc: &'static [&'static str],
}

/// A struct made by [`section!`].
pub(super) trait Section: Default {
    const ABOUT: &'static [&'static str];
    const KEYS: &'static [Key];

    /// Sets a key.
    ///
    /// # Errors
    /// The value has another type. `None` if there is no such key.
    fn set(&mut self, key: &str, value: &Value) -> Option<Result<(), String>>;

    /// The values as TOML, in the order of the keys; `Err` is an example, where there is no value.
    fn written(&self) -> Vec<Result<String, &'static str>>;

    /// The keys whose values differ.
    fn changed(&self, other: &Self) -> Vec<&'static str>;
}

/// Declares a section: each key with its documentation, type and default.
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $key:ident: $type:ty = $default:expr,
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq)]
        pub(super) struct $name {
            $(
                $(#[doc = $doc])*
                pub(super) $key: $type,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl Section for $name {
            const ABOUT: &'static [&'static str] = &[$($about),*];
            const KEYS: &'static [Key] = &[
                $(Key {
                    name: stringify!($key),
                    expected: <$type as Setting>::expected,
                    doc: &[$($doc),*],
                },)*
            ];

            fn set(&mut self, key: &str, value: &Value) -> Option<Result<(), String>> {
                match key {
                    $(stringify!($key) => Some(self.$key.set(value)),)*
                    _ => None,
                }
            }

            fn written(&self) -> Vec<Result<String, &'static str>> {
                vec![$(self.$key.write().ok_or_else(|| self.$key.example()),)*]
            }

            fn changed(&self, other: &Self) -> Vec<&'static str> {
                let mut changed = Vec::new();
                $(if self.$key != other.$key {
                    changed.push(stringify!($key));
                })*
                changed
            }
        }
    };
}

pub(super) use section;
