//! Finishing the tree mmdebstrap made: services, users, the spec's files, and nothing that two
//! machines must not share.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::super::error::ImageError;
use super::root::Root;
use crate::model::resource::{BuildSpec, BuildUser};

/// Mounts the root file system by its label, and grows it when its disk has grown.
const FSTAB: &str = "LABEL=root / ext4 rw,errors=remount-ro,x-systemd.growfs 0 1\n";

/// DHCP on every card that no other file speaks about; cloud-init's own come first by name. A card is of no
/// kind: the links of containers and bridges, which are ethernet as well, would be taken off their bridges.
const NETWORK: &str = "[Match]\nType=ether\nKind=!*\n\n[Network]\nDHCP=yes\n";

/// A guest without a network still starts: the service would wait for ever, and cloud-init for it. One
/// card online is enough, since the others may be for the guest's own use.
const WAIT_ONLINE: &str = "[Service]\nExecStart=\nExecStart=/lib/systemd/systemd-networkd-wait-online --any --timeout=30\n";

/// cloud-init asks for no cloud's metadata service, and uses the network service that is there.
const CLOUD: &str =
    "datasource_list: [ NoCloud, None ]\nsystem_info:\n  network:\n    renderers: [ networkd ]\n";

/// Host keys are made at first boot, since those of the build would be shared by all guests. The
/// empty assignment drops the package's own check, which would fail before there are keys.
const SSH_KEYS: &str = "[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\nExecStartPre=/usr/sbin/sshd -t\n";

/// Commands to run inside the tree, each as an argument vector.
pub(super) fn user_commands(users: &BTreeMap<String, BuildUser>) -> Vec<Vec<String>> {
    let mut commands = vec![argv(&[
        "systemctl",
        "enable",
        "systemd-networkd.service",
        "systemd-resolved.service",
    ])];
    for (name, user) in users {
        let mut command = argv(&["useradd", "--create-home", "--shell", "/bin/bash"]);
        if !user.groups.is_empty() {
            command.extend(["--groups".to_owned(), user.groups.join(",")]);
        }
        command.extend(["--".to_owned(), name.clone()]);
        commands.push(command);
    }
    commands
}

fn argv(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Writes what a spec asks for into the tree at `path`, and returns the tree's size in bytes.
pub(super) fn finish(path: &Path, spec: &BuildSpec) -> Result<u64, ImageError> {
    let root = Root::open(path)?;
    system(&root, spec)?;
    for (name, user) in &spec.users {
        give_keys(&root, name, user)?;
    }
    // Last, so that a spec has the last word.
    for (path, file) in &spec.files {
        root.write(path, file.content.as_bytes(), file.mode, (0, 0))?;
    }
    size(path)
}

fn system(root: &Root, spec: &BuildSpec) -> Result<(), ImageError> {
    let put = |path, text: &str| root.write(path, text.as_bytes(), 0o644, (0, 0));
    put("/etc/fstab", FSTAB)?;
    put("/etc/hostname", "debian\n")?;
    put("/etc/hosts", "127.0.0.1 localhost\n127.0.1.1 debian\n::1 localhost ip6-localhost\n")?;
    put("/etc/systemd/network/80-trueup.network", NETWORK)?;
    let drop_in = "/etc/systemd/system/systemd-networkd-wait-online.service.d/10-trueup.conf";
    put(drop_in, WAIT_ONLINE)?;
    if spec.cloud_init {
        put("/etc/cloud/cloud.cfg.d/90_trueup.cfg", CLOUD)?;
    }
    // Empty, not missing: systemd then makes one at boot and stores it.
    put("/etc/machine-id", "")?;
    root.remove("/var/lib/dbus/machine-id")?;
    let keys = root.list("/etc/ssh")?;
    for key in keys.iter().filter(|name| name.starts_with("ssh_host_")) {
        root.remove(&format!("/etc/ssh/{key}"))?;
    }
    if !keys.is_empty() {
        put("/etc/systemd/system/ssh.service.d/10-host-keys.conf", SSH_KEYS)?;
    }
    // The host's own settings were for the build only.
    root.remove("/etc/apt/apt.conf.d/99mmdebstrap")
}

fn give_keys(root: &Root, name: &str, user: &BuildUser) -> Result<(), ImageError> {
    if user.sudo {
        let rule = format!("{name} ALL=(ALL) NOPASSWD:ALL\n");
        // sudo skips files in this directory whose name has a dot, and user names have none.
        root.write(&format!("/etc/sudoers.d/90-trueup-{name}"), rule.as_bytes(), 0o440, (0, 0))?;
    }
    if user.ssh_keys.is_empty() {
        return Ok(());
    }
    let passwd = root.read("/etc/passwd")?;
    let (owner, home) = account(&passwd, name).ok_or_else(|| ImageError::Input {
        what: format!("user `{name}` was not made in the image"),
    })?;
    let keys = user.ssh_keys.iter().map(|key| format!("{}\n", key.trim())).collect::<String>();
    let dir = format!("{home}/.ssh");
    root.write(&format!("{dir}/authorized_keys"), keys.as_bytes(), 0o600, owner)?;
    root.own_dir(&dir, 0o700, owner)
}

/// User id, group id and home of `name` (`passwd(5)`).
fn account(passwd: &str, name: &str) -> Option<((u32, u32), String)> {
    let fields = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name))?;
    let id = |index: usize| fields.get(index)?.parse().ok();
    Some(((id(2)?, id(3)?), (*fields.get(5)?).to_owned()))
}

/// The one kernel and its initial RAM disk.
pub(super) fn boot_files(path: &Path) -> Result<(PathBuf, PathBuf), ImageError> {
    let names = Root::open(path)?.list("/boot")?;
    let kernels: Vec<_> = names.iter().filter_map(|name| name.strip_prefix("vmlinuz-")).collect();
    match kernels[..] {
        [version] if names.contains(&format!("initrd.img-{version}")) => Ok((
            path.join("boot").join(format!("vmlinuz-{version}")),
            path.join("boot").join(format!("initrd.img-{version}")),
        )),
        _ => Err(ImageError::Input {
            what: format!(
                "exactly one kernel with an initrd is needed, /boot has: {}",
                names.join(", ")
            ),
        }),
    }
}

/// Bytes in the tree, each file rounded up to a block.
fn size(path: &Path) -> Result<u64, ImageError> {
    let mut total = 0;
    let mut left = vec![path.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).map_err(ImageError::file("list", &dir))? {
            let entry = entry.map_err(ImageError::file("list", &dir))?;
            let meta = entry.metadata().map_err(ImageError::file("read", entry.path()))?;
            total += meta.size().next_multiple_of(4096) + 256;
            if meta.is_dir() {
                left.push(entry.path());
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_become_argument_vectors() {
        let user = BuildUser { groups: vec!["adm".into(), "video".into()], ..Default::default() };
        let commands = user_commands(&[("ops".to_owned(), user)].into());
        assert_eq!(
            commands[1].join(" "),
            "useradd --create-home --shell /bin/bash --groups adm,video -- ops"
        );
    }

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd =
            "ops2:x:1001:1002::/home/ops2:/bin/sh\nops:x:1000:1003:,,,:/srv/ops:/bin/bash\n";
        assert_eq!(account(passwd, "ops"), Some(((1000, 1003), "/srv/ops".to_owned())));
        assert_eq!(account(passwd, "op"), None);
    }

    #[test]
    fn two_kernels_are_refused() {
        let tree = tempfile::tempdir().unwrap();
        let boot = tree.path().join("boot");
        std::fs::create_dir(&boot).unwrap();
        for name in ["vmlinuz-1", "initrd.img-1"] {
            std::fs::write(boot.join(name), "").unwrap();
        }
        assert_eq!(boot_files(tree.path()).unwrap().0, boot.join("vmlinuz-1"));
        std::fs::write(boot.join("vmlinuz-2"), "").unwrap();
        assert!(boot_files(tree.path()).unwrap_err().to_string().contains("vmlinuz-2"));
    }
}
