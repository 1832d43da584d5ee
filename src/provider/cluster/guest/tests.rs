//! A guest as its agent would show it: programs that end in time or do not, files in pieces.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::*;
use crate::port::BoxFuture;

/// An agent: programs by what they are called, and files.
#[derive(Debug, Default)]
struct Fake {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How each program ends; one without an end goes on until it is killed.
    programs: BTreeMap<&'static str, Option<Value>>,
    started: Vec<Value>,
    files: BTreeMap<String, Vec<u8>>,
    open: BTreeMap<i64, (String, usize)>,
    silent: bool,
}

impl Fake {
    fn answer(&self, command: &str) -> Result<Value, AgentFault> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.silent {
            return Err(AgentFault::Silent("hpc-ctl".into()));
        }
        let asked: Value = serde_json::from_str(command).unwrap();
        let of = &asked["arguments"];
        let handle = of["handle"].as_i64().unwrap_or_default();
        Ok(match asked["execute"].as_str().unwrap() {
            "guest-ping" => json!({}),
            "guest-exec" => {
                let program = of["path"].as_str().unwrap();
                if !state.programs.contains_key(program) {
                    return Err(AgentFault::Refused(format!(
                        "Failed to execute child “{program}”"
                    )));
                }
                state.started.push(of.clone());
                json!({ "pid": state.started.len() })
            }
            "guest-exec-status" => {
                let at = usize::try_from(of["pid"].as_u64().unwrap()).unwrap();
                let program = state.started[at - 1]["path"].as_str().unwrap().to_owned();
                state.programs[program.as_str()].clone().unwrap_or(json!({ "exited": false }))
            }
            "guest-file-open" => {
                let path = of["path"].as_str().unwrap().to_owned();
                if of["mode"] == "w" {
                    state.files.insert(path.clone(), Vec::new());
                } else if !state.files.contains_key(&path) {
                    let words = format!("failed to open file '{path}': No such file or directory");
                    return Err(AgentFault::Refused(words));
                }
                let handle = 1000 + i64::try_from(state.open.len()).unwrap();
                state.open.insert(handle, (path, 0));
                json!(handle)
            }
            "guest-file-write" => {
                let path = state.open[&handle].0.clone();
                let bytes = BASE64.decode(of["buf-b64"].as_str().unwrap()).unwrap();
                state.files.get_mut(&path).unwrap().extend(&bytes);
                json!({ "count": bytes.len(), "eof": false })
            }
            "guest-file-read" => {
                let (path, at) = state.open[&handle].clone();
                // In pieces, as a busy agent may.
                let bytes = &state.files[&path][at..];
                let piece = bytes[..bytes.len().min(3)].to_vec();
                let eof = piece.len() == bytes.len();
                state.open.get_mut(&handle).unwrap().1 += piece.len();
                json!({ "count": piece.len(), "buf-b64": BASE64.encode(piece), "eof": eof })
            }
            "guest-file-close" => json!({}),
            other => panic!("{other}"),
        })
    }
}

impl Agents for Fake {
    fn ask<'a>(
        &'a self,
        _machine: &'a str,
        command: String,
        _limit: Duration,
    ) -> BoxFuture<'a, Result<String, AgentFault>> {
        let answer = self.answer(&command).map(|value| json!({ "return": value }).to_string());
        Box::pin(std::future::ready(answer))
    }
}

fn ended(code: i32, out: &str, err: &str) -> Option<Value> {
    Some(json!({
        "exited": true, "exitcode": code, "out-data": BASE64.encode(out), "err-data": BASE64.encode(err),
    }))
}

/// Runs a test with a guest of its own, off the runtime's threads.
fn with(programs: &[(&'static str, Option<Value>)], test: impl FnOnce(&Guest, &Fake)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fake = Arc::new(Fake::default());
    fake.state.lock().unwrap().programs = programs.iter().cloned().collect();
    let guest = {
        let _inside = runtime.enter();
        Guest::new(Some(Arc::clone(&fake) as Arc<dyn Agents>), "hpc-ctl")
    };
    test(&guest, &fake);
}

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
            let started = fake.state.lock().unwrap().started[0].clone();
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
        let last = fake.state.lock().unwrap().started.last().unwrap().clone();
        assert_eq!((last["path"].as_str(), &last["arg"]), (Some("kill"), &json!(["-KILL", "1"])));
        fake.state.lock().unwrap().silent = true;
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
fn files_are_read_whole_and_a_missing_one_is_none() {
    let programs =
        ["install", "chmod", "chown", "sync", "mv", "rm"].map(|name| (name, ended(0, "", "")));
    with(&programs, |guest, fake| {
        let path = Path::new("/etc/slurm/slurm.conf");
        assert_eq!(guest.read(path).unwrap(), None);
        fake.state.lock().unwrap().files.insert(path.display().to_string(), b"whole file".to_vec());
        assert_eq!(guest.read(path).unwrap().unwrap(), b"whole file");
        guest.replace(path, b"another").unwrap();
        let state = fake.state.lock().unwrap();
        assert_eq!(state.files["/etc/slurm/.slurm.conf.trueup-new"], b"another");
        let last = &state.started.last().unwrap();
        assert_eq!(last["path"], "mv");
        assert!(last["arg"].to_string().contains("\"/etc/slurm/slurm.conf\""), "{last}");
    });
}

#[test]
fn a_secret_is_in_no_error() {
    with(&[("install", ended(0, "", ""))], |guest, _| {
        let path = Path::new("/etc/munge/munge.key");
        let error = guest.write_private(path, "munge", b"canary").unwrap_err().to_string();
        let told = error.contains("canary") || error.contains(&BASE64.encode("canary"));
        assert!(!told && error.contains("sync"), "{error}");
    });
}
