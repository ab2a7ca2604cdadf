//! `nano sessions`.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::{
    admin::{Admin, Target, encode},
    failure::Failure,
    table::{
        Column::{self, Number, Text},
        Table, bytes, cell, count, counted, print, print_json, printable,
    },
};

/// The most sessions of one page of the API.
const PAGE: u64 = 500;

/// The arguments of the command.
#[derive(Args, Debug)]
pub(crate) struct Sessions {
    #[command(flatten)]
    target: Target,
    /// Shows this session, with its groups and bindings
    #[arg(conflicts_with_all = ["user", "address", "busiest", "after"])]
    id: Option<i64>,
    /// The sessions of this user only
    #[arg(long)]
    user: Option<String>,
    /// The sessions whose address begins with this text only
    #[arg(long, conflicts_with = "user")]
    address: Option<String>,
    /// The sessions whose clients send most, measured for a second
    #[arg(long, conflicts_with_all = ["user", "address", "after"])]
    busiest: bool,
    /// How many sessions at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    limit: u64,
    /// Only sessions whose ids are above this one
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    after: u64,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

impl Sessions {
    /// # Errors
    /// The node does not answer, refuses to, or has no such session.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        let admin = self.target.admin()?;
        if let Some(id) = self.id {
            let session = admin.get(&format!("/api/v1/sessions/{id}")).await?;
            return self.print_one(&session);
        }
        let mut answer = match self.busiest {
            true => busiest(&admin, self.limit).await?,
            false => self.list(&admin).await?,
        };
        let mut others = Vec::new();
        if let Some(user) = &self.user {
            let found = elsewhere(&admin, user).await;
            answer["elsewhere"] = json!(found.as_ref().ok());
            match found {
                Ok(found) => others = found,
                // What this node has is shown although others do not answer.
                Err(failure) => drop(failure.report()),
            }
        }
        if self.json {
            return Ok(print_json(&answer)?);
        }
        table(&answer, self.busiest).print()?;
        for other in &others {
            let (session, gate) = (cell(&other["session"]), cell(&other["gate"]));
            let line = format!("session {session} of the user is at the gate {gate}");
            eprintln!("{}", printable(&line));
        }
        let shown = answer["sessions"].as_array().map_or(0, Vec::len);
        if let (Some(next), Some(total)) = (answer["next"].as_i64(), answer["total"].as_u64()) {
            let total = counted(total, "session");
            eprintln!("{shown} of {total}; more: --after {next}");
        }
        Ok(())
    }

    /// Reads pages until there are enough, or no more.
    async fn list(&self, admin: &Admin) -> Result<Value, Failure> {
        let filter = match (&self.user, &self.address) {
            (Some(user), _) => format!("&user={}", encode(user)),
            (None, Some(address)) => format!("&address={}", encode(address)),
            (None, None) => String::new(),
        };
        let mut sessions = Vec::new();
        let (mut after, mut limit) = (self.after as i64, self.limit);
        loop {
            let page = limit.min(PAGE);
            let after_id = match self.user {
                Some(_) => String::new(),
                None => format!("&after={after}"),
            };
            let path = format!("/api/v1/sessions?limit={page}{after_id}{filter}");
            let mut answer = admin.get(&path).await?;
            let found = answer["sessions"].as_array_mut();
            let mut found = found.map(std::mem::take).unwrap_or_default();
            limit = limit.saturating_sub(found.len() as u64);
            sessions.append(&mut found);
            match answer["next"].as_i64() {
                // Ids only grow; another answer would be asked for without end.
                Some(next) if limit > 0 && next > after => after = next,
                next => {
                    return Ok(
                        json!({"sessions": sessions, "next": next, "total": answer["total"]}),
                    );
                }
            }
        }
    }

    fn print_one(&self, session: &Value) -> Result<(), Failure> {
        if self.json {
            return Ok(print_json(session)?);
        }
        let none = Map::new();
        for (name, value) in session.as_object().unwrap_or(&none) {
            let value = match value {
                Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
                Value::Object(entries) => {
                    let entries = entries.iter();
                    let entries = entries.map(|(key, value)| format!("{key}={}", cell(value)));
                    entries.collect::<Vec<_>>().join(", ")
                }
                other => cell(other),
            };
            let value = if value.is_empty() { "-" } else { &value };
            let line = format!("{:<20}{value}", name.replace('_', " "));
            print(&printable(&line))?;
        }
        Ok(())
    }
}

/// Where a user has sessions that this node is not the gate of.
async fn elsewhere(admin: &Admin, user: &str) -> Result<Vec<Value>, Failure> {
    let path = format!("/api/v1/users/locate?user={}", encode(user));
    let mut answer = admin.get(&path).await?;
    let found = answer["sessions"].as_array_mut().map(std::mem::take);
    let mut found = found.unwrap_or_default();
    found.retain(|session| session["here"] == json!(false));
    Ok(found)
}

/// Asks twice: the API has the rates between two requests.
async fn busiest(admin: &Admin, limit: u64) -> Result<Value, Failure> {
    admin.get("/api/v1/busiest").await?;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let mut answer = admin.get("/api/v1/busiest").await?;
    if let Some(sessions) = answer["sessions"].as_array_mut() {
        sessions.truncate(limit.try_into().unwrap_or(usize::MAX));
    }
    Ok(answer)
}

/// Messages are those that the client has sent.
fn table(answer: &Value, busiest: bool) -> Table {
    let mut table = Table::new(match busiest {
        false => &HEAD[..HEAD.len() - 1],
        true => &HEAD,
    });
    for session in answer["sessions"].as_array().into_iter().flatten() {
        let number = |key: &str, write: fn(u64) -> String| {
            let number = session[key].as_u64();
            number.map_or_else(|| "-".to_owned(), write)
        };
        let rate = session["messages_per_second"].as_f64().unwrap_or_default();
        table.row([
            cell(&session["id"]),
            cell(&session["user"]),
            cell(&session["address"]),
            cell(&session["client"]),
            number("messages_received", count),
            number("bytes_received", bytes),
            number("bytes_sent", bytes),
            number("queue_bytes", bytes),
            number("requests_in_flight", count),
            format!("{rate:.1}"),
        ]);
    }
    table
}

const HEAD: [Column; 10] = [
    Text("ID"),
    Text("USER"),
    Text("ADDRESS"),
    Text("CLIENT"),
    Number("MESSAGES"),
    Number("RECEIVED"),
    Number("SENT"),
    Number("QUEUED"),
    Number("IN FLIGHT"),
    Number("MESSAGES/S"),
];
