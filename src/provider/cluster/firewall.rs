//! Firewall rules of a cluster's machines, as a service of theirs that loads them before there is a network.
//! Rules in a table of our own; no other table is touched. What is in force is compared with what was in
//! force right after they were loaded, so that rules that somebody took out are missed.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use trueup_slurm::run::{Argv, RunError};
use trueup_slurm::{Firewall, Machine as _};

use super::GUEST_QUESTION;
use super::act::Job;
use super::prepare::{Digests, digest};
use crate::model::{Fault, Name};
use crate::port::Outcome;
use crate::provider::files::blocking;
use crate::provider::guest::Guest;

/// The rules, and what the kernel said of them when they were loaded.
const RULES: &str = "/etc/trueup/firewall.nft";
const LISTED: &str = "/etc/trueup/firewall.listed";
/// What loads them.
const UNIT: &str = "/etc/systemd/system/trueup-firewall.service";
const SERVICE: &str = "trueup-firewall.service";
/// Before there is a network; and after Debian's own rules, which begin with removing all.
const UNIT_TEXT: &str = "# Written by trueup.\n[Unit]\nDescription=Firewall rules of a cluster of trueup's\n\
    DefaultDependencies=no\nAfter=local-fs.target systemd-modules-load.service nftables.service\n\
    Before=network-pre.target shutdown.target\nWants=network-pre.target\nConflicts=shutdown.target\n\n\
    [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/sbin/nft -f /etc/trueup/firewall.nft\n\n\
    [Install]\nWantedBy=sysinit.target\n";
/// What tells how a machine is.
pub(super) const FILES: [&str; 3] = [RULES, LISTED, UNIT];

/// What is in force of ours; `None`: nothing is.
fn listed(guest: &Guest) -> Result<Option<String>, RunError> {
    let argv = Argv::new("nft").args(["-s", "list", "table", "inet", Firewall::TABLE]);
    let said = guest.run(&argv, GUEST_QUESTION)?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    Ok(said.status.success().then_some(text))
}

/// Whether a machine has these rules in force; or with `None`, none of ours.
///
/// # Errors
/// It does not answer.
pub(super) fn is(guest: &Guest, there: &Digests, rules: Option<&str>) -> Result<bool, String> {
    let Some(rules) = rules else {
        return Ok(!FILES.iter().any(|file| there.has_some(file)));
    };
    if !there.has(RULES, &digest(rules)) || !there.has(UNIT, &digest(UNIT_TEXT)) {
        return Ok(false);
    }
    let listed = listed(guest).map_err(|error| error.to_string())?;
    Ok(listed.is_some_and(|text| there.has(LISTED, &digest(&text))))
}

/// Puts rules into force, or takes ours away; whether there was anything to do.
fn set(guest: &Guest, rules: Option<&str>) -> io::Result<bool> {
    let there = Digests::ask(guest, FILES.into_iter()).map_err(io::Error::other)?;
    if !there.has_some(RULES) && rules.is_some() && listed(guest).is_err_and(|it| is_missing(&it)) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "there is no nft in it"));
    }
    if is(guest, &there, rules).map_err(io::Error::other)? {
        return Ok(false);
    }
    guest.remove(Path::new(LISTED)).or_else(|error| if_there(&there, error))?;
    let Some(rules) = rules else {
        guest.must(&["systemctl", "disable", "--now", SERVICE])?;
        if listed(guest).map_err(io::Error::other)?.is_some() {
            guest.must(&["nft", "delete", "table", "inet", Firewall::TABLE])?;
        }
        guest.remove(Path::new(UNIT))?;
        guest.must(&["systemctl", "daemon-reload"])?;
        guest.remove(Path::new(RULES))?;
        return Ok(true);
    };
    guest.must(&["mkdir", "-p", "/etc/trueup"])?;
    guest.replace(Path::new(RULES), rules.as_bytes())?;
    guest.replace(Path::new(UNIT), UNIT_TEXT.as_bytes())?;
    guest.must(&["systemctl", "daemon-reload"])?;
    guest.must(&["systemctl", "enable", SERVICE])?;
    guest.must(&["systemctl", "restart", SERVICE])?;
    let text = listed(guest).map_err(io::Error::other)?;
    let text =
        text.ok_or_else(|| io::Error::other("its rules were loaded and are not in force"))?;
    guest.replace(Path::new(LISTED), text.as_bytes())?;
    Ok(true)
}

/// A folder that is not there has no file to be removed.
fn if_there(there: &Digests, error: io::Error) -> io::Result<()> {
    if there.has_some(RULES) || there.has_some(LISTED) { Err(error) } else { Ok(()) }
}

fn is_missing(error: &RunError) -> bool {
    matches!(error, RunError::Start { error, .. } if error.kind() == io::ErrorKind::NotFound)
}

impl Job<'_> {
    /// Puts the rules of machines into force; of those that have none here, takes them away.
    pub(super) async fn firewall(
        &self,
        machines: BTreeMap<String, Name>,
        rules: BTreeMap<String, String>,
    ) -> Result<Outcome, Fault> {
        let (provider, id) = (self.provider.clone(), self.id.clone());
        let work = move || {
            let mut already = true;
            let each = provider
                .each(&machines, |name, guest| set(guest, rules.get(name).map(String::as_str)));
            for (name, done) in each {
                let done = done.map_err(|error| {
                    let message = format!("{id}: the firewall of {name}: {error}");
                    match error.kind() {
                        io::ErrorKind::NotFound => Fault::needs_human(
                            message,
                            "add the package nftables to its image, or say `firewall: {enabled: false}`",
                        ),
                        _ => Fault::transient(message),
                    }
                })?;
                already &= !done;
            }
            Ok(already)
        };
        let already = blocking("set firewall rules", work).await?;
        Ok(Outcome { already, ..Outcome::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::guest::fake::{ended, with};

    const OURS: &str = "table inet trueup {\n}\n";

    fn so(guest: &Guest, rules: Option<&str>) -> bool {
        let there = Digests::ask(guest, FILES.into_iter()).unwrap();
        is(guest, &there, rules).unwrap()
    }

    #[test]
    fn rules_are_in_force_once_the_kernel_has_them() {
        with(&[("nft", ended(0, OURS, ""))], |guest, fake| {
            assert!(so(guest, None) && !so(guest, Some("rules")));
            for cut_off in ["enable trueup", "restart trueup", "/etc/trueup/firewall.listed"] {
                fake.fails(Some(cut_off));
                let error = set(guest, Some("rules")).unwrap_err().to_string();
                assert!(error.contains(cut_off), "{error}");
                fake.fails(None);
                assert!(!so(guest, Some("rules")), "{cut_off} failed");
            }
            assert!(set(guest, Some("rules")).unwrap() && so(guest, Some("rules")));
            assert!(!set(guest, Some("rules")).unwrap(), "they are in force");
            // Somebody adds a rule of their own to our table.
            fake.says("nft", ended(0, "table inet trueup {\n\tchain more {\n\t}\n}\n", ""));
            assert!(!so(guest, Some("rules")));
            // Or removes all of them.
            fake.says("nft", ended(1, "", "No such file or directory"));
            assert!(!so(guest, Some("rules")));
            fake.says("nft", ended(0, OURS, ""));
            assert!(set(guest, None).unwrap() && so(guest, None));
            let last = "nft delete table inet trueup".to_owned();
            assert!(fake.ran().contains(&last), "{:?}", fake.ran());
        });
    }

    #[test]
    fn an_image_without_nftables_is_told_before_anything_is_written() {
        with(&[], |guest, fake| {
            let error = set(guest, Some("rules")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
            assert_eq!(fake.file(RULES), None);
            assert!(so(guest, None), "nothing was begun");
        });
    }
}
