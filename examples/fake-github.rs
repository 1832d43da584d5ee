//! The fake GitHub of the tests as a program, for `make demo-pulls` and for trying trueup out by hand.
//!
//! `fake-github FOLDER` writes the `forge` settings of an app's login into `FOLDER/forge.yaml` and then
//! does what lines on its standard input say, as a person at the web page would; each is answered by
//! one line. It ends with its input. It holds nothing beyond its end and is open to this machine only.
//!
//!   open HEAD BASE          opens a pull request; the answer is its number
//!   push NUMBER HEAD        pushes to its branch
//!   merge NUMBER COMMIT     merges it
//!   down | up               nobody answers; it answers again
//!   status COMMIT           the newest status: `state description`
//!   count COMMIT            how many statuses the commit has
//!   comment NUMBER FILE     writes the comment into a file; the answer is how often it was changed
//!   annotations COMMIT      the remarks on lines, `path:line message`, in one line
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a helper of the tests"
)]

#[path = "../tests/forge/fake/mod.rs"]
mod fake;

use fake::{FakeGitHub, PullSpec};

fn main() {
    let folder = std::path::PathBuf::from(std::env::args().nth(1).expect("a folder"));
    let forge = FakeGitHub::start();
    let mut settings = serde_json::to_value(forge.app_settings()).unwrap();
    settings["poll"] = "2s".into();
    std::fs::write(folder.join("forge.yaml"), format!("forge: {settings}\n")).unwrap();
    println!("{}", forge.url());
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        println!("{}", act(&forge, &words));
    }
}

fn act(forge: &FakeGitHub, words: &[&str]) -> String {
    let number = |text: &str| text.parse::<u64>().unwrap();
    match words {
        ["open", head, base] => {
            forge.state().open_pull(&PullSpec { head, base, ..PullSpec::default() }).to_string()
        }
        ["push", pull, head] => {
            forge.state().push(number(pull), head);
            "pushed".to_owned()
        }
        ["merge", pull, commit] => {
            forge.state().merge(number(pull), commit);
            "merged".to_owned()
        }
        ["down"] => {
            forge.down();
            "down".to_owned()
        }
        ["up"] => {
            forge.up();
            "up".to_owned()
        }
        ["status", commit] => {
            let state = forge.state();
            let newest = state.statuses_of(commit).last().copied().cloned();
            newest.map_or("none".to_owned(), |it| format!("{} {}", it.state, it.description))
        }
        ["count", commit] => forge.state().statuses_of(commit).len().to_string(),
        ["comment", pull, file] => {
            let state = forge.state();
            let on = state.comments.iter().filter(|it| it.number == number(pull));
            let on: Vec<_> = on.collect();
            let [comment] = on.as_slice() else { return format!("{} comments", on.len()) };
            std::fs::write(file, &comment.body).unwrap();
            format!("changed {} times", comment.edits)
        }
        ["annotations", commit] => {
            let state = forge.state();
            let checks = state.checks.iter().filter(|check| check.sha == *commit);
            let remarks = checks.flat_map(|check| &check.annotations).map(|it| {
                let message = it["message"].as_str().unwrap_or_default().replace('\n', " ");
                format!(
                    "{}:{} {message}",
                    it["path"].as_str().unwrap_or_default(),
                    it["start_line"]
                )
            });
            remarks.collect::<Vec<_>>().join("; ")
        }
        other => format!("unknown: {other:?}"),
    }
}
