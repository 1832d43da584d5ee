//! What others wrote, as a judge of our client: an emulator of GitHub that we did not write, and a
//! validator of requests and replies that is not ours either.
//!
//! `tests/support/referees` installs them. Where they are not, or where Node does not run them, the
//! tests say so and are skipped: everything they show is shown against `fake` too.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Map, Value, json};
use trueup::forge::command::{Hinted, read_webhook};
use trueup::forge::ensure;
use trueup::port::forge::{CommitState, ForgeFault, Permission};

use super::fake::{self, FakeGitHub, PullSpec, contract, login};
use super::{Done, MARKER, Paced, check, client, commit, status};

/// The oldest Node that both were tried with.
const NODE_MIN: u32 = 20;

/// The folder of the referees, where `part` of one is there and Node may run it.
fn installed(part: &str) -> Result<PathBuf, String> {
    let node = Command::new("node").arg("--version").output();
    let node = node.map_err(|error| format!("there is no node: {error}"))?;
    let version = String::from_utf8_lossy(&node.stdout).trim().to_owned();
    let major = version.trim_start_matches('v').split('.').next().and_then(|it| it.parse().ok());
    if major.is_none_or(|major: u32| major < NODE_MIN) {
        return Err(format!("node is {version}, it needs {NODE_MIN} or newer"));
    }
    kept(part)
}

/// The folder of what others wrote, where `part` of it is there.
fn kept(part: &str) -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/referees");
    let asked = Command::new(script).arg("--folder").output().map_err(|error| error.to_string())?;
    let folder = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
    let there = folder.join("node_modules").join(part).is_file();
    there.then_some(folder).ok_or_else(|| format!("{part} is not installed: make test-referees"))
}

/// Says why a test is not run.
fn skipped(why: &str) {
    println!("skipped: {why}");
}

/// A program of Node's; it ends with this value.
struct Node(Child);

impl Node {
    /// Starts it, and gives the first of its lines that `fits`.
    fn start(words: &[&str], fits: impl Fn(&str) -> bool) -> (Self, String) {
        let mut command = Command::new("node");
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut node = Self(command.spawn().unwrap());
        let mut said = BufReader::new(node.0.stdout.take().unwrap());
        let (mut line, mut before) = (String::new(), String::new());
        while !fits(&line) {
            before += &line;
            line.clear();
            let read = said.read_line(&mut line).unwrap();
            assert!(read > 0, "{words:?} ended: {before}");
        }
        // Somebody has to read what it says, or it would wait.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        (node, line)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is reaped here.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test]
async fn an_emulator_that_we_did_not_write_takes_what_we_send() {
    let folder = match installed("emulate/dist/api.js") {
        Ok(folder) => folder,
        Err(why) => return skipped(&why),
    };
    let (owner, name) = fake::REPOSITORY.split_once('/').unwrap();
    let settings = json!({
        "owner": owner, "name": name, "app": login::APP, "slug": login::APP_SLUG,
        "installation": login::INSTALLATION, "key": login::APP_KEY,
    });
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/forge/referee/emulate.mjs");
    let words = [script, folder.to_str().unwrap(), &settings.to_string()];
    let (_node, line) = Node::start(&words, |line| line.starts_with('{'));
    let given: Value = serde_json::from_str(&line).unwrap();
    // Only for the key's file.
    let ours = FakeGitHub::start();
    let mut settings = ours.app_settings();
    settings.url = Some(given["url"].as_str().unwrap().to_owned());
    let forge = client(&settings);

    let pulls = forge.open_pulls().await.unwrap().items;
    let [pull] = pulls.as_slice() else { panic!("{pulls:?}") };
    assert_eq!(pull.head_sha.to_string(), given["head"].as_str().unwrap());
    assert_eq!((pull.number, pull.base_ref.as_str(), pull.fork), (1, "main", false));
    let pace = Paced::default().pace();
    for (body, done) in [("one", Done::Written), ("one", Done::Already), ("two", Done::Written)] {
        let body = format!("{MARKER}\n{body}");
        let said = ensure::comment(&*forge, &pace, 1, MARKER, &body).await.unwrap();
        assert_eq!((said.0.body, said.1), (body, done));
    }
    // One request's worth: here a second one takes the place of the first, where GitHub appends.
    let report = check(50);
    let (_, done) = ensure::check(&*forge, &pace, &pull.head_sha, &report).await.unwrap();
    assert_eq!(done, Done::Written);
    let (seen, done) = ensure::check(&*forge, &pace, &pull.head_sha, &report).await.unwrap();
    assert_eq!((seen.annotations, done), (50, Done::Already));
    let drift = Some(("Drift", MARKER));
    let (opened, _) = ensure::issue(&*forge, &pace, MARKER, drift).await.unwrap();
    assert!(opened.unwrap().open);
    let (closed, _) = ensure::issue(&*forge, &pace, MARKER, None).await.unwrap();
    assert!(!closed.unwrap().open);
    // It has no commit statuses: that is understood as what it is.
    let wanted = status(CommitState::Success, "no changes");
    let error = ensure::status(&*forge, &pace, &pull.head_sha, &wanted).await.unwrap_err();
    assert_eq!(error.fault, ForgeFault::NotFound, "{error}");
}

#[test]
fn every_example_of_a_webhook_is_read() {
    const EXAMPLES: &str = "@octokit/webhooks-examples/api.github.com/index.json";
    let folder = match kept(EXAMPLES) {
        Ok(folder) => folder,
        Err(why) => return skipped(&why),
    };
    let text = std::fs::read(folder.join("node_modules").join(EXAMPLES)).unwrap();
    let all: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let mut read = 0;
    for kind in &all {
        let name = kind["name"].as_str().unwrap();
        for example in kind["examples"].as_array().unwrap() {
            let hint = read_webhook(name, example.to_string().as_bytes()).unwrap();
            if ["pull_request", "push", "issue_comment", "check_run", "check_suite"].contains(&name)
            {
                assert_ne!(hint.what, Hinted::Other, "{name}: {example}");
                assert!(hint.repository.contains('/'), "{name}");
            }
            if let Hinted::Pull { head, .. } | Hinted::Check { head, .. } = &hint.what {
                assert!(head.is_some(), "{name}: no head");
            }
            read += 1;
        }
    }
    println!("{read} examples of {} events were read", all.len());
    assert!(read > 300, "{read} examples");
}

/// GitHub's description, cut, as an OpenAPI document that others read.
fn document() -> Value {
    let cut: Value = serde_json::from_str(contract::CUT).unwrap();
    let answer = |schema: &Value| match schema {
        Value::Null => json!({ "description": "" }),
        schema => {
            json!({ "description": "", "content": { "application/json": { "schema": schema } } })
        }
    };
    let mut paths = Map::new();
    for operation in cut["operations"].as_array().unwrap() {
        let path = operation["path"].as_str().unwrap();
        let in_path = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let in_path = in_path.map(|name| {
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
        });
        let mut parameters: Vec<Value> = in_path.collect();
        for query in operation["query"].as_array().unwrap() {
            let mut query = query.clone();
            query["in"] = "query".into();
            parameters.push(query);
        }
        let answers = operation["responses"].as_object().unwrap().iter();
        let mut responses: Map<_, _> =
            answers.map(|(status, schema)| (status.clone(), answer(schema))).collect();
        let method = operation["method"].as_str().unwrap().to_lowercase();
        if method == "get" {
            responses.entry("304").or_insert_with(|| answer(&Value::Null));
        }
        let mut out = json!({ "parameters": parameters, "responses": responses });
        if !operation["request"].is_null() {
            let schema = json!({ "schema": operation["request"] });
            let content = json!({ "application/json": schema });
            let required = operation["request"].get("required").is_some();
            out["requestBody"] = json!({ "required": required, "content": content });
        }
        let item = paths.entry(format!("{}{path}", fake::BASE)).or_insert_with(|| json!({}));
        item[method] = out;
    }
    json!({
        "openapi": "3.1.0", "info": { "title": "GitHub, cut", "version": "1" },
        "servers": [{ "url": "http://127.0.0.1" }], "paths": paths,
        "components": cut["components"],
    })
}

/// A request made by hand; the status of its answer.
fn post(address: &str, path: &str, body: &str) -> u16 {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         authorization: Bearer {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        login::TOKEN,
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer[9..12].parse().unwrap()
}

#[tokio::test]
async fn a_validator_that_is_not_ours_finds_nothing_wrong_with_requests_and_replies() {
    let folder = match installed("@stoplight/prism-cli/dist/index.js") {
        Ok(folder) => folder,
        Err(why) => return skipped(&why),
    };
    let fake = FakeGitHub::start();
    let scratch = tempfile::tempdir().unwrap();
    let spec = scratch.path().join("github.json");
    std::fs::write(&spec, document().to_string()).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let prism = folder.join("node_modules/@stoplight/prism-cli/dist/index.js");
    let upstream = fake.url().replace(fake::BASE, "");
    let port = port.to_string();
    let words = ["proxy", "--errors", "-h", "127.0.0.1", "-p", &port, spec.to_str().unwrap()];
    let words = [&[prism.to_str().unwrap()], &words[..], &[&upstream]].concat();
    let (_node, _) = Node::start(&words, |line| line.contains("Prism is listening"));
    let through = |settings: trueup::config::ForgeSettings| {
        client(&trueup::config::ForgeSettings {
            url: Some(format!("http://{address}")),
            ..settings
        })
    };
    let number = {
        let mut state = fake.state();
        let number = state.open_pull(&PullSpec::default());
        state.review(number, "grace", "APPROVED", &"1".repeat(40));
        state.label(number, "go", "ada", true);
        state.set_role("grace", "maintain");
        state.join("team/operators", "grace");
        number
    };

    // It judges: what GitHub would refuse does not even get there.
    let path = format!("{}/repos/{}/statuses/{}", fake::BASE, fake::REPOSITORY, "1".repeat(40));
    assert_eq!(post(&address, &path, r#"{"state":"green"}"#), 422);
    assert!(fake.calls().is_empty(), "{:?}", fake.lines());

    let forge = through(fake.settings(login::TOKEN));
    let (pace, one) = (Paced::default().pace(), commit('1'));
    for _ in 0..2 {
        assert_eq!(forge.open_pulls().await.unwrap().items.len(), 1);
    }
    assert_eq!(forge.pull(number).await.unwrap().unwrap().number, number);
    for wanted in [CommitState::Pending, CommitState::Success] {
        ensure::status(&*forge, &pace, &one, &status(wanted, "words")).await.unwrap();
    }
    for body in ["one", "two"] {
        let body = format!("{MARKER}\n{body}");
        ensure::comment(&*forge, &pace, number, MARKER, &body).await.unwrap();
    }
    for wanted in [Some(("Drift", MARKER)), None] {
        ensure::issue(&*forge, &pace, MARKER, wanted).await.unwrap();
    }
    let since = jiff::Timestamp::UNIX_EPOCH;
    assert_eq!(forge.comments_since(since).await.unwrap().len(), 1);
    assert_eq!(forge.reviews(number).await.unwrap().len(), 1);
    assert_eq!(forge.label_events(number).await.unwrap().len(), 1);
    assert_eq!(forge.permission("grace").await.unwrap(), Permission::Maintain);
    assert!(forge.in_team("team/operators", "grace").await.unwrap());
    let app = through(fake.app_settings());
    let (seen, _) = ensure::check(&*app, &pace, &one, &check(60)).await.unwrap();
    assert_eq!(seen.annotations, 60);
    let found = forge.find_comment(number, MARKER).await.unwrap().unwrap();
    forge.delete_comment(found.id).await.unwrap();
}
