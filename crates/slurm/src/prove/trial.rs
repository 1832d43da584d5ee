//! The files of a trial: what a private controller says otherwise than the one that a candidate is for, so that
//! it touches nothing of that and speaks to no node.

use std::path::Path;

use crate::conf;

/// Where nodes are for a trial: tcpmux, which nobody has, and which only root may have.
const NODES_PORT: u16 = 1;

/// Parameters that the copy says differently or not at all, in lower case. Programs that a controller
/// starts by itself are among them: a trial must not suspend a node.
const LEFT_OUT: &[&str] = &[
    "accountingstoragebackuphost",
    "accountingstorageenforce",
    "accountingstorageexternalhost",
    "accountingstoragehost",
    "accountingstoragepass",
    "accountingstorageport",
    "accountingstoragetres",
    "accountingstoragetype",
    "accountingstorageuser",
    "authaltparameters",
    "authalttypes",
    "controladdr",
    "controlmachine",
    "healthcheckinterval",
    "healthcheckprogram",
    "jobcomploc",
    "jobcomptype",
    "mailprog",
    "rebootprogram",
    "resumefailprogram",
    "resumeprogram",
    "slurmctldhost",
    "slurmctldlogfile",
    "slurmctldpidfile",
    "slurmctldport",
    "slurmctldprimaryoffprog",
    "slurmctldprimaryonprog",
    "slurmctldsyslogdebug",
    "slurmdport",
    "slurmschedlogfile",
    "slurmuser",
    "statesavelocation",
    "suspendprogram",
    "suspendtime",
];

/// The candidate as a private controller reads it.
pub(super) fn trial(candidate: &str, at: &Path, port: u16, user: u32) -> String {
    let mut text = String::new();
    for line in conf::lines(candidate) {
        let (first, _) = &line.pairs[0];
        let kept: Vec<(String, String)> = if first.eq_ignore_ascii_case("nodename") {
            let elsewhere = ["nodeaddr", "bcastaddr", "port"];
            let own = line.pairs.into_iter();
            own.filter(|(key, _)| !elsewhere.iter().any(|other| key.eq_ignore_ascii_case(other)))
                .chain([("NodeAddr".to_owned(), "127.0.0.1".to_owned())])
                .collect()
        } else {
            let out = |key: &str| LEFT_OUT.iter().any(|one| key.eq_ignore_ascii_case(one));
            line.pairs.into_iter().filter(|(key, _)| !out(key)).collect()
        };
        if !kept.is_empty() {
            text.push_str(&conf::spelled(&kept));
            text.push('\n');
        }
    }
    let folder = at.display();
    text.push_str(&format!(
        "SlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort={port}\nSlurmUser={}\n\
         SlurmdPort={NODES_PORT}\nStateSaveLocation={folder}/state\n\
         SlurmctldPidFile={folder}/slurmctld.pid\n",
        user
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Shape;
    use crate::{render, sample};

    #[test]
    fn a_trial_speaks_to_no_node_and_believes_nobody() {
        let files = render(&sample::cluster(), Shape::V22_05).unwrap();
        let own = format!("{}SlurmdPort=7000\nSuspendProgram=/bin/off\n", files.slurm);
        let text = trial(&own, Path::new("/var/tmp/trial"), 7777, 0);
        let conf = conf::Conf::parse(&text).unwrap();
        assert_eq!(conf.parameter("AuthType"), Some("auth/munge"));
        assert_eq!(conf.parameter("CredType"), Some("cred/munge"));
        assert_eq!(conf.parameter("SlurmdPort"), Some("1"));
        assert_eq!(conf.parameter("SlurmctldPort"), Some("7777"));
        assert_eq!(conf.parameter("SuspendProgram"), None);
        for (name, fields) in &conf.nodes {
            assert_eq!(fields["nodeaddr"], "127.0.0.1", "{name}");
            assert!(!fields.contains_key("port"), "{name}");
        }
    }
}
