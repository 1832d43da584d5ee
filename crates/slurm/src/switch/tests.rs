//! Exchanges with a controller that takes the files, refuses them, or is gone; cut off anywhere.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;
use crate::machine::Here;

/// Answers in turn, and remembers what was asked and what the file said then.
struct Scripted {
    answers: VecDeque<Result<(), String>>,
    asked: Vec<(Action, String)>,
    file: PathBuf,
}

impl Controller for Scripted {
    fn apply(&mut self, how: Action) -> Result<(), String> {
        self.asked.push((how, fs::read_to_string(&self.file).unwrap()));
        self.answers.pop_front().unwrap()
    }

    fn await_up(&mut self) -> Result<(), String> {
        Ok(())
    }
}

struct Given {
    folder: tempfile::TempDir,
    live: Live,
    controller: Scripted,
}

fn given(answers: impl IntoIterator<Item = Result<(), &'static str>>) -> Given {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slurm.conf");
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let answers = answers.into_iter().map(|one| one.map_err(str::to_owned)).collect();
    let controller = Scripted { answers, asked: Vec::new(), file };
    Given {
        live: Live { machine: Here::shared(), folder: folder.path().to_owned() },
        folder,
        controller,
    }
}

fn proof() -> Proof {
    let files = [("gres.conf", "gres"), ("slurm.conf", "new")];
    Proof::of_test(files.map(|(name, text)| (name.to_owned(), text.to_owned())).into())
}

impl Given {
    fn files(&self) -> BTreeMap<String, String> {
        fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, fs::read_to_string(path).unwrap())
            })
            .collect()
    }

    #[track_caller]
    fn holds(&self, wanted: &[(&str, &str)]) {
        let wanted = wanted.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        assert_eq!(self.files(), wanted.collect());
    }
}

#[test]
fn new_files_come_into_force_and_the_old_one_is_kept() {
    let mut given = given([Ok(())]);
    let how = Action::Reconfigure;
    let done = switch(&proof(), &given.live, how, &mut given.controller).unwrap();
    assert_eq!(done, Switched::InForce);
    assert_eq!(given.controller.asked, [(Action::Reconfigure, "new".to_owned())]);
    given.holds(&[("gres.conf", "gres"), ("slurm.conf", "new"), ("slurm.conf.kept", "old")]);
    let mode = fs::metadata(given.folder.path().join("slurm.conf")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o640, "as it was");
    let again = switch(&proof(), &given.live, how, &mut given.controller).unwrap();
    assert_eq!((again, given.controller.asked.len()), (Switched::AlreadySo, 1));
}

#[test]
fn what_the_controller_does_not_take_is_put_back() {
    let mut given = given([Err("fatal: no"), Ok(())]);
    let done = switch(&proof(), &given.live, Action::Reconfigure, &mut given.controller).unwrap();
    assert_eq!(done, Switched::PutBack { words: "fatal: no".to_owned() });
    assert_eq!(given.controller.asked[1], (Action::Restart, "old".to_owned()));
    given.holds(&[("slurm.conf", "old"), ("slurm.conf.kept", "old")]);
}

#[test]
fn a_controller_that_stays_down_is_told_and_the_mark_stays() {
    let mut given = given([Err("no"), Err("still no"), Ok(())]);
    let error = switch(&proof(), &given.live, Action::Restart, &mut given.controller).unwrap_err();
    assert!(error.to_string().contains("(still no)"), "{error}");
    assert!(given.files().contains_key(MARK));
    let later = recover(&given.live, &mut given.controller).unwrap();
    assert!(matches!(later, Some(Switched::PutBack { .. })), "{later:?}");
    assert!(!given.files().contains_key(MARK));
}

#[test]
fn an_exchange_that_was_cut_off_is_undone() {
    let mut given = given([Ok(())]);
    assert!(recover(&given.live, &mut given.controller).unwrap().is_none());
    let proof = proof();
    let differing = differing(&proof, &given.live).unwrap();
    keep(&differing, &given.live).unwrap();
    fs::write(given.folder.path().join("gres.conf"), "gres").unwrap();
    let done = recover(&given.live, &mut given.controller).unwrap().unwrap();
    assert_eq!(done, Switched::PutBack { words: "the exchange was cut off".to_owned() });
    given.holds(&[("slurm.conf", "old"), ("slurm.conf.kept", "old")]);
}

#[test]
fn an_exchange_that_was_cut_off_at_its_end_is_finished() {
    // Jobs may run by now on a node that the old files do not have.
    let mut given = given([Ok(())]);
    let proof = proof();
    keep(&differing(&proof, &given.live).unwrap(), &given.live).unwrap();
    for (name, text) in proof.files() {
        fs::write(given.folder.path().join(name), text).unwrap();
    }
    let done = recover(&given.live, &mut given.controller).unwrap();
    assert_eq!(done, Some(Switched::InForce));
    assert_eq!(given.controller.asked, [(Action::Restart, "new".to_owned())]);
    given.holds(&[("gres.conf", "gres"), ("slurm.conf", "new"), ("slurm.conf.kept", "old")]);

    // A controller that does not come up with them gets the old ones.
    let mut given = self::given([Err("fatal: no"), Ok(())]);
    keep(&differing(&proof, &given.live).unwrap(), &given.live).unwrap();
    for (name, text) in proof.files() {
        fs::write(given.folder.path().join(name), text).unwrap();
    }
    let done = recover(&given.live, &mut given.controller).unwrap().unwrap();
    let words = "the exchange was cut off, and then: fatal: no".to_owned();
    assert_eq!(done, Switched::PutBack { words });
    given.holds(&[("slurm.conf", "old"), ("slurm.conf.kept", "old")]);
}
