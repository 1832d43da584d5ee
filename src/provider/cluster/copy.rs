//! Machines that read Slurm's files themselves, as the controller has them: a backup controller and login
//! machines. The files are taken from the controller's machine as they are at that time.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use trueup_slurm::Machine as _;

use super::act::Job;
use super::prepare::{Digests, digest};
use crate::model::{Fault, Name};
use crate::port::Outcome;
use crate::private;
use crate::provider::files::blocking;
use crate::provider::guest::Guest;

/// The files, of every machine where they are alike.
const NAMES: [&str; 3] =
    ["/etc/slurm/slurm.conf", "/etc/slurm/gres.conf", "/etc/slurm/cgroup.conf"];
/// Says with which of them a backup controller was started: they alone may have been written a moment before
/// a crash.
const STARTED: &str = "/etc/slurm/trueup-backup";
/// What tells how a machine is.
pub(super) const FILES: [&str; 4] = [NAMES[0], NAMES[1], NAMES[2], STARTED];
/// The daemon of a controller.
const CONTROLLER: &str = "slurmctld.service";
/// As whom it runs.
const SLURM: &str = "slurm";
/// Keeps a controller from starting while the folder of its state is not mounted: without it there would
/// be no job.
const NEEDS: &str = "/etc/systemd/system/slurmctld.service.d/trueup-state.conf";
/// Bytes of a name that nobody can guess.
const NAME_BYTES: usize = 16;

/// The texts of a controller's files; `None`: it has no such file.
pub(super) struct Copies([Option<Vec<u8>>; 3]);

impl Copies {
    /// Those that were seen; an empty one is none.
    pub(super) fn of(texts: [&str; 3]) -> Self {
        Self(texts.map(|text| (!text.is_empty()).then(|| text.as_bytes().to_vec())))
    }

    fn read(controller: &Guest) -> io::Result<Self> {
        let [slurm, gres, cgroup] = NAMES.map(|name| controller.read(Path::new(name)));
        Ok(Self([slurm?, gres?, cgroup?]))
    }

    /// What a machine is marked with that was started with them.
    fn mark(&self) -> String {
        let each = self.0.iter().flatten().map(|text| digest(&String::from_utf8_lossy(text)));
        format!("{}\n", each.collect::<Vec<_>>().join("\n"))
    }

    /// Whether a machine has them, and where it is a backup controller was started with them.
    pub(super) fn are(&self, there: &Digests, is_backup: bool) -> bool {
        let so = NAMES.iter().zip(&self.0).all(|(name, text)| match text {
            Some(text) => there.has(name, &digest(&String::from_utf8_lossy(text))),
            None => !there.has_some(name),
        });
        so && (!is_backup || there.has(STARTED, &digest(&self.mark())))
    }

    /// Gives a machine what it has not; whether there was anything.
    fn give(&self, guest: &Guest, is_backup: bool) -> io::Result<bool> {
        let there = Digests::ask(guest, FILES.into_iter()).map_err(io::Error::other)?;
        if self.are(&there, is_backup) {
            return Ok(false);
        }
        guest.must(&["mkdir", "-p", "/etc/slurm"])?;
        if is_backup {
            guest.remove(Path::new(STARTED))?;
        } else {
            // Its image may have one, which would start as soon as there are files.
            guest.must(&["systemctl", "mask", "--now", CONTROLLER])?;
        }
        for (name, text) in NAMES.iter().zip(&self.0) {
            match text {
                Some(text) => guest.replace(Path::new(name), text)?,
                None => guest.remove(Path::new(name))?,
            }
        }
        if is_backup {
            guest.must(&["systemctl", "restart", CONTROLLER])?;
            guest.replace(Path::new(STARTED), self.mark().as_bytes())?;
        }
        Ok(true)
    }
}

impl Job<'_> {
    /// Gives machines the controller's files, and starts the backup controllers among them with these.
    pub(super) async fn copy(
        &self,
        machines: BTreeMap<String, Name>,
        controllers: Vec<String>,
    ) -> Result<Outcome, Fault> {
        let (provider, id) = (self.provider.clone(), self.id.clone());
        let Some(from) = self.place.guest.clone() else {
            return Err(Fault::permanent(format!(
                "{id}: its files are not in a machine of trueup's"
            )));
        };
        let work = move || {
            let fault = |what: &str, error: &dyn std::fmt::Display| {
                Fault::transient(format!("{id}: {what}: {error}"))
            };
            let files = Copies::read(&provider.guest(&from));
            let files = files.map_err(|error| fault("the controller's files", &error))?;
            let mut already = true;
            let give = |name: &str, guest: &Guest| {
                files.give(guest, controllers.iter().any(|it| it == name))
            };
            for (name, given) in provider.each(&machines, give) {
                let given = given.map_err(|error| {
                    fault(&format!("giving {name} the controller's files"), &error)
                })?;
                already &= !given;
            }
            Ok(already)
        };
        let already = blocking("copy files", work).await?;
        Ok(Outcome { already, ..Outcome::default() })
    }
}

/// Proves that two machines see one folder, by a name that one of them makes in it and the other finds, as
/// the user that controllers run as. Then neither starts a controller without it.
///
/// # Errors
/// They do not, or nobody knows.
pub(super) fn share(first: &Guest, second: &Guest, folder: &str, what: &str) -> Result<(), Fault> {
    let passing = |error: io::Error| Fault::transient(format!("{what}: {folder}: {error}"));
    let bytes = private::random::<NAME_BYTES>().map_err(passing)?;
    let mark = format!("{folder}/.trueup-{}", hex::encode(bytes));
    let ask = "mount the same folder of a file server on both controllers, by the image or `cloudInit`, \
               and let the user slurm write there";
    let made = first.says_yes(&as_slurm(&["touch", &mark])).map_err(passing)?;
    if !made {
        let message = format!(
            "{what}: the user {SLURM} cannot write into `stateFolder` {folder} on {}",
            first.name()
        );
        return Err(Fault::needs_human(message, ask));
    }
    let seen = second.says_yes(&as_slurm(&["test", "-e", &mark]));
    let gone = first.must(&as_slurm(&["rm", &mark]));
    if !seen.map_err(passing)? {
        let message = format!(
            "{what}: {} does not see in `stateFolder` {folder} what {} writes there: a backup controller \
             would begin without a job",
            second.name(),
            first.name()
        );
        return Err(Fault::needs_human(message, ask));
    }
    gone.map_err(passing)?;
    let needs = format!("# Written by trueup.\n[Unit]\nRequiresMountsFor={folder}\n");
    for guest in [first, second] {
        let path = Path::new(NEEDS);
        let folder = path.parent().unwrap_or(path).display().to_string();
        guest
            .must(&["mkdir", "-p", &folder])
            .and_then(|()| guest.replace(path, needs.as_bytes()))
            .and_then(|()| guest.must(&["systemctl", "daemon-reload"]))
            .map_err(passing)?;
    }
    Ok(())
}

/// A program as the user that controllers run as.
fn as_slurm<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["runuser", "-u", SLURM, "--"][..], words].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::guest::fake::{ended, with};

    #[test]
    fn a_login_machine_has_what_the_controller_has_and_starts_none() {
        let files = Copies::of(["ClusterName=lab\n", "", "ConstrainCores=yes\n"]);
        with(&[], |guest, fake| {
            fake.put(NAMES[1], "what the image had");
            assert!(files.give(guest, false).unwrap());
            assert_eq!(fake.file(NAMES[0]).unwrap(), b"ClusterName=lab\n");
            assert_eq!(fake.file(NAMES[1]), None, "what the controller does not have");
            let ran = fake.ran();
            assert!(ran.contains(&"systemctl mask --now slurmctld.service".to_owned()), "{ran:?}");
            assert!(!ran.iter().any(|call| call.contains("restart")), "{ran:?}");
            assert!(!files.give(guest, false).unwrap(), "it has them");
            fake.put(NAMES[2], "by hand");
            let there = Digests::ask(guest, FILES.into_iter()).unwrap();
            assert!(!files.are(&there, false));
            assert!(files.give(guest, false).unwrap());
        });
    }

    #[test]
    fn a_backup_controller_is_started_with_the_files_it_has() {
        let files = Copies::of(["ClusterName=lab\n", "", ""]);
        with(&[], |guest, fake| {
            fake.fails(Some("restart slurmctld"));
            let error = files.give(guest, true).unwrap_err().to_string();
            assert!(error.contains("restart slurmctld"), "{error}");
            fake.fails(None);
            let there = || Digests::ask(guest, FILES.into_iter()).unwrap();
            assert!(files.are(&there(), false) && !files.are(&there(), true), "it was not started");
            assert!(files.give(guest, true).unwrap());
            assert!(files.are(&there(), true) && !files.give(guest, true).unwrap());
            let next = Copies::of(["ClusterName=lab\n# more\n", "", ""]);
            assert!(!next.are(&there(), true) && next.give(guest, true).unwrap());
        });
    }

    #[test]
    fn a_folder_that_is_not_shared_is_refused_before_a_controller_starts() {
        let asked = |yes: bool| {
            let mut outcome = None;
            with(&[("runuser", ended(i32::from(!yes), "", ""))], |guest, fake| {
                let done = share(guest, guest, "/mnt/state", "cluster/hpc");
                outcome = Some((done.map_err(|fault| fault.to_string()), fake.file(NEEDS)));
            });
            outcome.unwrap()
        };
        let (done, needs) = asked(true);
        assert_eq!(done, Ok(()));
        let needs = String::from_utf8(needs.unwrap()).unwrap();
        assert!(needs.contains("RequiresMountsFor=/mnt/state"), "{needs}");
        let (done, needs) = asked(false);
        let words = done.unwrap_err();
        assert!(words.contains("cannot write into `stateFolder` /mnt/state on hpc-ctl"), "{words}");
        assert_eq!(needs, None);
    }
}
