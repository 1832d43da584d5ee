//! One real value of every event, from which a missing golden line is written.

#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;

use serde_json::json;
use trueup::event::Event;
use trueup::event::body::*;
use trueup::event::spill::Spilled;
use trueup::model::resource::{Chore, GpuMigState, GpuSeen, SeenPart, StoragePool};
use trueup::model::xid::XidClass;
use trueup::model::{
    CommitId, Digest, Fault, GpuIdentity, GpuProblem, GpuProblemKind, GpuReport, Name, PolicyLevel,
    Resource, ResourceId,
};
use trueup::plan::promise::{Deed, Promise, PromisedStep};
use trueup::plan::{Disruption, FieldChange, Reason};

/// One of each, in the order of `Event::TYPES`.
pub(super) fn samples() -> Vec<Event> {
    let mut samples = vec![
        Event::LogOpened(LogOpened { version: "0.1.0".into(), epoch: 3, host: "node1".into() }),
        Event::LogRecovered(LogRecovered {
            repository: "5".repeat(64),
            snapshot: "a".repeat(64),
            taken: "2026-01-02T03:04:05Z".parse().unwrap(),
            host: "node1".into(),
            last: 42,
            held: vec!["disk/db".parse().unwrap()],
        }),
        Event::LogTailCut(LogTailCut {
            file: "00000000000000000001.jsonl".into(),
            offset: 4096,
            bytes: 17,
            kept_in: "00000000000000000001.jsonl.tail-42".into(),
        }),
    ];
    samples.extend(source());
    samples.extend(plan());
    samples.extend(resource());
    samples.push(gpu());
    samples.extend(health());
    samples.extend(backup());
    samples.push(cluster());
    samples.push(kubernetes());
    samples.push(release());
    samples.extend(pull());
    let why = "moving the rack".to_owned();
    samples.extend([
        Event::OperatorPaused(OperatorPaused { reason: why.clone() }),
        Event::OperatorResumed(Resumed {}),
        Event::OperatorHeld(OperatorHeld { reason: why }),
        Event::OperatorReleased(OperatorReleased {}),
        Event::BackupAsked(BackupAsked {}),
        Event::DrillAsked(DrillAsked {}),
        Event::BackupCancelled(BackupCancelled {}),
        Event::NodeDrained(NodeDrained {
            node: "n7".into(),
            reason: "fan is loud".into(),
            until: "2026-01-02T03:04:05Z".parse().unwrap(),
        }),
        Event::NodeResumed(NodeResumed { node: "n7".into() }),
        Event::AccessGiven(AccessGiven {
            user: "ann".into(),
            namespace: "research".into(),
            role: trueup_kubernetes::namespace::Role::Edit,
            until: "2026-01-02T03:04:05Z".parse().unwrap(),
        }),
        Event::AccessTaken(AccessTaken {
            number: 812,
            user: "ann".into(),
            namespace: "research".into(),
        }),
    ]);
    samples
}

fn cluster() -> Event {
    let overview = json!({
        "release": "22.05.8",
        "daemons": {"22.05.8": 2},
        "nodes": {"total": 2, "up": 1, "busy": 1, "drained": 1, "down": 0},
        "resources": {"cpu": {"total": 8, "allocated": 2}},
        "partitions": {"batch": {"state": "UP", "running": 1, "pending": 3, "longestWait": 40}},
        "accounts": {"research": {"running": 1, "pending": 3, "cpus": 2}},
        "out": [{
            "node": "n2", "reason": "fan is loud", "by": "bob", "since": 1767323045,
            "answers": true,
        }],
    });
    let overview = serde_json::from_value(overview).unwrap();
    Event::ClusterObserved(ClusterObserved { name: "lab".into(), overview, load_only: false })
}

fn kubernetes() -> Event {
    let overview = json!({
        "release": "v1.33.1",
        "nodes": {"total": 3, "ready": 2, "out": 1},
        "kubelets": {"v1.33.1": 2, "v1.29.0": 1},
        "resources": {
            "cpu": {"total": 7500, "allocated": 250},
            "nvidia.com/mig-1g.10gb": {"total": 14, "allocated": 3},
        },
        "out": [{"node": "g1", "by": "trueup:cloud/gpu", "ours": true, "reason": "pool gpu"}],
        "problems": [{
            "node": "g3", "kind": "Ready", "status": "Unknown", "message": "not heard of",
            "since": "2026-01-02T03:04:05Z",
        }],
        "waiting": 1,
        "waitingFor": [{"pod": "shop/web", "why": "no room"}],
        "missing": ["g9"],
        "unexpected": ["cp1"],
        "skew": ["the kubelet of g3 is v1.29.0"],
        "certificates": [{
            "what": "server 127.0.0.1:6443", "from": "2026-01-01T00:00:00Z",
            "until": "2027-01-01T00:00:00Z",
        }],
        "unread": [],
    });
    let overview = serde_json::from_value(overview).unwrap();
    Event::KubernetesObserved(KubernetesObserved { overview, load_only: false })
}

fn release() -> Event {
    let look = ReleaseLook {
        kinds: BTreeMap::from([("ConfigMap".to_owned(), 2), ("Deployment".to_owned(), 1)]),
        ready: 2,
        unready: vec![UnreadyObject {
            object: "Deployment shop/web".into(),
            health: ObjectHealth::Progressing,
            why: "1 of 2 pods are available".into(),
        }],
        more_unready: 0,
        added: vec![AddedField {
            object: "ConfigMap shop/colors".into(),
            path: ".data.grass".into(),
            manager: "kubectl-edit".into(),
        }],
        more_added: 0,
        folder: None,
    };
    let cluster = Name::new("apps").unwrap();
    Event::ReleaseObserved(ReleaseObserved { cluster, namespace: "shop".into(), look })
}

fn source() -> Vec<Event> {
    let problem = Problem {
        path: "environments/lab/vm.yaml".into(),
        line: 7,
        column: 3,
        message: "unknown field `memroy`".into(),
    };
    vec![
        Event::CommitObserved(CommitObserved {
            author: "Ann <ann@example.org>".into(),
            time: "2026-01-02T03:04:05+01:00".into(),
            subject: "Give web more memory".into(),
            signer: Some("ann@example.org".into()),
            repository: None,
        }),
        Event::RewriteRefused(RewriteRefused {
            have: commit('a'),
            offered: commit('b'),
            relation: "diverged".into(),
        }),
        Event::RewriteAccepted(RewriteAccepted { offered: commit('b') }),
        Event::SourceUnreachable(Unreachable { error: "no route to host".into() }),
        Event::SourceReachable(Reachable {}),
        Event::SignatureRejected(SignatureRejected { why: "the commit is not signed".into() }),
        Event::RefusalEnded(RefusalEnded {}),
        Event::SourceRekeyed(Rekeyed {
            previous: "https://old.example.org/lab.git".into(),
            repository: "https://new.example.org/lab.git".into(),
        }),
        Event::SpecWished(SpecWished {
            changed: vec![(id("vm/web"), digest("wish"))],
            removed: vec![id("disk/old")],
        }),
        Event::SpecAccepted(SpecAccepted {
            environment: Name::new("lab").unwrap(),
            desired: digest("desired"),
            changed: vec![(id("vm/web"), digest("wish"))],
            removed: vec![id("disk/old")],
            tree: None,
        }),
        Event::SpecRejected(SpecRejected {
            errors: 12,
            problems: vec![problem.clone()],
            more: None,
        }),
        Event::SpecWarned(SpecWarned { count: 1, warnings: vec![problem] }),
        Event::SpecUnreadable(SpecUnreadable { error: "cannot read a pack".into() }),
        Event::SpecReadable(SpecReadable {}),
    ]
}

fn plan() -> Vec<Event> {
    let plan = digest("plan");
    let step = StepSummary {
        resource: id("vm/web"),
        verb: "define".into(),
        disruption: Disruption::Restart,
        reason: Reason::Changed,
    };
    let facts = BTreeMap::from([("ready_s".to_owned(), "4".to_owned())]);
    vec![
        Event::PlanMade(PlanMade { plan, total: 1, steps: vec![step], more: None, beside: None }),
        Event::PlanHeld(PlanHeld {
            plan,
            reasons: vec!["it destroys 4 resources".into()],
            soft: Vec::new(),
            more: None,
            firm: false,
        }),
        Event::PlanApproved(PlanApproved::on_host(plan)),
        Event::PlanBegun(PlanBegun {
            plan,
            steps: vec![PromisedStep {
                resource: "vm/web".parse().unwrap(),
                deed: Deed { kind: "vmStart".into(), path: None },
                wish: None,
                disruption: Disruption::None,
                interrupts: Default::default(),
                parts: [("/power".to_owned(), digest("running"))].into(),
            }],
        }),
        Event::PlanLapsed(PlanLapsed { plan }),
        Event::PlanWithdrawn(PlanWithdrawn { plan }),
        Event::PlanFinished(PlanFinished { plan, succeeded: 3, failed: 1, blocked: 2 }),
        Event::PlanSurprised(PlanSurprised {
            plan,
            number: 7,
            shown: digest("shown"),
            extra: vec!["disk/data: destroy".into()],
            more: None,
        }),
        Event::PolicyViolated(PolicyViolated {
            key: digest("finding"),
            rule: "trueup.bridges".into(),
            level: PolicyLevel::Hard,
            message: "bridge `br0` is not allowed".into(),
            resource: Some(id("network/dmz")),
            field: Some("/spec/bridge".into()),
            place: Some("environments/lab/net.yaml:6".into()),
        }),
        Event::PolicyExempted(PolicyExempted {
            key: digest("finding"),
            rule: "trueup.bridges".into(),
            message: "bridge `br0` is not allowed".into(),
            resource: Some(id("network/dmz")),
            owner: "ann@example.org".into(),
            reason: "it is public on purpose".into(),
            until: "2027-02-01T00:00:00Z".parse().unwrap(),
        }),
        Event::PolicyCleared(PolicyCleared {
            key: digest("finding"),
            rule: "trueup.bridges".into(),
        }),
        Event::StepStarted(StepStarted {
            plan,
            step: 2,
            verb: "define".into(),
            disruption: Disruption::Live,
            reason: Reason::Drifted,
            changes: vec![change()],
            more: None,
            wish: Some(digest("wish")),
            claim: Some(claim()),
        }),
        Event::StepSucceeded(StepSucceeded { plan, step: 2, already: false, facts, elapsed_ms: 9 }),
        Event::StepFailed(StepFailed {
            plan,
            step: 2,
            fault: Fault::needs_human("disk/db is used by another program", "stop it"),
            attempt: 2,
            retry_at: Some("2026-01-02T03:04:05Z".parse().unwrap()),
            more: None,
        }),
        Event::StepInterrupted(StepInterrupted { plan, step: 2 }),
    ]
}

fn resource() -> Vec<Event> {
    let retry_at = "2026-01-02T03:04:05Z".parse().unwrap();
    vec![
        Event::Synced(Synced { wish: digest("wish"), claim: claim() }),
        Event::Claimed(Claimed { claim: claim() }),
        Event::Drifted(Drifted {
            changes: vec![change()],
            more: None,
            what: "changed".into(),
            heal: true,
        }),
        Event::Recovered(Recovered {}),
        Event::Flapping(Flapping { heals: 4, retry_at }),
        Event::Adopted(Adopted {}),
        Event::Moved(Moved { from: id("disk/data") }),
        Event::Unobservable(Unobservable { why: "libvirt does not answer".into() }),
        Event::Observable(Observable {}),
        Event::Pruned(Pruned { wish: Some(digest("wish")) }),
        Event::Restoring(Restoring {
            backup: id("backup/db"),
            snapshot: "b".repeat(64),
            taken: retry_at,
            file: "vda.raw".into(),
            path: "/srv/pool/db.qcow2".into(),
        }),
        Event::Restored(Restored {
            backup: id("backup/db"),
            snapshot: "b".repeat(64),
            taken: retry_at,
            bytes: 1_073_741_824,
            elapsed_ms: 3900,
        }),
        Event::RestoreFailed(RestoreFailed {
            why: "its data in backup/db did not come back: the key is wrong".into(),
        }),
    ]
}

fn gpu() -> Event {
    let part = |shape: &str, profile: &str, start, size, name: Option<&str>| SeenPart {
        shape: shape.into(),
        profile: profile.into(),
        start,
        size,
        name: name.map(Into::into),
        compute: Vec::new(),
        whole: true,
    };
    let shared = SeenPart {
        compute: vec!["1c".into(); 2],
        whole: false,
        ..part("2g", "2g.20gb", 2, 2, None)
    };
    Event::GpuObserved(GpuObserved {
        gpu: GpuSeen {
            uuid: "GPU-8f1c9a52-4d0e-4b7c-9a51-2d6e0f3b7c18".into(),
            pci: "0000:07:00.0".into(),
            serial: Some("1650000000000".into()),
            product: "NVIDIA H100 80GB HBM3".into(),
            architecture: "Hopper".into(),
            driver: "580.95.05".into(),
            mig: Some(GpuMigState { current: true, pending: true }),
            units: 8,
            parts: vec![
                part("1g", "1g.10gb", 0, 1, Some("infer")),
                shared,
                part("3g", "3g.40gb", 4, 4, Some("train")),
            ],
        },
    })
}

fn health() -> Vec<Event> {
    let (gpu, pci) = ("GPU-8f1c9a52-4d0e-4b7c-9a51-2d6e0f3b7c18", "0000:07:00.0");
    let (gpu, pci) = (gpu.to_owned(), pci.to_owned());
    let identity = GpuIdentity {
        pci: pci.clone(),
        serial: Some("1650000000000".into()),
        product: "NVIDIA H100 80GB HBM3".into(),
        architecture: "Hopper".into(),
        driver: "580.95.05".into(),
        vbios: Some("96.00.5E.00.01".into()),
    };
    let report = GpuReport {
        run: String::new(),
        seq: 0,
        at: "2026-01-02T03:04:05Z".parse().unwrap(),
        xid: 119,
        meaning: "GSP RPC timeout".into(),
        class: XidClass::Reset,
        count: 1,
        instance: Some("3g@4".into()),
        partition: Some("train".into()),
    };
    let problem = GpuProblem {
        kind: GpuProblemKind::Xid(119),
        detail: "Xid 119, GSP RPC timeout: reset the GPU".into(),
    };
    let boot = Some("5f3f5a0e-8f4b-4f8e-9d6c-0d4b7a1c2e3f".into());
    let why = "gpu is lost".to_owned();
    vec![
        Event::GpuFound(GpuFound { gpu: gpu.clone(), identity }),
        Event::GpuGone(GpuGone { gpu: gpu.clone(), why: why.clone() }),
        Event::GpuLost(GpuLost { gpu: gpu.clone(), pci: pci.clone(), why }),
        Event::GpuReturned(GpuReturned { gpu: gpu.clone() }),
        Event::GpuXid(GpuXid { gpu: gpu.clone(), pci: pci.clone(), report }),
        Event::GpuDegraded(GpuDegraded { gpu: gpu.clone(), pci, problems: vec![problem], boot }),
        Event::GpuRecovered(GpuRecovered { gpu }),
    ]
}

fn backup() -> Vec<Event> {
    let (repository, snapshot) = ("5".repeat(64), "a".repeat(64));
    let begun = "2026-01-02T03:04:05Z".parse().unwrap();
    vec![
        Event::BackupOpened(BackupOpened { repository: repository.clone(), made: true }),
        Event::BackupTaken(BackupTaken {
            repository,
            snapshot: snapshot.clone(),
            begun,
            tree: "b".repeat(64),
            files: 212,
            bytes: 1_048_576,
            added: 4096,
            of: Vec::new(),
            read: None,
            missing: 1,
            first_missing: Some("/etc/x: it was there and is gone".into()),
            notices: vec!["somebody else removed 1 snapshot(s)".into()],
            foreign: false,
            before: None,
            hooks: Vec::new(),
            elapsed_ms: 900,
        }),
        Event::BackupVerified(BackupVerified {
            snapshots: 7,
            read: 1_048_576,
            notices: Vec::new(),
            elapsed_ms: 1200,
        }),
        Event::BackupDrilled(BackupDrilled {
            snapshot: snapshot.clone(),
            files: 212,
            bytes: 1_048_576,
            elapsed_ms: 400,
            boot: None,
            proved: vec!["the log in it is whole up to event 42".into()],
            notices: vec!["a lock of node1, process 7, which is dead, was removed".into()],
            foreign: false,
        }),
        Event::BackupFailed(BackupFailed {
            during: Chore::Verify,
            errors: 2,
            why: "a pack is not what it was".into(),
            console: Vec::new(),
        }),
        Event::BackupForgotten(BackupForgotten {
            kept: 7,
            removed: vec![snapshot],
            removed_count: 1,
            released: Vec::new(),
            freed: 65_536,
            notices: Vec::new(),
            foreign: false,
        }),
        Event::BackupMissed(BackupMissed { rpo_s: 3600, last_good: Some(begun) }),
    ]
}

fn change() -> FieldChange {
    FieldChange {
        path: "/memory/current".into(),
        from: Some(json!(1_048_576)),
        to: None,
        disruption: Disruption::Live,
    }
}

fn claim() -> Claim {
    let pool = StoragePool { path: "/var/lib/libvirt/images".into(), autostart: true };
    Claim {
        resource: Some(Resource::StoragePool(pool)),
        prevent_destroy: true,
        orphan: false,
        depends_on: [id("pool/default")].into(),
    }
}

fn id(text: &str) -> ResourceId {
    text.parse().unwrap()
}

fn digest(text: &str) -> Digest {
    Digest::of(text)
}

fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn pull() -> Vec<Event> {
    let step = PromisedStep {
        resource: id("vm/web"),
        deed: Deed { kind: "vmDefine".into(), path: None },
        wish: Some(digest("wish")),
        disruption: Disruption::Restart,
        interrupts: [id("vm/web")].into(),
        parts: BTreeMap::from([("/memory".to_owned(), digest("more"))]),
    };
    let plan = PullPlan {
        plan: digest("plan"),
        promise: Promise { steps: vec![step] },
        held: vec!["the window opens on Saturday".into()],
        denied: vec!["vm/web: needs an owner".into()],
    };
    let (target, content) = (PostTarget::Comment(7), digest("comment"));
    vec![
        Event::PullObserved(PullObserved {
            number: 7,
            head: commit('c'),
            author: "ann".into(),
            fork: true,
        }),
        Event::PullPlanned(PullPlanned {
            number: 7,
            head: commit('c'),
            base: commit('a'),
            tree: Some("d".repeat(40)),
            outcome: PullOutcome::Planned(plan),
            report: Spilled::of(b"report".to_vec()).0,
            says: None,
            summary: None,
        }),
        Event::PullApproved(PullApproved {
            number: 7,
            head: commit('c'),
            plan: digest("plan"),
            via: ForgeApproval {
                login: "ben".into(),
                on: 7,
                means: ApprovalMeans::Comment,
                id: 4711,
                url: Some("https://forge.example/acme/env/pull/7#issuecomment-4711".into()),
                at: None,
            },
        }),
        Event::PullApprovalWithdrawn(PullApprovalWithdrawn {
            number: 7,
            plan: digest("plan"),
            why: "the review 12 was dismissed".into(),
            word: None,
            asked: None,
        }),
        Event::PullClosed(PullClosed { number: 7, merged: false }),
        Event::ForgePosted(ForgePosted {
            target: target.clone(),
            content,
            id: Some(42),
            url: None,
        }),
        Event::ForgeRefused(ForgeRefused {
            target,
            content,
            why: "the token may not write issues".into(),
            full: false,
        }),
        Event::ForgeUnavailable(ForgeUnavailable { error: "503 from the forge".into() }),
        Event::ForgeAvailable(ForgeAvailable {}),
    ]
}
