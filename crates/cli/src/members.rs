//! `nano members`.

use std::{
    cmp::Reverse,
    collections::HashSet,
    iter,
    time::{Duration, UNIX_EPOCH},
};

use clap::Args;
use serde_json::Value;

use crate::{
    admin::Target,
    duration::short,
    failure::Failure,
    table::{
        Column::{self, Number, Text},
        Table, bytes, cell, count, print_json,
    },
};

/// The arguments of the command.
#[derive(Args, Debug)]
pub(crate) struct Members {
    #[command(flatten)]
    target: Target,
    /// Prints the answer of the node as it is, with the loads of members and those that are lost
    #[arg(long)]
    json: bool,
}

impl Members {
    /// # Errors
    /// The node does not answer, or refuses to.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        let admin = self.target.admin()?;
        let mut answer = admin.get("/api/v1/members").await?;
        let cluster = admin.get("/api/v1/cluster").await?;
        answer["lost"] = lost(&answer, &cluster);
        add_loads(&mut answer, &cluster);
        if self.json {
            return Ok(print_json(&answer)?);
        }
        let table = table(&answer, false);
        if table.is_empty() {
            eprintln!("this node is not in a cluster");
            return Ok(());
        }
        Ok(table.print()?)
    }
}

/// The members that a master has evicted and that have not returned, each once: the latest eviction of
/// an address, and the earliest of them first.
fn lost(members: &Value, cluster: &Value) -> Value {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let here: Vec<_> = list(&members["members"]);
    let is_here = |lost: &Value| here.iter().any(|it| it["address"] == lost["address"]);
    let evicted = |lost: &Value| lost["evicted_ms"].as_u64().unwrap_or_default();
    let reports = list(&cluster["members"]).into_iter();
    let mut all: Vec<_> = reports
        .flat_map(|it| list(&it["summary"]["lost"]))
        .collect();
    all.sort_by_key(|lost| Reverse(evicted(lost)));
    let mut seen = HashSet::new();
    all.retain(|lost| !is_here(lost) && seen.insert(lost["address"].to_string()));
    all.reverse();
    all.into()
}

/// Gives each member the load that it has reported, or null.
fn add_loads(members: &mut Value, cluster: &Value) {
    let reports: Vec<_> = cluster["members"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    let members = members["members"].as_array_mut().into_iter().flatten();
    for member in members {
        let report = reports.iter().find(|it| it["address"] == member["address"]);
        member["load"] = report.map_or(Value::Null, |it| it["summary"]["load"].clone());
    }
}

/// The cores in use, of those that there are, and the resident memory.
pub(crate) fn usage(load: &Value) -> [String; 2] {
    let used = load["cores"].as_f64().map(|used| format!("{used:.1}"));
    let cores = match (used, load["cores_available"].as_u64()) {
        (None, _) => "-".to_owned(),
        (Some(used), None) => used,
        (Some(used), Some(all)) => format!("{used}/{all}"),
    };
    let memory = load["memory_bytes"].as_u64();
    [cores, memory.map_or_else(|| "-".to_owned(), bytes)]
}

fn load_cells(load: &Value) -> [String; 5] {
    let number = |key: &str| {
        let number = load[key].as_f64();
        number.map_or_else(|| "-".to_owned(), |number| count(number.max(0.0) as u64))
    };
    let [cores, memory] = usage(load);
    let [clients, messages, waiting] =
        ["clients", "messages_per_second", "tasks_waiting"].map(number);
    [cores, memory, clients, messages, waiting]
}

const ALL: [Column; 14] = [
    Text("ADDRESS"),
    Text("LABEL"),
    Text("ROLE"),
    Text("VERSION"),
    Text("LINK"),
    Number("SESSIONS"),
    Number("QUEUED"),
    Number("CPU"),
    Number("MEMORY"),
    Number("CLIENTS"),
    Number("MESSAGES/S"),
    Number("WAITING"),
    Text("SERVICES"),
    Text("ADMIN"),
];

const BRIEF: [Column; 8] = [
    Text("ADDRESS"),
    Text("LABEL"),
    Text("ROLE"),
    Text("VERSION"),
    Text("LINK"),
    Number("SESSIONS"),
    Number("QUEUED"),
    Text("SERVICES"),
];

/// One row for each member, and for each that is lost; with the load and the address of the admin server
/// unless it is to be brief. The link is that from the node that was asked.
pub(crate) fn table(answer: &Value, brief: bool) -> Table {
    let head: &[_] = if brief { &BRIEF } else { &ALL };
    let mut table = Table::new(head);
    for member in answer["members"].as_array().into_iter().flatten() {
        let link = &member["link"];
        let state = match (&member["self"], link) {
            (Value::Bool(true), _) => "this node".to_owned(),
            (_, Value::Null) => "-".to_owned(),
            _ => cell(&link["state"]),
        };
        let number = |key: &str, write: fn(u64) -> String| {
            let number = link[key].as_u64();
            number.map_or_else(|| "-".to_owned(), write)
        };
        let services = member["services"].as_array().into_iter().flatten();
        let services: Vec<_> = services.map(cell).collect();
        let role = match member["basic"].as_bool() {
            Some(true) => format!("basic {}", cell(&member["role"])),
            _ => cell(&member["role"]),
        };
        let begin = [
            cell(&member["address"]),
            cell(&member["label"]),
            role,
            cell(&member["version"]),
            state,
            number("sessions", count),
            number("queue_bytes", bytes),
        ];
        let load = (!brief).then(|| load_cells(&member["load"]));
        let admin = (!brief).then(|| cell(&member["admin"]));
        let row = begin.into_iter().chain(load.into_iter().flatten());
        table.row(row.chain([services.join(",")]).chain(admin));
    }
    for lost in answer["lost"].as_array().into_iter().flatten() {
        let evicted = Duration::from_millis(lost["evicted_ms"].as_u64().unwrap_or_default());
        let ago = (UNIX_EPOCH + evicted).elapsed().unwrap_or_default();
        let state = format!("lost for {}", short(ago.as_secs_f64()));
        let (address, label) = (cell(&lost["address"]), cell(&lost["label"]));
        let none = || "-".to_owned();
        let row = [address, label, none(), none(), state];
        let rest = iter::repeat_with(none).take(head.len() - row.len());
        table.row(row.into_iter().chain(rest));
    }
    table
}
