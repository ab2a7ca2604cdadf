//! `nano members`.

use std::{
    cmp::Reverse,
    collections::HashSet,
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
        Table, bytes, cell, count, print,
    },
};

/// The arguments of the command.
#[derive(Args, Debug)]
pub(crate) struct Members {
    #[command(flatten)]
    target: Target,
    /// Prints the answer of the node as it is, with the members that are lost
    #[arg(long)]
    json: bool,
}

impl Members {
    /// # Errors
    /// The node does not answer, or refuses to.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        let admin = self.target.admin()?;
        let mut answer = admin.get("/api/v1/members").await?;
        answer["lost"] = lost(&answer, &admin.get("/api/v1/cluster").await?);
        if self.json {
            return Ok(print(&answer.to_string())?);
        }
        let table = table(&answer, true);
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

const HEAD: [Column; 9] = [
    Text("ADDRESS"),
    Text("LABEL"),
    Text("ROLE"),
    Text("VERSION"),
    Text("LINK"),
    Number("SESSIONS"),
    Number("QUEUED"),
    Text("SERVICES"),
    Text("ADMIN"),
];

/// One row for each member, and for each that is lost; with the address of its admin server if that is
/// wanted. The link is that from the node that was asked.
pub(crate) fn table(answer: &Value, with_admin: bool) -> Table {
    let mut table = Table::new(&HEAD[..HEAD.len() - usize::from(!with_admin)]);
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
        table.row([
            cell(&member["address"]),
            cell(&member["label"]),
            role,
            cell(&member["version"]),
            state,
            number("sessions", count),
            number("queue_bytes", bytes),
            services.join(","),
            cell(&member["admin"]),
        ]);
    }
    for lost in answer["lost"].as_array().into_iter().flatten() {
        let evicted = Duration::from_millis(lost["evicted_ms"].as_u64().unwrap_or_default());
        let ago = (UNIX_EPOCH + evicted).elapsed().unwrap_or_default();
        let state = format!("lost for {}", short(ago.as_secs_f64()));
        let (address, label) = (cell(&lost["address"]), cell(&lost["label"]));
        let none = ["-"; 3].map(str::to_owned);
        table.row(
            [address, label]
                .into_iter()
                .chain(["-"; 2].map(str::to_owned))
                .chain([state])
                .chain(none)
                .chain(with_admin.then(|| "-".to_owned())),
        );
    }
    table
}
