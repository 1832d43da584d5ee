//! Machines of a cluster that trueup makes: the munge key and the services of each, and how a node finds
//! its controller. All of it is written through the machine's agent, so that nothing of it is in an image
//! or on cloud-init media, and no change of it restarts a machine.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use trueup_slurm::Machine as _;
use trueup_slurm::run::Argv;

use super::act::Job;
use super::copy::{self, Copies};
use super::database::{self, Setup};
use super::key::{self, Key};
use super::look::Known;
use super::{ClusterProvider, GUEST_QUESTION, firewall};
use crate::model::resource::{MachineSeen, SlurmBuilt, SlurmCluster, StateFolder};
use crate::model::{Fault, Name};
use crate::port::Outcome;
use crate::provider::files::blocking;
use crate::provider::guest::{self, Guest};

/// Where munge reads its key (munged(8)), and as whom.
const KEY: &str = "/etc/munge/munge.key";
const MUNGE: &str = "munge";
/// Says which key munge was started with: a key alone may have been written a moment before a crash.
const STARTED: &str = "/etc/munge/trueup-started";
/// What a node's daemon is started with; without this file it is not started.
const OPTIONS: &str = "/etc/slurm/trueup-node";
/// Says with which of them it was started: they alone may have been written a moment before a crash.
const JOINED: &str = "/etc/slurm/trueup-joined";
/// What is changed about Debian's units, and the folders for that.
const SERVICES: &[(&str, &str)] = &[
    (
        "/etc/systemd/system/slurmctld.service.d",
        "# Written by trueup.\n[Unit]\nStartLimitIntervalSec=0\n\n[Service]\nRestart=on-failure\n\
         RestartSec=5\n",
    ),
    (
        // Debian's own needs a slurm.conf, which nodes get from the controller.
        "/etc/systemd/system/slurmd.service.d",
        "# Written by trueup.\n[Unit]\nConditionPathExists=\nConditionPathExists=/etc/slurm/trueup-node\n\
         StartLimitIntervalSec=0\n\n[Service]\nEnvironmentFile=/etc/slurm/trueup-node\n\
         Restart=on-failure\nRestartSec=5\n",
    ),
];
/// The file in those folders.
const DROP_IN: &str = "trueup.conf";

/// The options of a node's daemon.
fn options(server: &str) -> String {
    format!("# Written by trueup.\nSLURMD_OPTIONS='--conf-server {server}'\n")
}

/// With which key, or options, something was started: their digest.
fn started(with: &str) -> String {
    format!("{with}\n")
}

/// What is to be found on a machine, by file and digest.
struct Wanted {
    /// The key, and the file that says that munge was started with it; `None`: there is no key yet.
    key: Option<(String, String)>,
    services: Vec<(String, String)>,
    /// The options, and the file that says that the daemon was started with them.
    options: (String, String),
}

impl Wanted {
    fn new(key: Option<&Key>, server: &str) -> Self {
        let services =
            SERVICES.iter().map(|(folder, text)| (format!("{folder}/{DROP_IN}"), digest(text)));
        let options = digest(&options(server));
        let mark = digest(&started(&options));
        Self {
            key: key.map(|key| (key.digest(), digest(&started(&key.digest())))),
            services: services.collect(),
            options: (options, mark),
        }
    }

    /// The files that tell how a machine is.
    fn files(&self) -> impl Iterator<Item = &str> {
        let services = self.services.iter().map(|(path, _)| path.as_str());
        [KEY, STARTED, OPTIONS, JOINED].into_iter().chain(services)
    }

    /// Asks a machine which of its files are as wanted.
    fn look(&self, guest: &Guest) -> Result<MachineSeen, String> {
        Ok(self.seen(&Digests::ask(guest, self.files())?))
    }

    fn seen(&self, there: &Digests) -> MachineSeen {
        let has = |path: &str, digest: &str| there.has(path, digest);
        let key = self.key.as_ref().is_some_and(|(key, mark)| has(KEY, key) && has(STARTED, mark));
        MachineSeen {
            prepared: key && self.services.iter().all(|(path, digest)| has(path, digest)),
            joined: has(OPTIONS, &self.options.0) && has(JOINED, &self.options.1),
            ..MachineSeen::default()
        }
    }
}

/// What is in some files of a machine, by what sha256sum(1) says of each that is there.
pub(super) struct Digests(BTreeMap<String, String>);

impl Digests {
    /// Asks a machine.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) fn ask<'a>(
        guest: &Guest,
        files: impl Iterator<Item = &'a str>,
    ) -> Result<Self, String> {
        let argv = Argv::new("sha256sum").args(files);
        // It ends with an error where one of them is not there, and tells of the others.
        let said = guest.run(&argv, GUEST_QUESTION).map_err(|error| error.to_string())?;
        Ok(Self::read(&String::from_utf8_lossy(&said.stdout)))
    }

    fn read(text: &str) -> Self {
        // sha256sum(1): the digest, a blank, a blank or `*`, the name.
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let own = |(digest, name): (&str, &str)| {
            (name.trim_start_matches([' ', '*']).to_owned(), digest.to_owned())
        };
        Self(lines.map(own).collect())
    }

    /// Whether this is in that file.
    pub(super) fn has(&self, path: &str, digest: &str) -> bool {
        self.0.get(path).is_some_and(|there| there == digest)
    }

    /// Whether that file is there.
    pub(super) fn has_some(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }
}

/// What sha256sum(1) says of a file with this text.
pub(super) fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// How machines are, and those that cannot be looked at, with why; by their name in the cluster.
type Looks = (BTreeMap<String, MachineSeen>, BTreeMap<String, String>);

impl ClusterProvider {
    /// The machines of a cluster that are ours and answer, and how they are; and those that answer and cannot
    /// be looked at, with why. The key is this host's: without it nothing is known of any. `files`
    /// are those of its controller, `rules` those of the firewall of each machine, if there are to be any.
    pub(super) fn machines(
        &self,
        cluster: &Name,
        slurm: &SlurmCluster,
        built: &SlurmBuilt,
        known: Known<'_>,
        (files, rules): (&Copies, Option<&BTreeMap<String, String>>),
    ) -> Result<Looks, String> {
        let key = key::there(&self.setup.folder, cluster, built.key);
        let key = key.map_err(|error| format!("its munge key: {error}"))?;
        let wanted = Wanted::new(key.as_ref(), &built.server);
        let copies = slurm.copies();
        let backup = slurm.backup();
        let database = slurm.database().zip(Setup::of(slurm));
        let look = |name: &str, guest: &Guest| {
            let own = copies.contains_key(name);
            let data = database.as_ref().filter(|((machine, _), _)| *machine == name);
            let rules = rules.map(|rules| rules.get(name).map_or("", String::as_str));
            let asked = wanted.files().chain(firewall::FILES);
            let asked = asked.chain(own.then_some(copy::FILES).into_iter().flatten());
            let asked =
                asked.chain(data.is_some().then_some(database::FILES).into_iter().flatten());
            let there = Digests::ask(guest, asked)?;
            let mut seen = wanted.seen(&there);
            seen.copied =
                own && files.are(&there, backup.is_some_and(|it| it.as_str() == guest.name()));
            seen.database = match data {
                Some((_, setup)) => setup.is(&there) && database::runs(guest)?,
                None => false,
            };
            seen.firewall = firewall::is(guest, &there, rules)?;
            Ok::<MachineSeen, String>(seen)
        };
        let machines = built.machines.iter().filter(|(_, machine)| known.has(machine));
        let machines = machines.map(|(name, machine)| (name.clone(), machine.clone())).collect();
        let found =
            self.each(&machines, |name, guest| guest.ping().ok().map(|()| look(name, guest)));
        let (mut seen, mut unwell) = (BTreeMap::new(), BTreeMap::new());
        for (name, found) in found {
            match found {
                Some(Ok(one)) => {
                    seen.insert(name, one);
                }
                Some(Err(why)) => {
                    unwell.insert(name, why);
                }
                None => {}
            }
        }
        Ok((seen, unwell))
    }

    /// Does something with each machine, some of them at once.
    pub(super) fn each<T: Send>(
        &self,
        machines: &BTreeMap<String, Name>,
        work: impl Fn(&str, &Guest) -> T + Sync,
    ) -> Vec<(String, T)> {
        let guest = |(name, domain): (&String, &Name)| (name.clone(), self.guest(domain));
        guest::each(machines.iter().map(guest).collect(), work)
    }
}

impl Job<'_> {
    /// Gives each of these machines the munge key of that number and sets up its services. Where it has
    /// another key, munge is started anew only once every machine has the new one, so that they disagree
    /// for no longer than that takes.
    pub(super) async fn prepare(
        &self,
        machines: BTreeMap<String, Name>,
        number: u32,
        shared: Option<StateFolder>,
    ) -> Result<Outcome, Fault> {
        let (provider, id) = (self.provider.clone(), self.id.clone());
        let first = self.place.guest.clone();
        let work = move || {
            if let Some((shared, first)) = shared.zip(first) {
                let (first, second) = (provider.guest(&first), provider.guest(&shared.with));
                copy::share(&first, &second, &shared.folder, &id.to_string())?;
            }
            let fault = |what: &str, error: &dyn std::fmt::Display| {
                Fault::transient(format!("{id}: {what}: {error}"))
            };
            let key = key::get(&provider.setup.folder, &id.name, number)
                .map_err(|error| fault("its munge key", &error))?;
            let wanted = Wanted::new(Some(&key), "");
            let mut changed = BTreeMap::new();
            for (name, one) in provider.each(&machines, |_, guest| write(guest, &wanted, &key)) {
                let wrote = one.map_err(|error| fault(&format!("preparing {name}"), &error))?;
                changed.extend(machines.get_key_value(&name).filter(|_| wrote));
            }
            let changed: BTreeMap<String, Name> =
                changed.into_iter().map(|(name, domain)| (name.clone(), domain.clone())).collect();
            for (name, one) in provider.each(&changed, |_, guest| start_munge(guest, &key)) {
                one.map_err(|error| fault(&format!("starting munge on {name}"), &error))?;
            }
            let changed = !changed.is_empty();
            key::forget_before(&provider.setup.folder, &id.name, number)
                .map_err(|error| fault("an earlier munge key", &error))?;
            Ok(!changed)
        };
        let already = blocking("prepare machines", work).await?;
        Ok(Outcome { already, ..Outcome::default() })
    }

    /// Makes a machine a node.
    pub(super) async fn join(&self, guest: &Name, server: &str) -> Result<Outcome, Fault> {
        let (guest, server) = (self.provider.guest(guest), server.to_owned());
        let what = format!("{}: joining {guest_name}", self.id, guest_name = guest.name());
        let work = move || {
            let joined = start_slurmd(&guest, &options(&server));
            joined.map_err(|error| Fault::transient(format!("{what}: {error}")))
        };
        blocking("start a node's daemon", work).await?;
        Ok(Outcome::default())
    }
}

/// Writes what is not there yet; whether anything was.
fn write(guest: &Guest, wanted: &Wanted, key: &Key) -> io::Result<bool> {
    if wanted.look(guest).map_err(io::Error::other)?.prepared {
        return Ok(false);
    }
    guest.remove(Path::new(STARTED))?;
    guest.write_private(Path::new(KEY), (MUNGE, "0400"), key.bytes())?;
    guest.must(&["mkdir", "-p", "/etc/slurm"])?;
    for (folder, text) in SERVICES {
        guest.must(&["mkdir", "-p", folder])?;
        guest.replace(&Path::new(folder).join(DROP_IN), text.as_bytes())?;
    }
    guest.must(&["systemctl", "daemon-reload"])?;
    Ok(true)
}

fn start_munge(guest: &Guest, key: &Key) -> io::Result<()> {
    guest.must(&["systemctl", "restart", "munge.service"])?;
    guest.replace(Path::new(STARTED), started(&key.digest()).as_bytes())
}

/// Starts a node's daemon with these options. Whatever keeps it from being started, or cuts this off, leaves
/// a machine that has not joined.
fn start_slurmd(guest: &Guest, options: &str) -> io::Result<()> {
    guest.remove(Path::new(JOINED))?;
    guest.replace(Path::new(OPTIONS), options.as_bytes())?;
    guest.must(&["systemctl", "daemon-reload"])?;
    guest.must(&["systemctl", "restart", "--no-block", "slurmd.service"])?;
    guest.replace(Path::new(JOINED), started(&digest(options)).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::guest::fake::{Fake, with};

    const SERVER: &str = "10.0.0.1:6817";

    #[track_caller]
    fn fails(fake: &Fake, at: &str, done: impl FnOnce() -> io::Result<()>) {
        fake.fails(Some(at));
        let error = done().unwrap_err().to_string();
        assert!(error.contains(at), "{error}");
        fake.fails(None);
    }

    #[test]
    fn a_daemon_that_was_not_started_has_not_joined() {
        with(&[], |guest, fake| {
            let joined = || Wanted::new(None, SERVER).look(guest).unwrap().joined;
            let join = || start_slurmd(guest, &options(SERVER));
            assert!(!joined());
            for cut_off in ["daemon-reload", "restart", "mv -f -T /etc/slurm/.trueup-joined"] {
                fails(fake, cut_off, join);
                assert!(!joined(), "{cut_off} failed");
            }
            join().unwrap();
            assert!(joined());
            // And once more, for whatever reason: until it is started it is as nobody knows.
            fails(fake, "restart", join);
            assert!(!joined());
            assert!(!Wanted::new(None, "10.0.0.2:6817").look(guest).unwrap().joined);
        });
    }

    #[test]
    fn a_machine_is_prepared_once_munge_was_started_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let key = key::get(folder.path(), &Name::new("hpc").unwrap(), 1).unwrap();
        with(&[], |guest, fake| {
            let wanted = Wanted::new(Some(&key), "");
            let prepared = || wanted.look(guest).unwrap().prepared;
            assert!(write(guest, &wanted, &key).unwrap());
            assert_eq!(fake.file(KEY).unwrap(), key.bytes());
            assert!(!prepared(), "munge has not read it");
            fails(fake, "restart munge", || start_munge(guest, &key));
            assert!(!prepared());
            assert!(write(guest, &wanted, &key).unwrap(), "it is written again");
            start_munge(guest, &key).unwrap();
            assert!(prepared() && !write(guest, &wanted, &key).unwrap());
            // Nobody reads it but munge, at no time.
            let made =
                "install -m 0400 -o munge -g munge /dev/null /etc/munge/.munge.key.trueup-new";
            assert!(fake.ran().contains(&made.to_owned()), "{:?}", fake.ran());
            // Another key: what was started before counts no more, from before it is written.
            let other = key::get(folder.path(), &Name::new("hpc").unwrap(), 2).unwrap();
            let next = Wanted::new(Some(&other), "");
            fails(fake, "install -m 0400", || write(guest, &next, &other).map(drop));
            assert!(!prepared() && !next.look(guest).unwrap().prepared);
        });
    }

    #[test]
    fn what_a_machine_has_is_told_from_what_it_should_have() {
        let folder = tempfile::tempdir().unwrap();
        let key = key::get(folder.path(), &Name::new("hpc").unwrap(), 1).unwrap();
        let wanted = Wanted::new(Some(&key), "10.0.0.1:6817");
        let (_, mark) = wanted.key.clone().unwrap();
        let mut text = format!("{}  {KEY}\n{mark}  {STARTED}\n", key.digest());
        let (options, joined) = &wanted.options;
        text.push_str(&format!("{options}  {OPTIONS}\n{joined}  {JOINED}\n"));
        for (path, digest) in &wanted.services {
            text.push_str(&format!("{digest} *{path}\n"));
        }
        let seen = |wanted: &Wanted, text: &str| {
            let seen = wanted.seen(&Digests::read(text));
            (seen.prepared, seen.joined)
        };
        assert_eq!(seen(&wanted, &text), (true, true));
        let other = Wanted::new(Some(&key), "10.0.0.2:6817");
        assert_eq!(seen(&other, &text), (true, false));
        let image = text.replace(&key.digest(), &"0".repeat(64));
        assert_eq!(seen(&wanted, &image), (false, true));
        let half = text.replace(&mark, &"0".repeat(64));
        assert!(!seen(&wanted, &half).0, "munge was started with another key");
        assert_eq!(seen(&wanted, ""), (false, false));
        let unmade = Wanted::new(None, "10.0.0.1:6817");
        assert!(!seen(&unmade, &text).0, "whatever it has is not the key that is to come");
    }
}
