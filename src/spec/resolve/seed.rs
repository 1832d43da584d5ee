//! cloud-init media of a virtual machine: a primitive of its own, content-addressed.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::cloud_init::{Input, render};
use super::super::kinds::machine::CloudInitSpec;
use super::nic::NicPlan;
use super::{Cx, Pool, image, machine};
use crate::model::resource::{DiskAttachment, Resource, Seed};
use crate::model::{Kind, ResourceId, digest_of};

/// Longest text of the media, bytes: user data beyond it belongs into an image.
pub(crate) const SEED_TEXT_MAX: usize = 512 * 1024;

/// Adds the media to the environment and gives the disk that brings them to the machine.
pub(super) fn resolve(
    cx: &mut Cx<'_>,
    spec: &CloudInitSpec,
    nics: &[NicPlan],
    pool: &Pool,
    disks: &[DiskAttachment],
) -> Option<DiskAttachment> {
    image::keys(cx, "/spec/cloudInit/sshKeys", &spec.ssh_keys);
    let users = image::users(cx, "/spec/cloudInit/users", &spec.users);
    if let Some(hostname) = &spec.hostname {
        hostname_rules(cx, hostname);
    }
    if let Some(Value::String(text)) = &spec.user_data {
        text_rules(cx, spec, text);
    }
    if let Some(Value::String(text)) = &spec.network_config
        && text != "auto"
        && !text.contains('\n')
    {
        cx.err("spec/wrong-value", "/spec/cloudInit/networkConfig", "one word other than `auto`")
            .hint("write `auto`, a mapping, or the whole text");
    }
    if !cx.drafts.is_empty() {
        return None;
    }
    let name = cx.id.name.clone();
    let texts = render(&Input {
        machine: name.as_str(),
        hostname: spec.hostname.as_deref().unwrap_or(name.as_str()),
        ssh_keys: &spec.ssh_keys,
        users: &users,
        user_data: spec.user_data.as_ref(),
        network_config: spec.network_config.as_ref(),
        nics,
    });
    let size = texts.user_data.len() + texts.network_config.as_ref().map_or(0, String::len);
    if size > SEED_TEXT_MAX {
        let message = format!("the texts have {size} bytes; at most {SEED_TEXT_MAX} fit the media");
        cx.err("spec/too-large", "/spec/cloudInit", message).hint("put large files into the image");
        return None;
    }
    let content = digest_of(&(&texts.meta_data, &texts.user_data, &texts.network_config));
    let path = format!("{}/seed-{name}-{}.img", pool.path, content.short());
    let seed = Seed {
        pool: pool.name.clone(),
        path: path.clone(),
        content,
        meta_data: Some(texts.meta_data),
        user_data: Some(texts.user_data),
        network_config: texts.network_config,
    };
    let depends_on = BTreeSet::from([ResourceId::new(Kind::StoragePool, pool.name.clone())]);
    let id = ResourceId::new(Kind::Seed, name);
    cx.add_owned(id, Resource::Seed(seed), depends_on);
    let attached = machine::seed_attachment(path, disks);
    if attached.is_none() {
        cx.err("spec/too-many", "/spec/disks", "no target is left for the cloud-init media");
    }
    attached
}

fn hostname_rules(cx: &mut Cx<'_>, hostname: &str) {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    if hostname.len() > 253 || !hostname.split('.').all(label) {
        let message = format!("`{}` is not a host name", hostname.escape_debug());
        cx.err("spec/wrong-value", "/spec/cloudInit/hostname", message);
    }
}

fn text_rules(cx: &mut Cx<'_>, spec: &CloudInitSpec, text: &str) {
    if !spec.ssh_keys.is_empty() || !spec.users.is_empty() {
        cx.err(
            "spec/conflict",
            "/spec/cloudInit/userData",
            "user data given as a text is taken as it stands: `sshKeys` and `users` would be lost",
        )
        .hint("write the user data as a mapping, or put keys and users into the text");
    }
    // The first line says what the text is: cloudinit.readthedocs.io, "User-data formats".
    let known = ["#", "Content-Type:", "MIME-Version:", "From "];
    if !known.iter().any(|k| text.starts_with(k)) {
        cx.err(
            "spec/wrong-value",
            "/spec/cloudInit/userData",
            "cloud-init ignores user data whose first line does not say what it is",
        )
        .hint("open it with `#cloud-config` or `#!/bin/sh`, or write a mapping");
    }
}
