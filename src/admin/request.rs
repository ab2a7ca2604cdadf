//! Requests and answers of the API, and its errors.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::json;

/// The longest path and query, in bytes.
pub(super) const MAX_URI: usize = 2048;

/// What a handler answers.
pub(super) type Answer = Response<Body>;

/// A request that is not served, as the caller reads it.
#[derive(Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    code: &'static str,
    message: String,
    /// The methods that the path has.
    allow: Option<String>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            allow: None,
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
    }

    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    pub(super) fn method(allow: String) -> Self {
        let mut error = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "METHOD_NOT_ALLOWED",
            format!("this path takes {allow}"),
        );
        error.allow = Some(allow);
        error
    }

    pub(super) fn unsupported() -> Self {
        let message = "this server has no such function: the application does not offer it";
        Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", message)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("a body of more than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "TOO_LARGE", message)
    }

    pub(super) fn too_long() -> Self {
        let message = format!("a path and query of more than {MAX_URI} bytes");
        Self::new(StatusCode::URI_TOO_LONG, "TOO_LARGE", message)
    }

    pub(super) fn media_type() -> Self {
        let message = "the body must be JSON: send the header Content-Type: application/json";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "MEDIA_TYPE", message)
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message)
    }

    pub(super) fn timeout() -> Self {
        let message = "the body took too long";
        Self::new(StatusCode::REQUEST_TIMEOUT, "TIMEOUT", message)
    }

    pub(super) fn into_answer(self) -> Answer {
        let body = json!({"code": self.code, "message": self.message});
        let mut answer = json(self.status, &body);
        let allow = self
            .allow
            .and_then(|allow| HeaderValue::from_str(&allow).ok());
        if let Some(allow) = allow {
            answer.headers_mut().insert(header::ALLOW, allow);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            answer
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        answer
    }
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    // Reports are plain data, which always has a JSON form.
    let body = serde_json::to_vec(body).unwrap_or_default();
    text(status, "application/json", body)
}

/// An answer of a content type. Only pages and scripts of this server run in what it shows, and no
/// cache keeps it.
pub(super) fn text(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Body>,
) -> Answer {
    const HEADERS: [(header::HeaderName, &str); 5] = [
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// The parameters of a query.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses a query whose parameters are among `known`, each at most once.
    ///
    /// # Errors
    /// Names the parameter that is unknown, there twice, or not UTF-8.
    pub(super) fn parse(query: &str, known: &[&str]) -> Result<Self, ApiError> {
        let mut parsed: Vec<(String, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if !known.contains(&name.as_str()) {
                let message = match known {
                    [] => format!("unknown parameter {name:?}: this path takes none"),
                    known => format!("unknown parameter {name:?}: {} are known", known.join(", ")),
                };
                return Err(ApiError::bad_request(message));
            }
            if parsed.iter().any(|(other, _)| *other == name) {
                return Err(ApiError::bad_request(format!(
                    "the parameter {name:?} twice"
                )));
            }
            parsed.push((name, value));
        }
        Ok(Self(parsed))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        pairs.find_map(|(known, value)| (known == name).then_some(value.as_str()))
    }

    /// # Errors
    /// The parameter is not a whole number within the range.
    pub(super) fn number(
        &self,
        name: &str,
        default: i64,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<i64, ApiError> {
        let Some(text) = self.text(name) else {
            return Ok(default);
        };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let (from, to) = (range.start(), range.end());
            ApiError::bad_request(format!("{name} must be a whole number from {from} to {to}"))
        })
    }
}

/// Decodes a part of a query.
fn decode(text: &str) -> Result<String, ApiError> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    match decoded {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(ApiError::bad_request("the query is not UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("user=a%20b+c&limit=5&", &["user", "limit"]).unwrap();
        assert_eq!(query.text("user"), Some("a b c"));
        assert_eq!(query.number("limit", 10, 1..=100).unwrap(), 5);
        assert_eq!(query.number("after", 10, 1..=100).unwrap(), 10);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for query in ["other=1", "limit=1&limit=2", "limit=%ff", "%ff=1"] {
            assert!(Query::parse(query, &["limit"]).is_err(), "{query}");
        }
        for number in ["", "0", "101", "1.5", "x", "99999999999999999999", "-1"] {
            let query = Query::parse(&format!("limit={number}"), &["limit"]).unwrap();
            assert!(query.number("limit", 10, 1..=100).is_err(), "{number}");
        }
    }
}
