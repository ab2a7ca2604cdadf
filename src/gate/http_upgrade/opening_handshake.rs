//! The opening handshake of a WebSocket (RFC 6455, section 4.2): checks of the request, and the head
//! of the response. Pure.
//!
//! The checks and their order are those of the WebSocket library of Go nano, gorilla 1.4.2, and of
//! Go's HTTP server. A body is refused here, where gorilla closes the connection without a word.

use std::fmt::Write;

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header, request::Parts,
};
use percent_encoding::percent_decode_str;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Why a request is refused: the status, and a sentence for the operator who reads it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) &'static str);

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The path of the WebSocket.
    WebSocket,
    /// Another spelling of that path, such as `//nano`: the client is sent to the right one.
    Misspelled,
    /// A page beside the WebSocket.
    Page,
}

const NOT_AN_UPGRADE: &str = "This path is a WebSocket. The request lacks the header \
    'Connection: Upgrade' or 'Upgrade: websocket'. A proxy in front of this server has to pass both \
    on, over HTTP/1.1 (nginx: proxy_http_version 1.1).\n";

/// Checks what every HTTP request must have.
pub(super) fn check_host(head: &Parts) -> Result<(), Refusal> {
    let count = head.headers.get_all(header::HOST).iter().count();
    if count > 1 || (count == 0 && head.version >= Version::HTTP_11) {
        return Err(Refusal(
            StatusCode::BAD_REQUEST,
            "The request must have one header 'Host'.\n",
        ));
    }
    let host = head.headers.get(header::HOST).map(HeaderValue::as_bytes);
    if !host
        .unwrap_or_default()
        .iter()
        .all(|byte| is_of_host(*byte))
    {
        return Err(Refusal(
            StatusCode::BAD_REQUEST,
            "The header 'Host' is malformed.\n",
        ));
    }
    Ok(())
}

/// Whether a host and port may have this byte (RFC 3986, sections 3.2.2 and 3.2.3).
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(&byte)
}

/// Whether a request announces a body. Its bytes would be taken for frames.
fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length != "0")
}

/// Finds out what a request is for; `path` is that of the WebSocket, decoded.
pub(super) fn target(head: &Parts, path: &str) -> Target {
    let decoded = percent_decode_str(head.uri.path());
    match decoded.decode_utf8() {
        Ok(decoded) if decoded == path => Target::WebSocket,
        Ok(decoded) if clean(&decoded) == path => Target::Misspelled,
        _ => Target::Page,
    }
}

/// Resolves empty, `.` and `..` segments; a slash at the end stays.
fn clean(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let end = if path.ends_with('/') && !kept.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{end}", kept.join("/"))
}

/// Checks that a request asks for a WebSocket at all.
pub(super) fn check_upgrade(head: &Parts) -> Result<(), Refusal> {
    let lists =
        |name, token| tokens(&head.headers, name).any(|listed| listed.eq_ignore_ascii_case(token));
    if lists(&header::CONNECTION, "upgrade") && lists(&header::UPGRADE, "websocket") {
        Ok(())
    } else {
        Err(Refusal(StatusCode::BAD_REQUEST, NOT_AN_UPGRADE))
    }
}

/// Checks a request that asks for a WebSocket; `allowed` is the application's check of its origin.
/// Returns the client's key.
pub(super) fn check_websocket(
    head: &Parts,
    allowed: impl FnOnce(&Parts) -> bool,
) -> Result<&[u8], Refusal> {
    if head.method != Method::GET {
        return Err(Refusal(
            StatusCode::METHOD_NOT_ALLOWED,
            "A WebSocket is opened with GET.\n",
        ));
    }
    if head.version < Version::HTTP_11 {
        return Err(Refusal(
            StatusCode::BAD_REQUEST,
            "A WebSocket needs HTTP/1.1 (nginx: proxy_http_version 1.1).\n",
        ));
    }
    if has_body(&head.headers) {
        return Err(Refusal(
            StatusCode::BAD_REQUEST,
            "A request that opens a WebSocket has no body.\n",
        ));
    }
    if !tokens(&head.headers, &header::SEC_WEBSOCKET_VERSION).any(|version| version == "13") {
        return Err(Refusal(
            StatusCode::BAD_REQUEST,
            "The header 'Sec-WebSocket-Version' must list 13.\n",
        ));
    }
    if !allowed(head) {
        return Err(Refusal(
            StatusCode::FORBIDDEN,
            "This origin is not allowed.\n",
        ));
    }
    let key = head.headers.get(header::SEC_WEBSOCKET_KEY);
    match key.map(|key| key.as_bytes().trim_ascii()) {
        Some(key) if !key.is_empty() => Ok(key),
        _ => Err(Refusal(
            StatusCode::BAD_REQUEST,
            "The header 'Sec-WebSocket-Key' is missing or empty.\n",
        )),
    }
}

/// Returns the first of the server's subprotocols that the client offers.
pub(super) fn subprotocol<'a>(headers: &HeaderMap, supported: &'a [String]) -> Option<&'a str> {
    let offered = |name: &&String| {
        tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).any(|offer| offer == **name)
    };
    supported.iter().find(offered).map(String::as_str)
}

/// Writes the head of the response that opens a WebSocket, to the byte as Go nano does: some
/// clients compare names with their case.
pub(super) fn switching(key: &[u8], subprotocol: Option<&str>) -> String {
    let mut head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n",
        derive_accept_key(key)
    );
    if let Some(subprotocol) = subprotocol {
        // Writing to a string cannot fail.
        let _ = write!(head, "Sec-WebSocket-Protocol: {subprotocol}\r\n");
    }
    head.push_str("\r\n");
    head
}

/// The items of all headers of this name, which are lists with commas.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn head(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let request = Request::get(uri);
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, *value)
        });
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_path_is_compared_decoded_and_clean() {
        for (uri, expected) in [
            ("/nano", Target::WebSocket),
            ("/%6e%61no?x=/", Target::WebSocket),
            ("http://elsewhere/nano", Target::WebSocket),
            ("//nano", Target::Misspelled),
            ("/./x/..//nano", Target::Misspelled),
            ("/nano/", Target::Page),
            ("/Nano", Target::Page),
            ("/%ff", Target::Page),
            ("/nano%2f", Target::Page),
            ("/", Target::Page),
        ] {
            assert_eq!(target(&head(uri, &[]), "/nano"), expected, "{uri}");
        }
        assert_eq!(target(&head("/", &[]), "/"), Target::WebSocket);
        assert_eq!(target(&head("//", &[]), "/"), Target::Misspelled);
    }

    #[test]
    fn the_order_of_the_server_decides_between_subprotocols() {
        let offers = head(
            "/",
            &[
                ("sec-websocket-protocol", "b, jwt.abc"),
                ("sec-websocket-protocol", "a"),
            ],
        );
        let supported = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let chosen = |names: Vec<String>| subprotocol(&offers.headers, &names).map(str::to_owned);
        assert_eq!(chosen(supported(&["a", "b"])).as_deref(), Some("a"));
        assert_eq!(chosen(supported(&["c", "b"])).as_deref(), Some("b"));
        assert_eq!(chosen(supported(&["B", "jwt"])), None);
        assert_eq!(chosen(Vec::new()), None);
    }
}
