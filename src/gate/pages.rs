//! HTTP beside a WebSocket: an application's router, files of a directory.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

use axum::{Router, response::Redirect, routing::get};
use tower_http::services::ServeDir;

use crate::error::{Error, Result, code};

/// HTTP beside a WebSocket.
#[derive(Clone)]
pub(super) enum Pages {
    Router(Router),
    Files(String, PathBuf),
}

/// Merges all pages into one router.
///
/// # Errors
/// Names a directory that does not exist, or routes that are invalid or overlap: Axum panics on them.
pub(super) fn merge(address: &str, pages: Vec<Pages>) -> Result<Router> {
    let invalid = |why: &str| {
        let text = format!("HTTP routes of {address}: {why}");
        Error::new(code::BAD_REQUEST, text)
    };
    for page in &pages {
        if let Pages::Files(_, directory) = page
            && !directory.is_dir()
        {
            let directory = directory.display();
            return Err(invalid(&format!("{directory} is not a directory")));
        }
    }
    let merged = catch_unwind(AssertUnwindSafe(|| {
        pages
            .into_iter()
            .fold(Router::new(), |all, pages| all.merge(pages.router()))
    }));
    merged.map_err(|panic| {
        let why = panic.downcast_ref::<String>().map_or_else(
            || panic.downcast_ref::<&str>().copied().unwrap_or_default(),
            String::as_str,
        );
        invalid(why)
    })
}

impl Pages {
    fn router(self) -> Router {
        match self {
            Self::Router(router) => router,
            Self::Files(path, directory) if path.is_empty() => {
                Router::new().fallback_service(ServeDir::new(directory))
            }
            Self::Files(path, directory) => {
                // The page of a directory names its other files relative to the slash.
                let redirect = Redirect::temporary(&format!("/{path}/"));
                let router = Router::new().route(&format!("/{path}"), get(|| async { redirect }));
                router.nest_service(&format!("/{path}/"), ServeDir::new(directory))
            }
        }
    }
}
