//! The description of the API.

use axum::http::StatusCode;

use super::request::{Answer, text};

/// A file that this server sends.
#[derive(Debug)]
pub(super) struct File {
    content_type: &'static str,
    text: &'static str,
}

const fn file(content_type: &'static str, text: &'static str) -> File {
    File { content_type, text }
}

pub(super) const OPENAPI: File = file("application/json", include_str!("openapi.json"));

impl File {
    pub(super) fn answer(&self) -> Answer {
        text(StatusCode::OK, self.content_type, self.text)
    }
}
