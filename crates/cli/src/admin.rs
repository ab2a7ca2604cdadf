//! The admin API of a node, as a client.

use std::{env, fs, path::PathBuf, time::Duration};

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::time::timeout;

use crate::failure::Failure;
use address::Address;

mod address;
mod connect;

/// How long one request may take, from the connection to the end of the answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 20;

/// Which node is asked, and with which token.
#[derive(Args, Debug)]
pub(crate) struct Target {
    /// The admin server of a node
    #[arg(
        long,
        visible_alias = "admin",
        env = "NANO_ADMIN_URL",
        default_value = "http://127.0.0.1:9470"
    )]
    url: String,
    /// The token of operators; other users of this machine can see it in the list of processes, so
    /// prefer the variable NANO_ADMIN_TOKEN or a file
    #[arg(long)]
    token: Option<String>,
    /// A file with the token, instead of the variable NANO_ADMIN_TOKEN
    #[arg(long, conflicts_with = "token")]
    token_file: Option<PathBuf>,
}

/// The token, unless an argument has one.
const TOKEN_VARIABLE: &str = "NANO_ADMIN_TOKEN";

impl Target {
    /// # Errors
    /// The address or the token is not valid.
    pub(crate) fn admin(&self) -> Result<Admin, Failure> {
        let from_file = match &self.token_file {
            None => None,
            Some(path) => Some(fs::read_to_string(path).map_err(|error| {
                Failure::Usage(format!("the token's file {}: {error}", path.display()))
            })?),
        };
        // As an argument of its own it would conflict with the file's.
        let variable = || env::var(TOKEN_VARIABLE).ok();
        let token = from_file.or_else(|| self.token.clone()).or_else(variable);
        let token = token.map(|token| token.trim().to_owned());
        Admin::new(&self.url, token.filter(|token| !token.is_empty()))
    }
}

/// An admin server. Each request has a connection of its own.
#[derive(Debug)]
pub(crate) struct Admin {
    address: Address,
    token: Option<String>,
}

/// An answer that is no success.
#[derive(Debug)]
struct Answered {
    status: StatusCode,
    /// The error's code, where the answer has one.
    code: String,
    message: String,
}

impl Admin {
    /// # Errors
    /// The address is not valid, or the token cannot be sent.
    pub(crate) fn new(url: &str, token: Option<String>) -> Result<Self, Failure> {
        let printable = |token: &String| token.bytes().all(|byte| byte.is_ascii_graphic());
        if token.as_ref().is_some_and(|token| !printable(token)) {
            let message = "the token has letters that no header can hold";
            return Err(Failure::Usage(message.to_owned()));
        }
        let address = url.parse().map_err(Failure::Usage)?;
        Ok(Self { address, token })
    }

    /// The host and port of the server.
    pub(crate) fn name(&self) -> &str {
        &self.address.authority
    }

    /// Reads a path.
    ///
    /// # Errors
    /// The server is not reachable, or refuses the request.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        let answer = self.ask(Method::GET, path, None).await?;
        answer.map_err(|answered| self.failure(answered))
    }

    /// Carries out an action.
    ///
    /// # Errors
    /// The server is not reachable, or refuses the request.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let answer = self.ask(Method::POST, path, Some(body)).await?;
        answer.map_err(|answered| self.failure(answered))
    }

    /// Carries out an action on something that may not be there, which is `None`.
    ///
    /// # Errors
    /// As [`post`](Self::post).
    pub(crate) async fn post_to(&self, path: &str, body: &Value) -> Result<Option<Value>, Failure> {
        match self.ask(Method::POST, path, Some(body)).await? {
            Ok(answer) => Ok(Some(answer)),
            Err(answered) if answered.code == "NOT_FOUND" => Ok(None),
            Err(answered) => Err(self.failure(answered)),
        }
    }

    fn failure(&self, answered: Answered) -> Failure {
        let Answered {
            status, message, ..
        } = answered;
        match status {
            StatusCode::UNAUTHORIZED if self.token.is_none() => Failure::Refused(format!(
                "{}: this needs a token: set {TOKEN_VARIABLE}, or give --token-file or --token",
                self.name()
            )),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Failure::Refused(format!("{}: {message}", self.name()))
            }
            _ => Failure::Failed(format!("{}: {message}", self.name())),
        }
    }

    /// # Errors
    /// The server is not reachable, or is no admin server.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Result<Value, Answered>, Failure> {
        let asked = timeout(TIMEOUT, self.exchange(method, path, body)).await;
        let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")));
        let (status, answer) = asked.map_err(|fault| {
            Failure::Unreachable(format!("no answer from {}: {fault}", self.address))
        })?;
        let parsed: Option<Value> = serde_json::from_slice(&answer).ok();
        if status.is_success() {
            return parsed.map(Ok).ok_or_else(|| {
                Failure::Failed(format!(
                    "{} is no admin server: its answer is no JSON",
                    self.name()
                ))
            });
        }
        let text = |key: &str| Some(parsed.as_ref()?.get(key)?.as_str()?.to_owned());
        Ok(Err(Answered {
            status,
            code: text("code").unwrap_or_default(),
            message: text("message")
                .unwrap_or_else(|| format!("no admin server: it answered {status}")),
        }))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), String> {
        let stream = connect::connect(&self.address).await?;
        let http = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = http.map_err(|error| fault(&error))?;
        // It ends with the sender.
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.address.prefix))
            .header(HOST, &self.address.authority)
            .header(ACCEPT, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body)));
        let request = request.map_err(|error| fault(&error))?;
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| {
            // Something else was answered, or sent before the request.
            let other_protocol = error.is_parse() || error.is_canceled();
            let hint = if other_protocol {
                " (is this an admin server?)"
            } else {
                ""
            };
            format!("{}{hint}", fault(&error))
        })?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| error.to_string())?;
        Ok((status, body.to_bytes()))
    }
}

/// An error with its causes, which hyper's own text leaves out.
fn fault(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// A value for a query.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
