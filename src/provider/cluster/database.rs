//! The accounting database of a cluster that trueup makes: MariaDB and slurmdbd in one of its machines.
//! There is no password: MariaDB knows slurmdbd by the user that it runs as.
//!
//! A disk of its own is given a file system by `guest::disk`: only where there is nothing at all on it.

use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use trueup_slurm::run::Argv;
use trueup_slurm::{Database, DatabaseError, Machine as _};

use super::act::Job;
use super::prepare::{Digests, digest};
use super::{GUEST_QUESTION, GUEST_START, GUEST_WORK};
use crate::model::resource::SlurmCluster;
use crate::model::{Fault, Name};
use crate::port::Outcome;
use crate::provider::files::blocking;
use crate::provider::guest::{Guest, disk};

/// slurmdbd's file; it starts with no other mode than 0600 (slurmdbd.conf(5)).
const CONF: &str = "/etc/slurm/slurmdbd.conf";
const SLURM: (&str, &str) = ("slurm", "0600");
/// What slurmdbd asks of MariaDB (Slurm's accounting guide), and no network.
const TUNING: &str = "/etc/mysql/mariadb.conf.d/90-trueup.cnf";
const TUNING_TEXT: &str = "# Written by trueup.\n[mariadbd]\nskip-networking\n\
    innodb_buffer_pool_size=128M\ninnodb_log_file_size=64M\ninnodb_lock_wait_timeout=900\n";
/// Both start again by themselves; slurmdbd after MariaDB.
const DAEMON: &str = "/etc/systemd/system/slurmdbd.service.d/trueup.conf";
const DAEMON_TEXT: &str = "# Written by trueup.\n[Unit]\nAfter=mariadb.service\nStartLimitIntervalSec=0\n\n\
    [Service]\nRestart=on-failure\nRestartSec=5\n";
/// With a disk of its own, MariaDB does not start without it: an empty database would be a new one.
const NEEDS: &str = "/etc/systemd/system/mariadb.service.d/trueup.conf";
const NEEDS_TEXT: &str = "# Written by trueup.\n[Unit]\nRequiresMountsFor=/var/lib/mysql\n";
const MOUNT: &str = "/etc/systemd/system/var-lib-mysql.mount";
const MOUNT_TEXT: &str = "# Written by trueup.\n[Unit]\nDescription=The accounting database\n\n[Mount]\n\
    What=/dev/disk/by-label/trueup-data\nWhere=/var/lib/mysql\nType=ext4\n\n[Install]\n\
    WantedBy=multi-user.target\n";
/// Where MariaDB has its files.
const DATA: &str = "/var/lib/mysql";
/// Says with what all of it was set up: it alone is written last.
const DONE: &str = "/etc/slurm/trueup-database";
/// What tells how a machine is.
pub(super) const FILES: [&str; 6] = [CONF, TUNING, DAEMON, NEEDS, MOUNT, DONE];
/// What has to be in its image, and the packages that bring it.
const PROGRAMS: [(&str, &str); 2] =
    [("/usr/sbin/slurmdbd", "slurmdbd"), ("/usr/sbin/mariadbd", "mariadb-server")];
/// The daemons.
const MARIADB: &str = "mariadb.service";
const SLURMDBD: &str = "slurmdbd.service";

/// What the machine of a database is to be.
pub(super) struct Setup {
    conf: String,
    /// Whether the data are on a disk of their own.
    disk: bool,
}

/// What the database is to know.
pub(super) struct Known<'a> {
    /// What MariaDB is told.
    pub(super) statements: &'a str,
    /// The cluster.
    pub(super) cluster: &'a str,
    /// The `slurm.conf` with which slurmdbd is asked.
    pub(super) client: &'a str,
}

impl Setup {
    pub(super) fn new(conf: String, disk: bool) -> Self {
        Self { conf, disk }
    }

    /// That of a cluster, where it has a database.
    pub(super) fn of(slurm: &SlurmCluster) -> Option<Self> {
        let shape = slurm.built.as_ref()?.release;
        let conf = trueup_slurm::render(&slurm.wish, shape).ok()?.slurmdbd?;
        Some(Self { conf, disk: slurm.wish.database_host().is_some() })
    }

    /// The files of it but slurmdbd's own.
    fn files(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let own = [(NEEDS, NEEDS_TEXT), (MOUNT, MOUNT_TEXT)];
        [(TUNING, TUNING_TEXT), (DAEMON, DAEMON_TEXT)]
            .into_iter()
            .chain(own.into_iter().filter(|_| self.disk))
    }

    fn mark(&self) -> String {
        let mut all = Sha256::new();
        all.update(&self.conf);
        for (path, text) in self.files() {
            all.update(path);
            all.update(text);
        }
        format!("{}\n", hex::encode(all.finalize()))
    }

    /// Whether a machine is set up so.
    pub(super) fn is(&self, there: &Digests) -> bool {
        there.has(CONF, &digest(&self.conf))
            && there.has(DONE, &digest(&self.mark()))
            && self.files().all(|(path, text)| there.has(path, &digest(text)))
    }

    /// Sets a machine up, and starts both daemons. What is there already stays as it is.
    fn make(&self, guest: &Guest, statements: &str) -> io::Result<()> {
        for (program, _) in PROGRAMS {
            if !guest.says_yes(&["test", "-x", program])? {
                let kind = io::ErrorKind::NotFound;
                return Err(io::Error::new(kind, format!("there is no {program} in it")));
            }
        }
        guest.must(&["mkdir", "-p", "/etc/slurm"])?;
        guest.remove(Path::new(DONE))?;
        for (path, text) in self.files() {
            let folder = Path::new(path).parent().unwrap_or(Path::new("/"));
            guest.must(&["mkdir", "-p", &folder.display().to_string()])?;
            guest.replace(Path::new(path), text.as_bytes())?;
        }
        guest.must(&["systemctl", "daemon-reload"])?;
        if self.disk && !guest.says_yes(&["mountpoint", "-q", DATA])? {
            mount(guest)?;
        }
        if !guest.says_yes(&["test", "-d", "/var/lib/mysql/mysql"])? {
            guest.must_within(&["systemctl", "stop", MARIADB], GUEST_START)?;
            let install = [
                "mariadb-install-db",
                "--user=mysql",
                "--datadir=/var/lib/mysql",
                "--auth-root-authentication-method=socket",
                "--skip-test-db",
            ];
            guest.must_within(&install, GUEST_START)?;
        }
        guest.must_within(&["systemctl", "enable", MARIADB, SLURMDBD], GUEST_START)?;
        guest.must_within(&["systemctl", "restart", MARIADB], GUEST_START)?;
        let tell = format!("--execute={statements}");
        guest.must_within(&["mariadb", &tell], GUEST_QUESTION)?;
        guest.write_private(Path::new(CONF), SLURM, self.conf.as_bytes())?;
        guest.must_within(&["systemctl", "restart", SLURMDBD], GUEST_START)
    }
}

/// Whether both daemons run.
///
/// # Errors
/// The machine does not answer.
pub(super) fn runs(guest: &Guest) -> Result<bool, String> {
    // Of several it says yes where one of them is.
    let one = |unit: &str| {
        let argv = Argv::new("systemctl").args(["is-active", "--quiet", unit]);
        let said = guest.run(&argv, GUEST_QUESTION).map_err(|error| error.to_string())?;
        Ok::<bool, String>(said.status.success())
    };
    Ok(one(MARIADB)? && one(SLURMDBD)?)
}

/// Mounts the disk of the data, which is given a file system where it is empty.
fn mount(guest: &Guest) -> io::Result<()> {
    guest.must_within(&["systemctl", "stop", SLURMDBD, MARIADB], GUEST_START)?;
    disk::format(guest, "the accounting database")?;
    guest.must(&["systemctl", "enable", "--now", "var-lib-mysql.mount"])?;
    guest.must(&["chown", "mysql:mysql", DATA])
}

impl Job<'_> {
    /// Sets up the machine of the database, and makes the cluster known to it.
    pub(super) async fn database(
        &self,
        machine: &str,
        guest: &Name,
        setup: Setup,
        known: Known<'_>,
    ) -> Result<Outcome, Fault> {
        let what = format!("{}: the accounting database on {machine}", self.id);
        let guest = self.provider.guest(guest);
        let database = Database {
            machine: self.provider.machine(self.place),
            bin: None,
            question: GUEST_QUESTION,
            limit: GUEST_START,
        };
        let (statements, cluster) = (known.statements.to_owned(), known.cluster.to_owned());
        let client = known.client.to_owned();
        let (provider, id) = (self.provider.clone(), self.id.clone());
        let work = move || {
            let failed = |error: io::Error| match error.kind() {
                io::ErrorKind::NotFound => {
                    let packages = PROGRAMS.map(|(_, package)| package).join(" and ");
                    let ask = format!("add the packages {packages} to its image");
                    Fault::needs_human(format!("{what}: {error}"), ask)
                }
                _ => Fault::transient(format!("{what}: {error}")),
            };
            setup.make(&guest, &statements).map_err(failed)?;
            let registered = database.register(&cluster, &client, Path::new(GUEST_WORK));
            provider.wrote_accounts(&id);
            registered.map_err(|error| match error {
                DatabaseError::Silent { .. } => Fault::transient(format!(
                    "{what}: {error}; look at /var/log/slurm/slurmdbd.log there"
                )),
                DatabaseError::Refused(_) | DatabaseError::Folder { .. } => {
                    Fault::transient(format!("{what}: {error}"))
                }
            })?;
            guest.replace(Path::new(DONE), setup.mark().as_bytes()).map_err(failed)
        };
        blocking("set up a database", work).await?;
        Ok(Outcome::default())
    }
}

#[cfg(test)]
mod tests;
