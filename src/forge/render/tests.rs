//! Renderings by example, at their limits, and with names made to do harm.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use expect_test::expect;
use proptest::prelude::*;
use serde_json::json;
use trueup_mig::picture::{Cell, Mark, Picture, Row};

use super::*;
use crate::event::Spilled;
use crate::event::body::MoreChanges;
use crate::model::{Kind, Name};
use crate::plan::{Action, Disruption, FieldChange, GpuPicture, Reason, SkipReason, Skipped, Step};
use crate::port::{PullLines, SameLines};
use crate::spec::Severity;
use crate::view::DriftRow;

fn instance() -> Instance {
    Instance { host: "box-1".into(), environment: Name::new("lab").unwrap() }
}

fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn step(resource: &str, action: Action, disruption: Disruption) -> Step {
    Step {
        resource: resource.parse().unwrap(),
        action,
        disruption,
        reason: Reason::Changed,
        changes: Vec::new(),
        after: BTreeSet::new(),
        interrupts: BTreeSet::new(),
    }
}

fn field(path: &str, from: serde_json::Value, to: serde_json::Value) -> FieldChange {
    FieldChange { path: path.into(), from: Some(from), to: Some(to), disruption: Disruption::Live }
}

fn plan_of(steps: Vec<Step>, skipped: Vec<Skipped>) -> Plan {
    let environment = Name::new("lab").unwrap();
    Plan {
        commit: commit('a'),
        environment,
        steps,
        skipped,
        pictures: Vec::new(),
        notes: Vec::new(),
    }
}

fn small_plan() -> Plan {
    let mut live = step("vm/db", Action::VmUpdateLive { changes: Vec::new() }, Disruption::Live);
    live.changes = vec![field("/memory/current", json!(1 << 20), json!(2 << 20))];
    let mut stop = step("vm/web", Action::VmUndefine, Disruption::Restart);
    stop.action = Action::VmPause;
    stop.interrupts = ["vm/web", "vm/app"].map(|id| id.parse().unwrap()).into();
    stop.changes = vec![field("/cpus/max", json!(2), json!(4))];
    let start = step("vm/web", Action::VmStart, Disruption::None);
    let skipped = Skipped {
        resource: "network/lan".parse().unwrap(),
        why: SkipReason::Unobservable("libvirt at /run/x.sock does not answer".into()),
        changes: Vec::new(),
    };
    plan_of(vec![live, stop, start], vec![skipped])
}

/// Somebody may approve by a comment.
const BY_COMMENT: Approving<'static> =
    Approving { never: false, comment: true, review: false, label: None };

struct Given<'a> {
    finding: Finding<'a>,
    rulings: &'a [Ruling],
    show: Show,
    approving: Approving<'a>,
}

fn shown(given: Given<'_>) -> (Comment, Status) {
    let older = [Older {
        plan: Digest::of("older"),
        head: commit('c'),
        summary: "1 to change".into(),
        at: "2026-01-02T03:04:05Z".parse().unwrap(),
    }];
    let instance = instance();
    let view = PullView {
        instance: &instance,
        base: &commit('a'),
        head: &commit('b'),
        finding: given.finding,
        rulings: given.rulings,
        unobserved: &[],
        checkpoint: Some(Checkpoint { seq: 42, hash: Digest::of("line") }),
        older: &older,
        show: given.show,
        approving: given.approving,
    };
    (comment(&view), status(&view))
}

fn planned(plan: &Plan, show: Show) -> (Comment, Status) {
    shown(Given {
        finding: Finding::Planned { plan, holds: &[] },
        rulings: &[],
        show,
        approving: BY_COMMENT,
    })
}

#[test]
fn a_small_plan_is_shown_whole() {
    let (comment, status) = planned(&small_plan(), Show::All);
    assert_eq!(
        status,
        Status {
            tone: Tone::Success,
            description: "2 to change, 1 restart; 1 not observed".into()
        }
    );
    assert_eq!(digest_in(&comment.body), Some(comment.digest));
    let body = comment.body.replace(&comment.digest.to_string(), "<digest>");
    let body = body.replace(&small_plan().digest().to_string(), "<plan>");
    let body = body.replace(&Digest::of("line").to_string(), "<line>");
    let body = body.replace(&Digest::of("older").short(), "<older>");
    expect![[r#"
        <!-- trueup:box-1/lab -->
        <!-- trueup-digest:<digest> -->
        ### trueup: `lab` on `box-1`

        **2 to change, 1 restart; 1 not observed**

        | resource | action | why | disruption | also interrupts |
        |---|---|---|---|---|
        | `vm/web` | pause, start | changed | **restart** | `vm/app` |
        | `vm/db` | update | changed | live |  |

        #### Not observed

        Nothing is known or planned about these:

        - `network/lan`: libvirt at /run/x.sock does not answer

        #### What differs

        <details><summary><code>vm/web</code>: 1 field, restart</summary>

        ```diff
        - cpus.max: 2
        + cpus.max: 4
        ```

        </details>
        <details><summary><code>vm/db</code>: 1 field, live</summary>

        ```diff
        - memory.current: 1 GiB
        + memory.current: 2 GiB
        ```

        </details>

        <details><summary>1 earlier plan</summary>

        - 2026-01-02 03:04 UTC for `cccccccccc`: 1 to change (plan `<older>`)

        </details>

        ---
        Plan `<plan>`
        for base `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa` and head `bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb`; log checkpoint `42 <line>`
    "#]]
    .assert_eq(&body);
}

/// As text: forges take inline SVG and `data:` URIs out of comments.
#[test]
fn gpus_are_drawn_as_text_before_and_after_but_not_for_a_fork() {
    let cell = |label: &str, mark| Cell { start: 0, size: 2, label: label.into(), mark };
    let row = |title: &str, cell| Row { title: title.into(), cells: vec![cell] };
    let rows = vec![
        row("before", cell("1g ```", Mark::Destroyed)),
        row("after", cell("2g eval", Mark::Created)),
    ];
    let resource = "gpu/big".parse().unwrap();
    let mut plan = small_plan();
    plan.pictures = vec![GpuPicture { resource, picture: Picture { units: 2, rows } }];
    let body = planned(&plan, Show::All).0.body;
    assert!(body.contains("│-1g ```") && body.contains("│+2g eval"), "{body}");
    assert!(body.contains("````text\n"), "the picture ends its own fence: {body}");
    assert!(!body.contains("<svg") && !body.contains("data:"), "{body}");
    let body = planned(&plan, Show::Redacted).0.body;
    assert!(!body.contains("2g eval"), "{body}");
}

#[test]
fn a_fork_sees_nothing_that_was_observed() {
    let mut plan = small_plan();
    let path = "/secret-pool/disk.qcow2".to_owned();
    plan.steps.push(step("seed/web", Action::SeedDelete { path }, Disruption::None));
    for why in [SkipReason::Foreign, SkipReason::InUse("secret-vm".into())] {
        let resource = "vm/secret-name".parse().unwrap();
        let resource =
            if why == SkipReason::Foreign { resource } else { "disk/own".parse().unwrap() };
        plan.skipped.push(Skipped { resource, why, changes: Vec::new() });
    }
    plan.steps[0].changes.push(field("/consoleLog", json!("secret-value"), json!("/new")));
    let (comment, _) = planned(&plan, Show::Redacted);
    assert!(!comment.body.contains("secret"), "{}", comment.body);
    assert!(!comment.body.contains("x.sock") && !comment.body.contains("1 GiB"));
    assert!(comment.body.contains("- memory.current: (not shown)\n+ memory.current: 2 GiB"));
    assert!(comment.body.contains("1 thing of others"), "{}", comment.body);
    let failed = Finding::Failed { why: "/run/secret.sock" };
    let (comment, status) =
        shown(Given { finding: failed, rulings: &[], show: Show::Redacted, approving: BY_COMMENT });
    assert!(!comment.body.contains("secret") && !status.description.contains("secret"));
}

#[test]
#[allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test that prints how long rendering takes"
)]
fn two_thousand_destroyed_resources_are_all_named() {
    let steps: Vec<Step> = (0..2_000)
        .map(|n| {
            let kind = if n % 2 == 0 { "disk" } else { "vm" };
            let id = format!("{kind}/machine-{n:04}-data");
            let mut step = step(&id, Action::VmUndefine, Disruption::Destroy);
            step.interrupts = [id.parse().unwrap()].into();
            step.changes = vec![field("/x", json!("a".repeat(500)), json!("b".repeat(500)))];
            step
        })
        .collect();
    let plan = plan_of(steps, Vec::new());
    let started = Instant::now();
    let (comment, status) = planned(&plan, Show::All);
    println!("2,000 resources rendered in {:?}", started.elapsed());
    assert!(comment.body.len() <= COMMENT_BYTES_MAX);
    for n in 0..2_000 {
        assert!(comment.body.contains(&format!("machine-{n:04}-data")), "{n} is not named");
    }
    assert!(comment.body.contains(&plan.digest().to_string()));
    assert_eq!(status.description, "2000 to destroy");
    check_markdown(&comment.body);
}

#[test]
fn more_than_a_page_can_name_is_counted() {
    let name = |n: usize| format!("disk/{n:05}-{}", "x".repeat(50));
    let steps: Vec<Step> =
        (0..5_000).map(|n| step(&name(n), Action::VmUndefine, Disruption::Destroy)).collect();
    let (comment, _) = planned(&plan_of(steps, Vec::new()), Show::All);
    assert!(comment.body.len() <= COMMENT_BYTES_MAX);
    let named = (0..5_000).filter(|n| comment.body.contains(&name(*n)[5..])).count();
    assert!(named > 500, "{named}");
    assert!(comment.body.contains(&format!("… and {} more", 5_000 - named)), "{named}");
    assert!(comment.body.contains("Destroys 5000 resources"));
    check_markdown(&comment.body);
}

#[test]
fn rules_in_the_way_come_first_and_fail_the_status() {
    let ruling = |level, exempt: Option<Exemption>| Ruling {
        level,
        rule: "disk/backup".into(),
        message: "disk/a has no backup, ask @ops".into(),
        resource: Some("vm/web".parse().unwrap()),
        place: Some(Origin { path: "environments/lab/a.yaml".into(), line: 7 }),
        exempt,
    };
    let exempt = Exemption {
        owner: "ann".into(),
        reason: "moving".into(),
        until: Some("2027-01-01T00:00:00Z".parse().unwrap()),
    };
    let rulings = [
        ruling(Level::Hard, Some(exempt)),
        ruling(Level::Advisory, None),
        ruling(Level::Hard, None),
    ];
    let plan = small_plan();
    let (comment, status) = shown(Given {
        finding: Finding::Planned { plan: &plan, holds: &[] },
        rulings: &rulings,
        show: Show::All,
        approving: BY_COMMENT,
    });
    assert_eq!(status.tone, Tone::Failure);
    assert!(status.description.starts_with("disk/backup: disk/a has no backup"));
    assert!(comment.body.contains(
        "#### Rules\n\n- **hard** `disk/backup` `vm/web` (`environments/lab/a.yaml:7`): disk/a has \
         no backup, ask &#64;&#8203;ops\n- **advisory**"
    ));
    assert!(comment.body.contains("exempt by ann: moving, until 2027-01-01"));
    assert!(!comment.body.contains("/trueup approve"), "nothing waits");
    let (_, status) = shown(Given {
        finding: Finding::Planned { plan: &plan, holds: &["window is closed".into()] },
        rulings: &rulings[..2],
        show: Show::All,
        approving: BY_COMMENT,
    });
    assert_eq!(status.tone, Tone::Success);
    assert_eq!(
        status.description,
        "2 to change, 1 restart; 1 not observed; held: window is closed; to approve it, see the \
         comment"
    );
}

#[test]
fn what_waits_says_what_to_write() {
    let plan = small_plan();
    let holds = ["it would destroy everything there is ".repeat(9)];
    let said = |approving| {
        let finding = Finding::Planned { plan: &plan, holds: &holds };
        let (comment, status) = shown(Given { finding, rulings: &[], show: Show::All, approving });
        check_markdown(&comment.body);
        assert!(status.description.chars().count() <= DESCRIPTION_CHARS_MAX);
        (comment.body, status.description)
    };
    let line = format!("a comment `/trueup approve {}`", plan.digest());
    let (comment, status) = said(BY_COMMENT);
    assert!(comment.contains(&line) && comment.contains("`trueup approve` on the host"));
    assert!(status.ends_with("…; to approve it, see the comment"), "{status}");
    let other = Approving { comment: false, review: true, label: Some("a|b"), never: false };
    let (comment, _) = said(other);
    assert!(comment.contains("an approving review of this head, or the label `a¦b`, by somebody"));
    assert!(!comment.contains("a comment `/trueup"));
    let (comment, status) = said(Approving::default());
    assert!(comment.contains("Nobody may approve here"), "{comment}");
    assert!(status.ends_with("; after the merge: trueup approve"), "{status}");
    let (comment, status) = said(Approving { never: true, ..BY_COMMENT });
    assert!(!comment.contains("trueup approve") && status.ends_with("; no approval ends that"));
}

#[test]
fn a_merge_that_waits_says_what_to_write() {
    let (plan, reasons) = (Digest::of("plan"), vec!["#7 did not say: @everybody".to_owned(); 30]);
    let text = waiting(&reasons, Some(plan), true);
    check_markdown(&text);
    assert!(text.contains(&format!("a comment `/trueup approve {plan}`")), "{text}");
    assert!(text.contains(&format!("`trueup approve {}` on the host", plan.short())));
    assert!(text.contains("and 10 more") && !text.contains("@everybody"), "{text}");
    assert!(!waiting(&reasons, Some(plan), false).contains("/trueup approve"));
    assert!(waiting(&reasons, None, true).contains("No approval ends that"));
}

#[test]
fn every_finding_has_a_status_and_a_comment() {
    let diagnostics = [diagnostic("environments/lab/a.yaml", 3, Severity::Error)];
    let cases = [
        (Finding::Pending, Tone::Pending, "looking at"),
        (Finding::Rejected { diagnostics: &diagnostics }, Tone::Failure, "1 mistake: environ"),
        (Finding::Conflict { paths: &["a.yaml".into()], more: 2 }, Tone::Failure, "a.yaml (+2)"),
        (Finding::Skipped { why: "forks are off" }, Tone::Error, "not planned: forks are off"),
        (Finding::Failed { why: "libvirt is down" }, Tone::Error, "libvirt is down"),
    ];
    for (finding, tone, words) in cases {
        let (comment, status) =
            shown(Given { finding, rulings: &[], show: Show::All, approving: BY_COMMENT });
        assert_eq!(status.tone, tone);
        assert!(status.description.contains(words), "{}", status.description);
        assert!(comment.body.contains("head `bbbbbbbbbb"));
        check_markdown(&comment.body);
    }
    let empty = plan_of(Vec::new(), Vec::new());
    assert_eq!(planned(&empty, Show::All).1.description, "no changes");
}

#[test]
fn the_digest_changes_with_what_is_said_only() {
    let plan = small_plan();
    let instance = instance();
    let (base, head) = (commit('a'), commit('b'));
    let view = |checkpoint, older: &'static [Older]| {
        comment(&PullView {
            instance: &instance,
            base: &base,
            head: &head,
            finding: Finding::Planned { plan: &plan, holds: &[] },
            rulings: &[],
            unobserved: &[],
            checkpoint,
            older,
            show: Show::All,
            approving: BY_COMMENT,
        })
    };
    let one = view(None, &[]);
    let two = view(Some(Checkpoint { seq: 1, hash: Digest::of("x") }), &[]);
    assert_eq!(one.digest, two.digest);
    assert_ne!(one.body, two.body);
    assert_ne!(planned(&plan, Show::Redacted).0.digest, planned(&plan, Show::All).0.digest);
}

fn diagnostic(path: &str, line: u32, severity: Severity) -> Diagnostic {
    Diagnostic {
        code: "spec/unknown-field".into(),
        severity,
        path: path.into(),
        line,
        column: 3,
        end_column: Some(8),
        message: "no such field".into(),
        hint: Some("did you mean `x`?".into()),
        related: Vec::new(),
    }
}

#[test]
fn annotations_stand_on_the_lines_of_the_head_worst_first() {
    let lines =
        PullLines { changed: vec![2..=2], same: vec![SameLines { merged: 3, head: 1, count: 40 }] };
    let plan = small_plan();
    let web = Origin { path: "lab/web.yaml".into(), line: 1 };
    let from = Annotations {
        diagnostics: &[
            diagnostic("lab/a.yaml", 30, Severity::Warning),
            diagnostic("lab/a.yaml", 4, Severity::Error),
            diagnostic("lab/a.yaml", 30, Severity::Error),
            diagnostic("lab/a.yaml", 1, Severity::Error),
            diagnostic("", 0, Severity::Error),
        ],
        rulings: &[],
        plan: Some(&plan),
        origins: &BTreeMap::from([("vm/web".parse().unwrap(), web)]),
        lines: &BTreeMap::from([("lab/a.yaml".to_owned(), lines)]),
    };
    let found: Vec<String> = annotations(&from)
        .iter()
        .map(|it| {
            let (level, path, line) = (it.level, &it.path, it.start_line);
            format!("{level:?} {path}:{line} {:?} {} {}", it.columns, it.in_diff, it.title)
        })
        .collect();
    assert_eq!(
        found,
        [
            "Failure lab/a.yaml:1 None true spec/unknown-field",
            "Failure lab/a.yaml:2 Some((3, 7)) true spec/unknown-field",
            "Failure lab/a.yaml:28 Some((3, 7)) false spec/unknown-field",
            "Warning lab/a.yaml:28 Some((3, 7)) false spec/unknown-field",
            "Notice lab/web.yaml:1 None false plan: restart",
        ]
    );
}

#[test]
fn drift_is_told_in_one_issue_and_closed_when_it_is_gone() {
    let row = DriftRow {
        resource: "vm/web".parse().unwrap(),
        since: "2026-01-02T03:04:05Z".parse().unwrap(),
        what: "changed by @somebody".into(),
        changes: vec![field("/memory/current", json!(4 << 20), json!(2 << 20))],
        more: None,
        left_alone_until: None,
    };
    let issue = drift_issue(&instance(), std::slice::from_ref(&row));
    assert_eq!((issue.title.as_str(), issue.open), ("Drift: lab on box-1", true));
    assert!(issue.text.body.starts_with("<!-- trueup-drift:box-1/lab -->\n"));
    assert_eq!(digest_in(&issue.text.body), Some(issue.text.digest));
    assert!(issue.text.body.contains("- /memory/current: 2 GiB\n+ /memory/current: 4 GiB"));
    assert!(issue.text.body.contains("&#64;&#8203;somebody"));
    check_markdown(&issue.text.body);
    let (all, _) = Spilled::of(b"[]".to_vec());
    let cut = DriftRow { more: Some(MoreChanges { left_out: 8, all }), ..row.clone() };
    assert!(drift_issue(&instance(), &[cut]).text.body.contains("# … and 8 more fields\n"));
    let many: Vec<DriftRow> = std::iter::repeat_n(row, 5_000).collect();
    let many = drift_issue(&instance(), &many);
    assert!(many.text.body.len() <= COMMENT_BYTES_MAX && many.text.body.contains("more"));
    assert!(!drift_issue(&instance(), &[]).open);
}

#[test]
fn hosts_stay_apart_and_in_their_place() {
    let of = |host: &str| {
        let instance = Instance { host: host.into(), environment: Name::new("lab").unwrap() };
        (instance.marker(), instance.context())
    };
    assert_eq!(of("box-1.lan").1, "trueup/box-1.lan/lab");
    assert_eq!(of("a--> <b>").0, "<!-- trueup:a-%2D%3E%20%3Cb%3E/lab -->");
    let hosts = ["a--b", "a-%2Db", "a-b", "a/b", "a%2Fb", "-a"];
    let markers: BTreeSet<String> = hosts.iter().map(|host| of(host).0).collect();
    assert_eq!(markers.len(), hosts.len());
}

/// What must hold of any Markdown of ours: fences pair, folds pair, nothing is mentioned, linked or
/// referred to outside of code.
#[track_caller]
fn check_markdown(body: &str) {
    let (mut fence, mut folds) = (None::<usize>, 0_i64);
    for line in body.lines() {
        let run = line.chars().take_while(|c| *c == '`').count();
        match fence {
            Some(open) if run >= open && line.len() == run => fence = None,
            Some(_) => {}
            None if run >= 3 && !line[run..].contains('`') => fence = Some(run),
            None => {
                let prose = without_code(line);
                folds += prose.matches("<details>").count() as i64;
                folds -= prose.matches("</details>").count() as i64;
                assert!(folds >= 0, "a fold is closed that is not open: {line}");
                check_prose(line);
            }
        }
    }
    assert_eq!((fence, folds), (None, 0), "not closed in:\n{body}");
}

#[track_caller]
fn check_prose(line: &str) {
    if let Some(hidden) = line.strip_prefix("<!-- trueup") {
        assert_eq!(hidden.find("-->"), Some(hidden.len() - 3), "hidden text ends early: {line}");
        return;
    }
    let prose = without_code(line);
    let known = ["<details>", "</details>", "<summary>", "</summary>", "<code>", "</code>"];
    let mut bare = prose.clone();
    for tag in known {
        bare = bare.replace(tag, "");
    }
    assert!(!bare.contains('<'), "a tag in: {line}");
    assert!(!bare.contains('@'), "a mention in: {line}");
    assert!(!bare.contains("://") && !bare.contains("www."), "a link in: {line}");
    let decoded = decoded(&bare);
    for sign in ['#', '@'] {
        for (at, _) in decoded.match_indices(sign) {
            let next = decoded[at + 1..].chars().next().unwrap_or(' ');
            assert!(!next.is_alphanumeric(), "a reference in: {line}");
        }
    }
}

/// The line with numeric entities resolved, as a forge sees it when it looks for mentions.
fn decoded(line: &str) -> String {
    let (mut out, mut rest) = (String::new(), line);
    while let Some(at) = rest.find("&#") {
        out += &rest[..at];
        let (digits, after) = rest[at + 2..].split_once(';').unwrap();
        out.push(char::from_u32(digits.parse().unwrap()).unwrap());
        rest = after;
    }
    out + rest
}

/// The line without its code spans.
fn without_code(line: &str) -> String {
    let (mut out, mut rest) = (String::new(), line);
    while let Some(at) = rest.find('`') {
        out += &rest[..at];
        let run = rest[at..].chars().take_while(|c| *c == '`').count();
        let fence = "`".repeat(run);
        let mut after = &rest[at + run..];
        let mut closed = false;
        while let Some(end) = after.find('`') {
            let length = after[end..].chars().take_while(|c| *c == '`').count();
            after = &after[end + length..];
            if length == run {
                closed = true;
                break;
            }
        }
        assert!(closed, "{fence} is not closed in: {line}");
        rest = after;
    }
    out + rest
}

fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("```"),
        Just("`"),
        Just("````diff\n"),
        Just("@org/team"),
        Just("fixes #12"),
        Just("GH-7"),
        Just("</details>"),
        Just("<!--"),
        Just("-->"),
        Just("<img src=x>"),
        Just("\n\n"),
        Just("\r"),
        Just("\u{202e}"),
        Just("\u{200b}"),
        Just("|"),
        Just("]("),
        Just("https://x.y/z"),
        Just("www.x.y"),
        Just("a@b.c"),
        Just("&#64;x"),
        Just("\\"),
        Just("~~~"),
        Just("***"),
        Just("> [!NOTE]"),
        Just("| a |"),
        Just("日本"),
        Just("\0"),
        Just("/trueup approve"),
        Just("$x$"),
        Just("# t"),
        Just("- "),
        Just("1. "),
        Just("x"),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn hostile_text_stays_text(
        texts in prop::collection::vec(hostile(), 12),
        count in 0_usize..400,
        show in prop_oneof![Just(Show::All), Just(Show::Redacted)],
    ) {
        let text = |n: usize| texts[n % texts.len()].clone();
        let steps = (0..count).map(|n| {
            let kind = Kind::ALL[n % 6].short();
            let disruption = [Disruption::Destroy, Disruption::Replace, Disruption::Restart,
                Disruption::Live, Disruption::None][n % 5];
            let action = if n % 3 == 0 { Action::SeedDelete { path: text(n) } } else { Action::VmStart };
            let mut step = step(&format!("{kind}/r-{n}"), action, disruption);
            step.changes = vec![field(&format!("/{}", text(n + 1)), json!(text(n + 2)), json!([text(n + 3)]))];
            step
        });
        let skipped = (0..count / 4).map(|n| Skipped {
            resource: format!("vm/s-{n}").parse().unwrap(),
            why: match n % 3 {
                0 => SkipReason::Unobservable(text(n)),
                1 => SkipReason::Conflict(text(n)),
                _ => SkipReason::Foreign,
            },
            changes: vec![field(&text(n), json!(1), json!(2))],
        });
        let plan = plan_of(steps.collect(), skipped.collect());
        let rulings: Vec<Ruling> = (0..count / 5).map(|n| Ruling {
            level: [Level::Hard, Level::Soft, Level::Advisory][n % 3],
            rule: text(n), message: text(n + 1), resource: None,
            place: Some(Origin { path: text(n + 2), line: 1 }),
            exempt: (n % 2 == 0).then(|| Exemption { owner: text(n), reason: text(n), until: None }),
        }).collect();
        let diagnostics: Vec<Diagnostic> = (0..count).map(|n| Diagnostic {
            message: text(n), path: text(n + 1), hint: Some(text(n + 2)),
            ..diagnostic("", 1, Severity::Error)
        }).collect();
        let (paths, why) = (texts.clone(), text(3));
        let findings = [
            Finding::Planned { plan: &plan, holds: &texts },
            Finding::Rejected { diagnostics: &diagnostics },
            Finding::Conflict { paths: &paths, more: 3 },
            Finding::Skipped { why: &why },
            Finding::Failed { why: &why },
        ];
        for finding in findings {
            let instance = Instance { host: text(5), environment: Name::new("lab").unwrap() };
            let view = PullView {
                instance: &instance, base: &commit('a'), head: &commit('b'), finding,
                rulings: &rulings, unobserved: &texts, checkpoint: None, older: &[], show,
                approving: BY_COMMENT,
            };
            let (comment, status) = (comment(&view), status(&view));
            prop_assert!(comment.body.len() <= COMMENT_BYTES_MAX);
            prop_assert!(status.description.encode_utf16().count() <= DESCRIPTION_CHARS_MAX);
            prop_assert!(!status.description.chars().any(char::is_control));
            prop_assert_eq!(digest_in(&comment.body), Some(comment.digest));
            check_markdown(&comment.body);
        }
        let from = Annotations {
            diagnostics: &diagnostics, rulings: &rulings, plan: Some(&plan),
            origins: &BTreeMap::new(), lines: &BTreeMap::new(),
        };
        for it in annotations(&from) {
            prop_assert!(!it.path.is_empty() && it.start_line > 0);
            prop_assert!(it.message.chars().count() <= 2_000 && it.title.chars().count() <= 255);
        }
    }
}
