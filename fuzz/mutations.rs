//! Runs a check on many mutations of its seeds, without coverage: some ten times as many executions
//! a second as libFuzzer, which finds the seeds.
//!
//! `mutations TARGET EXECUTIONS MAX_LEN DIRECTORY..`. An input that fails the check is written to the
//! last directory.

use std::{
    env, fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

#[path = "checks.rs"]
mod checks;
mod proxy;
#[path = "../src/net/proxy_header.rs"]
#[allow(dead_code, reason = "the server uses more of it")]
mod proxy_header;
mod websocket;

mod address {
    use std::net::SocketAddr;

    pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
        SocketAddr::new(address.ip().to_canonical(), address.port())
    }
}

/// Executions between two lines of the log.
const REPORT: u64 = 1 << 20;
/// Bytes at which parsers decide.
const BYTES: [u8; 24] = *b"\0\x01\x02\x04\x7f\x80\x81\xff{}[]\",:\\/0-9.eun";

fn main() {
    let mut arguments = env::args().skip(1);
    let mut argument = || arguments.next().expect("four arguments");
    let (target, executions, max_len) = (argument(), argument(), argument());
    let directories: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    let check: fn(&[u8]) = match &*target {
        "packet" => checks::packet,
        "message" => checks::message,
        "handshake" => checks::handshake,
        "json" => checks::json,
        "resume" => checks::resume,
        "websocket" => websocket::websocket,
        "proxy" => proxy::proxy,
        "link" => nano::fuzzing::link,
        "directory" => nano::fuzzing::directory,
        _ => panic!("no target {target}"),
    };
    let executions: u64 = executions.parse().expect("a number of executions");
    let max_len: usize = max_len.parse().expect("a length in bytes");
    let seeds: Vec<_> = directories.iter().flat_map(|it| read(it)).collect();
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let random = since_epoch.expect("a clock past 1970").as_nanos() as u64;
    println!("{target}: {} seeds, random {random:#x}", seeds.len());

    let start = Instant::now();
    let mut mutator = Mutator { seeds, random };
    let mut input = Vec::new();
    for execution in 1..=executions {
        mutator.mutate(&mut input, max_len);
        if catch_unwind(|| check(&input)).is_err() {
            let last = directories.last().expect("a directory of seeds");
            let path = last.join(format!("failed-{random:x}-{execution}"));
            fs::write(&path, &input).expect("a directory that can be written");
            panic!("{target}: {path:?}");
        }
        if execution % REPORT == 0 || execution == executions {
            println!("#{execution} {target} {:?}", start.elapsed());
        }
    }
}

fn read(directory: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(directory).expect("a directory of seeds");
    entries
        .map(|entry| fs::read(entry.expect("an entry").path()).expect("a seed"))
        .collect()
}

struct Mutator {
    seeds: Vec<Vec<u8>>,
    random: u64,
}

impl Mutator {
    /// Writes a seed with one to four changes.
    fn mutate(&mut self, input: &mut Vec<u8>, max_len: usize) {
        input.clear();
        let seed = self.below(self.seeds.len());
        input.extend_from_slice(&self.seeds[seed]);
        for _ in 0..=self.below(4) {
            self.change(input);
        }
        input.truncate(max_len);
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let end = (at + 1 + self.below(8)).min(input.len());
        match self.below(9) {
            0 if at < end => input[at] ^= 1 << self.below(8),
            1 if at < end => input[at] = self.below(256) as u8,
            2 if at < end => input[at] = BYTES[self.below(BYTES.len())],
            3 if at < end => {
                input[at] = input[at].wrapping_add(self.below(9) as u8).wrapping_sub(4)
            }
            4 => input.insert(at, self.below(256) as u8),
            5 => input.insert(at, BYTES[self.below(BYTES.len())]),
            6 => _ = input.drain(at..end),
            7 => {
                let piece = input[at..end].to_vec();
                let to = self.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            _ => {
                let other = self.below(self.seeds.len());
                let from = self.below(self.seeds[other].len() + 1);
                input.truncate(at);
                input.extend_from_slice(&self.seeds[other][from..]);
            }
        }
    }

    /// A number below `bound`, by xorshift.
    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (((self.random >> 32) * bound as u64) >> 32) as usize
    }
}
