//! What the real daemon costs while there is nothing to do: its share of one core and its resident
//! memory, with 1,000 resources and a poll every 15 s.
//!
//! First on libvirt's `test` driver, which lives inside of the daemon: its own work and memory are
//! counted too. That driver takes no virtual machines of ours, so they are measured on a private
//! libvirtd with QEMU; without root and libvirtd that part is said and left out.
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a benchmark measures and prints"
)]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use support::{at_most, figure, git, host, machine, private, repository};

/// Resources, the storage pool included.
const RESOURCES: usize = 1_000;
/// How long is looked on: eight polls.
const LOOK_S: u64 = 120;
/// Waited after the convergence, for what it left behind (a last pass, memory given back).
const SETTLE_S: u64 = 20;
/// Kernel ticks a second in `/proc` (`USER_HZ`, `proc(5)`): 100 on every architecture Debian has.
const TICKS_PER_S: f64 = 100.0;
/// Tells this program that it runs inside of the private libvirt.
const INSIDE: &str = "inside-private-libvirt";

fn main() {
    if std::env::args().any(|word| word == INSIDE) {
        let uri = std::env::var("LIBVIRT_DEFAULT_URI").unwrap();
        return watch("virtual machines, disks and networks on a private libvirtd", &uri, |pool| {
            repository::mixed(RESOURCES - 1, pool)
        });
    }
    machine();
    let node = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(node.path(), host::NODE).unwrap();
    let uri = format!("test://{}", node.path().display());
    watch("networks on test:///, in the daemon itself", &uri, |pool| {
        repository::networks(RESOURCES - 1, pool)
    });
    private::again(INSIDE, "virtual machines");
}

fn watch(what: &str, uri: &str, documents: impl Fn(&str) -> Vec<(String, String)>) {
    let pool = tempfile::tempdir().unwrap();
    let repo = git::Repo::new(&documents(&pool.path().join("pool").display().to_string()));
    let mut daemon = host::Host::new(&repo.url(), uri);
    let took = daemon.start_and_converge();
    println!("idle: {RESOURCES} {what}; converged in {:.1} s", took.as_secs_f64());
    std::thread::sleep(Duration::from_secs(SETTLE_S));
    let proc = daemon.proc();
    let (begun, before) = (Instant::now(), cpu_s(&proc));
    std::thread::sleep(Duration::from_secs(LOOK_S));
    let used = cpu_s(&proc) - before;
    at_most("processor, of one core", 100.0 * used / begun.elapsed().as_secs_f64(), "%", 1.0);
    at_most("resident memory (VmRSS)", mib(&proc, "VmRSS"), "MiB", 40.0);
    figure("  of it, private (RssAnon)", mib(&proc, "RssAnon"), "MiB");
    figure("  of it, the program's file (RssFile)", mib(&proc, "RssFile"), "MiB");
    figure("highest so far (VmHWM)", mib(&proc, "VmHWM"), "MiB");
}

/// Processor seconds of a process so far, all its threads (`proc(5)`, fields 14 and 15).
fn cpu_s(proc: &Path) -> f64 {
    let stat = std::fs::read_to_string(proc.join("stat")).unwrap();
    // The name in parentheses may hold anything; the fields begin behind it with the third.
    let fields = stat.rsplit_once(") ").unwrap().1;
    let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<f64>().unwrap());
    ticks.sum::<f64>() / TICKS_PER_S
}

/// A line of the process's status, which is in KiB.
fn mib(proc: &Path, line: &str) -> f64 {
    let status = std::fs::read_to_string(proc.join("status")).unwrap();
    let line = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    line.unwrap().trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
