//! Reads a configuration: a file, then environment variables. No I/O.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    section::{Key, Section},
    sections::{
        AdminSection, ClusterSection, LimitsSection, ListenerSection, NodeSection, TimeoutsSection,
        TracesSection,
    },
    value::Value,
};

/// What the names of variables begin with.
const PREFIX: &str = "NANO_";

/// The variable that names the file.
pub(super) const FILE_VARIABLE: &str = "NANO_CONFIG";

/// The variable by which the command `nano` finds a node. It may be set where nodes start, too.
const COMMAND_VARIABLE: &str = "NANO_ADMIN_URL";

/// The most listeners that variables can add.
const MAX_LISTENERS: usize = 64;

/// The values of a configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Settings {
    pub(super) node: NodeSection,
    pub(super) limits: LimitsSection,
    pub(super) timeouts: TimeoutsSection,
    pub(super) cluster: ClusterSection,
    pub(super) traces: TracesSection,
    pub(super) admin: AdminSection,
    pub(super) listeners: Vec<ListenerSection>,
    /// The application's own table.
    pub(super) app: toml::Table,
}

/// A table of a configuration, as the values of its keys and what else is known of it.
struct Table {
    name: &'static str,
    keys: &'static [Key],
}

const TABLES: [Table; 5] = [
    Table {
        name: "admin",
        keys: AdminSection::KEYS,
    },
    Table {
        name: "traces",
        keys: TracesSection::KEYS,
    },
    Table {
        name: "limits",
        keys: LimitsSection::KEYS,
    },
    Table {
        name: "timeouts",
        keys: TimeoutsSection::KEYS,
    },
    Table {
        name: "cluster",
        keys: ClusterSection::KEYS,
    },
];

/// Reads values into settings, and collects what is wrong.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) settings: Settings,
    pub(super) faults: Vec<String>,
}

impl Reader {
    /// Reads the text of a file; `name` stands before the line in messages.
    pub(super) fn file(&mut self, name: &str, text: &str) {
        self.tables(name, text);
        // Tables are sorted by their keys, and messages by the line.
        let line = |fault: &String| {
            let line = fault.strip_prefix(name)?.split(':').next()?;
            line.parse::<usize>().ok()
        };
        self.faults.sort_by_key(line);
    }

    fn tables(&mut self, name: &str, text: &str) {
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(error) => {
                let line = error.span().map_or(1, |span| line(text, span.start));
                let fault = format!("{name}{line}: {}", error.message().trim());
                return self.faults.push(fault);
            }
        };
        let at = |span: std::ops::Range<usize>| format!("{name}{}", line(text, span.start));
        for (key, value) in table.get_ref() {
            let place = at(key.span());
            match (&**key.get_ref(), value.get_ref()) {
                ("app", DeValue::Table(_)) => match toml::from_str::<toml::Table>(text) {
                    Ok(mut all) => {
                        if let Some(toml::Value::Table(app)) = all.remove("app") {
                            self.settings.app = app;
                        }
                    }
                    Err(error) => self.faults.push(format!("{place}: {}", error.message())),
                },
                ("listeners", DeValue::Array(listeners)) => {
                    for listener in listeners {
                        self.listener(&at, listener);
                    }
                }
                (name, DeValue::Table(table)) if TABLES.iter().any(|it| it.name == name) => {
                    for (key, value) in table {
                        let value = Value::of(value.get_ref());
                        self.set(&at(key.span()), name, key.get_ref(), &value);
                    }
                }
                (name @ ("app" | "limits" | "timeouts" | "cluster" | "traces" | "admin"), _) => {
                    self.faults
                        .push(format!("{place}: {name}: expected a table"));
                }
                ("listeners", _) => {
                    let fault = format!("{place}: listeners: expected [[listeners]] tables");
                    self.faults.push(fault);
                }
                (key, value) => self.set(&place, "", key, &Value::of(value)),
            }
        }
    }

    fn listener(
        &mut self,
        at: &dyn Fn(std::ops::Range<usize>) -> String,
        listener: &Spanned<DeValue<'_>>,
    ) {
        let DeValue::Table(table) = listener.get_ref() else {
            let fault = format!("{}: listeners: expected a table", at(listener.span()));
            return self.faults.push(fault);
        };
        let index = self.settings.listeners.len();
        self.settings.listeners.push(ListenerSection::default());
        for (key, value) in table {
            let value = Value::of(value.get_ref());
            let name = format!("listeners.{index}");
            self.set(&at(key.span()), &name, key.get_ref(), &value);
        }
        if !table.keys().any(|key| key.get_ref() == "address") {
            let fault = format!(
                "{}: listeners.{index}.address is missing",
                at(listener.span())
            );
            self.faults.push(fault);
        }
    }

    /// Reads environment variables; those without the prefix are ignored.
    pub(super) fn variables(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        let mut variables: Vec<_> = variables.into_iter().collect();
        // Listeners are added in their order.
        variables.sort();
        let in_file = self.settings.listeners.len();
        for (variable, text) in variables {
            let Some(name) = variable.strip_prefix(PREFIX) else {
                continue;
            };
            let is_of_others = [FILE_VARIABLE, COMMAND_VARIABLE].contains(&variable.as_str());
            if is_of_others || name.starts_with("APP_") || is_service_link(name) {
                continue;
            }
            let name = name.to_ascii_lowercase();
            let value = Value::Variable(text);
            if let Some(rest) = name.strip_prefix("listeners_") {
                self.listener_variable(&variable, rest, &value);
                continue;
            }
            let table = TABLES.iter().find_map(|table| {
                let key = name.strip_prefix(table.name)?.strip_prefix('_')?;
                Some((table.name, key))
            });
            match table {
                Some((table, key)) => self.set(&variable, table, key, &value),
                None => self.set(&variable, "", &name, &value),
            }
        }
        // Those of the file have been looked at.
        let listeners = self.settings.listeners.iter().enumerate().skip(in_file);
        for (index, listener) in listeners {
            if listener.address.value.is_none() {
                let fault = format!("{PREFIX}LISTENERS_{index}_ADDRESS is missing");
                self.faults.push(fault);
            }
        }
    }

    fn listener_variable(&mut self, variable: &str, rest: &str, value: &Value) {
        let parsed = rest.split_once('_').and_then(|(index, key)| {
            let index: usize = index.parse().ok()?;
            (index < MAX_LISTENERS).then_some((index, key))
        });
        let Some((index, key)) = parsed else {
            let fault = format!(
                "{variable}: expected the number of a listener and a key, such as \
                 {PREFIX}LISTENERS_0_ADDRESS"
            );
            return self.faults.push(fault);
        };
        let listeners = &mut self.settings.listeners;
        if index >= listeners.len() {
            listeners.resize(index + 1, ListenerSection::default());
        }
        self.set(variable, &format!("listeners.{index}"), key, value);
    }

    /// Sets one key. `place` is where it stands, `table` the table it is in.
    fn set(&mut self, place: &str, table: &str, key: &str, value: &Value) {
        let settings = &mut self.settings;
        let listener = table.strip_prefix("listeners.").and_then(|index| {
            let index: usize = index.parse().ok()?;
            settings.listeners.get_mut(index)
        });
        let outcome = match (table, listener) {
            (_, Some(listener)) => listener.set(key, value),
            ("limits", _) => settings.limits.set(key, value),
            ("timeouts", _) => settings.timeouts.set(key, value),
            ("traces", _) => settings.traces.set(key, value),
            ("admin", _) => settings.admin.set(key, value),
            ("cluster", _) => settings.cluster.set(key, value),
            _ => settings.node.set(key, value),
        };
        let path = match table {
            "" => key.to_owned(),
            table => format!("{table}.{key}"),
        };
        match outcome {
            Some(Ok(())) => {}
            Some(Err(fault)) => self.faults.push(format!("{place}: {path}: {fault}")),
            None => {
                let nearest = nearest(table, key).map(|it| format!(", did you mean {it}?"));
                let nearest = nearest.unwrap_or_default();
                self.faults
                    .push(format!("{place}: {path}: unknown key{nearest}"));
            }
        }
    }
}

/// The known key that is most like an unknown one, if any is; of the same table before others.
fn nearest(table: &str, key: &str) -> Option<String> {
    let prefix = |table: &str| match table {
        "" => String::new(),
        table => format!("{table}."),
    };
    let same: &[Key] = match table {
        "" => NodeSection::KEYS,
        _ if table.starts_with("listeners") => ListenerSection::KEYS,
        _ => TABLES.iter().find(|it| it.name == table)?.keys,
    };
    let close = |name: &str| strsim::damerau_levenshtein(name, key);
    let best = same
        .iter()
        .map(|it| it.name)
        .min_by_key(|name| close(name))?;
    if close(best) <= 1 + key.len() / 3 {
        return Some(format!("{}{best}", prefix(table)));
    }
    let elsewhere = TABLES.iter().filter(|it| it.name != table);
    let mut elsewhere = elsewhere.flat_map(|it| it.keys.iter().map(move |key| (it.name, key)));
    let elsewhere = elsewhere.find(|(_, it)| it.name == key);
    let tables = ["listeners", "app"].into_iter();
    let tables = tables.chain(TABLES.iter().map(|it| it.name));
    elsewhere
        .map(|(table, key)| format!("{table}.{}", key.name))
        .or_else(|| {
            let mut roots = NodeSection::KEYS.iter().map(|it| it.name);
            roots.find(|name| *name == key).map(ToOwned::to_owned)
        })
        .or_else(|| {
            let best = tables.min_by_key(|name| close(name))?;
            (table.is_empty() && close(best) <= 2).then(|| best.to_owned())
        })
}

/// Whether Kubernetes sets such a variable for a service whose name begins with `nano-`.
fn is_service_link(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.contains("_PORT_") && (name.contains("_TCP") || name.contains("_UDP"))
}

/// The line of a byte, from 1.
fn line(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    1 + before.filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_variable_of_a_key_passes_for_one_of_kubernetes() {
        let tables = TABLES.iter().map(|table| (table.name, table.keys));
        let others = [
            ("", NodeSection::KEYS),
            ("listeners_0", ListenerSection::KEYS),
        ];
        for (table, keys) in tables.chain(others) {
            for key in keys {
                let name = format!("{table}_{}", key.name).to_ascii_uppercase();
                assert!(!is_service_link(&name), "{name}");
            }
        }
    }

    #[test]
    fn a_listener_without_a_valid_address_is_one_fault() {
        for (listener, expected) in [
            ("", "1: listeners.0.address is missing"),
            (
                "address = 1",
                "2: listeners.0.address: expected a string, found the number 1",
            ),
        ] {
            let mut reader = Reader::default();
            reader.file("", &format!("[[listeners]]\n{listener}"));
            reader.variables([]);
            assert_eq!(reader.faults, [expected]);
        }
    }
}
