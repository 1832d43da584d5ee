//! The certificates in the machine of a control plane that trueup built: kubeadm makes them with that of the API
//! server, and each may end on another day once somebody renewed some of them by hand. Keys are not read.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use trueup_kubernetes::cert::{self, Certificate};
use trueup_slurm::Machine as _;
use trueup_slurm::run::Argv;

use super::KubernetesProvider;
use super::link::{CERTIFICATES, Link};
use crate::model::Name;
use crate::provider::files::blocking;
use crate::provider::guest::Guest;

/// Where they are.
const FOLDER: &str = "/etc/kubernetes/pki";
/// Those that `kubeadm certs renew all` renews. What it has in kubeconfigs is beside keys there.
const RENEWED: [&str; 7] = [
    "apiserver.crt",
    "apiserver-etcd-client.crt",
    "apiserver-kubelet-client.crt",
    "etcd/healthcheck-client.crt",
    "etcd/peer.crt",
    "etcd/server.crt",
    "front-proxy-client.crt",
];
/// Those of authorities, beside the one that each kubeconfig has.
const AUTHORITIES: [&str; 2] = ["etcd/ca.crt", "front-proxy-ca.crt"];
/// Most that is read of one file, bytes: kubeadm's have some 1,200.
const FILE_MAX: usize = 16 << 10;
/// Most that all of them are, with their names.
const ALL_MAX: usize = (RENEWED.len() + AUTHORITIES.len()) * (FILE_MAX + 256);
/// Longest that the question may take in a machine, which may be emulated.
const QUESTION: Duration = Duration::from_secs(90);

/// What was found in a machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct InMachine {
    /// The certificates; of a file with several, the one that ends first.
    pub(super) certificates: Vec<Certificate>,
    /// What could not be read, in words.
    pub(super) unread: Vec<String>,
}

impl KubernetesProvider {
    /// The certificates in the machine of a control plane, as seldom read as those by which the cluster is reached.
    /// `guest`: that machine, if it answers; else, and where it says nothing of them, they are as they were.
    pub(super) async fn in_machine(&self, link: &Link, guest: Option<&Name>) -> InMachine {
        let mut known = link.in_machine.lock().await;
        if let Some((due, found)) = known.as_ref()
            && Instant::now() < *due
        {
            return found.clone();
        }
        let before = known.as_ref().map(|(_, found)| found.clone()).unwrap_or_default();
        let Some(guest) = guest else { return before };
        let (provider, name) = (self.clone(), guest.clone());
        let look = move || Ok(read(&provider.guest(&name)));
        let why = match blocking("read certificates", look).await {
            Ok(Ok(found)) => {
                *known = Some((Instant::now() + CERTIFICATES, found.clone()));
                return found;
            }
            Ok(Err(why)) => why,
            Err(fault) => fault.to_string(),
        };
        InMachine { unread: vec![format!("certificates in {guest}: {why}")], ..before }
    }
}

/// Reads them, by one question.
fn read(guest: &Guest) -> Result<InMachine, String> {
    let paths = RENEWED.iter().chain(&AUTHORITIES).map(|name| format!("{FOLDER}/{name}"));
    let argv = Argv::new("head").args(["--verbose", &format!("--bytes={FILE_MAX}")]).args(paths);
    // It ends with an error where one of them is not there, and tells of the others.
    let said = guest.run(&argv, QUESTION).map_err(|error| error.to_string())?;
    match said.stdout.len() {
        0..=ALL_MAX => Ok(found(guest.name(), &String::from_utf8_lossy(&said.stdout))),
        bytes => Err(format!("it says {bytes} bytes, and was asked for {ALL_MAX} at most")),
    }
}

/// What head(1) told of these files in the machine of that name, which may say what it likes.
fn found(machine: &str, text: &str) -> InMachine {
    let files = files(text);
    let mut all = InMachine::default();
    let renewed = RENEWED.map(|name| (name, format!("{name} in {machine}")));
    let authorities = AUTHORITIES.map(|name| (name, format!("authority {name} in {machine}")));
    for (name, what) in renewed.into_iter().chain(authorities) {
        let Some(text) = files.get(name) else {
            all.unread.push(format!("{what}: it is not there, or cannot be read"));
            continue;
        };
        match cert::from_pem(&what, text.as_bytes()) {
            Ok(several) => all.certificates.extend(several.into_iter().min_by_key(|it| it.until)),
            Err(why) => all.unread.push(why),
        }
    }
    all
}

/// The texts of files by their names: each follows a line `==> NAME <==`.
fn files(text: &str) -> BTreeMap<&str, String> {
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        let path = line.strip_prefix("==> ").and_then(|line| line.strip_suffix(" <=="));
        let name = path.and_then(|path| path.strip_prefix(FOLDER)?.strip_prefix('/'));
        if let Some(name) = name {
            current = Some(name);
            files.entry(name).or_default();
        } else if let Some(name) = current {
            let file = files.entry(name).or_default();
            file.push_str(line);
            file.push('\n');
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Until 2020-01-02.
    const ENDED: &str = include_str!("../../../crates/kubernetes/src/cert/ended.pem");

    /// What head(1) tells of files.
    fn told(files: &[(&str, &str)]) -> String {
        let told = files.iter().map(|(name, text)| format!("==> {FOLDER}/{name} <==\n{text}"));
        told.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn every_file_is_told_of_and_no_other() {
        let all: Vec<(&str, &str)> =
            RENEWED.iter().chain(&AUTHORITIES).map(|name| (*name, ENDED)).collect();
        let seen = found("ctl", &told(&[&all[..], &[("sa.key", ENDED)]].concat()));
        assert_eq!(seen.unread, [""; 0]);
        let names = seen.certificates.iter().map(|it| it.what.trim_end_matches(" in ctl"));
        assert_eq!(
            names.collect::<Vec<_>>()[4..],
            ["etcd/peer.crt", "etcd/server.crt", "front-proxy-client.crt"]
                .into_iter()
                .chain(["authority etcd/ca.crt", "authority front-proxy-ca.crt"])
                .collect::<Vec<_>>()
        );
        assert_eq!(seen.certificates.iter().filter(|it| it.is_authority()).count(), 2);
        assert!(seen.certificates.iter().all(|it| it.until.to_string() == "2020-01-02T00:00:00Z"));
    }

    #[test]
    fn a_machine_may_say_what_it_likes() {
        let cut_off = &ENDED[..ENDED.len() / 2];
        let seen =
            found("ctl", &told(&[("apiserver.crt", cut_off), ("etcd/peer.crt", "no\u{fffd}")]));
        assert!(seen.certificates.is_empty(), "{seen:?}");
        assert!(seen.unread[0].contains("apiserver.crt in ctl: is cut off"), "{:?}", seen.unread);
        assert!(seen.unread[4].contains("there is no certificate in it"), "{:?}", seen.unread);
        assert!(seen.unread[5].contains("etcd/server.crt in ctl: it is not there"));
        assert_eq!(seen.unread.len(), RENEWED.len() + AUTHORITIES.len());
        for strange in ["", "==> ", "==>  <==", "==> /etc/kubernetes/pki <==\nx", ENDED] {
            assert!(found("ctl", strange).certificates.is_empty(), "{strange}");
        }
        // A name that is there twice, and one with a line of another file's in it.
        let twice = told(&[("etcd/peer.crt", ENDED), ("etcd/peer.crt", cut_off)]);
        assert!(found("ctl", &twice).certificates.is_empty());
    }
}
