//! The route of a request in flight.

/// A route up to this length needs no allocation, in bytes; most are shorter.
const INLINE: usize = 30;

/// A copy of a route: the message's own would keep all that was read with it.
#[derive(Clone, Debug)]
pub(super) enum RouteText {
    Inline { len: u8, text: [u8; INLINE] },
    Boxed(Box<str>),
}

impl RouteText {
    #[inline]
    pub(super) fn new(route: &str) -> Self {
        let mut text = [0; INLINE];
        match (text.get_mut(..route.len()), u8::try_from(route.len())) {
            (Some(start), Ok(len)) => {
                start.copy_from_slice(route.as_bytes());
                Self::Inline { len, text }
            }
            _ => Self::Boxed(route.into()),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Inline { len, text } => {
                let text = text.get(..usize::from(*len)).unwrap_or_default();
                str::from_utf8(text).unwrap_or_default()
            }
            Self::Boxed(text) => text,
        }
    }
}

impl Default for RouteText {
    fn default() -> Self {
        Self::new("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_routes_are_kept_whole() {
        for len in [0, 1, INLINE - 1, INLINE, INLINE + 1, 255] {
            let route = "é".repeat(len / 2) + &"x".repeat(len % 2);
            let text = RouteText::new(&route);
            assert_eq!(text.as_str(), route);
            let inline = matches!(text, RouteText::Inline { .. });
            assert_eq!(inline, len <= INLINE);
        }
    }
}
