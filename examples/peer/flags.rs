//! The flags of the recorded server, and the app they describe.

use std::{sync::Arc, time::Duration};

use clap::{Parser, ValueEnum};
use nano::{App, Cluster, Error, Listener, Options, Pipeline, Result, Timeouts, message::Message};

use crate::services::{Echo, Grp, Pb, T};

#[derive(Debug, Parser)]
pub(crate) struct Flags {
    /// Where clients connect; in a cluster, where other nodes do.
    #[arg(long, default_value = "127.0.0.1:3250")]
    pub(crate) listen: String,
    /// Makes this the master of a cluster.
    #[arg(long)]
    pub(crate) is_master: bool,
    /// Joins the cluster of the master at this address.
    #[arg(long, conflicts_with = "is_master")]
    pub(crate) master: Option<String>,
    /// In a cluster, where clients connect, if they do.
    #[arg(long)]
    pub(crate) client: Option<String>,
    /// What the other nodes see of this one, beside its services.
    #[arg(long, default_value = "")]
    pub(crate) label: String,
    /// How long to wait before the next attempt to join.
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub(crate) retry: Duration,
    /// Without effect: session ids are unique without it.
    #[arg(long)]
    pub(crate) node: Option<u64>,
    /// WebSocket instead of TCP.
    #[arg(long)]
    pub(crate) ws: bool,
    /// The path of the WebSocket.
    #[arg(long, default_value = "/nano")]
    pub(crate) wspath: String,
    /// The heartbeat interval, for example 1500ms, 2s or 1m; 0 sends none.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub(crate) hb: Duration,
    /// The route dictionary, for example `Echo.Echo=1,onEcho=2`.
    #[arg(long, default_value = "")]
    pub(crate) dict: String,
    /// The format of `PB` and `T`.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    pub(crate) serializer: Format,
    /// Which services to offer, perhaps none, perhaps under another name: `Echo,PB,Grp,T` or
    /// `Room=T`.
    #[arg(long, default_value = "Echo,PB,Grp,T")]
    pub(crate) services: String,
    /// Refuses handshakes that contain this text.
    #[arg(long, default_value = "")]
    pub(crate) validator: String,
    /// Refuses messages with the body `drop-in` from clients and `drop-out` to them.
    #[arg(long)]
    pub(crate) pipeline: bool,
    /// How long a request may wait for its answer; 0 for ever.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) request_timeout: Duration,
    /// Leaves failed requests unanswered, as nano does.
    #[arg(long)]
    pub(crate) silent: bool,
    /// A certificate chain and its key, PEM files, for TLS.
    #[arg(long, requires = "key")]
    pub(crate) cert: Option<String>,
    #[arg(long, requires = "cert")]
    pub(crate) key: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Json,
    Protobuf,
}

impl Flags {
    /// Zero switches a timeout off.
    fn timeouts(&self) -> Timeouts {
        let unless_zero = |duration: Duration| Some(duration).filter(|it| !it.is_zero());
        Timeouts::new()
            .heartbeat(unless_zero(self.hb))
            .request(unless_zero(self.request_timeout))
            .shutdown(Duration::from_secs(5))
    }

    pub(crate) fn app(&self) -> Result<App> {
        let cluster = match (self.is_master, &self.master) {
            (false, None) => None,
            (true, _) => Some(Cluster::master()),
            (_, Some(master)) => Some(Cluster::join([master])),
        };
        let mut app = App::new()
            .dictionary(self.dictionary()?)
            .timeouts(self.timeouts());
        app = match cluster {
            None => app.listen(self.listener(&self.listen)),
            Some(cluster) => app.cluster(
                cluster
                    .listen(&self.listen)
                    .label(&self.label)
                    .retry_interval(self.retry),
            ),
        };
        if let Some(client) = &self.client {
            app = app.listen(self.listener(client));
        }
        if self.silent {
            app = app.suppress_error_replies();
        }
        if self.pipeline {
            app = app.pipeline(pipeline());
        }
        if !self.validator.is_empty() {
            let refused = self.validator.clone();
            app = app.on_handshake(move |_, _, body| {
                match String::from_utf8_lossy(body).contains(&refused) {
                    true => Err(Error::new("REFUSED", "refused by the validator")),
                    false => Ok(None),
                }
            });
        }
        self.services
            .split(',')
            .filter(|service| !service.is_empty())
            .try_fold(app, |app, service| self.service(app, service))
    }

    fn listener(&self, address: &str) -> Listener {
        let listener = if self.ws {
            Listener::websocket(address, &self.wspath)
        } else {
            Listener::tcp(address)
        };
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => listener.tls(cert, key),
            _ => listener,
        }
    }

    fn service(&self, app: App, service: &str) -> Result<App> {
        let (name, kind) = service.split_once('=').unwrap_or((service, service));
        let options = Options::new().name(name);
        Ok(match (kind, self.serializer) {
            ("Echo", _) => app.component_with(Echo, options),
            ("PB", Format::Json) => app.component_with::<nano::Json, _>(Pb, options),
            ("PB", Format::Protobuf) => app.component_with::<nano::Protobuf, _>(Pb, options),
            ("Grp", _) => app.component_with(Grp::default(), options),
            ("T", Format::Json) => app.component_with::<nano::Json, _>(T, options),
            ("T", Format::Protobuf) => app.component_with::<nano::Protobuf, _>(T, options),
            _ => return Err(Error::new("FLAGS", format!("no such service: {service}"))),
        })
    }

    fn dictionary(&self) -> Result<Vec<(String, u16)>> {
        let entries = self.dict.split(',').filter(|entry| !entry.is_empty());
        entries
            .map(|entry| {
                let (route, code) = entry
                    .split_once('=')
                    .ok_or_else(|| Error::new("FLAGS", format!("not route=code: {entry}")))?;
                Ok((route.to_owned(), code.parse()?))
            })
            .collect()
    }
}

fn pipeline() -> Arc<Pipeline> {
    let refuse = |body: &'static str| {
        move |session: &nano::Session, message: &mut Message| {
            tracing::info!(session = session.id(), kind = ?message.kind, route = %message.route, len = message.body.len(), "pipeline");
            if message.body == body {
                Err(Error::new(
                    "REFUSED",
                    format!("refused by the pipeline: {body}"),
                ))
            } else {
                Ok(())
            }
        }
    };
    let pipeline = Pipeline::new();
    pipeline.inbound().push_back(refuse("drop-in"));
    pipeline.outbound().push_back(refuse("drop-out"));
    Arc::new(pipeline)
}

/// Durations as Go writes them, with one unit.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number
        .parse()
        .map_err(|_| format!("not a duration: {text}"))?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        "" if number == 0.0 => 0.0,
        _ => return Err(format!("not a duration: {text}")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
