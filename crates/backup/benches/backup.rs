//! First backup, unchanged second and restore: our worker beside Debian's restic, on the same data, in
//! turns. Then what restic has no peer for: a disk's increment, and the state of an environment.
//!
//! `TRUEUP_BACKUP_MIB` is about how much is saved, in MiB; 100 without it. `TRUEUP_BACKUP_RUNS` is how
//! often each is done, 3 without it; the fastest of each counts. `TRUEUP_BACKUP_WORKER` is another build
//! of the worker. Prints wall time, processor time and the peak of memory of each, and their ratio.
//! Takes five times that much of the disk, in `TMPDIR`.

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
use trueup_backup::ImageWriter;

/// What one run took.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu: Duration,
    peak_kib: u64,
}

type Stdin = std::process::ChildStdin;

/// Runs it to its end; `feed` is given its standard input. GNU time is not everywhere, so the numbers
/// are the kernel's.
fn measure(command: &mut Command, feed: impl FnOnce(Stdin) -> Stdin + Send) -> Cost {
    let started = Instant::now();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut said = String::new();
        stdout.read_to_string(&mut said).unwrap();
        said
    });
    let mut seen = (0, Duration::ZERO);
    let wall = std::thread::scope(|scope| {
        let fed = scope.spawn(|| feed(stdin));
        // The kernel forgets a process that was waited for: it is looked at until it is a zombie.
        let wall = loop {
            let (zombie, peak, cpu) = look(pid);
            seen = (seen.0.max(peak), cpu.max(seen.1));
            if zombie {
                break started.elapsed();
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        drop(fed.join().unwrap());
        wall
    });
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
    worker: PathBuf,
    runs: usize,
}

/// The fastest of several.
fn fastest(costs: &[Cost]) -> Cost {
    let wall = costs.iter().min_by_key(|cost| cost.wall).copied().unwrap();
    Cost { peak_kib: costs.iter().map(|cost| cost.peak_kib).max().unwrap(), ..wall }
}

fn say(what: &str, who: &str, cost: Cost) {
    println!(
        "{what:<12} {who:<7} {:>8.2} s wall {:>8.2} s cpu {:>6} MiB peak",
        cost.wall.as_secs_f64(),
        cost.cpu.as_secs_f64(),
        cost.peak_kib / 1024
    );
}

impl Bench {
    fn ours(&self, action: &Value) -> Cost {
        self.fed(action, |stdin| stdin)
    }

    fn fed(&self, action: &Value, feed: impl FnOnce(Stdin) -> Stdin + Send) -> Cost {
        let request = json!({
            "target": { "local": { "path": self.root.join("ours") } },
            "key": { "file": { "path": self.root.join("key") } },
            "state": self.root.join("state"),
            "action": action,
        });
        measure(&mut Command::new(&self.worker), |mut stdin| {
            stdin.write_all(format!("{request}\n").as_bytes()).unwrap();
            feed(stdin)
        })
    }

    fn restic(&self, arguments: &[&str]) -> Cost {
        let mut command = Command::new("restic");
        command.arg("-q").arg("-r").arg(self.root.join("restic"));
        command.arg("--password-file").arg(self.root.join("key"));
        command.arg("--cache-dir").arg(self.root.join("cache")).args(arguments);
        measure(&mut command, |stdin| stdin)
    }

    fn fresh(&self) {
        for folder in ["ours", "restic", "cache", "state"] {
            remove(&self.root.join(folder));
        }
        self.ours(&json!({ "init": {} }));
        self.restic(&["init"]);
    }

    fn row(&self, what: &str, ours: &[Cost], restic: &[Cost]) {
        let (ours, restic) = (fastest(ours), fastest(restic));
        say(what, "trueup", ours);
        say(what, "restic", restic);
        let ratio = ours.wall.as_secs_f64() / restic.wall.as_secs_f64();
        println!("{what:<12} wall {ratio:.2} times restic's");
    }

    fn beside_restic(&self) {
        let source = self.source.to_str().unwrap();
        let backup = backup(&self.source);
        let (mut first, mut again, mut restore) = <(Pair, Pair, Pair)>::default();
        for run in 0..self.runs {
            self.fresh();
            // Whoever is second finds the disk as the first has left it: each is that in turn.
            let turns = if run % 2 == 0 { [false, true] } else { [true, false] };
            for ours in turns {
                settle();
                if ours {
                    first.0.push(self.ours(&backup));
                } else {
                    first.1.push(self.restic(&["backup", "--host", "bench", source]));
                }
            }
            settle();
            again.1.push(self.restic(&["backup", "--host", "bench", source]));
            again.0.push(self.ours(&backup));
            // Both stay until both are done: for a minute ext4 looks for inodes that were not freed just
            // now, at length, and the second would pay for what the first left behind.
            let [to, other] = ["to-ours", "to-restic"].map(|name| self.root.join(name));
            for ours in turns {
                settle();
                if ours {
                    let to = json!({ "restore": { "snapshot": "latest", "to": to } });
                    restore.0.push(self.ours(&to));
                } else {
                    let to = ["restore", "latest", "--target", other.to_str().unwrap()];
                    restore.1.push(self.restic(&to));
                }
            }
            remove(&to);
            remove(&other);
        }
        self.row("first", &first.0, &first.1);
        self.row("unchanged", &again.0, &again.1);
        self.row("restore", &restore.0, &restore.1);
    }

    /// A disk of 4 GiB of which an eighth is used, and then a hundredth changes, in clusters of 64 KiB
    /// here and there. What is sent is what is read of the disk.
    fn image(&self) {
        const SIZE: u64 = 4 << 30;
        const CLUSTER: u64 = 64 << 10;
        let image = |base: Option<&str>| {
            let image = json!({ "image": { "name": "disk.img", "size": SIZE, "base": base } });
            json!({ "backup": { "source": image, "host": "bench" } })
        };
        let mut random = fastrand::Rng::with_seed(3);
        let mut noise = vec![0; CLUSTER as usize];
        let mut send = |stdin, clusters: &[u64]| {
            let mut writer = ImageWriter::new(stdin);
            for cluster in clusters {
                random.fill(&mut noise);
                writer.data(cluster * CLUSTER, &noise).unwrap();
            }
            writer.finish().unwrap()
        };
        self.fresh();
        let used: Vec<u64> = (0..SIZE / CLUSTER).filter(|n| n % 512 < 64).collect();
        let full = self.fed(&image(None), |stdin| send(stdin, &used));
        say("disk, full", "trueup", full);
        let snapshots = fs::read_dir(self.root.join("ours/snapshots")).unwrap();
        let base = snapshots.map(|entry| entry.unwrap().file_name()).next().unwrap();
        let base = base.into_string().unwrap();
        let mut changed: Vec<u64> = (0..SIZE / CLUSTER / 100).map(|n| n * 100 + n % 97).collect();
        changed.sort_unstable();
        let cost = self.fed(&image(Some(&base)), |stdin| send(stdin, &changed));
        say("disk, 1 %", "trueup", cost);
        let read = (changed.len() as u64 * CLUSTER) as f64 / SIZE as f64;
        println!("disk, 1 %    {:.1} % of the disk read", read * 100.0);
    }

    /// A log of a million events, in segments of 16 MiB, first and after some more events.
    fn state(&self) {
        let log = self.root.join("log");
        fs::create_dir_all(&log).unwrap();
        let mut random = fastrand::Rng::with_seed(4);
        let mut segment = String::new();
        let write = |seq: u64, segment: &mut String| {
            fs::write(log.join(format!("{seq:020}.jsonl")), &*segment).unwrap();
            segment.clear();
        };
        for seq in 0..1_000_000u64 {
            let (a, b) = (random.u128(..), random.u128(..));
            segment.push_str(&format!(
                "{{\"seq\":{seq},\"at\":\"2026-11-21T12:00:00.{:06}Z\",\"prev\":\"{a:032x}\",\
                 \"hash\":\"{b:032x}\",\"body\":{{\"step\":\"vm/web-{}\",\"done\":true}}}}\n",
                seq % 1_000_000,
                seq % 500
            ));
            if segment.len() > 16 << 20 {
                write(seq, &mut segment);
            }
        }
        write(1_000_000, &mut segment);
        self.fresh();
        say("state, first", "trueup", self.ours(&backup(&log)));
        let last = log.join(format!("{:020}.jsonl", 1_000_000));
        let mut last = fs::OpenOptions::new().append(true).open(last).unwrap();
        last.write_all(&b"{\"seq\":1000001,\"body\":{}}\n".repeat(1000)).unwrap();
        say("state, next", "trueup", self.ours(&backup(&log)));
    }
}

/// Ours, and restic's.
type Pair = (Vec<Cost>, Vec<Cost>);

fn backup(path: &Path) -> Value {
    json!({ "backup": { "source": { "paths": { "paths": [path] } }, "host": "bench" } })
}

fn remove(path: &Path) {
    if path.exists() {
        fs::remove_dir_all(path).unwrap();
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

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn main() {
    let root = tempfile::tempdir().unwrap();
    let runs = usize::try_from(number("TRUEUP_BACKUP_RUNS", 3)).unwrap();
    let worker = std::env::var_os("TRUEUP_BACKUP_WORKER").map(PathBuf::from);
    let worker = worker.unwrap_or_else(|| env!("CARGO_BIN_EXE_trueup-backup-worker").into());
    let source = root.path().join("source");
    let bench = Bench { root: root.path().to_owned(), source, worker, runs };
    key(&bench.root.join("key"));
    bench_data::mixed(&bench.source, number("TRUEUP_BACKUP_MIB", 100), 1);
    bench.beside_restic();
    remove(&bench.source);
    bench.image();
    bench.state();
}
