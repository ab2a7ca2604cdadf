//! The processes of a server.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use nano::{Error, Result, code};

use super::scenario::Transport;

/// How long a process may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Servers that run until this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    children: Vec<Child>,
    pub(crate) urls: Vec<String>,
    log: File,
}

impl Running {
    /// Nothing yet; what its processes write to their standard error is appended to `log`.
    pub(crate) fn new(log: File) -> Self {
        Self {
            children: Vec::new(),
            urls: Vec::new(),
            log,
        }
    }

    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> {
        self.children.iter().map(Child::id)
    }

    pub(crate) fn listen(&mut self, command: Command, transport: Transport) -> Result {
        let address = self.spawn(command, Some("listening on "))?;
        self.urls.push(transport.url(&address));
        Ok(())
    }

    /// Starts a process; with a prefix, returns the rest of the first line that it prints with it.
    pub(crate) fn spawn(&mut self, mut command: Command, prefix: Option<&str>) -> Result<String> {
        let stdout = if prefix.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        let mut child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(self.log.try_clone()?)
            .spawn()?;
        let said = child.stdout.take();
        self.children.push(child);
        let (Some(prefix), Some(said)) = (prefix, said) else {
            return Ok(String::new());
        };
        let (found, address) = mpsc::channel();
        let prefix = prefix.to_owned();
        let mut log = self.log.try_clone()?;
        // To the end of its output: a process cannot go on writing to a closed pipe.
        thread::spawn(move || {
            for line in BufReader::new(said).lines().map_while(io::Result::ok) {
                match line.strip_prefix(&*prefix) {
                    Some(rest) => found.send(rest.to_owned()).unwrap_or_default(),
                    None => writeln!(log, "{line}").unwrap_or_default(),
                }
            }
        });
        address.recv_timeout(START_LIMIT).map_err(|error| {
            let why = match error {
                RecvTimeoutError::Timeout => "the server does not listen",
                RecvTimeoutError::Disconnected => "the server ended before it listened",
            };
            Error::new(code::UNAVAILABLE, why)
        })
    }

    pub(crate) fn await_listener(&mut self, address: &str) -> Result {
        let limit = Instant::now() + START_LIMIT;
        while TcpStream::connect(address).is_err() {
            let ended = self
                .children
                .last_mut()
                .and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > limit {
                return Err(Error::new(
                    code::UNAVAILABLE,
                    format!("no server listens at {address}"),
                ));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for mut child in self.children.drain(..).rev() {
            // It has ended already, or ends now: either is what is wanted.
            child.kill().unwrap_or_default();
            child.wait().map(drop).unwrap_or_default();
        }
    }
}

/// An unused address, for servers that cannot report which one they were given.
pub(crate) fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
