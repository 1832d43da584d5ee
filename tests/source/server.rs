//! Remotes that are not files: https with a token, ssh, and ones that do not answer.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use trueup::source::{Credentials, Mirror, MirrorConfig, SourceError};

use super::config;
use crate::support::git_repo::GitRepo;
use crate::support::git_server::{self, Dripping, Https, Silent, have};

fn token_file(dir: &Path, token: &str) -> Credentials {
    let path = dir.join("token");
    fs::write(&path, format!("{token}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    Credentials::File { username: "x-access-token".into(), path }
}

fn open(config: MirrorConfig) -> Mirror {
    Mirror::open_or_create(config).unwrap()
}

#[test]
fn https_with_a_token_and_our_own_authority() {
    if !have("lighttpd") || !have("mod_openssl.so") {
        return;
    }
    let repo = GitRepo::new();
    let head = repo.publish("trueup.yaml", "a: 1\n");
    let https = git_server::https(repo.root());
    let dir = tempfile::tempdir().unwrap();
    let mut right = config(https.url(), dir.path());
    right.ca_file = Some(https.ca.clone());
    right.credentials = token_file(dir.path(), https.token);
    assert_eq!(https.user, "x-access-token");

    let mirror = open(right.clone());
    assert_eq!(mirror.remote_head().unwrap(), head);
    assert_eq!(mirror.fetch().unwrap().head, head);
    let second = repo.publish("trueup.yaml", "a: 2\n");
    assert_eq!(mirror.fetch().unwrap().head, second, "a later fetch is incremental");
    let written = fs::read_to_string(right.directory.join("config")).unwrap();
    assert!(!written.contains(https.token), "the token is not kept in the mirror");

    token_file(dir.path(), "wr0ng-t0ken");
    let error = mirror.fetch().unwrap_err();
    assert!(matches!(error, SourceError::Denied { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("wr0ng-t0ken"), "{error:?}");
    token_file(dir.path(), https.token);
    assert_eq!(mirror.fetch().unwrap().head, second, "a rotated token needs no restart");
    drop(mirror);

    let mut none = right.clone();
    none.credentials = Credentials::None;
    let error = open(none).fetch().unwrap_err();
    assert!(matches!(error, SourceError::Denied { .. }), "{error:?}");
    assert!(error.to_string().contains("none is configured"), "{error}");

    let mut gone = right.clone();
    gone.credentials =
        Credentials::File { username: "x".into(), path: dir.path().join("no-such-file") };
    let error = open(gone).fetch().unwrap_err();
    assert!(matches!(error, SourceError::Credential { .. }), "{error:?}");

    let mut stranger = right;
    stranger.ca_file = None;
    let error = open(stranger).fetch().unwrap_err();
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[test]
fn ssh_with_a_key_and_a_known_host() {
    if !have("sshd") {
        return;
    }
    let repo = GitRepo::new();
    let head = repo.publish("trueup.yaml", "a: 1\n");
    let ssh = git_server::ssh();
    let dir = tempfile::tempdir().unwrap();
    let url = format!("ssh://root@localhost:{}{}", ssh.server.port, repo.bare().display());
    let mut right = config(url, dir.path());
    right.ssh.identity = Some(ssh.identity.clone());
    right.ssh.known_hosts = Some(ssh.known_hosts.clone());
    let mirror = open(right.clone());
    assert_eq!(mirror.remote_head().unwrap(), head);
    assert_eq!(mirror.fetch().unwrap().head, head);
    drop(mirror);

    let unknown = ssh.dir.path().join("empty");
    fs::write(&unknown, "").unwrap();
    let mut stranger = right.clone();
    stranger.ssh.known_hosts = Some(unknown);
    let error = open(stranger).fetch().unwrap_err();
    assert!(matches!(error, SourceError::Denied { .. }), "{error:?}");
    assert!(error.to_string().contains("Host key verification failed"), "{error}");

    let mut other = right;
    other.ssh.identity = Some(ssh.dir.path().join("host"));
    let error = open(other).fetch().unwrap_err();
    assert!(error.to_string().contains("Permission denied"), "{error}");
}

#[test]
fn a_server_that_never_answers_ends_at_the_deadline() {
    let silent = Silent::new();
    for scheme in ["http", "https"] {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("{scheme}://127.0.0.1:{}/r.git", silent.port());
        let mut config = config(url, dir.path());
        config.deadline = Duration::from_millis(700);
        let mirror = open(config);
        let started = Instant::now();
        let error = mirror.fetch().unwrap_err();
        let took = started.elapsed();
        assert!(
            matches!(error, SourceError::Deadline { .. } | SourceError::Unreachable { .. }),
            "{error:?}"
        );
        assert!(error.is_transient());
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
}

#[test]
fn a_refused_connection_and_an_unknown_host_are_unreachable() {
    let dir = tempfile::tempdir().unwrap();
    let closed = git_server::free_port();
    let urls = [format!("http://127.0.0.1:{closed}/r.git"), "https://host.invalid/r.git".into()];
    for (n, url) in urls.into_iter().enumerate() {
        let error = open(config(url.clone(), &dir.path().join(n.to_string()))).fetch().unwrap_err();
        assert!(matches!(error, SourceError::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains(&url), "{error}");
    }
}

#[test]
fn a_server_that_drips_ends_at_the_deadline_and_is_not_asked_for_ever() {
    let dripping = Dripping::new();
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(format!("http://127.0.0.1:{}/r.git", dripping.port), dir.path());
    config.deadline = Duration::from_millis(600);
    let mirror = open(config);
    let started = Instant::now();
    for _ in 0..4 {
        let error = mirror.fetch().unwrap_err();
        assert!(matches!(error, SourceError::Deadline { .. }), "{error:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let error = mirror.fetch().unwrap_err();
    assert!(matches!(error, SourceError::Busy { abandoned: 4, .. }), "{error:?}");
    // Once the server is gone the threads end, and the mirror talks again.
    drop(dripping);
    let end = Instant::now() + Duration::from_secs(20);
    while matches!(mirror.remote_head(), Err(SourceError::Busy { .. })) {
        assert!(Instant::now() < end, "the abandoned threads never ended");
        std::thread::yield_now();
    }
}

/// The child half of the test below: its environment is the test.
#[test]
fn child_that_authenticates() {
    let var = |name: &str| std::env::var(name).unwrap();
    if std::env::var_os("TRUEUP_TEST_SAID").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(var("TRUEUP_TEST_URL"), dir.path());
    config.ca_file = Some(var("TRUEUP_TEST_CA").into());
    config.credentials = match var("TRUEUP_TEST_KIND").as_str() {
        "helper" => Credentials::Helper,
        _ => Credentials::Systemd { username: "x-access-token".into(), name: "git".into() },
    };
    let said = open(config).fetch().map_or_else(|error| error.to_string(), |f| f.head.to_string());
    fs::write(var("TRUEUP_TEST_SAID"), said).unwrap();
}

/// What a fetch says in a process with these variables.
fn said(https: &Https, dir: &Path, kind: &str, env: &[(&str, &Path)]) -> String {
    let said = dir.join("said");
    // What an earlier child said proves nothing about this one.
    fs::write(&said, "the child did not run").unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "source::server::child_that_authenticates"])
        .env("TRUEUP_TEST_URL", https.url())
        .env("TRUEUP_TEST_CA", &https.ca)
        .env("TRUEUP_TEST_KIND", kind)
        .env("TRUEUP_TEST_SAID", &said)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env_remove("CREDENTIALS_DIRECTORY")
        .envs(env.iter().copied())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    fs::read_to_string(said).unwrap()
}

#[test]
fn credentials_come_from_systemd_and_from_the_users_helper() {
    if !have("lighttpd") || !have("mod_openssl.so") {
        return;
    }
    let repo = GitRepo::new();
    let head = repo.publish("trueup.yaml", "a: 1\n").to_string();
    let https = git_server::https(repo.root());
    let dir = tempfile::tempdir().unwrap();

    let store = dir.path().join("store");
    let login = format!("https://{}:{}@localhost:{}\n", https.user, https.token, https.server.port);
    fs::write(&store, login).unwrap();
    let settings = dir.path().join("gitconfig");
    let text = format!("[credential]\n\thelper = store --file={}\n", store.display());
    fs::write(&settings, text).unwrap();
    let env = [("GIT_CONFIG_GLOBAL", settings.as_path())];
    assert_eq!(said(&https, dir.path(), "helper", &env), head);
    let none = said(&https, dir.path(), "helper", &[]);
    assert!(none.contains("no helper has one"), "no prompt, but an error: {none}");

    // A token that no longer works is forgotten by the helper.
    let wrong = format!("https://x:stale@localhost:{}\n", https.server.port);
    fs::write(&store, wrong).unwrap();
    let refused = said(&https, dir.path(), "helper", &env);
    assert!(refused.contains("refused access") && !refused.contains("stale"), "{refused}");
    assert_eq!(fs::read_to_string(&store).unwrap(), "");

    let credentials = dir.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("git"), https.token).unwrap();
    fs::set_permissions(credentials.join("git"), fs::Permissions::from_mode(0o400)).unwrap();
    let env = [("CREDENTIALS_DIRECTORY", credentials.as_path())];
    assert_eq!(said(&https, dir.path(), "systemd", &env), head);
    let unset = said(&https, dir.path(), "systemd", &[]);
    assert!(unset.contains("LoadCredential="), "{unset}");
}
