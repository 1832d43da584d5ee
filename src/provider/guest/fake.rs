//! A guest as its agent would show it, for tests: its files, what the programs do to them that are used for
//! that, and others that say what a test wants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::port::BoxFuture;

/// An agent.
#[derive(Debug, Default)]
pub(in super::super) struct Fake {
    state: Mutex<State>,
}

/// What is in its guest.
#[derive(Debug, Default)]
pub(super) struct State {
    /// How each program ends; one without an end goes on until it is killed.
    pub(super) programs: BTreeMap<&'static str, Option<Value>>,
    /// Programs that were started, and what came of each.
    pub(super) started: Vec<Value>,
    answers: Vec<Value>,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    open: BTreeMap<i64, (String, usize)>,
    /// What the agent, or libvirt in its place, says to everything.
    pub(super) fault: Option<AgentFault>,
    /// Words of a call that fails.
    fails: Option<String>,
    /// A file whose text is in the words of a call that fails.
    quotes: Option<String>,
    /// The machine in which no program can be started.
    unwell: Option<String>,
    /// Where something is mounted.
    mounts: BTreeSet<String>,
    /// Questions so far.
    asked: usize,
    /// Bytes of a piece of a file.
    pub(super) piece: usize,
}

impl Fake {
    /// One whose programs end so.
    pub(in super::super) fn new(programs: &[(&'static str, Option<Value>)]) -> Self {
        let fake = Self::default();
        fake.state().programs = programs.iter().cloned().collect();
        fake.state().piece = 512;
        fake
    }

    /// Lets a program end so from now on.
    pub(in super::super) fn says(&self, program: &'static str, answer: Option<Value>) {
        self.state().programs.insert(program, answer);
    }

    /// What fails says all that is in this file of it.
    pub(in super::super) fn quotes(&self, path: &str) {
        self.state().quotes = Some(path.to_owned());
    }

    /// Takes a file away.
    pub(in super::super) fn drop_file(&self, path: &str) {
        self.state().files.remove(path);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the call fail that has these words.
    pub(in super::super) fn fails(&self, words: Option<&str>) {
        self.state().fails = words.map(str::to_owned);
    }

    /// Says this to everything.
    pub(in super::super) fn is(&self, fault: Option<AgentFault>) {
        self.state().fault = fault;
    }

    /// No program can be started any more in the machine of that name.
    pub(in super::super) fn is_unwell(&self, machine: Option<&str>) {
        self.state().unwell = machine.map(str::to_owned);
    }

    /// How many questions were asked.
    pub(in super::super) fn asked(&self) -> usize {
        self.state().asked
    }

    /// Mounts something there, as a unit of systemd would.
    pub(in super::super) fn mounts(&self, at: &str) {
        self.state().mounts.insert(at.to_owned());
    }

    /// Starts it anew from another first disk: what was mounted is not, and of files those below these folders
    /// stay.
    pub(in super::super) fn made_anew(&self, kept: &[&str]) {
        let mut state = self.state();
        state.mounts.clear();
        state.files.retain(|path, _| kept.iter().any(|folder| path.starts_with(folder)));
    }

    /// A file of it.
    pub(in super::super) fn file(&self, path: &str) -> Option<Vec<u8>> {
        self.state().files.get(path).cloned()
    }

    /// Writes a file of it.
    pub(in super::super) fn put(&self, path: &str, text: &str) {
        self.state().files.insert(path.to_owned(), text.into());
    }

    /// The calls of programs so far.
    pub(in super::super) fn ran(&self) -> Vec<String> {
        self.state().started.iter().map(|of| words(of).join(" ")).collect()
    }

    fn answer(&self, command: &str) -> Result<Value, AgentFault> {
        let mut state = self.state();
        if let Some(fault) = &state.fault {
            return Err(fault.clone());
        }
        let asked: Value = serde_json::from_str(command).unwrap();
        let of = &asked["arguments"];
        let handle = of["handle"].as_i64().unwrap_or_default();
        Ok(match asked["execute"].as_str().unwrap() {
            "guest-ping" => json!({}),
            "guest-exec" => {
                let answer = state.run(of)?;
                state.started.push(of.clone());
                state.answers.push(answer);
                json!({ "pid": state.started.len() })
            }
            "guest-exec-status" => {
                let at = usize::try_from(of["pid"].as_u64().unwrap()).unwrap();
                state.answers[at - 1].clone()
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
                if state.fails.as_deref() == Some("guest-file-write") {
                    return Err(AgentFault::Refused("failed to write to file: no room".into()));
                }
                let path = state.open[&handle].0.clone();
                let bytes = BASE64.decode(of["buf-b64"].as_str().unwrap()).unwrap();
                state.files.get_mut(&path).unwrap().extend(&bytes);
                json!({ "count": bytes.len(), "eof": false })
            }
            "guest-file-read" => {
                let (path, at) = state.open[&handle].clone();
                // In pieces, as a busy agent may.
                let bytes = &state.files[&path][at..];
                let piece = bytes[..bytes.len().min(state.piece)].to_vec();
                let eof = piece.len() == bytes.len();
                state.open.get_mut(&handle).unwrap().1 += piece.len();
                json!({ "count": piece.len(), "buf-b64": BASE64.encode(piece), "eof": eof })
            }
            "guest-file-close" => json!({}),
            other => panic!("{other}"),
        })
    }
}

impl State {
    /// What comes of a program.
    fn run(&mut self, of: &Value) -> Result<Value, AgentFault> {
        let words = words(of);
        let line = words.join(" ");
        if self.fails.as_ref().is_some_and(|fails| line.contains(fails)) {
            let quoted = self.quotes.as_ref().and_then(|path| self.files.get(path));
            let words = quoted.map(|text| String::from_utf8_lossy(text).into_owned());
            return Ok(ended(1, "", &words.unwrap_or_else(|| "no".to_owned())).unwrap());
        }
        if let Some(answer) = self.programs.get(words[0].as_str()) {
            return Ok(answer.clone().unwrap_or(json!({ "exited": false })));
        }
        let last = words.last().unwrap().clone();
        let mut said = String::new();
        match words[0].as_str() {
            "install" => drop(self.files.insert(last, Vec::new())),
            "mv" => {
                let bytes = self.files.remove(&words[words.len() - 2]).unwrap();
                self.files.insert(last, bytes);
            }
            "rm" => drop(self.files.remove(&last)),
            "sha256sum" => {
                for path in &words[1..] {
                    let Some(bytes) = self.files.get(path) else { continue };
                    said.push_str(&format!("{}  {path}\n", hex::encode(Sha256::digest(bytes))));
                }
            }
            "head" => {
                let limit = words.iter().find_map(|it| it.strip_prefix("--bytes=")).unwrap();
                let limit: usize = limit.parse().unwrap();
                let (mut all, mut code) = (Vec::new(), 0);
                for path in words.iter().filter(|it| it.starts_with('/')) {
                    let Some(bytes) = self.files.get(path) else {
                        code = 1;
                        continue;
                    };
                    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(limit)]);
                    all.push(format!("==> {path} <==\n{text}"));
                }
                return Ok(ended(code, &all.join("\n"), "").unwrap());
            }
            "test" => {
                let code = i32::from(!self.files.contains_key(&last));
                return Ok(ended(code, "", "").unwrap());
            }
            "findmnt" => said = self.mounts.iter().map(|at| format!("{at}\n")).collect(),
            "systemctl" if words[1] == "start" => {
                if let Some(unit) = last.strip_suffix(".mount") {
                    self.mounts.insert(format!("/{}", unit.replace('-', "/")));
                }
            }
            "find" => {
                let said_of = words.windows(2).filter(|it| it[0] == "-printf").map(|it| &it[1]);
                // Of a question that tells programs from other files: they begin with `#!` here.
                if let [program, file] = said_of.collect::<Vec<_>>()[..] {
                    for path in &words {
                        let Some(bytes) = self.files.get(path) else { continue };
                        let form = if bytes.starts_with(b"#!") { program } else { file };
                        said.push_str(&form.replace("%p", path).replace("\\n", "\n"));
                    }
                }
            }
            "chmod" | "chown" | "flock" | "mkdir" | "sync" | "systemctl" => {}
            program => {
                let words = format!("Failed to execute child process “{program}” (No such file)");
                return Err(AgentFault::Refused(words));
            }
        }
        Ok(ended(0, &said, "").unwrap())
    }
}

fn words(of: &Value) -> Vec<String> {
    let arguments = of["arg"].as_array().unwrap().iter();
    std::iter::once(&of["path"]).chain(arguments).map(|it| it.as_str().unwrap().into()).collect()
}

impl Agents for Fake {
    fn ask<'a>(
        &'a self,
        machine: &'a str,
        command: String,
        _limit: Duration,
    ) -> BoxFuture<'a, Result<String, AgentFault>> {
        self.state().asked += 1;
        let is_unwell = self.state().unwell.as_deref() == Some(machine);
        let answer = match is_unwell && command.contains("guest-exec") {
            true => Err(AgentFault::Refused("Failed to fork: no memory".into())),
            false => self.answer(&command),
        };
        let answer = answer.map(|value| json!({ "return": value }).to_string());
        Box::pin(std::future::ready(answer))
    }
}

/// How a program has ended.
pub(in super::super) fn ended(code: i32, out: &str, err: &str) -> Option<Value> {
    Some(json!({
        "exited": true, "exitcode": code, "out-data": BASE64.encode(out), "err-data": BASE64.encode(err),
    }))
}

/// Runs a test with a guest of its own, off the runtime's threads.
pub(in super::super) fn with(
    programs: &[(&'static str, Option<Value>)],
    test: impl FnOnce(&Guest, &Arc<Fake>),
) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fake = Arc::new(Fake::default());
    fake.state().programs = programs.iter().cloned().collect();
    fake.state().piece = 3;
    let _inside = runtime.enter();
    let guest = Guest::new(Some(Arc::clone(&fake) as Arc<dyn Agents>), "hpc-ctl");
    test(&guest, &fake);
}
