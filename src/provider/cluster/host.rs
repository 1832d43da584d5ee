//! Where a cluster is on this host and by which programs it is asked there: what the host's config says, never
//! a commit. In a machine that trueup made it is where Debian's packages have it.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// The folder of Slurm's programs where none is found on the search path: Debian's.
const USUAL: &str = "/usr/bin";
/// The program by which that folder is found.
const OF_SLURM: &str = "scontrol";
/// Permission bits of whoever is neither the owner nor root.
const OTHERS_WRITE: u32 = 0o022;

/// Where a cluster is on a host, and how its daemons are started anew: argument vectors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterHost {
    /// The folder of `slurm.conf`, `gres.conf` and `cgroup.conf`.
    pub folder: PathBuf,
    /// The folder of `scontrol` and its like; `None`: one of the search path that only root may change.
    pub programs: Option<PathBuf>,
    /// The controller, which a candidate is tried with.
    pub slurmctld: PathBuf,
    /// The socket of slurmrestd, where that is asked.
    pub slurmrestd: Option<PathBuf>,
    /// Where a document may name programs and files that `slurm.conf` does not name yet.
    pub allowed_paths: Vec<PathBuf>,
    /// Starts the controller anew.
    pub restart_controller: Vec<String>,
    /// Starts a node's daemon anew, with `{node}` for its name; empty: there is no way.
    pub restart_node: Vec<String>,
}

impl ClusterHost {
    /// A machine that trueup made.
    pub(super) fn of_guest() -> Self {
        Self {
            folder: "/etc/slurm".into(),
            slurmctld: "/usr/sbin/slurmctld".into(),
            restart_controller: ["systemctl", "restart", "slurmctld.service"]
                .map(str::to_owned)
                .into(),
            ..Self::default()
        }
    }

    /// The folder of Slurm's programs on this host.
    pub(super) fn programs_here(&self) -> PathBuf {
        let path = std::env::var_os("PATH").unwrap_or_default();
        self.programs.clone().unwrap_or_else(|| found(std::env::split_paths(&path)))
    }
}

fn found(mut path: impl Iterator<Item = PathBuf>) -> PathBuf {
    let there = |folder: &PathBuf| folder.join(OF_SLURM).is_file() && only_root_changes(folder);
    path.find(there).unwrap_or_else(|| USUAL.into())
}

/// Whether nobody but root, and whoever this is, can put another program into a folder, or another folder in
/// its place.
fn only_root_changes(folder: &Path) -> bool {
    let Ok(real) = folder.canonicalize() else { return false };
    let own = geteuid().as_raw();
    folder.is_absolute()
        && real.ancestors().all(|part| {
            part.symlink_metadata()
                .is_ok_and(|it| (it.uid() == 0 || it.uid() == own) && it.mode() & OTHERS_WRITE == 0)
        })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_program_is_taken_from_no_folder_that_others_may_write_to() {
        // Below /tmp anybody could put another folder in its place.
        let top = tempfile::tempdir_in("/tmp").unwrap();
        let bin = top.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let scontrol = bin.join(OF_SLURM);
        fs::write(&scontrol, "").unwrap();
        fs::set_permissions(&scontrol, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(!only_root_changes(&bin));
        assert_eq!(found([bin, "bin".into()].into_iter()), Path::new(USUAL));
        assert!(only_root_changes(Path::new("/usr/bin")) && !only_root_changes(Path::new("bin")));
    }

    #[test]
    fn what_the_config_names_is_taken_as_it_is() {
        let named = ClusterHost { programs: Some("/opt/slurm/bin".into()), ..Default::default() };
        assert_eq!(named.programs_here(), Path::new("/opt/slurm/bin"));
    }
}
