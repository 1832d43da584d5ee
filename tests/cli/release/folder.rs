//! Folders on a shared file system by the real program: exchanged at once, put back, kept for who uses them,
//! removed whole, and never outside of what the host allows.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

/// A host whose config allows a folder for the cluster `hpc`.
struct Shared {
    host: Host,
    repo: GitRepo,
}

impl Shared {
    fn start() -> Self {
        let (host, repo) = (Host::new(), GitRepo::new());
        let at = host.path().display();
        let config = format!(
            "repository:\n  url: {}\nhost: node1\nstateDirectory: {at}/state\nsocket: {at}/t.sock\n\
             accelerator: tcg\nlibvirt: {{uri: 'test:///default'}}\n\
             clusters: {{hpc: {{shared: [{at}/shared]}}}}\n",
            repo.bare().display(),
        );
        fs::write(host.path().join("config.yaml"), config).unwrap();
        let shared = Self { host, repo };
        fs::create_dir(shared.at("")).unwrap();
        fs::set_permissions(shared.at(""), fs::Permissions::from_mode(0o755)).unwrap();
        shared.repo.write("trueup.yaml", REPOSITORY);
        let environment = format!(
            "apiVersion: trueup/v1\nkind: Environment\nmetadata: {{name: lab}}\nspec:\n  \
             storagePools: [{{name: fast, path: {at}/pool}}]\n",
            at = shared.host.path().display()
        );
        shared.repo.write("environments/lab/lab.yaml", environment);
        shared.repo.write("environments/lab/files/jobs/bin/train.sh", "#!/bin/sh\necho one\n");
        let script = shared.repo.work().join("environments/lab/files/jobs/bin/train.sh");
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
        shared.repo.write("environments/lab/files/jobs/data.yaml", "a: [");
        shared.release("");
        shared
    }

    fn release(&self, more: &str) {
        let to = self.at("jobs").display().to_string();
        let text = format!(
            "apiVersion: trueup/v1\nkind: Release\nmetadata: {{name: jobs}}\nspec:\n  cluster: hpc\n  \
             folder: {{from: files/jobs, to: {to}{more}}}\n"
        );
        self.repo.publish("environments/lab/jobs.yaml", &text);
    }

    fn at(&self, path: &str) -> PathBuf {
        self.host.path().join("shared").join(path)
    }

    fn run(&self, words: &[&str]) -> Ended {
        self.host.run(words)
    }

    /// Applies what is published, and says what stands in the script then.
    fn applied(&self) -> String {
        self.run(&["apply", "-vvv"]).code(0);
        fs::read_to_string(self.at("jobs/bin/train.sh")).unwrap()
    }

    fn script(&self, text: &str) {
        self.repo.publish("environments/lab/files/jobs/bin/train.sh", text);
    }

    fn versions(&self) -> usize {
        let all = fs::read_dir(self.at(".trueup-jobs")).unwrap();
        all.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
    }

    /// What is said where nothing may be done.
    fn refused(&self) -> String {
        let plan = self.run(&["plan"]);
        let applied = self.run(&["apply"]);
        format!("{}{}{}{}", plan.out, plan.err, applied.out, applied.err)
    }
}

#[test]
fn a_folder_comes_is_exchanged_put_back_and_goes() {
    let shared = Shared::start();
    let plan = shared.run(&["plan"]).code(3).out;
    assert!(plan.contains("2 file(s)"), "{plan}");
    assert!(shared.applied().contains("one"));
    let mode = |path: &str| fs::metadata(shared.at(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        (mode("jobs/bin/train.sh"), mode("jobs/data.yaml"), mode("jobs/bin")),
        (0o755, 0o644, 0o755)
    );
    assert!(!shared.run(&["plan"]).out.contains("release/jobs"));
    let row = || {
        let shown = shared.run(&["releases", "-o", "json"]).code(0).out;
        serde_json::from_str::<Value>(&shown).unwrap()["releases"][0].clone()
    };
    let shown = shared.run(&["releases", "jobs"]).code(0).out;
    let to = shared.at("jobs").display().to_string();
    let version = fs::read_link(shared.at("jobs")).unwrap();
    let version = version.file_name().unwrap().to_str().unwrap().to_owned();
    let words = format!("2 file, 23 B, in {to} of hpc; version {version} is in force");
    assert!(shown.contains(&words) && shown.contains("2 of 2 files ready"), "{words}: {shown}");
    assert_eq!((&row()["look"]["ready"], &row()["look"]["folder"]["to"]), (&json!(2), &json!(to)));

    // What somebody changed goes back, whatever it is.
    fs::write(shared.at("jobs/bin/train.sh"), "#!/bin/sh\necho bad\n").unwrap();
    fs::write(shared.at("jobs/extra"), "").unwrap();
    fs::set_permissions(shared.at("jobs/data.yaml"), fs::Permissions::from_mode(0o6777)).unwrap();
    let plan = shared.run(&["plan"]).code(3).out;
    for words in ["content", "not in the commit", "mode 6777", "drifted"] {
        assert!(plan.contains(words), "{words}: {plan}");
    }
    assert!(shared.applied().contains("one"));
    assert!(!shared.at("jobs/extra").exists());
    assert_eq!(mode("jobs/data.yaml"), 0o644);
    // What was wrong is in the log, by its files.
    let told = shared.run(&["log", "--type", "release.observed", "-o", "json"]).code(0).out;
    assert!(told.contains("\"bin/train.sh\"") && told.contains("\"extra\""), "{told}");
    assert_eq!(row()["look"]["unready"], json!([]));

    // A job that has the old version open by its own path goes on with it; the next but one removes it.
    let old = fs::canonicalize(shared.at("jobs")).unwrap();
    shared.script("#!/bin/sh\necho two\n");
    assert!(shared.applied().contains("two"));
    assert!(fs::read_to_string(old.join("bin/train.sh")).unwrap().contains("one"));
    shared.script("#!/bin/sh\necho three\n");
    assert!(shared.applied().contains("three"));
    assert!(!old.exists());
    assert_eq!(shared.versions(), 2);
    shared.script("#!/bin/sh\necho two\n");
    assert!(shared.applied().contains("two"));
    assert_eq!(shared.versions(), 2);

    // An environment that asks for nothing never means that everything goes: something else stays.
    let other = shared.at("other").display().to_string();
    shared.repo.write(
        "environments/lab/other.yaml",
        format!(
            "apiVersion: trueup/v1\nkind: Release\nmetadata: {{name: other}}\nspec:\n  cluster: hpc\n  \
             folder: {{from: files/jobs, to: {other}}}\n"
        ),
    );
    shared.repo.git(["rm", "-q", "environments/lab/jobs.yaml"]);
    shared.repo.commit("take it out");
    shared.repo.push();
    let plan = shared.run(&["plan"]).code(3).out;
    assert!(plan.contains("DESTROY"), "{plan}");
    shared.run(&["apply"]).code(0);
    assert!(fs::symlink_metadata(shared.at("jobs")).is_err());
    assert!(!shared.at(".trueup-jobs").exists());
    assert!(shared.at("other/bin/train.sh").exists());
    shared.run(&["log", "verify"]).code(0);
    shared.run(&["replay"]).code(0);
}

#[test]
fn a_commit_writes_nowhere_but_where_the_host_allows_it() {
    let shared = Shared::start();
    let outside = shared.host.path().join("outside");
    fs::create_dir(&outside).unwrap();
    for to in
        [outside.join("jobs"), PathBuf::from("/etc/cron.d/jobs"), shared.host.path().join("shared")]
    {
        let text = format!(
            "apiVersion: trueup/v1\nkind: Release\nmetadata: {{name: jobs}}\nspec:\n  cluster: hpc\n  \
             folder: {{from: files/jobs, to: {}}}\n",
            to.display()
        );
        shared.repo.publish("environments/lab/jobs.yaml", &text);
        let said = shared.refused();
        assert!(said.contains("clusters.hpc.shared"), "{said}");
    }
    // A link in the way, put there by whoever may write to the shared file system.
    let sub = shared.at("sub");
    symlink(&outside, &sub).unwrap();
    let text = format!(
        "apiVersion: trueup/v1\nkind: Release\nmetadata: {{name: jobs}}\nspec:\n  cluster: hpc\n  \
         folder: {{from: files/jobs, to: {}}}\n",
        sub.join("jobs").display()
    );
    shared.repo.publish("environments/lab/jobs.yaml", &text);
    let said = shared.refused();
    assert!(said.contains("links are not followed"), "{said}");
    // A folder that others may write to: they would decide what root and jobs run.
    fs::remove_file(&sub).unwrap();
    fs::create_dir(&sub).unwrap();
    fs::set_permissions(&sub, fs::Permissions::from_mode(0o777)).unwrap();
    let said = shared.refused();
    assert!(said.contains("may be written to by others"), "{said}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(fs::read_dir(&sub).unwrap().count(), 0);
}

#[test]
fn what_stands_there_already_stays() {
    let shared = Shared::start();
    fs::create_dir(shared.at("jobs")).unwrap();
    fs::write(shared.at("jobs/own"), "somebody's").unwrap();
    let said = shared.refused();
    assert!(said.contains("is a folder that no release made"), "{said}");
    assert_eq!(fs::read_to_string(shared.at("jobs/own")).unwrap(), "somebody's");
    fs::remove_dir_all(shared.at("jobs")).unwrap();
    symlink("/etc", shared.at("jobs")).unwrap();
    assert!(shared.refused().contains("is a link that no release made"));
    assert_eq!(fs::read_link(shared.at("jobs")).unwrap(), Path::new("/etc"));
    // The place of the versions is a link to another folder.
    fs::remove_file(shared.at("jobs")).unwrap();
    let outside = shared.host.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, shared.at(".trueup-jobs")).unwrap();
    assert!(shared.refused().contains("links are not followed"));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_link_inside_of_a_version_is_replaced_and_not_followed() {
    let shared = Shared::start();
    assert!(shared.applied().contains("one"));
    let secret = shared.host.path().join("secret");
    fs::write(&secret, "keep").unwrap();
    fs::remove_file(shared.at("jobs/data.yaml")).unwrap();
    symlink(&secret, shared.at("jobs/data.yaml")).unwrap();
    fs::remove_dir_all(shared.at("jobs/bin")).unwrap();
    symlink("/etc", shared.at("jobs/bin")).unwrap();
    let plan = shared.run(&["plan"]).code(3).out;
    assert!(plan.contains("no file") && plan.contains("missing"), "{plan}");
    assert!(shared.applied().contains("one"));
    assert_eq!(fs::read_to_string(&secret).unwrap(), "keep");
    assert!(fs::symlink_metadata(shared.at("jobs/data.yaml")).unwrap().is_file());
    assert!(Path::new("/etc/hostname").exists() || Path::new("/etc/passwd").exists());
}
