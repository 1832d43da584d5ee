//! `trueup recover` by the real program: from nothing to the same state, and nothing written over.

use std::path::Path;

use serde_json::Value;

use super::Ended;
use super::backup::{Saved, backup};

const NETWORK: &str = "---\napiVersion: trueup/v1\nkind: Network\nmetadata: {name: alpha}\n\
                       spec: {mode: isolated, cidr: 10.199.1.0/24}\n";
const DISK: &str = "---\napiVersion: trueup/v1\nkind: Disk\nmetadata: {name: db}\n\
                    spec: {size: 16 MiB}\n";

fn own() -> String {
    backup(
        "own",
        "  source: {state: true}\n  repository: {local: @vault}\n  schedule: {every: 6h}\n  \
         objectives: {rpo: 24h}\n",
    )
}

fn pool() -> String {
    backup(
        "pool",
        "  source: {paths: [@pool]}\n  repository: {local: @vault}\n  schedule: {every: 6h}\n",
    )
}

impl Saved {
    pub(super) fn recover(&self, more: &[&str]) -> Ended {
        let state = self.host.state();
        self.recover_to(&[&["--state-dir", state.to_str().unwrap()], more].concat())
    }

    /// The same where nobody says where the state belongs.
    fn recover_to(&self, more: &[&str]) -> Ended {
        let (from, key) = (self.at("vault"), self.at("secrets/vault"));
        let words = ["recover", "--from", from.to_str().unwrap(), "--password-file"];
        let words = [&words[..], &[key.to_str().unwrap()], more].concat();
        self.run(&words)
    }

    /// The machine is lost, with all that trueup kept on it.
    pub(super) fn lose(&self) {
        std::fs::rename(self.host.state(), self.at("lost")).unwrap();
        std::fs::rename(self.at("config.yaml"), self.at("lost-config.yaml")).unwrap();
    }

    /// The state at an event, of the state directory `dir`.
    fn state_at(&self, dir: &Path, config: &str, seq: u64) -> Value {
        let mut command = super::program();
        command.arg("--config").arg(self.at(config)).arg("--state-dir").arg(dir);
        let seq = seq.to_string();
        let told = Ended::of(command.args(["state", "--at", &seq, "-o", "json"]).output().unwrap());
        serde_json::from_str(&told.code(0).out).unwrap()
    }
}

#[test]
fn from_nothing_to_the_same_state_and_on_from_there() {
    let saved = Saved::new(&(NETWORK.to_owned() + &own()));
    saved.run(&["apply"]).code(0);
    saved.run(&["backup", "run", "own"]).code(0);
    saved.run(&["apply"]).code(0);
    // What happens after the snapshot is what is lost.
    saved.run(&["pause", "--reason", "too late"]);
    // Nothing is written over what is there.
    let refused = saved.recover_to(&[]);
    assert!(refused.code == 4 && refused.err.contains("is not empty"), "{}", refused.err);
    saved.lose();
    // The snapshot alone does not say where it goes: whoever can write to the repository chose that.
    let refused = saved.recover_to(&[]).code(4);
    let state = saved.host.state();
    let hint = format!("--state-dir {}", state.display());
    assert!(refused.err.contains(&hint), "{}", refused.err);
    assert!(!state.exists() && !saved.at("config.yaml").exists());

    let told = saved.recover(&["--no-apply", "-o", "json"]).code(0).out;
    let told: Value = serde_json::from_str(&told).unwrap();
    let last = told["last"].as_u64().unwrap();
    assert!(last > 10 && told["configKept"] == false, "{told}");
    assert!(told["totalMs"].as_u64().unwrap() >= told["restoredMs"].as_u64().unwrap(), "{told}");
    assert_eq!(told["secrets"], serde_json::json!(["vault"]));
    saved.run(&["log", "verify"]).code(0);
    let before = saved.state_at(&saved.at("lost"), "lost-config.yaml", last);
    assert_eq!(saved.state_at(&saved.host.state(), "config.yaml", last), before);
    let log = saved.run(&["log", "--type", "log.recovered", "-o", "json"]).code(0).out;
    assert!(
        log.contains("\"type\":\"log.recovered\"") && log.contains(&format!("\"last\":{last}")),
        "{log}"
    );
    // Whole lines, byte for byte.
    let segment = "log/00000000000000000001.jsonl";
    let (now, then) = (saved.host.state().join(segment), saved.at("lost").join(segment));
    let (now, then) =
        (std::fs::read_to_string(now).unwrap(), std::fs::read_to_string(then).unwrap());
    let lines = |text: &str| -> Vec<String> {
        text.lines().take(usize::try_from(last).unwrap()).map(str::to_owned).collect()
    };
    assert_eq!(lines(&now), lines(&then));
    assert!(!saved.at("state.recovering").exists());

    // It converges, what was being done is done again, and the repository is still the same backup's.
    saved.run(&["apply"]).code(0);
    assert_eq!(saved.snapshots("own").len(), 3);
    saved.run(&["backup", "run", "own"]).code(0);
    saved.run(&["apply"]).code(0);
    assert_eq!(saved.snapshots("own").len(), 4);
    saved.run(&["log", "verify"]).code(0);
    saved.run(&["replay"]).code(0);
}

#[test]
fn what_is_damaged_or_another_log_is_not_put_in_place() {
    let saved = Saved::new(&own());
    saved.run(&["apply"]).code(0);
    saved.run(&["backup", "run", "own"]).code(0);
    saved.run(&["apply"]).code(0);
    saved.lose();
    let nothing = |ended: &Ended| {
        assert!(ended.code != 0, "{}", ended.out);
        assert!(!saved.host.state().exists() && !saved.at("state.recovering").exists());
        assert!(!saved.at("config.yaml").exists());
    };
    let ended = saved.recover(&["--checkpoint", "999999:0123456789ab"]);
    assert!(ended.err.contains("are lost"), "{}", ended.err);
    nothing(&ended);
    let ended = saved.recover(&["--checkpoint", "3:0123456789ab"]);
    assert!(ended.err.contains("it is another log"), "{}", ended.err);
    nothing(&ended);
    nothing(&saved.recover(&["--host", "nobody"]));
    nothing(&saved.recover(&["--snapshot", "00000000"]));
    saved.key("wrong");
    let ended = saved.recover(&[]);
    assert!(ended.err.contains("opens no key") && !ended.err.contains("wrong\""), "{}", ended.err);
    nothing(&ended);
    saved.key("canary-of-the-key");

    let head = saved.state_head();
    std::fs::write(saved.at("config.yaml"), "# of somebody else\n").unwrap();
    let told = saved.recover(&["--checkpoint", &head, "--no-apply"]).code(0).out;
    assert!(told.contains("another one is in its place"), "{told}");
    assert_eq!(std::fs::read(saved.at("config.yaml")).unwrap(), b"# of somebody else\n");
    assert!(saved.host.state().join("recovered-config.yaml").is_file());
}

impl Saved {
    /// A checkpoint out of the lost log.
    fn state_head(&self) -> String {
        let text = std::fs::read_to_string(self.at("lost/log/00000000000000000001.jsonl")).unwrap();
        let line: Value = serde_json::from_str(text.lines().nth(2).unwrap()).unwrap();
        format!("3:{}", line["hash"].as_str().unwrap())
    }
}

#[test]
fn a_disk_that_waits_for_its_data_is_held() {
    let saved = Saved::new(&(DISK.to_owned() + &pool() + &own()));
    std::fs::create_dir_all(saved.at("pool")).unwrap();
    std::fs::write(saved.at("pool/other"), "data").unwrap();
    saved.run(&["apply"]).code(0);
    saved.run(&["backup", "run", "own"]).code(0);
    saved.run(&["apply"]).code(0);
    saved.lose();
    std::fs::remove_dir_all(saved.at("pool")).unwrap();
    let told = saved.recover(&["--no-disks", "--make-pools", "--no-apply"]).code(0).out;
    assert!(told.contains("disk/db is held: its data is in backup/pool"), "{told}");
    let made = |saved: &Saved| {
        let words = ["log", "--type", "step.started", "--subject", "disk/db", "-o", "json"];
        saved.run(&words).code(0).out.lines().count()
    };
    let before = made(&saved);
    saved.run(&["apply"]);
    assert_eq!(made(&saved), before, "it is not begun empty");
    saved.run(&["release", "disk/db"]).code(0);
    saved.run(&["apply"]);
    assert_eq!(made(&saved), before + 1);
}
