//! Every path of the admin server, and what it does.

use std::net::SocketAddr;

use axum::http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Value, json};
use tracing::warn;

use super::{
    access::{Credentials, Need},
    actions, lists, metrics,
    pages::{self, File},
    reports,
    request::{Answer, ApiError, MAX_URI, Query, json as json_answer, text},
    sessions,
    state::AdminState,
    summary,
};

/// The most characters of a path in a log line.
const LOGGED_PATH: usize = 80;

/// One path. A segment in braces is a parameter.
pub(super) struct Route {
    path: &'static str,
    /// The parameters of its query.
    query: &'static [&'static str],
    target: Target,
}

enum Target {
    File(&'static File),
    Health,
    Ready,
    Metrics,
    /// All metrics, in JSON.
    Snapshot,
    Read(fn(&AdminState, &Query, &str) -> Result<Value, ApiError>),
    Act(fn(&AdminState, &actions::Request<'_>) -> Result<Value, ApiError>),
    /// A read that waits, for the task of the channels.
    Channels,
    /// A read that waits, for other members.
    Cluster,
    /// A read that waits, for the owner of a user.
    Locate,
    /// An action that waits, for the gates of a user.
    KickUser,
    /// An action that waits, for files.
    Reload,
}

const fn page(path: &'static str, file: &'static File) -> Route {
    route(path, &[], Target::File(file))
}

const fn route(path: &'static str, query: &'static [&'static str], target: Target) -> Route {
    Route {
        path,
        query,
        target,
    }
}

const ROUTES: &[Route] = &[
    page("/", &pages::PAGE),
    page("/style.css", &pages::STYLE),
    page("/actions.js", &pages::ACTIONS),
    page("/api.js", &pages::API),
    page("/app.js", &pages::APP),
    page("/chart.js", &pages::CHART),
    page("/dom.js", &pages::DOM),
    page("/problems.js", &pages::PROBLEMS),
    page("/samples.js", &pages::SAMPLES),
    page("/search.js", &pages::SEARCH),
    page("/views.js", &pages::VIEWS),
    page("/icon.svg", &pages::ICON),
    page("/api/openapi.json", &pages::OPENAPI),
    route("/healthz", &[], Target::Health),
    route("/readyz", &[], Target::Ready),
    route("/metrics", &[], Target::Metrics),
    route(
        "/api/v1/node",
        &[],
        Target::Read(|state, _, _| Ok(reports::node(state))),
    ),
    route(
        "/api/v1/members",
        &[],
        Target::Read(|state, _, _| Ok(reports::members(state))),
    ),
    route("/api/v1/cluster", &[], Target::Cluster),
    route(
        "/api/v1/sessions",
        sessions::PARAMETERS,
        Target::Read(|state, query, _| sessions::list(state, query)),
    ),
    route(
        "/api/v1/sessions/{id}",
        &[],
        Target::Read(|state, _, id| sessions::inspect(state, id)),
    ),
    route(
        "/api/v1/sessions/{id}/kick",
        &[],
        Target::Act(actions::kick_session),
    ),
    route("/api/v1/users/locate", sessions::WANTED, Target::Locate),
    route("/api/v1/users/kick", &[], Target::KickUser),
    route(
        "/api/v1/busiest",
        &[],
        Target::Read(|state, _, _| Ok(sessions::busiest(state))),
    ),
    route(
        "/api/v1/users",
        lists::PARAMETERS,
        Target::Read(|state, query, _| lists::users(state, query)),
    ),
    route(
        "/api/v1/groups",
        lists::PARAMETERS,
        Target::Read(|state, query, _| lists::groups(state, query)),
    ),
    route("/api/v1/channels", lists::PARAMETERS, Target::Channels),
    route(
        "/api/v1/schedulers",
        &["limit"],
        Target::Read(|state, query, _| reports::schedulers(state, query)),
    ),
    route(
        "/api/v1/routes",
        &[],
        Target::Read(|state, _, _| Ok(metrics::routes(state))),
    ),
    route(
        "/api/v1/queues",
        &[],
        Target::Read(|state, _, _| Ok(reports::queues(state))),
    ),
    route(
        "/api/v1/warnings",
        &["after"],
        Target::Read(|state, query, _| reports::warnings(state, query)),
    ),
    route("/api/v1/metrics", &[], Target::Snapshot),
    route(
        "/api/v1/denied",
        &[],
        Target::Read(|state, _, _| Ok(reports::denied(state))),
    ),
    route("/api/v1/denied/add", &[], Target::Act(actions::deny)),
    route("/api/v1/denied/remove", &[], Target::Act(actions::allow)),
    route("/api/v1/log-filter", &[], Target::Act(actions::log_filter)),
    route("/api/v1/reload", &[], Target::Reload),
    route("/api/v1/drain", &[], Target::Act(actions::drain)),
];

impl Route {
    fn need(&self) -> Need {
        match self.target {
            Target::File(_) | Target::Health | Target::Ready => Need::Nothing,
            Target::Metrics
            | Target::Snapshot
            | Target::Read(_)
            | Target::Channels
            | Target::Cluster
            | Target::Locate => Need::Read,
            Target::Act(_) | Target::KickUser | Target::Reload => Need::Act,
        }
    }

    fn method(&self) -> Method {
        match self.need() {
            Need::Act => Method::POST,
            Need::Nothing | Need::Read => Method::GET,
        }
    }

    /// Returns the parameter of a path that is this route's; empty where it has none.
    fn parameter<'a>(&self, path: &'a str) -> Option<&'a str> {
        let mut parameter = "";
        let (mut pattern, mut given) = (self.path.split('/'), path.split('/'));
        loop {
            match (pattern.next(), given.next()) {
                (None, None) => return Some(parameter),
                (Some(segment), Some(value)) if segment.starts_with('{') => parameter = value,
                (Some(segment), Some(value)) if segment == value => {}
                _ => return None,
            }
        }
    }
}

/// A request whose head was read.
pub(super) struct Head<'a> {
    pub(super) peer: SocketAddr,
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) headers: &'a HeaderMap,
}

/// A request that may be served, and has yet to be read if it has a body.
pub(super) struct Accepted<'a> {
    route: &'static Route,
    parameter: &'a str,
    query: Query,
}

impl<'a> Head<'a> {
    /// Finds the route of a request, and checks that it may be served.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(super) fn accept(&self, state: &AdminState) -> Result<Accepted<'a>, ApiError> {
        if self.path.len() + self.query.len() > MAX_URI {
            return Err(ApiError::too_long());
        }
        let found = ROUTES
            .iter()
            .find_map(|route| Some((route, route.parameter(self.path)?)));
        let credentials = Credentials {
            peer: self.peer,
            headers: self.headers,
        };
        // What there is, is no secret; a path that is not there needs no token to learn so.
        let need = found.map_or(Need::Nothing, |(route, _)| route.need());
        let checked = state.access.check(need, credentials);
        if checked.is_err() && self.headers.contains_key(header::AUTHORIZATION) {
            self.log_refused(state);
        }
        checked?;
        let (route, parameter) =
            found.ok_or_else(|| ApiError::not_found("no such path: see /api/openapi.json"))?;
        let head = self.method == Method::HEAD && route.method() == Method::GET;
        if *self.method != route.method() && !head {
            let allow = match route.need() {
                Need::Act => "POST",
                Need::Nothing | Need::Read => "GET, HEAD",
            };
            return Err(ApiError::method(allow.to_owned()));
        }
        if route.need() == Need::Act && !self.is_json() {
            return Err(ApiError::media_type());
        }
        Ok(Accepted {
            route,
            parameter,
            query: Query::parse(self.query, route.query)?,
        })
    }

    /// A token is being guessed, or was changed and not everywhere.
    fn log_refused(&self, state: &AdminState) {
        if let Some(held_back) = state.refused_log.pass() {
            let path: String = self.path.chars().take(LOGGED_PATH).collect();
            warn!(peer = %self.peer, path, held_back, "admin: wrong token, or a page of another site");
        }
    }

    fn header(&self, name: &header::HeaderName) -> &str {
        let value = self.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    fn is_json(&self) -> bool {
        let content_type = self.header(&header::CONTENT_TYPE);
        let (media_type, _) = content_type.split_once(';').unwrap_or((content_type, ""));
        media_type.trim().eq_ignore_ascii_case("application/json")
    }
}

impl Accepted<'_> {
    /// Whether the body is of use.
    pub(super) fn takes_body(&self) -> bool {
        self.route.need() == Need::Act
    }

    /// Answers the request.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(super) async fn serve(
        &self,
        state: &AdminState,
        head: &Head<'_>,
        body: &[u8],
    ) -> Result<Answer, ApiError> {
        let request = actions::Request {
            peer: head.peer,
            parameter: self.parameter,
            body,
        };
        let ok = |report: Value| json_answer(StatusCode::OK, &report);
        match self.route.target {
            Target::File(file) => Ok(file.answer()),
            Target::Health => Ok(text(StatusCode::OK, "text/plain; charset=utf-8", "ok\n")),
            Target::Ready => Ok(ready(state)),
            Target::Metrics => Ok(metrics::scrape(state, head.header(&header::ACCEPT))),
            Target::Snapshot => Ok(metrics::snapshot(state)),
            Target::Read(read) => read(state, &self.query, self.parameter).map(ok),
            Target::Channels => lists::channels(state, &self.query).await.map(ok),
            Target::Cluster => Ok(ok(summary::cluster(state).await)),
            Target::Act(act) => act(state, &request).map(ok),
            Target::Locate => sessions::located(state, &self.query).await.map(ok),
            Target::KickUser => actions::kick_user(state, &request).await.map(ok),
            Target::Reload => actions::reload(state, &request).await.map(ok),
        }
    }
}

/// Whether new clients and sessions may come to this node, and what is missing if not.
fn ready(state: &AdminState) -> Answer {
    let missing = state.handle.missing();
    let status = match missing.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    json_answer(
        status,
        &json!({"ready": missing.is_empty(), "missing": missing}),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_openapi_file_describes_every_path() {
        let described: Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
        let described: BTreeSet<_> = described["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                methods
                    .as_object()
                    .unwrap()
                    .iter()
                    .map(move |(method, operation)| {
                        let parameters = operation["parameters"].as_array();
                        let query: BTreeSet<_> = parameters
                            .into_iter()
                            .flatten()
                            .filter(|it| it["in"] == "query")
                            .map(|it| it["name"].as_str().unwrap().to_owned())
                            .collect();
                        (path.clone(), method.to_uppercase(), query)
                    })
            })
            .collect();
        let served: BTreeSet<_> = ROUTES
            .iter()
            .filter(|route| !matches!(route.target, Target::File(_)))
            .map(|route| {
                let query = route.query.iter().map(|name| (*name).to_owned()).collect();
                (route.path.to_owned(), route.method().to_string(), query)
            })
            .collect();
        assert_eq!(described, served);
    }

    #[test]
    fn no_action_is_open_to_reads() {
        for route in ROUTES {
            let acts = matches!(
                route.target,
                Target::Act(_) | Target::KickUser | Target::Reload
            );
            assert_eq!(acts, route.method() == Method::POST, "{}", route.path);
            assert_eq!(acts, route.need() == Need::Act, "{}", route.path);
        }
    }

    #[test]
    fn a_path_has_one_route_and_its_parameter() {
        let parameter = |path| {
            let mut found = ROUTES.iter().filter_map(|route| route.parameter(path));
            let first = found.next();
            assert_eq!(found.next(), None, "{path}");
            first
        };
        assert_eq!(parameter("/api/v1/sessions/7/kick"), Some("7"));
        assert_eq!(parameter("/api/v1/sessions/7"), Some("7"));
        assert_eq!(parameter("/api/v1/sessions"), Some(""));
        assert_eq!(parameter("/"), Some(""));
        for path in [
            "",
            "//",
            "/api/v1/sessions/7/",
            "/api/v1/sessions/7/kick/8",
            "/API/V1/node",
        ] {
            assert_eq!(parameter(path), None, "{path}");
        }
    }
}
