//! The HTTP request that opened a WebSocket.

use std::fmt;

use axum::http::{HeaderMap, Method, Uri, header, request::Parts};

use crate::trace::TraceContext;

/// The HTTP request that opened a WebSocket, for checks of the handshake: path, query, headers and
/// cookies.
///
/// Browsers cannot set headers of a WebSocket. They send a token in the query, in a cookie or as a
/// subprotocol.
///
/// ```
/// use nano::{Handshake, Result, Error};
///
/// fn token(handshake: &Handshake) -> Result<String> {
///     let query = handshake.upgrade().and_then(|request| request.query()).unwrap_or_default();
///     let token = query.split('&').find_map(|pair| pair.strip_prefix("token="));
///     token.map(str::to_owned).ok_or_else(|| Error::new("401", "no token"))
/// }
/// ```
pub struct UpgradeRequest {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl UpgradeRequest {
    pub(super) fn new(head: Parts) -> Self {
        Self {
            method: head.method,
            uri: head.uri,
            headers: head.headers,
        }
    }

    /// The path as the client sent it, such as `/nano`; percent-encoded bytes stay so.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// The query behind the `?`, such as `token=t&room=7`; percent-encoded bytes stay so.
    pub fn query(&self) -> Option<&str> {
        self.uri.query()
    }

    /// All headers of the request.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The first header of this name, if there is one and it is text. Names have no case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The value of the first cookie of this name, without quotes around it.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let headers = self.headers.get_all(header::COOKIE).iter();
        headers
            .filter_map(|cookies| cookies.to_str().ok())
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.split_once('='))
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim().trim_matches('"'))
    }
}

impl UpgradeRequest {
    /// The span that the headers `traceparent` and `tracestate` name. Several of the first are not
    /// valid, and those of the second are one.
    pub(super) fn trace(&self) -> Option<TraceContext> {
        let mut parents = self.headers.get_all("traceparent").iter();
        let (parent, more) = (parents.next()?, parents.next());
        let parent = parent.to_str().ok().filter(|_| more.is_none())?;
        let states = self.headers.get_all("tracestate").iter();
        let states: Option<Vec<_>> = states.map(|state| state.to_str().ok()).collect();
        TraceContext::parse(parent, states.map(|states| states.join(",")).as_deref())
    }
}

/// Leaves the query and the headers out: they hold tokens.
impl fmt::Debug for UpgradeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradeRequest")
            .field("method", &self.method)
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn trace(headers: &[(&str, &str)]) -> Option<TraceContext> {
        let request = headers.iter().fold(Request::get("/nano"), |request, it| {
            request.header(it.0, it.1)
        });
        UpgradeRequest::new(request.body(()).unwrap().into_parts().0).trace()
    }

    #[test]
    fn the_trace_of_a_request_is_in_one_traceparent_and_all_tracestates() {
        let states = [("tracestate", "a=1"), ("Tracestate", "b=2")];
        let found = trace(&[("TraceParent", TRACE), states[0], states[1]]).unwrap();
        assert_eq!(found.to_string(), TRACE);
        assert_eq!(found.tracestate(), Some("a=1,b=2"));
        assert_eq!(trace(&[("traceparent", TRACE)]).unwrap().tracestate(), None);
        assert_eq!(
            trace(&[("traceparent", TRACE), ("traceparent", TRACE)]),
            None
        );
        assert_eq!(trace(&[("traceparent", "00"), states[0]]), None);
        assert_eq!(trace(&states), None);
    }

    #[test]
    fn a_token_is_found_in_query_header_and_cookie() {
        let request = Request::get("http://game.example/%6eano?token=a%20b")
            .header("X-Token", "t")
            .header("Cookie", "a=1; sid=\"x=y\" ; b")
            .header("cookie", "later=2;sid=3")
            .body(())
            .unwrap();
        let request = UpgradeRequest::new(request.into_parts().0);
        assert_eq!(request.path(), "/%6eano");
        assert_eq!(request.query(), Some("token=a%20b"));
        assert_eq!(request.header("x-token"), Some("t"));
        assert_eq!(request.headers().len(), 3);
        assert_eq!(request.cookie("sid"), Some("x=y"));
        assert_eq!(request.cookie("later"), Some("2"));
        assert_eq!(request.cookie("b"), None);
        assert!(!format!("{request:?}").contains("token"));
    }
}
