//! The configuration of a node from a file and the environment.

use std::{
    env, fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use self::{
    contradictions::contradictions,
    document::documented,
    reader::{FILE_VARIABLE, Reader, Settings},
    section::Section,
    setting::Secret,
};
#[cfg(feature = "logs")]
use crate::admin::Logs;
#[cfg(feature = "admin")]
use crate::app::Admin;
use crate::{
    app::{App, Cluster, Limits, Timeouts, Traces},
    error::{Error, Result},
    gate::{Listener, LiveLimits},
    handle::Handle,
    log_format::LogFormat,
    net::network::Network,
};

mod build;
mod contradictions;
mod document;
mod names;
mod ratio;
mod reader;
mod section;
mod sections;
mod setting;
mod value;

type OnReload = Arc<dyn Fn(&Config) -> Result + Send + Sync>;

/// The options of a node that are data: from a TOML file, and from environment variables.
///
/// What is set later wins: the defaults, then the file, then variables, then the application's code
/// behind [`App::config`]. [`documented`](Config::documented) lists every key. `NANO_LIMITS_MAX_PACKET`
/// is `max_packet` of `[limits]`, `NANO_LISTENERS_0_ADDRESS` is `address` of the first listener, and
/// `NANO_LOG` is the key `log` at the top. Variables that begin with `NANO_APP_` are the
/// application's, and `[app]` is a table for [its own settings](Config::application).
///
/// Unknown keys and values of a wrong type are errors. All of them are reported, each with its file
/// and line or its variable, and an unknown one with the key that is most like it.
///
/// ```
/// use nano::{App, Config, Error};
///
/// let config: Config = r#"
///     log = "info,nano::gate=debug"
///
///     [limits]
///     max_packet = "16KiB"
///     rate_limit = 50
///
///     [timeouts]
///     login = "15s"
///
///     [[listeners]]
///     address = "0.0.0.0:3250"
///     websocket = "/nano"
/// "#
/// .parse()?;
/// let app = App::new().config(&config);
/// # let _ = app;
///
/// let error = "[limits]\nmax_pakcet = 1".parse::<Config>().unwrap_err();
/// assert_eq!(error.message(), "2: limits.max_pakcet: unknown key, did you mean limits.max_packet?");
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Config {
    settings: Settings,
    source: Source,
    on_reload: Vec<OnReload>,
    #[cfg(feature = "logs")]
    logs: Option<Logs>,
}

/// Where a configuration comes from, for a reload.
#[derive(Debug, Clone, Default, PartialEq)]
enum Source {
    /// From text, or the defaults: nothing to read again.
    #[default]
    Given,
    Environment,
    File(PathBuf),
}

impl Config {
    /// Reads a file, and then the environment. Blocks on the file system.
    ///
    /// # Errors
    /// The file cannot be read, or lists all that is wrong.
    pub fn load(file: impl Into<PathBuf>) -> Result<Self> {
        Self::read(Source::File(file.into()))
    }

    /// Reads the environment, and before it the file that `NANO_CONFIG` names, if it is set.
    ///
    /// # Errors
    /// As [`load`](Config::load).
    pub fn from_env() -> Result<Self> {
        Self::read(match env::var_os(FILE_VARIABLE) {
            Some(file) => Source::File(file.into()),
            None => Source::Environment,
        })
    }

    fn read(source: Source) -> Result<Self> {
        let mut reader = Reader::default();
        if let Source::File(file) = &source {
            let text = fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
            reader.file(&format!("{}:", file.display()), &text);
        }
        let variables = env::vars_os();
        reader.variables(variables.filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }));
        Self::finish(reader, source)
    }

    /// Checks what several keys say together, and reads files of secrets.
    fn finish(mut reader: Reader, source: Source) -> Result<Self> {
        let mut faults = std::mem::take(&mut reader.faults);
        let mut settings = reader.settings;
        faults.extend(contradictions(&settings));
        let (cluster, admin) = (&mut settings.cluster, &mut settings.admin);
        for (table, token, file) in [
            ("cluster", &mut cluster.token, &cluster.token_file),
            ("admin", &mut admin.token, &admin.token_file),
        ] {
            let (None, Some(file)) = (&token.value, &file.value) else {
                continue;
            };
            match fs::read_to_string(file) {
                Ok(text) => token.value = Some(Secret(text.trim_end().to_owned())),
                Err(error) => faults.push(format!(
                    "{table}.token_file: {}",
                    unreadable(file, &error).message()
                )),
            }
        }
        if !faults.is_empty() {
            return Err(Error::bad_request(faults.join("\n")));
        }
        Ok(Self {
            settings,
            source,
            ..Self::default()
        })
    }

    /// A file with every key, its documentation, the values it takes, and its default. Keys without
    /// a default are in comments. It parses to the defaults.
    pub fn documented() -> String {
        documented()
    }

    /// The bounds of clients and schedulers, to change one in code: [`App::limits`] replaces all.
    pub fn limits(&self) -> Limits {
        build::limits(&self.settings.limits)
    }

    /// The heartbeat interval and the deadlines, to change one in code.
    pub fn timeouts(&self) -> Timeouts {
        build::timeouts(&self.settings.timeouts)
    }

    /// The node's part in a cluster, to add callbacks in code; `None` if it stands alone.
    pub fn cluster(&self) -> Option<Cluster> {
        build::cluster(&self.settings.cluster)
    }

    /// The admin server, to add what is code; `None` if there is none.
    #[cfg(feature = "admin")]
    pub fn admin(&self) -> Option<Admin> {
        let admin = build::admin(&self.settings.admin)?;
        #[cfg(feature = "logs")]
        if let Some(logs) = &self.logs {
            return Some(admin.logs(logs));
        }
        Some(admin)
    }

    /// Which messages are traced, to add what is code.
    pub fn traces(&self) -> Traces {
        build::traces(&self.settings.traces)
    }

    /// The addresses that clients connect to.
    pub fn listeners(&self) -> Vec<Listener> {
        self.settings
            .listeners
            .iter()
            .map(build::listener)
            .collect()
    }

    /// The networks whose clients are refused.
    pub fn denied(&self) -> &[Network] {
        &self.settings.node.deny
    }

    /// Begins to log, for the whole program, as the keys `log` and `log_format` say. A reload takes a
    /// changed filter, and operators see warnings and change the filter at the admin server.
    ///
    /// ```no_run
    /// use nano::{App, Config, Result};
    ///
    /// #[tokio::main]
    /// async fn main() -> Result {
    ///     let config = Config::from_env()?.start_logs()?;
    ///     App::new().config(&config).run().await
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Logs::start`].
    #[cfg(feature = "logs")]
    pub fn start_logs(mut self) -> Result<Self> {
        let logs = Logs::start(self.log(), self.log_format())?;
        self.logs = Some(logs);
        Ok(self)
    }

    /// The log filter, for a subscriber of the application's own.
    pub fn log(&self) -> &str {
        &self.settings.node.log
    }

    /// How the log is written, for a subscriber of the application's own.
    pub fn log_format(&self) -> LogFormat {
        self.settings.node.log_format
    }

    /// The application's own settings: the table `[app]`.
    ///
    /// ```
    /// # use nano::{Config, Error};
    /// #[derive(serde::Deserialize)]
    /// struct Rooms {
    ///     seats: usize,
    /// }
    ///
    /// let config: Config = "[app]\nseats = 4".parse()?;
    /// assert_eq!(config.application::<Rooms>()?.seats, 4);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// The table does not have this shape; the error names the key.
    pub fn application<T: DeserializeOwned>(&self) -> Result<T> {
        let table = toml::Value::Table(self.settings.app.clone());
        serde_path_to_error::deserialize(table).map_err(|error| {
            let key = match error.path().to_string().as_str() {
                "." | "?" => "app".to_owned(),
                key => format!("app.{key}"),
            };
            Error::bad_request(format!("{key}: {}", error.inner().message()))
        })
    }

    /// Adds a function that each reload calls with the new configuration, before anything changes:
    /// for the application's own settings, and the filter of a log of its own. An error keeps the
    /// old configuration; what functions that were added before have done stays.
    ///
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicUsize, Ordering::Relaxed}};
    ///
    /// use nano::{App, Config, Result};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Rooms {
    ///     seats: usize,
    /// }
    ///
    /// fn app(seats: Arc<AtomicUsize>) -> Result<App> {
    ///     let config = Config::from_env()?.on_reload(move |new| {
    ///         seats.store(new.application::<Rooms>()?.seats, Relaxed);
    ///         Ok(())
    ///     });
    ///     Ok(App::new().config(&config))
    /// }
    /// ```
    #[must_use]
    pub fn on_reload(mut self, hook: impl Fn(&Self) -> Result + Send + Sync + 'static) -> Self {
        self.on_reload.push(Arc::new(hook));
        self
    }

    /// The keys that differ and need a restart.
    fn needs_restart(&self, new: &Self) -> Vec<String> {
        let (old, new) = (&self.settings, &new.settings);
        let live = ["deny", "log"];
        let node = old.node.changed(&new.node).into_iter();
        let node = node.filter(|key| !live.contains(key)).map(String::from);
        let timeouts = old.timeouts.changed(&new.timeouts).into_iter();
        // Clients and deadlines under way count on these.
        let timeouts =
            timeouts.filter(|key| ["heartbeat", "request", "resume_window"].contains(key));
        let cluster = old.cluster.changed(&new.cluster).into_iter();
        let admin = old.admin.changed(&new.admin).into_iter();
        let listeners = (old.listeners != new.listeners).then(|| "listeners".to_owned());
        node.chain(timeouts.map(|key| format!("timeouts.{key}")))
            .chain(cluster.map(|key| format!("cluster.{key}")))
            .chain(admin.map(|key| format!("admin.{key}")))
            .chain(listeners)
            .collect()
    }
}

/// Reads text as the content of a file; the environment is not looked at.
impl FromStr for Config {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut reader = Reader::default();
        reader.file("", text);
        Self::finish(reader, Source::Given)
    }
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("settings", &self.settings)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

fn unreadable(file: &Path, error: &io::Error) -> Error {
    Error::bad_request(format!("cannot read {}: {error}", file.display()))
}

impl App {
    /// Sets everything that the configuration has: limits, timeouts, the cluster, threads; and adds
    /// its listeners and denied networks. Options set afterwards override it.
    ///
    /// A configuration that was read from a file or the environment is read again by
    /// [`Handle::reload`], and on SIGHUP where [`run`](App::run) handles signals.
    #[must_use]
    pub fn config(mut self, config: &Config) -> Self {
        let node = &config.settings.node;
        self = self
            .limits(config.limits())
            .timeouts(config.timeouts())
            .traces(config.traces())
            .timer_precision(node.timer_precision)
            .expose_errors(node.expose_errors)
            .deny(node.deny.iter().copied());
        if let Some(version) = &node.version.value {
            self = self.version(version);
        }
        if let Some(cluster) = config.cluster() {
            self = self.cluster(cluster);
        }
        #[cfg(feature = "admin")]
        if let Some(admin) = config.admin() {
            self = self.admin(admin);
        }
        if let Some(threads) = node.io_threads.value {
            self = self.io_threads(threads);
        }
        if let Some(threads) = node.scheduler_threads.value {
            self = self.scheduler_threads(threads);
        }
        if let Some(unique) = node.unique_users {
            self = self.unique_users(unique);
        }
        if node.suppress_error_replies {
            self = self.suppress_error_replies();
        }
        self = config.listeners().into_iter().fold(self, Self::listen);
        if config.source == Source::Given {
            return self;
        }
        let started = config.clone();
        let current = Mutex::new(config.clone());
        self.reload_with(move |node, limits| {
            let new = reload(node, limits, &current)?;
            let keys = started.needs_restart(&new);
            if !keys.is_empty() {
                warn!(?keys, "configuration differs in keys that need a restart");
            }
            info!("configuration reloaded");
            Ok(keys)
        })
    }
}

/// Reads the configuration again, applies what can change while the node runs, and returns it. Nothing
/// changes if anything is wrong.
///
/// The lock is held throughout, so that two reloads do not interleave.
fn reload(node: &Handle, limits: &LiveLimits, current: &Mutex<Config>) -> Result<Config> {
    let mut current = current.lock();
    let mut new = Config::read(current.source.clone())?;
    new.on_reload.clone_from(&current.on_reload);
    #[cfg(feature = "logs")]
    let filter = match &current.logs {
        Some(_) => Some(Logs::check(new.log())?),
        None => None,
    };
    let options = App::new()
        .limits(new.limits())
        .timeouts(new.timeouts())
        .traces(new.traces())
        .into_live()?;
    for hook in &new.on_reload {
        hook(&new)?;
    }
    #[cfg(feature = "logs")]
    if let (Some(logs), Some(filter)) = (&current.logs, filter) {
        logs.replace(filter)?;
        new.logs = Some(logs.clone());
    }
    limits.set(&options.settings);
    node.memory().set_limit(options.settings.memory);
    node.set_scheduler_capacity(options.scheduler_capacity);
    node.set_channel_limits(options.channels);
    node.lifecycle().set_stop_times(options.stop_times());
    if new.settings.node.deny != current.settings.node.deny {
        let (before, now) = (&current.settings.node.deny, &new.settings.node.deny);
        let gone = before.iter().filter(|network| !now.contains(network));
        // What an operator or the application has added stays.
        node.deny_list().remove(gone.copied());
        node.deny_list().add(now.iter().copied());
    }
    current.clone_from(&new);
    Ok(new)
}
