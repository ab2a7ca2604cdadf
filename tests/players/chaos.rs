//! Users log in at two gates while members of the cluster are killed, started, suspended and cut off.
//! Each node is a process.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, File, OpenOptions},
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::join_all;
use nano::client::Client;
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::RwLock,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    cluster::ask,
    http::get,
    support::{Peer, sampled},
    switch::{Cut, Port, Switch},
};

/// The nodes, and the services of each: one by which it alone is reached, and one of its kind.
const NODES: [(&str, &str); 5] = [
    ("M", "M=U"),
    ("GateA", "GateA=U,Gate=U"),
    ("GateB", "GateB=U,Gate=U"),
    ("A", "A=U,U"),
    ("B", "B=U,U"),
];
const MASTER: usize = 0;
const GATES: [usize; 2] = [1, 2];

/// How long a login may take: longer than the node lets it.
const LOGIN: Duration = Duration::from_secs(20);

/// How long the cluster may take to be at rest.
const REST: Duration = Duration::from_secs(60);

/// What goes wrong. Members are evicted after four seconds of silence.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Suspend,
    CutOff(Cut),
    /// One pair, while the others see both.
    Apart(usize, usize),
}

/// A fault of a node, and for how many milliseconds.
const FAULTS: [(usize, Fault, u64); 12] = [
    (1, Fault::Kill, 500),
    (2, Fault::CutOff(Cut::Silent), 7_000),
    (3, Fault::Suspend, 6_000),
    (2, Fault::Apart(2, 3), 7_000),
    (1, Fault::Apart(1, 2), 7_000),
    (4, Fault::Kill, 2_000),
    (2, Fault::Suspend, 1_500),
    (3, Fault::CutOff(Cut::Broken), 6_000),
    (1, Fault::CutOff(Cut::Broken), 2_000),
    (2, Fault::Kill, 3_000),
    (1, Fault::Suspend, 7_000),
    (4, Fault::CutOff(Cut::Silent), 2_000),
];

struct Processes {
    switch: Switch,
    ports: Vec<Port>,
    peers: Vec<Option<Peer>>,
    journal: PathBuf,
    /// The same file, for what the test does to nodes.
    notes: File,
}

impl Processes {
    async fn start(journal: PathBuf) -> Self {
        let switch = Switch::default();
        let mut ports = Vec::new();
        for node in 0..NODES.len() {
            ports.push(switch.port(node).await);
        }
        let options = OpenOptions::new().create(true).append(true).open(&journal);
        let mut processes = Self {
            switch,
            ports,
            peers: Vec::new(),
            journal,
            notes: options.unwrap(),
        };
        for node in 0..NODES.len() {
            let peer = processes.peer(node).await;
            processes.peers.push(Some(peer));
        }
        processes
    }

    async fn peer(&self, node: usize) -> Peer {
        let (port, source) = (&self.ports[node], self.ports[node].source.to_string());
        let mut flags = vec![
            "--listen",
            &port.listen,
            "--advertise",
            &port.address,
            "--source",
            &source,
            "--client",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--unique",
            "replace",
            "--hb",
            "1s",
            "--retry",
            "250ms",
            "--close",
            "5ms",
            "--services",
            NODES[node].1,
            "--journal",
            self.journal.to_str().unwrap(),
        ];
        match node {
            MASTER => flags.push("--is-master"),
            _ => flags.extend(["--master", &*self.ports[MASTER].address]),
        }
        Peer::start(&flags).await
    }

    fn running(&self, node: usize) -> &Peer {
        self.peers[node].as_ref().unwrap()
    }

    fn clients_of(&self, gate: usize) -> SocketAddr {
        self.running(gate).address
    }

    fn note(&mut self, event: &str, node: Option<usize>) {
        let node = node.map(|node| &self.ports[node].address);
        let line = json!({ "event": event, "session": 0, "node": node, "late": false });
        writeln!(self.notes, "{line}").unwrap();
    }

    /// Lets something go wrong for a while.
    async fn disturb(&mut self, node: usize, fault: Fault, time: Duration) {
        match fault {
            Fault::Apart(..) => self.note("apart", None),
            _ => self.note("disturbed", Some(node)),
        }
        match fault {
            Fault::Kill => {
                let peer = self.peers[node].take().unwrap();
                peer.signal("KILL").await;
                peer.exited().await;
                sleep(time).await;
                self.peers[node] = Some(self.peer(node).await);
            }
            Fault::Suspend => {
                self.running(node).signal("STOP").await;
                sleep(time).await;
                self.running(node).signal("CONT").await;
            }
            Fault::CutOff(cut) => {
                let others = (0..NODES.len()).filter(|other| *other != node);
                others.for_each(|other| self.switch.cut(node, other, cut));
                sleep(time).await;
                self.switch.heal();
            }
            Fault::Apart(a, b) => {
                self.switch.cut(a, b, Cut::Silent);
                sleep(time).await;
                self.switch.heal();
            }
        }
    }

    /// Waits until all nodes are in one view, which has them all.
    async fn come_to_rest(&self) {
        let begun = Instant::now();
        loop {
            let mut views = HashSet::new();
            for node in 0..NODES.len() {
                let metrics = get(self.running(node).operators.unwrap(), "/metrics").await;
                let gauge = |name: &str| {
                    let mut lines = metrics.body.lines();
                    let line = lines.find(|line| line.starts_with(&format!("{name}{{")));
                    line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                };
                let [view, nodes] = ["nano_directory_view", "nano_directory_nodes"].map(gauge);
                views.insert((view.map(f64::to_bits), nodes == Some(NODES.len() as f64)));
            }
            let one = views.len() == 1;
            if one
                && views
                    .iter()
                    .all(|(view, all)| view.is_some_and(|view| view > 0) && *all)
            {
                return;
            }
            assert!(begun.elapsed() < REST, "no common view: {views:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The sessions that the gates have, by user.
    async fn sessions(&self) -> BTreeMap<i64, Vec<(String, i64)>> {
        let mut sessions = BTreeMap::<_, Vec<_>>::new();
        for gate in GATES {
            let mut after = json!(0);
            while !after.is_null() {
                let path = format!("/api/v1/sessions?limit=500&after={after}");
                let page = get(self.running(gate).operators.unwrap(), &path).await.ok();
                for session in page["sessions"].as_array().unwrap() {
                    if let (Some(user), "local") = (
                        session["user"].as_i64(),
                        session["client"].as_str().unwrap(),
                    ) {
                        let at = (
                            self.ports[gate].address.clone(),
                            session["id"].as_i64().unwrap(),
                        );
                        sessions.entry(user).or_default().push(at);
                    }
                }
                after = page["next"].clone();
            }
        }
        sessions
    }

    /// What is wrong while nothing happens, if anything is: a user with two sessions, or a node that
    /// finds another one than the gates have. Otherwise how many users have a session.
    async fn problem(&self, users: i64) -> Result<usize, String> {
        let sessions = self.sessions().await;
        if let Some((user, places)) = sessions.iter().find(|(_, places)| places.len() > 1) {
            return Err(format!("user {user} has {places:?}"));
        }
        let all = NODES.map(|(name, _)| self.finds_all(name, &sessions, users));
        for found in join_all(all).await {
            found?;
        }
        // Nothing has changed meanwhile.
        match self.sessions().await == sessions {
            true => Ok(sessions.len()),
            false => Err("sessions came or went".to_owned()),
        }
    }

    /// What is wrong with what one node finds.
    async fn finds_all(
        &self,
        name: &str,
        sessions: &BTreeMap<i64, Vec<(String, i64)>>,
        users: i64,
    ) -> Result<(), String> {
        let observer = connect(self.clients_of(GATES[0])).await;
        let observer = observer.ok_or("the gate takes no client")?;
        let route = format!("{name}.Locate");
        for user in 1..=users {
            let found = ask(&observer, &route, json!({ "user": user })).await;
            let found = found.map_err(|error| format!("{name}: {error}"))?;
            let expected = sessions.get(&user).map_or(&[][..], Vec::as_slice);
            if found != json!({ "places": expected }) {
                return Err(format!(
                    "{name} finds {found} of user {user}, not {expected:?}"
                ));
            }
        }
        Ok(())
    }

    /// Waits until each user has one session at most, where every node finds it.
    async fn is_consistent(&self, users: i64) -> usize {
        let begun = Instant::now();
        loop {
            match self.problem(users).await {
                Ok(online) => return online,
                Err(problem) => assert!(begun.elapsed() < REST, "{problem}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn connect(to: SocketAddr) -> Option<Client> {
    let url = format!("tcp://{to}");
    let client = Client::builder().connect(&url);
    timeout(Duration::from_secs(3), client).await.ok()?.ok()
}

/// What users share.
struct Crowd {
    gates: Mutex<[SocketAddr; 2]>,
    /// Held by each login, and all of it while the test looks at the cluster.
    turn: RwLock<()>,
    over: AtomicBool,
    granted: AtomicUsize,
    failed: AtomicUsize,
}

/// One user: logs in from either gate, at a backend or at a gate, and stays for a while.
async fn play(user: i64, crowd: Arc<Crowd>) {
    let random = &mut StdRng::seed_from_u64(user as u64);
    let mut client: Option<Client> = None;
    while !crowd.over.load(Relaxed) {
        sleep(Duration::from_millis(random.random_range(100..4_000))).await;
        let _turn = crowd.turn.read().await;
        let gate = crowd.gates.lock()[random.random_range(0..2)];
        let route = ["U.Login", "Gate.Login"][random.random_range(0..2)];
        let leaves_first = random.random_ratio(1, 4);
        if leaves_first {
            client = None;
        }
        let Some(next) = connect(gate).await else {
            continue;
        };
        let login = json!({ "user": user, "mode": "login" });
        let login = timeout(LOGIN, next.request::<Value, _>(route, &login)).await;
        match login.is_ok_and(|login| login.is_ok()) {
            true => {
                crowd.granted.fetch_add(1, Relaxed);
                client = Some(next);
            }
            false => drop(crowd.failed.fetch_add(1, Relaxed)),
        }
    }
    drop(client);
}

/// A line of the journal.
#[derive(Deserialize)]
struct Entry {
    event: String,
    session: i64,
    user: Option<i64>,
    node: Option<String>,
    late: bool,
}

/// How often a login came while an earlier session of its user was there.
#[derive(Debug, Default)]
struct Replaced {
    /// All close callbacks had run.
    waited: usize,
    /// They had not, and the login said so.
    late: usize,
    /// A callback ran afterwards on a node that was cut off or suspended, or for a gate that was or
    /// that had died; or the login was at such a gate.
    excused: usize,
}

/// Checks that no close callback of a session ran when a later login of its user had returned.
fn check(journal: &str) -> Replaced {
    let mut count = Replaced::default();
    let mut gates = HashMap::new();
    let mut logged_in = HashMap::<i64, Vec<i64>>::new();
    let (mut ended, mut over) = (HashSet::new(), HashMap::new());
    // Since all was quiet.
    let (mut disturbed, mut apart) = (HashSet::new(), false);
    for line in journal.lines() {
        let entry: Entry = serde_json::from_str(line).unwrap();
        let (session, node) = (entry.session, entry.node.unwrap_or_default());
        match &*entry.event {
            "open" => drop(gates.insert(session, node)),
            "disturbed" => drop(disturbed.insert(node)),
            "apart" => apart = true,
            "quiet" => {
                disturbed.clear();
                apart = false;
            }
            "login" => {
                let calm = disturbed.is_empty() && !apart;
                assert!(
                    !(calm && entry.late),
                    "session {session} is late, and nothing was wrong"
                );
                // A session may be replaced before its own login returns.
                if ended.contains(&session) {
                    continue;
                }
                // One at a gate that may have been evicted is not confirmed.
                let gate = gates.get(&session);
                let confirmed = gate.is_some_and(|gate| !disturbed.contains(gate));
                let sessions = logged_in.entry(entry.user.unwrap()).or_default();
                for before in std::mem::replace(sessions, vec![session]) {
                    match entry.late {
                        true => count.late += 1,
                        false if !confirmed => count.excused += 1,
                        false => {
                            count.waited += usize::from(ended.contains(&before));
                            over.insert(before, session);
                        }
                    }
                }
            }
            "closing" | "closed" => {
                ended.insert(session);
                let Some(login) = over.get(&session) else {
                    continue;
                };
                let gate = gates.get(&session);
                if disturbed.contains(&node) || gate.is_some_and(|gate| disturbed.contains(gate)) {
                    count.excused += 1;
                    continue;
                }
                let both = [session, *login].map(|id| format!("\"session\":{id},"));
                let of_both = |line: &&str| both.iter().any(|id| line.contains(id));
                let lines: Vec<_> = journal.lines().filter(of_both).collect();
                panic!(
                    "callback of session {session} at {node}, gate {gate:?}, behind the login of \
                     session {login}:\n{}",
                    lines.join("\n")
                );
            }
            other => panic!("{other}"),
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow"]
async fn users_have_one_session_and_logins_wait_for_the_last_while_processes_die_and_are_cut_off() {
    let users = i64::try_from(sampled(200).max(20)).unwrap();
    // A minute of faults, and all kinds of them in a sample.
    let faults = usize::try_from(sampled(12).max(5)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut processes = Processes::start(folder.path().join("journal")).await;
    processes.come_to_rest().await;
    let crowd = Arc::new(Crowd {
        gates: Mutex::new(GATES.map(|gate| processes.clients_of(gate))),
        turn: RwLock::default(),
        over: AtomicBool::default(),
        granted: AtomicUsize::default(),
        failed: AtomicUsize::default(),
    });
    let mut playing = JoinSet::new();
    for user in 1..=users {
        playing.spawn(play(user, crowd.clone()));
    }
    for (node, fault, millis) in FAULTS.into_iter().take(faults) {
        sleep(Duration::from_secs(1)).await;
        processes
            .disturb(node, fault, Duration::from_millis(millis))
            .await;
        *crowd.gates.lock() = GATES.map(|gate| processes.clients_of(gate));
        sleep(Duration::from_secs(1)).await;
        let begun = Instant::now();
        let _all = crowd.turn.write().await;
        let waited = begun.elapsed();
        processes.come_to_rest().await;
        let online = processes.is_consistent(users).await;
        processes.note("quiet", None);
        println!(
            "{fault:?} of {}: {online} users online, consistent after {waited:.1?} and {:.1?}",
            NODES[node].0,
            begun.elapsed() - waited
        );
        check(&fs::read_to_string(&processes.journal).unwrap());
    }
    crowd.over.store(true, Relaxed);
    playing.join_all().await;
    let (granted, failed) = (crowd.granted.load(Relaxed), crowd.failed.load(Relaxed));
    let replaced = check(&fs::read_to_string(&processes.journal).unwrap());
    println!("{granted} logins granted, {failed} failed; {replaced:?}");
    assert!(replaced.waited > granted / 4, "{replaced:?}");
}
