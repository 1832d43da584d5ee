//! Backups to other machines: a server of restic's protocol and one of SFTP. What is logged in with is
//! in nothing that is said, a server that is away is one event, and nobody else waits for it.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::backup::{SOON, Saved, backup, found};

/// What servers are logged in to with.
pub(super) const LOGIN: &str = "canary-of-the-login";

pub(super) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Runs until it is dropped; returns once somebody listens.
fn serve(command: &mut Command, port: u16) -> Server {
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut server = Server(child);
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(server.0.try_wait().unwrap().is_none(), "the server ended");
        assert!(begun.elapsed() < SOON, "nobody listens");
        std::thread::yield_now();
    }
    server
}

/// `rclone serve restic` over a folder.
pub(super) fn rest(folder: &Path, port: u16) -> Server {
    std::fs::create_dir_all(folder).unwrap();
    let mut rclone = Command::new("rclone");
    rclone.args(["serve", "restic", "--config", "", "--addr", &format!("127.0.0.1:{port}")]);
    rclone.arg(folder).env("RCLONE_USER", "me").env("RCLONE_PASS", LOGIN);
    serve(&mut rclone, port)
}

fn to_rest(port: u16, more: &str) -> String {
    backup(
        "files",
        &format!(
            "  source: {{paths: [@files]}}\n  repository: {{rest: {{url: \
             'http://127.0.0.1:{port}/', credentials: login}}}}\n{more}"
        ),
    )
}

#[test]
fn a_server_of_restics_protocol_takes_and_gives_back_and_nothing_says_the_login() {
    let port = free_port();
    let more = "  schedule: {every: 6h}\n  retention: {keep: {last: 2}}\n";
    let saved = Saved::new(&to_rest(port, more));
    saved.secret("login", &format!("me:{LOGIN}"));
    let server = rest(&saved.at("there"), port);
    saved.run(&["apply"]).code(0);
    let row = saved.row("files");
    assert_eq!(row["repository"], format!("rest:http://127.0.0.1:{port}"));
    assert_eq!(saved.snapshots("files").len(), 1);
    assert!(saved.restic("there", &["check", "--read-data"]).contains("no errors were found"));
    let to = saved.at("restored");
    saved.run(&["backup", "restore", "files", "--to", to.to_str().unwrap()]).code(0);
    assert_eq!(std::fs::read(found(&to, "a")).unwrap(), b"first");

    // A repository that others use is taken only where the commit says so.
    saved.restic("theirs", &["init"]);
    saved.restic("theirs", &["backup", saved.at("files").to_str().unwrap()]);
    let their_port = free_port();
    let theirs = rest(&saved.at("theirs"), their_port);
    saved.publish(&to_rest(their_port, more));
    saved.run(&["apply"]).code(5);
    let status = saved.run(&["status"]).out;
    let (_, id) = status.split_once("{id: \"").expect("it says the way out");
    let id = id.split_once('"').unwrap().0.to_owned();
    assert_eq!(saved.events("backup.opened"), 1);
    let named = to_rest(their_port, more).replace("{rest:", &format!("{{id: '{id}', rest:"));
    saved.publish(&named);
    saved.run(&["apply"]).code(0);
    assert_eq!((saved.events("backup.opened"), saved.snapshots("files").len()), (2, 1));
    drop((server, theirs));
    let ended = saved.run(&["backup", "ls", "files"]).code(5);
    assert!(ended.err.contains("cannot be reached"), "{}", ended.err);
    for words in [&["log", "-o", "json"][..], &["state"], &["backup"], &["plan"], &["status"]] {
        let ended = saved.run(words);
        assert!(!ended.out.contains(LOGIN) && !ended.err.contains(LOGIN), "{words:?}");
    }
}

#[test]
fn a_server_that_is_away_is_one_event_and_nobody_else_waits_for_it() {
    let port = free_port();
    let local = backup(
        "beside",
        "  source: {paths: [@files]}\n  repository: {local: @vault}\n  schedule: {every: 2s}\n",
    );
    let more = "  schedule: {every: 2s}\n  objectives: {rpo: 5s}\n";
    let saved = Saved::new(&(to_rest(port, more) + &local));
    saved.secret("login", &format!("me:{LOGIN}"));
    saved.configure("limits: {resync: 1s}\n");
    let server = rest(&saved.at("there"), port);
    saved.run(&["apply"]).code(0);
    let mut run = saved.command(&["run"]);
    let mut daemon = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut follower = saved.command(&["log", "-f"]);
    let mut follower = follower.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut until = |kind: &str, of: &str| {
        let said = |line: &String| line.contains(kind) && line.contains(of);
        lines.find(said).unwrap_or_else(|| panic!("no {kind} of {of}"))
    };
    until("backup.taken", "backup/files");
    drop(server);
    // The snapshot may become too old while it is still being tried.
    until("resource.unobservable", "backup/files");
    let begun = Instant::now();
    while saved.events("backup.missed") == 0 {
        assert!(begun.elapsed() < SOON, "it is not told");
    }
    for _ in 0..3 {
        until("backup.taken", "backup/beside");
    }
    let drift = saved.run(&["drift"]).out;
    assert!(drift.contains("backup/files"), "{drift}");
    assert_eq!(saved.events("resource.unobservable"), 1);
    assert!(saved.events("step.failed") <= 2, "no step for each try");
    let _server = rest(&saved.at("there"), port);
    until("resource.observable", "backup/files");
    until("backup.taken", "backup/files");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert!(saved.restic("there", &["check"]).contains("no errors were found"));
}

/// A server of SFTP that the secret `login` logs in to; its user and its key.
pub(super) fn sftp(saved: &Saved, port: u16) -> (Server, String, String) {
    for key in ["host_key", "secrets/login"] {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(saved.at(key));
        assert!(keygen.status().unwrap().success());
    }
    std::fs::rename(saved.at("secrets/login.pub"), saved.at("authorized")).unwrap();
    // Where sshd locks its unprivileged half into; Debian makes it when the service starts.
    std::fs::create_dir_all("/run/sshd").unwrap();
    let mut sshd = Command::new("/usr/sbin/sshd");
    sshd.args(["-D", "-f", "/dev/null", "-p", &port.to_string()]);
    for option in [
        format!("HostKey={}", saved.at("host_key").display()),
        format!("AuthorizedKeysFile={}", saved.at("authorized").display()),
        "PidFile=none".into(),
        "ListenAddress=127.0.0.1".into(),
        "StrictModes=no".into(),
        "UsePAM=no".into(),
        "PermitRootLogin=yes".into(),
        "Subsystem=sftp internal-sftp".into(),
    ] {
        sshd.args(["-o", &option]);
    }
    let server = serve(&mut sshd, port);
    let user = Command::new("id").arg("-un").output().unwrap();
    let user = String::from_utf8(user.stdout).unwrap().trim().to_owned();
    let host_key = std::fs::read_to_string(saved.at("host_key.pub")).unwrap().trim().to_owned();
    (server, user, host_key)
}

#[test]
fn an_sftp_server_is_known_by_its_key_and_logged_in_to_with_a_secret() {
    let port = free_port();
    let saved = Saved::new("");
    let (_server, user, host_key) = sftp(&saved, port);
    let spec = format!(
        "  source: {{paths: [@files]}}\n  repository:\n    sftp:\n      host: 127.0.0.1\n      port: \
         {port}\n      user: {}\n      path: @there\n      identity: login\n      hostKeys: ['{}']\n  \
         schedule: {{every: 6h}}\n",
        user, host_key
    );
    saved.publish(&backup("files", &spec));
    saved.run(&["apply"]).code(0);
    assert_eq!(saved.snapshots("files").len(), 1);
    assert!(saved.restic("there", &["check", "--read-data"]).contains("no errors were found"));
}
