//! First backup, unchanged second and restore: our worker beside Debian's restic, on the same data.
//!
//! `TRUEUP_BACKUP_MIB` is how much is saved, in MiB apparent without the holes of the image; 100
//! without it, 1000 for the table of the design. Prints wall time, processor time and the peak of
//! memory of each, and their ratio. Every run writes a repository of its own.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

#[path = "../tests/backup/bench_data.rs"]
mod bench_data;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What one run took.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu: Duration,
    peak_kib: u64,
}

/// Runs it to its end. GNU time is not everywhere, so the numbers are the kernel's, of the children.
fn measure(command: &mut Command, input: Option<&Value>) -> Cost {
    // A child of its own asks for its children's use: the peak is of all children so far.
    let started = Instant::now();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let mut stdin = child.stdin.take().unwrap();
    if let Some(input) = input {
        stdin.write_all(format!("{input}\n").as_bytes()).unwrap();
    }
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut said = String::new();
        stdout.read_to_string(&mut said).unwrap();
        said
    });
    let mut seen = (0, Duration::ZERO);
    // The kernel forgets a process that was waited for: it is looked at until it is a zombie.
    let wall = loop {
        let (zombie, peak, cpu) = look(pid);
        seen = (seen.0.max(peak), cpu.max(seen.1));
        if zombie {
            break started.elapsed();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    drop(stdin);
    let status = child.wait().unwrap();
    let said = reader.join().unwrap();
    assert!(status.success(), "{said}");
    Cost { wall, cpu: seen.1, peak_kib: seen.0 }
}

/// Whether it ended, its peak of memory (KiB), and its processor time.
fn look(pid: u32) -> (bool, u64, Duration) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let zombie = field("State:").unwrap().trim_start().starts_with('Z');
    let peak = field("VmHWM:").and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // utime and stime, in hundredths of a second (proc(5)).
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    (zombie, peak.unwrap_or(0), Duration::from_millis(ticks * 10))
}

struct Bench {
    root: PathBuf,
    source: PathBuf,
}

impl Bench {
    fn ours(&self, action: &Value) -> Cost {
        let request = json!({
            "target": { "local": { "path": self.root.join("ours") } },
            "key": { "file": { "path": self.root.join("key") } },
            "state": self.root.join("state"),
            "action": action,
        });
        measure(&mut Command::new(env!("CARGO_BIN_EXE_trueup-backup-worker")), Some(&request))
    }

    fn restic(&self, arguments: &[&str]) -> Cost {
        let mut command = Command::new("restic");
        command.arg("-q").arg("-r").arg(self.root.join("restic"));
        command.arg("--password-file").arg(self.root.join("key"));
        command.arg("--cache-dir").arg(self.root.join("cache")).args(arguments);
        measure(&mut command, None)
    }

    fn row(&self, what: &str, ours: Cost, restic: Cost) {
        let line = |who: &str, cost: Cost| {
            println!(
                "{what:<14} {who:<8} {:>8.2} s wall {:>8.2} s cpu {:>7} MiB peak",
                cost.wall.as_secs_f64(),
                cost.cpu.as_secs_f64(),
                cost.peak_kib / 1024
            );
        };
        line("trueup", ours);
        line("restic", restic);
        let ratio = ours.wall.as_secs_f64() / restic.wall.as_secs_f64();
        println!("{what:<14} wall {ratio:.2} times restic's");
    }
}

/// Nothing of one run is written to the disk during the next.
fn settle() {
    Command::new("sync").status().unwrap();
}

fn key(path: &Path) {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(b"bench\n").unwrap();
}

fn main() {
    let scale = std::env::var("TRUEUP_BACKUP_MIB").ok().and_then(|text| text.parse().ok());
    let scale = scale.unwrap_or(100);
    let root = tempfile::tempdir().unwrap();
    let bench = Bench { root: root.path().to_owned(), source: root.path().join("source") };
    key(&bench.root.join("key"));
    bench_data::mixed(&bench.source, scale, 1);
    let source = bench.source.to_str().unwrap().to_owned();
    let backup = json!({ "backup": {
        "source": { "paths": { "paths": [bench.source] } }, "host": "bench" } });
    bench.ours(&json!({ "init": {} }));
    bench.restic(&["init"]);
    // Once over the data, so that both find it in memory.
    Command::new("cp").arg("-r").arg(&bench.source).arg(bench.root.join("warm")).status().unwrap();
    fs::remove_dir_all(bench.root.join("warm")).unwrap();
    settle();
    let theirs = bench.restic(&["backup", "--host", "bench", &source]);
    settle();
    let ours = bench.ours(&backup);
    bench.row("first", ours, theirs);
    settle();
    let theirs = bench.restic(&["backup", "--host", "bench", &source]);
    let ours = bench.ours(&backup);
    bench.row("unchanged", ours, theirs);
    settle();
    let to = bench.root.join("to-restic");
    let theirs = bench.restic(&["restore", "latest", "--target", to.to_str().unwrap()]);
    settle();
    let to = bench.root.join("to-ours");
    let ours = bench.ours(&json!({ "restore": { "snapshot": "latest", "to": to } }));
    bench.row("restore", ours, theirs);
}
