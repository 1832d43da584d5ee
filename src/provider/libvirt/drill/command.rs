//! Commands inside of a copy, run by its agent (`guest-exec` of QEMU's guest agent protocol).
//!
//! Their arguments and their output are in no error: either may hold a secret. What the agent says of them
//! is the guest's word too, and kept as its console's lines are.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use trueup_libvirt::{Code, Error};

use super::super::console::kept;
use super::super::{act, fault};
use super::wait::Waiting;
use crate::model::Fault;
use crate::model::resource::{BackupBoot, BackupHook};
use crate::provider::agent::{Answer, Started, Status};

/// What came of a question to an agent.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Answer(String),
    /// It refuses, in its words.
    Refused(String),
    /// It does not answer.
    Nothing,
}

impl Waiting<'_> {
    /// Runs what the drill asks for, one after the other; why one of them did not succeed.
    pub(super) async fn commands(
        &mut self,
        boot: &BackupBoot,
        begun: Instant,
    ) -> Result<Result<(), String>, Fault> {
        if boot.commands.is_empty() {
            return Ok(Ok(()));
        }
        let limit = Duration::from_secs(boot.timeout_s);
        while !self.agent_answers().await {
            if begun.elapsed() >= limit {
                return Ok(Err(format!(
                    "the agent of a copy booted from it did not answer within {} s, and commands are \
                     run by it",
                    boot.timeout_s
                )));
            }
            if let Err(why) = self.pause().await? {
                return Ok(Err(why));
            }
        }
        for command in &boot.commands {
            if let Err(why) = self.command(command).await? {
                return Ok(Err(why));
            }
        }
        Ok(Ok(()))
    }

    async fn command(&mut self, command: &BackupHook) -> Result<Result<(), String>, Fault> {
        let [program, arguments @ ..] = &command.argv[..] else { return Ok(Ok(())) };
        let failed = |how: String| Ok(Err(format!("`{program}`, run in a copy of it, {how}")));
        let deadline = Instant::now() + Duration::from_secs(command.timeout_s);
        let run = json!({"execute": "guest-exec", "arguments": {
            "path": program, "arg": arguments, "capture-output": false,
        }});
        let started = match self.ask(&run.to_string(), program).await? {
            Said::Answer(text) => text,
            Said::Refused(words) => return failed(format!("could not be started: {words}")),
            Said::Nothing => {
                return failed("was not started: the agent does not answer".to_owned());
            }
        };
        let Ok(Answer { value: Started { pid } }) = serde_json::from_str(&started) else {
            return failed("was answered by the agent with something else".to_owned());
        };
        let status = json!({"execute": "guest-exec-status", "arguments": {"pid": pid}}).to_string();
        loop {
            if let Said::Answer(text) = self.ask(&status, program).await? {
                let Ok(Answer { value }) = serde_json::from_str::<Answer<Status>>(&text) else {
                    return failed("was answered by the agent with something else".to_owned());
                };
                if let Some(ended) = ended(&value) {
                    return ended.map_or_else(failed, |()| Ok(Ok(())));
                }
            }
            if Instant::now() >= deadline {
                return failed(format!("did not end within {} s", command.timeout_s));
            }
            if let Err(why) = self.pause().await? {
                return Ok(Err(why));
            }
        }
    }

    async fn ask(&self, question: &str, program: &str) -> Result<Said, Fault> {
        match self.client.agent_command(self.name, question, act::ASK_LIMIT).await {
            Ok(text) => Ok(Said::Answer(text)),
            Err(error) => refused(&error, || format!("running `{program}` in {}", self.name)),
        }
    }
}

/// What it means that an agent's answer is an error.
fn refused(error: &Error, doing: impl Fn() -> String) -> Result<Said, Fault> {
    if error.code == Code::AgentUnresponsive {
        return Ok(Said::Nothing);
    }
    if is_lost(error) {
        return Err(fault::step(doing(), error));
    }
    let words = kept(&error.message);
    if is_forbidden(&error.message) {
        return Err(Fault::permanent(format!(
            "the agent in a copy of the guest runs no commands ({words}): take `guest-exec` out of what \
             its configuration forbids, or leave out `commands`"
        )));
    }
    Ok(Said::Refused(words))
}

/// Whether nobody knows what came of it, or what the domain is.
fn is_lost(error: &Error) -> bool {
    error.is_absent()
        || matches!(
            error.code,
            Code::ConnectionLost | Code::Timeout | Code::Closed | Code::OperationInvalid
        )
}

/// Whether the agent is told not to run commands, as some distributions do (`--block-rpcs`).
fn is_forbidden(message: &str) -> bool {
    ["has been disabled", "not allowed", "CommandNotFound"].iter().any(|it| message.contains(it))
}

/// What came of a program; `None`: it still runs.
fn ended(status: &Status) -> Option<Result<(), String>> {
    if !status.exited {
        return None;
    }
    Some(match (status.exitcode, status.signal) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(format!("ended with status {code}")),
        (None, Some(signal)) => Err(format!("was ended by signal {signal}")),
        (None, None) => Err("ended, and the agent does not say how".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_agent_says_of_a_command_is_understood() {
        let ended = |text: &str| {
            let answer: Answer<Status> = serde_json::from_str(text).unwrap();
            super::ended(&answer.value)
        };
        assert_eq!(ended(r#"{"return": {"exited": false}}"#), None);
        assert_eq!(ended(r#"{"return": {"exited": true, "exitcode": 0}}"#), Some(Ok(())));
        let failed = ended(r#"{"return": {"exited": true, "exitcode": 3, "out-data": "aGk="}}"#);
        assert_eq!(failed, Some(Err("ended with status 3".to_owned())));
        let killed = ended(r#"{"return": {"exited": true, "signal": 9}}"#);
        assert!(killed.unwrap().unwrap_err().contains("signal 9"));
    }

    #[test]
    fn what_an_agent_says_of_a_command_is_kept_without_what_looks_like_a_secret() {
        let said = |message: &str| {
            let error = Error {
                code: Code::Other(1),
                number: 1,
                domain: 10,
                call: "agent_command",
                object: "copy".into(),
                message: message.into(),
            };
            refused(&error, String::new)
        };
        let plain = "Failed to execute child process “/x” (No such file or directory)";
        assert_eq!(said(plain), Ok(Said::Refused(plain.into())));
        let key = "AKIAIOSFODNN7EXAMPLEwJalrXUtnFEMIK7MDENG";
        assert_eq!(said(&format!("no {key} here")), Ok(Said::Refused("no … here".into())));
        let fault =
            said(&format!("guest-exec has been disabled, root password {key}")).unwrap_err();
        assert!(!fault.to_string().contains(key), "{fault}");
    }

    #[test]
    fn an_agent_that_must_not_is_told_from_a_program_that_is_not_there() {
        assert!(is_forbidden("error was 'The command guest-exec has been disabled'"));
        assert!(!is_forbidden("Failed to execute child process “/x” (No such file or directory)"));
    }
}
