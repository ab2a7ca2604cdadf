//! Trouble that others had with servers and clients of this kind, put to this one. `README.md` beside
//! this file lists the cases and where each is tested.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod broken_frames;
mod compressed;
mod cut_and_glued;
mod old_clients;
mod pushes;
mod table;
mod values;
