//! Lists: which objects are asked for, in pages.

use serde_json::{Value, json};

use super::watch::Watch;
use super::{Answer, Params};
use crate::world::{Refusal, Served, World};

/// Whether an object is asked for.
pub(super) fn selected(
    object: &Value,
    namespace: Option<&str>,
    params: &Params,
) -> Result<bool, Refusal> {
    let meta = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    if namespace.is_some_and(|namespace| meta("namespace") != namespace) {
        return Ok(false);
    }
    let pairs = |name: &str| {
        let text = params.get(name).cloned().unwrap_or_default();
        text.split(',').filter(|p| !p.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    for pair in pairs("labelSelector") {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            Refusal::new(400, "BadRequest", format!("unable to parse requirement: {pair}"))
        })?;
        if object["metadata"]["labels"].get(key).and_then(Value::as_str)
            != Some(value.trim_start_matches('='))
        {
            return Ok(false);
        }
    }
    for pair in pairs("fieldSelector") {
        let (key, value) = pair.split_once('=').unwrap_or((&pair, ""));
        let have = match (key, object["kind"].as_str().unwrap_or_default()) {
            ("metadata.name", _) => meta("name"),
            ("metadata.namespace", _) => meta("namespace"),
            ("spec.nodeName", "Pod") => object["spec"]["nodeName"].as_str().unwrap_or_default(),
            _ => {
                return Err(Refusal::new(
                    400,
                    "BadRequest",
                    format!("field label not supported: {key}"),
                ));
            }
        };
        if have != value.trim_start_matches('=') {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn expired(version: u64, compacted: u64) -> Refusal {
    Refusal::new(410, "Expired", format!("too old resource version: {version} ({compacted})"))
}

/// A list, or the beginning of a watch.
pub(super) fn list(
    world: &World,
    of: &Served,
    namespace: Option<String>,
    params: &Params,
) -> Result<Answer, Refusal> {
    let flag = |name: &str| params.get(name).is_some_and(|value| value == "true");
    let number = |name: &str| -> Result<u64, Refusal> {
        let text = params.get(name).map_or("0", String::as_str);
        text.parse().map_err(|_| Refusal::new(400, "BadRequest", format!("{name}: {text}")))
    };
    if flag("watch") {
        let from = number("resourceVersion")?;
        let from = if from == 0 { world.version } else { from };
        return Ok(Answer::Watch(Watch {
            of: of.clone(),
            namespace,
            params: params.clone(),
            from,
        }));
    }
    // Where a page begins: the version of the first one, and after which name.
    let (version, after) = match params.get("continue").filter(|c| !c.is_empty()) {
        Some(token) => {
            let (version, after) = token
                .split_once('|')
                .ok_or_else(|| Refusal::new(400, "BadRequest", "continue key is not valid"))?;
            let version: u64 = version.parse().unwrap();
            if version < world.compacted {
                return Err(expired(version, world.compacted));
            }
            (version, Some(after.to_owned()))
        }
        None => (world.version, None),
    };
    let limit = usize::try_from(number("limit")?).unwrap();
    let (mut items, mut more) = (Vec::new(), None);
    for (spot, object) in
        world.objects.iter().filter(|(s, _)| s.group == of.group && s.plural == of.plural)
    {
        let place = format!("{}/{}", spot.namespace, spot.name);
        if after.as_ref().is_some_and(|after| place <= *after)
            || !selected(object, namespace.as_deref(), params)?
        {
            continue;
        }
        if limit > 0 && items.len() == limit {
            let last: &Value = items.last().unwrap();
            let meta = |field: &str| last["metadata"][field].as_str().unwrap_or_default();
            more = Some(format!("{version}|{}/{}", meta("namespace"), meta("name")));
            break;
        }
        items.push(object.clone());
    }
    // Objects in lists do not say what they are.
    let bare = |mut item: Value| {
        item.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
        item
    };
    let items: Vec<Value> = items.into_iter().map(bare).collect();
    Ok(Answer::Value(
        200,
        json!({
        "kind": format!("{}List", of.kind), "apiVersion": "v1",
        "metadata": {"resourceVersion": version.to_string(), "continue": more}, "items": items}),
    ))
}
