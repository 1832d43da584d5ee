//! A guest through its agent: programs that end in time or do not, files in pieces, and answers that are none.

use trueup_slurm::Heard;

use super::fake::{ended, with};
use super::machine::{SOCKETS, TRIAL_PORT, TRIAL_PORTS};
use super::*;

#[test]
fn a_program_says_what_it_said_and_how_it_ended() {
    let limit = Duration::from_secs(5);
    with(
        &[("sinfo", ended(0, "idle\n", "")), ("scontrol", ended(1, "", "bad\n"))],
        |guest, fake| {
            let argv = Argv::new("sinfo").args(["-h"]).env("SLURM_CONF", "/etc/slurm/slurm.conf");
            assert_eq!(argv.ask_on(guest, limit).unwrap(), b"idle\n");
            let failed = Argv::new("scontrol").ask_on(guest, limit).unwrap_err().to_string();
            assert_eq!(failed, "scontrol failed (exit status: 1): bad");
            let started = fake.state().started[0].clone();
            assert_eq!(started["arg"], json!(["-h"]));
            let environment = started["env"].to_string();
            assert!(environment.contains("SLURM_CONF=/etc/slurm/slurm.conf"), "{environment}");
            assert!(
                environment.contains("LC_ALL=C") && environment.contains("PATH="),
                "{environment}"
            );
            let none = Argv::new("sacctmgr").ask_on(guest, limit).unwrap_err().to_string();
            assert!(
                none.starts_with("cannot start sacctmgr: in hpc-ctl: Failed to execute"),
                "{none}"
            );
        },
    );
}

#[test]
fn a_program_that_goes_on_is_ended_and_an_agent_that_is_silent_is_told_so() {
    with(&[("sleep", None), ("kill", ended(0, "", ""))], |guest, fake| {
        let late = Argv::new("sleep").args(["100"]).run_for_test(guest).unwrap_err();
        assert!(matches!(late, RunError::TimedOut { .. }), "{late}");
        let last = fake.state().started.last().unwrap().clone();
        assert_eq!((last["path"].as_str(), &last["arg"]), (Some("kill"), &json!(["-KILL", "1"])));
        fake.is(Some(AgentFault::Silent("hpc-ctl".into())));
        let away = Argv::new("sleep").run_for_test(guest).unwrap_err().to_string();
        assert!(away.starts_with("hpc-ctl cannot be reached: the agent in hpc-ctl"), "{away}");
    });
}

/// A short patience.
trait RunForTest {
    fn run_for_test(&self, guest: &Guest) -> Result<Said, RunError>;
}

impl RunForTest for Argv {
    fn run_for_test(&self, guest: &Guest) -> Result<Said, RunError> {
        guest.run(self, Duration::from_millis(50))
    }
}

#[test]
fn files_are_read_and_replaced_whole_and_a_missing_one_is_none() {
    with(&[], |guest, fake| {
        let path = Path::new("/etc/slurm/slurm.conf");
        assert_eq!(guest.read(path).unwrap(), None);
        guest.replace(path, b"whole file").unwrap();
        assert_eq!(guest.read(path).unwrap().unwrap(), b"whole file");
        let first = fake.ran().len();
        guest.replace(path, b"another").unwrap();
        assert_eq!(guest.read(path).unwrap().unwrap(), b"another");
        // Its bytes are on the disk before its name is, and its name before anything else is done.
        let (made, named) = ("/etc/slurm/.slurm.conf.trueup-new", "/etc/slurm/slurm.conf");
        assert_eq!(
            fake.ran()[first..],
            [
                format!("install -m 0600 /dev/null {made}"),
                format!("chown --reference={named} {made}"),
                format!("chmod --reference={named} {made}"),
                format!("sync {made}"),
                format!("mv -f -T {made} {named}"),
                "sync /etc/slurm".to_owned(),
            ]
        );
        guest.remove(path).unwrap();
        assert_eq!(guest.read(path).unwrap(), None);
        assert_eq!(fake.ran().last().unwrap(), "sync /etc/slurm");
    });
}

#[test]
fn a_file_without_end_is_no_file() {
    with(&[], |guest, fake| {
        fake.put("/etc/slurm/slurm.conf", "text");
        fake.state().piece = 0;
        let error = guest.read(Path::new("/etc/slurm/slurm.conf")).unwrap_err().to_string();
        assert!(error.contains("gives no more of it, and no end"), "{error}");
    });
}

#[test]
fn a_secret_is_in_no_error() {
    with(&[], |guest, fake| {
        let path = Path::new("/etc/munge/munge.key");
        for at in ["install", "guest-file-write", "sync", "mv"] {
            fake.fails(Some(at));
            let error = guest.write_private(path, ("munge", "0400"), b"canary").unwrap_err();
            let told = format!("{error} {error:?}");
            let secret = told.contains("canary") || told.contains(&BASE64.encode("canary"));
            assert!(!secret && told.contains("munge.key"), "{told}");
            assert_eq!(fake.file("/etc/munge/munge.key"), None, "whole or not at all: {at}");
        }
    });
}

#[test]
fn a_trial_takes_a_port_that_nobody_has() {
    with(&[], |guest, fake| {
        assert_eq!(guest.free_port().unwrap(), TRIAL_PORT);
        // One that nobody ended still has its own.
        let head = "  sl  local_address rem_address   st tx_queue rx_queue\n";
        let line = |at: &str, port: u16| format!("   0: {at}:{port:04X} 00000000:0000 0A 0:0\n");
        fake.put(SOCKETS[0], &format!("{head}{}", line("00000000", TRIAL_PORT)));
        let v6 = "00000000000000000000000000000000";
        fake.put(SOCKETS[1], &format!("{head}{}", line(v6, TRIAL_PORT + 1)));
        assert_eq!(guest.free_port().unwrap(), TRIAL_PORT + 2);
        let all: String = (0..TRIAL_PORTS).map(|n| line("00000000", TRIAL_PORT + n)).collect();
        fake.put(SOCKETS[0], &all);
        let error = guest.free_port().unwrap_err().to_string();
        assert!(error.contains("of hpc-ctl are taken"), "{error}");
    });
}

/// What comes of a trial whose daemon wrote `log` and is there at the end or is not.
fn heard(log: Option<&str>, alive: bool) -> (Heard, Vec<String>) {
    let said = "slurmctld: error: odd\nslurmctld: Running as usual\nslurmctld: Terminate signal \
                received\nslurmctld: error: of the end\n";
    let kill = ended(i32::from(!alive), "", "");
    let mut found = None;
    with(&[("timeout", ended(0, "", said)), ("kill", kill)], |guest, fake| {
        if let Some(log) = log {
            fake.put("/var/tmp/trial.log", log);
        }
        let trial = Trial {
            running: "Running as usual",
            goes_on: Duration::from_millis(1),
            limit: Duration::from_millis(1),
            log: (Path::new("/var/tmp/trial.log"), &["-L", "/var/tmp/trial.log"]),
        };
        let heard = guest.hear(&Argv::new("slurmctld").args(["-D"]), &trial).unwrap();
        found = Some((heard, fake.ran()));
    });
    found.unwrap()
}

#[test]
fn a_daemon_on_trial_is_heard_until_it_runs_and_then_told_to_end() {
    let lines = vec!["slurmctld: error: odd".to_owned()];
    let (running, ran) = heard(Some("slurmctld: Running as usual"), true);
    assert_eq!(running, Heard { lines: lines.clone(), end: HeardEnd::Running });
    // It ends by itself where nobody is left who tells it to.
    assert_eq!(ran[0], "timeout --kill-after=1 20 slurmctld -D -L /var/tmp/trial.log");
    assert_eq!(ran.last().unwrap(), "kill -TERM 1");
    let (ended, ran) = heard(Some("slurmctld: Running as usual"), false);
    assert_eq!(ended, Heard { lines: lines.clone(), end: HeardEnd::Ended });
    assert!(!ran.iter().any(|call| call.contains("-TERM")), "it may be another's by now: {ran:?}");
    let (late, ran) = heard(None, true);
    assert_eq!(late, Heard { lines, end: HeardEnd::Late });
    assert_eq!(ran.last().unwrap(), "kill -TERM 1");
}
