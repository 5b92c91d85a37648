//! `bench io`, `bench egress`, `bench all`: whole paths with the physical floor beside them; `bench count`: instructions of
//! the small pieces. See README.md.

use bench::clock::ThreadClock;
use bench::error::Error;
use bench::machine::{Machine, pin};
use bench::netns::Network;
use bench::report::{self, Report};
use bench::sink::SinkKind;
use bench::{count, egress, io, mux, sessions};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

/// The server's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As many sessions as a worker takes.
const VIEWERS_MAX: i64 = 16_384;
/// As many datagrams of 1200 bytes as one train takes (65,507 bytes).
const FRAME_MAX: i64 = 54;

fn main() -> ExitCode {
    let matches = command().get_matches();
    match run(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Command {
    let file =
        |name: &'static str, help| Arg::new(name).long(name).value_name("FILE").global(true).help(help);
    let list = |name: &'static str, most, help| {
        let count = value_parser!(u16).range(1..=most);
        Arg::new(name)
            .long(name)
            .value_name("N,…")
            .value_delimiter(',')
            .value_parser(count)
            .global(true)
            .help(help)
    };
    Command::new("bench")
        .about("CPU per datagram of each I/O method, and of a packet on its way to its viewers")
        .subcommand_required(true)
        .subcommand(Command::new("io").about("Sending and receiving by each method"))
        .subcommand(Command::new("egress").about("Frames to viewers, beside the floor of the same bytes"))
        .subcommand(Command::new("all").about("Both, for a report"))
        .subcommand(Command::new("sessions").about("CPU and memory of a viewer by the DTLS that it needs"))
        .subcommand(Command::new("mux").about("Finding a datagram's socket behind one port for all workers"))
        .subcommand(Command::new("count").about("Instructions of the small pieces, by Valgrind"))
        .subcommand(call_command())
        .arg(file("json", "Write the figures as JSON"))
        .arg(file("html", "Write the figures as a page with plots"))
        .arg(list("viewers", VIEWERS_MAX, "Numbers of viewers instead of the usual ones, as in 10,1000"))
        .arg(list("frames", FRAME_MAX, "Packets of a frame instead of the usual ones, as in 1,8"))
        .arg(
            Arg::new("sinks")
                .long("sinks")
                .value_name("SINK,…")
                .value_delimiter(',')
                .value_parser(SinkKind::NAMES.map(|(name, _)| name))
                .global(true)
                .help("Where packets go instead of the usual ways"),
        )
        .arg(
            Arg::new("quick")
                .long("quick")
                .action(ArgAction::SetTrue)
                .global(true)
                .help("Few and small samples: seconds instead of minutes"),
        )
}

/// What `bench count` has Valgrind look at.
fn call_command() -> Command {
    let number = |name: &'static str| Arg::new(name).required(true).value_parser(value_parser!(u64));
    Command::new(count::CALL).hide(true).arg(number("piece")).arg(number("times"))
}

fn run(matches: &ArgMatches) -> Result<(), Error> {
    let start = Instant::now();
    let mut progress = |what: &str| {
        let _ = writeln!(std::io::stderr(), "{:>6.1} s  {what}", start.elapsed().as_secs_f64());
    };
    match matches.subcommand() {
        Some((count::CALL, matches)) => {
            let number = |name| matches.get_one::<u64>(name).copied().unwrap_or(0);
            count::call(number("piece") as usize, number("times"))
        }
        Some(("count", _)) => {
            let rows = count::run(&mut progress)?;
            Ok(std::io::stdout().write_all(count::table(&rows).as_bytes())?)
        }
        Some(("sessions", _)) => {
            Ok(std::io::stdout().write_all(sessions::table(&sessions::run(&mut progress)?).as_bytes())?)
        }
        Some(("mux", _)) => {
            Network::isolate();
            Ok(std::io::stdout().write_all(mux::table(&mux::run(&mut progress)?).as_bytes())?)
        }
        Some((name, matches)) => measure(name, matches, &mut progress),
        None => Ok(()),
    }
}

fn measure(name: &str, matches: &ArgMatches, mut progress: impl FnMut(&str)) -> Result<(), Error> {
    let network = Network::isolate();
    let mut machine = Machine::look();
    machine.pinned_to = pin();
    let clock = ThreadClock::calibrate()?;
    let (io_plan, egress_plan) = plans(matches, &network);
    let mut report = Report { machine, notes: notes(&network), io: vec![], egress: vec![] };
    if name != "egress" {
        report.io = io::run(&io_plan, clock, &mut progress)?;
    }
    if name != "io" {
        report.egress = egress::run(&egress_plan, clock, &mut progress)?;
    }
    deliver(&report, matches)
}

/// What the command line asks for and this machine can do.
fn plans(matches: &ArgMatches, network: &Network) -> (io::Plan, egress::Plan) {
    let (mut io_plan, mut egress_plan) = match matches.get_flag("quick") {
        true => (io::Plan::quick(), egress::Plan::quick()),
        false => (io::Plan::full(), egress::Plan::full()),
    };
    let counts =
        |name| matches.get_many::<u16>(name).map(|counts| counts.map(|&count| count.into()).collect());
    egress_plan.viewers = counts("viewers").unwrap_or(egress_plan.viewers);
    egress_plan.frames = counts("frames").unwrap_or(egress_plan.frames);
    if let Some(names) = matches.get_many::<String>("sinks") {
        let named = |name: &String| SinkKind::NAMES.into_iter().find(|(known, _)| known == name);
        let sinks: Vec<_> = names.filter_map(named).map(|(_, kind)| kind).collect();
        (io_plan.sinks, egress_plan.sinks) = (sinks.clone(), sinks);
    }
    if network.sink.is_err() {
        let possible = |sink: &SinkKind| *sink != SinkKind::Dropped;
        io_plan.sinks.retain(possible);
        egress_plan.sinks.retain(possible);
    }
    (io_plan, egress_plan)
}

fn deliver(report: &Report, matches: &ArgMatches) -> Result<(), Error> {
    if let Some(path) = matches.get_one::<String>("json") {
        report::write(path, &report.json()?)?;
    }
    if let Some(path) = matches.get_one::<String>("html") {
        report::write(path, &report::html(report))?;
    }
    Ok(std::io::stdout().write_all(report::table(report).as_bytes())?)
}

/// What is missing here, and what it means for the figures.
fn notes(network: &Network) -> Vec<String> {
    let mut notes = vec![];
    if let Err(why) = &network.own {
        notes.push(format!(
            "no own network namespace ({why}): the host's firewall rules are in the figures; install iproute2 and run as root"
        ));
    }
    if let Err(why) = &network.sink {
        notes.push(format!("no figures without delivery ({why})"));
    }
    notes
}
