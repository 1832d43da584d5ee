//! Backups by the real program, in real repositories: Debian's restic, which has never seen trueup,
//! checks and restores what is written; damage, a wrong key and a repository that is gone are told.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Ended, Host, program};
use crate::support::git_repo::GitRepo;

const REPOSITORY: &str = "apiVersion: trueup/v1\nkind: Repository\nmetadata: {name: test}\n\
                          spec: {environments: {lab: {hosts: [node1]}}}\n";
const KEY: &str = "canary-of-the-key";

/// A host with a secret and a folder of files, and an environment repository.
pub(super) struct Saved {
    pub(super) host: Host,
    repo: GitRepo,
}

impl Saved {
    /// With the backups of `documents`, in which `@` is the host's folder.
    pub(super) fn new(documents: &str) -> Self {
        let saved = Self { host: Host::new(), repo: GitRepo::new() };
        let at = saved.at("");
        std::fs::create_dir_all(saved.at("secrets")).unwrap();
        saved.key(KEY);
        std::fs::create_dir_all(saved.at("files/deep")).unwrap();
        std::fs::write(saved.at("files/a"), "first").unwrap();
        std::fs::write(saved.at("files/deep/b"), vec![7; 300_000]).unwrap();
        std::fs::write(saved.at("files/c.tmp"), "left out").unwrap();
        let config = format!(
            "repository:\n  url: {}\nhost: node1\nstateDirectory: {at}state\nsocket: {at}t.sock\n\
             accelerator: tcg\nlibvirt: {{uri: 'test:///default'}}\nbackup:\n  secrets: \
             {at}secrets\n  programs: [{{program: /usr/bin/printf, anyArguments: true}}]\n",
            saved.repo.bare().display(),
            at = at.display()
        );
        std::fs::write(saved.at("config.yaml"), config).unwrap();
        saved.repo.write("trueup.yaml", REPOSITORY);
        saved.publish(documents);
        saved
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.host.path().join(path)
    }

    pub(super) fn key(&self, text: &str) {
        self.secret("vault", text);
    }

    pub(super) fn secret(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.at("secrets").join(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Adds to the host's config.
    pub(super) fn configure(&self, more: &str) {
        let config = std::fs::read_to_string(self.at("config.yaml")).unwrap();
        std::fs::write(self.at("config.yaml"), config + more).unwrap();
    }

    /// Lets the host run one more program.
    pub(super) fn allow(&self, rule: &str) {
        let config = std::fs::read_to_string(self.at("config.yaml")).unwrap();
        let config = config.replace("programs: [", &format!("programs: [{rule}, "));
        std::fs::write(self.at("config.yaml"), config).unwrap();
    }

    pub(super) fn publish(&self, documents: &str) {
        let environment = format!(
            "apiVersion: trueup/v1\nkind: Environment\nmetadata: {{name: lab}}\nspec:\n  \
             storagePools: [{{name: fast, path: @pool}}]\n{documents}"
        );
        let environment = environment.replace('@', &self.at("").display().to_string());
        self.repo.publish("environments/lab/all.yaml", &environment);
    }

    pub(super) fn run(&self, words: &[&str]) -> Ended {
        self.host.run(words)
    }

    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = program();
        command.arg("--config").arg(self.at("config.yaml")).args(words);
        command
    }

    /// The row of one backup as `trueup backup` tells it.
    pub(super) fn row(&self, name: &str) -> Value {
        let shown: Value = serde_json::from_str(&self.run(&["backup", "-o", "json"]).out).unwrap();
        let rows = shown["backups"].as_array().unwrap();
        rows.iter().find(|row| row["resource"] == format!("backup/{name}")).unwrap().clone()
    }

    pub(super) fn events(&self, kind: &str) -> usize {
        self.run(&["log", "--type", kind]).code(0).out.lines().count()
    }

    pub(super) fn snapshots(&self, name: &str) -> Vec<Value> {
        let listed = self.run(&["backup", "ls", name, "-o", "json"]).code(0).out;
        serde_json::from_str(&listed).unwrap()
    }

    /// Debian's restic on a repository of this host.
    pub(super) fn restic(&self, repository: &str, words: &[&str]) -> String {
        let mut restic = Command::new("restic");
        restic.arg("--no-cache").arg("-r").arg(self.at(repository));
        restic.env("RESTIC_PASSWORD", KEY).args(words);
        let output = restic.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }
}

/// `kind: Backup` of that name with that spec.
pub(super) fn backup(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: trueup/v1\nkind: Backup\nmetadata: {{name: {name}}}\nspec:\n  key: \
         vault\n{spec}"
    )
}

pub(super) fn files() -> String {
    backup(
        "files",
        "  source: {paths: [@files], exclude: ['*.tmp']}\n  repository: {local: @vault}\n  \
         schedule: {every: 6h}\n  verify: {readParts: 1}\n  retention: {keep: {last: 2}}\n  \
         objectives: {rpo: 24h}\n",
    )
}

/// The file at `path` below `root`, wherever it lies.
pub(super) fn found(root: &Path, name: &str) -> PathBuf {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().is_some_and(|it| it == name) {
                return path;
            }
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    panic!("no {name} below {}", root.display());
}

#[test]
fn what_is_saved_is_restored_by_trueup_and_by_a_restic_that_never_saw_it() {
    let dump = backup(
        "dump",
        "  source: {command: {argv: [/usr/bin/printf, '%s', whole], file: all.sql}}\n  repository: \
         {local: @vault}\n",
    );
    let saved = Saved::new(&(files() + &dump));
    saved.run(&["apply"]).code(0);
    let row = saved.row("files");
    assert_eq!((&row["health"], &row["reliedOn"]), (&"unverified".into(), &true.into()), "{row}");
    assert_eq!(row["last"]["files"], 2, "{row}");
    assert!(row["nextRun"].is_string() && row["rpoNowS"].is_number(), "{row}");
    for (kind, count) in [("backup.opened", 2), ("backup.taken", 1), ("backup.verified", 1)] {
        assert_eq!(saved.events(kind), count, "{kind}");
    }
    // `dump` has no schedule: it is taken when somebody asks.
    saved.run(&["backup", "run", "dump"]).code(0);
    saved.run(&["apply"]).code(0);
    assert_eq!(saved.snapshots("dump").len(), 1);

    assert!(saved.restic("vault", &["check", "--read-data"]).contains("no errors were found"));
    for (restored, tag) in [("by-restic", "files"), ("dump-by-restic", "dump")] {
        let target = saved.at(restored);
        let target = target.to_str().unwrap();
        saved.restic("vault", &["restore", "latest", "--tag", tag, "--target", target]);
    }
    let to = saved.at("by-trueup");
    saved.run(&["backup", "restore", "files", "--to", to.to_str().unwrap()]).code(0);
    for root in [saved.at("by-restic"), to] {
        assert_eq!(std::fs::read(found(&root, "a")).unwrap(), b"first");
        assert_eq!(std::fs::read(found(&root, "b")).unwrap(), vec![7; 300_000]);
        assert!(!found(&root, "a").with_file_name("c.tmp").exists());
    }
    let dumped = found(&saved.at("dump-by-restic"), "all.sql");
    assert_eq!(std::fs::read(dumped).unwrap(), b"whole");

    // The key is in no event and in no output.
    for words in [&["log", "-o", "json"][..], &["state"], &["backup"], &["plan"]] {
        let ended = saved.run(words);
        assert!(!ended.out.contains(KEY) && !ended.err.contains(KEY), "{words:?}");
    }
}

#[test]
fn snapshots_are_taken_when_asked_for_and_the_oldest_that_was_not_proved_would_go() {
    let saved = Saved::new(&files());
    saved.run(&["apply"]).code(0);
    for text in ["second", "third", "fourth"] {
        std::fs::write(saved.at("files/a"), text).unwrap();
        saved.run(&["backup", "run", "files"]).code(0);
        saved.run(&["apply"]).code(0);
    }
    let snapshots = saved.snapshots("files");
    assert_eq!(snapshots.len(), 4, "{snapshots:?}");
    let told = saved.run(&["backup", "forget", "files", "--dry-run", "-o", "json"]).code(0).out;
    let told: Vec<Value> = serde_json::from_str(&told).unwrap();
    let goes: Vec<_> =
        told.iter().filter(|it| it["keptBy"].as_array().unwrap().is_empty()).collect();
    // The oldest one was proved, and none since: it stays, although the rules keep two.
    assert_eq!(goes.len(), 1, "{told:?}");
    assert_eq!(goes[0]["snapshot"]["id"], snapshots[1]["id"]);
    // An older one is restored by the start of its id.
    let first = &snapshots[0]["id"].as_str().unwrap()[..10];
    let to = saved.at("first");
    let words = ["backup", "restore", "files", "--snapshot", first, "--to", to.to_str().unwrap()];
    saved.run(&words).code(0);
    assert_eq!(std::fs::read(found(&to, "a")).unwrap(), b"first");
    saved.run(&words).code(5);
    // As it was before the last.
    let taken = saved.run(&["log", "--type", "backup.taken", "-o", "json"]).code(0).out;
    let last: Value = serde_json::from_str(taken.lines().last().unwrap()).unwrap();
    let before = (last["seq"].as_u64().unwrap() - 1).to_string();
    let shown = saved.run(&["backup", "--at", &before, "-o", "json"]).code(0).out;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["backups"][0]["last"]["id"], snapshots[2]["id"]);
    assert!(saved.run(&["backup", "run", "nothing"]).code(4).err.contains("backup/nothing"));
}

#[test]
fn snapshots_that_were_removed_are_named_also_where_their_data_stays() {
    let spec = files().replace("keep: {last: 2}", "keep: {last: 1}, every: 1s");
    let saved = Saved::new(&spec);
    saved.run(&["apply"]).code(0);
    let before = saved.events("backup.forgotten");
    // A pack is gone that both need: nothing can be pruned without it.
    let packs = std::fs::read_dir(saved.at("vault/data")).unwrap().flat_map(|folder| {
        let files = std::fs::read_dir(folder.unwrap().path()).unwrap();
        files.map(|file| file.unwrap().path()).collect::<Vec<_>>()
    });
    let largest = packs.max_by_key(|pack| std::fs::metadata(pack).unwrap().len()).unwrap();
    std::fs::remove_file(largest).unwrap();
    // The first one was proved and stays, the last one too.
    for text in ["second", "third"] {
        std::fs::write(saved.at("files/a"), text).unwrap();
        saved.run(&["backup", "run", "files"]).code(0);
        saved.run(&["apply"]);
    }
    let taken = saved.run(&["log", "--type", "backup.taken", "-o", "json"]).code(0).out;
    let second: Value = serde_json::from_str(taken.lines().nth(1).unwrap()).unwrap();
    let second = second["data"]["snapshot"].as_str().unwrap();
    let removed = (0..100).find_map(|_| {
        saved.run(&["apply"]);
        let told = saved.run(&["log", "--type", "backup.forgotten", "-o", "json"]).out;
        told.lines()
            .skip(before)
            .find(|line| line.contains(&format!("\"{second}\"")))
            .map(ToOwned::to_owned)
    });
    let removed = removed.expect("the event that names what was removed");
    assert!(removed.contains("the data of what was removed stays"), "{removed}");
    assert!(!saved.snapshots("files").iter().any(|it| it["id"] == *second));
}

#[test]
fn a_damaged_repository_is_found_by_the_next_check_and_told() {
    let spec = files().replace("readParts: 1", "readParts: 1, schedule: {every: 1s}");
    let saved = Saved::new(&spec);
    saved.run(&["apply"]).code(0);
    assert!(saved.row("files")["reliedOn"] == true);
    let data = saved.at("vault/data");
    let pack = std::fs::read_dir(&data).unwrap().find_map(|folder| {
        let folder = folder.unwrap().path();
        std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).next()
    });
    let pack = pack.unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    let mut mode = std::fs::metadata(&pack).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o600);
    std::fs::set_permissions(&pack, mode).unwrap();
    std::fs::write(&pack, bytes).unwrap();
    // What is due again and again ends with the pass; a check is due a second after the last one.
    let found = (0..100).find_map(|_| {
        saved.run(&["apply"]);
        Some(saved.row("files")).filter(|row| row["health"] == "failed")
    });
    let row = found.expect("a check that is due finds it");
    assert_eq!((&row["health"], &row["reliedOn"]), (&"failed".into(), &false.into()), "{row}");
    assert!(saved.events("backup.failed") > 0);
    let shown = saved.run(&["backup"]).code(3).out;
    assert!(shown.contains("damaged"), "{shown}");
    let drift = saved.run(&["drift"]).code(3).out;
    assert!(drift.contains("backup/files"), "{drift}");
}

#[test]
fn a_wrong_key_and_a_repository_that_is_gone_are_told_and_nothing_is_begun_over_them() {
    let saved = Saved::new(&files());
    saved.run(&["apply"]).code(0);
    saved.key("another");
    saved.run(&["backup", "run", "files"]).code(0);
    saved.run(&["apply"]).code(5);
    let status = saved.run(&["status"]).out;
    assert!(status.contains("Failed") && status.contains("the password opens no key"), "{status}");
    assert!(!status.contains("another"), "{status}");
    saved.key(KEY);
    saved.run(&["apply"]).code(0);
    assert_eq!(saved.snapshots("files").len(), 2);

    std::fs::rename(saved.at("vault"), saved.at("elsewhere")).unwrap();
    saved.run(&["backup", "run", "files"]).code(0);
    let plan = saved.run(&["plan"]).out;
    assert!(plan.contains("is gone: mount"), "{plan}");
    assert!(saved.row("files")["reliedOn"] == true, "nobody has looked yet");
    saved.run(&["apply"]);
    let row = saved.row("files");
    assert_eq!((&row["reliedOn"], &row["health"]), (&false.into(), &"unverified".into()), "{row}");
    assert!(saved.run(&["backup"]).code(3).out.contains("is gone: mount"));
    assert!(!saved.at("vault").exists(), "an empty repository in its place would hide the loss");
    std::fs::rename(saved.at("elsewhere"), saved.at("vault")).unwrap();
    saved.run(&["apply"]).code(0);
    assert_eq!(saved.snapshots("files").len(), 3);
    assert!(saved.row("files")["reliedOn"] == true);
    saved.run(&["backup"]).code(0);
}

#[test]
fn a_program_that_fails_or_is_not_allowed_leaves_no_snapshot() {
    let dump = |argv: &str| {
        backup(
            "dump",
            &format!(
                "  source: {{command: {{argv: {argv}, file: all}}}}\n  repository: {{local: \
                 @vault}}\n  schedule: {{every: 1h}}\n"
            ),
        )
    };
    let saved = Saved::new(&dump("[/usr/bin/printf, '%d', none]"));
    saved.run(&["apply"]).code(5);
    let status = saved.run(&["status"]).out;
    assert!(status.contains("no snapshot was stored") && status.contains("journalctl"), "{status}");
    // What it said may quote what root can read: it is in no event.
    let log = saved.run(&["log", "-o", "json"]).code(0).out;
    assert!(!status.contains("numeric") && !log.contains("numeric"), "{status}{log}");
    saved.publish(&dump("[/usr/bin/id]"));
    saved.run(&["apply"]).code(5);
    assert!(saved.run(&["status"]).out.contains("backup.programs"));
    assert_eq!(saved.snapshots("dump").len(), 0);
    assert_eq!(saved.events("backup.taken"), 0);
    // Allowed with exactly these arguments, and with no others.
    saved.allow("{argv: [/bin/echo, all]}");
    saved.publish(&dump("[/bin/echo, all, secrets]"));
    saved.run(&["apply"]).code(5);
    let status = saved.run(&["status"]).out;
    assert!(status.contains("with these arguments"), "{status}");
    saved.publish(&dump("[/bin/echo, all]"));
    saved.run(&["apply"]).code(0);
    assert_eq!(saved.snapshots("dump").len(), 1);
}

/// Its child has its output open, and outlives it by far.
#[test]
fn a_program_that_hangs_ends_with_all_its_children() {
    let (pid, source) = (
        "@child",
        "command: {argv: [/bin/sh, -c, 'sleep 1000 & echo $! >@child; \
                         wait'], file: all, timeout: 1s}",
    );
    let saved = Saved::new(&backup(
        "dump",
        &format!(
            "  source: {{{source}}}\n  repository: {{local: @vault}}\n  schedule: {{every: 6h}}\n"
        ),
    ));
    saved.allow("{program: /bin/sh, anyArguments: true}");
    let begun = Instant::now();
    saved.run(&["apply"]).code(5);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let status = saved.run(&["status"]).out;
    assert!(status.contains("did not end within 1 s"), "{status}");
    let child = std::fs::read_to_string(saved.at(pid.trim_start_matches('@'))).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "it runs on: {stat}");
}

#[test]
fn the_log_that_is_saved_is_whole_and_folds_to_what_was_known() {
    let own = backup(
        "own",
        "  source: {state: true}\n  repository: {local: @vault}\n  schedule: {every: 6h}\n",
    );
    let saved = Saved::new(&own);
    saved.run(&["apply"]).code(0);
    let target = saved.at("restored");
    saved.restic("vault", &["restore", "latest", "--target", target.to_str().unwrap()]);
    let segment = found(&target, "00000000000000000001.jsonl");
    let state = segment.parent().unwrap().parent().unwrap();
    let mut verify = program();
    verify.arg("--config").arg(saved.at("config.yaml")).arg("--state-dir").arg(state);
    Ended::of(verify.args(["log", "verify"]).output().unwrap()).code(0);
    let text = std::fs::read_to_string(&segment).unwrap();
    assert!(text.ends_with("}\n") && text.contains("\"step.started\""), "up to its own beginning");
    assert!(found(&target, "config.yaml").is_file() && found(&target, "HEAD").is_file());
}

/// The most a daemon may take to end, in the middle of a backup too.
const STOP_MAX: Duration = Duration::from_secs(10);
/// The most a daemon may take to begin; a healthy machine needs a second.
pub(super) const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_daemon_takes_snapshots_as_the_schedule_says_and_one_that_is_killed_leaves_it_whole() {
    let saved = Saved::new(&files().replace("every: 6h", "every: 2s"));
    let daemon = || {
        let mut run = saved.command(&["run"]);
        run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut first = daemon();
    let begun = Instant::now();
    // The log's folder is made by the first writer.
    while !saved.host.state().join("log").exists() {
        assert!(begun.elapsed() < SOON, "nothing began");
        std::thread::yield_now();
    }
    let mut follower = saved.command(&["log", "-f", "--type", "backup.taken"]);
    let mut follower = follower.stdout(Stdio::piped()).spawn().unwrap();
    let mut taken = BufReader::new(follower.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        assert!(taken.next().unwrap().unwrap().contains("backup/files"));
    }
    // Wherever it is: the next one begins where the log says.
    first.kill().unwrap();
    first.wait().unwrap();
    let mut second = daemon();
    for _ in 0..2 {
        assert!(taken.next().unwrap().unwrap().contains("backup/files"));
    }
    kill_process(Pid::from_raw(i32::try_from(second.id()).unwrap()).unwrap(), Signal::TERM)
        .unwrap();
    let asked = Instant::now();
    let ended = loop {
        if let Some(ended) = second.try_wait().unwrap() {
            break ended;
        }
        assert!(asked.elapsed() < STOP_MAX, "it does not end");
        std::thread::yield_now();
    };
    assert!(ended.success());
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert!(saved.restic("vault", &["check", "--read-data"]).contains("no errors were found"));
    saved.run(&["log", "verify"]).code(0);
}

#[test]
fn a_new_place_begins_anew_even_if_its_first_opening_fails() {
    let saved = Saved::new(&files());
    saved.run(&["apply"]).code(0);
    std::fs::rename(saved.at("secrets/vault"), saved.at("secrets/away")).unwrap();
    saved.publish(&files().replace("@vault", "@other"));
    saved.run(&["apply"]).code(5);
    std::fs::rename(saved.at("secrets/away"), saved.at("secrets/vault")).unwrap();
    let plan = saved.run(&["plan"]).out;
    assert!(!plan.contains("is gone"), "{plan}");
    saved.run(&["backup", "run", "files"]).code(0);
    saved.run(&["apply"]).code(0);
    assert_eq!(saved.snapshots("files").len(), 1);
    assert!(saved.at("other/config").is_file() && saved.at("vault/config").is_file());
}

/// Another repository is somebody's, in another place as in this one, until the commit says otherwise.
#[test]
fn another_repository_is_taken_only_where_the_commit_says_so() {
    let saved = Saved::new(&files());
    saved.run(&["apply"]).code(0);
    saved.restic("theirs", &["init"]);
    let elsewhere = files().replace("@vault", "@theirs");
    saved.publish(&elsewhere);
    let plan = saved.run(&["plan"]).out;
    assert!(plan.contains("lifecycle.adopt"), "{plan}");
    saved.run(&["apply"]);
    assert_eq!(saved.events("backup.opened"), 1);
    let adopted = elsewhere.replace("spec:\n  key", "lifecycle: {adopt: true}\nspec:\n  key");
    saved.publish(&adopted);
    saved.run(&["apply"]).code(0);
    assert_eq!((saved.snapshots("files").len(), saved.events("backup.taken")), (1, 2));

    // In the same place: what `trueup` shows of one is never read from the other.
    std::fs::rename(saved.at("theirs"), saved.at("away")).unwrap();
    saved.restic("theirs", &["init"]);
    saved.run(&["backup", "run", "files"]).code(0);
    saved.run(&["apply"]).code(5);
    let status = saved.run(&["status"]).out;
    let (_, id) = status.split_once("{id: \"").expect("it says the way out");
    let id = id.split_once('"').unwrap().0.to_owned();
    assert!(saved.run(&["backup", "ls", "files"]).code(5).err.contains(&id));
    saved.publish(&adopted.replace("@theirs}", &format!("@theirs, id: '{id}'}}")));
    saved.run(&["apply"]).code(0);
    assert!(saved.row("files")["repositoryId"].as_str().unwrap().starts_with(&id));
    assert_eq!(saved.snapshots("files").len(), 1);
}

#[test]
fn what_somebody_else_removed_is_told_and_checked_at_once_and_once() {
    let saved = Saved::new(&files().replace("readParts: 1", "schedule: {every: 1d}"));
    saved.run(&["apply"]).code(0);
    std::fs::write(saved.at("files/a"), "second").unwrap();
    saved.run(&["backup", "run", "files"]).code(0);
    saved.run(&["apply"]).code(0);
    let checks = || saved.events("backup.verified");
    assert_eq!(checks(), 1, "the next one is tomorrow");
    saved.restic("vault", &["forget", "--keep-last", "1", "--prune"]);
    // Whoever only restores something takes nothing from what the next job notices.
    let to = saved.at("restored").display().to_string();
    saved.run(&["backup", "restore", "files", "--to", &to]).code(0);
    saved.run(&["backup", "run", "files"]).code(0);
    saved.run(&["apply"]).code(0);
    let told = saved.run(&["log", "--type", "backup.taken"]).out;
    assert!(told.contains("somebody else removed 1 snapshot(s)"), "{told}");
    assert!(told.contains("somebody else pruned the repository"), "{told}");
    assert_eq!(checks(), 2, "it was looked at at once");
    let shown = saved.run(&["backup"]).out;
    assert!(!shown.contains("somebody else"), "the check found nothing of the kind:\n{shown}");
    saved.run(&["apply"]).code(0);
    saved.run(&["backup", "run", "files"]).code(0);
    saved.run(&["apply"]).code(0);
    assert_eq!(checks(), 2, "once for each time");
}

#[test]
fn a_check_proves_nothing_where_the_last_complete_snapshot_was_removed() {
    let saved = Saved::new(&files());
    saved.run(&["apply"]).code(0);
    assert_eq!(saved.row("files")["reliedOn"], true);
    // The next one is not complete, and all there is once somebody else removed the first.
    saved.publish(&files().replace("[@files]", "[@files, /proc/1/mem]"));
    saved.run(&["backup", "run", "files"]).code(0);
    saved.run(&["apply"]);
    assert_eq!(saved.snapshots("files").len(), 2);
    let complete = saved.snapshots("files")[0]["id"].as_str().unwrap().to_owned();
    saved.restic("vault", &["forget", &complete]);
    // The next job notices, and the check that comes of it looks for it.
    let row = (0..10).find_map(|_| {
        saved.run(&["backup", "run", "files"]).code(0);
        saved.run(&["apply"]);
        Some(saved.row("files")).filter(|row| row["health"] == "failed")
    });
    let row = row.expect("a check that finds that it is gone");
    assert_eq!(row["reliedOn"], false, "{row}");
    let told = saved.run(&["log", "--type", "backup.failed"]).out;
    assert!(told.contains(&complete[..8]) && told.contains("is not in"), "{told}");
}

/// A backup of a program that never ends.
fn endless(more: &str) -> String {
    backup(
        "dump",
        &format!(
            "  source: {{command: {{argv: [/bin/sleep, '1000'], file: all}}}}\n  repository: \
             {{local: @vault}}\n  schedule: {{every: 1h}}\n{more}"
        ),
    )
}

#[test]
fn a_job_takes_no_longer_than_it_may() {
    let saved = Saved::new(&endless("  limits: {time: 1s}\n"));
    saved.allow("{argv: [/bin/sleep, '1000']}");
    let begun = Instant::now();
    saved.run(&["apply"]).code(5);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let status = saved.run(&["status"]).out;
    assert!(status.contains("longer than 1 s") && status.contains("limits.time"), "{status}");
}

#[test]
fn an_operator_ends_a_job_and_the_schedule_goes_on_from_there() {
    let saved = Saved::new(&endless(""));
    saved.allow("{argv: [/bin/sleep, '1000']}");
    let mut run = saved.command(&["run"]);
    let mut daemon = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !saved.host.state().join("log").exists() {
        assert!(begun.elapsed() < SOON, "nothing began");
        std::thread::yield_now();
    }
    let mut follower = saved.command(&["log", "-f", "--type", "step.*"]);
    let mut follower = follower.stdout(Stdio::piped()).spawn().unwrap();
    let mut steps = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(steps.any(|line| line.contains("step.started") && line.contains("back up")));
    saved.run(&["backup", "cancel", "dump"]).code(0);
    let ended = steps.find(|line| line.contains("step.failed")).unwrap();
    assert!(ended.contains("an operator ended it"), "{ended}");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    follower.kill().unwrap();
    follower.wait().unwrap();
    let row = saved.row("dump");
    assert!(row["last"].is_null() && row["nextRun"].is_string(), "{row}");
    // Nothing is due before that.
    let plan = saved.run(&["plan"]).out;
    assert!(!plan.contains("back up"), "{plan}");
    assert_eq!(saved.events("operator.backup_cancelled"), 1);
    assert!(saved.run(&["backup", "cancel", "dump"]).code(4).err.contains("nothing is being done"));
}
