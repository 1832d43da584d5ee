//! `trueup recover` out of repositories of other machines, named as users of restic name them.

use std::path::Path;

use super::Ended;
use super::backup::{Saved, backup};
use super::backup_remote::{LOGIN, free_port, rest, sftp};

impl Saved {
    fn recover_from(&self, from: &str, more: &[&str]) -> Ended {
        self.recover_into(&self.host.state(), from, more)
    }

    fn recover_into(&self, state: &Path, from: &str, more: &[&str]) -> Ended {
        let key = self.at("secrets/vault");
        let words = ["recover", "--from", from, "--password-file", text(&key)];
        self.run(&[&words[..], &["--state-dir", text(state)], more].concat())
    }

    /// Takes a snapshot of the state and loses the machine.
    fn save_and_lose(&self) {
        self.run(&["apply"]).code(0);
        self.run(&["backup", "run", "own"]).code(0);
        self.run(&["apply"]).code(0);
        self.lose();
    }

    /// That the state is back, and the machine as the commit asks.
    #[track_caller]
    fn is_back(&self, ended: Ended) {
        let ended = ended.code(0);
        assert!(
            ended.out.contains("recovered node1") && ended.out.contains("  took "),
            "{ended:?}"
        );
        assert!(!ended.out.contains(LOGIN) && !ended.err.contains(LOGIN));
        self.run(&["log", "verify"]).code(0);
        self.run(&["status"]).code(0);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn from_a_server_of_restics_protocol() {
    let port = free_port();
    let spec = format!(
        "  source: {{state: true}}\n  repository: {{rest: {{url: 'http://127.0.0.1:{port}/', \
         credentials: login}}}}\n"
    );
    let saved = Saved::new(&backup("own", &spec));
    saved.secret("login", &format!("me:{LOGIN}"));
    let server = rest(&saved.at("there"), port);
    saved.save_and_lose();
    let from = format!("rest:http://127.0.0.1:{port}/");
    let ended = saved.recover_from(&from, &[]);
    assert!(ended.code == 5 && ended.err.contains("refuses"), "{}", ended.err);
    let ended = saved.recover_from(&format!("rest:http://me:{LOGIN}@127.0.0.1:{port}/"), &[]);
    assert!(ended.code == 1 && !ended.err.contains(LOGIN), "{}", ended.err);
    assert!(!saved.host.state().exists());
    let login = saved.at("secrets/login");
    saved.is_back(saved.recover_from(&from, &["--credentials-file", text(&login)]));
    drop(server);
    let words = ["--credentials-file", text(&login)];
    let ended = saved.recover_into(&saved.at("elsewhere"), &from, &words).code(5);
    assert!(ended.err.contains("cannot be reached"), "{}", ended.err);
}

#[test]
fn from_an_sftp_server_that_is_known_by_its_key() {
    let port = free_port();
    let saved = Saved::new("");
    let (_server, user, host_key) = sftp(&saved, port);
    let spec = format!(
        "  source: {{state: true}}\n  repository:\n    sftp:\n      host: 127.0.0.1\n      port: \
         {port}\n      user: {user}\n      path: @there\n      identity: login\n      hostKeys: \
         ['{host_key}']\n"
    );
    saved.publish(&backup("own", &spec));
    saved.save_and_lose();
    let from = format!("sftp://{user}@127.0.0.1:{port}/{}", saved.at("there").display());
    let (identity, known) = (saved.at("secrets/login"), saved.at("known"));
    let ended = saved.recover_from(&from, &["--identity-file", text(&identity)]).code(1);
    assert!(ended.err.contains("ssh-keyscan"), "{}", ended.err);
    let words = ["--identity-file", text(&identity), "--host-keys-file", text(&known)];
    // The key of another server says nothing about this one.
    std::fs::write(&known, format!("127.0.0.1 {host_key}\n")).unwrap();
    let ended = saved.recover_from(&from, &words).code(1);
    assert!(ended.err.contains(&format!("[127.0.0.1]:{port}")), "{}", ended.err);
    std::fs::write(&known, format!("# found\n[127.0.0.1]:{port} {host_key}\n")).unwrap();
    saved.is_back(saved.recover_from(&from, &words));
}
