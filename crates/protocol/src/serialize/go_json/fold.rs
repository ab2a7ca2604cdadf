//! Names of fields, compared as Go compares them: without regard to case.

/// Whether two names differ in case only.
pub(super) fn equal(left: &str, right: &str) -> bool {
    left.chars().map(fold).eq(right.chars().map(fold))
}

/// Maps all forms of a letter to one. The Kelvin sign is a form of `k`, the long s of `s`.
fn fold(letter: char) -> char {
    if letter.is_ascii() {
        return letter.to_ascii_lowercase();
    }
    let upper = only(letter.to_uppercase()).unwrap_or(letter);
    only(upper.to_lowercase()).unwrap_or(upper)
}

fn only(mut letters: impl Iterator<Item = char>) -> Option<char> {
    letters.next().filter(|_| letters.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::equal;

    #[test]
    fn names_that_differ_in_case_are_equal() {
        for (left, right) in [
            ("name", "NAME"),
            ("kelvins", "\u{212A}elvin\u{17F}"),
            ("\u{3C3}", "\u{3C2}"),
            ("stra\u{DF}e", "STRA\u{DF}E"),
        ] {
            assert!(equal(left, right), "{left} {right}");
        }
        for (left, right) in [("a", "b"), ("a", "aa"), ("\u{DF}", "ss"), ("_", "-")] {
            assert!(!equal(left, right), "{left} {right}");
        }
    }
}
