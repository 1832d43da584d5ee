//! Programs before and after a snapshot, and a real PostgreSQL brought back to a moment.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::backup::{SOON, Saved, backup, found};

/// A backup whose hooks write down that they ran, in `@hooks.log`.
fn hooked(before: &str, source: &str, schedule: &str) -> String {
    backup(
        "files",
        &format!(
            "  source: {source}\n  repository: {{local: @vault}}\n{schedule}  hooks:\n    before:\n    \
             - argv: [@hook, before]\n    - argv: [{before}]\n    after:\n    - argv: [@hook, \
             after]\n    - argv: [@hook, last]\n"
        ),
    )
}

const FILES: &str = "{paths: [@files]}";
const EVERY: &str = "  schedule: {every: 6h}\n";

/// A host that may run the hook.
fn with_hook(documents: &str) -> Saved {
    let saved = Saved::new(documents);
    let hook = saved.at("hook");
    let script = format!(
        "#!/bin/sh\necho \"$1 $TRUEUP_BACKUP $TRUEUP_OUTCOME\" >>{}\n[ \"$1\" != after ] || exit 3\n",
        saved.at("hooks.log").display()
    );
    std::fs::write(&hook, script).unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for word in ["before", "after", "last"] {
        saved.allow(&format!("{{argv: [{}, {word}]}}", hook.display()));
    }
    saved.allow("/bin/true, /bin/false, {argv: [/bin/sleep, '100']}");
    saved
}

/// What the hooks wrote down since it was last asked.
fn ran(saved: &Saved) -> Vec<String> {
    let log = saved.at("hooks.log");
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    std::fs::write(&log, "").unwrap();
    text.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn hooks_run_around_a_snapshot_and_after_it_whatever_came_of_it() {
    let saved = with_hook(&hooked("/bin/true", FILES, EVERY));
    saved.run(&["apply"]).code(0);
    assert_eq!(ran(&saved), ["before files", "after files taken", "last files taken"]);
    // One after it failed: the snapshot is as good as ever, and it is told.
    let shown = saved.run(&["backup"]).out;
    assert!(shown.contains("hook") && shown.contains("exit status: 3"), "{shown}");
    assert_eq!(saved.snapshots("files").len(), 1);

    saved.publish(&hooked("/bin/false", FILES, EVERY));
    saved.run(&["backup", "run", "files"]).code(0);
    saved.run(&["apply"]).code(5);
    // It is tried again with the next look, which something else may bring at once.
    let failed = ran(&saved);
    assert!(!failed.is_empty());
    for once in failed.chunks(3) {
        assert_eq!(once, ["before files", "after files failed", "last files failed"]);
    }
    assert!(saved.run(&["status"]).out.contains("no snapshot was taken"));
    // What is not allowed stops it before anything is run.
    saved.publish(&hooked("/bin/ls", FILES, EVERY));
    saved.run(&["apply"]).code(5);
    assert!(saved.run(&["status"]).out.contains("backup.programs"));
    assert_eq!((ran(&saved), saved.snapshots("files").len()), (vec![], 1));
}

#[test]
fn hooks_after_a_snapshot_run_at_the_next_start_if_the_daemon_was_killed() {
    let saved = killed_in_a_snapshot();
    saved.publish(&hooked("/bin/true", FILES, ""));
    saved.run(&["apply"]).code(0);
    let what = [
        "after files interrupted",
        "last files interrupted",
        "before files",
        "after files taken",
        "last files taken",
    ];
    assert_eq!(ran(&saved), what);
    assert_eq!(saved.snapshots("files").len(), 1);
}

/// A daemon that is killed while it takes a snapshot whose hooks have stopped something.
fn killed_in_a_snapshot() -> Saved {
    let endless = "{command: {argv: [/bin/sleep, '100'], file: all}}";
    let saved = with_hook(&hooked("/bin/true", endless, EVERY));
    let mut run = saved.command(&["run"]);
    let mut daemon = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !std::fs::read_to_string(saved.at("hooks.log")).unwrap_or_default().contains("before") {
        assert!(begun.elapsed() < SOON, "nothing began");
        std::thread::yield_now();
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert_eq!(ran(&saved), ["before files"]);
    saved
}

#[test]
fn hooks_after_a_snapshot_run_also_where_the_backup_is_gone_from_the_commit() {
    let saved = killed_in_a_snapshot();
    saved.publish("");
    saved.run(&["apply"]).code(0);
    assert_eq!(ran(&saved), ["after files interrupted", "last files interrupted"]);
    let told = saved.run(&["log"]).out;
    assert!(told.contains("hook") && told.contains("exit status: 3"), "{told}");
    saved.run(&["apply"]).code(0);
    assert!(ran(&saved).is_empty(), "once");
}

#[test]
fn a_hook_that_the_host_no_longer_runs_is_told_once_where_its_backup_is_gone() {
    let saved = killed_in_a_snapshot();
    let config = std::fs::read_to_string(saved.at("config.yaml")).unwrap();
    let last = format!("{{argv: [{}, last]}}, ", saved.at("hook").display());
    assert!(config.contains(&last), "{config}");
    std::fs::write(saved.at("config.yaml"), config.replace(&last, "")).unwrap();
    saved.publish("");
    saved.run(&["apply"]).code(0);
    assert_eq!(ran(&saved), ["after files interrupted"]);
    let told = || saved.run(&["log"]).out.matches("`backup.programs` does not allow it").count();
    assert_eq!(told(), 1);
    saved.run(&["apply"]).code(0);
    assert_eq!((told(), ran(&saved).len()), (1, 0));
}

/// A cluster of Debian's PostgreSQL of its own, for the user `postgres`.
struct Cluster {
    root: tempfile::TempDir,
    port: u16,
}

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

impl Cluster {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cluster = Self { root, port };
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(cluster.root.path(), open).unwrap();
        for folder in ["data", "wal", "socket", "again"] {
            std::fs::create_dir(cluster.at(folder)).unwrap();
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            std::fs::set_permissions(cluster.at(folder), private).unwrap();
            cluster.give(&cluster.at(folder));
        }
        cluster.program("initdb", &["-D", cluster.text("data").as_str(), "-A", "peer", "-N"]);
        let archive = format!(
            "archive_mode = on\narchive_command = 'cp %p {}/%f'\n",
            cluster.at("wal").display()
        );
        cluster.start("data", &archive);
        cluster
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn text(&self, path: &str) -> String {
        self.at(path).display().to_string()
    }

    /// Makes it the cluster's user's.
    fn give(&self, path: &Path) {
        let done = Command::new("chown").arg("-R").arg("postgres:postgres").arg(path).status();
        assert!(done.unwrap().success());
    }

    fn program(&self, name: &str, words: &[&str]) -> String {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups", "--"]);
        command.arg(format!("{PROGRAMS}/{name}")).args(words).current_dir("/");
        let said = self.at(&format!("{name}.log"));
        // A server keeps what it inherits open: a pipe would never end.
        command.stdin(Stdio::null()).stderr(std::fs::File::create(&said).unwrap());
        if name == "pg_ctl" {
            command.stdout(Stdio::null());
        }
        let output = command.output().unwrap();
        let errors = || std::fs::read_to_string(&said).unwrap();
        assert!(output.status.success(), "{name} {words:?}: {}", errors());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn start(&self, data: &str, more: &str) {
        let conf = self.at(data).join("postgresql.conf");
        let text = std::fs::read_to_string(&conf).unwrap();
        let own = format!(
            "{text}\nport = {}\nlisten_addresses = ''\nunix_socket_directories = '{}'\n{more}",
            self.port,
            self.text("socket")
        );
        std::fs::write(&conf, own).unwrap();
        let log = self.text("server.log");
        std::fs::write(&log, "").unwrap();
        self.give(Path::new(&log));
        let data = self.text(data);
        self.program("pg_ctl", &["start", "-w", "-t", "60", "-D", &data, "-l", &log]);
    }

    fn stop(&self, data: &str) {
        let data = self.text(data);
        self.program("pg_ctl", &["stop", "-w", "-m", "fast", "-D", &data]);
    }

    fn sql(&self, text: &str) -> String {
        let (socket, port) = (self.text("socket"), self.port.to_string());
        self.program("psql", &["-X", "-At", "-h", &socket, "-p", &port, "-c", text, "postgres"])
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for data in ["data", "again"] {
            if self.at(data).join("postmaster.pid").exists() {
                let mut stop = Command::new("setpriv");
                stop.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups", "--"]);
                stop.arg(format!("{PROGRAMS}/pg_ctl")).args(["stop", "-m", "immediate", "-D"]);
                stop.arg(self.at(data)).stdout(Stdio::null()).status().unwrap();
            }
        }
    }
}

#[test]
fn a_cluster_of_postgresql_comes_back_as_it_was_at_a_moment() {
    if !Path::new(PROGRAMS).exists() {
        eprintln!("{PROGRAMS} is not there (Debian: postgresql-15): PostgreSQL is not tested");
        return;
    }
    let cluster = Cluster::new();
    cluster.sql("create table t as select generate_series(1, 1000) as n");
    let socket = cluster.text("socket");
    let base = |name: &str, format: &str| {
        backup(
            name,
            &format!(
                "  source: {{postgresql: {{format: {format}, socket: {socket}, port: {}, programs: \
                 {PROGRAMS}}}}}\n  repository: {{local: @vault}}\n  schedule: {{every: 6h}}\n",
                cluster.port
            ),
        )
    };
    let wal = backup(
        "wal",
        &format!(
            "  source: {{paths: [{}]}}\n  repository: {{local: @vault}}\n  schedule: {{every: 6h}}\n",
            cluster.text("wal")
        ),
    );
    let saved = Saved::new(&(base("db", "base") + &base("sql", "dump") + &wal));
    saved.run(&["apply"]).code(0);

    // Changes after the base backup; the moment; and what should not have happened.
    cluster.sql("insert into t select generate_series(1001, 1500)");
    let moment = cluster.sql("select clock_timestamp()");
    cluster.sql("drop table t");
    let last = cluster.sql("select pg_walfile_name(pg_switch_wal())");
    let begun = Instant::now();
    while !cluster.at("wal").join(&last).exists()
        || cluster.sql("select last_archived_wal from pg_stat_archiver") < last
    {
        assert!(begun.elapsed() < SOON, "the WAL is not archived");
    }
    saved.run(&["backup", "run", "wal"]).code(0);
    saved.run(&["apply"]).code(0);
    cluster.stop("data");

    for (name, to) in [("db", "base"), ("wal", "wal"), ("sql", "sql")] {
        let to = saved.at(&format!("back-{to}"));
        saved.run(&["backup", "restore", name, "--to", to.to_str().unwrap()]).code(0);
    }
    let tar = found(&saved.at("back-base"), "base.tar");
    let untar = Command::new("tar").arg("-xf").arg(tar).arg("-C").arg(cluster.at("again")).status();
    assert!(untar.unwrap().success());
    let archive = cluster.at("archive");
    let restored = found(&saved.at("back-wal"), &last).parent().unwrap().to_owned();
    let copied = Command::new("cp").arg("-r").arg(restored).arg(&archive).status();
    assert!(copied.unwrap().success());
    cluster.give(&cluster.at("again"));
    cluster.program("pg_verifybackup", &["-n", &cluster.text("again")]);
    std::fs::write(cluster.at("again/recovery.signal"), "").unwrap();
    cluster.give(&cluster.at("again"));
    cluster.give(&archive);
    let recovery = format!(
        "restore_command = 'cp {}/%f %p'\nrecovery_target_time = '{moment}'\n\
         recovery_target_action = promote\narchive_mode = off\n",
        archive.display()
    );
    cluster.start("again", &recovery);
    let begun = Instant::now();
    while cluster.sql("select pg_is_in_recovery()") != "f" {
        assert!(begun.elapsed() < SOON, "it recovers for ever");
    }
    assert_eq!(cluster.sql("select count(*), max(n) from t"), "1500|1500");
    cluster.stop("again");
    let sql = std::fs::read_to_string(found(&saved.at("back-sql"), "all.sql")).unwrap();
    assert!(sql.contains("CREATE TABLE public.t") && sql.contains("PostgreSQL database dump"));
}
