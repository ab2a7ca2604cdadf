//! Which request may do what. No I/O.

use std::{
    env,
    net::{IpAddr, SocketAddr},
};

use axum::http::{HeaderMap, HeaderName, header};
use subtle::ConstantTimeEq;

use super::request::ApiError;
use crate::error::{Error, Result, code};

/// The token, unless the options have one.
const TOKEN_VARIABLE: &str = "NANO_ADMIN_TOKEN";

const SCHEME: &str = "Bearer ";

/// What a route lets a request do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing of the node: pages, and whether it is healthy.
    Nothing,
    Read,
    Act,
}

/// Who may read and act.
pub(crate) struct Access {
    token: Option<String>,
    hosts: Vec<String>,
}

/// How a request presents itself.
#[derive(Clone, Copy)]
pub(super) struct Credentials<'a> {
    pub(super) peer: SocketAddr,
    pub(super) headers: &'a HeaderMap,
}

impl Access {
    /// # Errors
    /// The token is empty or has characters that a header cannot carry.
    pub(super) fn new(token: Option<String>, hosts: Vec<String>) -> Result<Self> {
        let token = token.or_else(|| env::var(TOKEN_VARIABLE).ok());
        let is_visible =
            |token: &str| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        match token {
            Some(token) if !is_visible(&token) => Err(Error::new(
                code::BAD_REQUEST,
                "admin.token must be at least one visible ASCII character, without spaces",
            )),
            token => Ok(Self { token, hosts }),
        }
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Checks a request.
    ///
    /// # Errors
    /// 400 without a single `Host`; 403 for a page of another site, for a host name that may be
    /// rebound, for a read from another machine where there is no token; 401 for a missing or wrong
    /// token.
    pub(super) fn check(&self, need: Need, request: Credentials<'_>) -> Result<(), ApiError> {
        let host = single(request.headers, &header::HOST)?
            .ok_or_else(|| ApiError::bad_request("the header Host is missing"))?;
        check_site(request.headers, host)?;
        if let Some(given) = single(request.headers, &header::AUTHORIZATION)? {
            return self.check_token(given);
        }
        match need {
            Need::Nothing => Ok(()),
            Need::Read if is_local(request) => self.check_host(host),
            Need::Read | Need::Act => Err(self.no_token(need)),
        }
    }

    /// Compares in a time that does not depend on how much of the token is right.
    fn check_token(&self, given: &str) -> Result<(), ApiError> {
        let right = self.token.as_ref().is_some_and(|token| {
            let given = given.split_at_checked(SCHEME.len());
            given.is_some_and(|(scheme, given)| {
                scheme.eq_ignore_ascii_case(SCHEME)
                    && token.as_bytes().ct_eq(given.as_bytes()).into()
            })
        });
        match right {
            true => Ok(()),
            false => Err(ApiError::unauthorized("the token is wrong")),
        }
    }

    fn no_token(&self, need: Need) -> ApiError {
        match (need, &self.token) {
            (_, Some(_)) => ApiError::unauthorized(
                "a token is needed: send the header Authorization: Bearer <token>",
            ),
            (Need::Act, None) => ApiError::forbidden(
                "actions need a token, and this node has none: start it with NANO_ADMIN_TOKEN, \
                 admin.token or Admin::token",
            ),
            (_, None) => ApiError::forbidden(
                "only loopback peers may read, since this node has no token: start it with \
                 NANO_ADMIN_TOKEN, admin.token or Admin::token",
            ),
        }
    }

    /// A name that the caller's resolver maps to this machine could be any site's.
    fn check_host(&self, host: &str) -> Result<(), ApiError> {
        let name = host_name(host);
        let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let known = name == "localhost" || self.hosts.contains(&name);
        match is_address || known {
            true => Ok(()),
            false => Err(ApiError::forbidden(
                "this host name is not known: add it with Admin::host, or send the token",
            )),
        }
    }
}

/// The host of `host:port`, in lower case.
fn host_name(host: &str) -> String {
    let end = match host.rfind(']') {
        Some(bracket) => bracket + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    host[..end].to_ascii_lowercase()
}

/// Whether the client itself is on this machine, and not behind a proxy here.
fn is_local(request: Credentials<'_>) -> bool {
    const PROXIED: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];
    let proxied = PROXIED
        .iter()
        .any(|name| request.headers.contains_key(*name));
    request.peer.ip().to_canonical().is_loopback() && !proxied
}

/// Browsers say which site's page sends a request.
fn check_site(headers: &HeaderMap, host: &str) -> Result<(), ApiError> {
    let foreign = || ApiError::forbidden("pages of other sites may not ask this server");
    if let Some(origin) = single(headers, &header::ORIGIN)? {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        if !authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) {
            return Err(foreign());
        }
    }
    let site = single(headers, &HeaderName::from_static("sec-fetch-site"))?;
    // A link on another site opens the page itself; what that page shows, no other site can read.
    let navigates =
        single(headers, &HeaderName::from_static("sec-fetch-mode"))? == Some("navigate");
    match site {
        Some("cross-site" | "same-site") if !navigates => Err(foreign()),
        _ => Ok(()),
    }
}

/// The value of a header that may be there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(ApiError::bad_request(format!("the header {name} twice")));
    }
    first
        .map(|value| value.to_str())
        .transpose()
        .map_err(|_| ApiError::bad_request(format!("the header {name} is not ASCII")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "127.0.0.1:5000";
    const FAR: &str = "192.0.2.7:5000";

    /// The status of a request with these headers.
    fn status(token: Option<&str>, need: Need, peer: &str, headers: &[(&str, &str)]) -> u16 {
        let access = Access {
            token: token.map(str::to_owned),
            hosts: vec!["node.example.org".to_owned()],
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, value.parse().unwrap());
        }
        let request = Credentials {
            peer: peer.parse().unwrap(),
            headers: &map,
        };
        access
            .check(need, request)
            .map_or_else(|error| error.status.as_u16(), |()| 200)
    }

    const HOST: (&str, &str) = ("host", "127.0.0.1:9470");

    #[test]
    fn without_a_token_only_loopback_peers_read_and_none_acts() {
        for peer in [LOCAL, "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(status(None, Need::Read, peer, &[HOST]), 200);
            assert_eq!(status(None, Need::Act, peer, &[HOST]), 403);
        }
        assert_eq!(status(None, Need::Read, FAR, &[HOST]), 403);
        assert_eq!(status(None, Need::Nothing, FAR, &[HOST]), 200);
        let proxied = [HOST, ("x-forwarded-for", "192.0.2.7")];
        assert_eq!(status(None, Need::Read, LOCAL, &proxied), 403);
        let bearer = [HOST, ("authorization", "Bearer guess")];
        assert_eq!(status(None, Need::Act, LOCAL, &bearer), 401);
    }

    #[test]
    fn with_a_token_its_bearers_read_from_anywhere_and_act() {
        let status = |need, peer, headers: &[_]| status(Some("secret"), need, peer, headers);
        for need in [Need::Read, Need::Act] {
            for right in ["Bearer secret", "bearer secret"] {
                assert_eq!(status(need, FAR, &[HOST, ("authorization", right)]), 200);
            }
            for wrong in [
                "Bearer",
                "Bearer ",
                "Bearer secre",
                "Bearer secrets",
                "Basic secret",
                "secret",
            ] {
                assert_eq!(
                    status(need, LOCAL, &[HOST, ("authorization", wrong)]),
                    401,
                    "{wrong}"
                );
            }
            assert_eq!(status(need, FAR, &[HOST]), 401);
        }
        assert_eq!(status(Need::Read, LOCAL, &[HOST]), 200);
        assert_eq!(status(Need::Act, LOCAL, &[HOST]), 401);
        let twice = [
            HOST,
            ("authorization", "Bearer secret"),
            ("authorization", "Bearer secret"),
        ];
        assert_eq!(status(Need::Act, LOCAL, &twice), 400);
    }

    #[test]
    fn a_rebound_host_name_is_refused() {
        for host in [
            "evil.example",
            "evil.example:9470",
            "localhost.evil.example",
            "",
        ] {
            assert_eq!(
                status(None, Need::Read, LOCAL, &[("host", host)]),
                403,
                "{host}"
            );
        }
        for host in [
            "localhost:9470",
            "LOCALHOST",
            "[::1]:9470",
            "192.0.2.1:80",
            "node.example.org",
        ] {
            assert_eq!(
                status(None, Need::Read, LOCAL, &[("host", host)]),
                200,
                "{host}"
            );
        }
        assert_eq!(status(None, Need::Read, LOCAL, &[]), 400);
        assert_eq!(status(None, Need::Read, LOCAL, &[HOST, HOST]), 400);
        let named = [("host", "evil.example"), ("authorization", "Bearer secret")];
        assert_eq!(status(Some("secret"), Need::Read, LOCAL, &named), 200);
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let with = |name, value| {
            let headers = [HOST, ("authorization", "Bearer secret"), (name, value)];
            status(Some("secret"), Need::Act, LOCAL, &headers)
        };
        for origin in ["http://evil.example", "null", "http://127.0.0.1:9471", ""] {
            assert_eq!(with("origin", origin), 403, "{origin}");
        }
        assert_eq!(with("origin", "http://127.0.0.1:9470"), 200);
        assert_eq!(with("sec-fetch-site", "cross-site"), 403);
        assert_eq!(with("sec-fetch-site", "same-origin"), 200);
        let link = [
            HOST,
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
        ];
        assert_eq!(status(None, Need::Nothing, FAR, &link), 200);
    }
}
