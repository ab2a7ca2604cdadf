//! The load generator.

use std::{
    io,
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use nano::Result;

use crate::process;

mod body;
mod broadcast;
mod conn;
mod due;
mod echo;
mod flow;
mod game;
mod net;
mod options;
mod quiet;
mod report;
mod tally;
mod target;
mod tls;
mod wire;
mod worker;
mod ws;

pub(crate) use self::{options::Options, report::Report, tally::Sample, wire::packet_header};

use self::{
    body::Template,
    broadcast::Broadcast,
    echo::{Echo, Pace},
    flow::{Flow, Outgoing},
    game::{BYSTANDERS, Game, Size},
    net::Net,
    options::Scenario,
    quiet::{Idle, Storm},
    report::Readings,
    tally::{Clock, Tally},
    worker::{Gates, Worker},
};

/// How long connections are left alone before their memory is measured.
const SETTLE: Duration = Duration::from_millis(500);

/// Plays one run and returns its report.
pub(crate) fn run(options: &Options) -> Result<Report> {
    process::raise_file_limit();
    let threads = options.threads();
    let connections = options.connections();
    let (clock, own) = (Arc::new(Clock::new()), [std::process::id()]);
    let gate = || Barrier::new(threads + 1);
    let gates = Gates {
        connected: gate(),
        begun: gate(),
        ended: gate(),
    };

    let mut readings = Readings {
        memory_before: process::memory(&options.pid),
        ..Readings::default()
    };
    let tallies: Vec<io::Result<Tally>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|index| {
                let part = |count: usize| count * index / threads..count * (index + 1) / threads;
                let (clock, gates, part) = (clock.clone(), &gates, part(connections));
                scope.spawn(move || worker(options, part, clock, gates))
            })
            .collect();
        gates.connected.wait();
        thread::sleep(if options.scenario == Scenario::Idle {
            4 * SETTLE
        } else {
            SETTLE
        });
        readings.memory_connected = process::memory(&options.pid);
        let (warm_up, duration) = (
            options.warm_up.as_nanos() as u64,
            options.duration.as_nanos() as u64,
        );
        let start = clock.now() + warm_up;
        clock.measure(start..start + duration);
        gates.begun.wait();
        let sample = |at: u64| {
            thread::sleep(Duration::from_nanos(at.saturating_sub(clock.now())));
            (
                clock.now(),
                process::CpuTime::of(&options.pid),
                process::CpuTime::of(&own),
            )
        };
        let before = sample(start);
        let after = sample(start + duration);
        readings.seconds = (after.0 - before.0) as f64 / 1e9;
        readings.server = after.1.since(&before.1);
        readings.own = after.2.since(&before.2);
        readings.busiest = after.2.busiest_since(&before.2);
        readings.memory_loaded = process::memory(&options.pid);
        gates.ended.wait();
        workers
            .into_iter()
            .map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("a thread of the load panicked")))
            })
            .collect()
    });
    let mut total = Tally::new()?;
    for tally in tallies {
        total.add(&tally?)?;
    }
    let mut report = Report::new(options, connections, &readings, &total);
    let samples = total.samples.unwrap_or_default().into_iter();
    report.samples = samples
        .map(|Sample { due, latency }| Sample {
            due: clock.epoch + due / 1_000,
            latency: latency / 1_000,
        })
        .collect();
    Ok(report)
}

fn worker(
    options: &Options,
    part: std::ops::Range<usize>,
    clock: Arc<Clock>,
    gates: &Gates,
) -> io::Result<Tally> {
    let mut tally = Tally::new().map_err(io::Error::other)?;
    if options.keep_samples {
        tally.keep_samples();
    }
    let first = part.start as u32;
    let template = |size| {
        if options.json_body {
            Template::json(size)
        } else {
            Template::raw(size)
        }
    };
    let body = || template(options.size);
    let request = || Outgoing::request(options.route(), body());
    let notify = |route| Outgoing::notify(options.alias(route), body());
    let push = || notify("Echo.Push");
    let pace = || match options.rate {
        Some(rate) => Pace::Open {
            interval: 1e9 * options.threads() as f64 / rate,
        },
        None => Pace::Closed(options.in_flight),
    };
    let echo = |messages, tally| Echo::new(messages, pace(), first, part.len(), tally);
    match options.scenario {
        Scenario::Echo => play(echo(vec![request()], tally), options, part, clock, gates),
        Scenario::Push => play(echo(vec![push()], tally), options, part, clock, gates),
        Scenario::Mixed => play(
            echo(vec![request(), push()], tally),
            options,
            part,
            clock,
            gates,
        ),
        Scenario::Broadcast => play(
            Broadcast::new(
                Outgoing::request(options.alias("Grp.Join"), template(0)),
                notify("Grp.Send"),
                options.in_flight,
                part.len(),
                tally,
            ),
            options,
            part,
            clock,
            gates,
        ),
        Scenario::Game => {
            let rate = options.rate.unwrap_or(20.0);
            let size = Size {
                players: part.len() - BYSTANDERS,
                rooms: options.rooms,
                rate,
            };
            play(Game::new(size, body(), tally), options, part, clock, gates)
        }
        Scenario::Idle => play(Idle::new(tally), options, part, clock, gates),
        Scenario::Storm => play(
            Storm::new(request(), first, part.len(), tally),
            options,
            part,
            clock,
            gates,
        ),
    }
}

fn play(
    flow: impl Flow,
    options: &Options,
    part: std::ops::Range<usize>,
    clock: Arc<Clock>,
    gates: &Gates,
) -> io::Result<Tally> {
    let net = Net::new(options.connect.clone(), part.len(), options.resume)?;
    Worker::new(net, flow, clock).run(part.len(), gates)
}
