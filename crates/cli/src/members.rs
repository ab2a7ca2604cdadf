//! `nano members`.

use clap::Args;
use serde_json::Value;

use crate::{
    admin::Target,
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
    /// Prints the answer of the node as it is
    #[arg(long)]
    json: bool,
}

impl Members {
    /// # Errors
    /// The node does not answer, or refuses to.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        let answer = self.target.admin()?.get("/api/v1/members").await?;
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

const HEAD: [Column; 8] = [
    Text("ADDRESS"),
    Text("LABEL"),
    Text("ROLE"),
    Text("LINK"),
    Number("SESSIONS"),
    Number("QUEUED"),
    Text("SERVICES"),
    Text("ADMIN"),
];

/// One row for each member, with the address of its admin server if that is wanted. The link is that
/// from the node that was asked.
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
            state,
            number("sessions", count),
            number("queue_bytes", bytes),
            services.join(","),
            cell(&member["admin"]),
        ]);
    }
    table
}
