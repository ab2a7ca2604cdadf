//! The address of a client in the headers that HTTP proxies add. No I/O.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::{HeaderMap, HeaderName, header};

use super::network::NetworkSet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// `Forwarded` and `X-Forwarded-For` name different clients: one of them is the client's invention,
/// and it cannot be known which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contradiction;

/// Returns the address of the client behind trusted proxies: the last address in `Forwarded` (RFC
/// 7239) or `X-Forwarded-For` that is no trusted proxy's own.
///
/// Each proxy appends the address it was called from, so that everything before that entry may be
/// invented by the client. `None` if the headers name no address: they are missing, or the entry is not
/// an address (`unknown`, a name, garbage). The caller must have checked that `headers` come from a
/// trusted proxy.
///
/// # Errors
/// Both headers are there and do not agree. A proxy writes one of them, and passes on the other as
/// the client has sent it.
pub(crate) fn client(
    headers: &HeaderMap,
    trusted: &NetworkSet,
) -> Result<Option<IpAddr>, Contradiction> {
    let has = |name| headers.contains_key(name);
    let standard = || last_untrusted(entries(headers, header::FORWARDED), trusted, element_for);
    let common = || {
        let entries = entries(headers, X_FORWARDED_FOR);
        last_untrusted(entries, trusted, |entry| address(entry.trim()))
    };
    match (has(header::FORWARDED), has(X_FORWARDED_FOR)) {
        (true, true) => {
            let client = standard();
            if client == common() {
                Ok(client)
            } else {
                Err(Contradiction)
            }
        }
        (true, false) => Ok(standard()),
        (false, _) => Ok(common()),
    }
}

/// The comma-separated entries of all headers of a name, in order.
fn entries(headers: &HeaderMap, name: HeaderName) -> Vec<&str> {
    let mut entries = Vec::new();
    for value in headers.get_all(name) {
        // A value that is no text ends the chain of trust: what precedes it cannot be known.
        match value.to_str() {
            Ok(value) => entries.extend(split_outside_quotes(value, ',')),
            Err(_) => entries = vec![""],
        }
    }
    entries
}

fn last_untrusted<'a>(
    entries: Vec<&'a str>,
    trusted: &NetworkSet,
    parse: impl Fn(&'a str) -> Option<IpAddr>,
) -> Option<IpAddr> {
    let mut outermost = None;
    for entry in entries.into_iter().rev() {
        let ip = parse(entry)?;
        outermost = Some(ip);
        if !trusted.contains(ip) {
            break;
        }
    }
    outermost
}

/// The `for` parameter of an element of `Forwarded`.
fn element_for(element: &str) -> Option<IpAddr> {
    let parameters = split_outside_quotes(element, ';');
    let value = parameters.into_iter().find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("for")
            .then_some(value.trim())
    })?;
    let unquoted = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    address(unquoted.unwrap_or(value))
}

/// An address as proxies write it: with or without brackets and port.
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, port) = rest.split_once(']')?;
        let ip: Ipv6Addr = ip.parse().ok()?;
        let is_port = port.is_empty() || port.starts_with(':');
        return is_port.then_some(IpAddr::V6(ip).to_canonical());
    }
    let (ip, _) = text.rsplit_once(':')?;
    ip.parse().ok().map(IpAddr::V4)
}

fn split_outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let mut quoted = false;
    text.split(|letter| {
        quoted ^= letter == '"';
        letter == separator && !quoted
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_of(lines: &[(&str, &[u8])]) -> Option<String> {
        read(lines).unwrap().map(|ip| ip.to_string())
    }

    fn read(lines: &[(&str, &[u8])]) -> Result<Option<IpAddr>, Contradiction> {
        let trusted = ["10.0.0.0/8", "fd00::/8"];
        let trusted = trusted.iter().map(|it| it.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                axum::http::HeaderValue::from_bytes(value).unwrap(),
            );
        }
        client(&headers, &trusted)
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_client() {
        for (value, expected) in [
            ("198.51.100.7", Some("198.51.100.7")),
            ("1.2.3.4, 198.51.100.7", Some("198.51.100.7")),
            ("1.2.3.4, 198.51.100.7, 10.0.0.3", Some("198.51.100.7")),
            (
                "1.2.3.4,198.51.100.7 ,\t10.0.0.3,fd00::1",
                Some("198.51.100.7"),
            ),
            ("10.0.0.4, 10.0.0.3", Some("10.0.0.4")),
            ("198.51.100.7:4711", Some("198.51.100.7")),
            ("2001:db8::7", Some("2001:db8::7")),
            ("[2001:db8::7]:4711", Some("2001:db8::7")),
            ("[2001:db8::7]", Some("2001:db8::7")),
            ("::ffff:198.51.100.7", Some("198.51.100.7")),
            ("198.51.100.7, ::ffff:10.0.0.3", Some("198.51.100.7")),
            ("198.51.100.7, unknown", None),
            ("198.51.100.7, unknown, 10.0.0.3", None),
            ("198.51.100.7,", None),
            ("", None),
            (",,,", None),
            ("garbage", None),
            ("[2001:db8::7", None),
            ("[2001:db8::7]x", None),
            ("1.2.3.4.5", None),
            ("999.1.1.1", None),
        ] {
            let client = client_of(&[("x-forwarded-for", value.as_bytes())]);
            assert_eq!(client.as_deref(), expected, "{value:?}");
        }
    }

    #[test]
    fn several_headers_are_one_list() {
        let line = |value: &'static str| ("X-Forwarded-For", value.as_bytes());
        let client = client_of(&[line("1.2.3.4"), line("198.51.100.7"), line("10.0.0.3")]);
        assert_eq!(client.as_deref(), Some("198.51.100.7"));
        let opaque = [line("198.51.100.7"), ("X-Forwarded-For", b"\xff")];
        assert_eq!(client_of(&opaque), None);
        let behind = [
            ("X-Forwarded-For", b"\xff".as_slice()),
            line("198.51.100.7"),
        ];
        assert_eq!(client_of(&behind).as_deref(), Some("198.51.100.7"));
    }

    #[test]
    fn the_standard_header_is_read_alike() {
        for (value, expected) in [
            ("for=198.51.100.7", Some("198.51.100.7")),
            (
                "For=\"198.51.100.7:47011\"; proto=http;by=10.0.0.1",
                Some("198.51.100.7"),
            ),
            ("proto=http;for=\"[2001:db8::7]:4711\"", Some("2001:db8::7")),
            (
                "for=1.2.3.4, for=198.51.100.7;by=10.0.0.9, for=10.0.0.3",
                Some("198.51.100.7"),
            ),
            ("for=\"a,for=1.2.3.4\"", None),
            ("for=_hidden", None),
            ("for=unknown", None),
            ("proto=https", None),
            ("", None),
        ] {
            let client = client_of(&[("forwarded", value.as_bytes())]);
            assert_eq!(client.as_deref(), expected, "{value:?}");
        }
    }

    #[test]
    fn a_client_cannot_pretend_with_the_header_that_its_proxy_does_not_write() {
        let both = |standard: &str, common: &str| {
            read(&[
                ("forwarded", standard.as_bytes()),
                ("x-forwarded-for", common.as_bytes()),
            ])
        };
        for (standard, common) in [
            ("for=203.0.113.9", "198.51.100.7"),
            ("for=203.0.113.9, for=198.51.100.7", "203.0.113.9"),
            ("for=unknown", "198.51.100.7"),
            ("garbage", "198.51.100.7"),
            ("", "198.51.100.7"),
            ("for=198.51.100.7", ""),
            ("for=198.51.100.7", "unknown"),
            ("for=198.51.100.7", "10.0.0.3"),
        ] {
            assert_eq!(
                both(standard, common),
                Err(Contradiction),
                "{standard:?} {common:?}"
            );
        }
        let agreed = Ok(Some("198.51.100.7".parse().unwrap()));
        for (standard, common) in [
            ("for=198.51.100.7", "198.51.100.7"),
            (
                "for=\"[::ffff:198.51.100.7]:80\"",
                "203.0.113.9, 198.51.100.7:4711",
            ),
            ("for=198.51.100.7, for=10.0.0.3", "198.51.100.7"),
        ] {
            assert_eq!(both(standard, common), agreed, "{standard:?} {common:?}");
        }
        assert_eq!(both("for=unknown", "unknown"), Ok(None));
    }
}
