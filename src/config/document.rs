//! The reference of all keys, as a file that says what the defaults are.

use super::{
    section::Section,
    sections::{
        AdminSection, ClusterSection, LimitsSection, ListenerSection, NodeSection, TimeoutsSection,
        TracesSection,
    },
};

/// The longest line, as in the documents.
const WIDTH: usize = 100;

/// Writes the reference.
pub(super) fn documented() -> String {
    let mut text = String::from(
        "# Every key with its default. Variables of the environment override it: NANO_LIMITS_MAX_PACKET\n\
         # is max_packet of [limits], NANO_LISTENERS_0_ADDRESS is address of the first listener.\n",
    );
    section::<NodeSection>(&mut text, None, "");
    section::<LimitsSection>(&mut text, Some("[limits]"), "");
    section::<TimeoutsSection>(&mut text, Some("[timeouts]"), "");
    section::<ClusterSection>(&mut text, Some("[cluster]"), "");
    section::<TracesSection>(&mut text, Some("[traces]"), "");
    section::<AdminSection>(&mut text, Some("[admin]"), "");
    // No listener is the default.
    section::<ListenerSection>(&mut text, Some("[[listeners]]"), "# ");
    text.push_str(
        "\n# Settings of the application's own, of any shape.\n\
         [app]\n",
    );
    text
}

/// Writes one section, each line of TOML behind `comment`.
fn section<S: Section>(text: &mut String, header: Option<&str>, comment: &str) {
    text.push('\n');
    wrap(text, S::ABOUT);
    if let Some(header) = header {
        text.push_str(&format!("{comment}{header}\n"));
    }
    for (key, value) in S::KEYS.iter().zip(S::default().written()) {
        text.push('\n');
        let takes = format!("Takes {}.", (key.expected)());
        let doc: Vec<_> = key.doc.iter().copied().chain([&*takes]).collect();
        wrap(text, &doc);
        let (comment, value) = match &value {
            Ok(value) => (comment, value.as_str()),
            Err(example) => ("# ", *example),
        };
        text.push_str(&format!("{comment}{} = {value}\n", key.name));
    }
}

/// Writes lines as comments of at most [`WIDTH`].
fn wrap(text: &mut String, lines: &[&str]) {
    let mut width = 0;
    for word in lines.iter().flat_map(|line| line.split_whitespace()) {
        if width == 0 || width + 1 + word.len() > WIDTH {
            if width > 0 {
                text.push('\n');
            }
            text.push('#');
            width = 1;
        }
        text.push(' ');
        text.push_str(word);
        width += 1 + word.len();
    }
    if width > 0 {
        text.push('\n');
    }
}
