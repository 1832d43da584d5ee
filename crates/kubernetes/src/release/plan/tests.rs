//! Plans of a few objects, step by step.

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
use crate::key::Scopes;
use crate::release::{read, settle};

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n";
const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: '1'}\n---\n";
const FRONT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: front}\n---\n";
const DEFINITION: &str = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets.example.org}\nspec: {group: example.org, scope: Namespaced, names: {kind: Widget}}\n---\n";
const WIDGET: &str = "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: w}\n---\n";

fn wish(texts: &[&str]) -> Wish {
    let release = ReleaseName::new("shop", "web").unwrap();
    let manifests = read("x.yaml", &texts.concat()).unwrap();
    let (manifests, unknown) = settle(manifests, "shop", &Scopes::default()).unwrap();
    assert!(unknown.is_empty());
    Wish::new(release, manifests)
}

/// As the server would have it after an apply.
fn live(wish: &Wish, key: &ObjectKey) -> Arc<Value> {
    let mut object = wish.marked(wish.manifest(key).unwrap());
    object["metadata"]["uid"] = json!(format!("uid-{}", key.name));
    object["metadata"]["managedFields"] =
        json!([{"manager": MANAGER, "operation": "Apply", "fieldsV1": {}}]);
    Arc::new(object)
}

/// Everything done.
fn done(wish: &Wish) -> Seen {
    let objects = wish.manifests.iter().map(|m| {
        let live = Some(live(wish, &m.key));
        let found = Found { live, would: Would::Same, extras: Vec::new() };
        (m.key.clone(), found)
    });
    let members = wish.manifests.iter().map(|m| (m.key.clone(), m.kind.version.clone()));
    let inventory = Inventory {
        members: members.collect(),
        digest: wish.digest(),
        complete: true,
        holder: None,
    };
    Seen { inventory: Some(inventory), objects: objects.collect(), ..Seen::default() }
}

/// Seen with another wish in mind.
fn seen_for(after: &Wish, mut seen: Seen) -> Seen {
    let gone: Vec<_> =
        seen.objects.keys().filter(|key| after.manifest(key).is_none()).cloned().collect();
    for key in gone {
        let live = seen.objects.remove(&key).and_then(|found| found.live);
        seen.left.insert(key, live);
    }
    for manifest in &after.manifests {
        let absent = Found { live: None, would: Would::Later, extras: Vec::new() };
        seen.objects.entry(manifest.key.clone()).or_insert(absent);
    }
    seen
}

fn shown(plan: &Plan) -> String {
    let mut lines: Vec<String> = plan
        .items
        .iter()
        .map(|i| format!("{}: {:?} {:?} data={}", i.key, i.action, i.disruption, i.loses_data))
        .collect();
    lines.extend(plan.steps.iter().map(|step| match step {
        Step::Apply { key, .. } => format!("> apply {key}"),
        Step::AwaitReady { key } => format!("> await ready {key}"),
        Step::Record { members, complete, .. } => {
            format!("> record {} complete={complete}", members.len())
        }
        Step::Delete { key, uid, .. } => format!("> delete {key} {uid}"),
        Step::AwaitGone { key, .. } => format!("> await gone {key}"),
        Step::Forget => "> forget".to_owned(),
    }));
    lines.join("\n")
}

#[track_caller]
fn check(wish: &Wish, seen: &Seen, expected: Expect) {
    let plan = plan(wish, seen);
    let again: Plan = serde_json::from_value(json!(plan)).unwrap();
    assert_eq!(again, plan, "a plan can be written down");
    expected.assert_eq(&shown(&plan));
}

#[test]
fn a_first_install_is_in_order_and_recorded_before_it_begins() {
    let wish = wish(&[WIDGET, FRONT, MAP, DEFINITION, NAMESPACE]);
    let seen = seen_for(&wish, Seen::default());
    check(
        &wish,
        &seen,
        expect![[r#"
            Namespace shop: Create None data=false
            CustomResourceDefinition widgets.example.org: Create None data=false
            ConfigMap shop/a: Create None data=false
            Deployment shop/front: Create None data=false
            Widget shop/w: Create None data=false
            > apply Namespace shop
            > record 5 complete=false
            > apply CustomResourceDefinition widgets.example.org
            > await ready CustomResourceDefinition widgets.example.org
            > apply ConfigMap shop/a
            > apply Deployment shop/front
            > apply Widget shop/w
            > await ready Deployment shop/front
            > record 5 complete=true"#]],
    );
}

#[test]
fn nothing_to_do_is_no_step() {
    let wish = wish(&[MAP, FRONT]);
    let plan = plan(&wish, &done(&wish));
    assert_eq!(plan.steps, []);
    assert_eq!(plan.drift().count(), 0);
    assert_eq!(plan.disruption(), Disruption::None);
}

#[test]
fn a_definition_goes_after_its_objects() {
    let before = wish(&[DEFINITION, WIDGET, MAP]);
    let after = wish(&[]);
    check(
        &after,
        &seen_for(&after, done(&before)),
        expect![[r#"
            CustomResourceDefinition widgets.example.org: Prune Destroy data=true
            ConfigMap shop/a: Prune Destroy data=false
            Widget shop/w: Prune Destroy data=false
            > record 3 complete=false
            > delete Widget shop/w uid-w
            > await gone Widget shop/w
            > delete ConfigMap shop/a uid-a
            > await gone ConfigMap shop/a
            > delete CustomResourceDefinition widgets.example.org uid-widgets.example.org
            > await gone CustomResourceDefinition widgets.example.org
            > forget"#]],
    );
}

#[test]
fn a_definition_that_others_use_stays_and_is_remembered() {
    let before = wish(&[DEFINITION, MAP]);
    let after = wish(&[MAP]);
    let mut seen = seen_for(&after, done(&before));
    let key = ObjectKey::new(
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        None,
        "widgets.example.org",
    );
    seen.strangers.insert(key, 2);
    check(
        &after,
        &seen,
        expect![[r#"
            CustomResourceDefinition widgets.example.org: Leave("2 objects of its kind are not of this release and would be destroyed with it: remove these first") None data=false
            ConfigMap shop/a: Unchanged None data=false
            > record 2 complete=true"#]],
    );
}

#[test]
fn what_is_of_others_is_left_and_forgotten() {
    let before = wish(&[MAP, FRONT, WIDGET, DEFINITION]);
    let after = wish(&[DEFINITION]);
    let mut seen = seen_for(&after, done(&before));
    for (kind, mark) in [("ConfigMap", json!("other/release")), ("Deployment", json!(null))] {
        let one = seen.left.iter_mut().find(|(key, _)| key.kind == kind).unwrap().1;
        let mut object = Value::clone(one.as_ref().unwrap());
        object["metadata"]["annotations"][OWNER] = mark;
        *one = Some(Arc::new(object));
    }
    let one = seen.left.iter_mut().find(|(key, _)| key.kind == "Widget").unwrap().1;
    let mut object = Value::clone(one.as_ref().unwrap());
    object["metadata"]["annotations"][KEEP] = json!("false");
    *one = Some(Arc::new(object));
    check(
        &after,
        &seen,
        expect![[r#"
            CustomResourceDefinition widgets.example.org: Unchanged None data=false
            ConfigMap shop/a: Leave("belongs to the release other/release now") None data=false
            Deployment shop/front: Leave("bears no mark of this release any more") None data=false
            Widget shop/w: Leave("`trueup.io/prune` says to keep it") None data=false
            > record 1 complete=true"#]],
    );
}

#[test]
fn a_crash_in_between_is_gone_on_with() {
    let before = wish(&[MAP, FRONT]);
    let after = wish(&[FRONT, WIDGET, DEFINITION]);
    let mut seen = seen_for(&after, done(&before));
    // The union was recorded, and nothing else done.
    let inventory = seen.inventory.as_mut().unwrap();
    inventory.complete = false;
    inventory.members.extend(after.manifests.iter().map(|m| (m.key.clone(), "v1".to_owned())));
    check(
        &after,
        &seen,
        expect![[r#"
            CustomResourceDefinition widgets.example.org: Create None data=false
            ConfigMap shop/a: Prune Destroy data=false
            Deployment shop/front: Unchanged None data=false
            Widget shop/w: Create None data=false
            > record 4 complete=false
            > apply CustomResourceDefinition widgets.example.org
            > await ready CustomResourceDefinition widgets.example.org
            > apply Widget shop/w
            > await ready Deployment shop/front
            > delete ConfigMap shop/a uid-a
            > await gone ConfigMap shop/a
            > record 3 complete=true"#]],
    );
}

#[test]
fn refusals_hold_the_whole_release() {
    let wish = wish(&[MAP, FRONT]);
    let mut seen = done(&wish);
    let of = |seen: &mut Seen, kind: &str, would: Would| {
        let found = seen.objects.iter_mut().find(|(key, _)| key.kind == kind).unwrap().1;
        found.would = would;
    };
    let words = "spec.selector: field is immutable".to_owned();
    of(&mut seen, "Deployment", Would::Refused { words, immutable: true });
    let conflict =
        Conflict { field: ".data.x".to_owned(), words: "conflict with \"kubectl\"".to_owned() };
    of(&mut seen, "ConfigMap", Would::Conflicts(vec![conflict]));
    check(
        &wish,
        &seen,
        expect![[r#"
            ConfigMap shop/a: Refused("others own fields of it: .data.x (conflict with \"kubectl\"); leave these to them, or let the release take them") None data=false
            Deployment shop/front: Refused("spec.selector: field is immutable; it would have to be made anew: allow that by the annotation `trueup.io/replace: \"true\"`") None data=false"#]],
    );
}

#[test]
fn an_allowed_replacement_destroys_first() {
    let mut wish = wish(&[FRONT]);
    wish.manifests[0].object["metadata"]["annotations"][REPLACE] = json!("true");
    let mut seen = done(&wish);
    let words = "field is immutable".to_owned();
    seen.objects.values_mut().next().unwrap().would = Would::Refused { words, immutable: true };
    check(
        &wish,
        &seen,
        expect![[r#"
            Deployment shop/front: Replace Replace data=false
            > record 1 complete=false
            > delete Deployment shop/front uid-front
            > await gone Deployment shop/front
            > apply Deployment shop/front
            > await ready Deployment shop/front
            > record 1 complete=true"#]],
    );
}

#[test]
fn what_is_there_already_is_only_taken_when_told() {
    let mut wish = wish(&[MAP]);
    let mut seen = done(&wish);
    let found = seen.objects.values_mut().next().unwrap();
    let mut object = Value::clone(found.live.as_ref().unwrap());
    let would = object.clone();
    object["metadata"]["annotations"] = json!({OWNER: "shop/other"});
    found.live = Some(Arc::new(object.clone()));
    found.would = Would::Object(Box::new(would));
    assert!(plan(&wish, &seen).refused().next().unwrap().1.contains("release shop/other"));
    wish.takes_from.insert("shop/other".to_owned());
    assert_eq!(plan(&wish, &seen).items[0].action, Action::Change);

    object["metadata"] = json!({"name": "a", "namespace": "shop"});
    seen.objects.values_mut().next().unwrap().live = Some(Arc::new(object));
    assert!(plan(&wish, &seen).refused().next().unwrap().1.contains("let this one adopt it"));
    wish.adopt = true;
    assert_eq!(plan(&wish, &seen).items[0].action, Action::Change);
}

#[test]
fn without_pruning_what_is_left_stays_and_stays_known() {
    let before = wish(&[NAMESPACE, MAP, FRONT]);
    let mut after = wish(&[NAMESPACE, FRONT]);
    after.prune = false;
    let mut seen = seen_for(&after, done(&before));
    let first = plan(&after, &seen);
    let left = first.items.iter().find(|item| item.key.name == "a").unwrap();
    assert!(matches!(left.action, Action::Leave(_)), "{:?}", left.action);
    let [Step::Record { members, complete: true, digest }] = &first.steps[..] else {
        panic!("{:?}", first.steps)
    };
    assert!(members.iter().any(|(key, _)| key.name == "a"), "it can still be removed one day");
    let members = members.iter().cloned().collect();
    seen.inventory =
        Some(Inventory { members, digest: digest.clone(), complete: true, holder: None });
    assert_eq!(plan(&after, &seen).steps, [], "that is all");
    after.prune = true;
    let last = plan(&after, &seen);
    assert!(last.steps.iter().any(|step| matches!(step, Step::Delete { .. })));
}
