//! Asking every rule, within limits, and what its answer weighs here.

use std::num::NonZeroU32;
use std::time::Duration;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value};

use super::input::Input;
use super::rules::{Entrance, Entry, Rules};
use super::trouble::{Trouble, cut};
use super::verdict::{Exempted, Verdict, Verdicts};
use crate::model::{PolicyLevel, ResourceId};
use crate::spec::{Exemption, PolicySettings, TextPlace};

/// How long one rule may take: a thousand times what a rule over 2,000 resources needs.
const RULE_TIME_MAX: Duration = Duration::from_secs(2);
/// Rules that may run out of time before the rest is not asked any more.
const TIMEOUTS_MAX: usize = 3;
/// Work units between two looks at the time: far below a millisecond.
const CHECK_INTERVAL: u32 = 256;
/// Name under which mistakes in the settings themselves are reported.
const SETTINGS_RULE: &str = "trueup.policy";

/// Asks every rule about `input`. The same input gives the same verdicts, unless a rule runs into
/// its time limit; then, and whenever a rule cannot be evaluated, there is a `hard` verdict that
/// says so. It may take seconds: run it where it blocks nobody.
pub fn evaluate(rules: &Rules, settings: &PolicySettings, input: &Input) -> Verdicts {
    let mut found: Vec<Verdict> =
        rules.troubles.iter().map(|(path, trouble)| unreadable(path, trouble)).collect();
    let mut asked = Asked::new(rules, settings);
    match serde_json::to_string(input)
        .map_err(|e| e.to_string())
        .and_then(|text| Value::from_json_str(&text).map_err(|error| error.to_string()))
    {
        Ok(value) => {
            asked.engine.set_input(value);
            for entry in &rules.entries {
                asked.ask(entry, &mut found);
            }
        }
        // Cannot happen to what we serialise; if it does, nothing passes.
        Err(error) => found.push(unreadable(super::RULE_FOLDER, &Trouble::of(&error))),
    }
    for verdict in found.iter_mut().filter(|verdict| !verdict.broken) {
        exempt(verdict, settings, input.now);
    }
    found.extend(settings_troubles(rules, settings, input.now));
    Verdicts::of(found)
}

/// An evaluation under way.
struct Asked<'a> {
    engine: Engine,
    rules: &'a Rules,
    settings: &'a PolicySettings,
    timeouts: usize,
}

impl<'a> Asked<'a> {
    fn new(rules: &'a Rules, settings: &'a PolicySettings) -> Self {
        let mut engine = rules.engine.clone();
        limit(&mut engine);
        Self { engine, rules, settings, timeouts: 0 }
    }

    fn ask(&mut self, entry: &Entry, found: &mut Vec<Verdict>) {
        let package = entry.package_name();
        let set = self.settings.rules.get(&package);
        if set.is_some_and(|set| set.disabled) {
            return;
        }
        let level = match entry.entrance {
            Entrance::Deny => match set.and_then(|set| set.level) {
                Some(level) => Ok(level),
                None => self.own_level(&package),
            },
            Entrance::Warn => Ok(PolicyLevel::Advisory),
            Entrance::Test | Entrance::Level => return,
        };
        let level = match level {
            Ok(level) => level,
            Err(trouble) => return found.push(broken(entry, &trouble)),
        };
        match self.value(entry) {
            Ok(value) => answers(entry, level, &value, found),
            Err(trouble) => found.push(broken(entry, &trouble)),
        }
    }

    /// What the package says it weighs.
    fn own_level(&mut self, package: &str) -> Result<PolicyLevel, Trouble> {
        let says =
            |entry: &&Entry| entry.entrance == Entrance::Level && entry.package_name() == package;
        let rules = self.rules;
        let Some(entry) = rules.entries.iter().find(says) else { return Ok(PolicyLevel::Hard) };
        let value = self.value(entry)?;
        let word = value.as_string().map(|word| word.to_string()).unwrap_or_default();
        PolicyLevel::from_word(&word).ok_or_else(|| {
            let message = "`level` is not one of \"advisory\", \"soft\", \"hard\"";
            Trouble::at(entry.place.clone(), message)
        })
    }

    fn value(&mut self, entry: &Entry) -> Result<Value, Trouble> {
        if self.timeouts >= TIMEOUTS_MAX {
            let message = "not evaluated: too many rules ran out of time before it";
            return Err(Trouble::at(entry.place.clone(), message));
        }
        let answer = value_of(&mut self.engine, entry);
        if answer.as_ref().is_err_and(|(late, _)| *late) {
            self.timeouts += 1;
        }
        answer.map_err(|(_, trouble)| trouble)
    }
}

/// Puts the limits on an engine.
pub(super) fn limit(engine: &mut Engine) {
    engine.set_execution_timer_config(ExecutionTimerConfig {
        limit: RULE_TIME_MAX,
        check_interval: NonZeroU32::new(CHECK_INTERVAL).unwrap_or(NonZeroU32::MIN),
    });
}

/// What one rule comes to, alone; an error says whether it ran out of time.
pub(super) fn value_of(engine: &mut Engine, entry: &Entry) -> Result<Value, (bool, Trouble)> {
    match engine.eval_rule_in_module(&entry.module, &entry.rule, false) {
        Ok(data) => {
            let mut at = &data;
            for part in entry.package.iter().chain([&entry.name]) {
                at = &at[&Value::from(part.as_str())];
            }
            Ok(at.clone())
        }
        Err(error) => {
            let late = error.downcast_ref::<regorus::LimitError>().is_some();
            let mut trouble = Trouble::of(&error.to_string());
            if late {
                trouble.message = format!("it took longer than {} s", RULE_TIME_MAX.as_secs());
            }
            trouble.place.get_or_insert_with(|| entry.place.clone());
            Err((late, trouble))
        }
    }
}

/// The findings in what a rule came to: texts, or objects with `msg` and perhaps `resource` and
/// `field`.
fn answers(entry: &Entry, level: PolicyLevel, value: &Value, found: &mut Vec<Verdict>) {
    let mut one = |value: &Value| found.push(answer(entry, level, value));
    match value {
        Value::Undefined | Value::Bool(false) => {}
        Value::Set(items) => items.iter().for_each(one),
        Value::Array(items) => items.iter().for_each(one),
        Value::Object(fields) if fields.contains_key(&Value::from("msg")) => one(value),
        Value::Object(fields) => fields.values().for_each(one),
        other => one(other),
    }
}

fn answer(entry: &Entry, level: PolicyLevel, value: &Value) -> Verdict {
    let text = |value: &Value| value.as_string().ok().map(|text| text.to_string());
    let field = |name: &str| text(&value[&Value::from(name)]);
    let message = match value {
        Value::String(text) => Some(text.to_string()),
        Value::Bool(true) => Some(format!("{} says no", entry.name)),
        Value::Object(_) => field("msg"),
        _ => None,
    };
    let Some(message) = message.filter(|message| !message.trim().is_empty()) else {
        let message = format!("`{}` gave something that has no `msg`", entry.name);
        return broken(entry, &Trouble::at(entry.place.clone(), message));
    };
    let is_object = matches!(value, Value::Object(_));
    let named = if is_object { field("resource") } else { None };
    let resource = named.as_deref().and_then(|name| name.parse::<ResourceId>().ok());
    // A name that is none of ours is still worth reading.
    let message = match named.filter(|_| resource.is_none()) {
        Some(name) => format!("{name}: {message}"),
        None => message,
    };
    let pointer = if is_object { field("field") } else { None };
    Verdict {
        rule: entry.package_name(),
        source: entry.place.clone(),
        level,
        broken: false,
        message: cut(&message),
        resource,
        field: pointer.filter(|pointer| pointer.starts_with('/')),
        place: None,
        exempted: None,
    }
}

fn broken(entry: &Entry, trouble: &Trouble) -> Verdict {
    let place = trouble.place.clone().unwrap_or_else(|| entry.place.clone());
    let message = format!("the rule cannot be evaluated: {}", trouble.message);
    Verdict { rule: entry.package_name(), ..failure(place, message) }
}

fn unreadable(path: &str, trouble: &Trouble) -> Verdict {
    let nowhere = TextPlace { path: path.to_owned(), line: 1, column: 1 };
    let place = trouble.place.clone().unwrap_or(nowhere);
    failure(place, format!("the rule file cannot be used: {}", trouble.message))
}

/// A failure of the rules themselves: always `hard`, and never exempted.
fn failure(place: TextPlace, message: String) -> Verdict {
    Verdict {
        rule: place.path.clone(),
        source: place.clone(),
        level: PolicyLevel::Hard,
        broken: true,
        message: cut(&message),
        resource: None,
        field: None,
        place: Some(place),
        exempted: None,
    }
}

fn exempt(verdict: &mut Verdict, settings: &PolicySettings, now: jiff::Timestamp) {
    let covers = |exemption: &&Exemption| {
        let named = verdict.resource.as_ref().map(ToString::to_string).unwrap_or_default();
        exemption.rule == verdict.rule
            && exemption.until > now
            && exemption.resources.iter().any(|pattern| matches(pattern, &named))
    };
    verdict.exempted = settings.exemptions.iter().find(covers).map(|exemption| Exempted {
        owner: exemption.owner.clone(),
        reason: exemption.reason.clone(),
        until: exemption.until,
    });
}

/// Whether `text` is what `pattern` says, `*` standing for any text, also none.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = pattern.rsplit_once('*').map(|(_, last)| last) else {
        return rest.is_empty();
    };
    let middle: Vec<&str> = parts.collect();
    for part in middle.iter().take(middle.len().saturating_sub(1)) {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// What is wrong with the settings: exemptions that are over, and names that no rule has.
fn settings_troubles(
    rules: &Rules,
    settings: &PolicySettings,
    now: jiff::Timestamp,
) -> Vec<Verdict> {
    let advice = |place: &TextPlace, message: String| Verdict {
        rule: SETTINGS_RULE.to_owned(),
        level: PolicyLevel::Advisory,
        broken: false,
        ..failure(place.clone(), message)
    };
    let mut found = Vec::new();
    for exemption in &settings.exemptions {
        let (rule, owner) = (&exemption.rule, &exemption.owner);
        if exemption.until <= now {
            let message = format!(
                "the exemption of {} from {rule} ended at {} and no longer helps: {owner} may \
                 renew or remove it",
                exemption.resources.join(", "),
                exemption.until,
            );
            found.push(advice(&exemption.place, message));
        }
        if !rules.has_package(rule) {
            let message = format!("there is no rule `{rule}` that could be exempted from");
            found.push(advice(&exemption.place, message));
        }
    }
    for (rule, set) in settings.rules.iter().filter(|(rule, _)| !rules.has_package(rule)) {
        found.push(advice(&set.place, format!("there is no rule `{rule}` to set")));
    }
    found
}
