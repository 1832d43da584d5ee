//! The texts cloud-init reads, from plain facts about a machine.
//!
//! They are written as JSON, which is YAML as well: no quoting rule can be got wrong and the order of
//! keys is fixed. Nothing here checks what a user writes in their own user data.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use crate::model::Digest;

/// One network card, as the guest shall set it up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicConfig {
    /// Its MAC address, by which the guest finds it: `52:54:00:12:34:56`.
    pub mac: String,
    /// How it gets its address.
    pub address: Address,
    /// Name servers, in order.
    pub dns: Vec<IpAddr>,
    /// Maximum transmission unit in bytes; `None`: the guest's default.
    pub mtu: Option<u32>,
}

/// How a card gets its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// From DHCP, version 4.
    Dhcp4,
    /// Fixed.
    Static {
        /// Addresses with their prefix length.
        addresses: Vec<IpNet>,
        /// Default gateways, at most one of each family.
        gateways: Vec<IpAddr>,
    },
}

/// A user cloud-init makes at first boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedUser {
    /// Login name.
    pub name: String,
    /// SSH public keys that may log in.
    pub ssh_keys: Vec<String>,
    /// Supplementary groups.
    pub groups: Vec<String>,
    /// May become root without a password.
    pub sudo: bool,
}

/// What `user-data` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserData {
    /// The user's own text, unchanged.
    Raw(String),
    /// A `#cloud-config` made from these parts.
    Config {
        /// Keys for the image's default user.
        ssh_keys: Vec<String>,
        /// Users beside the default user.
        users: Vec<SeedUser>,
        /// Any further cloud-config settings; they win over what is rendered.
        extra: Map<String, Value>,
    },
}

/// The instance id for these texts: cloud-init runs its first-boot work again when it changes.
pub fn instance_id(user_data: &str, network_config: Option<&str>) -> String {
    let mut bytes = Vec::new();
    for text in [Some(user_data), network_config] {
        // With its length in front, no two different pairs of texts give the same bytes.
        bytes.extend(text.map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
        bytes.extend(text.unwrap_or_default().as_bytes());
    }
    format!("trueup-{}", Digest::of(bytes).short())
}

/// The text of `meta-data`.
pub fn render_meta_data(hostname: &str, instance_id: &str) -> String {
    text(&json!({ "instance-id": instance_id, "local-hostname": hostname }))
}

/// The text of `user-data`.
pub fn render_user_data(data: &UserData) -> String {
    let (ssh_keys, users, extra) = match data {
        UserData::Raw(text) => return text.clone(),
        UserData::Config { ssh_keys, users, extra } => (ssh_keys, users, extra),
    };
    let mut config = Map::new();
    if !ssh_keys.is_empty() {
        config.insert("ssh_authorized_keys".into(), json!(ssh_keys));
    }
    if !users.is_empty() {
        // `default` keeps the image's own user, which a list of users would otherwise replace.
        let all = std::iter::once(json!("default")).chain(users.iter().map(user));
        config.insert("users".into(), Value::Array(all.collect()));
    }
    for (key, value) in extra {
        config.insert(key.clone(), value.clone());
    }
    format!("#cloud-config\n{}", text(&Value::Object(config)))
}

fn user(user: &SeedUser) -> Value {
    let mut entry = json!({
        "name": user.name,
        "shell": "/bin/bash",
        "lock_passwd": true,
    });
    if !user.ssh_keys.is_empty() {
        entry["ssh_authorized_keys"] = json!(user.ssh_keys);
    }
    if !user.groups.is_empty() {
        entry["groups"] = json!(user.groups);
    }
    if user.sudo {
        entry["sudo"] = json!("ALL=(ALL) NOPASSWD:ALL");
    }
    entry
}

/// The text of `network-config`, version 2 (netplan's form), for `nics` in their order.
pub fn render_network_config(nics: &[NicConfig]) -> String {
    let mut ethernets = Map::new();
    for (index, nic) in nics.iter().enumerate() {
        ethernets.insert(format!("nic{index}"), ethernet(nic));
    }
    text(&json!({ "version": 2, "ethernets": ethernets }))
}

fn ethernet(nic: &NicConfig) -> Value {
    let mut entry = json!({ "match": { "macaddress": nic.mac.to_ascii_lowercase() } });
    match &nic.address {
        Address::Dhcp4 => entry["dhcp4"] = json!(true),
        Address::Static { addresses, gateways } => {
            entry["addresses"] = json!(addresses);
            // `gateway4` is deprecated; `to: default` is not known to cloud-init's ENI renderer
            // before 23, so the default routes are spelled out.
            let routes: Vec<_> = gateways
                .iter()
                .map(|via| json!({ "to": if via.is_ipv4() { "0.0.0.0/0" } else { "::/0" }, "via": via }))
                .collect();
            if !routes.is_empty() {
                entry["routes"] = Value::Array(routes);
            }
        }
    }
    if !nic.dns.is_empty() {
        entry["nameservers"] = json!({ "addresses": nic.dns });
    }
    if let Some(mtu) = nic.mtu {
        entry["mtu"] = json!(mtu);
    }
    entry
}

/// One line of JSON for people's eyes: pretty, with a last line feed.
fn text(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(given: String, want: Expect) {
        // Whatever we render must be YAML as well, since that is what cloud-init reads.
        serde_saphyr::from_str::<Value>(&given).expect("valid YAML");
        want.assert_eq(&given);
    }

    #[test]
    fn meta_data() {
        check(
            render_meta_data("web", "trueup-1"),
            expect![[r#"
            {
              "instance-id": "trueup-1",
              "local-hostname": "web"
            }
        "#]],
        );
    }

    #[test]
    fn user_data_keeps_the_default_user_and_lets_extra_win() {
        let data = UserData::Config {
            ssh_keys: vec!["ssh-ed25519 AAAA a@b".into()],
            users: vec![SeedUser {
                name: "ops".into(),
                ssh_keys: vec!["ssh-ed25519 BBBB \"q\" c@d".into()],
                groups: vec!["adm".into()],
                sudo: true,
            }],
            extra: Map::from_iter([("locale".to_owned(), json!(false))]),
        };
        check(
            render_user_data(&data),
            expect![[r##"
            #cloud-config
            {
              "ssh_authorized_keys": [
                "ssh-ed25519 AAAA a@b"
              ],
              "users": [
                "default",
                {
                  "name": "ops",
                  "shell": "/bin/bash",
                  "lock_passwd": true,
                  "ssh_authorized_keys": [
                    "ssh-ed25519 BBBB \"q\" c@d"
                  ],
                  "groups": [
                    "adm"
                  ],
                  "sudo": "ALL=(ALL) NOPASSWD:ALL"
                }
              ],
              "locale": false
            }
        "##]],
        );
        assert_eq!(render_user_data(&UserData::Raw("#!/bin/sh\n".into())), "#!/bin/sh\n");
    }

    #[test]
    fn network_config() {
        let nics = [
            NicConfig {
                mac: "52:54:00:AA:00:01".into(),
                address: Address::Dhcp4,
                dns: vec![],
                mtu: Some(1400),
            },
            NicConfig {
                mac: "52:54:00:aa:00:02".into(),
                address: Address::Static {
                    addresses: vec!["10.0.0.5/24".parse().unwrap(), "fd00::5/64".parse().unwrap()],
                    gateways: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
                },
                dns: vec!["10.0.0.1".parse().unwrap()],
                mtu: None,
            },
        ];
        check(
            render_network_config(&nics),
            expect![[r#"
            {
              "version": 2,
              "ethernets": {
                "nic0": {
                  "match": {
                    "macaddress": "52:54:00:aa:00:01"
                  },
                  "dhcp4": true,
                  "mtu": 1400
                },
                "nic1": {
                  "match": {
                    "macaddress": "52:54:00:aa:00:02"
                  },
                  "addresses": [
                    "10.0.0.5/24",
                    "fd00::5/64"
                  ],
                  "routes": [
                    {
                      "to": "0.0.0.0/0",
                      "via": "10.0.0.1"
                    },
                    {
                      "to": "::/0",
                      "via": "fd00::1"
                    }
                  ],
                  "nameservers": {
                    "addresses": [
                      "10.0.0.1"
                    ]
                  }
                }
              }
            }
        "#]],
        );
    }

    #[test]
    fn instance_id_changes_with_either_text_and_is_not_fooled_by_moving_bytes() {
        let ids = [
            instance_id("a", None),
            instance_id("a", Some("")),
            instance_id("a", Some("b")),
            instance_id("ab", Some("")),
        ];
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len(), "{ids:?}");
    }
}
