//! Releases: the inventory first, what is removed last, and nothing of others.

use std::sync::Arc;

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use trueup_kubernetes::release::{Found, Inventory, ReleaseName, Seen, Wish, Would, read, settle};
use trueup_kubernetes::{MANAGER, Scopes};

use super::shows;
use crate::model::resource::{
    Release, ReleaseManifests, ReleaseObject, ReleasePlace, ReleaseRendering, ReleaseSeen,
};
use crate::model::{Digest, Observation, Ownership, Resource};
use crate::plan::fixture::{Machine, id, name};
use crate::plan::promise::{Kept, Promise};
use crate::plan::{HoldReason, KnownResource, SkipReason, check, hold_reasons};

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n";
const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: '1'}\n---\n";
const LOGIN: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {p: hunter2}\n---\n";
const WEB: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 2, \
                   template: {spec: {containers: [{name: web, image: 'web:1'}]}}}\n---\n";

fn release(texts: &[&str]) -> Release {
    let manifests = read("x.yaml", &texts.concat()).unwrap();
    let (manifests, _) = settle(manifests, "shop", &Scopes::default()).unwrap();
    let objects = manifests.iter().map(|it| ReleaseObject {
        version: it.kind.api_version(),
        kind: it.key.kind.clone(),
        namespace: it.key.namespace.clone(),
        name: it.key.name.clone(),
        digest: it.digest.clone(),
    });
    Release {
        place: ReleasePlace { cluster: name("apps"), namespace: "shop".into(), name: "web".into() },
        prune: true,
        takes_fields: true,
        takes_from: Default::default(),
        takes_over_from: None,
        timeout_s: 600,
        objects: objects.collect(),
        rendered: Vec::new(),
        folder: None,
        manifests: ReleaseManifests(Arc::new(manifests)),
        seen: None,
    }
}

fn wish(release: &Release) -> Wish {
    Wish::new(ReleaseName::new("shop", "web").unwrap(), release.manifests.0.to_vec())
}

/// What a cluster has after `release` was applied: an object as its server shows it.
fn live(wish: &Wish, at: usize) -> Value {
    let manifest = &wish.manifests[at];
    let mut object = wish.marked(manifest);
    object["metadata"]["uid"] = json!(format!("uid-{}", manifest.key.name));
    object["metadata"]["managedFields"] =
        json!([{"manager": MANAGER, "operation": "Apply", "fieldsV1": {}}]);
    if object["kind"] == "Deployment" {
        object["status"] = json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2,
            "availableReplicas": 2});
    }
    object
}

/// A look at a cluster that has `before`, with `after` in mind.
fn look(before: &Release, after: &Release, prune: bool) -> ReleaseSeen {
    let (old, mut new) = (wish(before), wish(after));
    new.prune = prune;
    let mut seen = Seen::default();
    for (at, manifest) in old.manifests.iter().enumerate() {
        if new.manifest(&manifest.key).is_none() {
            seen.left.insert(manifest.key.clone(), Some(Arc::new(live(&old, at))));
        }
    }
    for (at, manifest) in new.manifests.iter().enumerate() {
        let there = old.manifests.iter().position(|it| it.key == manifest.key);
        let is_live = there.map(|there| Arc::new(live(&old, there)));
        let would = match &is_live {
            Some(_) if old.manifest(&manifest.key).unwrap().digest == manifest.digest => {
                Would::Same
            }
            _ => Would::Object(Box::new(live(&new, at))),
        };
        let found = Found { live: is_live, would, extras: Vec::new() };
        seen.objects.insert(manifest.key.clone(), found);
    }
    if !old.manifests.is_empty() {
        let members = old.manifests.iter().map(|it| (it.key.clone(), it.kind.version.clone()));
        let digest = old.digest();
        seen.inventory =
            Some(Inventory { members: members.collect(), digest, complete: true, holder: None });
    }
    ReleaseSeen { wish: Arc::new(new), seen }
}

fn observe(machine: &mut Machine, release: &Release, seen: ReleaseSeen) {
    let seen = Release { seen: Some(Arc::new(seen)), ..release.clone() };
    let observation = Observation {
        ownership: Ownership::Ours { environment: name("lab") },
        active: true,
        config: Resource::Release(Box::new(seen)),
        live: None,
        uuid: None,
        unplugged: Vec::new(),
    };
    machine.observed.resources.insert(id("release/web"), observation);
}

/// A cluster that has `before`, where the commit asks for `after`.
fn site(before: &[&str], after: &[&str]) -> Machine {
    let (before, after) = (release(before), release(after));
    let mut machine = Machine::new();
    machine.want("release/web", Resource::Release(Box::new(after.clone())));
    observe(&mut machine, &after, look(&before, &after, true));
    machine
}

#[test]
fn plans_by_what_is_there_and_what_is_asked_for() {
    let table: &[(&str, &[&str], &[&str], Expect)] = &[
        (
            "nothing is there",
            &[],
            &[NAMESPACE, MAP, WEB],
            expect![[r#"
                   1  apply     release/web  Namespace shop [missing]
                                Namespace.shop: nothing → there
                   2  record    release/web  3 object(s) to be made or removed [missing] after 1
                   3  apply     release/web  ConfigMap shop/a [missing] after 2
                                ConfigMap.shop.a: nothing → there
                   4  apply     release/web  Deployment shop/web [missing] after 3
                                Deployment.shop.web: nothing → there
                   5  wait      release/web  until Deployment shop/web is ready [missing] after 4
                                Deployment.shop.web.ready: nothing → ready
                   6  record    release/web  3 object(s) as they should be [missing] after 5
                Plan: 1 to create, 0 to change, 0 to destroy
            "#]],
        ),
        (
            "all is as asked",
            &[NAMESPACE, MAP, WEB],
            &[NAMESPACE, MAP, WEB],
            expect![[r#"
            Nothing to do: the machine is as the commit asks.
        "#]],
        ),
        (
            "one changes, one goes",
            &[NAMESPACE, MAP, WEB],
            &[NAMESPACE, &WEB.replace("web:1", "web:2")],
            expect![[r#"
                   1  record    release/web  3 object(s) to be made or removed [changed]
                   2  apply     release/web  Deployment shop/web [changed] RESTART after 1
                                Deployment.shop.web.spec.template.spec.containers.web.image: web:1 → web:2 (restart)
                   3  wait      release/web  until Deployment shop/web is ready [changed] after 2
                                Deployment.shop.web.ready: nothing → ready
                   4  delete    release/web  ConfigMap shop/a [changed] DESTROY after 3
                                ConfigMap.shop.a: there → nothing (destroy)
                   5  wait      release/web  until ConfigMap shop/a is gone [changed] after 4
                                ConfigMap.shop.a.gone: nothing → gone
                   6  record    release/web  2 object(s) as they should be [changed] after 5
                Plan: 0 to create, 0 to change, 1 to destroy
            "#]],
        ),
        (
            "a value of a Secret is not shown",
            &[LOGIN],
            &[&LOGIN.replace("hunter2", "hunter3")],
            expect![[r#"
                   1  record    release/web  1 object(s) to be made or removed [changed]
                   2  apply     release/web  Secret shop/login [changed] live after 1
                                Secret.shop.login.data.p: (hidden) → (hidden) (live)
                   3  record    release/web  1 object(s) as they should be [changed] after 2
                Plan: 0 to create, 1 to change, 0 to destroy
            "#]],
        ),
    ];
    for (what, before, after, expected) in table {
        let machine = site(before, after);
        let shown = machine.shown();
        assert!(!shown.contains("hunter"), "{what}: {shown}");
        let stored = serde_json::to_string(&machine.plan()).unwrap();
        assert!(!stored.contains("hunter"), "{what}: {stored}");
        expected.assert_eq(&shown);
    }
}

#[test]
fn what_drifted_is_put_back_and_called_so() {
    let mut machine = site(&[WEB, MAP], &[&WEB.replace("web:1", "web:2"), MAP]);
    let applied = machine.desired.resources[&id("release/web")].digest;
    let known = KnownResource { applied: Some(applied), ..KnownResource::default() };
    machine.known.resources.insert(id("release/web"), known);
    shows(
        &machine,
        expect![[r#"
               1  record    release/web  2 object(s) to be made or removed [drifted]
               2  apply     release/web  Deployment shop/web [drifted] RESTART after 1
                            Deployment.shop.web.spec.template.spec.containers.web.image: web:1 → web:2 (restart)
               3  wait      release/web  until Deployment shop/web is ready [drifted] after 2
                            Deployment.shop.web.ready: nothing → ready
               4  record    release/web  2 object(s) as they should be [drifted] after 3
            Plan: 0 to create, 1 to change (1 restart), 0 to destroy
        "#]],
    );
}

#[test]
fn a_release_that_is_gone_takes_its_objects_with_it_unless_it_is_protected() {
    let before = release(&[NAMESPACE, MAP, WEB]);
    let mut machine = Machine::new();
    let gone = release(&[]);
    observe(&mut machine, &gone, look(&before, &gone, true));
    machine.known.resources.insert(id("release/web"), KnownResource::default());
    shows(
        &machine,
        expect![[r#"
           1  record    release/web  3 object(s) to be made or removed [gone from the commit]
           2  delete    release/web  Deployment shop/web [gone from the commit] DESTROY after 1
                        Deployment.shop.web: there → nothing (destroy)
           3  wait      release/web  until Deployment shop/web is gone [gone from the commit] after 2
                        Deployment.shop.web.gone: nothing → gone
           4  delete    release/web  ConfigMap shop/a [gone from the commit] DESTROY after 3
                        ConfigMap.shop.a: there → nothing (destroy)
           5  wait      release/web  until ConfigMap shop/a is gone [gone from the commit] after 4
                        ConfigMap.shop.a.gone: nothing → gone
           6  delete    release/web  Namespace shop [gone from the commit] DESTROY after 5
                        Namespace.shop: there → nothing (destroy)
           7  wait      release/web  until Namespace shop is gone [gone from the commit] after 6
                        Namespace.shop.gone: nothing → gone
           8  remove    release/web  from apps [gone from the commit] after 7
        Plan: 0 to create, 0 to change, 1 to destroy
    "#]],
    );
    let plan = machine.plan();
    let reasons = hold_reasons(&plan, &machine.desired.sync, None);
    assert_eq!(reasons, [], "three objects are as many as maxDestroy allows");
    machine.desired.sync.max_destroy = 2;
    let reasons = hold_reasons(&plan, &machine.desired.sync, None);
    let [HoldReason::MaxDestroy { would, allowed: 2 }] = &reasons[..] else {
        panic!("{reasons:?}")
    };
    let would: Vec<String> = would.iter().map(ToString::to_string).collect();
    assert_eq!(
        would,
        [
            "ConfigMap shop/a of release/web",
            "Deployment shop/web of release/web",
            "Namespace shop of release/web",
        ]
    );
    let protected = KnownResource { prevent_destroy: true, ..KnownResource::default() };
    machine.known.resources.insert(id("release/web"), protected);
    assert!(machine.plan().is_empty());
    assert_eq!(machine.plan().skipped[0].why, SkipReason::PreventDestroy);
    // A plan that removed it all the same would be found out.
    let found = check::check(&plan, &machine.input()).unwrap_err();
    assert!(found.iter().any(|it| it.rule.contains("protected")), "{found:?}");
}

#[test]
fn without_pruning_what_is_gone_from_the_files_stays_and_stays_known() {
    let (before, mut after) = (release(&[MAP, WEB]), release(&[WEB]));
    after.prune = false;
    let mut machine = Machine::new();
    machine.want("release/web", Resource::Release(Box::new(after.clone())));
    observe(&mut machine, &after, look(&before, &after, false));
    shows(
        &machine,
        expect![[r#"
           1  record    release/web  2 object(s) as they should be [changed]
        Left alone:
              release/web: gone from the commit, but pruning is off for this pass
                        ConfigMap.shop.a: there → nothing (destroy)
        Plan: 0 to create, 1 to change, 0 to destroy, 1 left alone
    "#]],
    );
    assert_eq!(machine.plan().skipped[0].why, SkipReason::PruneOff);
    // A plan that removed it all the same would be found out.
    let pruning = site(&[MAP, WEB], &[WEB]).plan();
    let found = check::check(&pruning, &machine.input()).unwrap_err();
    assert!(found.iter().any(|it| it.rule.contains("pruning is off")), "{found:?}");
}

#[test]
fn what_is_of_others_holds_the_whole_release() {
    let mut machine = site(&[MAP, WEB], &[MAP, &WEB.replace("web:1", "web:2")]);
    let (before, after) = (release(&[MAP, WEB]), release(&[MAP, &WEB.replace("web:1", "web:2")]));
    let mut seen = look(&before, &after, true);
    let key = wish(&after).manifests[0].key.clone();
    let mut foreign = live(&wish(&before), 0);
    foreign["metadata"]["annotations"]["trueup.io/release"] = json!("shop/other");
    seen.seen.objects.get_mut(&key).unwrap().live = Some(Arc::new(foreign));
    observe(&mut machine, &after, seen);
    let plan = machine.plan();
    assert!(plan.is_empty());
    let SkipReason::Conflict(why) = &plan.skipped[0].why else { panic!("{plan:?}") };
    expect!["ConfigMap shop/a belongs to the release shop/other: remove it there, or let this one take over from it"].assert_eq(why);
}

#[test]
fn a_release_stays_where_it_was_made() {
    let mut machine = site(&[MAP], &[MAP, WEB]);
    let mut there = release(&[]);
    there.place.namespace = "old".into();
    let claimed = Some(Resource::Release(Box::new(there)));
    let known = KnownResource { claimed, ..KnownResource::default() };
    machine.known.resources.insert(id("release/web"), known);
    let plan = machine.plan();
    assert!(plan.is_empty());
    let SkipReason::Immutable(why) = &plan.skipped[0].why else { panic!("{plan:?}") };
    assert!(why.contains("old/web of apps"), "{why}");
}

#[test]
fn a_merge_does_what_was_shown_and_what_is_left_of_it_after_a_crash() {
    let (before, after) =
        ([NAMESPACE, MAP, WEB], [NAMESPACE, LOGIN, &WEB.replace("web:1", "web:2")]);
    let promise = Promise::of(&site(&before, &after).plan());
    assert_eq!(promise.kept_by(&site(&before, &after).plan()), Kept::Equal);
    // Killed after some of it: the rest is part of what was shown.
    let rest = site(&[NAMESPACE, LOGIN, MAP, WEB], &after).plan();
    let kept = promise.kept_by(&rest);
    assert!(matches!(kept, Kept::Smaller { .. }), "{kept:?}");
    // More than that was not.
    let more = site(&before, &[NAMESPACE, LOGIN, &WEB.replace("web:1", "web:3")]).plan();
    assert!(matches!(promise.kept_by(&more), Kept::Surprised { .. }));
}

#[test]
fn a_merge_that_is_rendered_otherwise_than_was_shown_is_none_that_was_promised() {
    let rendered = |by: &str, digest: &str| {
        let mut machine = site(&[MAP], &[MAP, LOGIN]);
        machine.edit("release/web", |wish| {
            let Resource::Release(release) = &mut wish.resource else { panic!() };
            release.rendered = vec![ReleaseRendering {
                of: "manifests/chart".into(),
                by: by.into(),
                digest: Digest::of(digest),
                left_out: Vec::new(),
            }];
        });
        machine.plan()
    };
    let promise = Promise::of(&rendered("helm v4.1.4", "one"));
    assert_eq!(promise.kept_by(&rendered("helm v4.1.4", "one")), Kept::Equal);
    for other in [rendered("helm v4.1.4", "two"), rendered("helm v4.1.5", "one")] {
        let kept = promise.kept_by(&other);
        assert!(matches!(kept, Kept::Surprised { .. }), "{kept:?}");
    }
}
