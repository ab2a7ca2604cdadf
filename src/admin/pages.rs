//! The files of the dashboard, and the description of the API.

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

const SCRIPT: &str = "text/javascript; charset=utf-8";

pub(super) const PAGE: File = file(
    "text/html; charset=utf-8",
    include_str!("dashboard/index.html"),
);
pub(super) const STYLE: File = file(
    "text/css; charset=utf-8",
    include_str!("dashboard/style.css"),
);
pub(super) const ACTIONS: File = file(SCRIPT, include_str!("dashboard/actions.js"));
pub(super) const API: File = file(SCRIPT, include_str!("dashboard/api.js"));
pub(super) const APP: File = file(SCRIPT, include_str!("dashboard/app.js"));
pub(super) const CHART: File = file(SCRIPT, include_str!("dashboard/chart.js"));
pub(super) const DOM: File = file(SCRIPT, include_str!("dashboard/dom.js"));
pub(super) const PROBLEMS: File = file(SCRIPT, include_str!("dashboard/problems.js"));
pub(super) const SAMPLES: File = file(SCRIPT, include_str!("dashboard/samples.js"));
pub(super) const SEARCH: File = file(SCRIPT, include_str!("dashboard/search.js"));
pub(super) const VIEWS: File = file(SCRIPT, include_str!("dashboard/views.js"));
pub(super) const ICON: File = file("image/svg+xml", include_str!("dashboard/icon.svg"));
pub(super) const OPENAPI: File = file("application/json", include_str!("openapi.json"));

impl File {
    pub(super) fn answer(&self) -> Answer {
        text(StatusCode::OK, self.content_type, self.text)
    }
}
