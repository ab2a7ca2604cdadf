//! `nano` as its users run it: the program against real nodes.
#![allow(clippy::unwrap_used, missing_docs)]

mod operating;
mod program;
