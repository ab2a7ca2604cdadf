//! `nano` as its users run it: the program against real nodes.
#![allow(clippy::unwrap_used, missing_docs)]

mod beginning;
mod completion;
mod image;
mod measuring;
mod operating;
mod playing;
mod program;
#[cfg(unix)]
mod terminal;
