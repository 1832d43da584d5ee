//! Signed heads: by the right one, by a stranger, changed afterwards, and not at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use trueup::source::{CommitId, Mirror, SignaturePolicy, SignatureRejection};

use super::mirror_of;
use crate::support::git_repo::GitRepo;
use crate::support::git_server::{have, run};

struct Keys {
    dir: tempfile::TempDir,
}

impl Keys {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ssh(&self, name: &str, kind: &[&str]) -> PathBuf {
        let path = self.path(name);
        let mut args = vec!["-q", "-N", "", "-f", path.to_str().unwrap()];
        args.extend_from_slice(kind);
        run("ssh-keygen", &args);
        path
    }

    fn allow(&self, lines: &[(&str, &Path)]) -> SignaturePolicy {
        let text: String = lines
            .iter()
            .map(|(who, key)| {
                let key = fs::read_to_string(key.with_extension("pub")).unwrap();
                format!("{who} {key}")
            })
            .collect();
        let path = self.path("allowed_signers");
        fs::write(&path, text).unwrap();
        SignaturePolicy {
            ssh_allowed_signers: Some(path),
            openpgp_keyring: None,
            match_committer: true,
        }
    }
}

fn signed(repo: &GitRepo, format: &str, key: &str, extra: &[(&str, &str)]) -> CommitId {
    repo.git(["config", "gpg.format", format]);
    repo.git(["config", "user.signingkey", key]);
    for (name, value) in extra {
        repo.git(["config", name, value]);
    }
    repo.write("trueup.yaml", "signed: true\n");
    repo.git(["add", "-A"]);
    repo.commit_index("signed", &["-S"])
}

/// The head with another message under the same signature.
fn tampered(repo: &GitRepo) -> CommitId {
    let text = repo.git(["cat-file", "commit", "HEAD"]);
    let id = repo.object("commit", text.replace("\n\nsigned", "\n\nforged").as_bytes());
    repo.git(["update-ref", "HEAD", &id]);
    id.parse().unwrap()
}

fn check(mirror: &Mirror, repo: &GitRepo, policy: &SignaturePolicy) -> Result<String, String> {
    repo.push();
    let head = mirror.fetch().unwrap().head;
    match mirror.verify(head, policy) {
        Ok(verified) => Ok(verified.signer),
        Err(rejection) => {
            let text = rejection.to_string();
            let debug = format!("{rejection:?}");
            let kind = debug.split([' ', '(', '{']).next().unwrap().to_owned();
            Err(format!("{kind}: {text}"))
        }
    }
}

#[track_caller]
fn refused(result: Result<String, String>, kind: &str) {
    let text = result.expect_err("it must be refused");
    assert!(text.starts_with(kind), "{text}");
}

#[test]
fn ssh_signatures() {
    let (repo, keys) = (GitRepo::new(), Keys::new());
    let ann = keys.ssh("ann", &["-t", "ed25519"]);
    let eve = keys.ssh("eve", &["-t", "ecdsa", "-b", "256"]);
    let policy = keys.allow(&[("ann@example.org", &ann)]);
    let mirror = mirror_of(&repo);
    repo.publish("trueup.yaml", "a: 1\n");
    refused(check(&mirror, &repo, &policy), "Unsigned");

    signed(&repo, "ssh", ann.to_str().unwrap(), &[]);
    assert_eq!(check(&mirror, &repo, &policy).unwrap(), "ann@example.org");
    tampered(&repo);
    refused(check(&mirror, &repo, &policy), "Tampered");

    signed(&repo, "ssh", eve.to_str().unwrap(), &[]);
    refused(check(&mirror, &repo, &policy), "UnknownKey");
    let both = keys.allow(&[("ann@example.org", &ann), ("eve@example.org", &eve)]);
    refused(check(&mirror, &repo, &both), "OtherCommitter");
    let loose = SignaturePolicy { match_committer: false, ..both };
    assert_eq!(check(&mirror, &repo, &loose).unwrap(), "eve@example.org");

    let past = keys.allow(&[("ann@example.org valid-before=\"20200101Z\"", &ann)]);
    signed(&repo, "ssh", ann.to_str().unwrap(), &[]);
    refused(check(&mirror, &repo, &past), "Expired");
    let files = keys.allow(&[("ann@example.org namespaces=\"file\"", &ann)]);
    refused(check(&mirror, &repo, &files), "UnknownKey");
    let authority = keys.allow(&[("ann@example.org cert-authority", &ann)]);
    refused(check(&mirror, &repo, &authority), "Signers");
    let none =
        SignaturePolicy { ssh_allowed_signers: None, openpgp_keyring: None, match_committer: true };
    refused(check(&mirror, &repo, &none), "NotAccepted");
}

#[test]
fn ssh_rsa_keys_have_a_least_size() {
    let (repo, keys) = (GitRepo::new(), Keys::new());
    let good = keys.ssh("good", &["-t", "rsa", "-b", "2048"]);
    let weak = keys.ssh("weak", &["-t", "rsa", "-b", "1024"]);
    let policy = keys.allow(&[("*@example.org", &good), ("*@example.org", &weak)]);
    let mirror = mirror_of(&repo);
    signed(&repo, "ssh", good.to_str().unwrap(), &[]);
    assert_eq!(check(&mirror, &repo, &policy).unwrap(), "*@example.org");
    signed(&repo, "ssh", weak.to_str().unwrap(), &[]);
    refused(check(&mirror, &repo, &policy), "NotAccepted");
}

#[test]
fn two_signatures_are_none() {
    let (repo, keys) = (GitRepo::new(), Keys::new());
    let ann = keys.ssh("ann", &["-t", "ed25519"]);
    let policy = keys.allow(&[("ann@example.org", &ann)]);
    let mirror = mirror_of(&repo);
    signed(&repo, "ssh", ann.to_str().unwrap(), &[]);
    let text = repo.git(["cat-file", "commit", "HEAD"]);
    let doubled = text.replacen("\n\n", "\ngpgsig-sha256 -----BEGIN SSH SIGNATURE-----\n\n", 1);
    let id = repo.object("commit", doubled.as_bytes());
    repo.git(["update-ref", "HEAD", &id]);
    refused(check(&mirror, &repo, &policy), "Malformed");
}

fn gpg(home: &Path, args: &[&str]) -> Vec<u8> {
    let output = Command::new("gpg")
        .args(["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""])
        .args(args)
        .env("GNUPGHOME", home)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A home directory of gpg with its agent ended on drop.
struct GpgHome(tempfile::TempDir);

impl GpgHome {
    fn new(users: &[(&str, &str)]) -> Self {
        // The agent's socket needs a short path.
        let home = Self(tempfile::Builder::new().prefix("g").tempdir_in("/tmp").unwrap());
        for (user, expire) in users {
            gpg(home.0.path(), &["--quick-gen-key", user, "ed25519", "sign", expire]);
        }
        home
    }

    /// A program that signs with this home: git takes only a program, not arguments.
    fn program(&self) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = self.0.path().join("sign");
        let home = self.0.path().display();
        fs::write(&path, format!("#!/bin/sh\nexec gpg --homedir '{home}' \"$@\"\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path.display().to_string()
    }
}

impl Drop for GpgHome {
    fn drop(&mut self) {
        let home = self.0.path();
        Command::new("gpgconf").arg("--homedir").arg(home).args(["--kill", "all"]).status().ok();
    }
}

#[test]
fn openpgp_signatures() {
    if !have("gpg") || !have("gpgv") {
        return;
    }
    let (repo, keys) = (GitRepo::new(), Keys::new());
    let home = GpgHome::new(&[
        ("Ann <ann@example.org>", "0"),
        ("Eve <eve@example.org>", "0"),
        ("Bob <bob@example.org>", "0"),
    ]);
    let keyring = keys.path("keyring.gpg");
    let names = ["--export", "ann@example.org", "bob@example.org"];
    fs::write(&keyring, gpg(home.0.path(), &names)).unwrap();
    let policy = SignaturePolicy {
        ssh_allowed_signers: None,
        openpgp_keyring: Some(keyring),
        match_committer: true,
    };
    let mirror = mirror_of(&repo);
    repo.publish("trueup.yaml", "a: 1\n");
    refused(check(&mirror, &repo, &policy), "Unsigned");
    let program = home.program();
    let sign = |who: &str| signed(&repo, "openpgp", who, &[("gpg.program", &program)]);

    sign("ann@example.org");
    assert_eq!(check(&mirror, &repo, &policy).unwrap(), "Ann <ann@example.org>");
    tampered(&repo);
    refused(check(&mirror, &repo, &policy), "Tampered");
    sign("eve@example.org");
    refused(check(&mirror, &repo, &policy), "UnknownKey");
    sign("bob@example.org");
    refused(check(&mirror, &repo, &policy), "OtherCommitter");
    let loose = SignaturePolicy { match_committer: false, ..policy.clone() };
    assert_eq!(check(&mirror, &repo, &loose).unwrap(), "Bob <bob@example.org>");

    let gone = SignaturePolicy { openpgp_keyring: Some(keys.path("none")), ..policy };
    refused(check(&mirror, &repo, &gone), "Signers");
    let head = repo.head();
    let rejection = mirror.verify(head, &gone).unwrap_err();
    assert!(matches!(rejection, SignatureRejection::Signers(_)));
}

#[test]
fn an_expired_openpgp_key_is_refused() {
    if !have("gpg") || !have("gpgv") {
        return;
    }
    let (repo, keys) = (GitRepo::new(), Keys::new());
    let home = GpgHome::new(&[]);
    // A key of a past year that was good for a day, and a signature of that day.
    let past = "20200101T000000!";
    let user = "Ann <ann@example.org>";
    let args = ["--faked-system-time", past, "--quick-gen-key", user, "ed25519", "sign", "1d"];
    gpg(home.0.path(), &args);
    let program = home.program();
    let text = fs::read_to_string(&program).unwrap();
    fs::write(&program, text.replace("exec gpg", &format!("exec gpg --faked-system-time {past}")))
        .unwrap();
    signed(&repo, "openpgp", "ann@example.org", &[("gpg.program", &program)]);
    let keyring = keys.path("keyring.gpg");
    fs::write(&keyring, gpg(home.0.path(), &["--export"])).unwrap();
    let policy = SignaturePolicy {
        ssh_allowed_signers: None,
        openpgp_keyring: Some(keyring),
        match_committer: true,
    };
    refused(check(&mirror_of(&repo), &repo, &policy), "Expired");
}
