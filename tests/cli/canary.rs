//! Secrets stay where they were put: a daemon is given one in every place that takes one, works and
//! fails with them, and then every byte it wrote anywhere is searched for them.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Ended, Host, program};
use crate::support::git_repo::GitRepo;
use crate::support::git_server::{self, Https};

const PATIENCE: Duration = Duration::from_secs(60);

/// Refused by the server.
const WRONG_TOKEN: &str = "canary-wrong-token-4d7e";
/// In the environment, where nothing reads it.
const ENVIRONMENT: &str = "canary-environment-91c2";
/// In the URL of a proxy, as programs take it from the environment.
const PROXY: &str = "canary-proxy-5e0b";
/// In a guest's user data.
const PASSWORD: &str = "canary-password-77aa";
/// In a field that is wrong, so that a message is about it.
const MISPLACED: &str = "canary-misplaced-c03f";
/// In an image's URL, which is refused.
const LOGIN: &str = "canary-login-18bd";

const REPOSITORY: &str = "apiVersion: trueup/v1\nkind: Repository\nmetadata: {name: test}\n\
                          spec: {environments: {lab: {hosts: [node1]}}}\n";

struct Nest {
    host: Host,
    repo: GitRepo,
    https: Https,
    child: Child,
    /// Everything said by commands and over the socket.
    said: Vec<u8>,
}

impl Nest {
    fn new() -> Self {
        let (host, repo) = (Host::new(), GitRepo::new());
        repo.write("trueup.yaml", REPOSITORY);
        let documents = documents(host.path());
        repo.publish("environments/lab/all.yaml", &documents);
        let https = git_server::https(repo.root());
        let at = host.path().display();
        let config = format!(
            "repository:\n  url: {}\n  caFile: {}\n  credentials: {{tokenFile: {at}/token}}\n  \
             poll: {{interval: 1s}}\nhost: node1\nstateDirectory: {at}/state\n\
             socket: {at}/t.sock\nlibvirt: {{uri: 'test:///default'}}\naccelerator: tcg\n",
            https.url(),
            https.ca.display()
        );
        fs::write(host.path().join("config.yaml"), config).unwrap();
        let child = {
            let out = fs::File::create(host.path().join("daemon.out")).unwrap();
            let err = fs::File::create(host.path().join("daemon.err")).unwrap();
            write_token(host.path(), https.token);
            let mut command = in_environment(host.path(), &["run", "-vvv"]);
            command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap()
        };
        Self { host, repo, https, child, said: Vec::new() }
    }

    fn run(&mut self, words: &[&str]) -> Ended {
        let output = in_environment(self.host.path(), words).output().unwrap();
        self.said.extend_from_slice(&output.stdout);
        self.said.extend_from_slice(&output.stderr);
        Ended::of(output)
    }

    /// Says one line to the control socket and keeps the whole answer.
    fn ask(&mut self, request: &str) {
        let stream = UnixStream::connect(self.host.path().join("t.sock")).unwrap();
        (&stream).write_all(format!("{request}\n").as_bytes()).unwrap();
        for line in BufReader::new(&stream).lines() {
            self.said.extend_from_slice(line.unwrap().as_bytes());
        }
    }

    /// Waits until the log holds an event of this type after `seq`; its own seq.
    fn await_event(&mut self, type_: &str, seq: u64) -> u64 {
        let begun = Instant::now();
        loop {
            let log = self.run(&["log", "--type", type_, "-o", "json"]).out;
            let last = log.lines().last().map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap()
            });
            if let Some(found) = last.filter(|found| *found > seq) {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "no {type_}: {}", self.run(&["log"]).out);
        }
    }

    fn everything(&mut self) {
        for form in ["table", "json", "yaml", "markdown"] {
            for words in ["plan", "status", "drift", "state", "log", "replay"] {
                self.run(&[words, "-o", form]);
            }
        }
        self.run(&["why", "vm/web"]);
        self.run(&["apply", "-vvv"]);
        let look = r#"{"color":true,"width":80}"#;
        self.ask(r#"{"type":"known"}"#);
        self.ask(&format!(r#"{{"type":"plan","value":{look}}}"#));
        self.ask(&format!(r#"{{"type":"apply","value":{{"look":{look},"approve":null}}}}"#));
        self.ask(r#"{"type":"nonsense"}"#);
    }

    fn stop(&mut self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Nest {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

/// The program with a secret wherever an environment may hold one.
fn in_environment(at: &Path, words: &[&str]) -> Command {
    let mut command = program();
    command.arg("--config").arg(at.join("config.yaml")).args(words);
    command.env("GITHUB_TOKEN", ENVIRONMENT).env("TRUEUP_PASSWORD", ENVIRONMENT);
    let proxy = format!("http://ann:{PROXY}@127.0.0.1:9");
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env(name, &proxy);
    }
    command.env("no_proxy", "localhost").env("NO_PROXY", "localhost");
    command
}

fn write_token(at: &Path, token: &str) {
    let path = at.join("token");
    fs::write(&path, format!("{token}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// What is converged, and what fails: a network, a guest with a password, and an image behind a
/// proxy that is not there.
fn documents(at: &Path) -> String {
    format!(
        "apiVersion: trueup/v1\nkind: Environment\nmetadata: {{name: lab}}\nspec:\n  \
         storagePools: [{{name: fast, path: {}/pool}}]\n\
         ---\napiVersion: trueup/v1\nkind: Policy\nmetadata: {{name: canary}}\n\
         spec: {{rules: {{trueup.secrets: {{level: advisory}}}}}}\n\
         ---\napiVersion: trueup/v1\nkind: Network\nmetadata: {{name: alpha}}\n\
         spec: {{mode: isolated, cidr: 10.199.1.0/24}}\n\
         ---\napiVersion: trueup/v1\nkind: Image\nmetadata: {{name: base}}\n\
         spec: {{source: 'http://images.invalid/base.qcow2', sha256: {}}}\n\
         ---\napiVersion: trueup/v1\nkind: VirtualMachine\nmetadata: {{name: web}}\nspec:\n  \
         cpus: 1\n  memory: 64MiB\n  accelerator: tcg\n  cloudInit:\n    userData:\n      \
         password: {PASSWORD}\n      chpasswd: {{expire: false}}\n",
        at.display(),
        "ab".repeat(32)
    )
}

/// Every file below `folder` as text, one that is none with replacements where it is none: the
/// secrets here are plain letters.
fn texts(folder: &Path, left_out: &[PathBuf]) -> Vec<(PathBuf, String)> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if left_out.contains(&path) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                let bytes = fs::read(&path).unwrap();
                found.push((path, String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
    }
    found
}

/// The files that hold `needle`.
fn holding<'a>(texts: &'a [(PathBuf, String)], needle: &str) -> Vec<&'a Path> {
    let holding = texts.iter().filter(|(_, text)| text.contains(needle));
    holding.map(|(path, _)| path.as_path()).collect()
}

/// The forms in which a secret travels: itself, and what basic authentication makes of it.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    for user in ["x-access-token", "ann"] {
        forms.push(base64(format!("{user}:{secret}").as_bytes()));
    }
    forms
}

/// RFC 4648, section 4, without padding: the last digits depend on what follows.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |n: u32| char::from(DIGITS[(n & 63) as usize]);
    let whole = bytes.chunks_exact(3).flat_map(|three| {
        let n = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
        [digit(n >> 18), digit(n >> 12), digit(n >> 6), digit(n)]
    });
    whole.collect()
}

#[test]
fn no_secret_is_in_any_byte_that_was_written() {
    if !git_server::have("lighttpd") || !git_server::have("mod_openssl.so") {
        return;
    }
    let mut nest = Nest::new();
    let synced = nest.await_event("resource.synced", 0);
    let failed = nest.await_event("step.failed", 0);
    nest.everything();

    // A commit with a mistake beside a secret, and one with a login in a URL.
    let mistake = format!(
        "apiVersion: trueup/v1\nkind: VirtualMachine\nmetadata: {{name: two}}\nspec:\n  cpus: 1\n  \
         memory: 64MiB\n  cloudInit: {{users: {{ann: {{password: [{MISPLACED}]}}}}}}\n---\n\
         apiVersion: trueup/v1\nkind: Image\nmetadata: {{name: other}}\n\
         spec: {{source: 'https://ann:{LOGIN}@images.invalid/x.qcow2', sha256: {}}}\n",
        "ab".repeat(32)
    );
    nest.repo.publish("environments/lab/two.yaml", &mistake);
    nest.await_event("spec.rejected", failed.max(synced));
    nest.everything();

    // A token that the server refuses.
    write_token(nest.host.path(), WRONG_TOKEN);
    nest.await_event("source.unreachable", failed);
    nest.everything();
    nest.stop();
    nest.run(&["status"]);
    nest.run(&["apply", "-vvv"]);
    nest.run(&["log", "verify"]).code(0);

    let said = nest.host.path().join("said");
    fs::write(&said, &nest.said).unwrap();
    let pool = nest.host.path().join("pool");
    let left_out = [nest.host.path().join("token"), pool];
    let texts = texts(nest.host.path(), &left_out);
    let mark = holding(&texts, "network/alpha");
    assert!(mark.iter().any(|path| path.extension().is_some_and(|e| e == "jsonl")), "{mark:?}");
    assert!(mark.contains(&said.as_path()), "the search finds what is there: {mark:?}");
    let secrets = [nest.https.token, WRONG_TOKEN, ENVIRONMENT, PROXY, PASSWORD, MISPLACED, LOGIN];
    for secret in secrets {
        for form in forms(secret) {
            let found = holding(&texts, &form);
            assert!(found.is_empty(), "{secret} is in {found:?}");
        }
    }
}
