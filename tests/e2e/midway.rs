//! A pull request that is closed, turned to another branch, pushed to or merged while its plan is
//! being made; two hosts on one repository; a plan too large for a comment; and secrets.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use trueup::source::CommitId;

use super::begin::{Begun, begin, documents, follow, follow_as};
use super::bench::{Bench, PATIENCE};
use super::events::until;
use super::pulls::{comment, networks, offer, offer_with, settled};
use super::spec::{environment, network};
use crate::cli::program;
use crate::forge::fake::login::{self, TOKEN};
use crate::forge::fake::state::PullSpec;
use crate::forge::fake::{Action, Delivery, FakeGitHub, Fault};

/// Longest comment that is written, in bytes: GitHub takes a little more.
const COMMENT_BYTES_MAX: usize = 60_000;

fn open(forge: &FakeGitHub, head: &CommitId, base: &CommitId) -> u64 {
    let (head, base) = (head.to_string(), base.to_string());
    forge.state().open_pull(&PullSpec { head: &head, base: &base, ..PullSpec::default() })
}

/// Opens a pull request, and has the answer to its first status come slowly: gives its number once
/// its plan is under way and not made.
fn open_midway(forge: &FakeGitHub, head: &CommitId, base: &CommitId) -> u64 {
    let slow = Action::Deliver(Delivery::Slow(Duration::from_millis(4)));
    forge.inject(Fault { method: "POST", path: "/statuses/", times: 1, action: slow });
    let number = open(forge, head, base);
    until("the plan to be under way", PATIENCE, || {
        let state = forge.state();
        let statuses = state.statuses_of(&head.to_string());
        assert!(statuses.iter().all(|status| status.state == "pending"), "too late: {statuses:?}");
        (!statuses.is_empty()).then_some(())
    });
    number
}

#[test]
fn what_changes_in_mid_plan_changes_what_is_said_and_breaks_nothing() {
    let name = "e2e::midway::what_changes_in_mid_plan_changes_what_is_said_and_breaks_nothing";
    super::beside_libvirt(name, || {
        let Begun { forge, mut bench, lab, base } = begin();
        let of = |names: &[(&str, u8)]| documents(&lab, names);
        settled(&forge, &base, "success");
        let gone = |number: u64| {
            until(&format!("#{number} to be gone"), PATIENCE, || {
                (!bench.state().pulls.open.contains_key(&number)).then_some(())
            });
        };

        let head = offer(&bench, 1, &of(&[("lab", 91), ("closed", 92)]));
        let number = open_midway(&forge, &head, &base);
        forge.state().close(number);
        gone(number);

        let head = offer(&bench, 2, &of(&[("lab", 91), ("turned", 93)]));
        let number = open_midway(&forge, &head, &base);
        forge.state().retarget(number, "release", &base.to_string());
        gone(number);

        let before = offer(&bench, 3, &of(&[("lab", 91), ("first", 94)]));
        let number = open_midway(&forge, &before, &base);
        let head = offer(&bench, 3, &of(&[("lab", 91), ("second", 95)]));
        forge.state().push(number, &head.to_string());
        settled(&forge, &head, "success");
        let said = until("its comment", PATIENCE, || {
            forge.state().comments_on(number).first().map(|(_, text)| (*text).to_owned())
        });
        assert!(said.contains("network/second") && !said.contains("network/first"), "{said}");
        let state = forge.state();
        let green = |commit: &CommitId| {
            let statuses = state.statuses_of(&commit.to_string());
            statuses.iter().any(|status| status.state == "success")
        };
        assert!(!green(&before), "what nobody looked at is not green");
        drop(state);
        forge.state().close(number);
        gone(number);

        let head = offer(&bench, 4, &of(&[("lab", 91), ("merged", 96)]));
        let number = open_midway(&forge, &head, &base);
        bench.repo.git(["merge", "-q", "--no-ff", "-m", "Merge #4", "offer"]);
        let merged = bench.repo.head();
        bench.repo.push();
        forge.state().merge(number, &merged.to_string());
        bench.converged(&merged);
        gone(number);
        settled(&forge, &merged, "success");
        assert_eq!(networks().len(), 2, "{:?}", networks());
        let events = bench.events_after(0);
        assert!(!events.iter().any(|event| event.is("plan.surprised", "")));
        bench.assert_log_is_whole();
        bench.stop();
    });
}

/// A second daemon, on libvirt's test driver; it ends with this value.
struct Second(Child);

impl Second {
    fn start(bench: &Bench, forge: &FakeGitHub) -> Self {
        let at = bench.dir.join("second");
        std::fs::create_dir(&at).unwrap();
        let mut settings = serde_json::to_value(forge.settings(TOKEN)).unwrap();
        settings["poll"] = "1s".into();
        let config = format!(
            "repository:\n  url: file://{repo}\n  poll: {{ interval: 1s }}\nhost: second\n\
             stateDirectory: {at}/state\nsocket: {at}/t.sock\naccelerator: tcg\n\
             libvirt: {{ uri: 'test:///default' }}\nforge: {settings}\n",
            repo = bench.repo.bare().display(),
            at = at.display(),
        );
        std::fs::write(at.join("config.yaml"), config).unwrap();
        let log = std::fs::File::create(at.join("daemon.log")).unwrap();
        let mut command: Command = program();
        command.arg("--config").arg(at.join("config.yaml")).arg("run").stdin(Stdio::null());
        Self(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is reaped here.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn two_hosts_on_one_repository_speak_side_by_side() {
    const BOTH: &str = "apiVersion: trueup/v1\nkind: Repository\nmetadata: { name: bench }\nspec:\n  \
                        environments:\n    lab: { hosts: [bench] }\n    side: { hosts: [second] }\n";
    let name = "e2e::midway::two_hosts_on_one_repository_speak_side_by_side";
    super::beside_libvirt(name, || {
        let forge = FakeGitHub::start();
        let mut bench = Bench::new();
        let lab = environment(&bench.dir, "");
        let side = lab.replace("name: lab", "name: side");
        let file = "environments/side/side.yaml";
        bench.repo.write("trueup.yaml", BOTH);
        bench.repo.write(file, format!("{side}{}", network("east", 61, "")));
        let (base, _) = bench.push(&[lab.clone(), network("lab", 91, "")]);
        follow(&bench, &forge, TOKEN, json!({}));
        bench.start();
        let second = Second::start(&bench, &forge);
        bench.converged(&base);
        let contexts = ["trueup/bench/lab", "trueup/second/side"];
        let both = |commit: &CommitId| {
            for context in contexts {
                until(&format!("{context} on {commit}"), PATIENCE, || {
                    let state = forge.state();
                    let all = state.statuses_of(&commit.to_string());
                    let newest = all.iter().rfind(|status| status.context == context)?;
                    (newest.state == "success").then_some(())
                });
            }
        };
        both(&base);
        let change = |west: &str, east: &str| {
            let documents = [lab.clone(), network("lab", 91, ""), network(west, 92, "")];
            let text = format!("{side}{}{}", network("east", 61, ""), network(east, 62, ""));
            offer_with(&bench, 1, &documents, &[(file, &text)])
        };
        let head = change("west1", "east1");
        assert_eq!(open(&forge, &head, &base), 1);
        both(&head);
        let head = change("west2", "east2");
        forge.state().push(1, &head.to_string());
        both(&head);
        until("both comments to tell of the second push", PATIENCE, || {
            let state = forge.state();
            let texts: Vec<_> = state.comments_on(1).iter().map(|(_, text)| *text).collect();
            let [first, second] = texts.as_slice() else { return None };
            let (ours, other) =
                if first.contains("bench") { (first, second) } else { (second, first) };
            assert!(!ours.contains("network/east") && !other.contains("network/west"));
            (ours.contains("network/west2") && other.contains("network/east2")).then_some(())
        });
        let mut seen: Vec<_> =
            forge.state().statuses.iter().map(|status| status.context.clone()).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, contexts);
        drop(second);
        bench.stop();
    });
}

#[test]
fn two_thousand_changes_fit_into_a_comment_that_names_all_that_is_destroyed() {
    const GOES: usize = 400;
    const COMES: usize = 1_600;
    let name =
        "e2e::midway::two_thousand_changes_fit_into_a_comment_that_names_all_that_is_destroyed";
    super::beside_libvirt(name, || {
        let forge = FakeGitHub::start();
        let mut bench = Bench::new();
        let node = bench.dir.join("node.xml");
        std::fs::write(&node, NODE).unwrap();
        let config = std::fs::read_to_string(bench.config()).unwrap();
        let uri = format!("libvirt: {{ uri: 'test://{}' }}\n", node.display());
        std::fs::write(bench.config(), config + &uri).unwrap();
        let lab = environment(&bench.dir, "").replace("maxDestroy: 50", "maxDestroy: 5000");
        // A network each has a subnet of its own, the new ones behind the old.
        let many = |word: &str, all: std::ops::Range<usize>, at: usize| {
            let one = |n: usize| {
                let (a, b) = ((at + n) / 250, (at + n) % 250);
                format!(
                    "---\napiVersion: trueup/v1\nkind: Network\nmetadata: {{ name: {word}{n} }}\n\
                     spec: {{ mode: isolated, cidr: 10.{a}.{b}.0/24, bridge: b{word}{n} }}\n"
                )
            };
            all.map(one).collect::<String>()
        };
        let (base, _) = bench.push(&[lab.clone(), many("old", 0..GOES, 0)]);
        follow(&bench, &forge, TOKEN, json!({}));
        bench.start();
        bench.converged(&base);
        // A file has a limit of its own.
        let half = COMES / 2;
        let more = many("new", half..COMES, 2_500);
        let documents = [lab, many("new", 0..half, 2_500)];
        let head = offer_with(&bench, 1, &documents, &[("environments/lab/more.yaml", &more)]);
        open(&forge, &head, &base);
        let said = until("a plan", PATIENCE, || {
            let state = forge.state();
            let newest = state.statuses_of(&head.to_string()).last().copied().cloned()?;
            (newest.state != "pending").then_some(newest.description)
        });
        assert!(said.contains("400 to destroy") && said.contains("1600 to create"), "{said}");
        let text = comment(&forge);
        assert!(text.len() <= COMMENT_BYTES_MAX, "{}", text.len());
        // The box at the top names them by kind.
        let words: std::collections::BTreeSet<&str> = text.split_whitespace().collect();
        let unnamed: Vec<_> =
            (0..GOES).filter(|n| !words.contains(format!("old{n}").as_str())).collect();
        assert!(unnamed.is_empty(), "not named: {unnamed:?}");
        bench.stop();
    });
}

/// A host of libvirt's `test` driver with nothing on it.
const NODE: &str = "<node><cpu><mhz>2000</mhz><model>x86_64</model><active>4</active>\
<nodes>1</nodes><sockets>1</sockets><cores>4</cores><threads>1</threads></cpu>\
<memory>8192000</memory></node>";

#[test]
fn no_secret_reaches_the_forge() {
    let name = "e2e::midway::no_secret_reaches_the_forge";
    super::beside_libvirt(name, || {
        let forge = FakeGitHub::start();
        let mut bench = Bench::new();
        let lab = environment(&bench.dir, "")
            + "---\napiVersion: trueup/v1\nkind: Policy\nmetadata: { name: canary }\n\
               spec: { rules: { trueup.secrets: { level: advisory } } }\n";
        let guest = |password: &str| {
            format!(
                "---\napiVersion: trueup/v1\nkind: VirtualMachine\nmetadata: {{ name: web }}\n\
                 spec:\n  cpus: 1\n  memory: 64MiB\n  accelerator: tcg\n  autostart: false\n  \
                 power: off\n  cloudInit:\n    userData:\n      password: {password}\n"
            )
        };
        let (base, _) = bench.push(&[lab.clone(), guest("canary-before-41")]);
        follow_as(&bench, &serde_json::to_value(forge.app_settings()).unwrap(), &json!({}));
        bench.start();
        bench.converged(&base);
        // A change of it, a mistake beside it, a conflict in it, and the same from a fork.
        let changed = offer(&bench, 1, &[lab.clone(), guest("canary-after-42")]);
        let wrong =
            offer(&bench, 2, &[lab.clone(), guest("[canary-wrong-43]").replace("1\n", "[x]\n")]);
        for (head, fork) in [(&changed, false), (&wrong, false), (&changed, true)] {
            let (head, base) = (head.to_string(), base.to_string());
            let spec = PullSpec { head: &head, base: &base, fork, ..PullSpec::default() };
            let number = forge.state().open_pull(&spec);
            bench.repo.git([
                "push",
                "-q",
                "--force",
                "origin",
                &format!("{head}:refs/pull/{number}/head"),
            ]);
        }
        settled(&forge, &changed, "success");
        settled(&forge, &wrong, "failure");
        until("three comments and their checks", PATIENCE, || {
            let state = forge.state();
            (state.comments.len() == 3 && state.checks.len() >= 2).then_some(())
        });
        // After the merge, and for a drift.
        bench.repo.git(["merge", "-q", "--no-ff", "-m", "Merge #1", &changed.to_string()]);
        let merged = bench.repo.head();
        bench.repo.push();
        forge.state().merge(1, &merged.to_string());
        settled(&forge, &merged, "success");
        bench.stop();
        let mut bytes = 0;
        for call in forge.calls() {
            // The one header for a login has nothing but the login, and no other byte has it.
            let (logins, said) = login::split(&call.request);
            let [login] = logins.as_slice() else { panic!("{logins:?}") };
            let token = login.strip_prefix("Bearer ").expect(login);
            let of_app = token.starts_with("ey") || token.starts_with(login::MINTED);
            assert!(of_app && !token.contains("canary-") && !token.contains(' '), "{token}");
            bytes += said.len();
            for canary in ["canary-", "Canary", "BEGIN RSA", token] {
                assert!(!said.contains(canary), "{canary} is in {said}");
            }
        }
        println!("{bytes} bytes reached the forge");
        assert!(bytes > 10_000, "{bytes}");
        assert!(json!(forge.state().comments_on(1)).to_string().contains("vm/web"));
    });
}
