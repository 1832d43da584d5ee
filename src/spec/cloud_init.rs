//! The texts of cloud-init NoCloud media (`meta-data`, `user-data`, `network-config`), rendered.
//!
//! Pure: the same input gives the same bytes. JSON is written where YAML is read, since every JSON
//! text is YAML and needs no quoting rules of our own. The bytes of the media are made elsewhere.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::resolve::NicPlan;
use crate::model::digest_of;
use crate::model::resource::BuildUser;

/// What the texts are made from.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    pub(crate) machine: &'a str,
    pub(crate) hostname: &'a str,
    pub(crate) ssh_keys: &'a [String],
    pub(crate) users: &'a BTreeMap<String, BuildUser>,
    pub(crate) user_data: Option<&'a Value>,
    pub(crate) network_config: Option<&'a Value>,
    /// In the order they are written: the first one with a router is the way out.
    pub(crate) nics: &'a [NicPlan],
}

/// The three texts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Texts {
    pub(crate) meta_data: String,
    pub(crate) user_data: String,
    pub(crate) network_config: Option<String>,
}

/// Renders the texts.
pub(crate) fn render(input: &Input<'_>) -> Texts {
    let user_data = user_data(input);
    let network_config = network_config(input);
    // cloud-init runs again when the instance id changes, so it follows the content.
    let content = digest_of(&(input.hostname, &user_data, &network_config));
    let meta_data = pretty(&json!({
        "instance-id": format!("{}-{}", input.machine, content.short()),
        "local-hostname": input.hostname,
    }));
    Texts { meta_data, user_data, network_config }
}

fn user_data(input: &Input<'_>) -> String {
    if let Some(Value::String(text)) = input.user_data {
        return text.clone();
    }
    let mut config = Map::new();
    config.insert("hostname".to_owned(), json!(input.hostname));
    if !input.ssh_keys.is_empty() {
        config.insert("ssh_authorized_keys".to_owned(), json!(input.ssh_keys));
    }
    if !input.users.is_empty() {
        let mut users = vec![json!("default")];
        users.extend(input.users.iter().map(|(name, user)| one_user(name, user)));
        config.insert("users".to_owned(), Value::Array(users));
    }
    let mut config = Value::Object(config);
    if let Some(more) = input.user_data {
        json_patch::merge(&mut config, more);
    }
    format!("#cloud-config\n{}", pretty(&config))
}

fn one_user(name: &str, user: &BuildUser) -> Value {
    let mut entry = json!({ "name": name, "shell": "/bin/bash", "lock_passwd": true });
    if !user.groups.is_empty() {
        entry["groups"] = json!(user.groups);
    }
    if !user.ssh_keys.is_empty() {
        entry["ssh_authorized_keys"] = json!(user.ssh_keys);
    }
    if user.sudo {
        entry["sudo"] = json!("ALL=(ALL) NOPASSWD:ALL");
    }
    entry
}

fn network_config(input: &Input<'_>) -> Option<String> {
    match input.network_config {
        Some(Value::String(text)) if text != "auto" => Some(text.clone()),
        Some(mapping @ Value::Object(_)) => Some(pretty(mapping)),
        _ if input.nics.is_empty() => None,
        _ => Some(pretty(&automatic(input.nics))),
    }
}

/// Network configuration version 2: interfaces by their MAC address, static or by DHCP.
fn automatic(nics: &[NicPlan]) -> Value {
    let way_out = nics.iter().position(|n| n.gateway.is_some());
    let mut ethernets = Map::new();
    for (n, plan) in nics.iter().enumerate() {
        let mut entry = json!({ "match": { "macaddress": plan.nic.mac } });
        match plan.address {
            None => entry["dhcp4"] = json!(true),
            Some(address) => {
                entry["addresses"] = json!([address]);
                if let Some(via) = plan.gateway.filter(|_| way_out == Some(n)) {
                    // Written out rather than `default`: cloud-init before 23 knows no such word.
                    let to = if via.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
                    entry["routes"] = json!([{ "to": to, "via": via }]);
                }
                if !plan.nameservers.is_empty() {
                    entry["nameservers"] = json!({ "addresses": plan.nameservers });
                    if let Some(domain) = &plan.domain {
                        entry["nameservers"]["search"] = json!([domain]);
                    }
                }
            }
        }
        ethernets.insert(format!("nic{n}"), entry);
    }
    json!({ "version": 2, "ethernets": ethernets })
}

fn pretty(value: &Value) -> String {
    // `{:#}` of a JSON value is its indented form and cannot fail.
    format!("{value:#}\n")
}
