//! Approvals given on the forge, webhooks, and a login that may do little: through the daemon.

use std::io::{Read as _, Write as _};

use hmac::{Hmac, Mac as _};
use serde_json::json;
use trueup::source::CommitId;

use super::begin::{Begun, begin_with, documents, follow};
use super::bench::{Bench, PATIENCE, sh};
use super::events::until;
use super::pulls::{comment, networks, offer, open, settled};
use super::spec::{environment, network};
use crate::forge::fake::FakeGitHub;
use crate::forge::fake::login::TOKEN;
use crate::forge::fake::state::PullSpec;

#[test]
fn a_comment_of_somebody_who_may_lets_a_surprise_through() {
    let name = "e2e::approvals::a_comment_of_somebody_who_may_lets_a_surprise_through";
    super::beside_libvirt(name, || {
        let approvals = json!({ "approvals": { "permission": "maintain" } });
        let Begun { forge, mut bench, lab, base } =
            begin_with(people(), &[("lab", 91)], str::to_owned, TOKEN, approvals);
        let head = offer(&bench, 1, &[lab, network("lab", 91, ""), network("side", 92, "")]);
        open(&forge, &head, &base);
        settled(&forge, &head, "success");
        bench.stop();
        sh(&["virsh", "net-destroy", "lab"]);
        sh(&["virsh", "net-undefine", "lab"]);
        bench.repo.git(["merge", "-q", "--squash", "offer"]);
        let merged = bench.repo.commit_index("Add side (#1)", &[]);
        bench.repo.push();
        forge.state().merge(1, &merged.to_string());
        let before = bench.seq();
        bench.start();
        let surprised = bench.event(before, "plan.surprised", "");
        settled(&forge, &merged, "failure");
        next_second(&forge);
        let approve = format!("/trueup approve {}", surprised.data["plan"].as_str().unwrap());
        {
            let mut state = forge.state();
            state.comment(1, "stranger", &approve);
            let changed = state.comment(1, "ben", &approve);
            let changed = state.comments.iter_mut().find(|one| one.id == changed).unwrap();
            changed.updated = changed.created + jiff::Span::new().milliseconds(1_000);
            state.comment(1, "ben", "> /trueup approve 1\n\n/trueup aprove it");
            state.comment(1, "ann", &approve);
        }
        // The answer to whoever opened it comes after all of those were heard.
        until("answers", PATIENCE, || (answers(&forge).len() == 2).then_some(()));
        let answers = answers(&forge);
        assert!(
            answers[0].contains("Line 3") && answers[1].contains("somebody else"),
            "{answers:?}"
        );
        assert!(networks().is_empty(), "nothing runs");
        next_second(&forge);
        let id = forge.state().comment(1, "ben", &format!("It is right so.\n\n{approve}\n"));
        bench.converged(&merged);
        let log = bench.run(&["log", "--type", "plan.approved", "-o", "json"]).code(0);
        assert_eq!(log.out.matches("\"github:ben\"").count(), 1, "{}", log.out);
        assert!(log.out.contains(&format!("\"id\":{id}")), "the log shows how: {}", log.out);
        settled(&forge, &merged, "success");
        assert_eq!(self::answers(&forge).len(), 2, "answered once");
        bench.assert_log_is_whole();
        bench.stop();
    });
}

#[test]
fn what_was_approved_before_the_merge_runs_after_it() {
    let name = "e2e::approvals::what_was_approved_before_the_merge_runs_after_it";
    super::beside_libvirt(name, || {
        let approvals = json!({
            "permission": "maintain", "teams": ["team/ops"], "review": true, "label": "go",
        });
        let networks_before = [("lab", 91), ("side", 92), ("other", 93)];
        let approvals = json!({ "approvals": approvals });
        let begun = begin_with(people(), &networks_before, destroying_nothing, TOKEN, approvals);
        begun.forge.state().join("team/ops", "carol");
        let lab = begun.lab.clone();
        let all = |names: &[(&str, u8)]| documents(&lab, names);
        let Begun { forge, mut bench, base, .. } = begun;

        let head = offer(&bench, 1, &all(&[("lab", 91), ("other", 93)]));
        open(&forge, &head, &base);
        said(&forge, &head, "held: it would destroy 1");
        let before = bench.seq();
        next_second(&forge);
        forge.state().review(1, "stranger", "APPROVED", &head.to_string());
        forge.state().review(1, "ann", "APPROVED", &head.to_string());
        forge.state().review(1, "ben", "APPROVED", &base.to_string());
        forge.state().review(1, "carol", "APPROVED", &head.to_string());
        let approved = bench.event(before, "pull.approved", "");
        assert_eq!(approved.data["via"]["login"], "carol");
        until("the status to wait no more", PATIENCE, || {
            let newest = newest(&forge, &head);
            (!newest.contains("held")).then_some(())
        });

        // A push takes it away, and what was said before it counts no more.
        let head = offer(&bench, 1, &all(&[("lab", 91)]));
        forge.state().push(1, &head.to_string());
        said(&forge, &head, "held: it would destroy 2");
        assert!(bench.state().pulls.open[&1].approved.is_none());
        let before = bench.seq();
        next_second(&forge);
        forge.state().label(1, "go", "ben", true);
        let approved = bench.event(before, "pull.approved", "");
        assert_eq!(approved.data["via"]["means"], "label");
        forge.state().label(1, "go", "ben", false);
        bench.event(before, "pull.approval_withdrawn", "");
        said(&forge, &head, "held: it would destroy 2");
        next_second(&forge);
        forge.state().label(1, "go", "ben", true);
        // Merged before anybody looked.
        bench.repo.git(["merge", "-q", "--no-ff", "-m", "Merge #1", "offer"]);
        let merged = bench.repo.head();
        bench.repo.push();
        forge.state().merge(1, &merged.to_string());
        bench.converged(&merged);
        assert_eq!(networks(), ["lab"]);
        let log = bench.run(&["log", "--type", "plan.approved", "-o", "json"]).code(0);
        assert!(log.out.contains("github:ben") && log.out.contains("\"shown\""), "{}", log.out);
        bench.assert_log_is_whole();
        bench.stop();
    });
}

#[test]
fn a_webhook_is_a_reason_to_look_and_nothing_more() {
    let name = "e2e::approvals::a_webhook_is_a_reason_to_look_and_nothing_more";
    super::beside_libvirt(name, || {
        let forge = FakeGitHub::start();
        let mut bench = Bench::new();
        let lab = environment(&bench.dir, "");
        let (base, _) = bench.push(&[lab.clone(), network("lab", 91, "")]);
        let socket = bench.dir.join("hook.sock");
        let secret = bench.dir.join("hook-secret");
        std::fs::write(&secret, "canary-hook").unwrap();
        sh(&["chmod", "600", secret.to_str().unwrap()]);
        let webhook = json!({
            "listen": format!("unix:{}", socket.display()), "secret": { "file": secret },
        });
        // Found by polling, it would come too late for this test.
        follow(&bench, &forge, TOKEN, json!({ "webhook": webhook, "poll": "1h" }));
        bench.start();
        bench.converged(&base);
        let body = json!({ "action": "opened", "number": 9 }).to_string();
        let hook = |signature: &str| deliver(&socket, &body, signature);
        // Until a commit is in force nothing can be said of a pull request.
        assert_eq!(hook(&signed("canary-hook", &body)), 202);
        settled(&forge, &base, "success");
        let head = offer(&bench, 1, &[lab.clone(), network("lab", 91, ""), network("b", 92, "")]);
        open(&forge, &head, &base);
        // That neither wakes anybody is shown where the waking is counted (`forge::webhook::tests`): here the
        // follower may be looking for its own reasons.
        assert_eq!(hook(&signed("another", &body)), 401);
        assert_eq!(hook(&signed("canary-hook", &body)), 202, "a replay");
        let body = json!({ "action": "opened", "number": 10 }).to_string();
        assert_eq!(deliver(&socket, &body, &signed("canary-hook", &body)), 202);
        settled(&forge, &head, "success");
        assert!(!bench.said_so_far().contains("canary-hook"));
        bench.hang_up();
        until("the socket to be there again", PATIENCE, || {
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
        bench.stop();
    });
}

#[test]
fn a_login_that_may_not_write_keeps_nothing_from_converging() {
    let name = "e2e::approvals::a_login_that_may_not_write_keeps_nothing_from_converging";
    super::beside_libvirt(name, || {
        let forge = FakeGitHub::start();
        let weak = "ghp_CanaryWeak";
        forge.state().add_token(
            weak,
            "trueup-bot",
            &["metadata=read", "pull_requests=read", "issues=read", "statuses=read"],
        );
        let Begun { forge, mut bench, lab, base } =
            begin_with(forge, &[("lab", 91)], str::to_owned, weak, json!({}));
        let refused = bench.event(0, "forge.refused", "");
        assert!(refused.data["why"].as_str().unwrap().contains("statuses=write"), "{refused:?}");
        let head = offer(&bench, 1, &[lab, network("lab", 91, ""), network("side", 92, "")]);
        open(&forge, &head, &base);
        until("the comment to be refused", PATIENCE, || {
            let events = bench.events_after(0).into_iter();
            let refused = events.filter(|event| event.is("forge.refused", ""));
            let mut whys = refused.map(|event| event.data["why"].to_string());
            whys.any(|why| why.contains("pull_requests=write")).then_some(())
        });
        let status = bench.run(&["status"]).code(0);
        assert!(status.out.contains("post(s) not taken"), "{}", status.out);
        assert!(status.out.contains("statuses=write"), "what to do: {}", status.out);
        bench.repo.git(["merge", "-q", "--no-ff", "-m", "Merge #1", "offer"]);
        let merged = bench.repo.head();
        bench.repo.push();
        forge.state().merge(1, &merged.to_string());
        bench.converged(&merged);
        assert!(networks().contains(&"side".to_owned()));
        assert!(!bench.said_so_far().contains(weak));
        bench.stop();
    });
}

#[test]
fn what_waits_costs_three_requests_a_poll_however_much_it_is() {
    const PULLS: u64 = 8;
    let name = "e2e::approvals::what_waits_costs_three_requests_a_poll_however_much_it_is";
    super::beside_libvirt(name, || {
        let approvals = json!({ "permission": "write", "review": true, "label": "go" });
        let (networks, approvals) =
            ([("lab", 91), ("side", 92)], json!({ "approvals": approvals }));
        let Begun { forge, mut bench, lab, base } =
            begin_with(people(), &networks, destroying_nothing, TOKEN, approvals);
        let mut head = base;
        for number in 1..=PULLS {
            head = offer(&bench, number, &[lab.clone(), network("lab", 91, "")]);
        }
        let head = head.to_string();
        for number in 1..=PULLS {
            bench.repo.git([
                "push",
                "-q",
                "--force",
                "origin",
                &format!("{head}:refs/pull/{number}/head"),
            ]);
            let spec = PullSpec { head: &head, base: &base.to_string(), ..PullSpec::default() };
            assert_eq!(forge.state().open_pull(&spec), number);
        }
        until("every comment", PATIENCE, || {
            let state = forge.state();
            (1..=PULLS).all(|number| state.comments_on(number).len() == 1).then_some(())
        });
        let waiting = bench.state().pulls.open;
        assert!(waiting.values().all(|pull| !pull.shown.as_ref().unwrap().held.is_empty()));
        // What was posted last is heard once.
        next_second(&forge);
        next_second(&forge);
        let polls = || {
            let list = |line: &&String| line.starts_with("GET /repos/team/machines/pulls ");
            let lines = forge.lines();
            (lines.iter().filter(list).count(), lines)
        };
        forge.forget_calls();
        let (count, lines) = until("some polls", PATIENCE, || {
            let (count, lines) = polls();
            (count > 5).then_some((count, lines))
        });
        let free = lines.iter().filter(|line| line.ends_with(" 304")).count();
        println!("{} requests ({free} of them free) in {count} polls", lines.len());
        assert!(lines.len() <= 3 * count, "{lines:#?}");
        assert!(free + 2 >= lines.len(), "{lines:#?}");
        bench.stop();
    });
}

/// A forge where it is known who may what.
fn people() -> FakeGitHub {
    let forge = FakeGitHub::start();
    let mut state = forge.state();
    for (login, role) in [("ann", "admin"), ("ben", "maintain"), ("carol", "write")] {
        state.set_role(login, role);
    }
    state.set_role("stranger", "read");
    drop(state);
    forge
}

/// The environment with a limit that holds whatever destroys something.
fn destroying_nothing(lab: &str) -> String {
    lab.replace("maxDestroy: 50", "maxDestroy: 0")
}

/// The forge keeps times to the second: what it says next is later than everything until now.
fn next_second(forge: &FakeGitHub) {
    let now = jiff::Timestamp::now();
    until("the forge's next second", PATIENCE, || (forge.state().clock() > now).then_some(()));
}

fn newest(forge: &FakeGitHub, commit: &CommitId) -> String {
    let state = forge.state();
    let newest = state.statuses_of(&commit.to_string()).last().copied().cloned();
    newest.map(|status| status.description).unwrap_or_default()
}

/// Waits until the newest status of a commit says this.
fn said(forge: &FakeGitHub, commit: &CommitId, what: &str) {
    until(&format!("the status of {commit} to say {what}"), PATIENCE, || {
        newest(forge, commit).contains(what).then_some(())
    });
    // So was the comment, which is said after it.
    assert!(!comment(forge).is_empty());
}

fn answers(forge: &FakeGitHub) -> Vec<String> {
    let state = forge.state();
    let ours = state.comments_on(1).into_iter();
    let ours = ours.filter(|(by, text)| *by == "trueup-bot" && text.contains("trueup:answer"));
    ours.map(|(_, text)| text.to_owned()).collect()
}

fn signed(secret: &str, body: &str) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// Sends a webhook; the status of the answer.
fn deliver(socket: &std::path::Path, body: &str, signature: &str) -> u16 {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    write!(
        stream,
        "POST /webhook HTTP/1.1\r\nhost: x\r\nx-github-event: pull_request\r\n\
         x-hub-signature-256: {signature}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer[9..12].parse().unwrap()
}
