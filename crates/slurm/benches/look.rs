//! What a look at 1,000 nodes costs beside `sinfo --json`, which has to make the same answer, and what a
//! plan over 1,000 nodes and 2,000 jobs takes. It prints ratios and bounds, and fails for none.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark takes the time, starts daemons, prints, and fails where it cannot"
)]
#![expect(dead_code, reason = "the lab is the tests', and this needs a part of it")]

#[path = "../tests/it/lab.rs"]
mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use trueup_slurm::conf::Conf;
use trueup_slurm::observe::{JobState, Observed, Observer, Rest};
use trueup_slurm::plan::{config, roll};
use trueup_slurm::{Shape, render};

use lab::{Lab, host, until};

/// As many nodes and jobs as the target names.
const NODES: usize = 1000;
const JOBS: u32 = 2000;
/// Rounds; the median counts.
const ROUNDS: usize = 21;

fn median(mut round: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            round();
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[ROUNDS / 2]
}

fn row(what: &str, value: String, target: &str, met: bool) {
    println!("| {what} | {value} | {target} | {} |", if met { "met" } else { "missed" });
}

fn main() {
    let Some(mut lab) = Lab::prepare(&["slurmrestd"]) else { return };
    // Nobody answers on their port: a controller's answer about nodes is as long without daemons.
    let names: Vec<String> = (1..=NODES).map(|n| format!("f{n:04}")).collect();
    lab.wish.pools.truncate(1);
    lab.wish.partitions.truncate(1);
    lab.wish.pools[0].nodes = names.iter().map(|name| host(name, 1)).collect();
    for node in &mut lab.wish.pools[0].nodes {
        (node.address, node.port) = (None, None);
    }
    let text = render(&lab.wish, lab.shape).map(|files| files.slurm).expect("the wish is sound");
    let text = text.replace(" CPUs=4", " NodeAddr=127.0.0.1 Port=1 CPUs=4");
    let text = text.replace("State=UNKNOWN", "State=DOWN Reason=fake");
    lab.write_files(&lab.wish);
    fs::write(lab.live().folder.join("slurm.conf"), &text).expect("slurm.conf");
    lab.controller_up();
    // An array has a thousand tasks at most where nothing else is said (slurm.conf(5), `MaxArraySize`).
    for array in ["0-999", "0-999"] {
        lab.ok(&["sbatch", "--array", array, "-o", "/dev/null", "--wrap", "true"]);
    }

    println!("| what | measured | target | |\n|---|---|---|---|");
    looks(&mut lab);
    plans(&lab, &text, &names);
}

fn looks(lab: &mut Lab) {
    let commands = lab.commands();
    let sinfo = commands.program("sinfo").args(["--json"]);
    let alone = median(|| drop(sinfo.ask(lab::LIMIT).expect("sinfo")));
    let mut observer = Observer::new(commands, None);
    let pass = median(|| drop(observer.pass().expect("a look")));
    let ratio = |of: Duration| of.as_secs_f64() / alone.as_secs_f64();
    let ms = |of: Duration| format!("{:.1} ms", of.as_secs_f64() * 1000.0);
    println!("| `sinfo --json`, {NODES} nodes | {} | – | |", ms(alone));
    let shown = format!("{:.2} ({})", ratio(pass), ms(pass));
    row("a look by the programs / that", shown, "1.2", ratio(pass) <= 1.2);

    let folder = lab.at().join("rest");
    fs::create_dir(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("its mode");
    let socket = folder.join("socket");
    lab.rest(&socket);
    let rest = Rest::new(socket, lab::LIMIT);
    let mut observer = Observer::new(lab.commands(), Some(rest));
    until("a look at rest", || (!observer.pass().expect("a look").changed).then_some(()));
    let unchanged = median(|| drop(observer.pass().expect("a look")));
    let shown = format!("{:.1} % ({})", ratio(unchanged) * 100.0, ms(unchanged));
    row("an unchanged look by slurmrestd / that", shown, "20 %", ratio(unchanged) <= 0.2);
}

fn plans(lab: &Lab, text: &str, names: &[String]) {
    let mut observed = lab.observe();
    let model = observed.jobs.first().expect("a job").clone();
    observed.jobs = (0..JOBS)
        .map(|id| {
            let mut job = model.clone();
            (job.id, job.state) = (id, JobState::Running);
            job.nodes.clone_from(&names[id as usize % names.len()]);
            job
        })
        .collect();
    let next = text.replace("RealMemory=2000", "RealMemory=1900");
    let took = median(|| drop(one_plan(text, &next, &observed, names, lab.shape)));
    let limit = Duration::from_millis(50);
    let shown = format!("{:.1} ms", took.as_secs_f64() * 1000.0);
    row(&format!("a plan, {NODES} nodes and {JOBS} jobs"), shown, "50 ms", took <= limit);
}

/// Both files read and compared, losses looked for, and the next steps of the pool.
fn one_plan(
    text: &str,
    next: &str,
    observed: &Observed,
    names: &[String],
    shape: Shape,
) -> (config::ConfigPlan, roll::RollPlan) {
    let (live, next) = (Conf::parse(text).expect("live"), Conf::parse(next).expect("next"));
    let plan = config::plan(&live, &next, observed, shape);
    let outdated: BTreeSet<String> = names.iter().cloned().collect();
    let token = roll::Token::new("lab", "cpu", "1");
    let roll = roll::Roll {
        nodes: names,
        outdated: &outdated,
        failed: &BTreeMap::new(),
        token: &token,
        max_unavailable: 10,
        restart: true,
        drain_timeout: 3600,
        now: 0,
    };
    (plan, roll::plan(&roll, observed))
}
